/* The compute pool where there is no OpenMP: one loop at a time, the caller is one of its threads. Pieces are handed
 * out by an atomic counter, so an uneven loop (ragged attention) evens itself out. */
#ifndef KF_HAVE_ONEDNN
#include "device/cpu/cpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A piece a thread would be the fewest; a few more each let a fast thread take over from a slow one. */
enum { PIECES_A_THREAD = 4, MAX_THREADS = 256 };

struct kf_cpu_pool {
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    pthread_t *threads; /* [n_workers] */
    int n_workers;      /* without the caller */
    int n_busy;         /* workers that have not finished this round */
    unsigned round;
    bool closing;

    kf_cpu_body *body; /* this round's loop */
    void *arg;
    size_t n, piece;
    atomic_size_t next;
};

static void take_pieces(kf_cpu_pool *p) {
    for (;;) {
        size_t first = atomic_fetch_add_explicit(&p->next, p->piece, memory_order_relaxed);
        if (first >= p->n) return;
        p->body(p->arg, first, p->n - first < p->piece ? p->n : first + p->piece);
    }
}

static void *worker(void *arg) {
    kf_cpu_pool *p = arg;
    unsigned seen = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->round == seen && !p->closing)
            pthread_cond_wait(&p->start, &p->lock);
        if (p->closing) break;
        seen = p->round;
        pthread_mutex_unlock(&p->lock);
        take_pieces(p);
        pthread_mutex_lock(&p->lock);
        if (--p->n_busy == 0) pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void kf_cpu_parallel_for(kf_stream *s, size_t n, size_t grain, kf_cpu_body *body, void *arg) {
    kf_cpu_pool *p = ((kf_cpu_device *)s->device)->pool;
    if (n <= grain || p->n_workers == 0) {
        if (n) body(arg, 0, n);
        return;
    }
    size_t n_pieces = (size_t)(p->n_workers + 1) * PIECES_A_THREAD;
    size_t piece = (n + n_pieces - 1) / n_pieces;
    pthread_mutex_lock(&p->lock);
    p->body = body, p->arg = arg, p->n = n;
    p->piece = piece > grain ? piece : grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    p->n_busy = p->n_workers;
    p->round++;
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->lock);

    take_pieces(p);

    pthread_mutex_lock(&p->lock);
    while (p->n_busy > 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

kf_status kf_cpu_pool_open(int n_threads, kf_cpu_pool **out) {
    if (n_threads < 1) n_threads = 1;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    kf_cpu_pool *p = calloc(1, sizeof *p);
    pthread_t *threads = calloc((size_t)n_threads, sizeof *threads);
    if (!p || !threads) {
        free(p);
        free(threads);
        return KF_FAIL(KF_ERR_NO_MEMORY, "compute pool: the system has no memory for %d threads", n_threads);
    }
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->start, NULL);
    pthread_cond_init(&p->done, NULL);
    while (p->n_workers < n_threads - 1) {
        int err = pthread_create(&p->threads[p->n_workers], NULL, worker, p);
        if (err) {
            int started = p->n_workers;
            kf_cpu_pool_close(p);
            return KF_FAIL(KF_ERR_IO, "compute pool: thread %d of %d could not be started: %s", started + 2, n_threads,
                           strerror(err));
        }
        p->n_workers++;
    }
    *out = p;
    return KF_OK;
}

void kf_cpu_pool_close(kf_cpu_pool *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_workers; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->start);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}
#endif
