/* Aim: a model folder that does not fit together is refused with the tensor, the shape wanted and the shape found;
 * input that a model cannot take is refused before anything is enqueued; and whatever fails, nothing stays allocated.
 * Method: golden checkpoints with one thing changed, and each allocation of the device failing in turn. */
#include "checkpoint_files.h"

#include <jansson.h>

#include "model/bert.h"
#include "model/decoder.h"

#define GOLDEN_DIR KF_SOURCE_DIR "/tests/golden/data"

static char dir[64];
static kf_device *d;

static int setup(void **state) {
    (void)state;
    folder_make(dir);
    return kf_cpu_open(&(kf_device_opts){.dtype = KF_F32, .n_threads = 1}, &d) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_device_close(d);
    folder_remove(dir);
    return 0;
}

static void copy(const char *from, const char *name) {
    char path[512];
    size_t n = 0;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/%s", from, name);
    unsigned char *bytes = file_read(path, &n);
    file_write(dir, name, bytes, n);
    free(bytes);
}

/* `field` of the folder's JSON file set to a JSON value; NULL takes it out. */
static void change(const char *name, const char *field, const char *value) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    if (value)
        assert_int_equal(json_object_set_new(root, field, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else
        json_object_del(root, field);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

/* A fresh copy of a golden checkpoint, its heads left out. */
static void start_from(const char *model) {
    folder_remove(dir);
    folder_make(dir);
    copy(model, "config.json");
    copy(model, "model.safetensors");
}

static const kf_bert_opts bert_opts = {.max_tokens = 64, .max_seqs = 4};
static const kf_decoder_opts decoder_opts = {.max_tokens = 64, .max_seqs = 4};

static kf_status try_bert(void) {
    kf_bert *m = NULL;
    kf_status s = kf_bert_open(d, dir, &bert_opts, &m);
    assert_int_equal(s == KF_OK, m != NULL);
    kf_bert_close(m);
    assert_int_equal(d->memory_bytes_used, 0);
    return s;
}

static kf_status try_decoder(void) {
    kf_decoder *m = NULL;
    kf_status s = kf_decoder_open(d, dir, &decoder_opts, &m);
    assert_int_equal(s == KF_OK, m != NULL);
    kf_decoder_close(m);
    assert_int_equal(d->memory_bytes_used, 0);
    return s;
}

static void test_config_does_not_fit(void **state) {
    (void)state;
    start_from("bert_trunk");
    assert_ok(try_bert());
    change("config.json", "vocab_size", "98");
    assert_refused(
        try_bert(), KF_ERR_CORRUPT,
        "model.safetensors: tensor embeddings.word_embeddings.weight has shape [97, 40], its config wants [98, 40]");
    start_from("bert_trunk");
    change("config.json", "intermediate_size", "53");
    assert_refused(try_bert(), KF_ERR_CORRUPT,
                   "intermediate.dense.weight has shape [52, 40], its config wants [53, 40]");
    start_from("bert_trunk");
    change("config.json", "num_hidden_layers", "4");
    assert_refused(try_bert(), KF_ERR_NOT_FOUND,
                   "no tensor encoder.layer.3.attention.self.query.weight, wanted with shape [40, 40]");
    start_from("bert_token");
    change("config.json", "id2label", "{\"0\": \"a\", \"1\": \"b\"}");
    assert_refused(try_bert(), KF_ERR_CORRUPT, "tensor classifier.weight has shape [9, 56], its config wants [2, 56]");
    start_from("qwen3");
    assert_ok(try_decoder());
    change("config.json", "num_key_value_heads", "3");
    assert_refused(try_decoder(), KF_ERR_CORRUPT,
                   "self_attn.k_proj.weight has shape [24, 40], its config wants [36, 40]");
    start_from("qwen3");
    change("config.json", "tie_word_embeddings", "false");
    assert_refused(try_decoder(), KF_ERR_NOT_FOUND, "no tensor lm_head.weight, wanted with shape [131, 40]");
    start_from("llama");
    change("config.json", "architectures", "[\"Qwen3ForCausalLM\"]");
    change("config.json", "model_type", "\"qwen3\"");
    assert_refused(try_decoder(), KF_ERR_NOT_FOUND, "self_attn.q_norm.weight");
}

/* GPT-2's matrices lie [n_in, n_out], and its tensors have a prefix or none. */
static void test_gpt2_does_not_fit(void **state) {
    (void)state;
    start_from("gpt2");
    assert_ok(try_decoder());
    change("config.json", "n_inner", "193");
    assert_refused(try_decoder(), KF_ERR_CORRUPT,
                   "tensor h.0.mlp.c_fc.weight has shape [48, 192], its config wants [48, 193]");
    start_from("gpt2");
    change("config.json", "n_positions", "89");
    assert_refused(try_decoder(), KF_ERR_CORRUPT, "tensor wpe.weight has shape [88, 48], its config wants [89, 48]");
    start_from("gpt2");
    change("config.json", "tie_word_embeddings", "false");
    assert_refused(try_decoder(), KF_ERR_NOT_FOUND, "no tensor lm_head.weight, wanted with shape [107, 48]");
    start_from("gpt2_untied");
    assert_ok(try_decoder());
    change("config.json", "n_layer", "3");
    assert_refused(try_decoder(), KF_ERR_NOT_FOUND, "no tensor transformer.h.2.ln_1.weight, wanted with shape [56]");
}

/* Checkpoints from before 2019 spell LayerNorm's weight and bias gamma and beta. */
static void test_old_names(void **state) {
    (void)state;
    char path[128];
    size_t n = 0, n_renamed = 0;
    start_from("bert_trunk");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unsigned char *bytes = file_read(path, &n);
    for (size_t i = 0; i + 17 < n; i++) {
        if (memcmp(bytes + i, "LayerNorm.weight\"", 17) == 0) {
            memcpy(bytes + i, "LayerNorm.gamma\" ", 17);
            n_renamed++;
        } else if (memcmp(bytes + i, "LayerNorm.bias\"", 15) == 0) {
            memcpy(bytes + i, "LayerNorm.beta\"", 15);
            n_renamed++;
        }
    }
    assert_int_equal(n_renamed, 2 * (1 + 2 * 3));
    file_write(dir, "model.safetensors", bytes, n);
    free(bytes);
    assert_ok(try_bert());
}

static void test_the_wrong_family(void **state) {
    (void)state;
    start_from("bert_trunk");
    assert_refused(try_decoder(), KF_ERR_UNSUPPORTED, "BertModel is no decoder");
    start_from("qwen3");
    assert_refused(try_bert(), KF_ERR_UNSUPPORTED, "Qwen3ForCausalLM is no encoder");
}

static void test_truncated(void **state) {
    (void)state;
    char path[128];
    size_t n = 0;
    start_from("bert_trunk");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    free(file_read(path, &n));
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(truncate(path, (off_t)(n - 1 - i * n / 20)), 0);
        assert_refused(try_bert(), KF_ERR_CORRUPT, "model.safetensors: ");
    }
    unlink(path);
    assert_refused(try_bert(), KF_ERR_NOT_FOUND, "neither model.safetensors nor");
}

/* ---- heads ---- */

static void start_with_head(void) {
    char path[128];
    start_from("bert_trunk");
    snprintf(path, sizeof path, "%s/heads", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    copy("bert_trunk", "heads/topic.json");
    copy("bert_trunk", "heads/topic.safetensors");
}

static void test_heads(void **state) {
    (void)state;
    static const struct {
        const char *field, *value;
        kf_status status;
        const char *says;
    } cases[] = {
        {"name", "\"other\"", KF_ERR_CORRUPT, "heads/topic.json: name is \"other\", wanted the file's \"topic\""},
        {"name", NULL, KF_ERR_CORRUPT, "name is \"\""},
        {"kind", "\"span\"", KF_ERR_UNSUPPORTED, "kind \"span\", wanted \"sequence\" or \"token\""},
        {"pooling", "\"max\"", KF_ERR_UNSUPPORTED, "pooling \"max\", wanted \"cls\", \"mean\" or \"pooler\""},
        {"pooling", NULL, KF_ERR_UNSUPPORTED, "pooling \"\""},
        {"labels", "[\"a\", \"b\"]", KF_ERR_CORRUPT,
         "heads/topic.safetensors: tensor classifier.weight has shape [6, 40], its config wants [2, 40]"},
        {"labels", "[]", KF_ERR_CORRUPT, "labels must be a list"},
        {"labels", "[\"a\", 7]", KF_ERR_CORRUPT, "labels[1] is no name"},
        {"activation", "\"swoosh\"", KF_ERR_UNSUPPORTED, "activation \"swoosh\" is not built"},
        {"activation", "1", KF_ERR_CORRUPT, "activation must be a name or null"},
    };
    start_with_head();
    assert_ok(try_bert());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        start_with_head();
        change("heads/topic.json", cases[i].field, cases[i].value);
        assert_refused(try_bert(), cases[i].status, cases[i].says);
    }
    char path[128];
    snprintf(path, sizeof path, "%s/heads/topic.safetensors", dir);
    start_with_head();
    snprintf(path, sizeof path, "%s/heads/topic.safetensors", dir);
    unlink(path);
    assert_refused(try_bert(), KF_ERR_NOT_FOUND, "heads/topic.safetensors");

    start_from("bert_token"); /* has no pooler */
    snprintf(path, sizeof path, "%s/heads", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    copy("bert_trunk", "heads/topic.json");
    copy("bert_trunk", "heads/topic.safetensors");
    assert_refused(try_bert(), KF_ERR_NOT_FOUND, "no tensor bert.pooler.dense.weight");
}

/* The id names what is computed: another label, another weight's byte, another config make it another one. */
static void test_id(void **state) {
    (void)state;
    char ids[4][80], path[128];
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        kf_bert *m = NULL;
        start_with_head();
        if (i == 1) change("heads/topic.json", "labels", "[\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]");
        if (i == 2) change("config.json", "layer_norm_eps", "0.5");
        if (i == 3) {
            snprintf(path, sizeof path, "%s/model.safetensors", dir);
            unsigned char *bytes = file_read(path, &n);
            bytes[n - 1] ^= 1;
            file_write(dir, "model.safetensors", bytes, n);
            free(bytes);
        }
        assert_ok(kf_bert_open(d, dir, &bert_opts, &m));
        snprintf(ids[i], sizeof ids[i], "%s", strchr(kf_bert_id(m), '@'));
        assert_int_equal(strncmp(kf_bert_id(m), strrchr(dir, '/') + 1, strlen(strrchr(dir, '/') + 1)), 0);
        kf_bert_close(m);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

/* ---- input ---- */

static void test_bert_input(void **state) {
    (void)state;
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    kf_stream *s = NULL;
    int32_t ids[128] = {0};
    start_from("bert_trunk");
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_bert_open(d, dir, &bert_opts, &m));
    assert_ok(kf_bert_pass_new(m, &p));
    assert_refused(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 3, 3}, 2}), KF_ERR_INVALID,
                   "sequence 1 has no token");
    assert_refused(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 49}, 1}), KF_ERR_TOO_LARGE,
                   "sequence 0 has 49 tokens, the model has positions for 48");
    assert_refused(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 40, 65}, 2}), KF_ERR_TOO_LARGE,
                   "65 tokens in one pass, this model was opened for 64");
    assert_refused(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 1, 2, 3, 4, 5}, 5}), KF_ERR_TOO_LARGE,
                   "5 sequences in one pass, this model was opened for 4");
    ids[2] = 97;
    assert_refused(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 3}, 1}), KF_ERR_INVALID,
                   "token 2 has id 97, the model's vocabulary ends at 97");
    ids[2] = -1;
    assert_refused(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 3}, 1}), KF_ERR_INVALID,
                   "token 2 has id -1");
    ids[2] = 96;
    assert_ok(kf_bert_begin(p, s, &(kf_bert_input){ids, (int32_t[]){0, 3}, 1}));
    assert_ok(kf_bert_finish(p, s));
    assert_ok(kf_bert_wait(p));
    assert_int_equal(kf_bert_head_find(m, "intent"), -1);
    kf_bert_pass_free(p);
    kf_bert_close(m);
    kf_stream_close(s);
}

