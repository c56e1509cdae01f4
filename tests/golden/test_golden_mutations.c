/* Aim: the golden tests tell right from nearly right. Method: one thing is spoilt at a time, the way a port of a model
 * goes wrong (a config field, or one operation of the device's table), and the same comparison with the same limits
 * must then find at least one tensor over its limit. With nothing spoilt it must find none. In f32 and, on the same
 * checkpoints made tame, in bf16; a mistake that is smaller than bf16's rounding is made larger there, or its
 * surroundings such that it shows.
 *
 * Two mistakes are no mistakes and are not in the list: a key's bias adds the same to every score of a query, and the
 * same shift of all positions leaves RoPE's products as they are. */
#include "golden_run.h"
#include "spoil.h"

/* ---- operations gone wrong ---- */

enum { WIDTH_MAX = 1024 };
static const float zeros[WIDTH_MAX];

static void layernorm_without_beta(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta,
                                   float eps, size_t n_rows, size_t hidden) {
    (void)beta;
    right.layernorm(s, out, x, gamma, lend(s, zeros, hidden * sizeof *zeros), eps, n_rows, hidden);
}

static void embed_bert_positions_from_one(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden,
                                          const kf_batch *b) {
    kf_bert_embeddings from_one = *e;
    from_one.position = act_at(s, e->position, hidden); /* 41 positions, 40 are used */
    right.embed_bert(s, out, &from_one, hidden, b);
}

static void embed_bert_without_type(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden,
                                    const kf_batch *b) {
    kf_bert_embeddings without = *e;
    without.type0 = lend(s, zeros, hidden * sizeof *zeros);
    right.embed_bert(s, out, &without, hidden, b);
}

static void embed_bert_without_beta(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden,
                                    const kf_batch *b) {
    kf_bert_embeddings without = *e;
    without.beta = lend(s, zeros, hidden * sizeof *zeros);
    right.embed_bert(s, out, &without, hidden, b);
}

static void linear_without_tanh(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n,
                                kf_linear_opts o) {
    if (o.act == KF_ACT_TANH) o.act = KF_ACT_NONE;
    right.linear(s, out, x, w, n, o);
}

static void linear_without_residual(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n,
                                    kf_linear_opts o) {
    o.residual = NULL;
    right.linear(s, out, x, w, n, o);
}

/* Packs a copy of the description without part `part_idx`'s bias, where there are n_parts of them. */
static kf_status pack_without_bias(kf_device *d, const kf_weight_desc *desc, size_t n_parts, size_t part_idx,
                                   kf_weight **out) {
    kf_weight_part parts[8];
    kf_weight_desc copy = *desc;
    if (desc->n_parts != n_parts) return right.weight_pack(d, desc, out);
    memcpy(parts, desc->parts, n_parts * sizeof *parts);
    parts[part_idx].bias = NULL;
    copy.parts = parts;
    return right.weight_pack(d, &copy, out);
}

static kf_status pack_without_q_bias(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    return pack_without_bias(d, desc, 3, 0, out);
}

static kf_status pack_without_v_bias(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    return pack_without_bias(d, desc, 3, 2, out);
}

static kf_status pack_without_output_bias(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    return pack_without_bias(d, desc, 1, 0, out);
}

static kf_status pack_k_and_v_swapped(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    kf_weight_desc copy = *desc;
    kf_weight_part parts[3];
    if (desc->n_parts != 3) return right.weight_pack(d, desc, out);
    memcpy(parts, desc->parts, sizeof parts);
    parts[1] = desc->parts[2];
    parts[2] = desc->parts[1];
    copy.parts = parts;
    return right.weight_pack(d, &copy, out);
}

/* Every sequence's end moved by `by`, but for the last one's. */
static void attention_moved_ends(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h, int by) {
    size_t bytes = (b->n_seqs + 1) * sizeof(int32_t);
    int32_t *cu = fetch(s, b->cu_seqlens, bytes);
    for (size_t i = 1; i < b->n_seqs; i++)
        if (cu[i] - cu[i - 1] > 1) cu[i] += by;
    kf_batch moved = *b;
    moved.cu_seqlens = lend(s, cu, bytes);
    moved.max_seqlen++;
    right.attention(s, out, qkv, &moved, h);
    free(cu);
}

