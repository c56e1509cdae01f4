/* Aim: the seed's sentence is understood over a real broker, as protobuf and as JSON, on the demo's models; and what a
 * customer writes is nowhere to be found afterwards but in the replies.
 * Method: kefud on the cpu device; then markers in every field of right and wrong requests, looked for in the debug
 * log, the metrics and service discovery. */
#include "e2e/broker.h"

static broker b;
static worker w;
static client c;

static const char SENTENCE[] = "我想要一件红色的羽绒服";

static bool has_entity(const Kefu__V1__Understanding *u, const char *type, const char *text, uint32_t start,
                       uint32_t end) {
    for (size_t i = 0; i < u->n_entities; i++) {
        const Kefu__V1__Entity *e = u->entities[i];
        if (!strcmp(e->type, type) && !strcmp(e->text, text) && e->start == start && e->end == end) return true;
    }
    return false;
}

static const Kefu__V1__Token *token(const Kefu__V1__Understanding *u, const char *text) {
    for (size_t i = 0; i < u->n_tokens; i++)
        if (!strcmp(u->tokens[i]->text, text)) return u->tokens[i];
    fail_msg("no token %s", text);
    return NULL;
}

/* The words are the sentence, end to end, each with a part of speech. */
static void check_tokens(const Kefu__V1__Understanding *u) {
    char joined[sizeof SENTENCE * 2] = "";
    uint32_t at = 0;
    for (size_t i = 0; i < u->n_tokens; i++) {
        assert_true(*u->tokens[i]->pos);
        assert_int_equal(u->tokens[i]->start, at);
        at = u->tokens[i]->end;
        strncat(joined, u->tokens[i]->text, sizeof joined - strlen(joined) - 1);
    }
    assert_string_equal(joined, SENTENCE);
    assert_true(token(u, "的")->stop_word);
    assert_false(token(u, "羽绒服")->stop_word);
    assert_false(token(u, "红色")->stop_word);
}

static void the_seed_as_protobuf(void **state) {
    (void)state;
    needs_cpu_device();
    Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
    r.id = (char *)"seed-1";
    r.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    r.text = (char *)SENTENCE;
    client_send_request(&c, "kefu.request", 0, &r);
    assert_true(client_wait(&c, 1, 30000));
    const Kefu__V1__Response *f = c.answers[0].final;
    assert_non_null(f);
    assert_int_equal(code_of(&c.answers[0]), 0);
    assert_string_equal(f->id, "seed-1");
    assert_int_equal(f->attempt, 1);
    assert_non_null(f->understanding);
    assert_string_equal(f->understanding->intents[0]->label, "purchase");
    assert_true(has_entity(f->understanding, "attribute", "红色", 5, 7));
    assert_true(has_entity(f->understanding, "product", "羽绒服", 8, 11));
    assert_non_null(f->understanding->sentiment);
    check_tokens(f->understanding);
    assert_non_null(f->reply);
    assert_true(strlen(f->reply->text) > 0);
    assert_true(f->usage->prompt_tokens > 0 && f->usage->completion_tokens > 0);
    assert_non_null(strchr(f->model, '@'));
    assert_string_equal(c.answers[0].code_header, "");
    client_forget_answers(&c);
}

static void the_seed_as_json(void **state) {
    (void)state;
    needs_cpu_device();
    static const char *const trace[] = {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", NULL};
    char text[256];
    snprintf(text, sizeof text, "{\"text\":\"%s\"}", SENTENCE);
    client_send(&c, "kefu.request", 0, text, strlen(text), trace);
    assert_true(client_wait(&c, 1, 30000));
    const answer *a = &c.answers[0];
    assert_non_null(a->json);
    assert_string_equal(a->type_header, "application/json");
    assert_string_equal(a->trace_header, trace[1]);
    assert_non_null(strstr(a->json, "\"intents\":[{\"label\":\"purchase\""));
    assert_non_null(strstr(a->json, "\"text\":\"羽绒服\",\"start\":8,\"end\":11"));
    assert_non_null(strstr(a->json, "\"text\":\"红色\",\"start\":5,\"end\":7"));
    assert_null(strstr(a->json, "\"code\"")); /* OK is the default and left out */
    client_forget_answers(&c);
}

#define MARK "绝密暗号QZX"

static void customers_words_stay_out_of_log_metrics_and_discovery(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"text\":\"" MARK "我的手机13800138000\",\"sessionId\":\"" MARK "\",\"userId\":\"" MARK "\"}",
        "{\"text\":\"在吗\",\"history\":[{\"text\":\"" MARK "\"}],\"stream\":true}",
        "{\"text\":\"在吗\",\"" MARK "\":1}",
        "{\"text\":\"在吗\",\"want\":\"" MARK "\"}",
        "{\"text\":\"在吗\",\"tenant\":\"" MARK "\"}",
        "{\"text\":\"" MARK,
        MARK,
        "{\"id\":\"" MARK "\",\"text\":\"\"}",
        "{\"text\":\"在吗\",\"generate\":{\"stop\":[\"" MARK "\"]}}",
    };
    enum { N = sizeof texts / sizeof *texts };
    static char body[HTTP_BYTES];
    natsMsg *stats = NULL;
    for (int i = 0; i < N; i++)
        client_send(&c, "kefu.request", i, texts[i], strlen(texts[i]), NULL);
    natsConnection_PublishString(c.nc, "kefu.request", texts[0]); /* no reply subject: dropped, and said so */
    assert_true(client_wait(&c, N, 30000));
    assert_int_equal(natsConnection_RequestString(&stats, c.nc, "$SRV.STATS.kefu", "", 5000), NATS_OK);
    assert_null(memmem(natsMsg_GetData(stats), (size_t)natsMsg_GetDataLength(stats), MARK, strlen(MARK)));
    natsMsg_Destroy(stats);
    assert_int_equal(http_get(w.http, "/metrics", body), 200);
    assert_null(strstr(body, MARK));
    sleep(2); /* the line about requests without a reply subject comes once a second */
    assert_null(strstr(file_text(w.log), MARK));
    assert_null(strstr(file_text(w.log), "13800138000"));
    assert_non_null(strstr(file_text(w.log), "messages_dropped"));
    client_forget_answers(&c);
}

static int setup(void **state) {
    (void)state;
    broker_start(&b, -1, NULL);
    const char *device = HAS_CPU_DEVICE ? "cpu" : "null";
    worker_start(&w, b.url, (const char *[]){"--log-level", "debug", "--threads", "1", "--device", device, NULL});
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    client_close(&c);
    int code = worker_end(&w, SIGTERM, 20000);
    worker_forget(&w);
    broker_stop(&b);
    return code;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seed_as_protobuf),
        cmocka_unit_test(the_seed_as_json),
        cmocka_unit_test(customers_words_stay_out_of_log_metrics_and_discovery),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
