/* Aim: the golden tests tell right from nearly right. Method: one thing is spoilt at a time, the way a port of a model
 * goes wrong (a config field, or one operation of the device's table), and the same comparison with the same limits
 * must then find at least one tensor over its limit. With nothing spoilt it must find none.
 *
 * Two mistakes are no mistakes and are not in the list: a key's bias adds the same to every score of a query, and the
 * same shift of all positions leaves RoPE's products as they are. */
#include "golden_run.h"

#include <jansson.h>
#include <limits.h>
#include <unistd.h>

/* The device's own table, and the one whose operations are spoilt. One device at a time. */
static struct kf_device_ops right, spoilt;

/* ---- operations gone wrong ---- */

static void layernorm_without_residual(kf_stream *s, void *out, const void *x, const void *residual, const void *gamma,
                                       const void *beta, float eps, size_t n_rows, size_t hidden) {
    (void)residual;
    right.layernorm(s, out, x, NULL, gamma, beta, eps, n_rows, hidden);
}

static void layernorm_without_beta(kf_stream *s, void *out, const void *x, const void *residual, const void *gamma,
                                   const void *beta, float eps, size_t n_rows, size_t hidden) {
    static const float zeros[1024];
    (void)beta;
    right.layernorm(s, out, x, residual, gamma, zeros, eps, n_rows, hidden);
}

static void embed_bert_positions_from_one(kf_stream *s, void *out, const void *word, const void *position,
                                          const void *type0, size_t hidden, const kf_batch *b) {
    right.embed_bert(s, out, word, (const float *)position + hidden, type0, hidden, b); /* 41 positions, 40 are used */
}

static void embed_bert_without_type(kf_stream *s, void *out, const void *word, const void *position, const void *type0,
                                    size_t hidden, const kf_batch *b) {
    static const float zeros[1024];
    (void)type0;
    right.embed_bert(s, out, word, position, zeros, hidden, b);
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
    int32_t cu[GOLDEN_SEQS + 1];
    memcpy(cu, b->cu_seqlens, (b->n_seqs + 1) * sizeof *cu);
    for (size_t i = 1; i < b->n_seqs; i++)
        if (cu[i] - cu[i - 1] > 1) cu[i] += by;
    kf_batch moved = *b;
    moved.cu_seqlens = cu;
    right.attention(s, out, qkv, &moved, h);
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
    for (size_t i = 0; i < n_seqs; i++) {
        int32_t ends[] = {cu[i], cu[i + 1] - (cu[i + 1] - cu[i] > 1)};
        right.mean_rows(s, (float *)out + i * width, x, ends, 1, width);
    }
}

static void rmsnorm_not_over_heads(kf_stream *s, void *out, const void *x, size_t stride, const void *gamma, float eps,
                                   size_t n_rows, size_t n_groups, size_t width) {
    if (n_groups > 1) return; /* in place: Q and K stay as they are */
    right.rmsnorm(s, out, x, stride, gamma, eps, n_rows, n_groups, width);
}

static void rmsnorm_without_gamma(kf_stream *s, void *out, const void *x, size_t stride, const void *gamma, float eps,
                                  size_t n_rows, size_t n_groups, size_t width) {
    float ones[1024];
    (void)gamma;
    for (size_t i = 0; i < width; i++)
        ones[i] = 1;
    right.rmsnorm(s, out, x, stride, ones, eps, n_rows, n_groups, width);
}

/* The last norm is the one over the few rows that draw a token; in place. */
static void rmsnorm_without_the_last(kf_stream *s, void *out, const void *x, size_t stride, const void *gamma,
                                     float eps, size_t n_rows, size_t n_groups, size_t width) {
    if (out == x && n_groups == 1) return;
    right.rmsnorm(s, out, x, stride, gamma, eps, n_rows, n_groups, width);
}

/* Queries one position further than keys. Qwen3's 6 and 2 heads tell them apart, as Llama's 9 and 3. */
static void rope_query_shifted(kf_stream *s, void *x, size_t stride, const kf_rope_table *t, const int32_t *positions,
                               size_t n_tokens, size_t n_heads, size_t head_dim) {
    kf_rope_table shifted = {t->cos + head_dim / 2, t->sin + head_dim / 2};
    right.rope(s, x, stride, n_heads > 4 ? &shifted : t, positions, n_tokens, n_heads, head_dim);
}

static void rope_turned_back(kf_stream *s, void *x, size_t stride, const kf_rope_table *t, const int32_t *positions,
                             size_t n_tokens, size_t n_heads, size_t head_dim) {
    (void)t, (void)s;
    for (size_t i = 0; i < n_tokens; i++)
        for (size_t h = 0; h < n_heads; h++) {
            float *row = (float *)x + i * stride + h * head_dim;
            for (size_t c = 0; c < head_dim / 2; c++) { /* neighbours (2c, 2c + 1): GPT-J's layout */
                float cosine = t->cos[(size_t)positions[i] * (head_dim / 2) + c];
                float sine = t->sin[(size_t)positions[i] * (head_dim / 2) + c], a = row[2 * c], b = row[2 * c + 1];
                row[2 * c] = a * cosine - b * sine;
                row[2 * c + 1] = b * cosine + a * sine;
            }
        }
}