static void test_decoder_input(void **state) {
    (void)state;
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_stream *s = NULL;
    int32_t ids[128] = {0};
    start_from("qwen3");
    assert_ok(kf_stream_open(d, &s));
    assert_ok(kf_decoder_open(d, dir, &decoder_opts, &m));
    assert_ok(kf_decoder_step_new(m, &step));
    assert_int_equal(kf_decoder_max_seqlen(m), 96);
    assert_ok(kf_kv_cache_reserve(kf_decoder_kv_cache(m), 0, 96));
    kf_decoder_seq q = {.slot = 0, .input_ids = ids, .n_tokens = 65, .params = {.repetition_penalty = 1, .top_p = 1}};
    assert_refused(kf_decoder_run(step, s, &q, 1), KF_ERR_TOO_LARGE, "65 tokens in one step");
    q.n_tokens = 3;
    ids[1] = 131;
    assert_refused(kf_decoder_run(step, s, &q, 1), KF_ERR_INVALID,
                   "token 1 has id 131, the model's vocabulary ends at 131");
    ids[1] = -1;
    assert_refused(kf_decoder_run(step, s, &q, 1), KF_ERR_INVALID, "token 1 has id -1");
    ids[1] = 130;
    assert_ok(kf_decoder_run(step, s, &q, 1));
    assert_ok(kf_decoder_wait(step));
    assert_int_equal(kf_decoder_n_results(step), 0); /* it asked for no token */
    kf_decoder_step_free(step);
    kf_decoder_close(m);
    kf_stream_close(s);
}

