/* Aim: the BERT family computes what transformers computes. Method: checkpoints that make_golden.py made, every layer
 * within 1e-5 of its largest value and the logits within 1e-4 in f32, on both kinds of products; in bf16 the
 * difference's norm within 2e-2 of the tensor's. */
#include "golden_run.h"

static void golden_case(const char *model, size_t n_heads, const kf_device_opts *o, double layer_limit,
                        double logits_limit) {
    char dir[512];
    kf_device *d = NULL;
    snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", model);
    golden_input in = golden_input_open(model);
    comparison c = {
        .g = &in.g, .layer_limit = layer_limit, .logits_limit = logits_limit, .by_norm = o->dtype == KF_BF16};
    assert_ok(kf_cpu_open(o, &d));
    printf("%s, weights in %s\n", model, kf_dtype_name(o->dtype));
    golden_run_bert(d, dir, &in, &c);
    printf("  %zu tensors compared, at worst %.1f %% of a limit\n", c.n_compared, 100 * c.worst_share);
    if (c.n_over)
        fail_msg("%s: %zu of %zu tensors over the limit, first %s", model, c.n_over, c.n_compared, c.first_over);
    assert_true(c.n_compared >= 1 + 3 * 2 + 2 * n_heads); /* heads are seen inside the pass and on the host */
    assert_int_equal(d->memory_bytes_used, 0);
    kf_device_close(d);
    golden_input_close(&in);
}

static void all(const kf_device_opts *o, double layer_limit, double logits_limit) {
    golden_case("bert_trunk", 6, o, layer_limit, logits_limit);
    golden_case("bert_sequence", 1, o, layer_limit, logits_limit);
    golden_case("bert_token", 1, o, layer_limit, logits_limit);
    golden_case("bert_prelu", 1, o, layer_limit, logits_limit);
}

static void test_f32_plain(void **state) {
    (void)state;
    all(&(kf_device_opts){.dtype = KF_F32, .n_threads = 2, .plain_products = true}, 1e-5, 1e-4);
}

static void test_f32(void **state) {
    (void)state;
    all(&(kf_device_opts){.dtype = KF_F32, .n_threads = 2}, 1e-5, 1e-4);
}

static void test_bf16(void **state) {
    (void)state;
    all(&(kf_device_opts){.dtype = KF_BF16, .n_threads = 2}, 2e-2, 2e-2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_plain),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
