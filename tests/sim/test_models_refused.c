/* Aim: a models folder with something wrong in it is refused at start by a text that names the file and says what was
 * wanted; and once a worker has started, nothing that happens to the files reaches it. Method: the tiny models with one
 * thing wrong at a time. A folder in a file's place stands for what cannot be read: root may read every file. */
#include <ftw.h>

#include "sim/rig.h"

static kf_device *device;

static kf_status try_start(bool understand_only, kf_server **out) {
    kf_server_opts o = {
        .device = device,
        .models_dir = models,
        .understand_only = understand_only,
        .n_jobs = 4,
        .job_arena_bytes = 64 << 10,
        .max_running = 2,
        .max_gap_ms = 150,
    };
    return kf_server_start(&o, out);
}

static void refused(kf_status want, const char *file, const char *says) {
    kf_server *server;
    char full[256];
    kf_status got = try_start(false, &server);
    if (got != want)
        fail_msg("%s: %s (%s), wanted %s", file, kf_status_name(got), kf_error_text(), kf_status_name(want));
    snprintf(full, sizeof full, "%s/%s", models, file);
    if (!strstr(kf_error_text(), full)) fail_msg("\"%s\" does not name %s", kf_error_text(), full);
    if (!strstr(kf_error_text(), says)) fail_msg("\"%s\" does not say \"%s\"", kf_error_text(), says);
}

static void path_of(char out[256], const char *file) {
    snprintf(out, 256, "%s/%s", models, file);
}

static void write_text(const char *file, const char *text) {
    tiny_write(models, file, text);
}

static void remove_file(const char *file) {
    char path[256];
    path_of(path, file);
    assert_int_equal(remove(path), 0);
}

static void cut(const char *file, off_t n_bytes) {
    char path[256];
    path_of(path, file);
    assert_int_equal(truncate(path, n_bytes), 0);
}

/* ---- one thing wrong ---- */

