/* BERT's forward pass (1810.04805, post-norm), its weights and its passes. The forward pass comes first.
 * Run its tests: ctest -R 'test_golden_bert|test_bert'. */
#include "model/bert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "model/carve.h"
#include "model/loader.h"
#include "model/prelu.h"

typedef struct norm {
    float *gamma, *beta; /* f32 [hidden] */
} norm;

typedef struct bert_layer {
    kf_weight *wqkv;   /* [3 * hidden, hidden], bias: Q, K and V in one product */
    kf_weight *wo;     /* [hidden, hidden], bias */
    norm ln_attention; /* after the attention's residual */
    kf_weight *w_up;   /* [intermediate, hidden], bias */
    kf_weight *w_down; /* [hidden, intermediate], bias */
    norm ln_output;    /* after the feed-forward's residual */
} bert_layer;

struct kf_bert {
    kf_device *d;
    kf_config config;
    kf_head_set heads;
    kf_dump dump;
    size_t max_tokens, max_seqs;
    size_t weights_bytes, arena_bytes;
    char id[80];
    const kf_bert_pass *under_way; /* begun and not finished: the activations are its */

    /* weights */
    void *word;     /* d->act [vocab_size, hidden] */
    void *position; /* d->act [max_positions, hidden] */
    void *type0;    /* d->act [hidden]: every token is of type 0 */
    norm ln_embeddings;
    bert_layer *layers; /* [n_layers] */

    /* activations, in one block; T = max_tokens */
    void *arena;
    void *x;                           /* d->act [T, hidden] */
    void *qkv;                         /* d->act [T, 3, n_heads, head_dim] */
    void *context;                     /* d->act [T, n_heads, head_dim] */
    void *y;                           /* d->act [T, hidden] */
    void *up;                          /* d->act [T, intermediate], twice as wide with prelu */
    int32_t *input_ids, *position_ids; /* device [T] */
    int32_t *cu_seqlens;               /* device [max_seqs + 1] */
};

struct kf_bert_pass {
    kf_bert *m;
    kf_event *done;
    void *pinned;                      /* all that follows */
    int32_t *input_ids, *position_ids; /* host [max_tokens] */
    int32_t *cu_seqlens;               /* host [max_seqs + 1] */
    float *logits;                     /* host [heads.host_floats] */
    kf_batch batch;                    /* of the pass under way */
};

/* ---- the forward pass ---- */

static void layernorm(kf_stream *s, void *out, const void *x, const norm *ln, float eps, size_t n, size_t hidden) {
    kf_layernorm(s, out, x, ln->gamma, ln->beta, eps, n, hidden);
}

/* x [n, hidden] = LayerNorm(word + position + type) */
static void forward_embeddings(const kf_bert *m, kf_stream *s, const kf_batch *b) {
    const kf_config *c = &m->config;
    const kf_bert_embeddings e = {.word = m->word,
                                  .position = m->position,
                                  .type0 = m->type0,
                                  .gamma = m->ln_embeddings.gamma,
                                  .beta = m->ln_embeddings.beta,
                                  .eps = c->eps};
    kf_embed_bert(s, m->x, &e, c->hidden, b);
    KF_DUMP_ROWS(m, s, m->x, b->n_tokens, c->hidden, "embeddings");
}

