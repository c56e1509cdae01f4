/* Aim: an answer never depends on its company (promise 3 of DESIGN.md). Method: every sequence of a golden checkpoint
 * alone, twice in a batch, in the whole batch and in the batch turned round must give the same bits; a decoder's prompt
 * whole, cut into chunks of every kind, preempted, and beside others must give the same bits, and so must the tokens
 * after it. All of it on every device that promises it, in f32 and bf16. And a device whose products depend on the
 * number of rows, by one part in ten million, must be found out. */
#include "golden_run.h"
#include "spoil.h"

enum { REPLY = 6 };

typedef struct bed {
    kf_device *d;
    kf_stream *s;
    golden_input in;
    char dir[512];
    size_t n_differ; /* answers whose bits are not those of the sequence alone */
} bed;

/* Set: a linear layer's first result is larger by 1e-7 of itself for every row beyond the first. */
static bool rows_matter;

static void linear_by_rows(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n, kf_linear_opts o) {
    right.linear(s, out, x, w, n, o);
    float *first = fetch(s, out, sizeof *first);
    *first *= 1 + 1e-7f * (float)(n - 1);
    store(s, out, first, sizeof *first);
    free(first);
}

static bed bed_open(const char *model, const golden_device *on) {
    bed b = {.in = golden_input_open(model)};
    snprintf(b.dir, sizeof b.dir, GOLDEN_DIR "/%s", model);
    assert_ok(kf_device_open(on->device, &on->opts, &b.d));
    spoil_open(b.d);
    spoilt.linear = linear_by_rows;
    if (rows_matter) b.d->ops = &spoilt;
    assert_ok(kf_stream_open(b.d, &b.s));
    return b;
}

static size_t bed_close(bed *b) {
    kf_stream_close(b->s);
    if (rows_matter) b->d->ops = &right;
    kf_device_close(b->d);
    golden_input_close(&b->in);
    return b->n_differ;
}

static size_t length_of(const bed *b, size_t seq) {
    return (size_t)(b->in.cu[seq + 1] - b->in.cu[seq]);
}

/* ---- BERT ---- */

typedef struct encoder {
    kf_bert *m;
    kf_bert_pass *p;
    float *alone[GOLDEN_SEQS]; /* every head's logits of one sequence, end to end */
} encoder;

/* The sequences whose indices are in `seqs`, in that order, in one pass that is cut every `piece` layers. */
static void encode(bed *b, encoder *e, const size_t *seqs, size_t n_seqs, size_t piece) {
    int32_t ids[GOLDEN_TOKENS * 2], cu[GOLDEN_SEQS * 2 + 1] = {0};
    for (size_t i = 0; i < n_seqs; i++) {
        memcpy(ids + cu[i], b->in.ids + b->in.cu[seqs[i]], length_of(b, seqs[i]) * sizeof *ids);
        cu[i + 1] = cu[i] + (int32_t)length_of(b, seqs[i]);
    }
    size_t n_layers = kf_bert_config(e->m)->n_layers;
    assert_ok(kf_bert_begin(e->p, b->s, &(kf_bert_input){ids, cu, n_seqs}));
    for (size_t i = 0; i < n_layers; i += piece)
        kf_bert_layers(e->p, b->s, i, i + piece < n_layers ? i + piece : n_layers);
    assert_ok(kf_bert_finish(e->p, b->s));
    assert_ok(kf_bert_wait(e->p));
}

/* Copies what the pass says of its i-th sequence, whose first token is row `first`. Returns how many floats. */
static size_t answers(const encoder *e, size_t i, size_t first, size_t n_tokens, float *out) {
    size_t n = 0;
    for (size_t h = 0; h < kf_bert_n_heads(e->m); h++) {
        const kf_head *head = kf_bert_head(e->m, h);
        bool token = head->kind == KF_HEAD_TOKEN;
        for (size_t row = 0; row < (token ? n_tokens : 1); row++, n += head->n_labels)
            memcpy(out + n, kf_bert_logits(e->p, h, token ? first + row : i), head->n_labels * sizeof *out);
    }
    return n;
}

static void same_as_alone(bed *b, encoder *e, const size_t *seqs, size_t n_seqs, size_t piece) {
    float now[GOLDEN_TOKENS * 16];
    encode(b, e, seqs, n_seqs, piece);
    for (size_t i = 0, first = 0; i < n_seqs; first += length_of(b, seqs[i]), i++) {
        size_t n = answers(e, i, first, length_of(b, seqs[i]), now);
        b->n_differ += memcmp(now, e->alone[seqs[i]], n * sizeof *now) != 0;
    }
}

