/* Aim: the commands that need no broker say what transformers said, in the documents that are promised, and refuse what
 * is wrong with the promised exit codes. Method: the built program, on the golden checkpoints and tokenizers. */
#include "e2e/cli_run.h"

#include <math.h>

#include "model/safetensors.h"

#define GOLDEN KF_SOURCE_DIR "/tests/golden/data/"
#define TOKENIZERS KF_SOURCE_DIR "/tests/golden/tokenizers/"

static char dir[] = "/tmp/kefu-cli-XXXXXX";

/* The tensor's bytes, the caller's to free. */
static void *golden(const char *model, const char *name, const kf_tensor **t, kf_checkpoint **c) {
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s/expected.safetensors", model);
    assert_int_equal(kf_checkpoint_open_file(path, c), KF_OK);
    *t = kf_checkpoint_find(*c, name);
    assert_non_null(*t);
    void *data = malloc((*t)->bytes);
    assert_int_equal(kf_checkpoint_read(*c, *t, data), KF_OK);
    return data;
}

/* The golden run's first sequence as "1,2,3"; returns its length. */
static size_t golden_ids(const char *model, char *out, size_t cap) {
    const kf_tensor *t;
    kf_checkpoint *c;
    int32_t *cu = golden(model, "cu_seqlens", &t, &c);
    size_t n = (size_t)cu[1], used = 0;
    free(cu);
    kf_checkpoint_close(c);
    int32_t *ids = golden(model, "input_ids", &t, &c);
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(out + used, cap - used, "%s%d", i ? "," : "", ids[i]);
    free(ids);
    kf_checkpoint_close(c);
    return n;
}

/* row: a JSON list of numbers that must be n floats from `at` on of a golden tensor. */
static void assert_row(const json_t *row, const char *model, const char *name, size_t at, size_t n) {
    const kf_tensor *t;
    kf_checkpoint *c;
    float *want = golden(model, name, &t, &c), largest = 0;
    assert_int_equal(json_array_size(row), n);
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(want[at + i]));
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(json_real_value(json_array_get(row, i)) - (double)want[at + i]) <= 1e-4 * (double)largest);
    free(want);
    kf_checkpoint_close(c);
}

static void test_tokenize(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "tokenize", "--model", TOKENIZERS "cn-clip", "--text", "一件 Hello", "--json");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "{\"ids\":[101,671,816,8701,102],\"pieces\":[\"[CLS]\",\"一\",\"件\",\"hello\","
                               "\"[SEP]\"],\"offsets\":[[0,0],[0,1],[1,2],[3,8],[0,0]]}\n");
    r = cli_run(NULL, "tokenize", "--model", KF_SOURCE_DIR "/models/decoder", "--text", "", "--json");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "{\"ids\":[],\"pieces\":[],\"offsets\":[]}\n");
    r = cli_run(NULL, "generate", "--model", KF_SOURCE_DIR "/models/decoder", "--text", "");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "no tokens");
    r = cli_run(NULL, "tokenize", "--model", TOKENIZERS "cn-clip", "--ids", "671,816");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "一");
}

static void test_logits(void **state) {
    (void)state;
    char ids[4096];
    golden_ids("bert_sequence", ids, sizeof ids);
    cli_result r = cli_run(NULL, "logits", "--model", GOLDEN "bert_sequence", "--ids", ids, "--json");
    json_t *doc = cli_json(&r);
    size_t n_labels = json_array_size(json_object_get(doc, "labels"));
    assert_true(r.code == 0 && n_labels > 1);
    assert_row(json_object_get(doc, "logits"), "bert_sequence", "logits.classifier", 0, n_labels);
    json_decref(doc);

    size_t n = golden_ids("bert_token", ids, sizeof ids);
    r = cli_run(NULL, "logits", "--model", GOLDEN "bert_token", "--ids", ids, "--json");
    doc = cli_json(&r);
    json_t *rows = json_object_get(doc, "logits");
    n_labels = json_array_size(json_object_get(doc, "labels"));
    assert_int_equal(json_array_size(rows), n);
    for (size_t i = 0; i < n; i++)
        assert_row(json_array_get(rows, i), "bert_token", "logits.classifier", i * n_labels, n_labels);
    json_decref(doc);

    r = cli_run(NULL, "logits", "--model", GOLDEN "bert_trunk", "--ids", ids);
    assert_int_equal(r.code, 0);
    assert_contains(r.err, "head \"intent\"");
    assert_contains(r.out, "intent-0");
    r = cli_run(NULL, "logits", "--model", GOLDEN "bert_trunk", "--ids", ids, "--head", "none");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "no head \"none\"");
    r = cli_run(NULL, "logits", "--model", GOLDEN "bert_trunk", "--ids", "1,2", "--head", "intent");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "intent-0");
}

