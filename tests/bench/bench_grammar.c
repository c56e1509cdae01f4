/* What masks cost: every state that random replies under a few schemas come through, the first time and from the kept
 * rows, and what a schema costs to lay out.
 *
 *     build/release/tests/bench_grammar models/decoder        # any folder with a tokenizer.json; Qwen2.5's: 151,936
 * rows
 *
 * "per token" is what a decoder's step waits for, fresh masks and kept ones as they come in the replies; "fresh" the
 * same with no row kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "grammar/grammar.h"

enum { N_REPLIES = 40, N_LEFT = 256 };

static const struct {
    const char *name;
    kf_grammar_kind kind;
    const char *text;
} cases[] = {
    {"a free string", KF_GRAMMAR_SCHEMA, "{\"type\":\"string\"}"},
    {"an order", KF_GRAMMAR_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"intent\":{\"enum\":[\"return\",\"exchange\",\"refund\",\"ask\"]},"
     "\"order\":{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}[0-9]{8}$\"},\"reason\":{\"type\":\"string\",\"maxLength\":"
     "200},\"items\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"sku\":{\"type\":\"string\"},"
     "\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":99}},\"required\":[\"sku\",\"n\"]},\"maxItems\":5}},"
     "\"required\":[\"intent\",\"order\",\"reason\",\"items\"]}"},
    {"any JSON", KF_GRAMMAR_SCHEMA, "{}"},
    {"words", KF_GRAMMAR_REGEX, "[a-z]+( [a-z]+){0,20}"},
    {"Chinese", KF_GRAMMAR_REGEX, "([一-龥]{1,20}[，。])+"},
};

static int32_t draw(const uint32_t *row, size_t words, uint64_t *seed) {
    size_t n = 0;
    for (size_t w = 0; w < words; w++)
        n += (size_t)__builtin_popcount(row[w]);
    size_t pick = n ? kf_random_next(seed) % n : 0;
    for (size_t w = 0; w < words; w++) {
        size_t here = (size_t)__builtin_popcount(row[w]);
        for (uint32_t bits = row[w]; pick < here && bits; bits &= bits - 1)
            if (pick-- == 0) return (int32_t)(w * 32 + (size_t)__builtin_ctz(bits));
        pick -= here;
    }
    return -1;
}

/* The time of the masks of all replies, each a token. */
static int run(kf_grammars *gs, size_t i, const char *what) {
    size_t words = kf_grammars_words(gs), n_masks = 0;
    uint32_t *row = malloc(words * sizeof *row);
    int64_t begin = kf_clock_now_ns(), spent = 0;
    uint64_t seed = 3;
    kf_grammar *g;
    if (!row || kf_grammar_get(gs, cases[i].kind, cases[i].text, strlen(cases[i].text), &g) != KF_OK) {
        fprintf(stderr, "%s: %s\n", cases[i].name, kf_error_text());
        free(row);
        return 1;
    }
    double made_ms = (double)(kf_clock_now_ns() - begin) / 1e6;
    for (size_t reply = 0; reply < N_REPLIES; reply++) {
        kf_grammar_run r = kf_grammar_begin(g);
        for (size_t left = N_LEFT; left > 0 && !kf_grammar_over(&r); left--, n_masks++) {
            begin = kf_clock_now_ns();
            kf_grammar_mask(gs, &r, left, row);
            spent += kf_clock_now_ns() - begin;
            int32_t token = draw(row, words, &seed);
            if (token < 0 || kf_grammar_add(gs, &r, token) != KF_OK) break;
        }
    }
    kf_grammar_put(gs, g);
    free(row);
    printf("%-14s %-6s %8.2f ms to lay out  %7.4f ms per token of %zu\n", cases[i].name, what, made_ms,
           (double)spent / 1e6 / (double)n_masks, n_masks);
    return 0;
}

static int run_all(const kf_tokenizer *t, size_t n_kept, const char *what) {
    size_t vocab_size = (kf_tokenizer_vocab_size(t) + 127) / 128 * 128;
    int64_t begin = kf_clock_now_ns();
    kf_grammars *gs;
    if (kf_grammars_new(t, vocab_size, &(kf_grammars_opts){.n_kept = 8, .n_masks = n_kept}, &gs) != KF_OK) return 1;
    printf("%zu tokens, %zu rows kept: tree in %.0f ms, %.1f MB\n", vocab_size, n_kept,
           (double)(kf_clock_now_ns() - begin) / 1e6, (double)kf_grammars_bytes(gs) / 1e6);
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases && !failed; i++)
        failed = run(gs, i, what);
    kf_grammars_free(gs);
    return failed;
}

int main(int argc, char **argv) {
    kf_tokenizer *t;
    if (argc != 2 || kf_tokenizer_open(argv[1], &t) != KF_OK) {
        fprintf(stderr, "usage: bench_grammar DIR; %s\n", kf_error_text());
        return 2;
    }
    int failed = run_all(t, 256, "kept") || run_all(t, 1, "fresh");
    kf_tokenizer_close(t);
    return failed;
}
