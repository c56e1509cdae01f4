/* The answers of discovery.h, as JSON. */
#include "transport/discovery.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

const char kf_service_name[] = "kefu";
const char kf_service_queue[] = "kefu";

static const struct {
    const char *subject, *type;
} verbs[] = {
    [KF_DISCOVERY_PING] = {"$SRV.PING", "io.nats.micro.v1.ping_response"},
    [KF_DISCOVERY_INFO] = {"$SRV.INFO", "io.nats.micro.v1.info_response"},
    [KF_DISCOVERY_STATS] = {"$SRV.STATS", "io.nats.micro.v1.stats_response"},
};

kf_status kf_discovery_init(kf_discovery *d) {
    unsigned char random[(KF_SERVICE_ID_BYTES - 1) / 2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return KF_FAIL(KF_ERR_IO, "the system gives no random bytes for the service's id");
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(d->id + 2 * i, 3, "%02x", random[i]);
    kf_clock_rfc3339(kf_clock_wall_ns(), d->started);
    return KF_OK;
}

kf_discovery_verb kf_discovery_subject(const kf_discovery *d, unsigned idx, char *out, size_t cap) {
    kf_discovery_verb verb = (kf_discovery_verb)(idx / 3);
    switch (idx % 3) {
    case 0: snprintf(out, cap, "%s", verbs[verb].subject); break;
    case 1: snprintf(out, cap, "%s.%s", verbs[verb].subject, kf_service_name); break;
    default: snprintf(out, cap, "%s.%s.%s", verbs[verb].subject, kf_service_name, d->id); break;
    }
    return verb;
}

/* What every answer has. Metadata's values are strings: the schema wants it so. */
static json_t *common(const kf_discovery *d, kf_discovery_verb verb) {
    char max_tokens[16], max_text_tokens[24];
    snprintf(max_tokens, sizeof max_tokens, "%u", d->max_tokens);
    snprintf(max_text_tokens, sizeof max_text_tokens, "%zu", d->max_text_tokens);
    return json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s}}", "type", verbs[verb].type, "name", kf_service_name, "id",
                     d->id, "version", KF_VERSION, "metadata", "model", d->model, "max_tokens", max_tokens,
                     "max_text_tokens", max_text_tokens);
}

static json_t *endpoint_info(const kf_endpoint *e) {
    return json_pack("{s:s, s:s, s:s, s:{}}", "name", e->name, "subject", e->subject, "queue_group", kf_service_queue,
                     "metadata");
}

static json_t *endpoint_stats(const kf_discovery *d, const kf_endpoint *e, const kf_server_state *s) {
    json_int_t average = e->num_requests ? e->processing_ns / (int64_t)e->num_requests : 0;
    double kv_usage = s->kv_blocks ? (double)s->kv_blocks_used / (double)s->kv_blocks : 0;
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:{s:f, s:I, s:I, s:f, s:I, s:s}}", "name", e->name,
                     "subject", e->subject, "queue_group", kf_service_queue, "num_requests",
                     (json_int_t)e->num_requests, "num_errors", (json_int_t)e->num_errors, "last_error", e->last_error,
                     "processing_time", (json_int_t)e->processing_ns, "average_processing_time", average, "data",
                     "oldest_request_age_ms", (double)s->oldest_age_ns / 1e6, "running", (json_int_t)s->n_running,
                     "waiting", (json_int_t)s->n_waiting, "kv_cache_usage", kv_usage, "retry_after_ms",
                     (json_int_t)s->retry_after_ms, "model", d->model);
}

kf_status kf_discovery_answer(const kf_discovery *d, kf_discovery_verb verb, const kf_server_state *state, char *out,
                              size_t *n) {
    json_t *root = common(d, verb), *endpoints = json_array();
    int failed = !root || !endpoints;
    for (size_t i = 0; i < KF_N_ENDPOINTS && !failed && verb != KF_DISCOVERY_PING; i++)
        failed =
            json_array_append_new(endpoints, verb == KF_DISCOVERY_INFO ? endpoint_info(&d->endpoints[i])
                                                                       : endpoint_stats(d, &d->endpoints[i], state));
    if (!failed && verb != KF_DISCOVERY_PING) failed = json_object_set(root, "endpoints", endpoints);
    if (!failed && verb == KF_DISCOVERY_INFO)
        failed =
            json_object_set_new(root, "description", json_string("understands customers' messages and answers them"));
    if (!failed && verb == KF_DISCOVERY_STATS) failed = json_object_set_new(root, "started", json_string(d->started));
    size_t bytes = failed ? 0 : json_dumpb(root, out, KF_DISCOVERY_BYTES_MAX, JSON_COMPACT);
    json_decref(endpoints);
    json_decref(root);
    if (failed || !bytes) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for an answer to service discovery");
    if (bytes > KF_DISCOVERY_BYTES_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "an answer to service discovery has %zu bytes, at most %d are kept for it",
                       bytes, KF_DISCOVERY_BYTES_MAX);
    *n = bytes;
    return KF_OK;
}
