/* The forward pass of a decoder of the Llama family or GPT-2, its steps and its memory. The forward pass comes first.
 * What sets Llama, Qwen2, Qwen3 and GPT-2 apart is data: which biases there are, the norm over each head, the tied
 * head; which norm, whether positions are learnt or turned, whether the MLP has a gate.
 * Run its tests: ctest -R test_golden_decoder. */
#include "model/decoder_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "model/carve.h"

/* ---- the forward pass ---- */

/* RMSNorm or LayerNorm. */
static void norm(const kf_decoder *m, kf_stream *s, void *out, const void *x, kf_decoder_norm w, size_t n) {
    const kf_config *c = &m->config;
    if (w.beta)
        kf_layernorm(s, out, x, w.gamma, w.beta, c->eps, n, c->hidden);
    else
        kf_rmsnorm(s, out, x, w.gamma, c->eps, n, c->hidden);
}

/* x = embed[id], or embed[id] + positions[position]. */
static void forward_embeddings(const kf_decoder *m, kf_stream *s, const kf_batch *b) {
    const size_t n = b->n_tokens, hidden = m->config.hidden;
    kf_embed(s, m->x, m->embed, hidden, b->input_ids, m->sampler.last_token, n);
    if (m->positions) {
        kf_embed(s, m->normed, m->positions, hidden, b->position_ids, NULL, n);
        kf_add(s, m->x, m->x, m->normed, n * hidden);
    }
    KF_DUMP_ROWS(m, s, m->x, n, hidden, "embeddings");
}

/* context = Attention(Norm(x)): new keys and values go to the cache first, then each row attends to all before it. */
static void forward_attention(const kf_decoder *m, kf_stream *s, const kf_decoder_step *step, size_t layer_idx) {
    const kf_config *c = &m->config;
    const kf_decoder_layer *l = &m->layers[layer_idx];
    const kf_batch *b = &step->batch;
    const kf_kv_layer cache = kf_kv_cache_layer(m->cache, layer_idx);
    const kf_heads heads = {c->n_heads, c->n_kv_heads, c->head_dim, 1.0f / sqrtf((float)c->head_dim)};
    const kf_qk_opts qk = {.rope = m->rope, .q_norm = l->q_norm, .k_norm = l->k_norm, .eps = c->eps};
    const size_t n = b->n_tokens, width = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim; /* of a row of qkv */

    norm(m, s, m->normed, m->x, l->norm_attention, n);
    kf_linear(s, m->qkv, m->normed, l->wqkv, n, (kf_linear_opts){0});
    kf_rope_kv_write(s, cache, m->qkv, width, b, step->paged.slot_mapping, heads, &qk);
    kf_attention_paged(s, m->context, m->qkv, width, cache, b, &step->paged, heads);
    KF_DUMP_ROWS(m, s, m->context, n, c->n_heads * c->head_dim, "layers.%zu.context", layer_idx);
}

/* One pre-norm layer: x [n, hidden] in and out. */
static void forward_layer(const kf_decoder *m, kf_stream *s, const kf_decoder_step *step, size_t layer_idx) {
    const kf_config *c = &m->config;
    const kf_decoder_layer *l = &m->layers[layer_idx];
    const size_t n = step->batch.n_tokens;

    /* x = x + context Woᵀ */
    forward_attention(m, s, step, layer_idx);
    kf_linear(s, m->x, m->context, l->wo, n, (kf_linear_opts){.residual = m->x});
    KF_DUMP_ROWS(m, s, m->x, n, c->hidden, "layers.%zu.attention", layer_idx);

    /* x = x + (act(y Wgateᵀ) * y Wupᵀ) Wdownᵀ, or without a gate x + act(y Wupᵀ) Wdownᵀ; y = Norm(x) */
    norm(m, s, m->normed, m->x, l->norm_mlp, n);
    if (l->w_gate_up) {
        kf_linear(s, m->gate_up, m->normed, l->w_gate_up, n, (kf_linear_opts){0});
        kf_gated(s, m->gated, m->gate_up, c->act, n, c->intermediate);
    } else {
        kf_linear(s, m->gated, m->normed, l->w_up, n, (kf_linear_opts){.act = c->act});
    }
    kf_linear(s, m->x, m->gated, l->w_down, n, (kf_linear_opts){.residual = m->x});
    KF_DUMP_ROWS(m, s, m->x, n, c->hidden, "layers.%zu.output", layer_idx);
}

