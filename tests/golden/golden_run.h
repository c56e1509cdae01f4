/* Running a golden checkpoint's whole input once, on a device that the caller opened (and may have spoilt). */
#ifndef KF_TESTS_GOLDEN_RUN_H
#define KF_TESTS_GOLDEN_RUN_H

#include "golden.h"

#include "model/bert.h"
#include "model/decoder.h"

enum { GOLDEN_TOKENS = 128, GOLDEN_SEQS = 8 };

/* A reference's input and what is expected of it. */
typedef struct golden_input {
    golden g;
    int32_t *ids, *cu; /* [n_tokens], [n_seqs + 1] */
    size_t n_tokens, n_seqs;
} golden_input;

static inline golden_input golden_input_open(const char *model) {
    char path[128];
    size_t one;
    golden_input in = {0};
    snprintf(path, sizeof path, "%s/expected.safetensors", model);
    in.g = golden_open(path);
    in.ids = golden_read(&in.g, "input_ids", &in.n_tokens, &one);
    in.cu = golden_read(&in.g, "cu_seqlens", &in.n_seqs, &one);
    in.n_seqs--;
    return in;
}

static inline void golden_input_close(golden_input *in) {
    kf_checkpoint_close(in->g.file);
    free(in->ids);
    free(in->cu);
}

/* What a caller reads: each head's logits on the host, row by row. */
static inline void golden_compare_heads(comparison *c, kf_bert *m, const kf_bert_pass *p, const golden_input *in) {
    for (size_t i = 0; i < kf_bert_n_heads(m); i++) {
        const kf_head *h = kf_bert_head(m, i);
        char name[96];
        snprintf(name, sizeof name, "logits.%s", h->name);
        size_t n_rows = h->kind == KF_HEAD_TOKEN ? in->n_tokens : in->n_seqs;
        float *x = malloc(n_rows * h->n_labels * sizeof *x);
        assert_non_null(x);
        for (size_t row = 0; row < n_rows; row++)
            memcpy(x + row * h->n_labels, kf_bert_logits(p, i, row), h->n_labels * sizeof *x);
        compare(c, name, x, n_rows, h->n_labels);
        free(x);
    }
}

static inline void golden_run_bert(kf_device *d, const char *dir, const golden_input *in, comparison *c) {
    kf_stream *s = NULL;
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    const kf_bert_opts opts = {
        .max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS, .dump = {.tensor = compare_hook, .user = c}};
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_bert_open(d, dir, &opts, &m));
    assert_ok(kf_bert_pass_new(m, &p));
    assert_ok(kf_bert_begin(p, s, &(kf_bert_input){in->ids, in->cu, in->n_seqs}));
    kf_bert_layers(p, s, 0, kf_bert_config(m)->n_layers);
    assert_ok(kf_bert_finish(p, s));
    assert_ok(kf_bert_wait(p));
    golden_compare_heads(c, m, p, in);
    kf_bert_pass_free(p);
    kf_bert_close(m);
    kf_stream_close(s);
}

/* The cache as zeros, so that a spoilt device which reads too far reads the same every time. */
static inline void golden_clear_cache(kf_stream *s, kf_decoder *m) {
    kf_kv_cache *kv = kf_decoder_kv_cache(m);
    size_t n_layers = kf_decoder_config(m)->n_layers, bytes = kf_kv_cache_bytes(kv) / n_layers / 2;
    for (size_t i = 0; i < n_layers; i++) {
        kf_fill_zero(s, kf_kv_cache_layer(kv, i).k, bytes);
        kf_fill_zero(s, kf_kv_cache_layer(kv, i).v, bytes);
    }
}

/* All prompts in one step. */
static inline void golden_run_decoder(kf_device *d, const char *dir, const golden_input *in, comparison *c) {
    kf_stream *s = NULL;
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_decoder_seq seqs[GOLDEN_SEQS];
    const kf_decoder_opts opts = {
        .max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS, .dump = {.tensor = compare_hook, .user = c}};
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_decoder_open(d, dir, &opts, &m));
    assert_ok(kf_decoder_step_new(m, &step));
    golden_clear_cache(s, m);
    for (size_t i = 0; i < in->n_seqs; i++) {
        size_t n = (size_t)(in->cu[i + 1] - in->cu[i]);
        assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(m), i, n + 1));
        seqs[i] = (kf_decoder_seq){.slot = (int32_t)i,
                                   .input_ids = in->ids + in->cu[i],
                                   .n_tokens = n,
                                   .sample = true,
                                   .params = {.top_p = 1, .repetition_penalty = 1}};
    }
    assert_ok(kf_decoder_run(step, s, seqs, in->n_seqs));
    assert_ok(kf_decoder_wait(step));
    kf_decoder_step_free(step);
    kf_decoder_close(m);
    kf_stream_close(s);
}

#endif
