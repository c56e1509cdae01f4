/* Aim: config.json is read as transformers means it, and what kefu does not compute is refused by name. Method: golden
 * checkpoints' own configs with one field changed. */
#include "checkpoint_files.h"

#include <jansson.h>
#include <math.h>

#include "model/config.h"

#define GOLDEN_DIR KF_SOURCE_DIR "/tests/golden/data"

static char dir[64];

static int setup(void **state) {
    (void)state;
    folder_make(dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    folder_remove(dir);
    return 0;
}

/* Reads the model's config with `field` set to a JSON value, or taken out where that is NULL. */
static kf_status read_with(const char *model, const char *field, const char *value, kf_config *out) {
    char path[512];
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/config.json", model);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    if (field && value)
        assert_int_equal(json_object_set_new(root, field, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else if (field)
        assert_int_equal(json_object_del(root, field), 0);
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    return kf_config_read(dir, out);
}

static void test_bert(void **state) {
    (void)state;
    kf_config c = {0};
    assert_ok(read_with("bert_token", NULL, NULL, &c));
    assert_string_equal(c.architecture, "BertForTokenClassification");
    assert_true(c.family == KF_FAMILY_BERT && c.task == KF_TASK_TOKEN && c.act == KF_ACT_GELU_TANH);
    assert_true(c.vocab_size == 89 && c.hidden == 56 && c.intermediate == 60 && c.n_layers == 2 && c.n_heads == 4);
    assert_true(c.head_dim == 14 && c.max_positions == 41 && c.type_vocab_size == 3 && fabsf(c.eps - 2e-3f) < 1e-9f);
    assert_int_equal(c.n_labels, 9);
    assert_string_equal(c.labels[8], "tag-8");
    kf_config_free(&c);

    assert_ok(read_with("bert_token", "id2label", NULL, &c)); /* as transformers fills in what is absent */
    assert_int_equal(c.n_labels, 2);
    assert_string_equal(c.labels[1], "LABEL_1");
    kf_config_free(&c);
    assert_ok(read_with("bert_token", "layer_norm_eps", NULL, &c));
    assert_true(c.eps == 1e-12f);
    kf_config_free(&c);
}

static void test_decoders(void **state) {
    (void)state;
    kf_config c = {0};
    assert_ok(read_with("qwen3", NULL, NULL, &c));
    assert_true(c.family == KF_FAMILY_DECODER && c.task == KF_TASK_CAUSAL_LM && c.act == KF_ACT_SILU);
    assert_true(c.qk_norm && c.tied && !c.qkv_bias && !c.o_bias && !c.mlp_bias);
    assert_true(c.n_heads == 6 && c.n_kv_heads == 2 && c.head_dim == 12 && c.rope_theta == 700 && c.bos_id == -1);
    assert_true(c.n_eos == 1 && c.eos_ids[0] == 1);
    assert_ok(read_with("qwen2", NULL, NULL, &c));
    assert_true(!c.qk_norm && !c.tied && c.qkv_bias && !c.o_bias && c.head_dim == 14);
    assert_ok(read_with("llama", NULL, NULL, &c));
    assert_true(!c.qk_norm && c.qkv_bias && c.o_bias && c.mlp_bias && c.head_dim == 8);

    assert_ok(read_with("qwen3", "eos_token_id", "[7, 9]", &c));
    assert_true(c.n_eos == 2 && c.eos_ids[1] == 9);
    assert_ok(read_with("qwen3", "eos_token_id", "null", &c));
    assert_int_equal(c.n_eos, 0);
    assert_ok(read_with("qwen3", "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 5000.5}", &c));
    assert_true(c.rope_theta == 5000.5); /* transformers 5 spells it so */
    assert_ok(read_with("qwen3", "head_dim", NULL, &c));
    assert_int_equal(c.head_dim, 128); /* Qwen3Config's default */
}

static void test_gpt2(void **state) {
    (void)state;
    kf_config c = {0};
    assert_ok(read_with("gpt2", NULL, NULL, &c));
    assert_true(c.family == KF_FAMILY_DECODER && c.layout == KF_LAYOUT_GPT2 && c.act == KF_ACT_GELU_TANH && c.tied);
    assert_true(c.vocab_size == 107 && c.hidden == 48 && c.intermediate == 192 && c.n_layers == 2 && c.n_heads == 4);
    assert_true(c.n_kv_heads == 4 && c.head_dim == 12 && c.max_positions == 88 && c.rope_theta == 0);
    assert_true(fabsf(c.eps - 2e-3f) < 1e-9f && c.n_eos == 1 && c.eos_ids[0] == 1);
    assert_ok(read_with("gpt2_untied", NULL, NULL, &c));
    assert_true(!c.tied && c.intermediate == 68 && c.act == KF_ACT_RELU);
    assert_ok(read_with("gpt2", "n_positions", NULL, &c)); /* GPT2Config's defaults */
    assert_int_equal(c.max_positions, 1024);
    assert_ok(read_with("gpt2", "layer_norm_epsilon", NULL, &c));
    assert_true(c.eps == 1e-5f);
    assert_ok(read_with("gpt2_untied", "activation_function", NULL, &c));
    assert_int_equal(c.act, KF_ACT_GELU_TANH);
}

#define LLAMA3 "\"factor\": 5.5, \"low_freq_factor\": 0.9, \"high_freq_factor\": 4.6"

static bool is_llama3(const kf_rope_scaling *s) {
    return s->type == KF_ROPE_LLAMA3 && s->factor == 5.5 && s->low_freq_factor == 0.9 && s->high_freq_factor == 4.6 &&
           s->original_max_positions == 32;
}

static void test_rope_scaling(void **state) {
    (void)state;
    kf_config c = {0};
    assert_ok(read_with("llama", NULL, NULL, &c));
    assert_int_equal(c.rope_scaling.type, KF_ROPE_DEFAULT);
    assert_ok(read_with("llama3", NULL, NULL, &c));
    assert_true(is_llama3(&c.rope_scaling) && c.rope_theta == 410);
    assert_ok(read_with("llama_linear", NULL, NULL, &c));
    assert_true(c.rope_scaling.type == KF_ROPE_LINEAR && c.rope_scaling.factor == 2.6);
    assert_ok(read_with("llama", "rope_scaling", "{\"type\": \"linear\", \"factor\": 3}", &c)); /* the older name */
    assert_true(c.rope_scaling.type == KF_ROPE_LINEAR && c.rope_scaling.factor == 3);
    assert_ok(read_with("llama3", "rope_scaling", "{\"rope_type\": \"default\"}", &c));
    assert_int_equal(c.rope_scaling.type, KF_ROPE_DEFAULT);

    /* transformers 5: all in one object; the base may still be beside it, and so may an older rope_scaling */
    assert_ok(read_with(
        "llama", "rope_parameters",
        "{\"rope_type\": \"llama3\", " LLAMA3 ", \"original_max_position_embeddings\": 32, \"rope_theta\": 5e5}", &c));
    assert_true(is_llama3(&c.rope_scaling) && c.rope_theta == 5e5);
    assert_ok(read_with("llama3", "rope_parameters",
                        "{\"rope_type\": \"llama3\", " LLAMA3 ", \"original_max_position_embeddings\": 32}", &c));
    assert_true(is_llama3(&c.rope_scaling) && c.rope_theta == 410);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *model, *field, *value;
        kf_status status;
        const char *says;
    } cases[] = {
        {"bert_trunk", "architectures", "[\"RobertaModel\"]", KF_ERR_UNSUPPORTED,
         "\"RobertaModel\" is not built; these are: BertModel, "},
        {"bert_trunk", "model_type", "\"roberta\"", KF_ERR_UNSUPPORTED,
         "model_type \"roberta\", but BertModel wants \"bert\""},
        {"qwen3", "model_type", "\"qwen2\"", KF_ERR_UNSUPPORTED, "Qwen3ForCausalLM wants \"qwen3\""},
        {"qwen3", "model_type", "7", KF_ERR_UNSUPPORTED, "model_type \"?\""},
        {"bert_trunk", "architectures", "null", KF_ERR_CORRUPT, "architectures names none of"},
        {"bert_trunk", "architectures", "[7]", KF_ERR_CORRUPT, "architectures names none of"},
        {"bert_trunk", "hidden_act", "\"xielu\"", KF_ERR_UNSUPPORTED,
         "activation \"xielu\" is not built; these are: gelu"},
        {"llama", "hidden_act", "\"prelu\"", KF_ERR_UNSUPPORTED, "activation \"prelu\" is not built"},
        {"bert_trunk", "hidden_act", "5", KF_ERR_CORRUPT, "hidden_act must be a name"},
        {"bert_trunk", "position_embedding_type", "\"relative_key\"", KF_ERR_UNSUPPORTED,
         "position_embedding_type \"relative_key\" is not built; \"absolute\" is"},
        {"bert_trunk", "is_decoder", "true", KF_ERR_UNSUPPORTED, "is_decoder is true"},
        {"bert_trunk", "hidden_size", NULL, KF_ERR_CORRUPT, "no hidden_size"},
        {"bert_trunk", "hidden_size", "0", KF_ERR_CORRUPT, "hidden_size is 0, wanted 1 to"},
        {"bert_trunk", "hidden_size", "-40", KF_ERR_CORRUPT, "hidden_size is -40"},
        {"bert_trunk", "hidden_size", "41", KF_ERR_CORRUPT, "hidden_size 41 is no multiple of num_attention_heads 5"},
        {"bert_trunk", "hidden_size", "40.0", KF_ERR_CORRUPT, "hidden_size must be a whole number"},
        {"bert_trunk", "hidden_size", "9223372036854775807", KF_ERR_CORRUPT, "hidden_size is 9223372036854775807"},
        {"bert_trunk", "num_hidden_layers", "1000000", KF_ERR_CORRUPT, "wanted 1 to 1024"},
        {"bert_trunk", "layer_norm_eps", "0", KF_ERR_CORRUPT, "layer_norm_eps is 0, wanted more than 0"},
        {"bert_trunk", "layer_norm_eps", "\"1e-3\"", KF_ERR_CORRUPT, "layer_norm_eps must be a number"},
        {"bert_trunk", "quantization_config", "{\"bits\": 4}", KF_ERR_UNSUPPORTED, "quantised weights are not built"},
        {"bert_token", "id2label", "{\"0\": \"a\", \"2\": \"c\"}", KF_ERR_CORRUPT, "2 entries and none for 1"},
        {"bert_token", "id2label", "[]", KF_ERR_CORRUPT, "id2label must map"},
        {"bert_token", "id2label", "{}", KF_ERR_CORRUPT, "0 labels"},
        {"qwen3", "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4.0}", KF_ERR_UNSUPPORTED,
         "rope_scaling of type \"yarn\" is not built; these are: default, linear, llama3"},
        {"qwen3", "rope_scaling", "{\"type\": \"dynamic\", \"factor\": 2.0}", KF_ERR_UNSUPPORTED,
         "\"dynamic\" is not built"},
        {"qwen3", "rope_parameters", "{\"rope_type\": \"longrope\", \"factor\": 2.0}", KF_ERR_UNSUPPORTED,
         "rope_parameters of type \"longrope\" is not built"},
        {"llama", "rope_scaling", "\"llama3\"", KF_ERR_CORRUPT, "rope_scaling must be an object"},
        {"llama", "rope_scaling", "{\"rope_type\": 3}", KF_ERR_CORRUPT, "rope_scaling: rope_type must be a name"},
        {"llama", "rope_scaling", "{\"rope_type\": \"linear\"}", KF_ERR_CORRUPT, "rope_scaling: no factor"},
        {"llama", "rope_scaling", "{\"rope_type\": \"linear\", \"factor\": 0}", KF_ERR_CORRUPT,
         "factor is 0, wanted more than 0"},
        {"llama", "rope_scaling", "{\"rope_type\": \"linear\", \"factor\": \"2\"}", KF_ERR_CORRUPT,
         "factor must be a number"},
        {"llama", "rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1}", KF_ERR_CORRUPT,
         "rope_scaling: no high_freq_factor"},
        {"llama", "rope_scaling", "{\"rope_type\": \"llama3\", " LLAMA3 "}", KF_ERR_CORRUPT,
         "rope_scaling: no original_max_position_embeddings"},
        {"llama", "rope_scaling",
         "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4, "
         "\"original_max_position_embeddings\": 32}",
         KF_ERR_CORRUPT, "high_freq_factor is 4, wanted more than low_freq_factor, 4"},
        {"llama3", "rope_parameters", "{\"rope_type\": \"default\"}", KF_ERR_CORRUPT,
         "rope_scaling and rope_parameters differ"},
        {"qwen3", "rope_parameters", "{\"partial_rotary_factor\": 0.5}", KF_ERR_UNSUPPORTED,
         "partial_rotary_factor is 0.5"},
        {"qwen3", "partial_rotary_factor", "0.5", KF_ERR_UNSUPPORTED, "partial_rotary_factor is 0.5"},
        {"gpt2", "n_embd", NULL, KF_ERR_CORRUPT, "no n_embd"},
        {"gpt2", "n_head", "5", KF_ERR_CORRUPT, "n_embd 48 is no multiple of n_head 5"},
        {"gpt2", "model_type", "\"llama\"", KF_ERR_UNSUPPORTED, "GPT2LMHeadModel wants \"gpt2\""},
        {"gpt2", "activation_function", "7", KF_ERR_CORRUPT, "activation_function must be a name"},
        {"gpt2", "scale_attn_weights", "false", KF_ERR_UNSUPPORTED, "scale_attn_weights is false"},
        {"gpt2", "scale_attn_by_inverse_layer_idx", "true", KF_ERR_UNSUPPORTED, "attention scaled by the layer"},
        {"gpt2", "add_cross_attention", "true", KF_ERR_UNSUPPORTED, "cross-attention is not built"},
        {"gpt2", "quantization_config", "{\"bits\": 4}", KF_ERR_UNSUPPORTED, "quantised weights are not built"},
        {"qwen3", "use_sliding_window", "true", KF_ERR_UNSUPPORTED, "sliding-window attention is not built"},
        {"qwen3", "layer_types", "[\"full_attention\", \"sliding_attention\"]", KF_ERR_UNSUPPORTED,
         "layer_types[1] is \"sliding_attention\""},
        {"qwen3", "head_dim", "13", KF_ERR_CORRUPT, "head_dim 13 is odd"},
        {"qwen3", "num_key_value_heads", "4", KF_ERR_CORRUPT, "no multiple of num_key_value_heads 4"},
        {"qwen3", "eos_token_id", "131", KF_ERR_CORRUPT, "eos_token_id must be ids below vocab_size 131"},
        {"qwen3", "tie_word_embeddings", "\"yes\"", KF_ERR_CORRUPT, "tie_word_embeddings must be true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_config c = {.n_labels = 12345};
        assert_refused(read_with(cases[i].model, cases[i].field, cases[i].value, &c), cases[i].status, cases[i].says);
        assert_int_equal(c.n_labels, 12345); /* *out is written only on success */
    }
}

static void test_files(void **state) {
    (void)state;
    kf_config c = {0};
    char empty[64];
    folder_make(empty);
    assert_refused(kf_config_read(empty, &c), KF_ERR_NOT_FOUND, "config.json");
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no valid JSON"},
        {"{\"hidden_size\": 40", "no valid JSON"},
        {"{\"hidden_size\": 40, \"hidden_size\": 41}", "no valid JSON"},
        {"\xff\xfe{}", "no valid JSON"},
        {"[1, 2]", "must be an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_write(empty, "config.json", cases[i].text, strlen(cases[i].text));
        assert_refused(kf_config_read(empty, &c), KF_ERR_CORRUPT, cases[i].says);
    }
    char *large = calloc(1, 2 << 20);
    assert_non_null(large);
    file_write(empty, "config.json", large, 2 << 20);
    assert_refused(kf_config_read(empty, &c), KF_ERR_TOO_LARGE, "2097152 bytes");
    free(large);
    folder_remove(empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bert),         cmocka_unit_test(test_decoders), cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_rope_scaling), cmocka_unit_test(test_refusals), cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