/* Logits of the rows that draw a token, and the draw. */
static void forward_head(const kf_decoder *m, kf_stream *s, const kf_decoder_step *step) {
    const kf_config *c = &m->config;
    const size_t n = step->n_rows;
    kf_gather_rows(s, m->rows, m->x, m->in.row_idx, n, c->hidden);
    norm(m, s, m->rows, m->rows, m->norm, n);
    kf_linear(s, m->logits, m->rows, m->head, n, (kf_linear_opts){.out_f32 = true});
    kf_dump_rows(&m->dump, s, (kf_dump_view){m->logits, KF_F32, n, c->vocab_size, c->vocab_size}, "logits");
    kf_sample(s, m->out, m->logits, m->in.params, &m->sampler, n);
}

void kf_decoder_forward(const kf_decoder *m, kf_stream *s, const kf_decoder_step *step) {
    forward_embeddings(m, s, &step->batch);
    for (size_t i = 0; i < m->config.n_layers; i++) {
        int64_t begin_ns = kf_trace_begin();
        forward_layer(m, s, step, i);
        kf_trace_pass("decoder layer", begin_ns, "layer", (int64_t)i);
    }
    if (step->n_rows == 0) return;
    int64_t begin_ns = kf_trace_begin();
    forward_head(m, s, step);
    kf_trace_pass("decoder head and draw", begin_ns, "rows", (int64_t)step->n_rows);
}

/* ---- a step ---- */

static kf_status check_ids(const kf_decoder *m, const kf_decoder_seq *q) {
    for (size_t t = 0; q->input_ids && t < q->n_tokens; t++)
        if (q->input_ids[t] < 0 || (size_t)q->input_ids[t] >= m->config.vocab_size)
            return KF_FAIL(KF_ERR_INVALID, "token %zu has id %d, the model's vocabulary ends at %zu", t,
                           q->input_ids[t], m->config.vocab_size);
    return KF_OK;
}

static kf_status check_seqs(const kf_decoder *m, const kf_decoder_seq *seqs, size_t n_seqs) {
    size_t n_tokens = 0;
    if (n_seqs > m->max_seqs)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%zu sequences in one step, this model was opened for %zu", n_seqs,
                       m->max_seqs);
    memset(m->slot_used, 0, m->max_seqs * sizeof *m->slot_used);
    for (size_t i = 0; i < n_seqs; i++) {
        const kf_decoder_seq *q = &seqs[i];
        KF_REQUIRE(q->slot >= 0 && (size_t)q->slot < m->max_seqs && !m->slot_used[q->slot]);
        KF_REQUIRE(q->n_tokens > 0 && (q->input_ids || (q->n_tokens == 1 && q->n_computed > 0)));
        KF_REQUIRE(q->n_computed + q->n_tokens <= kf_kv_cache_reserved(m->cache, (size_t)q->slot) &&
                   q->n_computed + q->n_tokens <= m->max_seqlen);
        KF_REQUIRE(q->n_adjust <= m->max_seqlen + KF_DECODER_BIAS_MAX);
        KF_TRY(check_ids(m, q));
        m->slot_used[q->slot] = true;
        n_tokens += q->n_tokens;
    }
    if (n_tokens > m->max_tokens)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%zu tokens in one step, this model was opened for %zu", n_tokens,
                       m->max_tokens);
    return KF_OK;
}

