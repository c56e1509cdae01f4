/* Aim: kefud as a program: what it says of itself, and its exit codes where it cannot start or is refused.
 * Method: it is run with one thing wrong at a time. */
#include "e2e/broker.h"
#include "sim/tiny.h"

static char dir[64];

/* Runs kefud and returns its exit code; what it wrote is file_text(log). */
static int run(const char *log, const char *const *options) {
    const char *argv[16] = {KF_BIN_DIR "/kefud"};
    size_t n = 1;
    for (; *options; options++)
        argv[n++] = *options;
    unlink(log);
    return await_exit(spawn(argv, log), 60000);
}

#define RUN(...) run(log_path, (const char *const[]){__VA_ARGS__, NULL})
static char log_path[80];

static void says(const char *text) {
    if (!strstr(file_text(log_path), text)) fail_msg("\"%s\" wanted: %s", text, file_text(log_path));
}

static void it_explains_itself(void **state) {
    (void)state;
    assert_int_equal(RUN("--help"), 0);
    says("usage: kefud");
    says("--max-gap-ms MS");
    says("Exit codes:");
    assert_int_equal(RUN("--version"), 0);
    says("kefud ");
    setenv("KEFU_MAX_RUNNING", "3", 1);
    assert_int_equal(RUN("--print-config", "--nats", "nats://joe:secret@broker:4222"), 0);
    unsetenv("KEFU_MAX_RUNNING");
    says("# environment KEFU_MAX_RUNNING\nmax-running = 3\n");
    says("# command line\nnats = nats://");
    assert_null(strstr(file_text(log_path), "secret"));
}

static void usage_is_2(void **state) {
    (void)state;
    assert_int_equal(RUN("--max-job", "3"), 2);
    says("did you mean --max-jobs?");
    assert_int_equal(RUN("--device", "tpu"), 2);
    says("cpu|cuda|null");
    assert_int_equal(RUN("stray"), 2);
    assert_int_equal(RUN("--config", "/nowhere/at/all"), 2);
    assert_int_equal(RUN("--http", "nonsense"), 2);
    says("ADDR:PORT");
    assert_int_equal(RUN("--http", "localhost:80"), 2);
    assert_int_equal(RUN("--nats-creds", "/no/such.creds"), 2);
    says("--nats-creds /no/such.creds");
    assert_int_equal(RUN("--nats-tls-cert", "/no/such"), 2);
    assert_int_equal(RUN("--nats-nkey", "UABC"), 2);
}

/* What is no URL is refused at once, not tried for ever. */
static void what_is_no_broker_is_2(void **state) {
    (void)state;
    static const char *const wrong[] = {"://",           " ",        ",",           "nats://",        "http://a",
                                        "nats://a:0",    "a:port",   "a:65536",     "nats://joe:pw@", "nats://a,://",
                                        "nats://a/path", "a:4222:1", "nats://[::1", "nats://:4222"};
    static const char *const right[] = {"a",     "a:1",   "NATS://a",     "tls://joe:p:w@a-b.c_d:4222/",
                                        "tok@a", "a , b", "nats://[::1]", "[::1]:65535"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (RUN("--nats", wrong[i], "--print-config") != 2) fail_msg("--nats \"%s\" is taken", wrong[i]);
        says("--nats");
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        if (RUN("--nats", right[i], "--print-config") != 0) fail_msg("%s", file_text(log_path));
}

static void what_cannot_start_is_1(void **state) {
    (void)state;
    assert_int_equal(RUN("--models", "/nowhere/at/all", "--http", "off", "--device", "null"), 1);
    says("\"event\":\"not_started\"");
    says("/nowhere/at/all");
    assert_int_equal(RUN("--http", "192.0.2.1:1"), 1);
    says("cannot listen there");
}

/* Only a file that is not there means "kefud's own defaults". */
static void generation_config_that_cannot_be_read(void **state) {
    (void)state;
    char *models = tiny_models(), path[256];
    snprintf(path, sizeof path, "%s/decoder/generation_config.json", models);
    mkdir(path, 0700);
    assert_int_equal(RUN("--models", models, "--http", "off", "--device", "null"), 1);
    says("/decoder/generation_config.json: not a regular file");
    rmdir(path);
    tiny_write(models, "decoder/generation_config.json", "{\"temperature\": 3}");
    assert_int_equal(RUN("--models", models, "--http", "off", "--device", "null"), 1);
    says("temperature: a number from 0 to 2 wanted");
    tiny_remove(models);
}

/* A worker that writes nothing is one that was asked for. */
static void a_missing_decoder_is_said(void **state) {
    (void)state;
    broker b;
    worker w;
    char *models = tiny_models(), decoder[256], aside[256];
    snprintf(decoder, sizeof decoder, "%s/decoder", models);
    snprintf(aside, sizeof aside, "%s/aside", models);
    assert_int_equal(rename(decoder, aside), 0);
    assert_int_equal(RUN("--models", models, "--http", "off", "--device", "null"), 1);
    says("/decoder: no such folder; put one there, or start with --decoder off");

    broker_start(&b, -1, NULL);
    worker_start(&w, b.url, (const char *[]){"--device", "null", "--models", models, "--decoder", "off", NULL});
    worker_wait(&w, "/readyz", 200);
    assert_non_null(strstr(file_text(w.log), "\"kv_cache_bytes\":0,"));
    assert_int_equal(worker_end(&w, SIGTERM, 10000), 0);
    worker_forget(&w);
    broker_stop(&b);
    tiny_remove(models);
}

/* Wrong credentials do not mend themselves: the worker ends, and says why. */
static void a_broker_that_refuses_is_3(void **state) {
    (void)state;
    broker b;
    char good[80];
    broker_start(&b, -1, "authorization { user: joe, password: right }\n");
    assert_int_equal(RUN("--nats", b.url, "--models", KF_SOURCE_DIR "/models", "--http", "off", "--device", "null"), 3);
    says("nats_closed");

    worker w;
    snprintf(good, sizeof good, "nats://joe:right@127.0.0.1:%d", b.port);
    worker_start(&w, good, (const char *[]){"--device", "null", NULL});
    worker_wait(&w, "/readyz", 200);
    assert_null(strstr(file_text(w.log), "right"));
    assert_int_equal(worker_end(&w, SIGINT, 10000), 0);
    worker_forget(&w);
    broker_stop(&b);
}

static int setup(void **state) {
    (void)state;
    make_dir(dir);
    snprintf(log_path, sizeof log_path, "%s/out", dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    remove_dir(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_explains_itself),        cmocka_unit_test(usage_is_2),
        cmocka_unit_test(what_cannot_start_is_1),    cmocka_unit_test(generation_config_that_cannot_be_read),
        cmocka_unit_test(what_is_no_broker_is_2),    cmocka_unit_test(a_broker_that_refuses_is_3),
        cmocka_unit_test(a_missing_decoder_is_said),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
