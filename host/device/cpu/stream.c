/* Streams, events and copies of the CPU device. An operation has run when its call returns, so an event is a note of
 * the stream's status and waiting is reading it. */
#include "device/cpu/cpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

kf_status kf_cpu_stream_open(kf_device *d, kf_stream **out) {
    kf_cpu_stream *s = calloc(1, sizeof *s);
    if (!s) return KF_FAIL(KF_ERR_NO_MEMORY, "stream: %zu bytes asked for, the system has none", sizeof *s);
    s->base = (kf_stream){.ops = d->ops, .device = d};
    *out = &s->base;
    return KF_OK;
}

void kf_cpu_stream_close(kf_stream *s) {
    free(s);
}

void kf_cpu_fail(kf_stream *stream, kf_status status, const char *fmt, ...) {
    kf_cpu_stream *s = (kf_cpu_stream *)stream;
    if (s->status != KF_OK) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->text, sizeof s->text, fmt, ap);
    va_end(ap);
    s->status = status;
}

kf_status kf_cpu_event_new(kf_device *d, kf_event **out) {
    (void)d;
    kf_event *e = calloc(1, sizeof *e);
    if (!e) return KF_FAIL(KF_ERR_NO_MEMORY, "event: %zu bytes asked for, the system has none", sizeof *e);
    *out = e;
    return KF_OK;
}

void kf_cpu_event_free(kf_event *e) {
    free(e);
}

kf_status kf_cpu_event_record(kf_stream *stream, kf_event *e) {
    const kf_cpu_stream *s = (const kf_cpu_stream *)stream;
    e->status = s->status;
    memcpy(e->text, s->text, sizeof e->text);
    return KF_OK;
}

kf_status kf_cpu_event_wait(kf_event *e) {
    if (e->status != KF_OK) return KF_FAIL(e->status, "%s", e->text);
    return KF_OK;
}

bool kf_cpu_event_done(kf_event *e) {
    (void)e;
    return true;
}

static void copy(kf_stream *s, void *dst, const void *src, size_t bytes) {
    if (kf_cpu_runs(s) && bytes) memcpy(dst, src, bytes);
}

void kf_cpu_copy_in(kf_stream *s, void *dst_device, const void *src_host, size_t bytes) {
    copy(s, dst_device, src_host, bytes);
}

void kf_cpu_copy_out(kf_stream *s, void *dst_host, const void *src_device, size_t bytes) {
    copy(s, dst_host, src_device, bytes);
}

void kf_cpu_fill_zero(kf_stream *s, void *dst, size_t bytes) {
    if (kf_cpu_runs(s) && bytes) memset(dst, 0, bytes);
}
