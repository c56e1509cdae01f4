/* Aim: a start that runs out of memory at any step is refused and leaves nothing behind; after its start the device
 * thread allocates nothing, whatever comes: replies, parts, refusals, deadlines, sequences set back (promise 4 of
 * DESIGN.md). Method: a device with ever more memory; this program's malloc, which fails at the n-th call of a start,
 * and counts what threads other than the first ask for. Products in plain C, one thread: what oneDNN does inside is its
 * own. Sanitizers bring their own malloc, so there only the device's memory runs out. */
#include "sim/rig.h"
#include "own_malloc.h"

#include <pthread.h>
#include <stdatomic.h>

#include "observe/trace_file.h"

static atomic_size_t n_allocations; /* by threads other than the first */
static _Thread_local bool is_first_thread;
static long fail_at = -1, n_live; /* the first thread's calls until one fails, and blocks that it has not given back */

#if OWN_MALLOC
static bool may_allocate(void) {
    n_allocations += !is_first_thread;
    return !is_first_thread || fail_at < 0 || fail_at-- > 0;
}

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *aligned_alloc(size_t align, size_t n);
void __libc_free(void *p);
void free(void *p);

void *malloc(size_t n) {
    void *p = may_allocate() ? __libc_malloc(n) : NULL;
    n_live += p && is_first_thread;
    return p;
}

void *calloc(size_t n, size_t size) {
    void *p = may_allocate() ? __libc_calloc(n, size) : NULL;
    n_live += p && is_first_thread;
    return p;
}

void *realloc(void *p, size_t n) {
    void *q = may_allocate() ? __libc_realloc(p, n) : NULL;
    n_live += q && !p && is_first_thread;
    return q;
}

void *aligned_alloc(size_t align, size_t n) {
    void *p = may_allocate() ? __libc_memalign(align, n) : NULL;
    n_live += p && is_first_thread;
    return p;
}

void free(void *p) {
    n_live -= p && is_first_thread;
    __libc_free(p);
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

/* Where *state names a file, what happens is traced into it. */
static void nothing_after_start(void **state) {
    kf_trace_file *trace = NULL;
    if (!OWN_MALLOC) skip();
    enum { N = 64 };
    size_t block_bytes = TINY_LAYERS * 2 * 16 * 16 * sizeof(float);
    if (*state) assert_int_equal(kf_trace_file_open(*state, &trace), KF_OK);
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
    kf_trace_file_close(trace);
}

static kf_status try_start(kf_device *d, kf_server **out) {
    return kf_server_start(
        &(kf_server_opts){
            .device = d,
            .models_dir = models,
            .n_jobs = 4,
            .job_arena_bytes = 32 << 10,
            .max_running = 2,
            .max_gap_ms = 150,
        },
        out);
}

static void device_memory_runs_out(void **state) {
    (void)state;
    kf_device *d;
    kf_server *server = NULL;
    assert_int_equal(kf_cpu_open(&(kf_device_opts){.dtype = KF_F32, .n_threads = 1}, &d), KF_OK);
    size_t used = d->memory_bytes_used, all = d->memory_bytes, n_refused = 0;
    kf_status s = KF_ERR_NO_MEMORY;
    for (size_t more = 64; s != KF_OK; more += more / 8) {
        d->memory_bytes = used + more < all ? used + more : all;
        s = try_start(d, &server);
        if (s == KF_OK) break;
        n_refused++;
        assert_int_equal(s, KF_ERR_NO_MEMORY);
        assert_null(server);
        assert_int_equal(d->memory_bytes_used, used);
        assert_non_null(strstr(kf_error_text(), "bytes asked for"));
    }
    assert_true(n_refused > 20);
    kf_server_free(server);
    assert_int_equal(d->memory_bytes_used, used);
    kf_device_close(d);
}

static void any_allocation_fails(void **state) {
    (void)state;
    if (!OWN_MALLOC) skip();
    kf_device *d;
    kf_server *server = NULL;
    assert_int_equal(kf_cpu_open(&(kf_device_opts){.dtype = KF_F32, .n_threads = 1, .plain_products = true}, &d),
                     KF_OK);
    kf_status s = try_start(d, &server); /* what is allocated once a process comes first */
    assert_int_equal(s, KF_OK);
    kf_server_free(server);
    server = NULL;
    long n_refused = 0;
    for (long n = 0;; n += n < 50 ? 1 : 7) {
        long before = n_live;
        fail_at = n;
        s = try_start(d, &server);
        bool reached = fail_at < 0;
        fail_at = -1;
        if (s == KF_OK && !reached) break;
        if (s == KF_OK) { /* one that could be done without */
            kf_server_free(server);
            server = NULL;
        }
        n_refused += s != KF_OK;
        assert_null(server);
        if (n_live != before) fail_msg("allocation %ld: %ld blocks left", n, n_live - before);
        assert_int_equal(d->memory_bytes_used, 0);
    }
    kf_server_free(server);
    assert_true(n_refused > 100);
    kf_device_close(d);
}

int main(void) {
    static char null_file[] = "/dev/null";
    is_first_thread = true;
    models = tiny_models();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_threads_are_counted),
        cmocka_unit_test(nothing_after_start),
        cmocka_unit_test_prestate(nothing_after_start, null_file),
        cmocka_unit_test(device_memory_runs_out),
        cmocka_unit_test(any_allocation_fails),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    return failed;
}
