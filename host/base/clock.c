/* clock_gettime behind clock.h. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t kf_clock_now_ns(void) {
    return read_clock(CLOCK_MONOTONIC) + 1;
}

int64_t kf_clock_wall_ns(void) {
    return read_clock(CLOCK_REALTIME);
}

void kf_clock_rfc3339(int64_t wall_ns, char out[25]) {
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char day[32];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 25, "%.19s.%03uZ", day, (unsigned)(wall_ns / 1000000 % 1000) % 1000u);
}
