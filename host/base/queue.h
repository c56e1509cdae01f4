/* A bounded queue of pointers between threads: many producers, many consumers, first in first out.
 *
 * The queue never allocates after init and never blocks a producer: a full queue is an answer (KF_ERR_OVERLOADED),
 * because backpressure must be said to the client and not slept away. A consumer waits on a condition variable
 * (kf_queue_pop with a time limit), or watches kf_queue_fd in its own epoll loop.
 */
#ifndef KF_BASE_QUEUE_H
#define KF_BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct kf_queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    void **items; /* [cap], a ring */
    size_t cap;
    size_t head; /* next to pop */
    size_t n_items;
    bool closed;
    int event_fd; /* -1 where nobody polls */
} kf_queue;

/* with_fd: also make an eventfd that is readable while the queue may hold something (see kf_queue_fd).
 * KF_OK; KF_ERR_NO_MEMORY; KF_ERR_IO. */
kf_status kf_queue_init(kf_queue *q, size_t cap, bool with_fd);

/* The items are not the queue's: free them first (pop until it is empty). */
void kf_queue_free(kf_queue *q);

/* KF_OK; KF_ERR_OVERLOADED: full; KF_ERR_CLOSED. No error record is set: the caller words the refusal. Any thread. */
kf_status kf_queue_push(kf_queue *q, void *item);

/* Pops one. timeout_ns 0: does not wait; below 0: waits until something comes or the queue is closed.
 * KF_OK; KF_ERR_DEADLINE: nothing came; KF_ERR_CLOSED: closed and empty. No error record is set. Any thread. */
kf_status kf_queue_pop(kf_queue *q, void **item, int64_t timeout_ns);

/* No more pushes; what is in it can still be popped; waiting consumers wake. */
void kf_queue_close(kf_queue *q);

size_t kf_queue_length(kf_queue *q);

/* For epoll: readable after a push. Level-triggered; kf_queue_pop clears it once the queue is empty. */
int kf_queue_fd(const kf_queue *q);

#endif
