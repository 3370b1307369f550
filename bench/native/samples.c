/* Keeps all latencies, in tenths of a microsecond, and sorts them when a quantile is read. */
#include <stdlib.h>

#include "load.h"

enum { UNIT_NANOSECONDS = 100 };

static uint32_t *samples;
static size_t kept, room;
static int sorted;

void samples_forget(void) {
    kept = 0;
    sorted = 0;
}

void samples_add(int64_t nanoseconds) {
    if (kept == room) {
        room = room ? 2 * room : 1 << 20;
        samples = realloc(samples, room * sizeof *samples);
        if (samples == NULL) fail("no memory for the latencies");
    }
    samples[kept++] = (uint32_t)(nanoseconds / UNIT_NANOSECONDS);
    sorted = 0;
}

long samples_count(void) { return (long)kept; }

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

double samples_ms(double quantile) {
    if (kept == 0) return 0;
    if (!sorted) qsort(samples, kept, sizeof *samples, compare);
    sorted = 1;
    size_t at = (size_t)((double)kept * quantile);
    return samples[at < kept ? at : kept - 1] * (UNIT_NANOSECONDS / 1e6);
}
