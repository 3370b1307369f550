/* The parts of the load generator; each file says at its top what it does. */
#ifndef LOAD_H
#define LOAD_H
#include <stddef.h>
#include <stdint.h>

/* Every publication has its time of sending somewhere in its text, in nanoseconds of the monotonic
 * clock: "at=" and STAMP_DIGITS digits, which every server passes on. */
#define STAMP "at="
enum { STAMP_BYTES = 3, STAMP_DIGITS = 19 };

/* The owner of an epoll event: one of these, or a client by its number. */
enum { FROM_STDIN = UINT32_MAX, FROM_BUS = UINT32_MAX - 1, FROM_TIMER = UINT32_MAX - 2 };

struct publication {
    char *subject, *payload, *stamp;
    size_t size;
};

/* load.c */
_Noreturn void fail(const char *format, ...);
int64_t now(void);
void watch(int fd, uint32_t owner, int writable_too);
void stamp(char *digits, int64_t moment);
char *find_stamp(char *text, size_t size);

/* clients.c: WebSocket connections */
struct counters {
    long opened, welcomed, closed, delivered, answered, refused, reads;
};
extern struct counters count;
extern char first_refusal[256];
void clients_open(int port, const char *line);
void clients_reset(void);
void clients_stall(uint32_t number);
void clients_ready(uint32_t number);
void clients_send(uint32_t number, const char *payload, size_t size);
void clients_talk(struct publication *template, long total, long in_flight);
uint32_t clients_count(void);

/* bus.c: publishing to JetStream */
extern long bus_stored;
void bus_connect(int port);
int bus_is_connected(void);
void bus_publish(struct publication *publication);
void bus_flush(void);
void bus_ready(void);

/* samples.c: latencies */
void samples_forget(void);
void samples_add(int64_t nanoseconds);
long samples_count(void);
double samples_ms(double quantile);
#endif