/* How a sequence's token is drawn. */
static void fill_params(kf_decoder_step *step, const kf_decoder_seq *q) {
    const kf_decoder_inputs *in = &step->in;
    const size_t words = (step->m->config.vocab_size + 31) / 32;
    kf_sample_params *p = &in->params[step->n_rows];
    in->row_idx[step->n_rows++] = (int32_t)step->batch.n_tokens - 1;
    *p = q->params;
    p->slot = q->slot;
    p->position = (uint32_t)(q->n_computed + q->n_tokens);
    p->allowed = 0;
    p->adjust = (int32_t)step->n_adjust;
    p->n_adjust = (int32_t)q->n_adjust;
    if (q->n_adjust) memcpy(in->adjust + step->n_adjust, q->adjust, q->n_adjust * sizeof *q->adjust);
    step->n_adjust += q->n_adjust;
    if (!q->allowed) return;
    memcpy(in->allowed + step->n_allowed * words, q->allowed, words * sizeof *q->allowed);
    p->allowed = (int32_t)++step->n_allowed;
}

/* One sequence's rows of the step's input. */
static void fill_seq(kf_decoder_step *step, const kf_decoder_seq *q, size_t seq_idx) {
    const kf_decoder *m = step->m;
    const kf_decoder_inputs *in = &step->in;
    const int32_t *table = kf_kv_cache_table(m->cache, (size_t)q->slot);
    const size_t max_blocks = kf_kv_cache_max_blocks(m->cache), first = step->batch.n_tokens;
    for (size_t t = 0; t < q->n_tokens; t++) {
        size_t position = q->n_computed + t;
        in->input_ids[first + t] = q->input_ids ? q->input_ids[t] : -1 - q->slot;
        in->position_ids[first + t] = (int32_t)position;
        in->slot_mapping[first + t] =
            table[position / KF_KV_BLOCK_SIZE] * KF_KV_BLOCK_SIZE + (int32_t)(position % KF_KV_BLOCK_SIZE);
    }
    for (size_t t = 0; q->input_ids && q->params.repetition_penalty != 1 && t < q->n_tokens; t++) {
        in->seen_slots[step->n_seen] = q->slot;
        in->seen_ids[step->n_seen++] = q->input_ids[t];
    }
    step->batch.n_tokens += q->n_tokens;
    if (q->n_tokens > step->batch.max_seqlen) step->batch.max_seqlen = q->n_tokens;
    in->cu_seqlens[seq_idx + 1] = (int32_t)step->batch.n_tokens;
    in->kv_len[seq_idx] = (int32_t)(q->n_computed + q->n_tokens);
    memcpy(in->block_table + seq_idx * max_blocks, table, max_blocks * sizeof *table);
    if (q->sample) fill_params(step, q);
}

void kf_decoder_step_begin(kf_decoder_step *step, size_t n_seqs) {
    const kf_decoder_inputs *device = &step->m->in;
    step->n_rows = step->n_seen = step->n_allowed = step->n_adjust = 0;
    step->batch = (kf_batch){.n_seqs = n_seqs,
                             .input_ids = device->input_ids,
                             .position_ids = device->position_ids,
                             .cu_seqlens = device->cu_seqlens};
    step->paged = (kf_paged){.slot_mapping = device->slot_mapping,
                             .block_table = device->block_table,
                             .max_blocks = kf_kv_cache_max_blocks(step->m->cache),
                             .kv_len = device->kv_len};
    step->in.cu_seqlens[0] = 0;
}

void kf_decoder_copy_inputs(const kf_decoder_step *step, kf_stream *s, size_t n_seqs) {
    const char *begin = step->in.base, *end = (const char *)(step->in.block_table + n_seqs * step->paged.max_blocks);
    const kf_decoder_inputs *in = &step->in, *device = &step->m->in;
    const size_t words = (step->m->config.vocab_size + 31) / 32;
    kf_copy_in(s, device->base, begin, (size_t)(end - begin));
    if (step->n_allowed) kf_copy_in(s, device->allowed, in->allowed, step->n_allowed * words * sizeof *in->allowed);
    if (step->n_adjust) kf_copy_in(s, device->adjust, in->adjust, step->n_adjust * sizeof *in->adjust);
}

