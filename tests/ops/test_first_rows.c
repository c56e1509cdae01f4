/* Aim: a row count that is seen for the first time costs the device thread nothing more than later: oneDNN's kernels
 * are made when a weight is packed, and rows filled up to the next of a few counts. Method: this program's malloc
 * counts over products of many row counts, each twice. What is left is oneDNN's own, the same for each piece of a
 * product. One thread, so that each piece is run by the same one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "count_malloc.h"
#include "device/device.h"

enum { N_IN = 96, N_OUT = 200, MAX_ROWS = 700, A_PIECE_MAX = 8, SLAB_PIECES_MAX = 4 };

static float x[MAX_ROWS * N_IN], out[MAX_ROWS * N_OUT], weights[N_OUT * N_IN];

/* The allocations of one product. */
static size_t product(kf_stream *s, kf_event *e, const kf_weight *w, size_t n_rows) {
    size_t before = n_allocations;
    kf_linear(s, out, x, w, n_rows, (kf_linear_opts){0});
    assert_int_equal(kf_event_record(s, e), KF_OK);
    assert_int_equal(kf_event_wait(s->device, e), KF_OK);
    return n_allocations - before;
}

static void nothing_more(kf_dtype dtype) {
    kf_device *d;
    kf_stream *s;
    kf_event *e;
    kf_weight *w;
    const kf_weight_part part = {.data = weights, .n_out = N_OUT};
    const kf_weight_desc desc = {.name = "w", .parts = &part, .n_parts = 1, .n_in = N_IN, .dtype = KF_F32};
    assert_int_equal(kf_cpu_open(&(kf_device_opts){.dtype = dtype, .n_threads = 1}, &d), KF_OK);
    assert_int_equal(kf_stream_open(d, &s), KF_OK);
    assert_int_equal(kf_event_new(d, &e), KF_OK);
    size_t before = n_allocations, most = 0;
    assert_int_equal(kf_weight_pack(d, &desc, &w), KF_OK);
    assert_true(n_allocations > before); /* the count counts at all */
    product(s, e, w, 20);                /* oneDNN's first use in this thread */
    for (size_t n = 1; n <= MAX_ROWS; n += n < 300 ? 1 : 37) {
        size_t first = product(s, e, w, n), later = product(s, e, w, n);
        if (first != later) fail_msg("%zu rows: %zu allocations the first time, then %zu", n, first, later);
        assert_true(later <= A_PIECE_MAX * SLAB_PIECES_MAX * (1 + n / 256));
        if (later > most) most = later;
    }
    print_message("%s: at most %zu allocations of oneDNN's a product\n", kf_dtype_name(dtype), most);
    kf_weight_free(d, w);
    kf_event_free(d, e);
    kf_stream_close(s);
    kf_device_close(d);
}

static void f32(void **state) {
    (void)state;
    nothing_more(KF_F32);
}

static void bf16(void **state) {
    (void)state;
    nothing_more(KF_BF16);
}

int main(void) {
    if (!OWN_MALLOC) {
        printf("skipped: a sanitizer brings its own malloc\n");
        return 0;
    }
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = (float)(i % 101) / 101 - 0.5f;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        weights[i] = (float)(i % 89) / 89 - 0.5f;
    const struct CMUnitTest tests[] = {cmocka_unit_test(f32), cmocka_unit_test(bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