/* Greedy text is the argmax of the logits, step by step; a seed gives the same text twice. */
static void test_generate(void **state) {
    (void)state;
    cli_result r =
        cli_run(NULL, "generate", "--model", GOLDEN "qwen3", "--ids", "5,6,7", "--max-tokens", "4", "--json");
    json_t *doc = cli_json(&r), *ids = json_object_get(doc, "ids");
    char prompt[128] = "5,6,7";
    assert_int_equal(r.code, 0);
    assert_int_equal(json_array_size(ids), 4);
    assert_string_equal(json_string_value(json_object_get(doc, "finish_reason")), "length");
    for (size_t i = 0; i < 4; i++) {
        r = cli_run(NULL, "logits", "--model", GOLDEN "qwen3", "--ids", prompt, "--json");
        json_t *next = cli_json(&r), *z = json_object_get(next, "logits");
        size_t best = 0;
        for (size_t k = 1; k < json_array_size(z); k++)
            if (json_real_value(json_array_get(z, k)) > json_real_value(json_array_get(z, best))) best = k;
        assert_int_equal(best, json_integer_value(json_array_get(ids, i)));
        snprintf(prompt + strlen(prompt), sizeof prompt - strlen(prompt), ",%zu", best);
        json_decref(next);
    }
    json_decref(doc);
    char first[4096];
    r = cli_run(NULL, "generate", "--model", GOLDEN "qwen3", "--ids", "5,6,7", "--temperature", "1", "--seed", "9",
                "--json");
    snprintf(first, sizeof first, "%s", r.out);
    r = cli_run(NULL, "generate", "--model", GOLDEN "qwen3", "--ids", "5,6,7", "--temperature", "1", "--seed", "9",
                "--json");
    assert_string_equal(r.out, first);
}

static void test_inspect(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "inspect", GOLDEN "bert_trunk/heads/intent.safetensors", "--stats", "--json");
    json_t *doc = cli_json(&r), *t = json_array_get(json_object_get(doc, "tensors"), 0);
    assert_string_equal(json_string_value(json_object_get(t, "name")), "classifier.bias");
    assert_string_equal(json_string_value(json_object_get(t, "dtype")), "F32");
    assert_true(json_real_value(json_object_get(t, "min")) <= json_real_value(json_object_get(t, "mean")));
    json_decref(doc);
    r = cli_run(NULL, "inspect", GOLDEN "llama");
    assert_contains(r.out, "LlamaForCausalLM");
    assert_contains(r.out, "model.layers.0.mlp.gate_proj.weight");
}