static void contents(void **state) {
    (void)state;
    static const struct {
        const char *file, *text;
        kf_status status;
        const char *named, *says;
    } bad[] = {
        {"policy.json", "{\"a\":1}", KF_ERR_CORRUPT, "policy.json", "\"a\", which nothing reads"},
        {"policy.json", "", KF_ERR_CORRUPT, "policy.json", "no valid JSON"},
        {"encoder/vocab.txt", "", KF_ERR_CORRUPT, "encoder: vocab.txt", "no piece in it"},
        {"encoder/tokenizer_config.json", "", KF_ERR_CORRUPT, "encoder/tokenizer_config.json", "no valid JSON"},
        {"encoder/config.json", "{}", KF_ERR_CORRUPT, "encoder/config.json", "architectures"},
        {"encoder/heads/intent.json", "{}", KF_ERR_CORRUPT, "encoder/heads/intent.json", "name is \"\""},
        {"encoder/heads/intent.json", "{\"name\":\"intent\",\"treshold\":1}", KF_ERR_CORRUPT,
         "encoder/heads/intent.json", "\"treshold\", which nothing reads"},
        {"decoder/tokenizer.json", "{}", KF_ERR_CORRUPT, "decoder: tokenizer.json", "model.vocab is not an object"},
        {"decoder/prompt.json", "{}", KF_ERR_CORRUPT, "decoder/prompt.json", "earlier_turn must be a list"},
        {"decoder/prompt.json", "{\"earlier_turns\":[]}", KF_ERR_CORRUPT, "decoder/prompt.json",
         "\"earlier_turns\", which nothing reads"},
        {"decoder/config.json", "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen9\"}",
         KF_ERR_UNSUPPORTED, "decoder/config.json", "model_type \"qwen9\", but Qwen3ForCausalLM wants \"qwen3\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(bad[i].file, bad[i].text);
        refused(bad[i].status, bad[i].named, bad[i].says);
        tiny_remove(models);
        models = tiny_models();
    }
}

static void missing(void **state) {
    (void)state;
    static const char *const files[] = {
        "encoder/config.json", "encoder/model.safetensors", "encoder/heads/intent.safetensors",
        "decoder/config.json", "decoder/model.safetensors", "decoder/tokenizer.json",
        "decoder/prompt.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char named[64];
        remove_file(files[i]);
        snprintf(named, sizeof named, "%.7s", files[i]);
        refused(KF_ERR_NOT_FOUND, named, strstr(files[i], "tokenizer") ? "vocab.txt" : strrchr(files[i], '/') + 1);
        tiny_remove(models);
        models = tiny_models();
    }
}

static void a_folder_in_its_place(void **state) {
    (void)state;
    static const char *const files[] = {
        "policy.json",         "encoder/config.json",   "encoder/model.safetensors", "encoder/tokenizer.json",
        "encoder/vocab.txt",   "decoder/prompt.json",   "encoder/heads/intent.json", "encoder/tokenizer_config.json",
        "decoder/config.json", "decoder/tokenizer.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[256];
        path_of(path, files[i]);
        remove(path);
        assert_int_equal(mkdir(path, 0700), 0);
        refused(KF_ERR_IO, files[i], "not a regular file");
        tiny_remove(models);
        models = tiny_models();
    }
}

/* A file in a folder's place: whether the files below it are there cannot be said, so it is not "no such file". */
static void a_file_in_a_folders_place(void **state) {
    (void)state;
    char from[256], to[256];
    path_of(from, "decoder");
    path_of(to, "aside");
    assert_int_equal(rename(from, to), 0);
    write_text("decoder", "");
    refused(KF_ERR_IO, "decoder/config.json", "Not a directory");
    tiny_remove(models);
    models = tiny_models();
}

static void cut_short(void **state) {
    (void)state;
    cut("decoder/model.safetensors", 5000);
    refused(KF_ERR_CORRUPT, "decoder/model.safetensors", "");
    cut("decoder/model.safetensors", 0);
    refused(KF_ERR_CORRUPT, "decoder/model.safetensors", "too short");
    tiny_remove(models);
    models = tiny_models();
}

/* ---- no decoder: by request, never by accident ---- */

static void without_a_decoder(void **state) {
    (void)state;
    char from[256], to[256];
    rig *r = calloc(1, sizeof *r);
    path_of(from, "decoder");
    path_of(to, "aside");
    assert_int_equal(rename(from, to), 0);
    refused(KF_ERR_NOT_FOUND, "decoder", "no such folder; put one there, or start with --decoder off");
    assert_int_equal(try_start(true, &r->server), KF_OK);
    kf_server_submit(r->server, request(r, 0, texts[0], 8));
    wait_finals(r, 1);
    assert_int_equal(r->answers[0].code, KF_CODE_OK);
    assert_true(r->answers[0].has_understanding && r->answers[0].handoff);
    assert_string_equal(r->answers[0].text, "");
    kf_server_free(r->server);
    free(r);
    assert_int_equal(rename(to, from), 0);
}

/* ---- after the start ---- */

static int cut_to_nothing(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)at;
    return kind == FTW_F ? truncate(path, 0) : 0;
}

/* Nothing of the files is mapped or read again: a worker answers on as before, word for word. */
static void files_vanish_under_a_worker(void **state) {
    (void)state;
    rig *r = start("cpu", 4, 2);
    kf_server_submit(r->server, request(r, 0, texts[0], 24));
    wait_finals(r, 1);
    assert_int_equal(r->answers[0].code, KF_CODE_OK);
    assert_true(strlen(r->answers[0].text) > 0);
    assert_int_equal(nftw(models, cut_to_nothing, 8, FTW_PHYS), 0);
    for (int i = 1; i < 4; i++)
        kf_server_submit(r->server, request(r, i, texts[0], 24));
    wait_finals(r, 3);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
        assert_string_equal(r->answers[i].text, r->answers[0].text);
        assert_string_equal(r->answers[i].intent, r->answers[0].intent);
    }
    end(r);
}

int main(void) {
    models = tiny_models();
    if (kf_device_open("null", &(kf_device_opts){.dtype = KF_F32}, &device) != KF_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents),
        cmocka_unit_test(missing),
        cmocka_unit_test(a_folder_in_its_place),
        cmocka_unit_test(a_file_in_a_folders_place),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(without_a_decoder),
        cmocka_unit_test(files_vanish_under_a_worker), /* last: it leaves empty files */
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kf_device_close(device);
    tiny_remove(models);
    return failed;
}
