/* A decoder's weights and tables: the names in its checkpoint, read and freed. MODEL.md has them all. */
#include "model/decoder_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A frequency as config.json's scaling leaves it. Llama 3: a wave that turns high_freq_factor times or more within the
 * first training's texts keeps its frequency, one that turns less than low_freq_factor times is slowed down like all
 * are in linear scaling, and between the two it is a mixture. */
static float scale_frequency(const kf_rope_scaling *r, float frequency) {
    const float factor = (float)r->factor;
    const double n_positions = (double)r->original_max_positions;
    if (r->type == KF_ROPE_DEFAULT) return frequency;
    if (r->type == KF_ROPE_LINEAR) return frequency / factor;
    const float wavelength = 1.0f / frequency * (float)(2 * M_PI);
    if (wavelength > (float)(n_positions / r->low_freq_factor)) return frequency / factor;
    if (wavelength < (float)(n_positions / r->high_freq_factor)) return frequency;
    const float turns = 1.0f / wavelength * (float)n_positions;
    const float kept = (turns - (float)r->low_freq_factor) / (float)(r->high_freq_factor - r->low_freq_factor);
    return (1.0f - kept) * frequency / factor + kept * frequency;
}

/* cos and sin of position * frequency, a frequency for each pair: rope_theta^(-2i / head_dim), then scaled;
 * [max_seqlen, head_dim / 2]. In f32 at the same places as transformers rounds: a model was trained with those angles,
 * and at position 4000 the exact ones are 1e-4 away. */
static void fill_rope(const kf_decoder *m, float *cosines, float *sines) {
    const size_t half = m->config.head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)m->config.head_dim;
        float frequency = scale_frequency(&m->config.rope_scaling, 1.0f / (float)pow(m->config.rope_theta, exponent));
        for (size_t position = 0; position < m->max_seqlen; position++) {
            float angle = (float)position * frequency;
            cosines[position * half + i] = cosf(angle);
            sines[position * half + i] = sinf(angle);
        }
    }
}

kf_status kf_decoder_load_rope(kf_decoder *m, kf_loader *l) {
    const size_t n = m->max_seqlen * (m->config.head_dim / 2);
    float *table = malloc(2 * n * sizeof *table), *device_cos = NULL, *device_sin = NULL;
    if (!table) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu angles", n);
    fill_rope(m, table, table + n);
    kf_status s = kf_load_f32(l, table, n, "rope table", &device_cos);
    KF_STEP(s, kf_load_f32(l, table + n, n, "rope table", &device_sin));
    m->rope = (kf_rope_table){device_cos, device_sin};
    free(table);
    return s;
}

static kf_status load_norm(kf_loader *l, const char *name, const kf_config *c, kf_decoder_norm *out) {
    char tensor[KF_TENSOR_NAME_MAX];
    snprintf(tensor, sizeof tensor, "%s.weight", name);
    KF_TRY(kf_load_vector(l, tensor, c->hidden, &out->gamma));
    snprintf(tensor, sizeof tensor, "%s.bias", name);
    if (c->layout == KF_LAYOUT_GPT2) KF_TRY(kf_load_vector(l, tensor, c->hidden, &out->beta));
    return KF_OK;
}

static kf_status load_llama_layer(kf_loader *l, const kf_config *c, kf_decoder_layer *layer) {
    const size_t q_width = c->n_heads * c->head_dim, kv_width = c->n_kv_heads * c->head_dim;
    const kf_linear_part qkv[] = {{.name = "self_attn.q_proj", .n_out = q_width, .bias = c->qkv_bias},
                                  {.name = "self_attn.k_proj", .n_out = kv_width, .bias = c->qkv_bias},
                                  {.name = "self_attn.v_proj", .n_out = kv_width, .bias = c->qkv_bias}};
    const kf_linear_part gate_up[] = {{.name = "mlp.gate_proj", .n_out = c->intermediate, .bias = c->mlp_bias},
                                      {.name = "mlp.up_proj", .n_out = c->intermediate, .bias = c->mlp_bias}};
    KF_TRY(load_norm(l, "input_layernorm", c, &layer->norm_attention));
    KF_TRY(kf_load_stack(l, qkv, 3, c->hidden, &layer->wqkv));
    if (c->qk_norm) {
        KF_TRY(kf_load_vector(l, "self_attn.q_norm.weight", c->head_dim, &layer->q_norm));
        KF_TRY(kf_load_vector(l, "self_attn.k_norm.weight", c->head_dim, &layer->k_norm));
    }
    KF_TRY(kf_load_linear(l, "self_attn.o_proj", c->hidden, q_width, c->o_bias, &layer->wo));
    KF_TRY(load_norm(l, "post_attention_layernorm", c, &layer->norm_mlp));
    KF_TRY(kf_load_stack(l, gate_up, 2, c->hidden, &layer->w_gate_up));
    return kf_load_linear(l, "mlp.down_proj", c->hidden, c->intermediate, c->mlp_bias, &layer->w_down);
}

