/* Grammars by their text, and masks by their state; see grammar.h. */
#include "grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "grammar/regex.h"
#include "grammar/schema.h"
#include "grammar/trie.h"

struct kf_grammar {
    uint64_t number; /* of all that were made: a mask's place may outlive its grammar */
    kf_grammar_kind kind;
    char *text; /* [n_bytes] */
    size_t n_bytes;
    uint32_t hash;
    kf_dfa *dfa;
    size_t n_users;
    uint64_t used; /* when, by the count of gets */
};

typedef struct mask {
    uint64_t number, used;
    uint16_t state, farthest;
    bool first;
} mask;

struct kf_grammars {
    const kf_tokenizer *tokenizer;
    kf_trie *trie;
    int32_t *end_ids; /* [n_end_ids] */
    size_t n_end_ids;

    kf_grammar **kept; /* [n_kept] NULL: a free place */
    size_t n_kept;
    uint64_t n_gets, n_made;

    mask *masks;    /* [n_masks]; number 0: empty */
    uint32_t *rows; /* [n_masks, words] */
    size_t n_masks;
    uint64_t n_masked;
};

/* ---- making one ---- */

static kf_status make_regex(const kf_grammars *gs, const char *text, size_t n_bytes, kf_dfa **out) {
    kf_nfa n;
    kf_nfa_init(&n);
    int32_t start =
        kf_regex_build(&n, "response_format: regex", text, n_bytes, KF_REGEX_WHOLE, KF_SPELL_PLAIN, KF_NFA_ACCEPT);
    kf_status s = n.status;
    KF_STEP(s, kf_dfa_new(&n, start, gs->trie->usable, out));
    kf_nfa_free(&n);
    return s;
}

/* As deep as the bounds allow. */
static kf_status make_nested(const kf_grammars *gs, const json_t *root, kf_dfa **out) {
    kf_status s = KF_ERR_TOO_LARGE;
    bool nests = true;
    for (unsigned nesting = KF_SCHEMA_NESTING_MAX; nesting > 0 && nests && s == KF_ERR_TOO_LARGE; nesting--) {
        kf_nfa n;
        kf_nfa_init(&n);
        int32_t start = kf_schema_build(&n, root, nesting, &nests);
        s = n.status;
        KF_STEP(s, kf_dfa_new(&n, start, gs->trie->usable, out));
        kf_nfa_free(&n);
    }
    return s;
}

static kf_status make_schema(const kf_grammars *gs, const char *text, size_t n_bytes, kf_dfa **out) {
    json_error_t e;
    if (n_bytes > KF_SCHEMA_BYTES_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "response_format: a schema of %zu bytes, wanted at most %d", n_bytes,
                       KF_SCHEMA_BYTES_MAX);
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!root)
        return KF_FAIL(KF_ERR_INVALID, "response_format: the schema is no JSON: line %d, column %d", e.line, e.column);
    kf_status s = make_nested(gs, root, out);
    json_decref(root);
    return s;
}

static void drop(kf_grammar *g) {
    if (!g) return;
    kf_dfa_free(g->dfa);
    free(g->text);
    free(g);
}

static kf_status make(kf_grammars *gs, kf_grammar_kind kind, const char *text, size_t n_bytes, kf_grammar **out) {
    kf_grammar *g = calloc(1, sizeof *g);
    if (g) g->text = malloc(n_bytes + 1);
    kf_status s = g && g->text ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu bytes", n_bytes);
    KF_STEP(s, kind == KF_GRAMMAR_SCHEMA ? make_schema(gs, text, n_bytes, &g->dfa)
                                         : make_regex(gs, text, n_bytes, &g->dfa));
    if (s != KF_OK) {
        drop(g);
        return s;
    }
    memcpy(g->text, text, n_bytes);
    g->n_bytes = n_bytes;
    g->kind = kind;
    g->hash = kf_fnv32(KF_FNV32_START, text, n_bytes);
    g->number = ++gs->n_made;
    *out = g;
    return KF_OK;
}

/* ---- the kept ones ---- */

static kf_grammar *find(const kf_grammars *gs, kf_grammar_kind kind, const char *text, size_t n_bytes) {
    uint32_t hash = kf_fnv32(KF_FNV32_START, text, n_bytes);
    for (size_t i = 0; i < gs->n_kept; i++) {
        kf_grammar *g = gs->kept[i];
        if (g && g->hash == hash && g->kind == kind && g->n_bytes == n_bytes && !memcmp(g->text, text, n_bytes))
            return g;
    }
    return NULL;
}

/* An empty place, or that of the one which nobody holds and was asked for least lately. NULL: all are in use. */
static kf_grammar **place(const kf_grammars *gs) {
    kf_grammar **best = NULL;
    for (size_t i = 0; i < gs->n_kept; i++) {
        kf_grammar **at = &gs->kept[i];
        if (!*at) return at;
        if (!(*at)->n_users && (!best || (*at)->used < (*best)->used)) best = at;
    }
    return best;
}

kf_status kf_grammar_get(kf_grammars *gs, kf_grammar_kind kind, const char *text, size_t n_bytes, kf_grammar **out) {
    kf_grammar *g = find(gs, kind, text, n_bytes);
    if (!g) {
        kf_grammar **at = place(gs);
        if (!at)
            return KF_FAIL(KF_ERR_OVERLOADED, "response_format: %zu others are in use: come back later", gs->n_kept);
        KF_TRY(make(gs, kind, text, n_bytes, &g));
        drop(*at);
        *at = g;
    }
    g->n_users++;
    g->used = ++gs->n_gets;
    *out = g;
    return KF_OK;
}

