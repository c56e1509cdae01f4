/* Aim: `kefud --trace FILE` and KEFU_TRACE leave a file that a viewer opens, with every request that was answered; a
 * path that cannot be written is refused at start. Method: the built program against a real broker, the file read back
 * with jansson; then `kefu logits --trace`. */
#include "e2e/broker.h"
#include "e2e/cli_run.h"
#include "sim/tiny.h"
#include "trace_check.h"

enum { N = 30 };

static void ask_all(client *c) {
    for (int i = 0; i < N; i++) {
        Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
        char id[16];
        snprintf(id, sizeof id, "ask-%d", i);
        r.id = id;
        r.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
        r.text = (char *)(i % 6 ? "我想要一件红色的羽绒服" : "");
        client_send_request(c, "kefu.request", i, &r);
    }
    assert_true(client_wait(c, N, 60000));
}

static void the_worker_tells_every_request(void **state) {
    (void)state;
    broker b;
    worker w;
    client c;
    char dir[64], path[96];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/trace.json", dir);
    broker_start(&b, -1, NULL);
    setenv("KEFU_TRACE", path, 1);
    worker_start(&w, b.url, (const char *[]){"--device", "null", "--deadline-ms", "3600000", NULL});
    unsetenv("KEFU_TRACE");
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    ask_all(&c);
    client_close(&c);
    assert_int_equal(worker_end(&w, SIGTERM, 20000), 0);
    assert_non_null(strstr(file_text(w.log), "\"event\":\"trace_written\""));
    trace_seen t = trace_read(path);
    assert_int_equal(t.n_requests, N);
    assert_int_equal(t.n_dropped, 0);
    assert_true(t.n_runs > 0 && t.n_passes > 0);
    assert_non_null(strstr(file_text(path), "\"request\":\"ask-7\""));
    assert_null(strstr(file_text(path), "羽绒服"));
    json_decref(t.events);
    worker_forget(&w);
    broker_stop(&b);
    remove_dir(dir);
}

static void a_path_that_cannot_be_written_is_refused(void **state) {
    (void)state;
    char dir[64], log[96];
    make_dir(dir);
    snprintf(log, sizeof log, "%s/log", dir);
    const char *argv[] = {
        KF_BIN_DIR "/kefud",   "--http", "off", "--device", "null", "--models", KF_SOURCE_DIR "/models", "--trace",
        "/no/such/trace.json", NULL};
    assert_int_equal(await_exit(spawn(argv, log), 60000), 1);
    assert_non_null(strstr(file_text(log), "--trace /no/such/trace.json"));
    remove_dir(dir);
}

static void the_command_tells_its_passes(void **state) {
    (void)state;
    char dir[64], path[96], decoder[96];
    char *models = tiny_models();
    make_dir(dir);
    snprintf(path, sizeof path, "%s/trace.json", dir);
    snprintf(decoder, sizeof decoder, "%s/decoder", models);
    cli_result r = cli_run(NULL, "logits", "--model", decoder, "--ids", "1,2,3", "--device", "null", "--trace", path);
    if (r.code != 0) fail_msg("kefu logits: %d, %s", r.code, r.err);
    trace_seen t = trace_read(path);
    assert_int_equal(trace_count(&t, "decoder layer"), TINY_LAYERS);
    assert_int_equal(t.n_passes, TINY_LAYERS + 1);
    json_decref(t.events);
    tiny_remove(models);
    remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worker_tells_every_request),
        cmocka_unit_test(a_path_that_cannot_be_written_is_refused),
        cmocka_unit_test(the_command_tells_its_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
