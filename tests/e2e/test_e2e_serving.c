/* Aim: streaming, deadlines, cancellation, overload and a small max_payload, as a client sees them.
 * Method: a worker that writes one reply at a time, so that requests queue; then workers and brokers with small limits.
 */
#include "e2e/broker.h"

enum { OK = 0, CANCELLED = 1, DEADLINE_EXCEEDED = 4, RESOURCE_EXHAUSTED = 8 };

static broker b;
static worker w;
static client c;

typedef struct ask {
    const char *id, *text;
    bool stream, understand;
    uint32_t deadline_ms;
} ask;

static void send_ask(int idx, ask a) {
    Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
    Kefu__V1__Generate g = KEFU__V1__GENERATE__INIT;
    r.id = (char *)(a.id ? a.id : "");
    r.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    r.text = (char *)(a.text ? a.text : "这件外套有没有大码，什么时候发货");
    r.stream = a.stream;
    r.want = a.understand ? KEFU__V1__WANT__UNDERSTAND : KEFU__V1__WANT__REPLY;
    r.generate = &g;
    g.seed_set_case = KEFU__V1__GENERATE__SEED_SET_SEED;
    g.seed = (uint64_t)idx;
    if (a.deadline_ms) {
        r.deadline_case = KEFU__V1__REQUEST__DEADLINE_DEADLINE_MS;
        r.deadline_ms = a.deadline_ms;
    }
    client_send_request(&c, "kefu.v1.request.default.normal.any", idx, &r);
}

static int count(int n, int code) {
    int found = 0;
    for (int i = 0; i < n; i++)
        found += code_of(&c.answers[i]) == code;
    return found;
}

static void one_final_each(int n) {
    for (int i = 0; i < n; i++)
        if (c.answers[i].n_finals != 1) fail_msg("request %d: %d finals", i, c.answers[i].n_finals);
}

static void begin(const char *conf, const char *const *options) {
    broker_start(&b, -1, conf);
    worker_start(&w, b.url, options);
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
}

static void finish(void) {
    client_close(&c);
    assert_int_equal(worker_end(&w, SIGTERM, 20000), 0);
    worker_forget(&w);
    broker_stop(&b);
}

/* No request is refused for what the machine's load makes of the measured rate; and one compute thread, since two that
 * wait for each other on a busy machine are slower. */
#define NO_HURRY "--deadline-ms", "3600000", "--threads", "1"

/* Parts come in order, and together they are the final's text. */
static void streamed_parts_are_the_final(void **state) {
    (void)state;
    needs_cpu_device();
    enum { N = 40 };
    int n_parts = 0;
    for (int i = 0; i < N; i++)
        send_ask(i, (ask){.stream = i % 4 != 3});
    assert_true(client_wait(&c, N, 60000));
    one_final_each(N);
    for (int i = 0; i < N; i++) {
        const answer *a = &c.answers[i];
        assert_int_equal(code_of(a), OK);
        assert_true(a->in_order);
        if (i % 4 != 3) assert_string_equal(a->parts, a->final->reply->text);
        if (i % 4 == 3) assert_int_equal(a->n_parts, 0);
        assert_int_equal(a->final->seq, a->n_parts);
        n_parts += a->n_parts;
    }
    assert_true(n_parts > N); /* more than one each: it does stream */
    client_forget_answers(&c);
}

/* A request alone is let in and ends when its time is over; in a queue that is longer than its time it may also be
 * refused at once. Those that have time are not touched. */
static void deadlines_are_kept(void **state) {
    (void)state;
    needs_cpu_device();
    enum { N = 60, SOON_MS = 20 };
    send_ask(0, (ask){.deadline_ms = 1});
    assert_true(client_wait(&c, 1, 60000));
    assert_int_equal(code_of(&c.answers[0]), DEADLINE_EXCEEDED);
    client_forget_answers(&c);
    for (int i = 0; i < N; i++)
        send_ask(i, (ask){.deadline_ms = i % 2 ? SOON_MS : 0});
    assert_true(client_wait(&c, N, 60000));
    one_final_each(N);
    assert_true(count(N, DEADLINE_EXCEEDED) + count(N, RESOURCE_EXHAUSTED) > 0);
    for (int i = 0; i < N; i += 2)
        assert_int_equal(code_of(&c.answers[i]), OK);
    client_forget_answers(&c);
}

/* Every third request is taken back, as JSON or as protobuf: it ends, with CANCELLED unless it was done already; the
 * others are not touched, nor is one of that id under another tenant. */
