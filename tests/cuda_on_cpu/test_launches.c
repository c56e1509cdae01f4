/* Aim: a pass has as many launches as cuda/PAPER.md and tests/gpu/paper.py count: each costs about 2 us on a card,
 * which no other test sees. Method: the golden checkpoints on the CPU runner with few rows and --batch-invariant=off,
 * where every product is a kernel of ours and so is counted. Fewer launches are welcome: change both. */
#include "golden/golden_run.h"

#include "runner.h"

static const kf_device_opts opts = {.dtype = KF_BF16, .batch_invariant_off = true};

/* rmsnorm, QKV, rope_kv_write, attention, output, rmsnorm, gate and up, gated, down; before all the embedding, after
 * all gather, rmsnorm, head and sample. GPT-2 has no gate, but positions to look up and to add. */
static size_t decoder_launches(const kf_config *c) {
    return c->layout == KF_LAYOUT_GPT2 ? 8 * c->n_layers + 7 : 9 * c->n_layers + 5;
}

/* QKV, attention, output, layernorm, up with GELU, down, layernorm; before all the embedding with its layernorm, after
 * all gather, the pooler with tanh and the classifier. cublasLt's products take one launch more for GELU and tanh. */
static size_t bert_launches(const kf_config *c) {
    return 7 * c->n_layers + 4;
}

static void decoder_case(const char *name) {
    char dir[512];
    kf_device *d;
    kf_stream *s;
    kf_decoder *m;
    kf_decoder_step *step;
    const int32_t prompt[] = {1, 2, 3};
    kf_decoder_seq seq = {
        .input_ids = prompt, .n_tokens = 3, .sample = true, .params = {.top_p = 1, .repetition_penalty = 1}};
    snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", name);
    assert_ok(kf_cuda_open(&opts, &d));
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_decoder_open(d, dir, &(kf_decoder_opts){.max_tokens = 4, .max_seqs = 1, .max_seqlen = 16}, &m));
    assert_ok(kf_decoder_step_new(m, &step));
    assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(m), 0, 8));
    for (size_t i = 0; i < 2; i++) { /* the prompt, then a decode row */
        unsigned long before = oncpu_calls.launches;
        assert_ok(kf_decoder_run(step, s, &seq, 1));
        assert_ok(kf_decoder_wait(step));
        assert_int_equal(oncpu_calls.launches - before, decoder_launches(kf_decoder_config(m)));
        seq.input_ids = NULL, seq.n_tokens = 1, seq.n_computed = 3;
    }
    kf_decoder_step_free(step);
    kf_decoder_close(m);
    kf_stream_close(s);
    kf_device_close(d);
}

static void decoders(void **state) {
    (void)state;
    decoder_case("llama");
    decoder_case("qwen2");
    decoder_case("qwen3");
    decoder_case("gpt2");
}

static void bert(void **state) {
    (void)state;
    kf_device *d;
    kf_stream *s;
    kf_bert *m;
    kf_bert_pass *p;
    const int32_t ids[] = {1, 2, 3, 4, 5}, cu_seqlens[] = {0, 2, 5};
    assert_ok(kf_cuda_open(&opts, &d));
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_bert_open(d, GOLDEN_DIR "/bert_sequence", &(kf_bert_opts){.max_tokens = 8, .max_seqs = 2}, &m));
    assert_ok(kf_bert_pass_new(m, &p));
    unsigned long before = oncpu_calls.launches;
    assert_ok(kf_bert_begin(p, s, &(kf_bert_input){ids, cu_seqlens, 2}));
    kf_bert_layers(p, s, 0, kf_bert_config(m)->n_layers);
    assert_ok(kf_bert_finish(p, s));
    assert_ok(kf_bert_wait(p));
    assert_int_equal(oncpu_calls.launches - before, bert_launches(kf_bert_config(m)));
    kf_bert_pass_free(p);
    kf_bert_close(m);
    kf_stream_close(s);
    kf_device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(decoders), cmocka_unit_test(bert)};
    return cmocka_run_group_tests_name("launches", tests, NULL, NULL);
}