static void attention_end_too_early(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    attention_moved_ends(s, out, qkv, b, h, -1);
}

static void attention_end_too_late(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    attention_moved_ends(s, out, qkv, b, h, 1);
}

static void attention_scaled_by_hidden(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    h.scale = 1.0f / sqrtf((float)(h.n_heads * h.head_dim));
    right.attention(s, out, qkv, b, h);
}

static void mean_without_last(kf_stream *s, void *out, const void *x, const int32_t *cu, size_t n_seqs, size_t width) {
    int32_t *all = fetch(s, cu, (n_seqs + 1) * sizeof *all);
    for (size_t i = 0; i < n_seqs; i++) {
        int32_t ends[] = {all[i], all[i + 1] - (all[i + 1] - all[i] > 1)};
        right.mean_rows(s, act_at(s, out, i * width), x, lend(s, ends, sizeof ends), 1, width);
    }
    free(all);
}

static void rmsnorm_without_gamma(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows,
                                  size_t hidden) {
    float ones[WIDTH_MAX];
    (void)gamma;
    for (size_t i = 0; i < hidden; i++)
        ones[i] = 1;
    right.rmsnorm(s, out, x, lend(s, ones, hidden * sizeof *ones), eps, n_rows, hidden);
}

/* The last norm is the one over the few rows that draw a token; in place. */
static void rmsnorm_without_the_last(kf_stream *s, void *out, const void *x, const void *gamma, float eps,
                                     size_t n_rows, size_t hidden) {
    if (out == x) return;
    right.rmsnorm(s, out, x, gamma, eps, n_rows, hidden);
}

static void rope_without_norms(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                               const int32_t *slots, kf_heads h, const kf_qk_opts *o) {
    kf_qk_opts without = {.rope = o->rope};
    right.rope_kv_write(s, cache, qkv, stride, b, slots, h, &without);
}

/* Queries one position further than keys. */
static void rope_query_shifted(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                               const int32_t *slots, kf_heads h, const kf_qk_opts *o) {
    kf_qk_opts shifted = *o;
    kf_heads queries = h, keys = h;
    queries.n_kv_heads = keys.n_heads = 0;
    shifted.rope = (kf_rope_table){o->rope.cos + h.head_dim / 2, o->rope.sin + h.head_dim / 2};
    right.rope_kv_write(s, cache, qkv, stride, b, slots, queries, &shifted);
    right.rope_kv_write(s, cache, act_at(s, qkv, h.n_heads * h.head_dim), stride, b, slots, keys, o);
}

/* Pairs are neighbours (2c, 2c + 1): GPT-J's layout. */
static void rope_turned_back(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                             const int32_t *slots, kf_heads h, const kf_qk_opts *o) {
    size_t half = h.head_dim / 2, n = b->n_tokens * stride;
    kf_qk_opts none = {0};
    int32_t *at = fetch(s, b->position_ids, b->n_tokens * sizeof *at);
    float *rows = fetch_act(s, qkv, n);
    for (size_t i = 0; i < b->n_tokens; i++) {
        float *cosines = fetch(s, o->rope.cos + (size_t)at[i] * half, half * sizeof *cosines);
        float *sines = fetch(s, o->rope.sin + (size_t)at[i] * half, half * sizeof *sines);
        for (size_t pair = 0; pair < (h.n_heads + h.n_kv_heads) * half; pair++) {
            float *p = rows + i * stride + 2 * pair, x1 = p[0], x2 = p[1];
            p[0] = x1 * cosines[pair % half] - x2 * sines[pair % half];
            p[1] = x2 * cosines[pair % half] + x1 * sines[pair % half];
        }
        free(cosines);
        free(sines);
    }
    store_act(s, qkv, rows, n);
    right.rope_kv_write(s, cache, qkv, stride, b, slots, h, &none);
    free(rows);
    free(at);
}