static void paged_sees_the_next(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                                const kf_batch *b, const kf_paged *p, kf_heads h) {
    int32_t kv_len[GOLDEN_SEQS];
    kf_paged more = *p;
    for (size_t i = 0; i < b->n_seqs; i++)
        kv_len[i] = p->kv_len[i] + 1;
    more.kv_len = kv_len;
    right.attention_paged(s, out, q, q_stride, cache, b, &more, h);
}

/* 1 / sqrt(hidden / n_heads), which for Qwen3 is not head_dim. */
static void paged_scaled_by_hidden(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                                   const kf_batch *b, const kf_paged *p, kf_heads h) {
    h.scale = 1.0f / sqrtf(40.0f / 6);
    right.attention_paged(s, out, q, q_stride, cache, b, p, h);
}

static void gated_swapped(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows,
                          size_t width) {
    float row[1024];
    for (size_t r = 0; r < n_rows; r++) {
        const float *x = (const float *)gate_up + r * 2 * width;
        memcpy(row, x + width, width * sizeof *row);
        memcpy(row + width, x, width * sizeof *row);
        right.gated(s, (float *)out + r * width, row, act, 1, width);
    }
}

/* ---- the list ---- */

typedef struct mutation {
    const char *what, *model;
    const char *field, *value; /* of config.json, as JSON; NULL: as it is */
    struct kf_device_ops ops;  /* entries that are not NULL replace the device's */
    kf_dtype weights;          /* KF_BF16: the device rounds them */
    bool control;              /* nothing is spoilt: the comparison must find nothing */
} mutation;

static const mutation mutations[] = {
    {.what = "nothing", .control = true, .model = "bert_trunk"},
    {.what = "nothing", .control = true, .model = "bert_sequence"},
    {.what = "nothing", .control = true, .model = "bert_token"},
    {.what = "nothing", .control = true, .model = "qwen3"},
    {.what = "nothing", .control = true, .model = "qwen2"},
    {.what = "nothing", .control = true, .model = "llama"},

    {.what = "eps is the default's", .model = "bert_trunk", .field = "layer_norm_eps", .value = "1e-12"},
    {.what = "eps is BERT's for another size", .model = "bert_sequence", .field = "layer_norm_eps", .value = "2.9e-3"},
    {.what = "GELU by tanh", .model = "bert_trunk", .field = "hidden_act", .value = "\"gelu_new\""},
    {.what = "GELU by erf", .model = "bert_token", .field = "hidden_act", .value = "\"gelu\""},
    {.what = "GELU by sigmoid", .model = "bert_sequence", .field = "hidden_act", .value = "\"quick_gelu\""},
    {.what = "prelu is relu", .model = "bert_prelu", .field = "hidden_act", .value = "\"relu\""},
    {.what = "prelu is leaky_relu", .model = "bert_prelu", .field = "hidden_act", .value = "\"leaky_relu\""},
    {.what = "Q without its bias", .model = "bert_trunk", .ops = {.weight_pack = pack_without_q_bias}},
    {.what = "V without its bias", .model = "bert_trunk", .ops = {.weight_pack = pack_without_v_bias}},
    {.what = "other products without bias", .model = "bert_sequence", .ops = {.weight_pack = pack_without_output_bias}},
    {.what = "K and V swapped", .model = "bert_token", .ops = {.weight_pack = pack_k_and_v_swapped}},
    {.what = "mask one too short", .model = "bert_sequence", .ops = {.attention = attention_end_too_early}},
    {.what = "mask one too long", .model = "bert_sequence", .ops = {.attention = attention_end_too_late}},
    {.what = "scores scaled by hidden", .model = "bert_token", .ops = {.attention = attention_scaled_by_hidden}},
    {.what = "positions from 1", .model = "bert_token", .ops = {.embed_bert = embed_bert_positions_from_one}},
    {.what = "no token type", .model = "bert_token", .ops = {.embed_bert = embed_bert_without_type}},
    {.what = "no residual", .model = "bert_trunk", .ops = {.layernorm = layernorm_without_residual}},
    {.what = "norm without beta", .model = "bert_trunk", .ops = {.layernorm = layernorm_without_beta}},
    {.what = "pooler without tanh", .model = "bert_sequence", .ops = {.linear = linear_without_tanh}},
    {.what = "mean without the last token", .model = "bert_trunk", .ops = {.mean_rows = mean_without_last}},
    {.what = "weights rounded to bf16", .model = "bert_trunk", .weights = KF_BF16},

    {.what = "eps is the default's", .model = "qwen3", .field = "rms_norm_eps", .value = "1e-6"},
    {.what = "RoPE base is the default's", .model = "qwen3", .field = "rope_theta", .value = "10000.0"},
    {.what = "RoPE base is off by 1 in 1000", .model = "llama", .field = "rope_theta", .value = "900.9"},
    {.what = "RoPE over neighbours", .model = "llama", .ops = {.rope = rope_turned_back}},
    {.what = "queries one position on", .model = "qwen3", .ops = {.rope = rope_query_shifted}},
    {.what = "gate is GELU", .model = "llama", .field = "hidden_act", .value = "\"gelu\""},
    {.what = "gate and up swapped", .model = "qwen2", .ops = {.gated = gated_swapped}},
    {.what = "no attention bias", .model = "llama", .field = "attention_bias", .value = "false"},
    {.what = "no MLP bias", .model = "llama", .field = "mlp_bias", .value = "false"},
    {.what = "Q without its bias", .model = "qwen2", .ops = {.weight_pack = pack_without_q_bias}},
    {.what = "the head is the embedding table", .model = "llama", .field = "tie_word_embeddings", .value = "true"},
    {.what = "no norm over heads", .model = "qwen3", .ops = {.rmsnorm = rmsnorm_not_over_heads}},
    {.what = "norm without gamma", .model = "llama", .ops = {.rmsnorm = rmsnorm_without_gamma}},
    {.what = "no last norm", .model = "qwen2", .ops = {.rmsnorm = rmsnorm_without_the_last}},
    {.what = "mask one too long", .model = "qwen3", .ops = {.attention_paged = paged_sees_the_next}},
    {.what = "scores scaled by hidden", .model = "qwen3", .ops = {.attention_paged = paged_scaled_by_hidden}},
    {.what = "no residual", .model = "llama", .ops = {.linear = linear_without_residual}},
    {.what = "weights rounded to bf16", .model = "llama", .weights = KF_BF16},
};

