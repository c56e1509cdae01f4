/* The worker without its network: jobs go in, responses come out. Transport (I/O thread) calls this; so do the tests,
 * with no broker at all.
 *
 *     KF_TRY(kf_server_start(&opts, &server));            // loads the models, measures the device, starts its thread
 *     kf_job *job = kf_job_get(server);                   // NULL: every job is in use: refuse, with retry_after
 *     ... kf_wire_decode(..., &job->arena, &job->request) ...
 *     kf_server_submit(server, job);                      // from now on the job is the server's; it always comes back
 *     ...                                                 // kf_server_outbox_fd is readable:
 *     while ((job = kf_server_outbox_pop(server)) != NULL) {
 *         while (kf_job_next_response(job, &response)) publish(job, &response);   // parts, then exactly one final
 *         if (response.final) kf_job_put(server, job);
 *     }
 */
#ifndef KF_SERVE_SERVE_H
#define KF_SERVE_SERVE_H

#include "device/device.h"
#include "serve/job.h"

typedef struct kf_server kf_server;

typedef struct kf_server_opts {
    kf_device *device;      /* opened by the caller, used by the server's device thread alone until kf_server_stop */
    const char *models_dir; /* DIR/encoder and DIR/decoder */
    bool understand_only;   /* without the decoder: nothing is written */
    size_t n_jobs;          /* in the worker at once, waiting ones included: the bound of every queue */
    size_t job_arena_bytes; /* for one job's message and everything found in it */
    size_t max_running;     /* sequences decoded at once */
    size_t kv_cache_bytes;  /* 0: what max_running full sequences need */
    double max_gap_ms;      /* the longest gap between two tokens of a running sequence */
    bool no_graphs;         /* decoder steps are enqueued operation by operation also where the device has graphs */
} kf_server_opts;

/* Loads everything, allocates everything, logs the ledger and the measured rate, starts the device thread.
 * KF_ERR_NOT_FOUND / CORRUPT / UNSUPPORTED: a model; KF_ERR_NO_MEMORY says which option to lower. */
kf_status kf_server_start(const kf_server_opts *o, kf_server **out);

/* Admits nothing more (submit refuses with UNAVAILABLE), finishes what is in hand; returns at once. */
void kf_server_drain(kf_server *s);
bool kf_server_idle(kf_server *s); /* nothing in hand */

/* Stops the device thread and waits for it. Every job in hand gets a final UNAVAILABLE: pop the outbox once more
 * afterwards, put the jobs, then free. What is submitted after stop comes out refused. */
void kf_server_stop(kf_server *s);

/* Frees the models and everything else (stops first where that was not done). The device stays the caller's. */
void kf_server_free(kf_server *s);

/* ---- jobs (I/O thread) ---- */

/* A free job, its arena empty; NULL when all n_jobs are in use. */
kf_job *kf_job_get(kf_server *s);
void kf_job_put(kf_server *s, kf_job *job);

/* Tokenises, checks the limits that only the models know, and queues the job. Never fails to answer: a job that is
 * refused comes out of the outbox with its final response like any other. */
void kf_server_submit(kf_server *s, kf_job *job);

/* The client is gone or has asked for it: the job ends at the next step with CANCELLED. Any thread that holds the job's
 * identity; an id that is not in hand is ignored. */
void kf_server_cancel(kf_server *s, kf_str tenant, kf_str request_id);

int kf_server_outbox_fd(const kf_server *s);
kf_job *kf_server_outbox_pop(kf_server *s);

/* The job's next message, if there is one now. Strings are valid until kf_job_put. */
bool kf_job_next_response(kf_job *job, kf_response *out);

/* ---- what the outside may know (any thread) ---- */

typedef struct kf_server_state {
    bool ready; /* models loaded, warmed up, not draining */
    bool draining;
    bool device_failed;
    int64_t device_moved_ns; /* when the device last finished something: its age is /livez (promise 9) */
    size_t n_waiting, n_running;
    size_t kv_blocks_used, kv_blocks;
    int64_t oldest_age_ns;  /* of the requests in hand */
    int64_t retry_after_ms; /* Little's law: queue length over the measured rate */
} kf_server_state;
void kf_server_state_get(kf_server *s, kf_server_state *out);

const char *kf_server_model(const kf_server *s);      /* name@hash */
size_t kf_server_max_text_tokens(const kf_server *s); /* special ones counted */

#endif
