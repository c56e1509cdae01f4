/* Aim: decoder steps as CUDA graphs say the same, bit for bit, as steps launched operation by operation, and after the
 * capture nothing is allocated, captured or waited for inside a step. Method: two models of one golden checkpoint on
 * the CPU runner, one of them captured, go through the same steps: every row count from 1 to an odd most, in changing
 * orders, prompts that join beside decode rows, sequences that leave and come back in other blocks, tables that grow,
 * two steps in flight. Tokens, log probabilities and logits are compared, and the runner's calls are counted. */
#include "golden/golden_run.h"

#include "runner.h"

enum { MAX_SEQS = 11, MAX_SEQLEN = 96, N_STEPS = 40, MAX_PROMPT = 40 };

typedef struct twin {
    kf_stream *s;
    kf_decoder *m;
    kf_decoder_step *step[2];
} twin;

static kf_device *d;
static twin graphs, plain;
static golden_input in;
static size_t vocab_size;

static void twin_open(twin *t, bool capture) {
    const kf_decoder_opts opts = {
        .max_tokens = 96, .max_seqs = MAX_SEQS, .max_seqlen = MAX_SEQLEN, .keep_logits = true};
    assert_ok(kf_stream_open(d, &t->s));
    assert_ok(kf_decoder_open(d, GOLDEN_DIR "/qwen3", &opts, &t->m));
    if (capture) assert_ok(kf_decoder_capture(t->m, t->s));
    for (int i = 0; i < 2; i++)
        assert_ok(kf_decoder_step_new(t->m, &t->step[i]));
}

static void twin_close(twin *t) {
    for (int i = 0; i < 2; i++)
        kf_decoder_step_free(t->step[i]);
    kf_decoder_close(t->m);
    kf_stream_close(t->s);
}

static void open_both(kf_dtype dtype) {
    in = golden_input_open("qwen3");
    assert_ok(kf_cuda_open(&(kf_device_opts){.dtype = dtype}, &d));
    twin_open(&graphs, true);
    twin_open(&plain, false);
    vocab_size = kf_decoder_config(plain.m)->vocab_size;
}

static void close_both(void) {
    twin_close(&graphs);
    twin_close(&plain);
    assert_int_equal(d->memory_bytes_used, 0);
    kf_device_close(d);
    golden_input_close(&in);
}

/* ---- one story for both ---- */

typedef struct story {
    size_t n_computed[MAX_SEQS]; /* 0: the slot is free */
    size_t n_rows[2];            /* of the step that ran last in each step object; 0: it was compared */
    uint64_t rng;
} story;

static unsigned draw(story *st, unsigned below) {
    st->rng ^= st->rng >> 12, st->rng ^= st->rng << 25, st->rng ^= st->rng >> 27;
    return (unsigned)((st->rng * 0x2545F4914F6CDD1Du >> 33) % below);
}

static kf_sample_params params_of(size_t slot) {
    return slot % 3 == 0 ? (kf_sample_params){.top_p = 1, .repetition_penalty = 1}
                         : (kf_sample_params){.temperature = 0.9f,
                                              .top_p = 0.9f,
                                              .min_p = 0.01f,
                                              .repetition_penalty = slot % 3 == 1 ? 1 : 1.2f,
                                              .top_k = 30,
                                              .seed_lo = (uint32_t)slot};
}

static kf_decoder_seq decode_row(story *st, size_t slot) {
    return (kf_decoder_seq){.slot = (int32_t)slot,
                            .n_tokens = 1,
                            .n_computed = st->n_computed[slot]++,
                            .sample = true,
                            .params = params_of(slot)};
}

static kf_decoder_seq prompt(story *st, size_t slot) {
    size_t n = 1 + draw(st, MAX_PROMPT);
    st->n_computed[slot] = n;
    return (kf_decoder_seq){.slot = (int32_t)slot,
                            .input_ids = in.ids + draw(st, (unsigned)(in.n_tokens - n)),
                            .n_tokens = n,
                            .sample = true,
                            .params = params_of(slot)};
}

/* Enqueues the step on both; the captured one may neither allocate nor wait. */
static void run_both(const kf_decoder_seq *seqs, size_t n, int which, bool as_graph) {
    twin *const both[] = {&graphs, &plain};
    for (int i = 0; i < 2; i++) {
        twin *t = both[i];
        for (size_t k = 0; k < n; k++)
            assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(t->m), (size_t)seqs[k].slot,
                                          seqs[k].n_computed + seqs[k].n_tokens));
        oncpu_counts before = oncpu_calls;
        assert_ok(kf_decoder_run(t->step[which], t->s, seqs, n));
        assert_int_equal(oncpu_calls.allocations, before.allocations);
        assert_int_equal(oncpu_calls.waits, before.waits);
        assert_int_equal(oncpu_calls.captures, before.captures);
        assert_int_equal(oncpu_calls.graph_launches - before.graph_launches, t == &graphs && as_graph);
        if (t == &graphs && as_graph) assert_int_equal(oncpu_calls.launches, before.launches);
    }
}