/* The sampler's seen tokens: forgotten where a sequence starts, then the prompt's are added. */
static void enqueue_seen(const kf_decoder_step *step, kf_stream *s, const kf_decoder_seq *seqs, size_t n_seqs) {
    const kf_sampler *sm = &step->m->sampler;
    const size_t words = (sm->vocab_size + 31) / 32;
    for (size_t i = 0; i < n_seqs; i++)
        if (seqs[i].n_computed == 0 && seqs[i].params.repetition_penalty != 1)
            kf_fill_zero(s, sm->seen + (size_t)seqs[i].slot * words, words * sizeof *sm->seen);
    if (step->n_seen) kf_mark_seen(s, sm, step->m->in.seen_slots, step->m->in.seen_ids, step->n_seen);
}

kf_status kf_decoder_run(kf_decoder_step *step, kf_stream *s, const kf_decoder_seq *seqs, size_t n_seqs) {
    const kf_decoder *m = step->m;
    KF_REQUIRE(n_seqs > 0 && kf_event_done(m->d, step->done));
    KF_TRY(check_seqs(m, seqs, n_seqs));
    kf_decoder_step_begin(step, n_seqs);
    for (size_t i = 0; i < n_seqs; i++)
        fill_seq(step, &seqs[i], i);
    kf_graph *graph = kf_decoder_graph_of(step, s, seqs, n_seqs);
    kf_decoder_copy_inputs(step, s, n_seqs);
    if (graph) {
        kf_graph_launch(s, graph);
    } else {
        enqueue_seen(step, s, seqs, n_seqs);
        kf_decoder_forward(m, s, step);
    }
    kf_copy_out(s, step->out, m->out, step->n_rows * sizeof *step->out);
    if (step->logits) kf_copy_out(s, step->logits, m->logits, step->n_rows * m->config.vocab_size * sizeof(float));
    kf_dump_end(&m->dump);
    return kf_event_record(s, step->done);
}

void kf_decoder_order(const kf_decoder_step *step, kf_stream *s) {
    kf_stream_wait(s, step->done);
}

bool kf_decoder_done(const kf_decoder_step *step) {
    return kf_event_done(step->m->d, step->done);
}

kf_status kf_decoder_wait(const kf_decoder_step *step) {
    return kf_event_wait(step->m->d, step->done);
}

const kf_sample_out *kf_decoder_results(const kf_decoder_step *step) {
    return step->out;
}

size_t kf_decoder_n_results(const kf_decoder_step *step) {
    return step->n_rows;
}

const float *kf_decoder_logits(const kf_decoder_step *step, size_t idx) {
    return step->logits ? step->logits + idx * step->m->config.vocab_size : NULL;
}

/* ---- memory of a step and of a model ---- */

static void carve_inputs(kf_carve *c, const kf_decoder *m, kf_decoder_inputs *in) {
    const size_t n = m->max_tokens, n_seqs = m->max_seqs;
    in->base = in->input_ids = kf_carve_take(c, n, sizeof(int32_t));
    in->position_ids = kf_carve_take(c, n, sizeof(int32_t));
    in->slot_mapping = kf_carve_take(c, n, sizeof(int32_t));
    in->seen_slots = kf_carve_take(c, n, sizeof(int32_t));
    in->seen_ids = kf_carve_take(c, n, sizeof(int32_t));
    in->cu_seqlens = kf_carve_take(c, n_seqs + 1, sizeof(int32_t));
    in->kv_len = kf_carve_take(c, n_seqs, sizeof(int32_t));
    in->row_idx = kf_carve_take(c, n_seqs, sizeof(int32_t));
    in->params = kf_carve_take(c, n_seqs, sizeof *in->params);
    in->block_table = kf_carve_take(c, n_seqs * kf_kv_cache_max_blocks(m->cache), sizeof(int32_t));
    in->allowed = kf_carve_take(c, n_seqs * ((m->config.vocab_size + 31) / 32), sizeof *in->allowed);
    in->adjust = kf_carve_take(c, n_seqs * (m->max_seqlen + KF_DECODER_BIAS_MAX), sizeof *in->adjust);
}

