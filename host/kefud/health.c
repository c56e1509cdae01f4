/* The probes of health.h. Alive: the device moved lately (an idle one runs a probe every two seconds). Ready: models
 * loaded, connected, not draining. Started: loading is over. */
#include "kefud/health.h"

#include <stdio.h>

#include "base/clock.h"
#include "observe/metrics.h"

static const int64_t DEVICE_AGE_NS_MAX = 20LL * 1000000000LL;

static bool say(char *why, size_t cap, const char *text) {
    snprintf(why, cap, "%s\n", text);
    return false;
}

/* Loading takes as long as it takes: that is the startup probe's business. */
static bool alive(kf_server *server, char *why, size_t cap) {
    kf_server_state s;
    if (!server) return true;
    kf_server_state_get(server, &s);
    int64_t age_ns = kf_clock_now_ns() - s.device_moved_ns;
    if (s.device_failed) return say(why, cap, "the device has failed");
    if (age_ns <= DEVICE_AGE_NS_MAX) return true;
    snprintf(why, cap, "the device has finished nothing for %lld ms\n", (long long)(age_ns / 1000000));
    return false;
}

static bool ready(kf_server *server, kf_transport *transport, char *why, size_t cap) {
    kf_server_state s;
    if (!server) return say(why, cap, "loading models");
    kf_server_state_get(server, &s);
    if (s.device_failed) return say(why, cap, "the device has failed");
    if (s.draining) return say(why, cap, "draining");
    if (!s.ready) return say(why, cap, "warming up");
    if (!transport || !kf_transport_connected(transport)) return say(why, cap, "not connected to NATS");
    return kf_transport_draining(transport) ? say(why, cap, "draining") : true;
}

bool kf_health_probe(void *ctx, kf_probe which, char *why, size_t cap) {
    kf_health *h = ctx;
    kf_server *server = atomic_load(&h->server);
    switch (which) {
    case KF_PROBE_LIVE: return alive(server, why, cap);
    case KF_PROBE_READY: return ready(server, atomic_load(&h->transport), why, cap);
    case KF_PROBE_STARTUP: return server ? true : say(why, cap, "loading models");
    }
    return false;
}

void kf_health_gauges(void *ctx) {
    kf_health *h = ctx;
    kf_server *server = atomic_load(&h->server);
    kf_server_state s;
    if (!server) return;
    kf_server_state_get(server, &s);
    kf_metric_set(KF_M_RUNNING, (double)s.n_running);
    kf_metric_set(KF_M_WAITING, (double)s.n_waiting);
    kf_metric_set(KF_M_KV_USAGE, s.kv_blocks ? (double)s.kv_blocks_used / (double)s.kv_blocks : 0);
    kf_metric_set(KF_M_OLDEST_AGE, (double)s.oldest_age_ns / 1e9);
    kf_metric_set(KF_M_DEVICE_AGE, (double)(kf_clock_now_ns() - s.device_moved_ns) / 1e9);
    kf_metric_set(KF_M_RETRY_AFTER, (double)s.retry_after_ms / 1e3);
}
