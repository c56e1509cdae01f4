/* Reading config.json: each architecture is a line of a table, each field one call that says what it wants.
 * Run its test: ctest -R test_checkpoint_config. */
#include "model/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { SIZE_FIELD_MAX = 1 << 24, LAYERS_MAX = 1024, LABELS_MAX = 65536 };

static const struct architecture {
    const char *name, *model_type;
    kf_family family;
    kf_task task;
} architectures[] = {
    {"BertModel", "bert", KF_FAMILY_BERT, KF_TASK_TRUNK},
    {"BertForMaskedLM", "bert", KF_FAMILY_BERT, KF_TASK_TRUNK},    /* its language-model head is left in the file */
    {"BertForPreTraining", "bert", KF_FAMILY_BERT, KF_TASK_TRUNK}, /* so are both of its heads */
    {"BertForSequenceClassification", "bert", KF_FAMILY_BERT, KF_TASK_SEQUENCE},
    {"BertForTokenClassification", "bert", KF_FAMILY_BERT, KF_TASK_TOKEN},
    {"LlamaForCausalLM", "llama", KF_FAMILY_DECODER, KF_TASK_CAUSAL_LM},
    {"Qwen2ForCausalLM", "qwen2", KF_FAMILY_DECODER, KF_TASK_CAUSAL_LM},
    {"Qwen3ForCausalLM", "qwen3", KF_FAMILY_DECODER, KF_TASK_CAUSAL_LM},
    {"GPT2LMHeadModel", "gpt2", KF_FAMILY_DECODER, KF_TASK_CAUSAL_LM},
};

static const struct {
    const char *name;
    kf_activation act;
} activations[] = {
    {"gelu", KF_ACT_GELU},
    {"gelu_10", KF_ACT_GELU_10},
    {"gelu_accurate", KF_ACT_GELU_TANH},
    {"gelu_fast", KF_ACT_GELU_TANH},
    {"gelu_new", KF_ACT_GELU_TANH},
    {"gelu_python", KF_ACT_GELU},
    {"gelu_python_tanh", KF_ACT_GELU_TANH},
    {"gelu_pytorch_tanh", KF_ACT_GELU_TANH},
    {"laplace", KF_ACT_LAPLACE},
    {"leaky_relu", KF_ACT_LEAKY_RELU},
    {"linear", KF_ACT_NONE},
    {"mish", KF_ACT_MISH},
    {"quick_gelu", KF_ACT_QUICK_GELU},
    {"relu", KF_ACT_RELU},
    {"relu2", KF_ACT_RELU2},
    {"relu6", KF_ACT_RELU6},
    {"sigmoid", KF_ACT_SIGMOID},
    {"silu", KF_ACT_SILU},
    {"swish", KF_ACT_SILU},
    {"tanh", KF_ACT_TANH},
};

#define N_OF(a) (sizeof(a) / sizeof *(a))

kf_status kf_activation_parse(const char *name, kf_activation *out) {
    char known[320] = "";
    for (size_t i = 0, n = 0; i < N_OF(activations); i++) {
        if (strcmp(name, activations[i].name) == 0) {
            *out = activations[i].act;
            return KF_OK;
        }
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", activations[i].name);
    }
    return KF_FAIL(KF_ERR_UNSUPPORTED, "activation \"%.40s\" is not built; these are: %s", name, known);
}

/* ---- fields ---- */

typedef struct reader {
    const json_t *root;
    const char *path;
} reader;

/* A field that is absent or null is absent: transformers writes null for "the default". */
static const json_t *field(reader r, const char *key) {
    const json_t *v = json_object_get(r.root, key);
    return json_is_null(v) ? NULL : v;
}

/* What the field is where it is absent: a number above 0, or REQUIRED. */
enum { REQUIRED = 0 };

