/* Aim: service discovery as ADR-32's schemas want it, field by field, and counts that agree with what was sent.
 * Method: a real broker, two workers, the nine subjects, jansson. */
#include "e2e/broker.h"

#include <ctype.h>
#include <jansson.h>

enum { MAX_WORKERS = 4, ANSWER_MS = 300 };

static broker b;
static worker w[2];
static client c;

/* Publishes to the subject and takes all answers that come within the time a listing waits for. */
static size_t ask_all(const char *subject, json_t *out[MAX_WORKERS]) {
    natsSubscription *sub = NULL;
    natsMsg *msg = NULL;
    size_t n = 0;
    assert_int_equal(natsConnection_SubscribeSync(&sub, c.nc, "discovery.answers"), NATS_OK);
    assert_int_equal(natsConnection_PublishRequest(c.nc, subject, "discovery.answers", "", 0), NATS_OK);
    while (natsSubscription_NextMsg(&msg, sub, ANSWER_MS) == NATS_OK) {
        assert_true(n < MAX_WORKERS);
        json_error_t e;
        out[n] = json_loadb(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), JSON_REJECT_DUPLICATES, &e);
        if (!out[n]) fail_msg("%s: %s", subject, e.text);
        n++;
        natsMsg_Destroy(msg);
    }
    natsSubscription_Destroy(sub);
    return n;
}

static const char *text_of(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v)) fail_msg("%s: a string wanted", key);
    return json_string_value(v);
}

static json_int_t int_of(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v)) fail_msg("%s: an integer wanted", key);
    return json_integer_value(v);
}

/* ^[a-zA-Z0-9_-]+$ */
static void check_name(const char *s) {
    assert_true(*s);
    for (; *s; s++)
        assert_true(isalnum((unsigned char)*s) || *s == '_' || *s == '-');
}

static void check_metadata(const json_t *o) {
    const json_t *metadata = json_object_get(o, "metadata");
    const char *key;
    json_t *value;
    assert_true(json_is_object(metadata));
    json_object_foreach((json_t *)metadata, key, value) assert_true(json_is_string(value));
}

static void check_common(const json_t *o, const char *type) {
    int major, minor, patch, n = 0;
    assert_string_equal(text_of(o, "type"), type);
    assert_string_equal(text_of(o, "name"), "kefu");
    check_name(text_of(o, "id"));
    assert_int_equal(sscanf(text_of(o, "version"), "%d.%d.%d%n", &major, &minor, &patch, &n), 3);
    assert_int_equal(text_of(o, "version")[n], 0);
    check_metadata(o);
}

static const json_t *endpoint(const json_t *o, size_t idx) {
    const json_t *endpoints = json_object_get(o, "endpoints");
    assert_int_equal(json_array_size(endpoints), 2);
    const json_t *e = json_array_get(endpoints, idx);
    check_name(text_of(e, "name"));
    assert_string_equal(text_of(e, "subject"), idx ? "kefu.v1.request.*.*.*" : "kefu.request");
    assert_string_equal(text_of(e, "queue_group"), "kefu");
    return e;
}

static void every_worker_answers_every_form(void **state) {
    (void)state;
    static const char *const verbs[] = {"PING", "INFO", "STATS"};
    static const char *const types[] = {"io.nats.micro.v1.ping_response", "io.nats.micro.v1.info_response",
                                        "io.nats.micro.v1.stats_response"};
    char subject[128], id[64];
    json_t *answers[MAX_WORKERS];
    for (size_t v = 0; v < 3; v++) {
        snprintf(subject, sizeof subject, "$SRV.%s", verbs[v]);
        assert_int_equal(ask_all(subject, answers), 2);
        assert_string_not_equal(text_of(answers[0], "id"), text_of(answers[1], "id"));
        snprintf(id, sizeof id, "%s", text_of(answers[1], "id"));
        for (size_t i = 0; i < 2; i++) {
            check_common(answers[i], types[v]);
            json_decref(answers[i]);
        }
        snprintf(subject, sizeof subject, "$SRV.%s.kefu", verbs[v]);
        assert_int_equal(ask_all(subject, answers), 2);
        json_decref(answers[0]), json_decref(answers[1]);
        snprintf(subject, sizeof subject, "$SRV.%s.kefu.%s", verbs[v], id);
        assert_int_equal(ask_all(subject, answers), 1);
        assert_string_equal(text_of(answers[0], "id"), id);
        json_decref(answers[0]);
        snprintf(subject, sizeof subject, "$SRV.%s.other", verbs[v]);
        assert_int_equal(ask_all(subject, answers), 0);
    }
}

