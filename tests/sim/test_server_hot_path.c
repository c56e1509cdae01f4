/* Aim: after its start the device thread allocates nothing, whatever comes: replies, parts, refusals, deadlines,
 * sequences set back, questions back, hand-offs (promise 4 of DESIGN.md). Method: this program's malloc counts what
 * threads other than the first ask for. Products in plain C, one thread: what oneDNN does inside is its own. Sanitizers
 * bring their own malloc, so there this test is skipped. */
#include "sim/rig.h"

#include <pthread.h>
#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif
#else
#define OWN_MALLOC 1
#endif

static atomic_size_t n_allocations;
static _Thread_local bool is_first_thread;

#if OWN_MALLOC
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *aligned_alloc(size_t align, size_t n);

void *malloc(size_t n) {
    n_allocations += !is_first_thread;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
    n_allocations += !is_first_thread;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
    n_allocations += !is_first_thread;
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n) {
    n_allocations += !is_first_thread;
    return __libc_memalign(align, n);
}
#endif

static void *allocate(void *arg) {
    void *volatile p = malloc(1); /* volatile: or the compiler takes both away */
    free(p);
    return arg;
}

/* The counter counts. */
static void other_threads_are_counted(void **state) {
    (void)state;
    if (!OWN_MALLOC) skip();
    pthread_t t;
    size_t before = n_allocations;
    assert_int_equal(pthread_create(&t, NULL, allocate, NULL), 0);
    pthread_join(t, NULL);
    assert_true(n_allocations > before);
}

static void nothing_after_start(void **state) {
    (void)state;
    if (!OWN_MALLOC) skip();
    enum { N = 64 };
    size_t block_bytes = TINY_LAYERS * 2 * 16 * 16 * sizeof(float);
    rig *r = start_with((rig_opts){
        .device = "cpu",
        .n_jobs = N,
        .max_running = 6,
        .kv_cache_bytes = 11 * block_bytes,
        .plain_products = true,
    });
    size_t before = n_allocations;
    for (int round = 0; round < 3; round++) {
        memset(r->answers, 0, sizeof r->answers);
        for (int i = 0; i < N; i++) {
            kf_job *job = request(r, i, texts[i % N_TEXTS], 40);
            job->request.stream = i % 2;
            job->request.want = i % 5 ? KF_WANT_REPLY : KF_WANT_UNDERSTAND;
            job->request.lane = (kf_lane)(i % KF_N_LANES);
            job->request.generate.temperature = i % 3 ? 0.8f : 0;
            job->request.generate.logprobs = i % 7 == 0;
            if (i % 11 == 0) job->request.deadline_ns = kf_clock_now_ns() + 2000000;
            kf_server_submit(r->server, job);
            if (i % 13 == 0) kf_server_cancel(r->server, job->request.tenant, job->request.id);
        }
        wait_finals(r, N);
    }
    assert_int_equal(n_allocations, before);
    end(r);
}

int main(void) {
    is_first_thread = true;
    models = tiny_models();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_threads_are_counted),
        cmocka_unit_test(nothing_after_start),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    return failed;
}
