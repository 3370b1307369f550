/* A flood: COUNT connections without a token send as much of one KIND as the server reads. One
 * that is closed connects again at once. Runs until it is killed.
 *
 *   flood PORT COUNT KIND
 *
 * It has a low priority, so that the processes that measure are not held up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 4096, EVENTS = 256, BLOCK_BYTES = 1 << 16, REPEATS = 2000 };
enum { CONNECTING, UPGRADING, OPEN };

/* What the peers of one kind send: ``first`` once, then ``again`` over and over. */
struct kind {
    const char *name, *first, *again;
    size_t first_bytes, again_bytes;
    int is_websocket, repeats, bytewise, leaves;
};

#define LONG_TEXT "\x81\xfe\xff\xff\0\0\0\0"
#define REQUEST "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
#define HEAD "GET /ws/chat HTTP/1.1\r\nHost: x\r\nX: "

static const struct kind kinds[] = {
    {"fragments", "\x01\x80\0\0\0\0", "\0\x80\0\0\0\0", 6, 6, 1, REPEATS, 0, 0},
    {"pings", "", "\x89\x80\0\0\0\0", 0, 6, 1, REPEATS, 0, 0},
    {"pongs", "", "\x8a\x80\0\0\0\0", 0, 6, 1, REPEATS, 0, 0},
    {"closes", "", "\x88\x80\0\0\0\0", 0, 6, 1, REPEATS, 0, 0},
    {"messages", "", "\x81\x81\0\0\0\0x", 0, 7, 1, REPEATS, 0, 0},
    {"bytes", LONG_TEXT, "x", sizeof LONG_TEXT - 1, 1, 1, 1, 1, 0},
    {"heads", HEAD, "x", sizeof HEAD - 1, 1, 0, 1, 1, 0},
    {"handshakes", "", "", 0, 0, 1, 0, 0, 1},
    {"requests", "", REQUEST, 0, sizeof REQUEST - 1, 0, 1000, 0, 0},
};

static struct peer {
    int fd, state;
    size_t sent; /* bytes, of ``first`` and ``again`` */
} peers[MOST];

static const struct kind *kind;
static char block[BLOCK_BYTES];
static size_t block_bytes;
static struct sockaddr_in there = {.sin_family = AF_INET};
static int epoll;

static void fail(const char *what) {
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void connect_peer(struct peer *peer) {
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(peer - peers)};
    *peer = (struct peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (peer->fd < 0) fail("no socket");
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(peer->fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)
        fail("no connection");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, peer->fd, &event)) fail("epoll");
}

/* Connect again, after a TCP reset, which leaves no port in TIME_WAIT. */
static void reconnect(struct peer *peer) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(peer->fd);
    connect_peer(peer);
}

/* Send some of the bytes; returns how many, or -1 if the connection is lost. */
static ssize_t send_some(struct peer *peer, const char *bytes, size_t size) {
    ssize_t taken = send(peer->fd, bytes, kind->bytewise ? 1 : size, MSG_NOSIGNAL);
    return taken < 0 && errno == EAGAIN ? 0 : taken;
}

static void watch(struct peer *peer, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)(peer - peers)};
    epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &event);
}

static int send_upgrade(struct peer *peer) {
    static const char request[] =
        "GET /ws/chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    peer->state = UPGRADING;
    watch(peer, EPOLLIN);
    return send(peer->fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0;
}

/* The socket is writable. Returns whether the connection lives, as on_readable() does. */
static int on_writable(struct peer *peer) {
    if (peer->state == CONNECTING && kind->is_websocket) return send_upgrade(peer);
    ssize_t taken;
    if (peer->sent < kind->first_bytes) {
        taken = send_some(peer, kind->first + peer->sent, kind->first_bytes - peer->sent);
    } else {
        size_t at = (peer->sent - kind->first_bytes) % block_bytes;
        taken = send_some(peer, block + at, block_bytes - at);
    }
    if (taken > 0) peer->sent += (size_t)taken;
    return taken >= 0;
}

static int on_readable(struct peer *peer) {
    static char in[BLOCK_BYTES];
    ssize_t got = recv(peer->fd, in, sizeof in, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    if (peer->state != UPGRADING) return 1;
    peer->state = OPEN;
    if (!kind->leaves) watch(peer, EPOLLIN | EPOLLOUT);
    return !kind->leaves;
}

int main(int argc, char **argv) {
    static struct epoll_event ready[EVENTS];
    struct rlimit files;
    long count = argc == 4 ? atol(argv[2]) : 0;
    for (size_t i = 0; argc == 4 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, argv[3]) == 0) kind = &kinds[i];
    if (kind == NULL || count < 1 || count > MOST) fail("flood PORT COUNT KIND");
    for (int i = 0; i < kind->repeats; i++, block_bytes += kind->again_bytes)
        memcpy(block + block_bytes, kind->again, kind->again_bytes);
    there.sin_port = htons((unsigned short)atoi(argv[1]));
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sched_param ordinary = {0};
    sched_setscheduler(0, SCHED_OTHER, &ordinary);
    errno = 0;
    if (nice(10) == -1 && errno) fail("nice");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < count; i++) connect_peer(&peers[i]);
    for (;;) {
        int events = epoll_wait(epoll, ready, EVENTS, -1);
        for (int i = 0; i < events; i++) {
            struct peer *peer = &peers[ready[i].data.u32];
            uint32_t what = ready[i].events;
            int is_alive = !(what & (EPOLLERR | EPOLLHUP));
            if (is_alive && what & EPOLLIN) is_alive = on_readable(peer);
            if (is_alive && what & EPOLLOUT && peer->state != UPGRADING) is_alive = on_writable(peer);
            if (!is_alive) reconnect(peer);
        }
    }
}
