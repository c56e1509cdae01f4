/* Heads: small classifiers on a shared trunk, all of them computed in the trunk's pass.
 *
 * A head beside a checkpoint is two files. DIR/heads/NAME.json:
 *     {"name": "intent", "kind": "sequence" | "token", "pooling": "cls" | "mean" | "pooler",
 *      "labels": ["purchase", …], "activation": null | "tanh" | "relu" | "gelu" | …}
 * DIR/heads/NAME.safetensors: classifier.weight [n_labels, n_in], classifier.bias [n_labels], and optionally
 * dense.weight [n_dense, hidden], dense.bias [n_dense] before it, followed by the activation.
 */
#ifndef KF_MODEL_HEADS_H
#define KF_MODEL_HEADS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "device/device.h"
#include "model/safetensors.h"

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
    char **labels; /* [n_labels] */
} kf_head;

#endif
