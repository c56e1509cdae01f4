/* The tokens of a vocabulary as a tree over their bytes, and which of them may follow in a state of an automaton.
 *
 * The tree lies in one array, parents before children, each node with the size of its subtree: a walk goes forward and
 * steps over what cannot follow. Where any plain character leads from a state to one state (inside a string), the
 * tokens that are plain characters alone are taken from ready bit rows, one for each count of characters, and only the
 * others are walked: a fifth of them or less. Read-only once made: any thread. Internal to host/grammar.
 */
#ifndef KF_GRAMMAR_TRIE_H
#define KF_GRAMMAR_TRIE_H

#include "grammar/dfa.h"
#include "grammar/grammar.h"
#include "text/tokenizer.h"

enum { KF_TOKEN_BYTES_MAX = KF_GRAMMAR_TOKEN_BYTES_MAX };

typedef struct kf_trie_node {
    int32_t token; /* that ends here, -1: none */
    uint32_t size; /* of the subtree with this node */
    uint8_t depth; /* from 1 on */
    uint8_t byte;
} kf_trie_node;

typedef struct kf_trie {
    kf_trie_node *all, *rest; /* every token; those that are not plain characters alone */
    size_t n_all, n_rest;
    uint32_t *plain;   /* [KF_TOKEN_BYTES_MAX + 1, words]: bits of the plain tokens of at most that many characters */
    size_t vocab_size; /* of the rows, at least the tokenizer's */
    size_t words;      /* of a row: (vocab_size + 31) / 32 */
    bool usable[256];  /* bytes that are a token */
    bool drops_space;  /* a text's first space is not its own (the SentencePiece kind) */
} kf_trie;

/* vocab_size: of the model's logits. Special tokens stand for nothing and are never allowed. KF_ERR_NO_MEMORY. */
kf_status kf_trie_new(const kf_tokenizer *t, size_t vocab_size, kf_trie **out);
void kf_trie_free(kf_trie *v);
size_t kf_trie_bytes(const kf_trie *v);

/* Sets allowed's bits of the tokens after which the automaton is still live, and at most `budget` bytes from a whole
 * text; the others are cleared. first: of the text. Returns the greatest distance to a whole text after one of them. */
uint16_t kf_trie_mask(const kf_trie *v, const kf_dfa *d, uint16_t state, bool first, size_t budget, uint32_t *allowed);

#endif