/* A cache that is smaller than one whole sequence makes the sequences shorter, and one for no block is refused. */
static void test_cache_bytes(void **state) {
    (void)state;
    kf_decoder *m = NULL;
    kf_decoder_opts o = decoder_opts;
    start_from("qwen3");
    o.cache_bytes = 2 * 3 * 2 * 16 * 12 * 4 * 5; /* five blocks: K and V, 3 layers, 2 heads, 16 rows, 12 wide, f32 */
    assert_ok(kf_decoder_open(d, dir, &o, &m));
    assert_int_equal(kf_kv_cache_n_blocks(kf_decoder_kv_cache(m)), 5);
    assert_int_equal(kf_decoder_max_seqlen(m), 80);
    kf_decoder_close(m);
    o.cache_bytes = 100;
    assert_refused(kf_decoder_open(d, dir, &o, &m), KF_ERR_NO_MEMORY,
                   "a cache of 100 bytes holds no block of this model");
    assert_int_equal(d->memory_bytes_used, 0);
}

/* ---- each allocation of the device fails in turn ---- */

static struct kf_device_ops right;
static size_t n_until_failure;

static bool fails_now(void) {
    return n_until_failure == 0 || --n_until_failure == 0;
}

static kf_status failing_alloc(kf_device *dev, size_t bytes, const char *what, void **out) {
    if (fails_now()) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: %zu bytes", what, bytes);
    return right.alloc(dev, bytes, what, out);
}