/* GPT-2's Conv1D: a product whose weight lies [n_in, n_out]. */
static kf_status load_conv1d(kf_loader *l, const char *name, size_t n_out, size_t n_in, kf_weight **out) {
    const kf_linear_part part = {.name = name, .n_out = n_out, .bias = true, .transposed = true};
    return kf_load_stack(l, &part, 1, n_in, out);
}

static kf_status load_gpt2_layer(kf_loader *l, const kf_config *c, kf_decoder_layer *layer) {
    KF_TRY(load_norm(l, "ln_1", c, &layer->norm_attention));
    KF_TRY(load_conv1d(l, "attn.c_attn", 3 * c->hidden, c->hidden, &layer->wqkv));
    KF_TRY(load_conv1d(l, "attn.c_proj", c->hidden, c->hidden, &layer->wo));
    KF_TRY(load_norm(l, "ln_2", c, &layer->norm_mlp));
    KF_TRY(load_conv1d(l, "mlp.c_fc", c->intermediate, c->hidden, &layer->w_up));
    return load_conv1d(l, "mlp.c_proj", c->hidden, c->intermediate, &layer->w_down);
}

/* What the two layouts call what they both have. GPT-2's own file has no prefix, what transformers saves has one. */
static const struct {
    const char *prefix, *embed, *norm, *layers;
} names[] = {[KF_LAYOUT_LLAMA] = {"model.", "embed_tokens.weight", "norm", "layers"},
             [KF_LAYOUT_GPT2] = {"transformer.", "wte.weight", "ln_f", "h"}};

static kf_status load_head(kf_decoder *m, kf_loader *l) {
    const kf_config *c = &m->config;
    if (!c->tied) kf_loader_at(l, "%s", "");
    return kf_load_matrix(l, c->tied ? names[c->layout].embed : "lm_head.weight", c->vocab_size, c->hidden, &m->head);
}

kf_status kf_decoder_load_weights(kf_decoder *m, kf_loader *l) {
    const kf_config *c = &m->config;
    const bool gpt2 = c->layout == KF_LAYOUT_GPT2;
    const char *prefix = gpt2 && kf_loader_has(l, "wte.weight") ? "" : names[c->layout].prefix;
    kf_loader_at(l, "%s", prefix);
    KF_TRY(kf_load_table(l, names[c->layout].embed, c->vocab_size, c->vocab_size, c->hidden, &m->embed));
    if (gpt2) KF_TRY(kf_load_table(l, "wpe.weight", c->max_positions, c->max_positions, c->hidden, &m->positions));
    KF_TRY(load_norm(l, names[c->layout].norm, c, &m->norm));
    KF_TRY(load_head(m, l));
    if (!(m->layers = calloc(c->n_layers, sizeof *m->layers)))
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu layers", c->n_layers);
    for (size_t i = 0; i < c->n_layers; i++) {
        kf_loader_at(l, "%s%s.%zu.", prefix, names[c->layout].layers, i);
        KF_TRY((gpt2 ? load_gpt2_layer : load_llama_layer)(l, c, &m->layers[i]));
    }
    return KF_OK;
}

static void free_norm(kf_device *d, kf_decoder_norm w) {
    kf_device_free(d, w.gamma);
    kf_device_free(d, w.beta);
}

static void free_layer(kf_device *d, kf_decoder_layer *l) {
    free_norm(d, l->norm_attention);
    kf_device_free(d, l->q_norm);
    kf_device_free(d, l->k_norm);
    free_norm(d, l->norm_mlp);
    kf_weight_free(d, l->wqkv);
    kf_weight_free(d, l->wo);
    kf_weight_free(d, l->w_gate_up);
    kf_weight_free(d, l->w_up);
    kf_weight_free(d, l->w_down);
}

void kf_decoder_free_weights(kf_decoder *m) {
    for (size_t i = 0; m->layers && i < m->config.n_layers; i++)
        free_layer(m->d, &m->layers[i]);
    free(m->layers);
    kf_device_free(m->d, m->embed);
    kf_device_free(m->d, m->positions);
    free_norm(m->d, m->norm);
    kf_weight_free(m->d, m->head);
    kf_device_free(m->d, (void *)m->rope.cos);
    kf_device_free(m->d, (void *)m->rope.sin);
}