/* A dump departs from itself nowhere, and from another input's at the first tensor. */
static void test_diff(void **state) {
    (void)state;
    char file[64];
    setenv("KEFU_DUMP", "/no/such/folder", 1); /* a dump is never lost without a word */
    cli_result r = cli_run(NULL, "logits", "--model", GOLDEN "bert_sequence", "--ids", "1,2,3");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "KEFU_DUMP: /no/such/folder");
    setenv("KEFU_DUMP", dir, 1);
    r = cli_run(NULL, "logits", "--model", GOLDEN "bert_sequence", "--ids", "1,2,3");
    assert_int_equal(r.code, 0);
    unsetenv("KEFU_DUMP");
    r = cli_run(NULL, "diff", dir, dir);
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "none departs");
    r = cli_run(NULL, "diff", dir, "--model", GOLDEN "bert_sequence", "--ids", "1,2,3");
    assert_int_equal(r.code, 0);
    r = cli_run(NULL, "diff", dir, "--model", GOLDEN "bert_sequence", "--ids", "1,2,4", "--json");
    json_t *doc = cli_json(&r);
    assert_int_equal(r.code, 1);
    assert_string_equal(json_string_value(json_object_get(doc, "first")), "embeddings");
    json_decref(doc);
    static const char *const models[] = {"bert_sequence", "bert_token", "bert_trunk", "llama",
                                         "qwen2",         "qwen3",      "gpt2"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) { /* and what transformers saw is a reference too */
        char model[512], reference[600];
        snprintf(model, sizeof model, GOLDEN "%s", models[i]);
        snprintf(reference, sizeof reference, "%s/expected.safetensors", model);
        r = cli_run(NULL, "diff", reference, "--model", model);
        if (r.code != 0) fail_msg("%s: %s%s", models[i], r.out, r.err);
    }
    r = cli_run(NULL, "diff", dir, "--model", GOLDEN "bert_sequence");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "no input_ids");
    assert_contains(r.err, "--ids");
    assert_string_equal(r.out, ""); /* no heading above no table */
    r = cli_run(NULL, "diff", dir, "/no/such/dump");
    assert_int_equal(r.code, 1);
    snprintf(file, sizeof file, "%s/encoder.0.safetensors", dir);
    unlink(file);
}

/* The demo's models on the demo's question: what the project promises of them; and each kind of wrong is counted. */
static void test_eval(void **state) {
    (void)state;
    static const char right[] =
        "{\"text\":\"我想要一件红色的羽绒服\",\"intent\":\"purchase\",\"sentiment\":\"neutral\","
        "\"entities\":[{\"type\":\"attribute\",\"start\":5,\"end\":7},{\"type\":\"product\","
        "\"start\":8,\"end\":11}]}\n";
    static const char wrong[] = "{\"text\":\"我想要一件红色的羽绒服\",\"intent\":\"invoice\",\"entities\":[]}\n"
                                "{\"text\":\"我想要一件红色的羽绒服\",\"intent\":\"stock\",\"also\":[\"purchase\"]}\n";
    char both[2048];
    cli_result r = cli_run(right, "eval", "--models", KF_SOURCE_DIR "/models", "-", "--json");
    json_t *doc = cli_json(&r), *intent = json_object_get(doc, "intent");
    assert_int_equal(r.code, 0);
    assert_int_equal(json_integer_value(json_object_get(doc, "n")), 1);
    assert_true(json_number_value(json_object_get(intent, "accuracy")) == 1);
    assert_int_equal(json_array_size(json_object_get(intent, "ci95")), 2);
    assert_true(json_number_value(json_object_get(json_object_get(doc, "entities"), "f1")) == 1);
    assert_null(json_object_get(doc, "pos")); /* no line had words */
    json_decref(doc);

    snprintf(both, sizeof both, "%s%s", right, wrong);
    r = cli_run(both, "eval", "-", "--json"); /* the demo's models are found without --models */
    doc = cli_json(&r);
    intent = json_object_get(doc, "intent");
    assert_true(fabs(json_number_value(json_object_get(intent, "accuracy")) - 2.0 / 3) < 1e-6);
    json_t *confusion = json_array_get(json_object_get(intent, "confusions"), 0);
    assert_string_equal(json_string_value(json_object_get(confusion, "gold")), "invoice");
    assert_string_equal(json_string_value(json_object_get(confusion, "said")), "purchase");
    assert_true(fabs(json_number_value(json_object_get(json_object_get(doc, "entities"), "f1")) - 2.0 / 3) < 1e-6);
    json_decref(doc);
    r = cli_run(right, "eval", "-");
    assert_contains(r.out, "purchase");
    assert_contains(r.out, "95 %");
}

