/* Bytes that are a schema or an expression: taken or refused in words, within the bounds of time and memory; and what
 * is taken can be written: a walk that follows the masks reaches a whole text in the tokens that were promised.
 *
 * Input: bytes that begin with a schema's { or another; what begins with / is an expression. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "grammar/grammar.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { END_ID = 1, SLACK = 24 };

static kf_tokenizer *tokenizer;
static kf_grammars *grammars;

static void require(int ok) {
    if (!ok) {
        fprintf(stderr, "%s at %s\n", kf_error_text(), kf_error_where());
        abort();
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const int32_t end = END_ID;
    (void)argc;
    (void)argv;
    require(kf_tokenizer_open("models/decoder", &tokenizer) == KF_OK);
    kf_grammars_opts o = {.end_ids = &end, .n_end_ids = 1, .n_kept = 2, .n_masks = 8};
    require(kf_grammars_new(tokenizer, kf_tokenizer_vocab_size(tokenizer), &o, &grammars) == KF_OK);
    return 0;
}

/* A token of the row, from one place on. */
static int32_t pick(const uint32_t *row, size_t from) {
    size_t words = kf_grammars_words(grammars), n = words * 32;
    for (size_t i = 0; i < n; i++) {
        size_t id = (from + i) % n;
        if (row[id / 32] >> id % 32 & 1) return (int32_t)id;
    }
    return -1;
}

static void walk(const kf_grammar *g, uint64_t seed) {
    static uint32_t row[1 << 12];
    kf_grammar_run r = kf_grammar_begin(g);
    require(kf_grammars_words(grammars) <= sizeof row / sizeof *row);
    bool ended = false;
    for (size_t left = kf_grammar_shortest(g) + SLACK; left > 0 && !ended && !kf_grammar_over(&r); left--) {
        kf_grammar_mask(grammars, &r, left, row);
        int32_t token = pick(row, kf_random_next(&seed) % (32 * kf_grammars_words(grammars)));
        require(token >= 0 && kf_grammar_add(grammars, &r, token) == KF_OK);
        ended = token == END_ID;
    }
    kf_grammar_mask(grammars, &r, 1, row);
    require(row[END_ID / 32] >> END_ID % 32 & 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kf_grammar_kind kind = size && data[0] == '/' ? KF_GRAMMAR_REGEX : KF_GRAMMAR_SCHEMA;
    const char *text = (const char *)data + (kind == KF_GRAMMAR_REGEX);
    kf_grammar *g;
    kf_error_clear();
    kf_status s = kf_grammar_get(grammars, kind, text, size - (kind == KF_GRAMMAR_REGEX), &g);
    if (s != KF_OK) {
        require(s != KF_ERR_BUG && !strncmp(kf_error_text(), "response_format", 15));
        return 0;
    }
    if (kf_grammar_shortest(g) < 1000) walk(g, size);
    kf_grammar_put(grammars, g);
    return 0;
}