static void carve_step(kf_carve *c, kf_decoder_step *step) {
    const kf_decoder *m = step->m;
    carve_inputs(c, m, &step->in);
    step->out = kf_carve_take(c, m->max_seqs, sizeof *step->out);
    if (m->keep_logits) step->logits = kf_carve_take(c, m->max_seqs * m->config.vocab_size, sizeof *step->logits);
}

kf_status kf_decoder_step_new(kf_decoder *m, kf_decoder_step **out) {
    kf_decoder_step *step = calloc(1, sizeof *step);
    if (!step) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a step");
    step->m = m;
    kf_carve c = {0};
    carve_step(&c, step);
    kf_status s = kf_pinned_alloc(m->d, c.bytes, &step->pinned);
    KF_STEP(s, kf_event_new(m->d, &step->done));
    if (s != KF_OK) {
        kf_decoder_step_free(step);
        return s;
    }
    memset(step->pinned, 0, c.bytes); /* a copy takes the gaps between the parts too */
    c = (kf_carve){.base = step->pinned};
    carve_step(&c, step);
    *out = step;
    return KF_OK;
}

void kf_decoder_step_free(kf_decoder_step *step) {
    if (!step) return;
    kf_event_free(step->m->d, step->done);
    if (step->pinned) kf_pinned_free(step->m->d, step->pinned);
    free(step);
}

static void carve_arena(kf_carve *a, kf_decoder *m) {
    const kf_config *c = &m->config;
    const size_t n = m->max_tokens, n_seqs = m->max_seqs, act = kf_dtype_bytes(m->d->act);
    carve_inputs(a, m, &m->in);
    m->x = kf_carve_take(a, n * c->hidden, act);
    m->normed = kf_carve_take(a, n * c->hidden, act);
    m->qkv = kf_carve_take(a, n * (c->n_heads + 2 * c->n_kv_heads) * c->head_dim, act);
    m->context = kf_carve_take(a, n * c->n_heads * c->head_dim, act);
    m->gate_up = kf_carve_take(a, c->layout == KF_LAYOUT_GPT2 ? 0 : n * 2 * c->intermediate, act);
    m->gated = kf_carve_take(a, n * c->intermediate, act);
    m->rows = kf_carve_take(a, n_seqs * c->hidden, act);
    m->logits = kf_carve_take(a, n_seqs * c->vocab_size, sizeof *m->logits);
    m->out = kf_carve_take(a, n_seqs, sizeof *m->out);
    m->sampler = (kf_sampler){.vocab_size = c->vocab_size};
    m->sampler.last_token = kf_carve_take(a, n_seqs, sizeof(int32_t));
    m->sampler.seen = kf_carve_take(a, n_seqs * ((c->vocab_size + 31) / 32), sizeof(uint32_t));
    m->sampler.allowed = m->in.allowed;
    m->sampler.adjust = m->in.adjust;
}

/* The arena starts as zeros: the last token of a slot that never drew one is a valid id. */
static kf_status make_arena(kf_decoder *m, kf_loader *l) {
    kf_carve a = {0};
    carve_arena(&a, m);
    KF_TRY(kf_device_alloc(m->d, a.bytes, "decoder activations", &m->arena));
    m->arena_bytes = a.bytes;
    a = (kf_carve){.base = m->arena};
    carve_arena(&a, m);
    kf_fill_zero(l->s, m->arena, m->arena_bytes);
    KF_TRY(kf_event_record(l->s, l->e));
    KF_TRY(kf_event_wait(m->d, l->e));
    if (!(m->slot_used = calloc(m->max_seqs, sizeof *m->slot_used)))
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu slots", m->max_seqs);
    return KF_OK;
}

