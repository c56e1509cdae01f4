/* The decoder's inside: its structs, and what decoder.c (the forward pass and its steps), decoder_graph.c and
 * decoder_load.c offer each other. */
#ifndef KF_MODEL_DECODER_INTERNAL_H
#define KF_MODEL_DECODER_INTERNAL_H

#include "model/decoder.h"
#include "model/loader.h"

/* RMSNorm, or LayerNorm where there is a beta. */
typedef struct kf_decoder_norm {
    float *gamma, *beta; /* f32 [hidden]; beta NULL: none */
} kf_decoder_norm;

typedef struct kf_decoder_layer {
    kf_decoder_norm norm_attention;
    kf_weight *wqkv;        /* [(n_heads + 2 n_kv_heads) * head_dim, hidden] */
    float *q_norm, *k_norm; /* f32 [head_dim], or NULL */
    kf_weight *wo;          /* [hidden, n_heads * head_dim] */
    kf_decoder_norm norm_mlp;
    kf_weight *w_gate_up; /* [2 * intermediate, hidden], or NULL: no gate */
    kf_weight *w_up;      /* [intermediate, hidden], or NULL: a gate */
    kf_weight *w_down;    /* [hidden, intermediate] */
} kf_decoder_layer;

/* A step's input: once in pinned host memory for each step, once on the device; both are cut alike, so that what was
 * filled goes over in one copy. The block table is last of that, since only n_seqs rows of it are used; masks and
 * adjustments, which few sequences have, are copied on their own. */
typedef struct kf_decoder_inputs {
    void *base;
    int32_t *input_ids, *position_ids, *slot_mapping; /* [max_tokens] */
    int32_t *seen_slots, *seen_ids;                   /* [max_tokens] prompt tokens for the repetition penalty */
    int32_t *cu_seqlens;                              /* [max_seqs + 1] */
    int32_t *kv_len;                                  /* [max_seqs] */
    int32_t *row_idx;                                 /* [max_seqs] rows that draw a token */
    kf_sample_params *params;                         /* [max_seqs] theirs */
    int32_t *block_table;                             /* [max_seqs, max_blocks] */
    uint32_t *allowed;                                /* [max_seqs, (vocab_size + 31) / 32], rows in use first */
    kf_logit_adjust *adjust;                          /* [max_seqs * (max_seqlen + KF_DECODER_BIAS_MAX)], likewise */
} kf_decoder_inputs;

enum { KF_DECODER_GRAPHS_MAX = 17 }; /* of 1 to 65536 rows */

struct kf_decoder {
    kf_device *d;
    kf_config config;
    kf_dump dump;
    kf_kv_cache *cache;
    size_t max_tokens, max_seqs, max_seqlen;
    size_t weights_bytes, arena_bytes;
    bool keep_logits;
    char id[80];
    bool *slot_used; /* host [max_seqs], scratch of run's checks */

    /* weights */
    void *embed;     /* d->act [vocab_size, hidden] */
    void *positions; /* d->act [max_positions, hidden], added to the embeddings; or NULL: RoPE has the positions */
    kf_decoder_layer *layers;
    kf_decoder_norm norm;
    kf_weight *head;    /* [vocab_size, hidden] */
    kf_rope_table rope; /* NULLs: positions has them */

    /* activations, in one block; T = max_tokens, S = max_seqs */
    void *arena;
    kf_decoder_inputs in;
    void *x;            /* d->act [T, hidden], the residual stream */
    void *normed;       /* d->act [T, hidden] */
    void *qkv;          /* d->act [T, n_heads + 2 n_kv_heads, head_dim] */
    void *context;      /* d->act [T, n_heads, head_dim] */
    void *gate_up;      /* d->act [T, 2, intermediate]; of no size where there is no gate */
    void *gated;        /* d->act [T, intermediate], what the last product of a layer reads */
    void *rows;         /* d->act [S, hidden], those that draw a token */
    float *logits;      /* f32 [S, vocab_size] */
    kf_sample_out *out; /* [S] */
    kf_sampler sampler;

    /* decode steps of 1, 2, 4, … rows, for the stream that they were captured on; none: no stream */
    kf_graph *graphs[KF_DECODER_GRAPHS_MAX];
    size_t n_graphs, graphs_bytes;
    const kf_stream *graphs_stream;
};

struct kf_decoder_step {
    kf_decoder *m;
    kf_event *done;
    void *pinned; /* all that follows */
    kf_decoder_inputs in;
    kf_sample_out *out; /* host [max_seqs] */
    float *logits;      /* host [max_seqs, vocab_size], or NULL */

    /* of the step under way */
    kf_batch batch;
    kf_paged paged;
    size_t n_rows; /* that draw a token */
    size_t n_seen;
    size_t n_allowed, n_adjust; /* rows of in.allowed, entries of in.adjust */
};

/* decoder.c: enqueues the forward pass of step->batch over m->in, and the draw of step->n_rows rows. */
void kf_decoder_forward(const kf_decoder *m, kf_stream *s, const kf_decoder_step *step);

/* decoder.c: step->batch and step->paged for n_seqs sequences of no tokens yet, over m->in. */
void kf_decoder_step_begin(kf_decoder_step *step, size_t n_seqs);

/* decoder.c: enqueues the copy of the step's input, n_seqs rows of the block table with it. */
void kf_decoder_copy_inputs(const kf_decoder_step *step, kf_stream *s, size_t n_seqs);

/* decoder_graph.c: the graph that computes this step, its input filled up to the graph's rows; NULL: there is none. */
kf_graph *kf_decoder_graph_of(kf_decoder_step *step, const kf_stream *s, const kf_decoder_seq *seqs, size_t n_seqs);
void kf_decoder_graphs_free(kf_decoder *m);

/* decoder_load.c */
kf_status kf_decoder_load_weights(kf_decoder *m, kf_loader *l);
kf_status kf_decoder_load_rope(kf_decoder *m, kf_loader *l); /* m->max_seqlen positions */
void kf_decoder_free_weights(kf_decoder *m);

#endif
