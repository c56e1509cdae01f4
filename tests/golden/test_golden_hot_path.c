/* Aim: after open and pass_new or step_new a forward pass allocates nothing (promise 4 of DESIGN.md). Method: this
 * program's malloc counts, and the count must stand still over passes of other lengths than the first one and over
 * decoder steps. The first is not counted: it starts the compute pool's threads. Plain products: oneDNN's own few
 * allocations are test_first_rows's. Sanitizers bring their own malloc, so there this test is skipped. */
#include "count_malloc.h"
#include "golden_run.h"

static kf_device *d;
static kf_stream *s;

static int setup(void **state) {
    (void)state;
    if (kf_cpu_open(&(kf_device_opts){.dtype = KF_F32, .n_threads = 2, .plain_products = true}, &d) != KF_OK) return -1;
    return kf_stream_open(d, &s) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_stream_close(s);
    kf_device_close(d);
    return 0;
}

static void test_bert_pass(void **state) {
    (void)state;
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    int32_t ids[GOLDEN_TOKENS], cu[] = {0, 0, 0};
    for (size_t i = 0; i < GOLDEN_TOKENS; i++)
        ids[i] = (int32_t)i % 97;
    const kf_bert_opts opts = {.max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS};
    assert_ok(kf_bert_open(d, GOLDEN_DIR "/bert_trunk", &opts, &m));
    assert_ok(kf_bert_pass_new(m, &p));
    size_t before = 0;
    for (int32_t n = 0; n <= 48; n++) {
        if (n == 1) before = n_allocations;
        cu[1] = n ? n : 20;
        cu[2] = cu[1] + 48;
        assert_ok(kf_bert_begin(p, s, &(kf_bert_input){ids, cu, 2}));
        kf_bert_layers(p, s, 0, kf_bert_config(m)->n_layers);
        assert_ok(kf_bert_finish(p, s));
        assert_ok(kf_bert_wait(p));
    }
    assert_int_equal(n_allocations - before, 0);
    kf_bert_pass_free(p);
    kf_bert_close(m);
}

static void test_decoder_step(void **state) {
    (void)state;
    kf_decoder *m = NULL;
    kf_decoder_step *steps[2];
    int32_t ids[40] = {0};
    const kf_decoder_opts opts = {.max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS};
    assert_ok(kf_decoder_open(d, GOLDEN_DIR "/qwen3", &opts, &m));
    assert_ok(kf_decoder_step_new(m, &steps[0]));
    assert_ok(kf_decoder_step_new(m, &steps[1]));
    const kf_sample_params params = {
        .temperature = 1, .top_p = 0.9f, .min_p = 0.01f, .repetition_penalty = 1.2f, .top_k = 20};
    kf_decoder_seq q[] = {{.slot = 2, .input_ids = ids, .n_tokens = 40, .sample = true, .params = params},
                          {.slot = 5, .input_ids = ids, .n_tokens = 3, .sample = true, .params = params}};
    size_t before = 0;
    for (size_t t = 0; t < 50; t++) {
        if (t == 1) before = n_allocations;
        for (size_t i = 0; i < 2; i++)
            assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(m), (size_t)q[i].slot, q[i].n_computed + q[i].n_tokens));
        assert_ok(kf_decoder_run(steps[t % 2], s, q, 2));
        for (size_t i = 0; i < 2; i++) {
            q[i].n_computed += q[i].n_tokens;
            q[i].n_tokens = 1;
            q[i].input_ids = NULL;
        }
        assert_ok(kf_decoder_wait(steps[t % 2]));
    }
    kf_kv_cache_release(kf_decoder_kv_cache(m), 2);
    assert_int_equal(n_allocations - before, 0);
    kf_decoder_step_free(steps[0]);
    kf_decoder_step_free(steps[1]);
    kf_decoder_close(m);
}

/* The count counts at all. */
static void test_opening_allocates(void **state) {
    (void)state;
    size_t before = n_allocations;
    kf_bert *m = NULL;
    const kf_bert_opts opts = {.max_tokens = 8, .max_seqs = 1};
    assert_ok(kf_bert_open(d, GOLDEN_DIR "/bert_trunk", &opts, &m));
    kf_bert_close(m);
    assert_true(n_allocations > before + 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bert_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decoder_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_opening_allocates, setup, teardown),
    };
    if (!OWN_MALLOC) {
        printf("skipped: a sanitizer brings its own malloc\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