/* "llama3" with its two factors in each other's place: waves longer than 32 / 4.6 are slowed down, none is mixed. */
static void rope_factors_swapped(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                                 const int32_t *slots, kf_heads h, const kf_qk_opts *o) {
    enum { HALF = 8, POSITIONS = 96 };
    static float cosines[POSITIONS * HALF], sines[POSITIONS * HALF];
    for (size_t i = 0; i < POSITIONS * HALF; i++) {
        double frequency = pow(410, -(double)(i % HALF) / HALF);
        if (2 * M_PI / frequency > 32 / 4.6) frequency /= 5.5;
        cosines[i] = cosf((float)((double)(i / HALF) * frequency));
        sines[i] = sinf((float)((double)(i / HALF) * frequency));
    }
    assert_true(h.head_dim == 2 * HALF);
    kf_qk_opts swapped = *o;
    swapped.rope = (kf_rope_table){lend(s, cosines, sizeof cosines), lend(s, sines, sizeof sines)};
    right.rope_kv_write(s, cache, qkv, stride, b, slots, h, &swapped);
}

/* Learnt positions: the only rows that are looked up without last tokens. */
static void embed_positions_from_one(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                                     const int32_t *last_token, size_t n_tokens) {
    right.embed(s, out, last_token ? table : act_at(s, table, hidden), hidden, ids, last_token, n_tokens);
}

static void add_nothing(kf_stream *s, void *out, const void *x, const void *y, size_t n) {
    (void)s, (void)y, (void)n;
    assert_ptr_equal(out, x);
}

/* The last norm, as above. */
static void layernorm_without_the_last(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta,
                                       float eps, size_t n_rows, size_t hidden) {
    if (out == x) return;
    right.layernorm(s, out, x, gamma, beta, eps, n_rows, hidden);
}

/* Conv1D read as Linear: in a square matrix no shape tells. */
static kf_status pack_square_as_it_lies(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    const size_t n = desc->n_in, bytes = kf_dtype_bytes(desc->dtype);
    kf_weight_desc copy = *desc;
    kf_weight_part part = desc->parts[0];
    if (desc->n_parts != 1 || part.n_out != n) return right.weight_pack(d, desc, out);
    char *turned = malloc(n * n * bytes);
    assert_non_null(turned);
    for (size_t i = 0; i < n * n; i++)
        memcpy(turned + i * bytes, (const char *)part.data + (i % n * n + i / n) * bytes, bytes);
    part.data = turned;
    copy.parts = &part;
    kf_status status = right.weight_pack(d, &copy, out);
    free(turned);
    return status;
}

static void paged_sees_the_next(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                                const kf_batch *b, const kf_paged *p, kf_heads h) {
    int32_t *kv_len = fetch(s, p->kv_len, b->n_seqs * sizeof *kv_len);
    kf_paged more = *p;
    for (size_t i = 0; i < b->n_seqs; i++)
        kv_len[i]++;
    more.kv_len = lend(s, kv_len, b->n_seqs * sizeof *kv_len);
    right.attention_paged(s, out, q, q_stride, cache, b, &more, h);
    free(kv_len);
}

/* 1 / sqrt(hidden / n_heads), which for Qwen3 is not head_dim. */
static void paged_scaled_by_hidden(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                                   const kf_batch *b, const kf_paged *p, kf_heads h) {
    h.scale = 1.0f / sqrtf(40.0f / 6);
    right.attention_paged(s, out, q, q_stride, cache, b, p, h);
}

static void gated_swapped(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows,
                          size_t width) {
    size_t half_bytes = width * kf_dtype_bytes(s->device->act), bytes = n_rows * 2 * half_bytes;
    char *x = fetch(s, gate_up, bytes), *swapped = malloc(bytes);
    assert_non_null(swapped);
    for (size_t r = 0; r < 2 * n_rows; r++)
        memcpy(swapped + r * half_bytes, x + (r ^ 1) * half_bytes, half_bytes);
    right.gated(s, out, lend(s, swapped, bytes), act, n_rows, width);
    free(x);
    free(swapped);
}

/* ---- the list ---- */