static void info_describes_the_endpoints(void **state) {
    (void)state;
    json_t *answers[MAX_WORKERS];
    assert_int_equal(ask_all("$SRV.INFO", answers), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(*text_of(answers[i], "description"));
        check_metadata(endpoint(answers[i], 0));
        check_metadata(endpoint(answers[i], 1));
        const json_t *metadata = json_object_get(answers[i], "metadata");
        assert_true(atoi(text_of(metadata, "max_tokens")) > 0);
        assert_true(atoi(text_of(metadata, "max_text_tokens")) > 0);
        assert_non_null(strchr(text_of(metadata, "model"), '@'));
        json_decref(answers[i]);
    }
}

/* Sums over both workers: what was asked on each endpoint, the refusals among it, times that hang together. */
static void stats_count_what_was_asked(void **state) {
    (void)state;
    enum { N_RIGHT = 20, N_WRONG = 7 };
    static const char ok[] = "{\"text\":\"你好\",\"want\":\"UNDERSTAND\"}", bad[] = "{\"text\":\"\"}";
    json_t *answers[MAX_WORKERS];
    for (int i = 0; i < N_RIGHT; i++)
        client_send(&c, "kefu.v1.request.default.high.any", i, ok, sizeof ok - 1, NULL);
    for (int i = 0; i < N_WRONG; i++)
        client_send(&c, "kefu.request", N_RIGHT + i, bad, sizeof bad - 1, NULL);
    assert_true(client_wait(&c, N_RIGHT + N_WRONG, 20000));
    assert_int_equal(ask_all("$SRV.STATS.kefu", answers), 2);
    json_int_t n_requests[2] = {0}, n_errors[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(strlen(text_of(answers[i], "started")), 24); /* 2026-11-24T08:00:00.000Z */
        for (size_t k = 0; k < 2; k++) {
            const json_t *e = endpoint(answers[i], k), *data = json_object_get(e, "data");
            json_int_t n = int_of(e, "num_requests"), time = int_of(e, "processing_time");
            n_requests[k] += n;
            n_errors[k] += int_of(e, "num_errors");
            assert_int_equal(int_of(e, "average_processing_time"), n ? time / n : 0);
            assert_true(n ? time > 0 : time == 0);
            assert_string_equal(text_of(e, "last_error"), int_of(e, "num_errors") ? "3: INVALID_ARGUMENT" : "");
            assert_true(int_of(data, "running") >= 0 && int_of(data, "waiting") >= 0);
            assert_true(json_is_real(json_object_get(data, "kv_cache_usage")));
            assert_true(json_is_real(json_object_get(data, "oldest_request_age_ms")));
            assert_non_null(strchr(text_of(data, "model"), '@'));
        }
        json_decref(answers[i]);
    }
    assert_int_equal(n_requests[0], N_WRONG);
    assert_int_equal(n_requests[1], N_RIGHT);
    assert_int_equal(n_errors[0], N_WRONG);
    assert_int_equal(n_errors[1], 0);
}

static int setup(void **state) {
    (void)state;
    broker_start(&b, -1, NULL);
    for (int i = 0; i < 2; i++)
        worker_start(&w[i], b.url, (const char *[]){"--device", "null", NULL});
    for (int i = 0; i < 2; i++)
        worker_wait(&w[i], "/readyz", 200);
    client_open(&c, b.url);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    client_close(&c);
    for (int i = 0; i < 2; i++) {
        worker_end(&w[i], SIGTERM, 20000);
        worker_forget(&w[i]);
    }
    broker_stop(&b);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_worker_answers_every_form),
        cmocka_unit_test(info_describes_the_endpoints),
        cmocka_unit_test(stats_count_what_was_asked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
