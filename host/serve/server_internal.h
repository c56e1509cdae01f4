/* The server's parts, shared by server.c (the I/O thread's calls), loop.c and account.c (the device
 * thread) and measure.c (start). */
#ifndef KF_SERVE_SERVER_INTERNAL_H
#define KF_SERVE_SERVER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/queue.h"
#include "serve/job_internal.h"
#include "serve/models.h"
#include "serve/plan.h"
#include "serve/serve.h"
#include "serve/writer.h"

/* What a job is told that a stopping or failed worker will not answer; another worker takes it at once. */
#define KF_STOPPING_TEXT "this worker is stopping: ask again, another one answers"
#define KF_DEVICE_FAILED_TEXT "this worker's device has failed: ask again, another one answers"
#define KF_STOPPING_RETRY_MS 1

/* What kf_server_state_get reads: written by the device thread once a run, relaxed. */
typedef struct kf_server_gauges {
    atomic_bool device_failed;
    atomic_int_fast64_t device_moved_ns, oldest_ns; /* oldest_ns 0: nothing in hand */
    atomic_size_t n_waiting, n_running, n_blocks_used;
    atomic_int_fast64_t ns_per_job; /* the measured rate, as time */
} kf_server_gauges;

struct kf_server {
    kf_server_opts opts;
    kf_device *device;
    kf_stream *stream, *encoder_stream; /* the decoder's (and the probe's), the encoder's: loop.c says who waits */
    kf_models models;
    kf_cost cost;
    kf_plan_limits limits;

    kf_job_impl *jobs;       /* [n_jobs] */
    kf_job_impl **free_jobs; /* [n_jobs] a stack, the I/O thread's */
    size_t n_free_jobs;
    uint64_t n_traced; /* requests, the I/O thread's */
    uint64_t seed;     /* the I/O thread's: the generator of seeds for requests that bring none */

    kf_queue inbox, outbox; /* each holds every job */

    pthread_mutex_t identity_lock; /* in_hand, and through it tenant and id, of every job */
    atomic_uint n_cancels;
    atomic_size_t n_in_hand; /* submitted, not yet put back */
    atomic_bool draining, stopping;
    kf_server_gauges gauges;

    pthread_t thread;
    bool thread_started;
    struct kf_loop *loop; /* the device thread's */
};

/* loop.c: everything the device thread needs, allocated; and the thread's function. */
kf_status kf_loop_new(kf_server *s, struct kf_loop **out);
void kf_loop_free(struct kf_loop *l);
void *kf_loop_run(void *server);

/* measure.c: fills s->cost and warms everything up. Says in the log where the smallest step is longer than the gap
 * allowed. Before the device thread starts. */
kf_status kf_measure(kf_server *s);

/* Nanoseconds of device time that a typical request takes when the device is full: the rate it can hold. */
int64_t kf_measured_ns_per_job(const kf_server *s);

/* Any thread: what a refused client is told to wait (Little's law: what is in hand over the rate). */
int64_t kf_retry_after_ms(kf_server *s);

#endif
