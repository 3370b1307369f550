/* The clients of the load, over WebSockets or streams: they connect, answer pings and count what comes.
 *
 * A client is opened by a line: the path of a WebSocket, or `GET PATH` or `POST PATH` of a stream.
 * Behind a tab stands what it says first, with SEPARATOR for each line break; a WebSocket is welcomed
 * when as many texts have come as that has lines, a stream with its first one.
 *
 * Texts are not parsed. One that has a stamp is a delivery, whose latency is noted; in others an
 * `ack` or an `error` is looked for.
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

#include "load.h"

enum { MOST = 65536, READ_BYTES = 1 << 20, CONNECTED = 1, UPGRADED, WELCOMED, STALLED, CLOSED };
enum { SEPARATOR = 0x1f };
enum { CLOSE = 8, PING = 9, PONG = 10, TEXT = 1 };

struct client {
    int fd, state, is_stream;
    long awaited;      /* texts until it is welcomed */
    char *hello;       /* what a WebSocket says first */
    size_t kept; /* bytes of a frame that has not come whole */
    unsigned char *rest;
    long sent, answered, delivered; /* of its own messages, during `talk` */
};

static struct client clients[MOST];
static uint32_t used;
static unsigned char in[READ_BYTES];
static struct {
    struct publication *template;
    long left, in_flight, sent;
} talk;
struct counters count;
char first_refusal[256];

uint32_t clients_count(void) { return used; }

static char *unescaped(const char *text) {
    char *copy = strdup(text);
    if (copy == NULL) fail("no memory");
    for (char *at = copy; *at; at++)
        if (*at == SEPARATOR) *at = '\n';
    return copy;
}

void clients_open(int port, const char *line) {
    if (used == MOST) fail("no more than %d connections", MOST);
    struct client *client = &clients[used];
    int on = 1, size, is_stream = line[0] != '/';
    const char *tab = strchr(line, '\t');
    int length = (int)(tab ? tab - line : (long)strlen(line));
    char *hello = tab ? unescaped(tab + 1) : NULL;
    long awaited = 1;
    static char request[1 << 16];
    if (is_stream) {
        const char *body = hello ? hello : "";
        size = snprintf(request, sizeof request,
                        "%.*s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %zu\r\n\r\n%s",
                        length, line, port, strlen(body), body);
        free(hello);
        hello = NULL;
    } else {
        size = snprintf(request, sizeof request,
                        "GET %.*s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", length, line, port);
        for (char *at = hello; at && *at; at++) awaited += *at == '\n';
    }
    if (size < 0 || (size_t)size >= sizeof request) fail("a request that is too long");
    struct sockaddr_in there = {.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *client = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                              .state = CONNECTED,
                              .is_stream = is_stream,
                              .awaited = awaited,
                              .hello = hello};
    if (client->fd < 0) fail("no socket: %s", strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&there, sizeof there))
        fail("no connection: %s", strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (send(client->fd, request, (size_t)size, MSG_NOSIGNAL) != size) fail("request not sent");
    watch(client->fd, used++, 0);
    count.opened++;
}

/* End all connections with a TCP reset, which leaves no port in TIME_WAIT. */
void clients_reset(void) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    for (uint32_t i = 0; i < used; i++) {
        if (clients[i].state != CLOSED) {
            setsockopt(clients[i].fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
            close(clients[i].fd);
        }
        free(clients[i].rest);
        free(clients[i].hello);
    }
    used = 0;
    count = (struct counters){0};
}

/* Let a client stop reading. */
void clients_stall(uint32_t number) {
    if (number >= used) fail("there is no client %u", number);
    clients[number].state = STALLED;
    watch(clients[number].fd, number, -1);
}

static void send_frame(struct client *client, int opcode, const void *payload, size_t size) {
    static unsigned char frame[1 << 17];
    size_t head = size < 126 ? 6 : 8;
    if (size + head > sizeof frame) fail("a message of %zu bytes is too long", size);
    memset(frame, 0, head); /* a mask of 0 leaves the payload as it is */
    frame[0] = (unsigned char)(0x80 | opcode);
    frame[1] = (unsigned char)(0x80 | (size < 126 ? size : 126));
    if (head == 8) {
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
    }
    memcpy(frame + head, payload, size);
    if (send(client->fd, frame, size + head, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)(size + head))
        if (client->state != CLOSED && errno != EPIPE && errno != ECONNRESET)
            fail("the server does not read: %s", strerror(errno));
}

void clients_send(uint32_t number, const char *payload, size_t size) {
    send_frame(&clients[number], TEXT, payload, size);
}

