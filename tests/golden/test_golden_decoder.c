/* Aim: Qwen3, Qwen2, Llama (without and with scaled RoPE) and GPT-2 compute what transformers computes. Method: all
 * prompts of a checkpoint in one ragged step, every layer within 1e-5 of its largest value and the logits within 1e-4
 * in f32, both within 2e-2 in bf16, on every device; then in f32 the greedy text, token by token with one step always
 * enqueued ahead, must be transformers' text. */
#include "golden_run.h"

static const char *const models[] = {"qwen3", "qwen2", "llama", "llama3", "llama_linear", "gpt2", "gpt2_untied"};
enum { N_MODELS = sizeof models / sizeof *models };

static void all_layers(const golden_device *on) {
    for (size_t i = 0; i < N_MODELS; i++)
        assert_true(golden_case(on, models[i]) >= 2 + 3 * 2);
}

static void test_layers(void **state) {
    (void)state;
    for_golden_devices(NULL, all_layers);
}

/* ---- greedy text ---- */

static void start_prompts(kf_decoder *m, const golden_input *in, size_t n_reply, kf_decoder_seq *seqs) {
    for (size_t i = 0; i < in->n_seqs; i++) {
        size_t n = (size_t)(in->cu[i + 1] - in->cu[i]);
        assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(m), i, n + n_reply));
        seqs[i] = (kf_decoder_seq){.slot = (int32_t)i,
                                   .input_ids = in->ids + in->cu[i],
                                   .n_tokens = n,
                                   .sample = true,
                                   .params = {.top_p = 1, .repetition_penalty = 1}};
    }
}

/* The token that was drawn is the next step's input, on the device: the host has not read it yet. */
static void go_on(kf_decoder_seq *seqs, size_t n_seqs) {
    for (size_t i = 0; i < n_seqs; i++) {
        seqs[i].n_computed += seqs[i].n_tokens;
        seqs[i].n_tokens = 1;
        seqs[i].input_ids = NULL;
    }
}

/* text [n_seqs, n_reply] */
static void write_replies(kf_decoder *m, kf_stream *s, const golden_input *in, size_t n_reply, int32_t *text) {
    kf_decoder_step *steps[2];
    kf_decoder_seq seqs[GOLDEN_SEQS];
    assert_ok(kf_decoder_step_new(m, &steps[0]));
    assert_ok(kf_decoder_step_new(m, &steps[1]));
    start_prompts(m, in, n_reply, seqs);
    for (size_t t = 0; t <= n_reply; t++) {
        if (t < n_reply) assert_ok(kf_decoder_run(steps[t % 2], s, seqs, in->n_seqs));
        go_on(seqs, in->n_seqs);
        if (t == 0) continue;
        kf_decoder_step *before = steps[(t - 1) % 2];
        assert_ok(kf_decoder_wait(before));
        assert_int_equal(kf_decoder_n_results(before), in->n_seqs);
        for (size_t i = 0; i < in->n_seqs; i++) {
            assert_int_equal(kf_decoder_results(before)[i].finite, 1);
            text[i * n_reply + t - 1] = kf_decoder_results(before)[i].token;
        }
    }
    kf_decoder_step_free(steps[0]);
    kf_decoder_step_free(steps[1]);
}

static void text_case(const golden_device *on, const char *model) {
    char dir[512];
    size_t n_rows, n_reply;
    kf_device *d = NULL;
    kf_stream *s = NULL;
    kf_decoder *m = NULL;
    snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", model);
    golden_input in = golden_input_open(model);
    int32_t *want = golden_read(&in.g, "greedy", &n_rows, &n_reply), *text = calloc(n_rows * n_reply, sizeof *text);
    assert_non_null(text);
    assert_int_equal(n_rows, in.n_seqs);
    assert_ok(kf_device_open(on->device, &on->opts, &d));
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_decoder_open(d, dir, &(kf_decoder_opts){.max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS}, &m));
    write_replies(m, s, &in, n_reply, text);
    assert_memory_equal(text, want, n_rows * n_reply * sizeof *want);
    printf("%s: %zu replies of %zu tokens are transformers'\n", model, n_rows, n_reply);
    kf_decoder_close(m);
    kf_stream_close(s);
    kf_device_close(d);
    golden_input_close(&in);
    free(want);
    free(text);
}

static void all_texts(const golden_device *on) {
    for (size_t i = 0; i < N_MODELS; i++)
        text_case(on, models[i]);
}

static void test_greedy_text(void **state) {
    (void)state;
    for_golden_devices(golden_is_f32, all_texts);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers), cmocka_unit_test(test_greedy_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
