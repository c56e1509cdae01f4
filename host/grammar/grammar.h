/* What a reply must look like: a JSON schema or a regular expression becomes an automaton, and the automaton's state
 * says before each token which tokens may come (as in Willard and Louf, arXiv 2307.09702).
 *
 *     KF_TRY(kf_grammars_new(tokenizer, vocab_size, &opts, &gs));              // one for a model
 *     KF_TRY(kf_grammar_get(gs, KF_GRAMMAR_SCHEMA, schema, n_bytes, &g));      // made once, then found by its text
 *     kf_grammar_run r = kf_grammar_begin(g);
 *     while (!kf_grammar_over(&r)) {
 *         kf_grammar_mask(gs, &r, n_left, row);                                // bits of the tokens that may be drawn
 *         KF_TRY(kf_grammar_add(gs, &r, drawn));
 *     }
 *     kf_grammar_put(gs, g);
 *
 * What is promised: a text drawn under the masks to its end is one of the grammar's; no state is a dead end; and where
 * n_left tokens are as many as kf_grammar_shortest says, the text is whole within them: as they get few, the mask
 * leaves only what can still be ended. What schemas and expressions may hold: schema.h, regex.h.
 *
 * Threads: get and put belong to one thread; mask, to one other; begin, over, add, shortest: to whoever has the run.
 * A grammar stays until its last put, and then as long as it is not the oldest of those that nobody holds.
 */
#ifndef KF_GRAMMAR_GRAMMAR_H
#define KF_GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "text/tokenizer.h"

typedef struct kf_grammars kf_grammars;
typedef struct kf_grammar kf_grammar;

enum { KF_GRAMMAR_TOKEN_BYTES_MAX = 32 }; /* longer tokens are never allowed */

typedef enum kf_grammar_kind { KF_GRAMMAR_NONE, KF_GRAMMAR_SCHEMA, KF_GRAMMAR_REGEX } kf_grammar_kind;

typedef struct kf_grammars_opts {
    const int32_t *end_ids; /* [n_end_ids] tokens that end a text: allowed where it is whole, and only there */
    size_t n_end_ids;
    size_t n_kept;  /* grammars kept at most, in use or not */
    size_t n_masks; /* bit rows kept, the least recently used goes first */
} kf_grammars_opts;

/* vocab_size: of the model's logits, at least the tokenizer's. The tokenizer must outlive it. KF_ERR_NO_MEMORY. */
kf_status kf_grammars_new(const kf_tokenizer *t, size_t vocab_size, const kf_grammars_opts *o, kf_grammars **out);
void kf_grammars_free(kf_grammars *gs);
size_t kf_grammars_bytes(const kf_grammars *gs); /* of the vocabulary's tree and the masks */
size_t kf_grammars_words(const kf_grammars *gs); /* of a bit row: (vocab_size + 31) / 32 */

/* text: UTF-8, n_bytes. KF_ERR_INVALID: it is none, or nothing meets it; KF_ERR_UNSUPPORTED names the keyword and its
 * place; KF_ERR_TOO_LARGE; KF_ERR_OVERLOADED: n_kept others are in use; KF_ERR_NO_MEMORY. The texts begin with
 * "response_format". */
kf_status kf_grammar_get(kf_grammars *gs, kf_grammar_kind kind, const char *text, size_t n_bytes, kf_grammar **out);
void kf_grammar_put(kf_grammars *gs, kf_grammar *g);

/* Tokens that are enough for the shortest text. */
size_t kf_grammar_shortest(const kf_grammar *g);

/* A text under way. */
typedef struct kf_grammar_run {
    const kf_grammar *g; /* NULL: no grammar */
    uint16_t state;
    bool begun;
} kf_grammar_run;

kf_grammar_run kf_grammar_begin(const kf_grammar *g);

/* Whether the text is whole and nothing may follow: no need to draw the end. */
bool kf_grammar_over(const kf_grammar_run *r);

/* row: [words], a bit a token id: allowed with n_left tokens still to be drawn, this one counted. */
void kf_grammar_mask(kf_grammars *gs, const kf_grammar_run *r, size_t n_left, uint32_t *row);

/* The token was drawn. KF_ERR_BUG, and the run as it was: no mask allowed it. An end token changes nothing. */
kf_status kf_grammar_add(const kf_grammars *gs, kf_grammar_run *r, int32_t token);

#endif
