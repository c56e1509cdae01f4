/* Aim: Qwen3, Qwen2 and Llama compute what transformers computes. Method: all prompts of a checkpoint in one ragged
 * step, every layer within 1e-5 of its largest value and the logits within 1e-4 in f32, on both kinds of products (in
 * bf16 the difference's norm within 2e-2 of the tensor's); then the greedy text, token by token with one step always
 * enqueued ahead, must be transformers' text. */
#include "golden.h"

#include "model/decoder.h"

enum { MAX_SEQS = 8, MAX_TOKENS = 96 };

static void reserve(kf_decoder *m, size_t slot, size_t n_tokens) {
    assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(m), slot, n_tokens));
}

/* The whole reply of every prompt: prompts first, then decode steps; a step is read after the next one is enqueued. */
static void greedy(kf_decoder *m, kf_stream *s, const int32_t *ids, const int32_t *cu, size_t n_seqs, size_t n_reply,
                   int32_t *out) {
    kf_decoder_step *steps[2];
    kf_decoder_seq seqs[MAX_SEQS];
    assert_ok(kf_decoder_step_new(m, &steps[0]));
    assert_ok(kf_decoder_step_new(m, &steps[1]));
    for (size_t i = 0; i < n_seqs; i++) {
        size_t n = (size_t)(cu[i + 1] - cu[i]);
        reserve(m, i, n + n_reply);
        seqs[i] = (kf_decoder_seq){.slot = (int32_t)i,
                                   .input_ids = ids + cu[i],
                                   .n_tokens = n,
                                   .sample = true,
                                   .params = {.top_p = 1, .repetition_penalty = 1}};
    }
    for (size_t t = 0; t <= n_reply; t++) {
        if (t < n_reply) assert_ok(kf_decoder_run(steps[t % 2], s, seqs, n_seqs));
        for (size_t i = 0; i < n_seqs; i++) {
            seqs[i].n_computed += seqs[i].n_tokens;
            seqs[i].n_tokens = 1;
            seqs[i].input_ids = NULL;
        }
        if (t == 0) continue;
        assert_ok(kf_decoder_wait(steps[(t - 1) % 2]));
        assert_int_equal(kf_decoder_n_results(steps[(t - 1) % 2]), n_seqs);
        for (size_t i = 0; i < n_seqs; i++) {
            assert_int_equal(kf_decoder_results(steps[(t - 1) % 2])[i].finite, 1);
            out[i * n_reply + t - 1] = kf_decoder_results(steps[(t - 1) % 2])[i].token;
        }
    }
    kf_decoder_step_free(steps[0]);
    kf_decoder_step_free(steps[1]);
}

static void golden_case(const char *model, const kf_device_opts *o, double layer_limit, double logits_limit) {
    char path[96], dir[512];
    snprintf(path, sizeof path, "%s/expected.safetensors", model);
    snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", model);
    golden g = golden_open(path);
    size_t n_tokens, n_cu, one, n_rows, n_reply;
    int32_t *ids = golden_read(&g, "input_ids", &n_tokens, &one), *cu = golden_read(&g, "cu_seqlens", &n_cu, &one);
    int32_t *want = golden_read(&g, "greedy", &n_rows, &n_reply), *text = calloc(n_rows * n_reply, sizeof *text);
    comparison c = {.g = &g, .layer_limit = layer_limit, .logits_limit = logits_limit, .by_norm = o->dtype == KF_BF16};
    kf_device *d = NULL;
    kf_stream *s = NULL;
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    assert_ok(kf_cpu_open(o, &d));
    assert_ok(kf_stream_open(d, &s));
    kf_decoder_opts opts = {
        .max_tokens = MAX_TOKENS, .max_seqs = MAX_SEQS, .dump = {.tensor = compare_hook, .user = &c}};
    assert_ok(kf_decoder_open(d, dir, &opts, &m));
    assert_ok(kf_decoder_step_new(m, &step));
    printf("%s, weights in %s\n", kf_decoder_id(m), kf_dtype_name(o->dtype));
    kf_decoder_seq seqs[MAX_SEQS];
    for (size_t i = 0; i + 1 < n_cu; i++) {
        size_t n = (size_t)(cu[i + 1] - cu[i]);
        reserve(m, i, n);
        seqs[i] = (kf_decoder_seq){.slot = (int32_t)i,
                                   .input_ids = ids + cu[i],
                                   .n_tokens = n,
                                   .sample = true,
                                   .params = {.top_p = 1, .repetition_penalty = 1}};
    }
    assert_ok(kf_decoder_run(step, s, seqs, n_cu - 1));
    assert_ok(kf_decoder_wait(step));
    printf("  %zu tensors compared, at worst %.1f %% of a limit\n", c.n_compared, 100 * c.worst_share);
    if (c.n_over)
        fail_msg("%s: %zu of %zu tensors over the limit, first %s", model, c.n_over, c.n_compared, c.first_over);
    assert_int_equal(c.n_compared, 2 + 3 * kf_decoder_config(m)->n_layers);
    for (size_t i = 0; i + 1 < n_cu; i++)
        kf_kv_cache_release(kf_decoder_kv_cache(m), i);
    kf_decoder_step_free(step);
    kf_decoder_close(m);

    opts.dump = (kf_dump){0};
    assert_ok(kf_decoder_open(d, dir, &opts, &m));
    greedy(m, s, ids, cu, n_cu - 1, n_reply, text);
    if (o->dtype == KF_F32) assert_memory_equal(text, want, n_rows * n_reply * sizeof *want);
    kf_decoder_close(m);
    kf_stream_close(s);
    assert_int_equal(d->memory_bytes_used, 0);
    kf_device_close(d);
    kf_checkpoint_close(g.file);
    free(ids);
    free(cu);
    free(want);
    free(text);
}

static const char *const models[] = {"qwen3", "qwen2", "llama"};

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