static void cancelling_ends_that_request_alone(void **state) {
    (void)state;
    needs_cpu_device();
    enum { N = 60 };
    char id[16], cancel[64];
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof id, "job-%d", i);
        send_ask(i, (ask){.id = id});
    }
    for (int i = N - 1; i >= 0; i--) {
        snprintf(cancel, sizeof cancel, "{\"id\":\"job-%d\",\"tenant\":\"%s\"}", i, i % 3 ? "other" : "default");
        if (i % 6) natsConnection_PublishString(c.nc, "kefu.cancel", cancel);
        snprintf(id, sizeof id, "job-%d", i);
        int n = snprintf(cancel, sizeof cancel, "\x0a%c%s", (int)strlen(id), id);
        if (i % 6 == 0) natsConnection_Publish(c.nc, "kefu.cancel", cancel, n);
    }
    assert_true(client_wait(&c, N, 60000));
    client_linger(&c, 200);
    one_final_each(N);
    for (int i = 0; i < N; i++) {
        int code = code_of(&c.answers[i]);
        assert_true(code == OK || (i % 3 == 0 && code == CANCELLED));
    }
    assert_true(count(N, CANCELLED) >= N / 6);
    client_forget_answers(&c);
}

static void garbage_to_cancel_is_counted(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "{", "{}", "[]", "{\"id\":7}", "\x0a\x7f", "\xff\xff\xff\xff\xff", "{\"id\":\"no such\"}"};
    static char body[HTTP_BYTES];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        natsConnection_PublishString(c.nc, "kefu.cancel", texts[i]);
    send_ask(0, (ask){.understand = true});
    assert_true(client_wait(&c, 1, 20000));
    assert_int_equal(code_of(&c.answers[0]), OK);
    client_forget_answers(&c);
    assert_int_equal(http_get(w.http, "/metrics", body), 200);
    assert_non_null(
        strstr(body, "\nkefu_messages_dropped_total{reason=\"unreadable_cancel\"} 7\n")); /* the last is none */
    for (int i = 0; i < 300 && !strstr(file_text(w.log), "\"unreadable_cancel\":"); i++)
        usleep(10000);
    assert_non_null(strstr(file_text(w.log), "\"unreadable_cancel\":"));
}

/* Few places: those without one are told when to come back, at once and each for itself. */
static void overload_is_refused_with_a_time(void **state) {
    (void)state;
    needs_cpu_device();
    enum { N = 300 };
    begin(NULL, (const char *[]){"--max-jobs", "4", "--max-running", "1", NO_HURRY, NULL});
    char id[16];
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof id, "n%d", i);
        send_ask(i, (ask){.id = id});
    }
    assert_true(client_wait(&c, N, 60000));
    client_linger(&c, 200);
    one_final_each(N);
    for (int i = 0; i < N; i++) {
        const answer *a = &c.answers[i];
        snprintf(id, sizeof id, "n%d", i);
        assert_string_equal(a->final->id, id);
        if (code_of(a) == OK) continue;
        assert_int_equal(code_of(a), RESOURCE_EXHAUSTED);
        assert_true(a->final->status->retry_after_ms > 0);
        assert_string_equal(a->code_header, "8");
    }
    assert_true(count(N, OK) >= 4 && count(N, RESOURCE_EXHAUSTED) > 0);
    finish();
}

/* A reply that the broker would not carry becomes a short refusal, never a time-out. */
static void small_max_payload_is_said(void **state) {
    (void)state;
    begin("max_payload: 2048\n", (const char *[]){"--device", "null", NULL});
    char text[901] = "";
    for (int i = 0; i < 100; i++)
        strcat(text, "袜子，");
    send_ask(0, (ask){.text = text, .understand = true});
    send_ask(1, (ask){.text = "袜子", .understand = true});
    assert_true(client_wait(&c, 2, 20000));
    assert_int_equal(code_of(&c.answers[0]), RESOURCE_EXHAUSTED);
    assert_non_null(strstr(c.answers[0].final->status->message, "max_payload"));
    assert_int_equal(code_of(&c.answers[1]), OK);

    static char body[HTTP_BYTES]; /* and each is counted as what was sent */
    assert_int_equal(http_get(w.http, "/metrics", body), 200);
    assert_non_null(strstr(body, "kefu_requests_total{code=\"RESOURCE_EXHAUSTED\"} 1\n"));
    assert_non_null(strstr(body, "kefu_requests_total{code=\"OK\"} 1\n"));
    finish();
}

static int setup_queueing(void **state) {
    (void)state;
    begin(NULL, (const char *[]){"--max-running", "1", "--device", HAS_CPU_DEVICE ? "cpu" : "null", NO_HURRY, NULL});
    return 0;
}

static int teardown_queueing(void **state) {
    (void)state;
    finish();
    return 0;
}

int main(void) {
    const struct CMUnitTest queueing[] = {
        cmocka_unit_test(streamed_parts_are_the_final),
        cmocka_unit_test(deadlines_are_kept),
        cmocka_unit_test(cancelling_ends_that_request_alone),
        cmocka_unit_test(garbage_to_cancel_is_counted),
    };
    const struct CMUnitTest limits[] = {
        cmocka_unit_test(overload_is_refused_with_a_time),
        cmocka_unit_test(small_max_payload_is_said),
    };
    int failed = cmocka_run_group_tests(queueing, setup_queueing, teardown_queueing);
    return failed + cmocka_run_group_tests(limits, NULL, NULL);
}
