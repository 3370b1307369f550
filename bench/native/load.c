/* The load: thousands of WebSocket clients and the publisher, in one epoll loop.
 *
 * It is in C so that it is not the bottleneck and hardly adds to latencies, on the core that it
 * shares with nats-server. It reads one command per line and answers each with a line of JSON:
 *
 *   connect PORT WINDOW FILE       a connection for each line of FILE, WINDOW handshakes at once
 *   bus PORT                       publish to JetStream from now on, instead of with client 0
 *   publish TOTAL RATE BATCH IN_FLIGHT RECEIVERS FILE
 *                                  the publications of FILE in turn, BATCH at a time: RATE a
 *                                  second, or with RATE 0 as many as IN_FLIGHT allows
 *   talk TOTAL IN_FLIGHT FILE      every client sends the message of FILE
 *   stall NUMBER                   that client stops reading
 *   reset                          end all connections
 *   status                         answer now, though the last command is not done
 *   quit
 *
 * A line of a publications file is SUBJECT, a tab and the payload.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum { EVENTS = 1024, MOST_LINES = 65536, SECOND = 1000000000 };

static int epoll, timer;
static char *lines[MOST_LINES]; /* of the file that was read last */
static struct publication publications[MOST_LINES];
static long line_count;

static enum { IDLE, CONNECTING, PUBLISHING, TALKING } doing;
static int port;
static long next, total, rate, batch, in_flight, receivers, window;
static int64_t began, cpu_began, latest;

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(1);
}

static int64_t read_clock(clockid_t clock) {
    struct timespec moment;
    clock_gettime(clock, &moment);
    return (int64_t)moment.tv_sec * SECOND + moment.tv_nsec;
}

int64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

/* Watch for readable, with ``writable_too`` 1 also for writable; with -1 for nothing. */
void watch(int fd, uint32_t owner, int writable_too) {
    uint32_t events = writable_too < 0 ? 0 : EPOLLIN | (writable_too ? EPOLLOUT : 0u);
    struct epoll_event event = {.events = events, .data.u32 = owner};
    if (writable_too < 0) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event);
    } else if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) && errno == ENOENT) {
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll: %s", strerror(errno));
    }
}

void stamp(char *digits, int64_t moment) {
    for (int at = STAMP_DIGITS - 1; at >= 0; at--, moment /= 10) digits[at] = (char)('0' + moment % 10);
}

/* The digits of the stamp, or NULL. It is looked for where the last one was found first. */
char *find_stamp(char *text, size_t size) {
    static size_t last;
    if (size > last + STAMP_BYTES && memcmp(text + last, STAMP, STAMP_BYTES) == 0)
        return text + last + STAMP_BYTES;
    char *found = memmem(text, size, STAMP, STAMP_BYTES);
    if (found == NULL) return NULL;
    last = (size_t)(found - text);
    return found + STAMP_BYTES;
}

static void read_lines(const char *name) {
    FILE *file = fopen(name, "r");
    size_t room = 0;
    ssize_t size;
    if (file == NULL) fail("%s: %s", name, strerror(errno));
    while (line_count > 0) free(lines[--line_count]);
    while (line_count < MOST_LINES) {
        lines[line_count] = NULL;
        room = 0;
        size = getline(&lines[line_count], &room, file);
        if (size < 0) break;
        if (lines[line_count][size - 1] == '\n') lines[line_count][size - 1] = 0;
        line_count++;
    }
    fclose(file);
    if (line_count == 0) fail("%s is empty", name);
}

static void read_publications(const char *name) {
    read_lines(name);
    for (long i = 0; i < line_count; i++) {
        char *tab = strchr(lines[i], '\t');
        if (tab == NULL) fail("no tab in %s", lines[i]);
        *tab = 0;
        size_t size = strlen(tab + 1);
        publications[i] = (struct publication){lines[i], tab + 1, find_stamp(tab + 1, size), size};
        if (publications[i].stamp == NULL) fail("no stamp in %s", tab + 1);
    }
}

static void open_more(void) {
    while (next < total && count.opened - count.welcomed < window)
        clients_open(port, lines[next++]);
}

