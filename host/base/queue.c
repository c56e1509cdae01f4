/* The bounded queue of queue.h: one mutex, held for a few instructions. */
#include "base/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

kf_status kf_queue_init(kf_queue *q, size_t cap, bool with_fd) {
    kf_queue made = {.cap = cap, .event_fd = -1};
    made.items = calloc(cap ? cap : 1, sizeof *made.items);
    if (!made.items) return KF_FAIL(KF_ERR_NO_MEMORY, "queue: no memory for %zu items", cap);
    if (with_fd && (made.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
        free(made.items);
        return KF_FAIL(KF_ERR_IO, "queue: eventfd: %s", strerror(errno));
    }
    *q = made;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->not_empty, &attr);
    pthread_condattr_destroy(&attr);
    return KF_OK;
}

void kf_queue_free(kf_queue *q) {
    if (!q->items) return;
    pthread_cond_destroy(&q->not_empty);
    pthread_mutex_destroy(&q->lock);
    if (q->event_fd >= 0) close(q->event_fd);
    free(q->items);
    *q = (kf_queue){.event_fd = -1};
}

/* Called with the lock held. A full counter (2^64 - 2 wakes) cannot happen: it is read whenever the queue empties. */
static void wake_poller(kf_queue *q) {
    uint64_t one = 1;
    if (q->event_fd >= 0 && write(q->event_fd, &one, sizeof one) < 0) return;
}

static void clear_poller(kf_queue *q) {
    uint64_t count;
    if (q->event_fd >= 0 && read(q->event_fd, &count, sizeof count) < 0) return;
}

kf_status kf_queue_push(kf_queue *q, void *item) {
    kf_status s = KF_OK;
    pthread_mutex_lock(&q->lock);
    if (q->closed) {
        s = KF_ERR_CLOSED;
    } else if (q->n_items == q->cap) {
        s = KF_ERR_OVERLOADED;
    } else {
        q->items[(q->head + q->n_items) % q->cap] = item;
        if (q->n_items++ == 0) wake_poller(q);
        pthread_cond_signal(&q->not_empty);
    }
    pthread_mutex_unlock(&q->lock);
    return s;
}

/* Waits with the lock held until there is an item, the queue is closed or the time is up. */
static void wait_for_item(kf_queue *q, int64_t timeout_ns) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_ns % 1000000000;
    until.tv_sec += timeout_ns / 1000000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (q->n_items == 0 && !q->closed) {
        if (timeout_ns < 0) {
            pthread_cond_wait(&q->not_empty, &q->lock);
        } else if (pthread_cond_timedwait(&q->not_empty, &q->lock, &until) == ETIMEDOUT) {
            return;
        }
    }
}

kf_status kf_queue_pop(kf_queue *q, void **item, int64_t timeout_ns) {
    kf_status s = KF_OK;
    pthread_mutex_lock(&q->lock);
    if (q->n_items == 0 && timeout_ns != 0) wait_for_item(q, timeout_ns);
    if (q->n_items == 0) {
        s = q->closed ? KF_ERR_CLOSED : KF_ERR_DEADLINE;
    } else {
        *item = q->items[q->head];
        q->head = (q->head + 1) % q->cap;
        if (--q->n_items == 0) clear_poller(q);
    }
    pthread_mutex_unlock(&q->lock);
    return s;
}

void kf_queue_close(kf_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    wake_poller(q);
    pthread_cond_broadcast(&q->not_empty);
    pthread_mutex_unlock(&q->lock);
}

size_t kf_queue_length(kf_queue *q) {
    pthread_mutex_lock(&q->lock);
    size_t n = q->n_items;
    pthread_mutex_unlock(&q->lock);
    return n;
}

int kf_queue_fd(const kf_queue *q) {
    return q->event_fd;
}
