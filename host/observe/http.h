/* The HTTP thread: /livez, /readyz, /startupz and /metrics, for Kubernetes and Prometheus. Nothing else is served.
 *
 * A probe answers 200 "ok" or 503 with one line that says what is wrong. Callbacks run on the HTTP thread and must not
 * wait: they read counters.
 */
#ifndef KF_OBSERVE_HTTP_H
#define KF_OBSERVE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct kf_http kf_http;

typedef enum kf_probe {
    KF_PROBE_LIVE,    /* the device moved lately: else restart me */
    KF_PROBE_READY,   /* connected, models loaded, not draining: else send me nothing */
    KF_PROBE_STARTUP, /* loading is over */
} kf_probe;

typedef struct kf_http_opts {
    const char *address; /* "127.0.0.1:8080", "[::]:8080", ":8080" (all addresses); port 0 takes a free one */
    bool (*probe)(void *ctx, kf_probe which, char *why, size_t cap); /* why: written when it answers false */
    void (*before_metrics)(void *ctx);                               /* sets the gauges; may be NULL */
    void *ctx;
} kf_http_opts;

/* Can the address be read? KF_ERR_INVALID: the text says what is wanted. */
kf_status kf_http_address_check(const char *address);

/* Binds, logs "http_listening" with the address, starts the thread. KF_ERR_INVALID: the address cannot be read;
 * KF_ERR_IO: it cannot be bound (the text says which and why). */
kf_status kf_http_start(const kf_http_opts *o, kf_http **out);
void kf_http_stop(kf_http *h);
unsigned kf_http_port(const kf_http *h);

#endif