static void compare_both(story *st, int which) {
    if (st->n_rows[which] == 0) return;
    assert_ok(kf_decoder_wait(graphs.step[which]));
    assert_ok(kf_decoder_wait(plain.step[which]));
    const kf_sample_out *a = kf_decoder_results(graphs.step[which]), *b = kf_decoder_results(plain.step[which]);
    assert_int_equal(kf_decoder_n_results(graphs.step[which]), st->n_rows[which]);
    assert_memory_equal(a, b, st->n_rows[which] * sizeof *a);
    for (size_t i = 0; i < st->n_rows[which]; i++) {
        assert_true(a[i].finite);
        assert_memory_equal(kf_decoder_logits(graphs.step[which], i), kf_decoder_logits(plain.step[which], i),
                            vocab_size * sizeof(float));
    }
    st->n_rows[which] = 0;
}

static void leave(story *st, size_t slot) {
    kf_kv_cache_release(kf_decoder_kv_cache(graphs.m), slot);
    kf_kv_cache_release(kf_decoder_kv_cache(plain.m), slot);
    st->n_computed[slot] = 0;
}

/* Decode rows of at most `most` running sequences, from slot `first` on round. */
static size_t take_rows(story *st, size_t first, size_t most, kf_decoder_seq *seqs) {
    size_t n = 0;
    for (size_t i = 0; i < MAX_SEQS && n < most; i++) {
        size_t slot = (first + i) % MAX_SEQS;
        if (st->n_computed[slot] > 0 && st->n_computed[slot] < MAX_SEQLEN) seqs[n++] = decode_row(st, slot);
    }
    return n;
}

/* Prompts for at most `most` free slots. */
static size_t take_prompts(story *st, size_t most, kf_decoder_seq *seqs) {
    size_t n = 0;
    for (size_t slot = 0; slot < MAX_SEQS && n < most; slot++)
        if (st->n_computed[slot] == 0) seqs[n++] = prompt(st, slot);
    return n;
}

static void tell(uint64_t seed) {
    story st = {.rng = seed};
    kf_decoder_seq seqs[MAX_SEQS + 1];
    for (size_t t = 0; t < N_STEPS; t++) {
        int which = (int)(t % 2);
        size_t slot = draw(&st, MAX_SEQS), n = 0;
        if (t % 9 == 8) leave(&st, slot);
        if (t >= 3) n = take_rows(&st, slot, 1 + t % MAX_SEQS, seqs);
        size_t n_rows = n;
        if (n == 0 || t % 6 == 5) n += take_prompts(&st, t < 3 ? 3 : 1, seqs + n);
        compare_both(&st, which);
        run_both(seqs, n, which, n == n_rows);
        st.n_rows[which] = n;
    }
    compare_both(&st, 0);
    compare_both(&st, 1);
    for (size_t slot = 0; slot < MAX_SEQS; slot++)
        leave(&st, slot);
}

static void test_same_bits(kf_dtype dtype) {
    open_both(dtype);
    assert_int_equal(kf_decoder_n_graphs(graphs.m), 5); /* 1, 2, 4, 8 and 11 rows */
    assert_int_equal(kf_decoder_n_graphs(plain.m), 0);
    tell(dtype == KF_F32 ? 1 : 2);
    close_both();
}

static void test_f32(void **state) {
    (void)state;
    test_same_bits(KF_F32);
}

static void test_bf16(void **state) {
    (void)state;
    test_same_bits(KF_BF16);
}

/* Each row count by itself, so that none is left out by the story's chance. */
static void test_every_row_count(void **state) {
    (void)state;
    open_both(KF_F32);
    story st = {.rng = 3};
    kf_decoder_seq seqs[MAX_SEQS];
    for (size_t slot = 0; slot < MAX_SEQS; slot++) {
        seqs[0] = prompt(&st, slot);
        run_both(seqs, 1, 0, false);
        st.n_rows[0] = 1;
        compare_both(&st, 0);
    }
    for (size_t n = 1; n <= MAX_SEQS; n++)
        for (int which = 0; which < 2; which++) {
            compare_both(&st, which);
            assert_int_equal(take_rows(&st, n * 3, n, seqs), n);
            run_both(seqs, n, which, true);
            st.n_rows[which] = n;
        }
    compare_both(&st, 0);
    compare_both(&st, 1);
    close_both();
}

/* A step whose rows are not all drawn from, or that runs on another stream, is no graph. */
static void test_other_steps(void **state) {
    (void)state;
    open_both(KF_F32);
    story st = {.rng = 4};
    kf_decoder_seq seqs[2] = {prompt(&st, 0), prompt(&st, 1)};
    run_both(seqs, 2, 0, false);
    seqs[0] = decode_row(&st, 0), seqs[1] = decode_row(&st, 1);
    seqs[1].sample = false;
    run_both(seqs, 2, 1, false);
    oncpu_counts before = oncpu_calls;
    seqs[0] = decode_row(&st, 0);
    assert_ok(kf_decoder_wait(graphs.step[0]));
    assert_ok(kf_decoder_wait(graphs.step[1]));
    assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(graphs.m), 0, st.n_computed[0]));
    assert_ok(kf_decoder_run(graphs.step[0], plain.s, seqs, 1));
    assert_int_equal(oncpu_calls.graph_launches, before.graph_launches);
    assert_ok(kf_decoder_wait(graphs.step[0]));
    close_both();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_row_count), cmocka_unit_test(test_f32),
                                       cmocka_unit_test(test_bf16), cmocka_unit_test(test_other_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
