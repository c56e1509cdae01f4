/* Aim: the BERT family computes what transformers computes. Method: checkpoints that make_golden.py made, every layer
 * within 1e-5 of its largest value and the logits within 1e-4 in f32, on both kinds of products; in bf16
 * the difference's norm within 2e-2 of the tensor's. */
#include "golden.h"

#include "model/bert.h"

typedef struct run {
    kf_device *d;
    kf_stream *s;
    kf_bert *m;
    kf_bert_pass *p;
} run;

static run open_run(const char *model, const kf_device_opts *o, comparison *c) {
    run r = {0};
    char dir[512];
    snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", model);
    assert_ok(kf_cpu_open(o, &r.d));
    assert_ok(kf_stream_open(r.d, &r.s));
    kf_bert_opts opts = {.max_tokens = 128, .max_seqs = 8, .dump = {.tensor = c ? compare_hook : NULL, .user = c}};
    assert_ok(kf_bert_open(r.d, dir, &opts, &r.m));
    assert_ok(kf_bert_pass_new(r.m, &r.p));
    return r;
}

static void close_run(run *r) {
    kf_bert_pass_free(r->p);
    kf_bert_close(r->m);
    kf_stream_close(r->s);
    assert_int_equal(r->d->memory_bytes_used, 0);
    kf_device_close(r->d);
}

static void forward(run *r, const kf_bert_input *in, size_t piece) {
    size_t n_layers = kf_bert_config(r->m)->n_layers;
    assert_ok(kf_bert_begin(r->p, r->s, in));
    for (size_t i = 0; i < n_layers; i += piece)
        kf_bert_layers(r->p, r->s, i, i + piece < n_layers ? i + piece : n_layers);
    assert_ok(kf_bert_finish(r->p, r->s));
    assert_ok(kf_bert_wait(r->p));
}

/* What a caller reads: each head's logits on the host, row by row. */
static void compare_heads(run *r, comparison *c, const kf_bert_input *in) {
    for (size_t i = 0; i < kf_bert_n_heads(r->m); i++) {
        const kf_head *h = kf_bert_head(r->m, i);
        char name[96];
        snprintf(name, sizeof name, "logits.%s", h->name);
        size_t n_rows = h->kind == KF_HEAD_TOKEN ? (size_t)in->cu_seqlens[in->n_seqs] : in->n_seqs;
        float *x = malloc(n_rows * h->n_labels * sizeof *x);
        for (size_t row = 0; row < n_rows; row++)
            memcpy(x + row * h->n_labels, kf_bert_logits(r->p, i, row), h->n_labels * sizeof *x);
        compare(c, name, x, n_rows, h->n_labels);
        free(x);
    }
}

static void golden_case(const char *model, const kf_device_opts *o, double layer_limit, double logits_limit) {
    char path[96];
    snprintf(path, sizeof path, "%s/expected.safetensors", model);
    golden g = golden_open(path);
    size_t n_tokens, n_seqs, one;
    int32_t *ids = golden_read(&g, "input_ids", &n_tokens, &one), *cu = golden_read(&g, "cu_seqlens", &n_seqs, &one);
    comparison c = {.g = &g, .layer_limit = layer_limit, .logits_limit = logits_limit, .by_norm = o->dtype == KF_BF16};
    const kf_bert_input in = {ids, cu, n_seqs - 1};
    run r = open_run(model, o, &c);
    printf("%s, weights in %s\n", model, kf_dtype_name(o->dtype));
    forward(&r, &in, 1);
    compare_heads(&r, &c, &in);
    printf("  %zu tensors compared, at worst %.1f %% of a limit\n", c.n_compared, 100 * c.worst_share);
    if (c.n_over)
        fail_msg("%s: %zu of %zu tensors over the limit, first %s", model, c.n_over, c.n_compared, c.first_over);
    close_run(&r);
    kf_checkpoint_close(g.file);
    free(ids);
    free(cu);
}

static const char *const models[] = {"bert_trunk", "bert_sequence", "bert_token"};

static void test_f32_plain(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++)
        golden_case(models[i], &(kf_device_opts){.dtype = KF_F32, .n_threads = 2, .plain_products = true}, 1e-5, 1e-4);
}

static void test_f32(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++)
        golden_case(models[i], &(kf_device_opts){.dtype = KF_F32, .n_threads = 2}, 1e-5, 1e-4);
}

static void test_bf16(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++)
        golden_case(models[i], &(kf_device_opts){.dtype = KF_BF16, .n_threads = 2}, 2e-2, 2e-2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_plain),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
