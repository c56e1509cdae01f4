/* The worker on NATS: requests in, one final reply each out, service discovery, cancellation.
 *
 *     KF_TRY(kf_transport_start(&opts, server, &t));    // connects, or keeps trying; starts the I/O thread
 *     … poll(kf_transport_end_fd(t)) …                  // readable when it has ended by itself
 *     kf_transport_drain(t);                            // SIGTERM: unsubscribe, finish what is in hand, flush
 *     kf_transport_stop(t);                             // joins the thread, closes the connection
 *
 * Subjects: kefu.request and kefu.v1.request.<tenant>.<lane>.<bucket> in queue group "kefu"; kefu.cancel, heard by
 * every worker, with the id and tenant of a request as JSON ({"id": "…", "tenant": "…"}) or as a protobuf Request:
 * whoever has it ends it with CANCELLED; it is not answered; one without an id that can be read is counted and dropped.
 * Discovery: discovery.h.
 *
 * A message without a reply subject cannot be answered: it is counted and dropped. When all jobs are in use, a request
 * gets RESOURCE_EXHAUSTED with retry_after_ms. A reply that would be over the broker's max_payload becomes a short
 * refusal that says so. While the connection is down, replies wait in their jobs; afterwards they are sent.
 *
 * Refusals carry the headers Nats-Service-Error-Code (kefu.proto's number) and Nats-Service-Error; JSON replies
 * Content-Type; a request's traceparent is passed on in every reply to it.
 */
#ifndef KF_TRANSPORT_NATS_H
#define KF_TRANSPORT_NATS_H

#include "serve/serve.h"
#include "transport/connect.h"
#include "wire/wire.h"

typedef struct kf_transport kf_transport;

typedef struct kf_transport_opts {
    kf_nats_opts nats;
    kf_wire_limits limits;
    size_t job_arena_bytes; /* for the one spare job that refusals are written with: the server's own size */
} kf_transport_opts;

typedef enum kf_transport_end {
    KF_TRANSPORT_RUNNING,
    KF_TRANSPORT_DRAINED, /* all that was in hand has been answered and sent */
    KF_TRANSPORT_CLOSED,  /* the broker has refused us for good: credentials, permissions, certificate */
} kf_transport_end;

/* Starts even where no broker answers: it keeps trying, with a log line each time. The server outlives the transport;
 * its jobs and outbox are the I/O thread's from now on.
 * KF_ERR_INVALID, KF_ERR_NOT_FOUND: an option; KF_ERR_IO; KF_ERR_NO_MEMORY. */
kf_status kf_transport_start(const kf_transport_opts *o, kf_server *server, kf_transport **out);

void kf_transport_drain(kf_transport *t); /* returns at once; kf_transport_end_fd tells when it is over. Any thread */
/* Frees t, and nats.c with it: a process has one transport. Jobs that have not been answered are left with the server.
 */
void kf_transport_stop(kf_transport *t);

/* Any thread. */
bool kf_transport_connected(const kf_transport *t);
bool kf_transport_draining(const kf_transport *t);
kf_transport_end kf_transport_ended(const kf_transport *t);
int kf_transport_end_fd(const kf_transport *t);

#endif
