/* Heads: small classifiers on a shared trunk, all of them computed in the trunk's pass.
 *
 * A head beside a checkpoint is two files. DIR/heads/NAME.json:
 *     {"name": "intent", "kind": "sequence" | "token", "pooling": "cls" | "mean" | "pooler",
 *      "labels": ["purchase", …], "activation": null | "tanh" | "relu" | "gelu" | …}
 * DIR/heads/NAME.safetensors: classifier.weight [n_labels, n_in], classifier.bias [n_labels], and optionally
 * dense.weight [n_in, hidden], dense.bias [n_in] before it, followed by the activation. `pooling` is a sequence head's.
 *
 * Heads that read the same rows and have no dense layer are stacked into one product (a group).
 */
#ifndef KF_MODEL_HEADS_H
#define KF_MODEL_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "device/device.h"
#include "model/carve.h"
#include "model/config.h"
#include "model/dump.h"
#include "model/loader.h"

typedef enum kf_head_kind { KF_HEAD_SEQUENCE, KF_HEAD_TOKEN } kf_head_kind;

/* What a head reads: every token's row, or one row a sequence. */
typedef enum kf_pooling {
    KF_POOL_TOKENS, /* token heads */
    KF_POOL_CLS,    /* the first token's row */
    KF_POOL_MEAN,   /* the mean of the sequence's rows, special tokens included */
    KF_POOL_POOLER, /* tanh(W row_0 + b), the checkpoint's pooler */
    KF_N_POOLINGS
} kf_pooling;

typedef struct kf_head {
    char name[64];
    kf_head_kind kind;
    kf_pooling pooling;
    size_t n_labels;
    char **labels;            /* [n_labels] */
    size_t group_idx, column; /* where its logits are: columns [column, column + n_labels) of its group's */
} kf_head;

/* ---- for the trunk (bert.c) ---- */

typedef struct kf_head_group {
    kf_pooling pooling;
    bool has_dense;
    kf_activation act;     /* after dense */
    kf_weight *dense;      /* [n_in, hidden], or NULL: n_in == hidden */
    kf_weight *classifier; /* [n_out, n_in] */
    size_t n_in, n_out;
    size_t max_rows;
    void *hidden;       /* d->act [max_rows, n_in], dense's result */
    float *logits;      /* device f32 [max_rows, n_out] */
    size_t host_offset; /* of its logits in a pass's host buffer, in floats */
} kf_head_group;

typedef struct kf_head_set {
    kf_head *heads; /* [n_heads], the checkpoint's own first, then by name */
    size_t n_heads;
    kf_head_group *groups; /* [n_groups] */
    size_t n_groups;
    size_t hidden;
    kf_weight *pooler;           /* [hidden, hidden], NULL where the checkpoint has none */
    void *pooled[KF_N_POOLINGS]; /* d->act [max_seqs, hidden]; TOKENS is unused */
    size_t host_floats;          /* of a pass's host buffer */
    uint64_t hash;               /* of DIR/heads */
} kf_head_set;

/* Loads the checkpoint's own classifier (c->task; prefix "bert." or "" is where its pooler is) and DIR/heads. What was
 * loaded so far is kf_heads_free's, on failure too. KF_ERR_CORRUPT: a head's JSON; the statuses of kf_load_stack. */
kf_status kf_heads_load(kf_head_set *set, kf_loader *l, const char *dir, const kf_config *c, const char *prefix);
void kf_heads_free(kf_head_set *set, kf_device *d);

/* Cuts the set's activations out of the model's arena (see carve.h). */
void kf_heads_carve(kf_head_set *set, kf_carve *arena, kf_dtype act, size_t max_tokens, size_t max_seqs);

/* x: d->act [n_tokens, hidden], the trunk's last layer. Enqueues every head and the copies of its logits to host
 * [host_floats]. */
void kf_heads_forward(const kf_head_set *set, kf_stream *s, const kf_batch *b, const void *x, float *host,
                      const kf_dump *dump);

#endif
