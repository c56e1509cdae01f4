/* The vocabulary's tree and the walk; see trie.h. */
#include "grammar/trie.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

typedef struct token {
    const char *bytes;
    size_t n;
    int32_t id;
} token;

/* ---- making it ---- */

static int by_bytes(const void *a, const void *b) {
    const token *x = a, *y = b;
    int c = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    return c ? c : x->n != y->n ? (x->n < y->n ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

/* The tokens that stand for 1 to KF_TOKEN_BYTES_MAX bytes, sorted. */
static size_t list_tokens(const kf_tokenizer *t, size_t vocab_size, token *out) {
    size_t n = 0;
    for (size_t id = 0; id < kf_tokenizer_vocab_size(t) && id < vocab_size; id++) {
        token x = {.id = (int32_t)id};
        x.bytes = kf_tokenizer_bytes(t, x.id, &x.n);
        if (x.n > 0 && x.n <= KF_TOKEN_BYTES_MAX && !kf_tokenizer_is_special(t, x.id)) out[n++] = x;
    }
    qsort(out, n, sizeof *out, by_bytes);
    return n;
}

static size_t plain_length(const token *x) {
    size_t ignored;
    for (size_t i = 0; i < x->n; i++)
        if (!kf_plain_byte((uint8_t)x->bytes[i])) return 0;
    return kf_utf8_valid(x->bytes, x->n, &ignored) ? kf_utf8_length(x->bytes, x->n) : 0;
}

static size_t shared(const token *a, const token *b) {
    size_t n = 0;
    while (n < a->n && n < b->n && a->bytes[n] == b->bytes[n])
        n++;
    return n;
}

/* The tree of the n tokens in out, NULL: count only. Two tokens of the same bytes end in two nodes side by side. */
static size_t lay_out(const token *tokens, size_t n, kf_trie_node *out) {
    size_t n_nodes = 0, open[KF_TOKEN_BYTES_MAX + 1] = {0}, n_open = 0; /* the nodes of the token before */
    for (size_t i = 0; i <= n; i++) {
        size_t keep = i && i < n ? shared(&tokens[i - 1], &tokens[i]) : 0;
        if (i < n && keep == tokens[i].n) keep--;
        for (; n_open > keep; n_open--)
            if (out) out[open[n_open]].size = (uint32_t)(n_nodes - open[n_open]);
        for (size_t at = keep; i < n && at < tokens[i].n; at++) {
            bool last = at + 1 == tokens[i].n;
            if (out)
                out[n_nodes] = (kf_trie_node){.token = last ? tokens[i].id : -1,
                                              .depth = (uint8_t)(at + 1),
                                              .byte = (uint8_t)tokens[i].bytes[at]};
            open[++n_open] = n_nodes++;
        }
    }
    return n_nodes;
}

static kf_status make_tree(const token *tokens, size_t n, kf_trie_node **out, size_t *n_nodes) {
    *n_nodes = lay_out(tokens, n, NULL);
    *out = malloc((*n_nodes + 1) * sizeof **out);
    if (!*out) return KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu nodes of a vocabulary", *n_nodes);
    lay_out(tokens, n, *out);
    return KF_OK;
}

/* The bit rows of plain tokens; the others move to the front of `tokens`. Returns how many there are. */
static size_t take_plain(kf_trie *v, token *tokens, size_t n) {
    size_t n_rest = 0;
    for (size_t i = 0; i < n; i++) {
        size_t id = (size_t)tokens[i].id, length = plain_length(&tokens[i]);
        if (!length) tokens[n_rest++] = tokens[i];
        for (; length && length <= KF_TOKEN_BYTES_MAX; length++)
            v->plain[length * v->words + id / 32] |= 1u << id % 32;
    }
    return n_rest;
}

kf_status kf_trie_new(const kf_tokenizer *t, size_t vocab_size, kf_trie **out) {
    kf_trie *v = calloc(1, sizeof *v);
    token *tokens = malloc((vocab_size + 1) * sizeof *tokens);
    kf_status s = KF_OK;
    if (v) {
        v->vocab_size = vocab_size;
        v->words = (vocab_size + 31) / 32;
        v->plain = calloc((KF_TOKEN_BYTES_MAX + 1) * v->words, sizeof *v->plain);
    }
    if (!v || !tokens || !v->plain) {
        s = KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu tokens", vocab_size);
    } else {
        size_t n = list_tokens(t, vocab_size, tokens);
        for (size_t i = 0; i < n; i++)
            if (tokens[i].n == 1) v->usable[(uint8_t)tokens[i].bytes[0]] = true;
        v->drops_space = kf_tokenizer_drops_first_space(t);
        s = make_tree(tokens, n, &v->all, &v->n_all);
        if (s == KF_OK) s = make_tree(tokens, take_plain(v, tokens, n), &v->rest, &v->n_rest);
    }
    free(tokens);
    if (s == KF_OK) {
        *out = v;
    } else {
        kf_trie_free(v);
    }
    return s;
}

void kf_trie_free(kf_trie *v) {
    if (!v) return;
    free(v->all);
    free(v->rest);
    free(v->plain);
    free(v);
}

size_t kf_trie_bytes(const kf_trie *v) {
    return sizeof *v + (v->n_all + v->n_rest) * sizeof *v->all + (KF_TOKEN_BYTES_MAX + 1) * v->words * sizeof *v->plain;
}

/* ---- the walk ---- */

static uint16_t walk(const kf_trie_node *nodes, size_t n, const kf_dfa *d, uint16_t state, bool drop_space,
                     size_t budget, uint32_t *allowed) {
    uint16_t states[KF_TOKEN_BYTES_MAX + 1] = {state}, farthest = 0;
    for (size_t i = 0; i < n;) {
        const kf_trie_node *x = &nodes[i];
        uint16_t before = states[x->depth - 1], s = kf_dfa_next(d, before, x->byte);
        if (drop_space && x->depth == 1 && x->byte == ' ') s = before;
        if (s == KF_DFA_DEAD) {
            i += x->size;
            continue;
        }
        states[x->depth] = s;
        i++;
        if (x->token < 0 || d->distance[s] > budget) continue;
        allowed[x->token / 32] |= 1u << x->token % 32;
        if (d->distance[s] > farthest) farthest = d->distance[s];
    }
    return farthest;
}

/* How many plain characters may follow, each kind of them, up to KF_TOKEN_BYTES_MAX; 0 where that says nothing of the
 * plain tokens: one of the states on the way is too far from a whole text, or the last still tells characters apart. */
static size_t plain_run(const kf_dfa *d, uint16_t state, size_t budget, uint16_t *farthest) {
    size_t n = 0;
    while (n < KF_TOKEN_BYTES_MAX && d->plain[state]) {
        state = d->plain[state];
        n++;
        if (d->distance[state] > budget) return 0;
        if (d->distance[state] > *farthest) *farthest = d->distance[state];
    }
    for (unsigned b = 0; n < KF_TOKEN_BYTES_MAX && b < 256; b++)
        if (kf_plain_byte((uint8_t)b) && kf_dfa_next(d, state, (uint8_t)b)) return 0;
    return n;
}

uint16_t kf_trie_mask(const kf_trie *v, const kf_dfa *d, uint16_t state, bool first, size_t budget, uint32_t *allowed) {
    uint16_t farthest = 0;
    bool drop_space = first && v->drops_space;
    size_t n = drop_space ? 0 : plain_run(d, state, budget, &farthest);
    if (n == 0) {
        memset(allowed, 0, v->words * sizeof *allowed);
        return walk(v->all, v->n_all, d, state, drop_space, budget, allowed);
    }
    memcpy(allowed, v->plain + n * v->words, v->words * sizeof *allowed);
    uint16_t of_rest = walk(v->rest, v->n_rest, d, state, false, budget, allowed);
    return of_rest > farthest ? of_rest : farthest;
}