void kf_grammar_put(kf_grammars *gs, kf_grammar *g) {
    (void)gs;
    if (g) g->n_users--;
}

kf_status kf_grammars_new(const kf_tokenizer *t, size_t vocab_size, const kf_grammars_opts *o, kf_grammars **out) {
    kf_grammars *gs = calloc(1, sizeof *gs);
    if (!gs) return KF_FAIL(KF_ERR_NO_MEMORY, "grammars: no memory");
    *gs = (kf_grammars){.tokenizer = t, .n_end_ids = o->n_end_ids, .n_kept = o->n_kept, .n_masks = o->n_masks};
    kf_status s = kf_trie_new(t, vocab_size, &gs->trie);
    if (s == KF_OK) {
        gs->end_ids = malloc((o->n_end_ids + 1) * sizeof *gs->end_ids);
        gs->kept = calloc(o->n_kept, sizeof *gs->kept);
        gs->masks = calloc(o->n_masks, sizeof *gs->masks);
        gs->rows = calloc(o->n_masks * gs->trie->words, sizeof *gs->rows);
        if (!gs->end_ids || !gs->kept || !gs->masks || !gs->rows)
            s = KF_FAIL(KF_ERR_NO_MEMORY, "grammars: no memory for %zu masks of %zu tokens", o->n_masks, vocab_size);
    }
    if (s != KF_OK) {
        kf_grammars_free(gs);
        return s;
    }
    if (o->n_end_ids) memcpy(gs->end_ids, o->end_ids, o->n_end_ids * sizeof *gs->end_ids);
    *out = gs;
    return KF_OK;
}

void kf_grammars_free(kf_grammars *gs) {
    if (!gs) return;
    for (size_t i = 0; gs->kept && i < gs->n_kept; i++)
        drop(gs->kept[i]);
    kf_trie_free(gs->trie);
    free(gs->end_ids);
    free(gs->kept);
    free(gs->masks);
    free(gs->rows);
    free(gs);
}

size_t kf_grammars_bytes(const kf_grammars *gs) {
    return kf_trie_bytes(gs->trie) + gs->n_masks * (gs->trie->words * sizeof *gs->rows + sizeof *gs->masks);
}

size_t kf_grammars_words(const kf_grammars *gs) {
    return gs->trie->words;
}

/* ---- a text ---- */

size_t kf_grammar_shortest(const kf_grammar *g) {
    return g->dfa->distance[KF_DFA_START];
}

kf_grammar_run kf_grammar_begin(const kf_grammar *g) {
    return (kf_grammar_run){.g = g, .state = KF_DFA_START};
}

bool kf_grammar_over(const kf_grammar_run *r) {
    const kf_dfa *d = r->g->dfa;
    return d->distance[r->state] == 0 && !kf_dfa_goes_on(d, r->state);
}

/* The kept row of that state: found, or made in the place of the least lately used. */
static const mask *kept_mask(kf_grammars *gs, const kf_grammar_run *r) {
    const size_t words = gs->trie->words;
    bool first = !r->begun && gs->trie->drops_space;
    mask *oldest = &gs->masks[0];
    for (size_t i = 0; i < gs->n_masks; i++) {
        mask *m = &gs->masks[i];
        if (m->used < oldest->used) oldest = m;
        if (m->number != r->g->number || m->state != r->state || m->first != first) continue;
        m->used = ++gs->n_masked;
        return m;
    }
    uint32_t *row = gs->rows + (size_t)(oldest - gs->masks) * words;
    *oldest = (mask){.number = r->g->number, .state = r->state, .first = first, .used = ++gs->n_masked};
    oldest->farthest = kf_trie_mask(gs->trie, r->g->dfa, r->state, first, KF_DFA_STATES_MAX - 1, row);
    return oldest;
}

void kf_grammar_mask(kf_grammars *gs, const kf_grammar_run *r, size_t n_left, uint32_t *row) {
    const size_t words = gs->trie->words, budget = n_left ? n_left - 1 : 0;
    const mask *m = kept_mask(gs, r);
    if (m->farthest <= budget) {
        memcpy(row, gs->rows + (size_t)(m - gs->masks) * words, words * sizeof *row);
    } else {
        kf_trie_mask(gs->trie, r->g->dfa, r->state, m->first, budget, row);
    }
    if (r->g->dfa->distance[r->state] != 0) return;
    for (size_t i = 0; i < gs->n_end_ids; i++)
        row[gs->end_ids[i] / 32] |= 1u << gs->end_ids[i] % 32;
}

kf_status kf_grammar_add(const kf_grammars *gs, kf_grammar_run *r, int32_t token) {
    size_t n = 0, at = 0;
    for (size_t i = 0; i < gs->n_end_ids; i++)
        if (gs->end_ids[i] == token) return KF_OK;
    const char *bytes = kf_tokenizer_bytes(gs->tokenizer, token, &n);
    uint16_t state = r->state;
    if (!r->begun && gs->trie->drops_space && n && bytes[0] == ' ') at++;
    for (; at < n && state; at++)
        state = kf_dfa_next(r->g->dfa, state, (uint8_t)bytes[at]);
    if (!n || !state) return KF_FAIL(KF_ERR_BUG, "grammar: token %d was drawn, which the mask does not allow", token);
    r->state = state;
    r->begun = true;
    return KF_OK;
}