static kf_status get_size(reader r, const char *key, size_t absent, size_t max, size_t *out) {
    const json_t *v = field(r, key);
    if (!v && absent == REQUIRED) return KF_FAIL(KF_ERR_CORRUPT, "%s: no %s", r.path, key);
    if (v && !json_is_integer(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a whole number", r.path, key);
    json_int_t n = v ? json_integer_value(v) : (json_int_t)absent;
    if (n < 1 || (size_t)n > max)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s is %" JSON_INTEGER_FORMAT ", wanted 1 to %zu", r.path, key, n, max);
    *out = (size_t)n;
    return KF_OK;
}

static kf_status get_positive(reader r, const json_t *object, const char *key, double absent, double *out) {
    const json_t *v = json_object_get(object, key);
    if (json_is_null(v)) v = NULL;
    if (!v && absent == REQUIRED) return KF_FAIL(KF_ERR_CORRUPT, "%s: no %s", r.path, key);
    if (v && !json_is_number(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a number", r.path, key);
    double x = v ? json_number_value(v) : absent;
    if (!(x > 0) || !isfinite(x)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s is %g, wanted more than 0", r.path, key, x);
    *out = x;
    return KF_OK;
}

static kf_status get_bool(reader r, const char *key, bool absent, bool *out) {
    const json_t *v = field(r, key);
    if (v && !json_is_boolean(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be true or false", r.path, key);
    *out = v ? json_is_true(v) : absent;
    return KF_OK;
}

static kf_status get_act(reader r, const char *key, const char *absent, kf_activation *out) {
    const json_t *v = field(r, key);
    if (v && !json_is_string(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a name", r.path, key);
    KF_TRY(kf_activation_parse(v ? json_string_value(v) : absent, out));
    return KF_OK;
}

/* Refuses a setting that changes the numbers and that kefu does not compute. */
static kf_status refuse_true(reader r, const char *key, const char *why) {
    if (json_is_true(field(r, key))) return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: %s is true: %s", r.path, key, why);
    return KF_OK;
}

/* ---- architectures ---- */

/* transformers chooses its class by model_type: one that says another family than `architectures` is a mistake of
 * whoever wrote the file. Older files have none. */
static kf_status check_model_type(reader r, const struct architecture *a) {
    const json_t *v = field(r, "model_type");
    const char *found = json_is_string(v) ? json_string_value(v) : "?";
    if (!v || strcmp(found, a->model_type) == 0) return KF_OK;
    return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: model_type \"%.40s\", but %s wants \"%s\": correct one of the two", r.path,
                   found, a->name, a->model_type);
}

static kf_status get_architecture(reader r, kf_config *c) {
    const char *name = json_string_value(json_array_get(json_object_get(r.root, "architectures"), 0));
    char known[320] = "";
    for (size_t i = 0, n = 0; i < N_OF(architectures); i++) {
        if (name && strcmp(name, architectures[i].name) == 0) {
            snprintf(c->architecture, sizeof c->architecture, "%s", name);
            c->family = architectures[i].family;
            c->task = architectures[i].task;
            return check_model_type(r, &architectures[i]);
        }
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", architectures[i].name);
    }
    if (!name) return KF_FAIL(KF_ERR_CORRUPT, "%s: architectures names none of %s", r.path, known);
    return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: architecture \"%.60s\" is not built; these are: %s", r.path, name, known);
}

static kf_status get_label(reader r, const json_t *id2label, size_t id, kf_config *c) {
    char key[24];
    snprintf(key, sizeof key, "%zu", id);
    const json_t *label = json_object_get(id2label, key);
    if (id2label && !json_is_string(label))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: id2label has %zu entries and none for %s", r.path, c->n_labels, key);
    if (label)
        c->labels[id] = strdup(json_string_value(label));
    else if (asprintf(&c->labels[id], "LABEL_%zu", id) < 0)
        c->labels[id] = NULL;
    if (!c->labels[id]) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu labels", r.path, c->n_labels);
    return KF_OK;
}

static kf_status get_labels(reader r, kf_config *c) {
    const json_t *id2label = field(r, "id2label");
    if (id2label && !json_is_object(id2label))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: id2label must map numbers to names", r.path);
    size_t n = json_object_size(id2label);
    if (!id2label) KF_TRY(get_size(r, "num_labels", 2, LABELS_MAX, &n)); /* 2 is transformers' default */
    if (n < 1 || n > LABELS_MAX)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %zu labels, wanted 1 to %d", r.path, n, LABELS_MAX);
    if (!(c->labels = calloc(n, sizeof *c->labels)))
        return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu labels", r.path, n);
    c->n_labels = n;
    for (size_t i = 0; i < n; i++)
        KF_TRY(get_label(r, id2label, i, c));
    return KF_OK;
}

/* hidden_size is n_heads heads; for a decoder the head may have a size of its own. */
static kf_status get_trunk(reader r, kf_config *c) {
    KF_TRY(get_size(r, "vocab_size", REQUIRED, SIZE_FIELD_MAX, &c->vocab_size));
    KF_TRY(get_size(r, "hidden_size", REQUIRED, SIZE_FIELD_MAX, &c->hidden));
    KF_TRY(get_size(r, "intermediate_size", REQUIRED, SIZE_FIELD_MAX, &c->intermediate));
    KF_TRY(get_size(r, "num_hidden_layers", REQUIRED, LAYERS_MAX, &c->n_layers));
    KF_TRY(get_size(r, "num_attention_heads", REQUIRED, SIZE_FIELD_MAX, &c->n_heads));
    return KF_OK;
}

/* Where a head has no size of its own. */
static kf_status get_equal_heads(reader r, const char *hidden, const char *n_heads, kf_config *c) {
    if (c->hidden % c->n_heads != 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s %zu is no multiple of %s %zu", r.path, hidden, c->hidden, n_heads,
                       c->n_heads);
    c->n_kv_heads = c->n_heads;
    c->head_dim = c->hidden / c->n_heads;
    return KF_OK;
}

static kf_status get_bert(reader r, kf_config *c) {
    KF_TRY(get_size(r, "max_position_embeddings", 512, SIZE_FIELD_MAX, &c->max_positions));
    KF_TRY(get_size(r, "type_vocab_size", 2, SIZE_FIELD_MAX, &c->type_vocab_size));
    double eps = 0;
    KF_TRY(get_positive(r, r.root, "layer_norm_eps", 1e-12, &eps));
    c->eps = (float)eps;
    const char *act = json_string_value(field(r, "hidden_act"));
    c->prelu = act && strcmp(act, "prelu") == 0;
    if (c->prelu)
        c->act = KF_ACT_RELU;
    else
        KF_TRY(get_act(r, "hidden_act", "gelu", &c->act));
    KF_TRY(get_equal_heads(r, "hidden_size", "num_attention_heads", c));

    const json_t *position = field(r, "position_embedding_type");
    if (position && (!json_is_string(position) || strcmp(json_string_value(position), "absolute") != 0))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: position_embedding_type \"%.40s\" is not built; \"absolute\" is",
                       r.path, json_is_string(position) ? json_string_value(position) : "?");
    KF_TRY(refuse_true(r, "is_decoder", "a causal BERT is not built"));
    KF_TRY(refuse_true(r, "add_cross_attention", "cross-attention is not built"));
    if (c->task == KF_TASK_SEQUENCE || c->task == KF_TASK_TOKEN) KF_TRY(get_labels(r, c));
    return KF_OK;
}

static const struct {
    const char *name;
    kf_rope_type type;
} rope_types[] = {{"default", KF_ROPE_DEFAULT}, {"linear", KF_ROPE_LINEAR}, {"llama3", KF_ROPE_LLAMA3}};

/* An object with no type is transformers' "default"; older files spell rope_type "type". */
static kf_status get_rope_type(reader r, kf_rope_type *out) {
    char known[64] = "";
    const json_t *type = field(r, "rope_type");
    if (!type) type = field(r, "type");
    if (type && !json_is_string(type)) return KF_FAIL(KF_ERR_CORRUPT, "%s: rope_type must be a name", r.path);
    const char *name = type ? json_string_value(type) : "default";
    for (size_t i = 0, n = 0; i < N_OF(rope_types); i++) {
        if (strcmp(name, rope_types[i].name) == 0) {
            *out = rope_types[i].type;
            return KF_OK;
        }
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", rope_types[i].name);
    }
    return KF_FAIL(KF_ERR_UNSUPPORTED, "%s of type \"%.40s\" is not built; these are: %s", r.path, name, known);
}

/* The object `key` of the config; default where it is absent. */
static kf_status get_rope_scaling(reader r, const char *key, kf_rope_scaling *out) {
    char where[512];
    kf_rope_scaling s = {.type = KF_ROPE_DEFAULT};
    const json_t *object = field(r, key);
    if (object && !json_is_object(object)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be an object", r.path, key);
    snprintf(where, sizeof where, "%s: %s", r.path, key);
    const reader in = {object, where};
    if (object) KF_TRY(get_rope_type(in, &s.type));
    if (s.type != KF_ROPE_DEFAULT) KF_TRY(get_positive(in, object, "factor", REQUIRED, &s.factor));
    if (s.type == KF_ROPE_LLAMA3) {
        KF_TRY(get_positive(in, object, "low_freq_factor", REQUIRED, &s.low_freq_factor));
        KF_TRY(get_positive(in, object, "high_freq_factor", REQUIRED, &s.high_freq_factor));
        KF_TRY(get_size(in, "original_max_position_embeddings", REQUIRED, SIZE_FIELD_MAX, &s.original_max_positions));
        if (s.high_freq_factor <= s.low_freq_factor)
            return KF_FAIL(KF_ERR_CORRUPT, "%s: high_freq_factor is %g, wanted more than low_freq_factor, %g", where,
                           s.high_freq_factor, s.low_freq_factor);
    }
    *out = s;
    return KF_OK;
}

static bool same_scaling(const kf_rope_scaling *a, const kf_rope_scaling *b) {
    return a->type == b->type && a->factor == b->factor && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->original_max_positions == b->original_max_positions;
}

/* transformers 4 writes rope_theta and rope_scaling, transformers 5 one object rope_parameters with all of it. */
static kf_status get_rope(reader r, kf_config *c) {
    const json_t *scaling = field(r, "rope_scaling"), *parameters = field(r, "rope_parameters");
    kf_rope_scaling older, newer;
    KF_TRY(get_rope_scaling(r, "rope_scaling", &older));
    KF_TRY(get_rope_scaling(r, "rope_parameters", &newer));
    if (scaling && parameters && !same_scaling(&older, &newer))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: rope_scaling and rope_parameters differ: take out the wrong one", r.path);
    c->rope_scaling = parameters ? newer : older;

    double rotary = 1;
    KF_TRY(get_positive(r, r.root, "rope_theta", 10000, &c->rope_theta));
    KF_TRY(get_positive(r, parameters, "rope_theta", c->rope_theta, &c->rope_theta));
    KF_TRY(get_positive(r, r.root, "partial_rotary_factor", 1, &rotary));
    KF_TRY(get_positive(r, parameters, "partial_rotary_factor", rotary, &rotary));
    if (rotary != 1)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: partial_rotary_factor is %g: only 1 is built", r.path, rotary);
    return KF_OK;
}

static kf_status get_token_ids(reader r, kf_config *c) {
    const json_t *bos = field(r, "bos_token_id"), *eos = field(r, "eos_token_id");
    c->bos_id = json_is_integer(bos) ? (int32_t)json_integer_value(bos) : -1;
    size_t n = json_is_array(eos) ? json_array_size(eos) : eos ? 1 : 0;
    if (n > KF_MAX_EOS)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: eos_token_id has %zu ids, at most %d are kept", r.path, n, KF_MAX_EOS);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (v < 0 || (size_t)v >= c->vocab_size)
            return KF_FAIL(KF_ERR_CORRUPT, "%s: eos_token_id must be ids below vocab_size %zu", r.path, c->vocab_size);
        c->eos_ids[c->n_eos++] = (int32_t)v;
    }
    return KF_OK;
}

static kf_status refuse_sliding_window(reader r) {
    KF_TRY(refuse_true(r, "use_sliding_window", "sliding-window attention is not built"));
    const json_t *types = field(r, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, "full_attention") != 0)
            return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: layer_types[%zu] is \"%.40s\": only full_attention is built",
                           r.path, i, type ? type : "?");
    }
    return KF_OK;
}

/* What sets the three apart: where biases are, Qwen3's norm over each head, and defaults of fields that are absent. */
static kf_status get_decoder(reader r, kf_config *c) {
    bool qwen2 = strncmp(c->architecture, "Qwen2", 5) == 0, qwen3 = strncmp(c->architecture, "Qwen3", 5) == 0;
    KF_TRY(get_size(r, "max_position_embeddings", qwen2 || qwen3 ? 32768 : 2048, SIZE_FIELD_MAX, &c->max_positions));
    KF_TRY(get_size(r, "num_key_value_heads", c->n_heads, SIZE_FIELD_MAX, &c->n_kv_heads));
    if (c->n_heads % c->n_kv_heads != 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: num_attention_heads %zu is no multiple of num_key_value_heads %zu", r.path,
                       c->n_heads, c->n_kv_heads);
    size_t head_dim = qwen3 ? 128 : c->hidden / c->n_heads;
    KF_TRY(get_size(r, "head_dim", head_dim, SIZE_FIELD_MAX, &c->head_dim));
    if (c->head_dim % 2 != 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: head_dim %zu is odd: RoPE turns pairs", r.path, c->head_dim);
    double eps = 0;
    KF_TRY(get_positive(r, r.root, "rms_norm_eps", 1e-6, &eps));
    c->eps = (float)eps;
    KF_TRY(get_act(r, "hidden_act", "silu", &c->act));

    bool attention_bias = false;
    KF_TRY(get_bool(r, "attention_bias", false, &attention_bias));
    KF_TRY(get_bool(r, "mlp_bias", false, &c->mlp_bias));
    KF_TRY(get_bool(r, "tie_word_embeddings", false, &c->tied));
    c->qk_norm = qwen3;
    c->qkv_bias = qwen2 || attention_bias;
    c->o_bias = !qwen2 && attention_bias;
    c->mlp_bias = c->mlp_bias && !qwen2 && !qwen3;
    KF_TRY(get_rope(r, c));
    KF_TRY(refuse_sliding_window(r));
    return get_token_ids(r, c);
}

/* GPT-2 spells every field its own way; every product has a bias, and the head is tied where nothing is said. */
static kf_status get_gpt2(reader r, kf_config *c) {
    double eps = 0;
    bool scaled = true;
    c->layout = KF_LAYOUT_GPT2;
    KF_TRY(get_size(r, "vocab_size", REQUIRED, SIZE_FIELD_MAX, &c->vocab_size));
    KF_TRY(get_size(r, "n_embd", REQUIRED, SIZE_FIELD_MAX, &c->hidden));
    KF_TRY(get_size(r, "n_inner", 4 * c->hidden, SIZE_FIELD_MAX, &c->intermediate));
    KF_TRY(get_size(r, "n_layer", REQUIRED, LAYERS_MAX, &c->n_layers));
    KF_TRY(get_size(r, "n_head", REQUIRED, SIZE_FIELD_MAX, &c->n_heads));
    KF_TRY(get_size(r, "n_positions", 1024, SIZE_FIELD_MAX, &c->max_positions));
    KF_TRY(get_equal_heads(r, "n_embd", "n_head", c));
    KF_TRY(get_positive(r, r.root, "layer_norm_epsilon", 1e-5, &eps));
    c->eps = (float)eps;
    KF_TRY(get_act(r, "activation_function", "gelu_new", &c->act));
    KF_TRY(get_bool(r, "tie_word_embeddings", true, &c->tied));
    KF_TRY(get_bool(r, "scale_attn_weights", true, &scaled));
    if (!scaled)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: scale_attn_weights is false: only scaled attention is built", r.path);
    KF_TRY(refuse_true(r, "scale_attn_by_inverse_layer_idx", "attention scaled by the layer is not built"));
    KF_TRY(refuse_true(r, "add_cross_attention", "cross-attention is not built"));
    c->qkv_bias = c->o_bias = c->mlp_bias = true;
    return get_token_ids(r, c);
}

static kf_status read_all(reader r, kf_config *c) {
    KF_TRY(get_architecture(r, c));
    if (field(r, "quantization_config"))
        return KF_FAIL(KF_ERR_UNSUPPORTED,
                       "%s: quantization_config: quantised weights are not built; use F32, BF16 or F16", r.path);
    if (strcmp(c->architecture, "GPT2LMHeadModel") == 0) return get_gpt2(r, c);
    KF_TRY(get_trunk(r, c));
    return c->family == KF_FAMILY_BERT ? get_bert(r, c) : get_decoder(r, c);
}

kf_status kf_config_read(const char *dir, kf_config *out) {
    kf_config c = {.bos_id = -1};
    json_t *root = NULL;
    char *path = kf_path_join(dir, "config.json");
    if (!path) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a file's path");
    kf_status s = kf_json_read(path, KF_JSON_BYTES_MAX, JSON_REJECT_DUPLICATES, &root, &c.hash);
    KF_STEP(s, read_all((reader){root, path}, &c));
    if (s == KF_OK)
        *out = c;
    else
        kf_config_free(&c);
    json_decref(root);
    free(path);
    return s;
}

void kf_config_free(kf_config *c) {
    for (size_t i = 0; c->labels && i < c->n_labels; i++)
        free(c->labels[i]);
    free(c->labels);
    c->labels = NULL;
    c->n_labels = 0;
}

void kf_model_id(const char *dir, uint64_t hash, char *out, size_t cap) {
    size_t n = strlen(dir);
    while (n && dir[n - 1] == '/')
        n--;
    size_t start = n;
    while (start && dir[start - 1] != '/')
        start--;
    snprintf(out, cap, "%.*s@%012" PRIx64, (int)(n - start < 48 ? n - start : 48), dir + start, hash >> 16);
}