static size_t bert_case(const char *model, const golden_device *on) {
    bed b = bed_open(model, on);
    encoder e = {0};
    const kf_bert_opts opts = {.max_tokens = 2 * GOLDEN_TOKENS, .max_seqs = 2 * GOLDEN_SEQS};
    assert_ok(kf_bert_open(b.d, b.dir, &opts, &e.m));
    assert_ok(kf_bert_pass_new(e.m, &e.p));
    size_t forwards[GOLDEN_SEQS], backwards[GOLDEN_SEQS];
    for (size_t i = 0; i < b.in.n_seqs; i++) {
        e.alone[i] = malloc(GOLDEN_TOKENS * 16 * sizeof(float));
        assert_non_null(e.alone[i]);
        encode(&b, &e, &i, 1, 1);
        answers(&e, 0, 0, length_of(&b, i), e.alone[i]);
        forwards[i] = i;
        backwards[b.in.n_seqs - 1 - i] = i;
    }
    for (size_t i = 0; i < b.in.n_seqs; i++) {
        same_as_alone(&b, &e, (size_t[]){i}, 1, 2);
        same_as_alone(&b, &e, (size_t[]){i, i}, 2, 1);
    }
    same_as_alone(&b, &e, forwards, b.in.n_seqs, 100);
    same_as_alone(&b, &e, backwards, b.in.n_seqs, 1);
    for (size_t i = 0; i < b.in.n_seqs; i++)
        free(e.alone[i]);
    kf_bert_pass_free(e.p);
    kf_bert_close(e.m);
    return bed_close(&b);
}

static void bert_models(const golden_device *on) {
    assert_int_equal(bert_case("bert_trunk", on), 0);
    assert_int_equal(bert_case("bert_sequence", on), 0);
    assert_int_equal(bert_case("bert_token", on), 0);
}

static void test_bert(void **state) {
    (void)state;
    for_golden_devices(golden_is_invariant, bert_models);
}

/* ---- decoders ---- */

/* What a sequence said: the logits before each token of its reply, and the tokens. */
typedef struct story {
    float *logits; /* [REPLY, vocab_size] */
    int32_t tokens[REPLY];
} story;

typedef struct writer {
    kf_decoder *m;
    kf_decoder_step *step;
    size_t vocab_size;
} writer;

/* How a prompt is cut: chunk lengths in turn, the last one again and again; beside how many others it runs. */
typedef struct cut {
    size_t chunks[4];
    size_t n_others;
    size_t preempt_at; /* the reply's tokens before its blocks are taken away and all is computed anew; 0: never */
} cut;

static const kf_sample_params sampled = {
    .temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1.3f, .top_k = 40, .seed_lo = 7, .seed_hi = 9};

/* One step: the sequence's next tokens, and every other prompt from its start, in slots after and before. */
static void run_beside(bed *b, writer *w, kf_decoder_seq own, size_t n_others, bool own_first) {
    kf_decoder_seq seqs[GOLDEN_SEQS];
    size_t n = 0;
    if (own_first) seqs[n++] = own;
    for (size_t i = 0; i < n_others; i++) {
        size_t other = i % b->in.n_seqs;
        seqs[n++] = (kf_decoder_seq){.slot = (int32_t)(i < (size_t)own.slot ? i : i + 1),
                                     .input_ids = b->in.ids + b->in.cu[other],
                                     .n_tokens = length_of(b, other) / 2 + 1,
                                     .sample = true,
                                     .params = sampled};
        assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(w->m), (size_t)seqs[n - 1].slot, seqs[n - 1].n_tokens));
    }
    if (!own_first) seqs[n++] = own;
    assert_ok(kf_decoder_run(w->step, b->s, seqs, n));
    assert_ok(kf_decoder_wait(w->step));
}

/* A preempted sequence: its prompt and the reply so far are one longer prompt, in other blocks. */
static kf_decoder_seq from_the_start(bed *b, writer *w, size_t seq, int32_t slot, const int32_t *tokens, size_t n) {
    static int32_t ids[GOLDEN_TOKENS];
    const size_t n_prompt = length_of(b, seq);
    memcpy(ids, b->in.ids + b->in.cu[seq], n_prompt * sizeof *ids);
    memcpy(ids + n_prompt, tokens, n * sizeof *ids);
    kf_kv_cache_release(kf_decoder_kv_cache(w->m), (size_t)slot);
    assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(w->m), (size_t)slot, n_prompt + REPLY));
    return (kf_decoder_seq){
        .slot = slot, .input_ids = ids, .n_tokens = n_prompt + n, .sample = true, .params = sampled};
}

