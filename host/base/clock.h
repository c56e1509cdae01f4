/* Time. Everything that decides takes `now_ns` as an argument, so that tests and the simulator own the clock; only
 * programs and thread loops call these. */
#ifndef KF_BASE_CLOCK_H
#define KF_BASE_CLOCK_H

#include <stdint.h>

/* Monotonic nanoseconds since an arbitrary start; never 0. Any thread. */
int64_t kf_clock_now_ns(void);

/* Nanoseconds since 1970, UTC. For logs and for `started` in service discovery; not for durations. */
int64_t kf_clock_wall_ns(void);

/* Writes wall_ns as RFC 3339 with milliseconds, "2026-11-24T08:00:00.000Z", into out[25]. */
void kf_clock_rfc3339(int64_t wall_ns, char out[25]);

#endif