/* One encoder layer: x [n, hidden] in and out. */
static void forward_layer(const kf_bert *m, kf_stream *s, const kf_batch *b, size_t layer_idx) {
    const kf_config *c = &m->config;
    const bert_layer *l = &m->layers[layer_idx];
    const size_t n = b->n_tokens;
    const kf_heads heads = {c->n_heads, c->n_heads, c->head_dim, 1.0f / sqrtf((float)c->head_dim)};

    /* Self-attention, each sequence among itself. */
    kf_linear(s, m->qkv, m->x, l->wqkv, n, (kf_linear_opts){0});
    kf_attention(s, m->context, m->qkv, b, heads);
    KF_DUMP_ROWS(m, s, m->context, n, c->hidden, "layers.%zu.context", layer_idx);

    /* y = LayerNorm(x + context Woᵀ + bo) */
    kf_linear(s, m->y, m->context, l->wo, n, (kf_linear_opts){.residual = m->x});
    layernorm(s, m->y, m->y, &l->ln_attention, c->eps, n, c->hidden);
    KF_DUMP_ROWS(m, s, m->y, n, c->hidden, "layers.%zu.attention", layer_idx);

    /* x = LayerNorm(y + act(y Wupᵀ + bup) Wdownᵀ + bdown) */
    kf_linear(s, m->up, m->y, l->w_up, n, (kf_linear_opts){.act = c->act});
    kf_linear(s, m->x, m->up, l->w_down, n, (kf_linear_opts){.residual = m->y});
    layernorm(s, m->x, m->x, &l->ln_output, c->eps, n, c->hidden);
    KF_DUMP_ROWS(m, s, m->x, n, c->hidden, "layers.%zu.output", layer_idx);
}

/* ---- passes ---- */

static kf_status check_input(const kf_bert *m, const kf_bert_input *in) {
    KF_REQUIRE(in->n_seqs > 0 && in->cu_seqlens[0] == 0);
    if (in->n_seqs > m->max_seqs)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%zu sequences in one pass, this model was opened for %zu", in->n_seqs,
                       m->max_seqs);
    for (size_t i = 0; i < in->n_seqs; i++) {
        int32_t n = in->cu_seqlens[i + 1] - in->cu_seqlens[i];
        if (n < 1) return KF_FAIL(KF_ERR_INVALID, "sequence %zu has no token", i);
        if ((size_t)n > m->config.max_positions)
            return KF_FAIL(KF_ERR_TOO_LARGE, "sequence %zu has %d tokens, the model has positions for %zu", i, n,
                           m->config.max_positions);
    }
    size_t n_tokens = (size_t)in->cu_seqlens[in->n_seqs];
    if (n_tokens > m->max_tokens)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%zu tokens in one pass, this model was opened for %zu", n_tokens,
                       m->max_tokens);
    for (size_t t = 0; t < n_tokens; t++)
        if (in->input_ids[t] < 0 || (size_t)in->input_ids[t] >= m->config.vocab_size)
            return KF_FAIL(KF_ERR_INVALID, "token %zu has id %d, the model's vocabulary ends at %zu", t,
                           in->input_ids[t], m->config.vocab_size);
    return KF_OK;
}

kf_status kf_bert_begin(kf_bert_pass *p, kf_stream *s, const kf_bert_input *in) {
    kf_bert *m = p->m;
    KF_REQUIRE(kf_event_done(m->d, p->done) && (!m->under_way || m->under_way == p));
    KF_TRY(check_input(m, in));
    m->under_way = p;
    const size_t n_tokens = (size_t)in->cu_seqlens[in->n_seqs];
    p->batch = (kf_batch){.n_seqs = in->n_seqs,
                          .n_tokens = n_tokens,
                          .input_ids = m->input_ids,
                          .position_ids = m->position_ids,
                          .cu_seqlens = m->cu_seqlens};
    memcpy(p->input_ids, in->input_ids, n_tokens * sizeof *p->input_ids);
    memcpy(p->cu_seqlens, in->cu_seqlens, (in->n_seqs + 1) * sizeof *p->cu_seqlens);
    for (size_t i = 0; i < in->n_seqs; i++) {
        size_t first = (size_t)in->cu_seqlens[i], n = (size_t)in->cu_seqlens[i + 1] - first;
        for (size_t t = 0; t < n; t++)
            p->position_ids[first + t] = (int32_t)t;
        if (n > p->batch.max_seqlen) p->batch.max_seqlen = n;
    }
    kf_copy_in(s, m->input_ids, p->input_ids, n_tokens * sizeof *p->input_ids);
    kf_copy_in(s, m->position_ids, p->position_ids, n_tokens * sizeof *p->position_ids);
    kf_copy_in(s, m->cu_seqlens, p->cu_seqlens, (in->n_seqs + 1) * sizeof *p->cu_seqlens);
    int64_t begin_ns = kf_trace_begin();
    forward_embeddings(m, s, &p->batch);
    kf_trace_pass("encoder embeddings", begin_ns, "tokens", (int64_t)n_tokens);
    return KF_OK;
}