static void tell(bed *b, writer *w, size_t seq, int32_t slot, cut how, story *out) {
    kf_kv_cache *kv = kf_decoder_kv_cache(w->m);
    const size_t n_prompt = length_of(b, seq);
    const bool own_first = how.n_others % 2 == 0;
    const size_t row = own_first ? 0 : how.n_others; /* of its result, where all draw a token */
    assert_ok(kf_kv_cache_reserve(kv, (size_t)slot, n_prompt + REPLY));
    for (size_t done = 0, i = 0; done < n_prompt; i += i < 3) {
        size_t n = how.chunks[i] < n_prompt - done ? how.chunks[i] : n_prompt - done;
        kf_decoder_seq own = {.slot = slot,
                              .input_ids = b->in.ids + b->in.cu[seq] + done,
                              .n_tokens = n,
                              .n_computed = done,
                              .sample = done + n == n_prompt,
                              .params = sampled};
        run_beside(b, w, own, how.n_others, own_first);
        done += n;
    }
    for (size_t t = 0; t < REPLY; t++) {
        out->tokens[t] = kf_decoder_results(w->step)[row].token;
        memcpy(out->logits + t * w->vocab_size, kf_decoder_logits(w->step, row), w->vocab_size * sizeof(float));
        kf_decoder_seq own = {
            .slot = slot, .n_tokens = 1, .n_computed = n_prompt + t, .sample = true, .params = sampled};
        if (t + 1 == how.preempt_at) own = from_the_start(b, w, seq, slot, out->tokens, t + 1);
        if (t + 1 < REPLY) run_beside(b, w, own, how.n_others, own_first);
    }
    for (size_t i = 0; i < GOLDEN_SEQS; i++)
        kf_kv_cache_release(kv, i);
}

static size_t decoder_case(const char *model, const golden_device *on) {
    static const cut cuts[] = {{{1, 1, 1, 1}, 0, 0},   {{3, 5, 2, 7}, 0, 3},   {{16, 16, 16, 16}, 0, 0},
                               {{15, 2, 1, 30}, 3, 1}, {{100, 1, 1, 1}, 4, 5}, {{2, 17, 1, 4}, 5, 0}};
    bed b = bed_open(model, on);
    writer w = {0};
    const kf_decoder_opts opts = {.max_tokens = 2 * GOLDEN_TOKENS, .max_seqs = GOLDEN_SEQS, .keep_logits = true};
    assert_ok(kf_decoder_open(b.d, b.dir, &opts, &w.m));
    assert_ok(kf_decoder_step_new(w.m, &w.step));
    w.vocab_size = kf_decoder_config(w.m)->vocab_size;
    story alone, now;
    alone.logits = calloc(REPLY, w.vocab_size * sizeof(float));
    now.logits = calloc(REPLY, w.vocab_size * sizeof(float));
    assert_true(alone.logits && now.logits);
    for (size_t seq = 0; seq < b.in.n_seqs; seq++) {
        tell(&b, &w, seq, 0, (cut){{100, 1, 1, 1}, 0, 0}, &alone);
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
            tell(&b, &w, seq, (int32_t)i % GOLDEN_SEQS, cuts[i], &now);
            b.n_differ += memcmp(now.tokens, alone.tokens, sizeof now.tokens) != 0 ||
                          memcmp(now.logits, alone.logits, REPLY * w.vocab_size * sizeof(float)) != 0;
        }
    }
    free(alone.logits);
    free(now.logits);
    kf_decoder_step_free(w.step);
    kf_decoder_close(w.m);
    return bed_close(&b);
}

static void decoder_models(const golden_device *on) {
    assert_int_equal(decoder_case("qwen3", on), 0);
    assert_int_equal(decoder_case("qwen2", on), 0);
    assert_int_equal(decoder_case("llama", on), 0);
    assert_int_equal(decoder_case("gpt2", on), 0);
}

static void test_decoders(void **state) {
    (void)state;
    for_golden_devices(golden_is_invariant, decoder_models);
}

static void models_whose_rows_matter(const golden_device *on) {
    rows_matter = true;
    assert_true(bert_case("bert_trunk", on) > 0);
    assert_true(bert_case("bert_token", on) > 0);
    assert_true(decoder_case("qwen3", on) > 0);
    assert_true(decoder_case("llama", on) > 0);
    rows_matter = false;
}

static void test_finds_out_a_device_whose_rows_matter(void **state) {
    (void)state;
    for_golden_devices(golden_is_f32_invariant, models_whose_rows_matter);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bert), cmocka_unit_test(test_decoders),
                                       cmocka_unit_test(test_finds_out_a_device_whose_rows_matter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
