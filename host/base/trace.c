/* The sink of trace.h. */
#include "base/trace.h"

#include <stdatomic.h>
#include <stddef.h>

#include "base/clock.h"

static _Atomic(kf_trace_sink *) sink;

void kf_trace_to(kf_trace_sink *s) {
    atomic_store(&sink, s);
}

bool kf_trace_on(void) {
    return atomic_load_explicit(&sink, memory_order_acquire) != NULL;
}

void kf_trace(const kf_trace_record *r) {
    kf_trace_sink *s = atomic_load_explicit(&sink, memory_order_acquire);
    if (s) s->take(s, r);
}

int64_t kf_trace_begin(void) {
    return kf_trace_on() ? kf_clock_now_ns() : 0;
}

void kf_trace_pass(const char *name, int64_t begin_ns, const char *item, int64_t value) {
    if (!begin_ns) return;
    kf_trace(&(kf_trace_record){.track = KF_TRACE_PASSES,
                                .name = name,
                                .begin_ns = begin_ns,
                                .end_ns = kf_clock_now_ns(),
                                .items = {{item, value}}});
}