void kf_bert_layers(kf_bert_pass *p, kf_stream *s, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        int64_t begin_ns = kf_trace_begin();
        forward_layer(p->m, s, &p->batch, i);
        kf_trace_pass("encoder layer", begin_ns, "layer", (int64_t)i);
    }
}

kf_status kf_bert_finish(kf_bert_pass *p, kf_stream *s) {
    kf_bert *m = p->m;
    KF_REQUIRE(m->under_way == p);
    m->under_way = NULL;
    int64_t begin_ns = kf_trace_begin();
    kf_heads_forward(&m->heads, s, &p->batch, m->x, p->logits, &m->dump);
    kf_trace_pass("encoder heads", begin_ns, "tokens", (int64_t)p->batch.n_tokens);
    kf_dump_end(&m->dump);
    return kf_event_record(s, p->done);
}

bool kf_bert_done(const kf_bert_pass *p) {
    return kf_event_done(p->m->d, p->done);
}

kf_status kf_bert_wait(const kf_bert_pass *p) {
    return kf_event_wait(p->m->d, p->done);
}

const float *kf_bert_logits(const kf_bert_pass *p, size_t head_idx, size_t row) {
    const kf_head *h = &p->m->heads.heads[head_idx];
    const kf_head_group *g = &p->m->heads.groups[h->group_idx];
    return p->logits + g->host_offset + row * g->n_out + h->column;
}

static void carve_pass(kf_carve *c, kf_bert_pass *p) {
    const kf_bert *m = p->m;
    p->input_ids = kf_carve_take(c, m->max_tokens, sizeof *p->input_ids);
    p->position_ids = kf_carve_take(c, m->max_tokens, sizeof *p->position_ids);
    p->cu_seqlens = kf_carve_take(c, m->max_seqs + 1, sizeof *p->cu_seqlens);
    p->logits = kf_carve_take(c, m->heads.host_floats, sizeof *p->logits);
}

kf_status kf_bert_pass_new(kf_bert *m, kf_bert_pass **out) {
    kf_bert_pass *p = calloc(1, sizeof *p);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a pass");
    p->m = m;
    kf_carve c = {0};
    carve_pass(&c, p);
    kf_status s = kf_pinned_alloc(m->d, c.bytes, &p->pinned);
    KF_STEP(s, kf_event_new(m->d, &p->done));
    if (s != KF_OK) {
        kf_bert_pass_free(p);
        return s;
    }
    c = (kf_carve){.base = p->pinned};
    carve_pass(&c, p);
    *out = p;
    return KF_OK;
}

void kf_bert_pass_free(kf_bert_pass *p) {
    if (!p) return;
    if (p->m->under_way == p) p->m->under_way = NULL;
    kf_event_free(p->m->d, p->done);
    if (p->pinned) kf_pinned_free(p->m->d, p->pinned);
    free(p);
}

/* ---- loading ---- */

/* transformers reads both spellings: checkpoints from before 2019 have gamma and beta. */
static kf_status load_norm(kf_loader *l, const char *name, size_t hidden, norm *out) {
    char gamma[96], beta[96];
    snprintf(gamma, sizeof gamma, "%s.gamma", name);
    snprintf(beta, sizeof beta, "%s.beta", name);
    if (!kf_loader_has(l, gamma)) {
        snprintf(gamma, sizeof gamma, "%s.weight", name);
        snprintf(beta, sizeof beta, "%s.bias", name);
    }
    KF_TRY(kf_load_vector(l, gamma, hidden, &out->gamma));
    KF_TRY(kf_load_vector(l, beta, hidden, &out->beta));
    return KF_OK;
}

