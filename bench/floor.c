/* The floor: one epoll loop that answers an upgrade with ready bytes and, for every frame
 * that any connection sends, does send() of one ready frame to all. It parses but lengths.
 *
 *   cc -O2 -o floor bench/floor.c && ./floor PORT FRAME_BYTES
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536, CONNECTED = 1, UPGRADED = 2 };
static char state[MOST];

int main(int argc, char **argv) {
    int port = atoi(argv[1]), size = argc > 2 ? atoi(argv[2]) : 100, on = 1, highest = 0;
    static char frame[4096], in[65536];
    static const char upgrade[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: x\r\n\r\n\x81\x12{\"type\":\"welcome\"}";
    int head = size < 126 ? 2 : 4;
    frame[0] = (char)0x81;
    if (head == 2) frame[1] = (char)size;
    else { frame[1] = 126; frame[2] = (char)(size >> 8); frame[3] = (char)size; }
    memset(frame + head, 'x', (size_t)size);

    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
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
            ssize_t got = recv(fd, in, sizeof in, 0);
            if (got <= 0) {
                if (got < 0 && errno == EAGAIN) continue;
                state[fd] = 0;
                close(fd);
            } else if (state[fd] == CONNECTED) {
                state[fd] = UPGRADED;
                send(fd, upgrade, sizeof upgrade - 1, MSG_NOSIGNAL);
            } else {
                for (ssize_t at = 0; at < got;) { /* several frames may have come at once */
                    int length = in[at + 1] & 127;
                    at += length < 126 ? 6 + length : 8 + ((in[at + 2] & 255) << 8 | (in[at + 3] & 255));
                    for (int other = 0; other <= highest; other++)
                        if (state[other] == UPGRADED)
                            send(other, frame, (size_t)(head + size), MSG_NOSIGNAL);
                }
            }
        }
    }
}
