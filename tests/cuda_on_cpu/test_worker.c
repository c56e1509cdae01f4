/* Aim: kefud on a card that fails: what cannot start says what was found and what to change, and a device that is lost
 * under load costs no request its one final, fails /livez and ends the process with exit code 4. Method: kefud linked
 * with the CPU runner (runner.h: its environment chooses the card, SIGUSR1 loses it), a real nats-server, tiny models.
 */
#include "e2e/broker.h"
#include "sim/tiny.h"

enum { N = 50, N_FIRST = 8, OK = 0, UNAVAILABLE = 14 };

static char *models, dir[64], log_path[80];

/* ---- what cannot start ---- */

/* Runs kefud on a card of this kind, which must end with exit code 1. */
static void cannot_start(const char *variable, const char *value, const char *const *wanted) {
    const char *argv[] = {KF_BIN_DIR "/kefud", "--device", "cuda",   "--dtype", "f32",
                          "--models",          models,     "--http", "off",     NULL};
    unlink(log_path);
    setenv(variable, value, 1);
    int code = await_exit(spawn(argv, log_path), 60000);
    unsetenv(variable);
    const char *text = file_text(log_path);
    if (code != 1) fail_msg("%s=%s: exit code %d: %s", variable, value, code, text);
    for (; *wanted; wanted++)
        if (!strstr(text, *wanted)) fail_msg("%s=%s: \"%s\" wanted: %s", variable, value, *wanted, text);
}

#define CANNOT_START(variable, value, ...) cannot_start(variable, value, (const char *const[]){__VA_ARGS__, NULL})

static void no_card_that_will_do(void **state) {
    (void)state;
    CANNOT_START("KF_ONCPU_CARD", "no-driver", "no driver", "--device cpu");
    CANNOT_START("KF_ONCPU_CARD", "no-card", "no CUDA-capable device", "--device cpu");
    CANNOT_START("KF_ONCPU_CARD", "old-driver", "driver is for CUDA 12.2", "--device cpu");
    CANNOT_START("KF_ONCPU_CARD", "sm_75", "sm_75; sm_80 or newer", "--device cpu");
}

/* Too little for a stream, for the encoder's activations, and for the cache of so many sequences. */
static void no_memory(void **state) {
    (void)state;
    CANNOT_START("KF_ONCPU_MEMORY", "20000", "bytes asked for, 20000 of the card's 20000 bytes are free");
    CANNOT_START("KF_ONCPU_MEMORY", "51000000", "encoder activations: ", "of 51000000 bytes are left on device cuda",
                 "--dtype bf16");
    setenv("KEFU_MAX_RUNNING", "4096", 1);
    CANNOT_START("KF_ONCPU_MEMORY", "80000000", "kv_cache", " bytes asked for", "lower --max-running or --kv-cache-mb");
    unsetenv("KEFU_MAX_RUNNING");
}

/* ---- lost in mid-flight ---- */

static void send_requests(client *c) {
    for (int i = 0; i < N; i++) {
        Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
        Kefu__V1__Generate g = KEFU__V1__GENERATE__INIT;
        r.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
        r.text = (char *)(i % 2 ? "我想要一件红色的羽绒服" : "退货在吗？");
        r.stream = i % 3 == 0;
        r.generate = &g;
        g.max_tokens_set_case = KEFU__V1__GENERATE__MAX_TOKENS_SET_MAX_TOKENS;
        g.max_tokens = 24;
        client_send_request(c, "kefu.request", i, &r);
    }
}

static void livez_fails(const worker *w) {
    static char body[HTTP_BYTES];
    int code = 200;
    for (int i = 0; i < 20000 && code == 200; i++)
        code = http_get(w->http, "/livez", body);
    if (code != 503 || !strstr(body, "the device has failed")) fail_msg("/livez gives %d \"%s\"", code, body);
}

static void lost_under_load(const char *error) {
    broker b;
    worker w;
    client c;
    setenv("KF_ONCPU_LOST", error, 1);
    broker_start(&b, -1, NULL);
    worker_start(&w, b.url,
                 (const char *[]){"--device", "cuda", "--dtype", "f32", "--models", models, "--max-running", "4",
                                  "--deadline-ms", "3600000", NULL});
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    send_requests(&c);
    assert_true(client_wait(&c, N_FIRST, 120000));
    kill(w.pid, SIGUSR1);
    livez_fails(&w);
    if (!client_wait(&c, N - c.n_finals, 20000)) fail_msg("%d finals of %d: %s", c.n_finals, N, file_text(w.log));
    client_linger(&c, 300);
    int n_unavailable = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(c.answers[i].n_finals, 1);
        if (code_of(&c.answers[i]) == UNAVAILABLE)
            n_unavailable++;
        else
            assert_int_equal(code_of(&c.answers[i]), OK);
    }
    assert_true(n_unavailable > 0 && n_unavailable <= N - N_FIRST);
    assert_int_equal(await_exit(w.pid, 20000), 4);
    w.pid = 0;
    assert_non_null(strstr(file_text(w.log), "\"event\":\"device_failed\""));
    worker_forget(&w);
    client_close(&c);
    broker_stop(&b);
    unsetenv("KF_ONCPU_LOST");
}

static void illegal_address(void **state) {
    (void)state;
    lost_under_load("700");
}

static void uncorrectable_ecc(void **state) {
    (void)state;
    lost_under_load("214");
}

int main(void) {
    models = tiny_models();
    make_dir(dir);
    snprintf(log_path, sizeof log_path, "%s/out", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_card_that_will_do),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(illegal_address),
        cmocka_unit_test(uncorrectable_ecc),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_dir(dir);
    tiny_remove(models);
    return failed;
}
