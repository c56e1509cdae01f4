/* What the HTTP thread says about a worker: its probes, and the gauges that are read when metrics are asked for. */
#ifndef KF_KEFUD_HEALTH_H
#define KF_KEFUD_HEALTH_H

#include <stdatomic.h>

#include "observe/http.h"
#include "serve/serve.h"
#include "transport/nats.h"

/* The worker's parts as they come into being; NULL before. Both outlive the HTTP thread. */
typedef struct kf_health {
    kf_server *_Atomic server;
    kf_transport *_Atomic transport;
} kf_health;

/* For kf_http_opts: ctx is a kf_health. The HTTP thread. */
bool kf_health_probe(void *ctx, kf_probe which, char *why, size_t cap);
void kf_health_gauges(void *ctx);

#endif