/* A label that the model cannot say is a fault of the file, and so is a file without any label. */
static void test_eval_refuses(void **state) {
    (void)state;
    static const char *const refused[][3] = {
        {"\"intent\":\"nosuch\"", "intent \"nosuch\"", "purchase"},
        {"\"intent\":\"stock\",\"also\":[\"nosuch\"]", "also \"nosuch\"", "purchase"},
        {"\"sentiment\":\"nosuch\"", "sentiment \"nosuch\"", "neutral"},
        {"\"entities\":[{\"type\":\"nosuch\",\"start\":0,\"end\":1}]", "entity type \"nosuch\"", "product"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char lines[512];
        snprintf(lines, sizeof lines, "{\"text\":\"你好\",\"intent\":\"stock\"}\n{\"text\":\"你好\",%s}\n",
                 refused[i][0]);
        cli_result r = cli_run(lines, "eval", "-");
        assert_int_equal(r.code, 1);
        assert_contains(r.err, "line 2");
        assert_contains(r.err, refused[i][1]);
        assert_contains(r.err, refused[i][2]);
    }
    cli_result r = cli_run("{\"text\":\"你好\"}\n", "eval", "-");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "nothing to score");
}

static void test_usage(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "--version");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "kefu ");
    r = cli_run(NULL, "--help");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "tokenize");
    r = cli_run(NULL, "tokenise");
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "did you mean tokenize?");
    static const char *const commands[] = {"ask",      "chat", "bench",   "tokenize", "logits",
                                           "generate", "eval", "inspect", "diff"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        r = cli_run(NULL, commands[i], "--help");
        assert_int_equal(r.code, 0);
        assert_contains(r.out, "Exit codes");
        r = cli_run(NULL, commands[i], "--no-such-option");
        assert_int_equal(r.code, 2);
        assert_string_equal(r.out, "");
    }
    static const char *const incomplete[][5] = {
        {"kefu", "ask"},
        {"kefu", "chat", "hello"},
        {"kefu", "tokenize", "--text", "a"},
        {"kefu", "eval"},
        {"kefu", "logits", "--model", "x"},
        {"kefu", "logits", "--model=x", "--ids", "1,x"},
        {"kefu", "generate", "--model=x", "--ids", ""},
        {"kefu", "tokenize", "--model=x", "--ids", "1,,2"},
        {"kefu", "diff", "x", "--model=x", "--ids=-1"},
        {"kefu", "ask", "--nats", "://", "hello"},
        {"kefu", "chat", "--nats="},
        {"kefu", "bench", "--nats-creds", "/no/such/file"},
        {"kefu", "diff", "x"},
        {"kefu", "inspect"},
        {"kefu", "generate", "--max-tokens", "0"},
        {"kefu", "bench", "--rate", "-1"},
        {"kefu"},
    };
    for (size_t i = 0; i < sizeof incomplete / sizeof *incomplete; i++) {
        r = cli_run_list(NULL, incomplete[i]);
        if (r.code != 2) fail_msg("usage case %zu ends with %d: %s", i, r.code, r.err);
    }
}

static void test_refusals(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "logits", "--model", "/no/such/model", "--ids", "1");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "/no/such/model");
    r = cli_run(NULL, "logits", "--model", GOLDEN "llama", "--ids", "99999999");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "99999999");
    r = cli_run("{\"text\":\"a\"}\n{\"text\":7}\n", "eval", "--models", GOLDEN "bert_trunk", "-");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "standard input, line 2: \"text\"");
}

int main(void) {
    if (!mkdtemp(dir)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenize),     cmocka_unit_test(test_logits), cmocka_unit_test(test_generate),
        cmocka_unit_test(test_inspect),      cmocka_unit_test(test_diff),   cmocka_unit_test(test_eval),
        cmocka_unit_test(test_eval_refuses), cmocka_unit_test(test_usage),  cmocka_unit_test(test_refusals),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
