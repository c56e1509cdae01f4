/* Aim: what the operation table cannot show: opening by name, refusals and their texts, the null device's answers,
 * and that a loop of the pool is run whole and once, however many threads share it.
 * Method: each through device.h alone; the pool through an operation whose result counts its elements. */
#include "ops/harness.h"

static void refused(const char *name, kf_device_opts o, kf_status want, const char *text) {
    kf_device *d = NULL;
    assert_int_equal(kf_device_open(name, &o, &d), want);
    assert_null(d);
    if (!strstr(kf_error_text(), text)) fail_msg("\"%s\" does not say \"%s\"", kf_error_text(), text);
}

static void opening(void **state) {
    (void)state;
    refused("tpu", (kf_device_opts){0}, KF_ERR_INVALID, "--device");
    refused("cpu", (kf_device_opts){.dtype = KF_F16}, KF_ERR_UNSUPPORTED, "--dtype");
    refused("cpu", (kf_device_opts){.cpu_isa = "avx1024"}, KF_ERR_UNSUPPORTED, "avx1024");
    static const char *const names[] = {"F32", "BF16", "F16", "I32"};
    static const size_t bytes[] = {4, 2, 2, 4};
    for (int i = 0; i < KF_N_DTYPES; i++) {
        assert_string_equal(kf_dtype_name((kf_dtype)i), names[i]);
        assert_int_equal(kf_dtype_bytes((kf_dtype)i), bytes[i]);
    }
    assert_int_equal(kf_dtype_bytes(KF_N_DTYPES), 0);
    kf_device_close(NULL);
}

/* The null device draws a short reply and then the ids that may end one; its logits are zeros. */
static void null_device(void **state) {
    (void)state;
    bench t;
    config c = {.name = "null", .device = "null"};
    bench_open(&t, &c);
    float w[6] = {1, 2, 3, 4, 5, 6};
    kf_weight *weight;
    ok(kf_weight_pack(t.d, &(kf_weight_desc){"w", &(kf_weight_part){.data = w, .n_out = 2}, 1, 3, KF_F32}, &weight));
    void *logits;
    ok(kf_device_alloc(t.d, 16, "logits", &logits));
    kf_linear(t.s, logits, put_f32(&t, w, 6), weight, 2, (kf_linear_opts){0});
    float *got = get(&t, logits, 4, KF_F32);
    for (int i = 0; i < 4; i++)
        assert_true(got[i] == 0);
    free(got);

    int32_t last[1] = {0};
    kf_sampler sm = {.vocab_size = 100, .last_token = put_i32(&t, last, 1)};
    kf_sample_params p[11] = {{0}};
    for (uint32_t i = 0; i < 11; i++)
        p[i].position = i, p[i].slot = i == 10 ? 0 : -1;
    kf_sample_out out[11], *dout = put(&t, NULL, sizeof out);
    kf_sample(t.s, dout, logits, put(&t, p, sizeof p), &sm, 11);
    kf_copy_out(t.s, out, dout, sizeof out);
    kf_copy_out(t.s, last, sm.last_token, sizeof last);
    bench_sync(&t);
    static const int32_t want[] = {5, 5, 5, 5, 5, 5, 5, 5, 0, 1, 2};
    for (int i = 0; i < 11; i++) {
        assert_int_equal(out[i].token, want[i]);
        assert_int_equal(out[i].finite, 1);
    }
    assert_int_equal(last[0], 2);
    kf_device_free(t.d, logits);
    kf_weight_free(t.d, weight);
    bench_close(&t);
}

/* relu(x + 1) in place over and over: an element that a loop left out, or did twice, shows at the end. */
static void pool(void **state) {
    (void)state;
    enum { N = 40000, N_LOOPS = 300, WIDTH = 8 };
    for (int n_threads = 1; n_threads <= 16; n_threads = n_threads * 2 + 1) {
        bench t;
        config c = {.name = "pool", .device = "cpu", .opts = {.n_threads = n_threads, .plain_products = true}};
        bench_open(&t, &c);
        float eye[WIDTH * WIDTH] = {0}, ones[WIDTH], *x = calloc(N, sizeof *x);
        assert_non_null(x);
        for (int i = 0; i < WIDTH; i++)
            eye[i * WIDTH + i] = 1, ones[i] = 1;
        kf_weight *weight;
        kf_weight_part part = {.data = eye, .bias = ones, .n_out = WIDTH, .bias_dtype = KF_F32};
        ok(kf_weight_pack(t.d, &(kf_weight_desc){"eye", &part, 1, WIDTH, KF_F32}, &weight));
        void *a = put_f32(&t, x, N), *b = put_f32(&t, x, N);
        for (int i = 0; i < N_LOOPS; i++) {
            kf_linear(t.s, i % 2 ? a : b, i % 2 ? b : a, weight, N / WIDTH, (kf_linear_opts){.act = KF_ACT_RELU});
            kf_activate(t.s, i % 2 ? a : b, i % 2 ? a : b, KF_ACT_RELU, N);
        }
        float *got = get(&t, a, N, KF_F32);
        for (int i = 0; i < N; i++)
            if (got[i] != N_LOOPS) fail_msg("%d threads: element %d is %g", n_threads, i, (double)got[i]);
        free(got), free(x);
        kf_weight_free(t.d, weight);
        bench_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening),
        cmocka_unit_test(null_device),
        cmocka_unit_test(pool),
    };
    return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
