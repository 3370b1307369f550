/* Publishing to JetStream: pipelined, each message with an id and a reply subject; counts the acks. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { OUT_BYTES = 8 << 20, IN_BYTES = 1 << 20 };

static const char hello[] =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"
    "SUB _INBOX.load.* 1\r\n";

static int bus = -1;
static char out[OUT_BYTES], in[IN_BYTES + 1];
static size_t unsent, kept;
long bus_stored; /* publications that JetStream has acknowledged */

int bus_is_connected(void) { return bus >= 0; }

void bus_connect(int port) {
    int on = 1;
    struct sockaddr_in there = {.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bus = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(bus, (struct sockaddr *)&there, sizeof there)) fail("no bus on port %d", port);
    setsockopt(bus, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    memcpy(out, hello, sizeof hello - 1);
    unsent = sizeof hello - 1;
    watch(bus, FROM_BUS, 0);
    bus_flush();
}

void bus_flush(void) {
    size_t sent = 0;
    while (sent < unsent) {
        ssize_t size = send(bus, out + sent, unsent - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN) break;
        if (size < 0) fail("the connection to the bus is lost: %s", strerror(errno));
        sent += (size_t)size;
    }
    memmove(out, out + sent, unsent - sent);
    unsent -= sent;
    watch(bus, FROM_BUS, unsent > 0);
}

/* Queue one publication; bus_flush() sends what is queued. */
void bus_publish(struct publication *publication) {
    static int64_t run;
    static long number;
    char id[64], headers[128];
    if (run == 0) run = now(); /* so that each run has its own ids */
    int id_size = snprintf(id, sizeof id, "%lld-%ld", (long long)run, number++);
    int head = snprintf(headers, sizeof headers, "NATS/1.0\r\nNats-Msg-Id: %.*s\r\n\r\n", id_size, id);
    if (unsent + publication->size + 1024 > OUT_BYTES) fail("the bus does not read");
    stamp(publication->stamp, now());
    unsent += (size_t)sprintf(out + unsent, "HPUB %s _INBOX.load.a %d %zu\r\n%s",
                              publication->subject, head, (size_t)head + publication->size, headers);
    memcpy(out + unsent, publication->payload, publication->size);
    memcpy(out + unsent + publication->size, "\r\n", 2);
    unsent += publication->size + 2;
}

/* Handle the first command of the server; returns its size, or 0 if it has not come whole. */
static size_t take(char *text, size_t size) {
    char *end = memmem(text, size, "\r\n", 2);
    if (end == NULL) return 0;
    size_t line = (size_t)(end - text) + 2;
    *end = 0;
    if (strncmp(text, "MSG ", 4) == 0 || strncmp(text, "HMSG ", 5) == 0) {
        size_t body = (size_t)atol(strrchr(text, ' ') + 1);
        if (size < line + body + 2) {
            *end = '\r';
            return 0;
        }
        if (text[0] == 'H' || memmem(text + line, body, "\"error\"", 7) != NULL)
            fail("the bus refused a publication: %.*s", (int)body, text + line);
        bus_stored++;
        return line + body + 2;
    }
    if (strcmp(text, "PING") == 0) {
        memcpy(out + unsent, "PONG\r\n", 6);
        unsent += 6;
        bus_flush();
    } else if (strncmp(text, "-ERR", 4) == 0) {
        fail("the bus says %s", text);
    }
    return line;
}

/* The socket is readable or writable. */
void bus_ready(void) {
    if (unsent) bus_flush();
    ssize_t got = recv(bus, in + kept, IN_BYTES - kept, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("the bus closed the connection");
    size_t size = kept + (size_t)got, at = 0, taken;
    in[size] = 0;
    while (at < size && (taken = take(in + at, size - at)) > 0) at += taken;
    kept = size - at;
    memmove(in, in + at, kept);
}