/* Blocks for what was asked; a cache smaller than one whole sequence shortens the sequences. */
static kf_status make_cache(kf_decoder *m, const kf_decoder_opts *o) {
    const kf_config *c = &m->config;
    kf_kv_shape shape = {
        .n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim, .n_slots = m->max_seqs};
    m->max_seqlen = o->max_seqlen && o->max_seqlen < c->max_positions ? o->max_seqlen : c->max_positions;
    const size_t blocks_each = (m->max_seqlen + KF_KV_BLOCK_SIZE - 1) / KF_KV_BLOCK_SIZE;
    const size_t block_bytes = kf_kv_block_bytes(m->d, &shape);
    shape.n_blocks = o->cache_bytes ? o->cache_bytes / block_bytes : m->max_seqs * blocks_each;
    if (shape.n_blocks == 0)
        return KF_FAIL(KF_ERR_NO_MEMORY, "a cache of %zu bytes holds no block of this model: one takes %zu",
                       o->cache_bytes, block_bytes);
    if (shape.n_blocks > m->max_seqs * blocks_each) shape.n_blocks = m->max_seqs * blocks_each;
    if (shape.n_blocks < blocks_each) m->max_seqlen = shape.n_blocks * KF_KV_BLOCK_SIZE;
    shape.max_seqlen = m->max_seqlen;
    return kf_kv_cache_new(m->d, &shape, &m->cache);
}

/* ---- loading ---- */

static kf_status load(kf_decoder *m, const char *dir, const kf_decoder_opts *o, kf_checkpoint **ckpt, kf_loader *l) {
    KF_TRY(kf_config_read(dir, &m->config));
    if (m->config.family != KF_FAMILY_DECODER)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: %s is no decoder", dir, m->config.architecture);
    KF_TRY(kf_checkpoint_open(dir, ckpt));
    KF_TRY(kf_loader_open(m->d, *ckpt, l));
    size_t before = m->d->memory_bytes_used;
    KF_TRY(kf_decoder_load_weights(m, l));
    KF_TRY(make_cache(m, o));
    if (m->config.rope_theta != 0) KF_TRY(kf_decoder_load_rope(m, l));
    m->weights_bytes = m->d->memory_bytes_used - before - kf_kv_cache_bytes(m->cache);
    kf_model_id(dir, m->config.hash + kf_checkpoint_hash(*ckpt), m->id, sizeof m->id);
    return make_arena(m, l);
}

kf_status kf_decoder_open(kf_device *d, const char *dir, const kf_decoder_opts *o, kf_decoder **out) {
    KF_REQUIRE(o->max_tokens > 0 && o->max_seqs > 0);
    kf_decoder *m = calloc(1, sizeof *m);
    if (!m) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a model", dir);
    m->d = d;
    m->max_tokens = o->max_tokens;
    m->max_seqs = o->max_seqs;
    m->keep_logits = o->keep_logits;
    m->dump = o->dump;
    kf_checkpoint *ckpt = NULL;
    kf_loader l = {0};
    kf_status s = m->dump.tensor ? KF_OK : kf_dump_from_env("decoder", &m->dump);
    KF_STEP(s, load(m, dir, o, &ckpt, &l));
    kf_loader_close(&l);
    kf_checkpoint_close(ckpt);
    if (s == KF_OK)
        *out = m;
    else
        kf_decoder_close(m);
    return s;
}

void kf_decoder_close(kf_decoder *m) {
    if (!m) return;
    kf_decoder_graphs_free(m);
    kf_decoder_free_weights(m);
    kf_device_free(m->d, m->arena);
    kf_kv_cache_free(m->cache);
    free(m->slot_used);
    kf_dump_free(&m->dump);
    kf_config_free(&m->config);
    free(m);
}

/* ---- what others may know ---- */

const kf_config *kf_decoder_config(const kf_decoder *m) {
    return &m->config;
}

const char *kf_decoder_id(const kf_decoder *m) {
    return m->id;
}

kf_kv_cache *kf_decoder_kv_cache(kf_decoder *m) {
    return m->cache;
}

size_t kf_decoder_max_seqlen(const kf_decoder *m) {
    return m->max_seqlen;
}

size_t kf_decoder_weights_bytes(const kf_decoder *m) {
    return m->weights_bytes;
}

size_t kf_decoder_arena_bytes(const kf_decoder *m) {
    return m->arena_bytes;
}