static kf_status load_feed_forward(kf_loader *l, const kf_config *c, bert_layer *layer) {
    const char *up = "intermediate.dense", *down = "output.dense", *slope = "intermediate.intermediate_act_fn.weight";
    if (c->prelu) {
        KF_TRY(kf_load_prelu_up(l, up, c->intermediate, c->hidden, &layer->w_up));
        return kf_load_prelu_down(l, down, slope, c->hidden, c->intermediate, &layer->w_down);
    }
    KF_TRY(kf_load_linear(l, up, c->intermediate, c->hidden, true, &layer->w_up));
    return kf_load_linear(l, down, c->hidden, c->intermediate, true, &layer->w_down);
}

static kf_status load_layer(kf_loader *l, const kf_config *c, bert_layer *layer) {
    const kf_linear_part qkv[] = {{.name = "attention.self.query", .n_out = c->hidden, .bias = true},
                                  {.name = "attention.self.key", .n_out = c->hidden, .bias = true},
                                  {.name = "attention.self.value", .n_out = c->hidden, .bias = true}};
    KF_TRY(kf_load_stack(l, qkv, 3, c->hidden, &layer->wqkv));
    KF_TRY(kf_load_linear(l, "attention.output.dense", c->hidden, c->hidden, true, &layer->wo));
    KF_TRY(load_norm(l, "attention.output.LayerNorm", c->hidden, &layer->ln_attention));
    KF_TRY(load_feed_forward(l, c, layer));
    KF_TRY(load_norm(l, "output.LayerNorm", c->hidden, &layer->ln_output));
    return KF_OK;
}

static kf_status load_trunk(kf_bert *m, kf_loader *l, const char *prefix) {
    const kf_config *c = &m->config;
    kf_loader_at(l, "%sembeddings.", prefix);
    KF_TRY(kf_load_table(l, "word_embeddings.weight", c->vocab_size, c->vocab_size, c->hidden, &m->word));
    KF_TRY(kf_load_table(l, "position_embeddings.weight", c->max_positions, c->max_positions, c->hidden, &m->position));
    KF_TRY(kf_load_table(l, "token_type_embeddings.weight", c->type_vocab_size, 1, c->hidden, &m->type0));
    KF_TRY(load_norm(l, "LayerNorm", c->hidden, &m->ln_embeddings));
    if (!(m->layers = calloc(c->n_layers, sizeof *m->layers)))
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu layers", c->n_layers);
    for (size_t i = 0; i < c->n_layers; i++) {
        kf_loader_at(l, "%sencoder.layer.%zu.", prefix, i);
        KF_TRY(load_layer(l, c, &m->layers[i]));
    }
    return KF_OK;
}

static void carve_arena(kf_carve *a, kf_bert *m) {
    const kf_config *c = &m->config;
    const size_t n = m->max_tokens, act = kf_dtype_bytes(m->d->act);
    m->x = kf_carve_take(a, n * c->hidden, act);
    m->qkv = kf_carve_take(a, n * 3 * c->hidden, act);
    m->context = kf_carve_take(a, n * c->hidden, act);
    m->y = kf_carve_take(a, n * c->hidden, act);
    m->up = kf_carve_take(a, n * c->intermediate * (c->prelu ? 2 : 1), act);
    m->input_ids = kf_carve_take(a, n, sizeof *m->input_ids);
    m->position_ids = kf_carve_take(a, n, sizeof *m->position_ids);
    m->cu_seqlens = kf_carve_take(a, m->max_seqs + 1, sizeof *m->cu_seqlens);
    kf_heads_carve(&m->heads, a, m->d->act, m->max_tokens, m->max_seqs);
}

static kf_status make_arena(kf_bert *m) {
    kf_carve a = {0};
    carve_arena(&a, m);
    KF_TRY(kf_device_alloc(m->d, a.bytes, "encoder activations", &m->arena));
    m->arena_bytes = a.bytes;
    a = (kf_carve){.base = m->arena};
    carve_arena(&a, m);
    return KF_OK;
}

