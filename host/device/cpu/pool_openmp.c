/* The compute pool where oneDNN is: OpenMP's threads, which oneDNN's products use too, so that there is one set of
 * threads and never two that fight for the cores. Pieces are handed out as in pool_pthread.c.
 *
 * OpenMP keeps its threads for each thread that calls it, and OMP_PROC_BIND is read before a program can set it. So
 * the first call from a thread sets the number of threads and, where they are all the cores there are, binds each
 * worker to its core: unbound, two of them at times share one. The caller itself stays free, since threads that it
 * starts later would inherit its binding. */
#ifdef KF_HAVE_ONEDNN
#include "device/cpu/cpu.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { PIECES_A_THREAD = 4 };

struct kf_cpu_pool {
    int n_threads;
    bool bind;
    bool adopted; /* owner is set */
    pthread_t owner;
    atomic_size_t next;
};

static void bind_worker(int worker, const cpu_set_t *allowed) {
    cpu_set_t one;
    int core = 0, left = worker;
    for (; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, allowed) && left-- == 0) break;
    if (core == CPU_SETSIZE) return;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one); /* refused in some containers: then it stays unbound */
}

void kf_cpu_pool_adopt(kf_cpu_pool *p) {
    cpu_set_t allowed;
    if (p->adopted && pthread_equal(p->owner, pthread_self())) return;
    p->adopted = true;
    p->owner = pthread_self();
    omp_set_dynamic(0);
    omp_set_num_threads(p->n_threads);
    if (!p->bind || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
#pragma omp parallel num_threads(p->n_threads)
    if (omp_get_thread_num() > 0) bind_worker(omp_get_thread_num(), &allowed);
}

void kf_cpu_parallel_for(kf_stream *s, size_t n, size_t grain, kf_cpu_body *body, void *arg) {
    kf_cpu_pool *p = ((kf_cpu_device *)s->device)->pool;
    if (n <= grain || p->n_threads == 1) {
        if (n) body(arg, 0, n);
        return;
    }
    kf_cpu_pool_adopt(p);
    size_t n_pieces = (size_t)p->n_threads * PIECES_A_THREAD, piece = (n + n_pieces - 1) / n_pieces;
    if (piece < grain) piece = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
#pragma omp parallel num_threads(p->n_threads)
    for (;;) {
        size_t first = atomic_fetch_add_explicit(&p->next, piece, memory_order_relaxed);
        if (first >= n) break;
        body(arg, first, n - first < piece ? n : first + piece);
    }
}

kf_status kf_cpu_pool_open(int n_threads, kf_cpu_pool **out) {
    kf_cpu_pool *p = calloc(1, sizeof *p);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "compute pool: %zu bytes asked for, the system has none", sizeof *p);
    p->n_threads = n_threads < 1 ? 1 : n_threads;
    p->bind = n_threads > 1 && n_threads == kf_cpu_threads_allowed();
    *out = p;
    return KF_OK;
}

void kf_cpu_pool_close(kf_cpu_pool *p) {
    free(p);
}
#endif
