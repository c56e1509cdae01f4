/* Service discovery as in NATS ADR-32: what `nats service list|info|ping|stats` asks, and our answers.
 *
 * Nine plain subscriptions (never queue ones: every worker answers): $SRV.PING, $SRV.INFO, $SRV.STATS, each also with
 * .<name> and .<name>.<id>. A listing stops 300 ms after the last answer, so these are answered on the I/O thread, from
 * counters. Times are nanoseconds from a message's receipt to its final reply.
 */
#ifndef KF_TRANSPORT_DISCOVERY_H
#define KF_TRANSPORT_DISCOVERY_H

#include "serve/serve.h"

enum {
    KF_N_DISCOVERY_SUBJECTS = 9,
    KF_N_ENDPOINTS = 2,
    KF_SERVICE_ID_BYTES = 33,
    KF_LAST_ERROR_BYTES = 32,
    KF_DISCOVERY_BYTES_MAX = 8192 /* of an answer */
};

typedef enum kf_discovery_verb { KF_DISCOVERY_PING, KF_DISCOVERY_INFO, KF_DISCOVERY_STATS } kf_discovery_verb;

/* A subject that takes requests, and what came of them. */
typedef struct kf_endpoint {
    const char *name, *subject;
    uint64_t num_requests, num_errors;    /* answered: final replies sent, and refusals among them */
    int64_t processing_ns;                /* of all num_requests */
    char last_error[KF_LAST_ERROR_BYTES]; /* "8: RESOURCE_EXHAUSTED"; "" before the first; no word of a message */
} kf_endpoint;

typedef struct kf_discovery {
    char id[KF_SERVICE_ID_BYTES];
    char started[25]; /* RFC 3339 */
    const char *model;
    uint32_t max_tokens; /* of generate */
    size_t max_text_tokens;
    kf_endpoint endpoints[KF_N_ENDPOINTS];
} kf_discovery;

extern const char kf_service_name[];  /* "kefu" */
extern const char kf_service_queue[]; /* the queue group, "kefu" */

/* Draws the id and notes the time; the other fields are the caller's. KF_ERR_IO: the system gives no random bytes. */
kf_status kf_discovery_init(kf_discovery *d);

/* Subject idx of the nine, and what it asks, into out[cap]. */
kf_discovery_verb kf_discovery_subject(const kf_discovery *d, unsigned idx, char *out, size_t cap);

/* Writes the JSON answer, *n bytes, into out[KF_DISCOVERY_BYTES_MAX]. KF_ERR_NO_MEMORY: jansson's own;
 * KF_ERR_TOO_LARGE. */
kf_status kf_discovery_answer(const kf_discovery *d, kf_discovery_verb verb, const kf_server_state *state, char *out,
                              size_t *n);

#endif
