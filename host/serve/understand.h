/* The heads' logits of one text become what the job says was understood. Heads are found by name: "intent" and
 * "sentiment" (one row a text), "entities" (a row a token; B-price, I-price, …, O) and "words" (B-n, I-n, …). A
 * checkpoint that lacks one lacks that part of the answer; its own classifier stands in for "intent" where it reads
 * whole texts and there is none of that name.
 */
#ifndef KF_SERVE_UNDERSTAND_H
#define KF_SERVE_UNDERSTAND_H

#include "base/arena.h"
#include "dialogue/conversation.h"
#include "model/bert.h"
#include "text/spans.h"
#include "text/tokenizer.h"

enum { KF_MAX_INTENTS = 5 }; /* told to a client, best first */

typedef struct kf_understander {
    const kf_bert *model;
    int32_t unk_id;                         /* -1: there is none */
    int intent, sentiment, entities, words; /* head_idx; -1: none */
    kf_tag_set entity_tags, word_tags;
    /* scratch of one text */
    float *logits; /* [max_seqlen, labels of the larger token head] */
    void *path;
    kf_span *spans; /* [max_seqlen] */
    size_t max_seqlen;
} kf_understander;

/* m and t outlive it. KF_ERR_UNSUPPORTED: a token head whose labels are not of the B- and I- form; KF_ERR_NO_MEMORY. */
kf_status kf_understander_init(kf_understander *u, const kf_bert *m, const kf_tokenizer *t);
void kf_understander_free(kf_understander *u);

typedef struct kf_understand_in {
    const kf_bert_pass *pass;
    size_t seq_idx;   /* of the pass: the row of sequence heads */
    size_t first_row; /* of the pass's tokens: the first row of token heads */
    kf_str text;
    const int32_t *ids, *start, *end; /* [n_tokens] */
    size_t n_tokens;
} kf_understand_in;

/* What is said of the text is laid in the arena; nothing else is allocated. Device thread.
 * KF_ERR_NO_MEMORY: no room in the arena; KF_ERR_CORRUPT: NaN or Inf in this text's logits. */
kf_status kf_understand(kf_understander *u, const kf_understand_in *in, kf_arena *arena, kf_understanding *out);

#endif