static void wake_at(int64_t moment) {
    struct itimerspec at = {.it_value = {.tv_sec = moment / SECOND, .tv_nsec = moment % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void publish_batch(void) {
    for (long i = 0; i < batch && next < total; i++, next++) {
        struct publication *publication = &publications[next % line_count];
        if (bus_is_connected()) {
            bus_publish(publication);
        } else {
            stamp(publication->stamp, now());
            clients_send(0, publication->payload, publication->size);
        }
    }
    if (bus_is_connected()) bus_flush();
}

/* How many publications have reached all their receivers, or the store if there are none. */
static long arrived(void) { return receivers ? count.delivered / receivers : bus_stored; }

static void publish_more(void) {
    if (rate == 0) {
        while (next < total && next + batch - arrived() <= in_flight) publish_batch();
        return;
    }
    while (next < total) {
        int64_t due = began + next * SECOND / rate, late = now() - due;
        if (late < 0) {
            wake_at(due);
            return;
        }
        if (late > latest) latest = late;
        publish_batch();
    }
}

static int is_done(void) {
    switch (doing) {
    case CONNECTING: return count.welcomed == total;
    case PUBLISHING:
        return next == total && count.delivered >= total * receivers &&
               (!bus_is_connected() || bus_stored == total);
    case TALKING: return count.delivered >= total && count.answered >= total;
    default: return 0;
    }
}

static void answer(void) {
    double seconds = (double)(now() - began) / SECOND;
    double own = (double)(read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu_began) / SECOND;
    printf("{\"seconds\": %.6f, \"delivered\": %ld, \"answered\": %ld, \"stored\": %ld, "
           "\"reads\": %ld, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, "
           "\"late_ms\": %.4f, \"busy_percent\": %.1f}\n",
           seconds, count.delivered, count.answered, bus_stored, count.reads, samples_ms(0.5),
           samples_ms(0.99), samples_ms(1), (double)latest / 1e6,
           100 * own / seconds);
    fflush(stdout);
    doing = IDLE;
}

static void begin(int what) {
    doing = what;
    began = now();
    cpu_began = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    next = latest = 0;
    bus_stored = count.delivered = count.answered = count.refused = count.reads = 0;
    samples_forget();
}

static void take_command(char *line) {
    char name[4096];
    unsigned number;
    if (sscanf(line, "connect %d %ld %4095s", &port, &window, name) == 3) {
        read_lines(name);
        begin(CONNECTING);
        total = line_count; /* without those that are open already */
        count.opened = count.welcomed = 0;
    } else if (sscanf(line, "bus %d", &port) == 1) {
        bus_connect(port);
        begin(IDLE);
        answer();
    } else if (sscanf(line, "publish %ld %ld %ld %ld %ld %4095s", &total, &rate, &batch,
                      &in_flight, &receivers, name) == 6) {
        read_publications(name);
        begin(PUBLISHING);
    } else if (sscanf(line, "talk %ld %ld %4095s", &total, &in_flight, name) == 3) {
        read_publications(name);
        begin(TALKING);
        clients_talk(&publications[0], total, in_flight);
    } else if (sscanf(line, "stall %u", &number) == 1) {
        clients_stall(number);
        begin(IDLE);
        answer();
    } else if (strcmp(line, "reset\n") == 0) {
        clients_reset();
        begin(IDLE);
        answer();
    } else if (strcmp(line, "status\n") == 0) {
        answer();
    } else if (strcmp(line, "quit\n") == 0) {
        exit(0);
    } else {
        fail("not a command: %s", line);
    }
}

static void go_on(void) {
    if (doing == CONNECTING) open_more();
    if (doing == PUBLISHING) publish_more();
    if (doing != IDLE && count.refused) fail("the server says %s", first_refusal);
    if (doing != IDLE && count.closed) fail("%ld connections were closed", count.closed);
    if (is_done()) answer();
}

int main(void) {
    static struct epoll_event ready[EVENTS];
    struct rlimit files;
    char line[8192];
    uint64_t ticks;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    setvbuf(stdin, NULL, _IONBF, 0); /* epoll does not see what stdio has read ahead */
    watch(STDIN_FILENO, FROM_STDIN, 0);
    watch(timer, FROM_TIMER, 0);
    for (;;) {
        int events = epoll_wait(epoll, ready, EVENTS, -1);
        for (int i = 0; i < events; i++) {
            uint32_t owner = ready[i].data.u32;
            if (owner == FROM_STDIN) {
                if (fgets(line, sizeof line, stdin) == NULL) return 0;
                take_command(line);
            } else if (owner == FROM_BUS) {
                bus_ready();
            } else if (owner == FROM_TIMER) {
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) fail("timer");
            } else {
                clients_ready(owner);
            }
        }
        go_on();
    }
}