static kf_status load(kf_bert *m, const char *dir, kf_checkpoint **ckpt, kf_loader *l) {
    KF_TRY(kf_config_read(dir, &m->config));
    if (m->config.family != KF_FAMILY_BERT)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: %s is no encoder of the BERT family", dir, m->config.architecture);
    KF_TRY(kf_checkpoint_open(dir, ckpt));
    KF_TRY(kf_loader_open(m->d, *ckpt, l));
    const char *prefix = kf_checkpoint_find(*ckpt, "embeddings.word_embeddings.weight") ? "" : "bert.";
    size_t before = m->d->memory_bytes_used;
    KF_TRY(load_trunk(m, l, prefix));
    KF_TRY(kf_heads_load(&m->heads, l, dir, &m->config, prefix));
    m->weights_bytes = m->d->memory_bytes_used - before;
    kf_model_id(dir, m->config.hash + kf_checkpoint_hash(*ckpt) + m->heads.hash, m->id, sizeof m->id);
    return make_arena(m);
}

kf_status kf_bert_open(kf_device *d, const char *dir, const kf_bert_opts *o, kf_bert **out) {
    KF_REQUIRE(o->max_tokens > 0 && o->max_seqs > 0);
    kf_bert *m = calloc(1, sizeof *m);
    if (!m) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a model", dir);
    m->d = d;
    m->max_tokens = o->max_tokens;
    m->max_seqs = o->max_seqs;
    m->dump = o->dump;
    kf_checkpoint *ckpt = NULL;
    kf_loader l = {0};
    kf_status s = m->dump.tensor ? KF_OK : kf_dump_from_env("encoder", &m->dump);
    KF_STEP(s, load(m, dir, &ckpt, &l));
    kf_loader_close(&l);
    kf_checkpoint_close(ckpt);
    if (s == KF_OK)
        *out = m;
    else
        kf_bert_close(m);
    return s;
}

static void free_norm(kf_device *d, norm *n) {
    kf_device_free(d, n->gamma);
    kf_device_free(d, n->beta);
}

void kf_bert_close(kf_bert *m) {
    if (!m) return;
    for (size_t i = 0; m->layers && i < m->config.n_layers; i++) {
        bert_layer *l = &m->layers[i];
        kf_weight_free(m->d, l->wqkv);
        kf_weight_free(m->d, l->wo);
        kf_weight_free(m->d, l->w_up);
        kf_weight_free(m->d, l->w_down);
        free_norm(m->d, &l->ln_attention);
        free_norm(m->d, &l->ln_output);
    }
    free(m->layers);
    kf_device_free(m->d, m->word);
    kf_device_free(m->d, m->position);
    kf_device_free(m->d, m->type0);
    free_norm(m->d, &m->ln_embeddings);
    kf_heads_free(&m->heads, m->d);
    kf_device_free(m->d, m->arena);
    kf_dump_free(&m->dump);
    kf_config_free(&m->config);
    free(m);
}

/* ---- what others may know ---- */

const kf_config *kf_bert_config(const kf_bert *m) {
    return &m->config;
}

const char *kf_bert_id(const kf_bert *m) {
    return m->id;
}

size_t kf_bert_n_heads(const kf_bert *m) {
    return m->heads.n_heads;
}

const kf_head *kf_bert_head(const kf_bert *m, size_t head_idx) {
    return &m->heads.heads[head_idx];
}

int kf_bert_head_find(const kf_bert *m, const char *name) {
    for (size_t i = 0; i < m->heads.n_heads; i++)
        if (strcmp(m->heads.heads[i].name, name) == 0) return (int)i;
    return -1;
}

size_t kf_bert_weights_bytes(const kf_bert *m) {
    return m->weights_bytes;
}

size_t kf_bert_arena_bytes(const kf_bert *m) {
    return m->arena_bytes;
}
