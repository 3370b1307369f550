/* The floor: one epoll loop that answers an upgrade with ready bytes, and sends each text that
 * comes from a connection to all connections, with one send() for up to 16 frames of one read.
 * To a POST it answers with ready bytes, and sends a ready frame for each stamp in it.
 * It parses only lengths, checks nothing, and relies on reads that end with a frame or a request.
 *
 *   floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536, READ_BYTES = 65536, JOINED = 16, CONNECTED = 1, UPGRADED = 2 };

static const char upgrade[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: x\r\n\r\n\x81\x12{\"type\":\"welcome\"}";

static const char posted[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"offset\":1}";
static const char said[] = "\x81\x2d{\"type\":\"publication\",\"data\":{\"text\":\"at=0\"}}";

static int highest;
static char state[MOST];
static unsigned char in[READ_BYTES + 16], out[READ_BYTES];

static void send_to_all(size_t size) {
    for (int other = 0; other <= highest; other++)
        if (state[other] == UPGRADED) send(other, out, size, MSG_NOSIGNAL);
}

/* Send the frames to all, without their masks, which are always 0 here. */
static void pass_on(size_t got) {
    size_t size = 0;
    int frames = 0;
    for (size_t at = 0; at < got;) {
        size_t length = in[at + 1] & 127, head = 2;
        if (length == 126) {
            length = (size_t)(in[at + 2] << 8 | in[at + 3]);
            head = 4;
        }
        memcpy(out + size, in + at, head);
        out[size + 1] &= 127;
        memcpy(out + size + head, in + at + head + 4, length);
        at += head + 4 + length;
        size += head + length;
        if (++frames % JOINED == 0) {
            send_to_all(size);
            size = 0;
        }
    }
    if (size > 0) send_to_all(size);
}

static void answer_post(int fd, size_t got) {
    size_t size = 0;
    int frames = 0;
    in[got] = 0;
    for (char *at = (char *)in; (at = strstr(at, "at=")) != NULL; at += 3) {
        memcpy(out + size, said, sizeof said - 1);
        size += sizeof said - 1;
        if (++frames % JOINED == 0) {
            send_to_all(size);
            size = 0;
        }
    }
    if (size > 0) send_to_all(size);
    send(fd, posted, sizeof posted - 1, MSG_NOSIGNAL);
}

int main(int argc, char **argv) {
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : "0")),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 2048)) {
        perror("listen");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[1024];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, ready, 1024, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0 || fd >= MOST) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event.data.fd = fd;
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
                state[fd] = CONNECTED;
                if (fd > highest) highest = fd;
                continue;
            }
            ssize_t got = recv(fd, in, READ_BYTES, 0);
            if (got <= 0) {
                if (got < 0 && errno == EAGAIN) continue;
                state[fd] = 0;
                close(fd);
            } else if (in[0] == 'P') {
                answer_post(fd, (size_t)got);
            } else if (state[fd] == CONNECTED) {
                state[fd] = UPGRADED;
                send(fd, upgrade, sizeof upgrade - 1, MSG_NOSIGNAL);
            } else {
                pass_on((size_t)got);
            }
        }
    }
}