static kf_status failing_pinned(kf_device *dev, size_t bytes, void **out) {
    if (fails_now()) return KF_FAIL(KF_ERR_NO_MEMORY, "pinned: %zu bytes", bytes);
    return right.alloc_pinned(dev, bytes, out);
}

static kf_status failing_pack(kf_device *dev, const kf_weight_desc *desc, kf_weight **out) {
    if (fails_now()) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no room", desc->name);
    return right.weight_pack(dev, desc, out);
}

static kf_status failing_stream(kf_device *dev, kf_stream **out) {
    if (fails_now()) return KF_FAIL(KF_ERR_DEVICE, "no stream");
    return right.stream_open(dev, out);
}

static kf_status failing_event(kf_device *dev, kf_event **out) {
    if (fails_now()) return KF_FAIL(KF_ERR_DEVICE, "no event");
    return right.event_new(dev, out);
}

static kf_status open_bert_and_pass(void) {
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    kf_status s = kf_bert_open(d, dir, &bert_opts, &m);
    KF_STEP(s, kf_bert_pass_new(m, &p));
    kf_bert_pass_free(p);
    kf_bert_close(m);
    return s;
}

static kf_status open_decoder_and_step(void) {
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_status s = kf_decoder_open(d, dir, &decoder_opts, &m);
    KF_STEP(s, kf_decoder_step_new(m, &step));
    kf_decoder_step_free(step);
    kf_decoder_close(m);
    return s;
}

static void fail_each(kf_status (*open)(void)) {
    right = *d->ops;
    struct kf_device_ops failing = right;
    failing.alloc = failing_alloc;
    failing.alloc_pinned = failing_pinned;
    failing.weight_pack = failing_pack;
    failing.stream_open = failing_stream;
    failing.event_new = failing_event;
    const struct kf_device_ops *before = d->ops;
    d->ops = &failing;
    size_t n = 0;
    kf_status s = KF_ERR_BUG;
    while (s != KF_OK) {
        n_until_failure = ++n;
        s = open();
        assert_true(s == KF_OK || s == KF_ERR_NO_MEMORY || s == KF_ERR_DEVICE);
        assert_int_equal(d->memory_bytes_used, 0);
    }
    d->ops = before;
    printf("%zu failures survived\n", n - 1);
    assert_true(n > 20);
}

static void test_each_allocation_fails(void **state) {
    (void)state;
    start_with_head();
    fail_each(open_bert_and_pass);
    start_from("qwen3");
    fail_each(open_decoder_and_step);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_does_not_fit),
        cmocka_unit_test(test_gpt2_does_not_fit),
        cmocka_unit_test(test_old_names),
        cmocka_unit_test(test_the_wrong_family),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_id),
        cmocka_unit_test(test_bert_input),
        cmocka_unit_test(test_decoder_input),
        cmocka_unit_test(test_cache_bytes),
        cmocka_unit_test(test_each_allocation_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