/* ---- applying one ---- */

static void spoil(kf_device *d, const struct kf_device_ops *with) {
    right = spoilt = *d->ops;
    if (with->weight_pack) spoilt.weight_pack = with->weight_pack;
    if (with->embed_bert) spoilt.embed_bert = with->embed_bert;
    if (with->linear) spoilt.linear = with->linear;
    if (with->layernorm) spoilt.layernorm = with->layernorm;
    if (with->rmsnorm) spoilt.rmsnorm = with->rmsnorm;
    if (with->rope) spoilt.rope = with->rope;
    if (with->attention) spoilt.attention = with->attention;
    if (with->attention_paged) spoilt.attention_paged = with->attention_paged;
    if (with->gated) spoilt.gated = with->gated;
    if (with->mean_rows) spoilt.mean_rows = with->mean_rows;
    d->ops = &spoilt;
}

/* A folder like the model's with one field of config.json changed: the rest are links. */
static void write_changed(const char *from, const char *to, const char *field, const char *value) {
    static const char *const files[] = {"model.safetensors", "heads"};
    char source[PATH_MAX], target[PATH_MAX];
    for (size_t i = 0; i < 2; i++) {
        snprintf(source, sizeof source, "%s/%s", from, files[i]);
        snprintf(target, sizeof target, "%s/%s", to, files[i]);
        assert_int_equal(symlink(source, target), 0);
    }
    snprintf(source, sizeof source, "%s/config.json", from);
    snprintf(target, sizeof target, "%s/config.json", to);
    json_t *root = json_load_file(source, 0, NULL), *v = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(root);
    assert_non_null(v);
    assert_non_null(json_object_get(root, field)); /* a field of the config, not one that nobody reads */
    assert_int_equal(json_object_set_new(root, field, v), 0);
    assert_int_equal(json_dump_file(root, target, 0), 0);
    json_decref(root);
}

static void remove_changed(const char *dir) {
    static const char *const files[] = {"model.safetensors", "heads", "config.json"};
    char path[PATH_MAX];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void mutation_case(const mutation *mu) {
    char dir[512], changed[] = "/tmp/kefu-mutation-XXXXXX";
    kf_device *d = NULL;
    snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", mu->model);
    golden_input in = golden_input_open(mu->model);
    comparison c = {.g = &in.g, .layer_limit = 1e-5, .logits_limit = 1e-4, .quiet = true};
    if (mu->field) {
        assert_non_null(mkdtemp(changed));
        write_changed(dir, changed, mu->field, mu->value);
        snprintf(dir, sizeof dir, "%s", changed);
    }
    assert_ok(kf_cpu_open(&(kf_device_opts){.dtype = mu->weights, .n_threads = 1, .plain_products = true}, &d));
    spoil(d, &mu->ops);
    if (strncmp(mu->model, "bert", 4) == 0)
        golden_run_bert(d, dir, &in, &c);
    else
        golden_run_decoder(d, dir, &in, &c);
    d->ops = &right;
    kf_device_close(d);
    if (mu->field) remove_changed(changed);
    golden_input_close(&in);

    printf("%-14s %-32s %2zu of %2zu tensors over, at worst %9.2f times a limit, first %s\n", mu->model, mu->what,
           c.n_over, c.n_compared, c.worst_share, c.n_over ? c.first_over : "none");
    if ((c.n_over > 0) == mu->control) fail_msg("%s, %s: %zu tensors over the limit", mu->model, mu->what, c.n_over);
}

static void test_each_mutation_is_noticed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++)
        mutation_case(&mutations[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_mutation_is_noticed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