typedef struct mutation {
    const char *what, *model;
    const char *field, *value; /* of config.json, as JSON; NULL: as it is */
    const char *bf16_right;    /* in bf16: the field's value in the reference; NULL: as it is */
    float bf16_gain;           /* in bf16: of both checkpoints; 0: COPY_GAIN */
    bool tail;                 /* in bf16: both are of this kind (checkpoint_copy.h) */
    struct kf_device_ops ops;  /* entries that are not NULL replace the device's */
    kf_dtype weights;          /* KF_BF16: the device rounds them */
    bool control;              /* nothing is spoilt: the comparison must find nothing */
} mutation;

static const mutation mutations[] = {
    {.what = "nothing", .control = true, .model = "bert_trunk"},
    {.what = "nothing", .control = true, .model = "bert_sequence"},
    {.what = "nothing", .control = true, .model = "bert_token"},
    {.what = "nothing", .control = true, .model = "bert_trunk", .tail = true},
    {.what = "nothing", .control = true, .model = "bert_sequence", .tail = true},
    {.what = "nothing", .control = true, .model = "bert_token", .tail = true},
    {.what = "nothing", .control = true, .model = "bert_trunk", .bf16_gain = 0.5f},
    {.what = "nothing", .control = true, .model = "llama", .bf16_gain = 0.5f},
    {.what = "nothing", .control = true, .model = "qwen3"},
    {.what = "nothing", .control = true, .model = "qwen2"},
    {.what = "nothing", .control = true, .model = "llama"},

    {.what = "eps is the default's",
     .model = "bert_trunk",
     .field = "layer_norm_eps",
     .value = "1e-12",
     .bf16_right = "0.5"},
    {.what = "eps is BERT's for another size",
     .model = "bert_sequence",
     .field = "layer_norm_eps",
     .value = "2.9e-3",
     .bf16_right = "0.5"},
    {.what = "GELU by tanh", .model = "bert_trunk", .field = "hidden_act", .value = "\"gelu_new\"", .tail = true},
    {.what = "GELU by erf", .model = "bert_token", .field = "hidden_act", .value = "\"gelu\"", .tail = true},
    {.what = "GELU by sigmoid",
     .model = "bert_sequence",
     .field = "hidden_act",
     .value = "\"quick_gelu\"",
     .tail = true},
    {.what = "prelu is relu", .model = "bert_prelu", .field = "hidden_act", .value = "\"relu\""},
    {.what = "prelu is leaky_relu", .model = "bert_prelu", .field = "hidden_act", .value = "\"leaky_relu\""},
    {.what = "Q without its bias",
     .model = "bert_trunk",
     .ops = {.weight_pack = pack_without_q_bias},
     .bf16_gain = 0.5f},
    {.what = "V without its bias", .model = "bert_trunk", .ops = {.weight_pack = pack_without_v_bias}},
    {.what = "other products without bias", .model = "bert_sequence", .ops = {.weight_pack = pack_without_output_bias}},
    {.what = "K and V swapped", .model = "bert_token", .ops = {.weight_pack = pack_k_and_v_swapped}},
    {.what = "mask one too short", .model = "bert_sequence", .ops = {.attention = attention_end_too_early}},
    {.what = "mask one too long", .model = "bert_sequence", .ops = {.attention = attention_end_too_late}},
    {.what = "scores scaled by hidden", .model = "bert_token", .ops = {.attention = attention_scaled_by_hidden}},
    {.what = "positions from 1", .model = "bert_token", .ops = {.embed_bert = embed_bert_positions_from_one}},
    {.what = "no token type", .model = "bert_token", .ops = {.embed_bert = embed_bert_without_type}},
    {.what = "first norm without beta", .model = "bert_token", .ops = {.embed_bert = embed_bert_without_beta}},
    {.what = "no residual", .model = "bert_trunk", .ops = {.linear = linear_without_residual}},
    {.what = "norm without beta", .model = "bert_trunk", .ops = {.layernorm = layernorm_without_beta}},
    {.what = "pooler without tanh", .model = "bert_sequence", .ops = {.linear = linear_without_tanh}},
    {.what = "mean without the last token", .model = "bert_trunk", .ops = {.mean_rows = mean_without_last}},
    {.what = "weights rounded to bf16", .model = "bert_trunk", .weights = KF_BF16},

    {.what = "eps is the default's", .model = "qwen3", .field = "rms_norm_eps", .value = "1e-6", .bf16_right = "0.5"},
    {.what = "RoPE base is the default's", .model = "qwen3", .field = "rope_theta", .value = "10000.0"},
    {.what = "RoPE base is off by 1 in 1000",
     .model = "llama",
     .field = "rope_theta",
     .value = "900.9",
     .bf16_right = "300.0",
     .bf16_gain = 0.5f},
    {.what = "no RoPE scaling", .model = "llama3", .field = "rope_scaling", .value = "null"},
    {.what = "RoPE scaling is linear",
     .model = "llama3",
     .field = "rope_scaling",
     .value = "{\"rope_type\": \"linear\", \"factor\": 5.5}"},
    {.what = "low and high factor swapped", .model = "llama3", .ops = {.rope_kv_write = rope_factors_swapped}},
    {.what = "high factor is the default's",
     .model = "llama3",
     .field = "rope_scaling",
     .value = "{\"rope_type\": \"llama3\", \"factor\": 5.5, \"low_freq_factor\": 0.9, \"high_freq_factor\": 4.0, "
              "\"original_max_position_embeddings\": 32}",
     .bf16_gain = 0.5f},
    {.what = "scaled from max_position",
     .model = "llama3",
     .field = "rope_scaling",
     .value = "{\"rope_type\": \"llama3\", \"factor\": 5.5, \"low_freq_factor\": 0.9, \"high_freq_factor\": 4.6, "
              "\"original_max_position_embeddings\": 96}"},
    {.what = "no RoPE scaling", .model = "llama_linear", .field = "rope_scaling", .value = "null"},
    {.what = "RoPE over neighbours", .model = "llama", .ops = {.rope_kv_write = rope_turned_back}},
    {.what = "queries one position on", .model = "qwen3", .ops = {.rope_kv_write = rope_query_shifted}},
    {.what = "gate is GELU", .model = "llama", .field = "hidden_act", .value = "\"gelu\"", .bf16_gain = 0.5f},
    {.what = "gate and up swapped", .model = "qwen2", .ops = {.gated = gated_swapped}},
    {.what = "no attention bias", .model = "llama", .field = "attention_bias", .value = "false"},
    {.what = "no MLP bias", .model = "llama", .field = "mlp_bias", .value = "false"},
    {.what = "Q without its bias", .model = "qwen2", .ops = {.weight_pack = pack_without_q_bias}},
    {.what = "the head is the embedding table", .model = "llama", .field = "tie_word_embeddings", .value = "true"},
    {.what = "no norm over heads", .model = "qwen3", .ops = {.rope_kv_write = rope_without_norms}},
    {.what = "norm without gamma", .model = "llama", .ops = {.rmsnorm = rmsnorm_without_gamma}},
    {.what = "no last norm", .model = "qwen2", .ops = {.rmsnorm = rmsnorm_without_the_last}},
    {.what = "mask one too long", .model = "qwen3", .ops = {.attention_paged = paged_sees_the_next}},
    {.what = "scores scaled by hidden", .model = "qwen3", .ops = {.attention_paged = paged_scaled_by_hidden}},
    {.what = "no residual", .model = "llama", .ops = {.linear = linear_without_residual}},
    {.what = "weights rounded to bf16", .model = "llama", .weights = KF_BF16},

    {.what = "nothing", .control = true, .model = "gpt2"},
    {.what = "eps is the default's",
     .model = "gpt2",
     .field = "layer_norm_epsilon",
     .value = "1e-5",
     .bf16_right = "0.5"},
    {.what = "GELU by erf",
     .model = "gpt2",
     .field = "activation_function",
     .value = "\"gelu\"",
     .bf16_right = "\"relu\""},
    {.what = "activation is GELU", .model = "gpt2_untied", .field = "activation_function", .value = "\"gelu_new\""},
    {.what = "no positions", .model = "gpt2", .ops = {.add = add_nothing}},
    {.what = "positions from 1", .model = "gpt2_untied", .ops = {.embed = embed_positions_from_one}},
    {.what = "norm without beta", .model = "gpt2", .ops = {.layernorm = layernorm_without_beta}},
    {.what = "no last norm", .model = "gpt2_untied", .ops = {.layernorm = layernorm_without_the_last}},
    {.what = "products without bias", .model = "gpt2", .ops = {.weight_pack = pack_without_output_bias}},
    {.what = "a square Conv1D as it lies", .model = "gpt2", .ops = {.weight_pack = pack_square_as_it_lies}},
    {.what = "mask one too long", .model = "gpt2", .ops = {.attention_paged = paged_sees_the_next}},
    {.what = "no residual", .model = "gpt2_untied", .ops = {.linear = linear_without_residual}},
    {.what = "the head is the embedding table",
     .model = "gpt2_untied",
     .field = "tie_word_embeddings",
     .value = "true"},
    {.what = "weights rounded to bf16", .model = "gpt2", .weights = KF_BF16},
};

