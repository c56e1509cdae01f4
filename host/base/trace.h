/* The trace hook: what happened when, to whoever listens. Without a sink (the default) a record costs one load.
 *
 *     int64_t begin = kf_trace_begin();                         // 0: nobody listens
 *     …
 *     kf_trace_pass("encoder layer", begin, "layer", layer_idx);
 *
 * A record has names that are constants of ours, numbers and times; of a request its redacted id, never its text.
 */
#ifndef KF_BASE_TRACE_H
#define KF_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum kf_trace_track {
    KF_TRACE_REQUESTS, /* its items are what the request's time went on, one after the other from begin_ns on */
    KF_TRACE_RUNS,     /* of the device, by the plan; one after the other */
    KF_TRACE_PASSES,   /* parts of a forward pass; on a device that does not wait: their enqueueing */
    KF_TRACE_TRACKS
} kf_trace_track;

enum { KF_TRACE_ITEMS = 8, KF_TRACE_LABEL_BYTES = 64 };

typedef struct kf_trace_item {
    const char *name; /* NULL ends the list */
    int64_t value;    /* of a request's item: when it ended, ns */
} kf_trace_item;

typedef struct kf_trace_record {
    kf_trace_track track;
    const char *name;
    uint64_t id;                      /* of a request: no other one of this process has it */
    int64_t code;                     /* of a request: what its client was told, kf_code */
    char label[KF_TRACE_LABEL_BYTES]; /* of a request: its id as the client knows it, UTF-8; "" */
    int64_t begin_ns, end_ns;         /* kf_clock_now_ns */
    kf_trace_item items[KF_TRACE_ITEMS];
} kf_trace_record;

/* Called from any thread, on the device thread between passes: it neither waits nor allocates. */
typedef struct kf_trace_sink {
    void (*take)(struct kf_trace_sink *sink, const kf_trace_record *r);
} kf_trace_sink;

/* Where records go; NULL: nowhere. While no thread records: before they start, after they have ended. */
void kf_trace_to(kf_trace_sink *sink);

bool kf_trace_on(void);
void kf_trace(const kf_trace_record *r);

/* Now, or 0 where nobody listens. */
int64_t kf_trace_begin(void);

/* A part of a pass, from begin_ns until now; nothing where begin_ns is 0. */
void kf_trace_pass(const char *name, int64_t begin_ns, const char *item, int64_t value);

#endif
