/* What the golden tests that spoil an operation share: the device's own table beside the spoilt one, and device memory
 * that the host reads, changes and lends in the middle of a stream. One device at a time. */
#ifndef KF_TESTS_GOLDEN_SPOIL_H
#define KF_TESTS_GOLDEN_SPOIL_H

#include "golden.h"

#include "device/bf16.h"

static struct kf_device_ops right, spoilt;

enum { MAX_LENT = 256 };
static void *lent[MAX_LENT]; /* device memory that spoilt operations made, until take_back */
static size_t n_lent;

/* No graphs on a spoilt device: a graph would repeat what the host did once. */
static inline void spoil_open(kf_device *d) {
    right = spoilt = *d->ops;
    spoilt.capture_begin = NULL;
    spoilt.capture_end = NULL;
    spoilt.graph_launch = NULL;
    spoilt.graph_free = NULL;
}

static inline void wait_for(kf_stream *s) {
    kf_event *e = NULL;
    assert_ok(kf_event_new(s->device, &e));
    assert_ok(kf_event_record(s, e));
    assert_ok(kf_event_wait(s->device, e));
    kf_event_free(s->device, e);
}

/* A copy on the host, the caller's to free. */
static inline void *fetch(kf_stream *s, const void *device, size_t bytes) {
    void *host = malloc(bytes + 1);
    assert_non_null(host);
    kf_copy_out(s, host, device, bytes);
    wait_for(s);
    return host;
}

static inline void store(kf_stream *s, void *device, const void *host, size_t bytes) {
    kf_copy_in(s, device, host, bytes);
    wait_for(s);
}

/* A copy on the device, until take_back. */
static inline void *lend(kf_stream *s, const void *host, size_t bytes) {
    assert_true(n_lent < MAX_LENT);
    assert_ok(kf_device_alloc(s->device, bytes, "lent", &lent[n_lent]));
    store(s, lent[n_lent], host, bytes);
    return lent[n_lent++];
}

static inline void take_back(kf_device *d) {
    while (n_lent > 0)
        kf_device_free(d, lent[--n_lent]);
}

/* n activations as f32 on the host, the caller's to free; and back. */
static inline float *fetch_act(kf_stream *s, const void *x, size_t n) {
    float *v = fetch(s, x, n * kf_dtype_bytes(s->device->act));
    if (s->device->act == KF_F32) return v;
    const uint16_t *halves = (const uint16_t *)v;
    float *wide = malloc(n * sizeof *wide + 1);
    assert_non_null(wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = kf_bf16_to_f32(halves[i]);
    free(v);
    return wide;
}

static inline void store_act(kf_stream *s, void *x, const float *v, size_t n) {
    if (s->device->act == KF_F32) {
        store(s, x, v, n * sizeof *v);
        return;
    }
    uint16_t *halves = malloc(n * sizeof *halves + 1);
    assert_non_null(halves);
    for (size_t i = 0; i < n; i++)
        halves[i] = kf_bf16_from_f32(v[i]);
    store(s, x, halves, n * sizeof *halves);
    free(halves);
}

/* n elements into x, an activation pointer of the device. */
static inline char *act_at(const kf_stream *s, const void *x, size_t n) {
    return (char *)(uintptr_t)x + n * kf_dtype_bytes(s->device->act);
}

#endif