/* ---- applying one ---- */

static void spoil(kf_device *d, const struct kf_device_ops *with) {
    spoil_open(d);
    if (with->weight_pack) spoilt.weight_pack = with->weight_pack;
    if (with->embed) spoilt.embed = with->embed;
    if (with->add) spoilt.add = with->add;
    if (with->embed_bert) spoilt.embed_bert = with->embed_bert;
    if (with->linear) spoilt.linear = with->linear;
    if (with->layernorm) spoilt.layernorm = with->layernorm;
    if (with->rmsnorm) spoilt.rmsnorm = with->rmsnorm;
    if (with->rope_kv_write) spoilt.rope_kv_write = with->rope_kv_write;
    if (with->attention) spoilt.attention = with->attention;
    if (with->attention_paged) spoilt.attention_paged = with->attention_paged;
    if (with->gated) spoilt.gated = with->gated;
    if (with->mean_rows) spoilt.mean_rows = with->mean_rows;
    d->ops = &spoilt;
}

/* The reference is transformers', or in bf16 what the CPU device says in f32 of the same changed checkpoint. */
static void mutation_case(const golden_device *on, const mutation *mu) {
    kf_device *d = NULL;
    const bool bf16 = on->opts.dtype == KF_BF16;
    kf_device_opts opts = on->opts;
    golden_input in = golden_input_open(mu->model);
    comparison c = comparison_for(&in.g, opts.dtype);
    checkpoint_copy copy = copy_make(
        mu->model, bf16 ? (copy_change){mu->bf16_gain != 0 ? mu->bf16_gain : COPY_GAIN, mu->tail} : (copy_change){0});
    recording r = {0};
    c.quiet = true;
    if (bf16 && mu->bf16_right) copy_set(&copy, mu->field, mu->bf16_right);
    if (bf16) golden_record(copy.dir, &in, &r), c.r = &r;
    if (mu->field) copy_set(&copy, mu->field, mu->value);
    if (mu->weights == KF_BF16) opts.dtype = KF_BF16;
    assert_ok(kf_device_open(on->device, &opts, &d));
    spoil(d, &mu->ops);
    golden_run(d, copy.dir, &in, comparing(&c));
    take_back(d);
    d->ops = &right;
    kf_device_close(d);
    copy_remove(&copy);
    recording_free(&r);
    golden_input_close(&in);

    printf("%-14s %-32s %2zu of %2zu tensors over, at worst %9.2f times a limit, first %s\n", mu->model, mu->what,
           c.n_over, c.n_compared, c.worst_share, c.n_over ? c.first_over : "none");
    if ((c.n_over > 0) == mu->control) fail_msg("%s, %s: %zu tensors over the limit", mu->model, mu->what, c.n_over);
}

static void all_mutations(const golden_device *on) {
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++)
        if (mutations[i].weights == KF_F32 || golden_is_f32(on)) mutation_case(on, &mutations[i]);
}

static void test_each_mutation_is_noticed(void **state) {
    (void)state;
    for_golden_devices(golden_is_invariant, all_mutations);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_mutation_is_noticed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
