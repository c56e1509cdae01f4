/* config.json as transformers saves it, read into what a forward pass needs. Everything that would change the
 * numbers and that kefu does not compute is refused by name: a wrong answer is worse than none.
 *
 *     kf_config c;
 *     KF_TRY(kf_config_read("models/encoder", &c));
 *     …
 *     kf_config_free(&c);
 */
#ifndef KF_MODEL_CONFIG_H
#define KF_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "device/device.h"

typedef enum kf_family { KF_FAMILY_BERT, KF_FAMILY_DECODER } kf_family;

/* What a checkpoint's own head is: `architectures[0]`. */
typedef enum kf_task { KF_TASK_TRUNK, KF_TASK_SEQUENCE, KF_TASK_TOKEN, KF_TASK_CAUSAL_LM } kf_task;

/* How a decoder's tensors are named and lie, and with them which operations its layers have: MODEL.md. */
typedef enum kf_layout { KF_LAYOUT_LLAMA, KF_LAYOUT_GPT2 } kf_layout;

enum { KF_MAX_EOS = 8 };

/* How RoPE's frequencies are stretched for texts longer than those a model was first trained on. */
typedef enum kf_rope_type { KF_ROPE_DEFAULT, KF_ROPE_LINEAR, KF_ROPE_LLAMA3 } kf_rope_type;

typedef struct kf_rope_scaling {
    kf_rope_type type;
    double factor;                            /* linear, llama3 */
    double low_freq_factor, high_freq_factor; /* llama3: low < high */
    size_t original_max_positions;            /* llama3 */
} kf_rope_scaling;

typedef struct kf_config {
    char architecture[64]; /* "BertForTokenClassification", "Qwen3ForCausalLM", … */
    kf_family family;
    kf_task task;

    size_t vocab_size, hidden, intermediate, n_layers, n_heads, n_kv_heads, head_dim, max_positions;
    float eps;
    kf_activation act;

    /* BERT */
    bool prelu; /* hidden_act is prelu, whose slope is a weight: act is KF_ACT_RELU, see prelu.h */
    size_t type_vocab_size;
    size_t n_labels; /* 0 for a trunk */
    char **labels;   /* [n_labels]; id2label, or LABEL_0 … as transformers names them */

    /* decoders */
    kf_layout layout;
    double rope_theta; /* 0: no RoPE (GPT-2) */
    kf_rope_scaling rope_scaling;
    bool qk_norm;   /* RMSNorm over each head of Q and K before RoPE (Qwen3) */
    bool qkv_bias;  /* Qwen2; Llama and Qwen3 with attention_bias */
    bool o_bias;    /* attention_bias */
    bool mlp_bias;  /* Llama */
    bool tied;      /* the head is the embedding table: tie_word_embeddings */
    int32_t bos_id; /* -1: none */
    int32_t eos_ids[KF_MAX_EOS];
    size_t n_eos;

    uint64_t hash; /* kf_fnv64_words over the file's bytes */
} kf_config;

/* Reads DIR/config.json (at most 1 MiB). *out is the caller's to kf_config_free.
 * KF_ERR_NOT_FOUND; KF_ERR_IO; KF_ERR_CORRUPT: not JSON, a field that must be there is not, or is out of range (the
 * text names the field and its value); KF_ERR_UNSUPPORTED: the text names what is not built and what is. */
kf_status kf_config_read(const char *dir, kf_config *out);
void kf_config_free(kf_config *c);

/* "NAME@HASH" of a model into out: the last part of dir's path and 12 hexadecimal digits. */
void kf_model_id(const char *dir, uint64_t hash, char *out, size_t cap);

/* The activation that transformers' ACT2FN calls `name`. KF_ERR_UNSUPPORTED lists the names that are known. */
kf_status kf_activation_parse(const char *name, kf_activation *out);

#endif