static void talk_on(struct client *client) {
    while (talk.left > 0 && client->sent - client->answered < talk.in_flight &&
           client->sent - client->delivered < talk.in_flight) {
        struct publication *template = talk.template;
        char text[8192];
        int size = snprintf(text, sizeof text, template->payload, talk.sent);
        char *digits = find_stamp(text, (size_t)size);
        if (digits == NULL) fail("the template has no stamp");
        stamp(digits, now());
        send_frame(client, TEXT, text, (size_t)size);
        client->sent++;
        talk.sent++;
        talk.left--;
    }
}

/* Let every client send messages, ``in_flight`` at a time. A message is done when it is answered
 * and delivered back. The template is a format string for the message's number. */
void clients_talk(struct publication *template, long total, long in_flight) {
    talk.template = template;
    talk.left = total;
    talk.in_flight = in_flight;
    for (uint32_t i = 0; i < used; i++) {
        clients[i].sent = clients[i].answered = clients[i].delivered = 0;
        talk_on(&clients[i]);
    }
}

static void close_client(struct client *client) {
    client->state = CLOSED;
    count.closed++;
    close(client->fd);
}

static void refuse(const unsigned char *payload, size_t size) {
    if (count.refused++ == 0)
        snprintf(first_refusal, sizeof first_refusal, "%.*s", (int)size, (const char *)payload);
}

static void take_text(struct client *client, unsigned char *payload, size_t size, int64_t moment) {
    char *digits = find_stamp((char *)payload, size);
    if (size == 2 && memcmp(payload, "{}", 2) == 0 && !client->is_stream) {
        send_frame(client, TEXT, "{}", 2); /* the SDKs' ping and pong */
    } else if (digits != NULL) {
        samples_add(moment - strtoll(digits, NULL, 10));
        count.delivered++;
        client->delivered++;
    } else if (client->state == UPGRADED) {
        if (--client->awaited > 0) return;
        client->state = WELCOMED;
        count.welcomed++;
    } else if (memmem(payload, size, "\"type\":\"ack\"", 12) != NULL) {
        count.answered++;
        client->answered++;
    } else if (memmem(payload, size, "\"type\":\"error\"", 14) != NULL) {
        refuse(payload, size);
    }
}

/* Handle the frame at ``at``; returns its size, or 0 if it has not come whole. */
static size_t take_frame(struct client *client, unsigned char *at, size_t size, int64_t moment) {
    if (size < 2) return 0;
    size_t length = at[1], head = 2;
    if (length == 126) head = 4;
    if (length == 127) head = 10;
    if (size < head) return 0;
    if (head > 2) {
        length = 0;
        for (size_t i = 2; i < head; i++) length = length << 8 | at[i];
    }
    if (size < head + length) return 0;
    unsigned char *payload = at + head, next = payload[length];
    int opcode = at[0] & 15;
    payload[length] = 0; /* so that strtoll stops here */
    if (opcode == CLOSE) {
        if (length >= 2) refuse(payload + 2, length - 2);
        close_client(client);
    } else if (opcode == PING) {
        send_frame(client, PONG, payload, length);
    } else {
        take_text(client, payload, length, moment);
    }
    payload[length] = next;
    return head + length;
}

static size_t take_upgrade(struct client *client, unsigned char *at, size_t size) {
    unsigned char *end = memmem(at, size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    if (memcmp(at, client->is_stream ? "HTTP/1.1 200" : "HTTP/1.1 101", 12) != 0)
        fail("no upgrade: %.*s", (int)(end - at), at);
    client->state = UPGRADED;
    if (client->hello) {
        send_frame(client, TEXT, client->hello, strlen(client->hello));
        free(client->hello);
        client->hello = NULL;
    }
    return (size_t)(end - at) + 4;
}

/* A client's socket is readable. */
void clients_ready(uint32_t number) {
    struct client *client = &clients[number];
    if (number >= used || client->state >= STALLED) return; /* an old event, from before a reset */
    if (client->kept) memcpy(in, client->rest, client->kept);
    ssize_t got = recv(client->fd, in + client->kept, READ_BYTES - 1 - client->kept, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        close_client(client);
        return;
    }
    int64_t moment = now();
    size_t size = client->kept + (size_t)got, at = 0, taken;
    count.reads++;
    if (client->state == CONNECTED) at = take_upgrade(client, in, size);
    if (client->is_stream && client->state != CONNECTED) {
        unsigned char *text = memchr(in + at, '{', size - at);
        if (text) take_text(client, text, (size_t)(in + size - text), moment);
        at = size;
    } else if (client->state != CONNECTED)
        while (client->state != CLOSED &&
               (taken = take_frame(client, in + at, size - at, moment)) > 0)
            at += taken;
    client->kept = size - at;
    if (client->kept) {
        client->rest = realloc(client->rest, client->kept);
        if (client->rest == NULL) fail("no memory");
        memcpy(client->rest, in + at, client->kept);
    }
    if (talk.left > 0 && client->state == WELCOMED) talk_on(client);
}
