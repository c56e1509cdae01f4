/* Running a golden checkpoint's whole input once, on a device that the caller opened (and may have spoilt). */
#ifndef KF_TESTS_GOLDEN_RUN_H
#define KF_TESTS_GOLDEN_RUN_H

#include "checkpoint_copy.h"
#include "golden.h"

#include "model/bert.h"
#include "model/decoder.h"

enum { GOLDEN_TOKENS = 128, GOLDEN_SEQS = 8 };

/* A reference's input and what is expected of it. */
typedef struct golden_input {
    golden g;
    int32_t *ids, *cu; /* [n_tokens], [n_seqs + 1] */
    size_t n_tokens, n_seqs;
    bool is_bert;
} golden_input;

static inline golden_input golden_input_open(const char *model) {
    char path[128];
    size_t one;
    golden_input in = {.is_bert = strncmp(model, "bert", 4) == 0};
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
static inline void golden_show_heads(kf_dump to, kf_bert *m, const kf_bert_pass *p, const golden_input *in) {
    for (size_t i = 0; i < kf_bert_n_heads(m); i++) {
        const kf_head *h = kf_bert_head(m, i);
        char name[96];
        snprintf(name, sizeof name, "logits.%s", h->name);
        size_t n_rows = h->kind == KF_HEAD_TOKEN ? in->n_tokens : in->n_seqs;
        float *x = malloc(n_rows * h->n_labels * sizeof *x);
        assert_non_null(x);
        for (size_t row = 0; row < n_rows; row++)
            memcpy(x + row * h->n_labels, kf_bert_logits(p, i, row), h->n_labels * sizeof *x);
        to.tensor(to.user, name, x, n_rows, h->n_labels);
        free(x);
    }
}

static inline void golden_run_bert(kf_device *d, const char *dir, const golden_input *in, kf_dump to) {
    kf_stream *s = NULL;
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    const kf_bert_opts opts = {.max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS, .dump = to};
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_bert_open(d, dir, &opts, &m));
    assert_ok(kf_bert_pass_new(m, &p));
    assert_ok(kf_bert_begin(p, s, &(kf_bert_input){in->ids, in->cu, in->n_seqs}));
    kf_bert_layers(p, s, 0, kf_bert_config(m)->n_layers);
    assert_ok(kf_bert_finish(p, s));
    assert_ok(kf_bert_wait(p));
    golden_show_heads(to, m, p, in);
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
static inline void golden_run_decoder(kf_device *d, const char *dir, const golden_input *in, kf_dump to) {
    kf_stream *s = NULL;
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_decoder_seq seqs[GOLDEN_SEQS];
    const kf_decoder_opts opts = {.max_tokens = GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS, .dump = to};
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

/* The whole input through the model in `dir`, each tensor shown to `to`. */
static inline void golden_run(kf_device *d, const char *dir, const golden_input *in, kf_dump to) {
    if (in->is_bert)
        golden_run_bert(d, dir, in, to);
    else
        golden_run_decoder(d, dir, in, to);
}

/* What the CPU device says in f32. */
static inline void golden_record(const char *dir, const golden_input *in, recording *r) {
    kf_device *d = NULL;
    assert_ok(kf_cpu_open(&(kf_device_opts){.dtype = KF_F32, .n_threads = 2, .plain_products = true}, &d));
    golden_run(d, dir, in, (kf_dump){.tensor = record_hook, .user = r});
    kf_device_close(d);
}

/* Every tensor of the whole input on a device, held against the reference. In bf16 that is the CPU device in f32, with
 * the same weights: transformers' rounded to bf16. Returns how many tensors were compared. */
static inline size_t golden_case(const golden_device *on, const char *model) {
    kf_device *d = NULL;
    const bool bf16 = on->opts.dtype == KF_BF16;
    golden_input in = golden_input_open(model);
    comparison c = comparison_for(&in.g, on->opts.dtype);
    checkpoint_copy copy = copy_make(model, (copy_change){.gain = bf16 ? COPY_GAIN : 0});
    recording r = {0};
    if (bf16) golden_record(copy.dir, &in, &r), c.r = &r;
    assert_ok(kf_device_open(on->device, &on->opts, &d));
    printf("%s on %s\n", model, on->name);
    golden_run(d, copy.dir, &in, comparing(&c));
    printf("  %zu tensors compared, at worst %.1f %% of a limit\n", c.n_compared, 100 * c.worst_share);
    assert_int_equal(d->memory_bytes_used, 0);
    kf_device_close(d);
    copy_remove(&copy);
    recording_free(&r);
    golden_input_close(&in);
    if (c.n_over)
        fail_msg("%s: %zu of %zu tensors over the limit, first %s", model, c.n_over, c.n_compared, c.first_over);
    return c.n_compared;
}

#endif
