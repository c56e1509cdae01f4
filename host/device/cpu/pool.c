/* The compute pool: one loop at a time, the caller is one of its threads. Pieces are handed out by an atomic counter,
 * so an uneven loop (ragged attention) evens itself out.
 *
 * A forward pass is some hundred short loops in a row, on cores that other threads want too. So a worker waits for
 * the next loop awake for some microseconds, then asleep; and the caller waits only for workers that hold a piece:
 * one that woke late, or not at all, is not missed. (OpenMP waits for all of its threads at the end of every loop,
 * and for as long as they are off their cores.) The gate is one word, so that entering a loop and its end can be told
 * apart:
 *
 *     loop number << 32 | OPEN while pieces may be taken | workers inside */
#include "device/cpu/cpu.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* More pieces than threads, so that a fast thread can take over from a slow one. AWAKE: about 30 us of looking. */
enum { PIECES_A_THREAD = 4, MAX_THREADS = 256, AWAKE = 600 };
#define OPEN ((uint64_t)1 << 31)
#define INSIDE (OPEN - 1)
#define LOOP ((uint64_t)1 << 32)

typedef struct worker {
    kf_cpu_pool *pool;
    pthread_t thread;
    int index; /* 1 .. n_workers; the caller is 0 */
} worker;

struct kf_cpu_pool {
    worker *workers; /* [n_workers] */
    int n_workers;   /* without the caller */

    /* this loop; written before the gate opens */
    kf_cpu_body *body;
    void *arg;
    size_t n, piece;
    atomic_size_t next;
    _Atomic uint64_t gate;

    /* for those who sleep */
    pthread_mutex_t lock;
    pthread_cond_t opened, left;
    atomic_int n_asleep;
    atomic_bool closing;
};

static _Thread_local int thread_index;

int kf_cpu_thread_index(void) {
    return thread_index;
}

int kf_cpu_pool_threads(const kf_cpu_pool *p) {
    return p->n_workers + 1;
}

static void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_pieces(kf_cpu_pool *p) {
    for (;;) {
        size_t first = atomic_fetch_add_explicit(&p->next, p->piece, memory_order_relaxed);
        if (first >= p->n) return;
        p->body(p->arg, first, p->n - first < p->piece ? p->n : first + p->piece);
    }
}

/* ---- a worker ---- */

/* Waits for a gate of another loop than `seen`, awake, then asleep. */
static uint64_t wait_opened(kf_cpu_pool *p, uint64_t seen) {
    uint64_t gate;
    for (int i = 0; i < AWAKE; i++) {
        gate = atomic_load(&p->gate);
        if (gate / LOOP != seen || atomic_load(&p->closing)) return gate;
        pause_cpu();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1); /* before the look at the gate: who opens it then sees a sleeper */
    while (gate = atomic_load(&p->gate), gate / LOOP == seen && !atomic_load(&p->closing))
        pthread_cond_wait(&p->opened, &p->lock);
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->lock);
    return gate;
}

static void leave(kf_cpu_pool *p) {
    uint64_t gate = atomic_fetch_sub(&p->gate, 1) - 1;
    if (gate & (OPEN | INSIDE)) return;
    pthread_mutex_lock(&p->lock); /* the last one, after the end: the caller may be asleep */
    pthread_cond_signal(&p->left);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg) {
    const worker *w = arg;
    kf_cpu_pool *p = w->pool;
    uint64_t seen = 0;
    thread_index = w->index;
    pthread_setname_np(pthread_self(), "kefu-compute");
    for (;;) {
        uint64_t gate = wait_opened(p, seen);
        if (atomic_load(&p->closing)) return NULL;
        seen = gate / LOOP;
        while (gate / LOOP == seen && (gate & OPEN))
            if (atomic_compare_exchange_weak(&p->gate, &gate, gate + 1)) {
                take_pieces(p);
                leave(p);
                break;
            }
    }
}

/* ---- the caller ---- */

static void open_gate(kf_cpu_pool *p) {
    uint64_t loop = atomic_load(&p->gate) / LOOP + 1;
    atomic_store(&p->gate, (loop & 0xffffffff) * LOOP | OPEN);
    if (atomic_load(&p->n_asleep) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->opened);
    pthread_mutex_unlock(&p->lock);
}

/* Lets nobody in any more, and waits for those inside. */
static void close_gate(kf_cpu_pool *p) {
    uint64_t gate = atomic_fetch_and(&p->gate, ~OPEN) & ~OPEN;
    for (int i = 0; i < AWAKE && (gate & INSIDE); i++) {
        pause_cpu();
        gate = atomic_load(&p->gate);
    }
    if (!(gate & INSIDE)) return;
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->gate) & INSIDE)
        pthread_cond_wait(&p->left, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void kf_cpu_parallel_for(kf_stream *s, size_t n, size_t grain, kf_cpu_body *body, void *arg) {
    kf_cpu_pool *p = ((kf_cpu_device *)s->device)->pool;
    if (n <= grain || p->n_workers == 0) {
        if (n) body(arg, 0, n);
        return;
    }
    size_t n_pieces = (size_t)kf_cpu_pool_threads(p) * PIECES_A_THREAD, piece = (n + n_pieces - 1) / n_pieces;
    p->body = body, p->arg = arg, p->n = n;
    p->piece = piece > grain ? piece : grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    open_gate(p);
    take_pieces(p);
    close_gate(p);
}

/* ---- opening and closing ---- */

/* A worker takes no signals: they are the program's business. */
static int start(worker *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

kf_status kf_cpu_pool_open(int n_threads, kf_cpu_pool **out) {
    if (n_threads < 1) n_threads = 1;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    kf_cpu_pool *p = calloc(1, sizeof *p);
    worker *workers = calloc((size_t)n_threads, sizeof *workers);
    if (!p || !workers) {
        free(p);
        free(workers);
        return KF_FAIL(KF_ERR_NO_MEMORY, "compute pool: the system has no memory for %d threads", n_threads);
    }
    p->workers = workers;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->opened, NULL);
    pthread_cond_init(&p->left, NULL);
    while (p->n_workers < n_threads - 1) {
        worker *w = &workers[p->n_workers];
        *w = (worker){.pool = p, .index = p->n_workers + 1};
        int err = start(w);
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
    atomic_store(&p->closing, true);
    pthread_cond_broadcast(&p->opened);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_workers; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->left);
    pthread_cond_destroy(&p->opened);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}
