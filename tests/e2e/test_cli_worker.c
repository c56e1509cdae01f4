/* Aim: ask, chat and bench keep their promises towards a worker of any mood: documents, exit codes, subjects, history,
 * cancelling, latencies of an open loop. Method: the built program against a real nats-server and a worker played here,
 * whose behaviour is chosen by the request's text. */
#include "e2e/broker.h"
#include "e2e/cli_run.h"

#include <pthread.h>
#include <stdatomic.h>

#include "cli/client.h"

enum { STALL_MS = 600 };

/* The played worker: requests and cancellations arrive on nats.c's threads. */
static struct {
    natsConnection *nc;
    natsSubscription *requests, *lanes, *cancels;
    atomic_int n_seen, n_unready, interrupt_at; /* n_unready: answers of UNAVAILABLE still to give */
    atomic_int n_history;
    pthread_mutex_t lock; /* of the texts: what the last request said, and where a cancelled one is answered */
    char subject[128], user_id[64], cancelled_reply_to[128];
} played = {.lock = PTHREAD_MUTEX_INITIALIZER};

static broker server;

static void note(char *to, size_t cap, const char *text) {
    pthread_mutex_lock(&played.lock);
    snprintf(to, cap, "%s", text);
    pthread_mutex_unlock(&played.lock);
}

/* A noted text, valid until the next call. */
static const char *noted(const char *text) {
    static _Thread_local char copy[128];
    pthread_mutex_lock(&played.lock);
    snprintf(copy, sizeof copy, "%s", text);
    pthread_mutex_unlock(&played.lock);
    return copy;
}

static void publish(const char *reply_to, Kefu__V1__Response *r) {
    uint8_t bytes[4096];
    size_t n = kefu__v1__response__get_packed_size(r);
    if (n > sizeof bytes) return;
    kefu__v1__response__pack(r, bytes);
    natsConnection_Publish(played.nc, reply_to, bytes, (int)n);
}

static void answer_final(const char *reply_to, char *id, Kefu__V1__Code code, uint32_t seq) {
    Kefu__V1__Response r = KEFU__V1__RESPONSE__INIT;
    Kefu__V1__Status status = KEFU__V1__STATUS__INIT;
    Kefu__V1__Reply reply = KEFU__V1__REPLY__INIT;
    Kefu__V1__Usage usage = KEFU__V1__USAGE__INIT;
    Kefu__V1__Understanding understanding = KEFU__V1__UNDERSTANDING__INIT;
    Kefu__V1__Label intent = KEFU__V1__LABEL__INIT, *intents[] = {&intent};
    Kefu__V1__Token word = KEFU__V1__TOKEN__INIT, *words[] = {&word};
    intent.label = (char *)"greeting";
    intent.score = 0.75f;
    word.text = (char *)"的";
    word.pos = (char *)"u";
    word.stop_word = true;
    understanding.intents = intents;
    understanding.tokens = words;
    understanding.n_intents = understanding.n_tokens = 1;
    status.code = code;
    if (code != KEFU__V1__CODE__OK) status.message = (char *)"come back later";
    reply.text = (char *)"一二三四";
    reply.finish_reason = KEFU__V1__FINISH_REASON__STOP;
    usage.completion_tokens = 4;
    r.id = id;
    r.seq = seq;
    r.final = true;
    r.status = &status;
    if (code == KEFU__V1__CODE__OK) {
        r.understanding = &understanding;
        r.reply = &reply;
        r.usage = &usage;
    }
    publish(reply_to, &r);
}

static void answer_parts(const char *reply_to, char *id) {
    static const char *const texts[] = {"一", "二三", "四"};
    static const uint32_t offsets[] = {0, 1, 3};
    for (uint32_t i = 0; i < 3; i++) {
        Kefu__V1__Response r = KEFU__V1__RESPONSE__INIT;
        Kefu__V1__Reply reply = KEFU__V1__REPLY__INIT;
        reply.text = (char *)texts[i];
        reply.text_offset = offsets[i];
        r.id = id;
        r.seq = i;
        r.reply = &reply;
        publish(reply_to, &r);
        if (i == 1) publish(reply_to, &r); /* a part that comes twice */
    }
}

static void on_request(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)nc;
    (void)sub;
    (void)closure;
    const char *to = natsMsg_GetReply(msg);
    Kefu__V1__Request *r =
        kefu__v1__request__unpack(NULL, (size_t)natsMsg_GetDataLength(msg), (const uint8_t *)natsMsg_GetData(msg));
    int n = atomic_fetch_add(&played.n_seen, 1) + 1;
    if (n == played.interrupt_at) kill(cli_pid, SIGINT);
    if (r && to) {
        note(played.subject, sizeof played.subject, natsMsg_GetSubject(msg));
        note(played.user_id, sizeof played.user_id, r->user_id);
        played.n_history = (int)r->n_history;
        if (!strcmp(r->text, "silent")) {
        } else if (!strcmp(r->text, "garbage")) {
            natsConnection_PublishString(played.nc, to, "\xff\xff\xff");
        } else if (strstr(r->text, "in vain")) {
            note(played.cancelled_reply_to, sizeof played.cancelled_reply_to, to);
            if (!strcmp(r->text, "parts in vain")) answer_parts(to, r->id);
        } else if (!strcmp(r->text, "refuse")) {
            answer_final(to, r->id, KEFU__V1__CODE__RESOURCE_EXHAUSTED, 0);
        } else if (atomic_load(&played.n_unready) > 0) {
            atomic_fetch_sub(&played.n_unready, 1);
            answer_final(to, r->id, KEFU__V1__CODE__UNAVAILABLE, 0);
        } else if (!strcmp(r->text, "endless")) { /* until it is taken back */
            note(played.cancelled_reply_to, sizeof played.cancelled_reply_to, to);
            answer_parts(to, r->id);
            kill(cli_pid, SIGINT);
        } else {
            if (!strcmp(r->text, "stall") && n == 2) usleep(STALL_MS * 1000); /* the first of a load: 1 was the probe */
            if (r->stream) answer_parts(to, r->id);
            answer_final(to, r->id, KEFU__V1__CODE__OK, r->stream ? 3 : 0);
        }
    }
    if (r) kefu__v1__request__free_unpacked(r, NULL);
    natsMsg_Destroy(msg);
}

static void on_cancel(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)nc;
    (void)sub;
    (void)closure;
    Kefu__V1__Request *r =
        kefu__v1__request__unpack(NULL, (size_t)natsMsg_GetDataLength(msg), (const uint8_t *)natsMsg_GetData(msg));
    /* Requests come in another thread: this one may be first. */
    for (int i = 0; i < 10000 && !*noted(played.cancelled_reply_to); i++)
        usleep(1000);
    if (r && *r->id) answer_final(noted(played.cancelled_reply_to), r->id, KEFU__V1__CODE__CANCELLED, 3);
    if (r) kefu__v1__request__free_unpacked(r, NULL);
    natsMsg_Destroy(msg);
}

static void play(void) {
    natsOptions *opts = NULL;
    played.n_seen = played.n_unready = played.interrupt_at = 0;
    assert_int_equal(natsOptions_Create(&opts), NATS_OK);
    natsOptions_SetURL(opts, server.url);
    natsOptions_SetSendAsap(opts, true);
    assert_int_equal(natsConnection_Connect(&played.nc, opts), NATS_OK);
    natsOptions_Destroy(opts);
    assert_int_equal(natsConnection_Subscribe(&played.requests, played.nc, "kefu.request", on_request, NULL), NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&played.lanes, played.nc, "kefu.v1.request.>", on_request, NULL),
                     NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&played.cancels, played.nc, "kefu.cancel", on_cancel, NULL), NATS_OK);
    assert_int_equal(natsConnection_Flush(played.nc), NATS_OK);
}

static void stop_playing(void) {
    natsConnection_Close(played.nc);
    natsSubscription_Destroy(played.requests);
    natsSubscription_Destroy(played.lanes);
    natsSubscription_Destroy(played.cancels);
    natsConnection_Destroy(played.nc);
}

/* ---- ask ---- */

static void test_ask(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "ask", "--nats", server.url, "你好");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "greeting 0.75");
    assert_contains(r.out, "的/u*");
    assert_contains(r.out, "一二三四");
    assert_string_equal(noted(played.subject), "kefu.request");
    assert_null(strchr(r.out, '\033')); /* no colours in a file */

    r = cli_run("你好\n", "ask", "--nats", server.url, "--json", "--stream", "-");
    json_t *doc = cli_json(&r);
    assert_true(json_is_true(json_object_get(doc, "final")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(doc, "reply"), "text")), "一二三四");
    json_decref(doc);

    r = cli_run(NULL, "ask", "--nats", server.url, "--stream", "你好");
    assert_true(strncmp(r.out, "一二三四\n", strlen("一二三四\n")) == 0); /* the doubled part once */

    r = cli_run(NULL, "ask", "--nats", server.url, "--tenant", "shop", "--lane", "high", "--session", "abc", "--user",
                "u1", "你好");
    assert_int_equal(r.code, 0);
    assert_string_equal(noted(played.subject),
                        "kefu.v1.request.shop.high.11"); /* FNV-1a 64 of "abc" is e71fa2190541574b, mod 16 */
    assert_string_equal(noted(played.user_id), "u1");
    r = cli_run(NULL, "ask", "--nats", server.url, "--tenant", "shop", "你好");
    assert_string_equal(noted(played.subject), "kefu.v1.request.shop.normal.any");
}

static void test_ask_refused(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "ask", "--nats", server.url, "refuse");
    assert_int_equal(r.code, 1);
    assert_contains(r.out, "RESOURCE_EXHAUSTED: come back later");
    r = cli_run(NULL, "ask", "--nats", server.url, "garbage");
    assert_int_equal(r.code, 1);
    r = cli_run(NULL, "ask", "--nats", server.url, "--timeout", "0.2", "silent");
    assert_int_equal(r.code, 3);
    assert_contains(r.err, "0.2 s");
    r = cli_run(NULL, "ask", "--nats", "nats://127.0.0.1:1", "你好");
    assert_int_equal(r.code, 3);
    assert_contains(r.err, "nats://127.0.0.1:1");
    r = cli_run(NULL, "ask", "--nats", server.url, "--tenant", "a b", "你好");
    assert_int_equal(r.code, 2);
}

static void *play_later(void *unused) {
    usleep(400000);
    play();
    return unused;
}

/* Nobody there: at once 3; with --wait served as soon as somebody is, and is ready. */
static void test_ask_waits(void **state) {
    (void)state;
    pthread_t later;
    stop_playing();
    cli_result r = cli_run(NULL, "ask", "--nats", server.url, "你好");
    assert_int_equal(r.code, 3);
    assert_contains(r.err, "no worker listens");
    assert_int_equal(pthread_create(&later, NULL, play_later, NULL), 0);
    r = cli_run(NULL, "ask", "--nats", server.url, "--wait", "20", "你好");
    pthread_join(later, NULL);
    assert_int_equal(r.code, 0);
    played.n_unready = 2;
    r = cli_run(NULL, "ask", "--nats", server.url, "--wait", "20", "你好");
    assert_int_equal(r.code, 0);
    assert_int_equal(played.n_unready, 0);
}

/* ---- chat ---- */

static void test_chat(void **state) {
    (void)state;
    cli_result r = cli_run("你好\n\n在吗\n", "chat", "--nats", server.url);
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "一二三四\n一二三四\n");
    assert_int_equal(played.n_history, 2); /* the first question and its reply */
    r = cli_run("你好\n/new\n在吗\n", "chat", "--nats", server.url);
    assert_int_equal(played.n_history, 0);

    r = cli_run("你好\n", "chat", "--nats", server.url, "--json");
    assert_int_equal(r.code, 0);
    size_t n_lines = 0;
    char *rest = (char *)r.out, *line;
    while ((line = strsep(&rest, "\n")) && *line) {
        json_t *doc = json_loads(line, 0, NULL);
        assert_true(json_is_object(doc));
        json_decref(doc);
        n_lines++;
    }
    assert_int_equal(n_lines, 4); /* three parts and the final */
}

/* Ctrl-C takes the running reply back; the conversation goes on. */
static void test_chat_cancel(void **state) {
    (void)state;
    cli_result r = cli_run("endless\n你好\n", "chat", "--nats", server.url);
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "一二三四 [CANCELLED: come back later]\n一二三四\n");
    assert_int_equal(played.n_history, 0); /* what was taken back was never said */
}

/* ---- the client's own functions ---- */

static volatile sig_atomic_t taken_back;

static void kill_broker(void *user, const Kefu__V1__Response *r) {
    (void)user;
    (void)r;
    if (server.pid) broker_kill(&server);
    taken_back = 1;
}

/* Asks what is answered only when it is taken back. */
static kf_status ask_in_vain(char *text, char *id, Kefu__V1__Response **final) {
    kf_client *c = NULL;
    Kefu__V1__Request request = KEFU__V1__REQUEST__INIT;
    kf_ask_opts opts = {.timeout_ns = 20000000000, .cancel = &taken_back, .on_part = kill_broker};
    request.id = id;
    request.tenant = (char *)"default";
    request.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    request.text = text;
    note(played.cancelled_reply_to, sizeof played.cancelled_reply_to, "");
    assert_int_equal(kf_client_open(&(kf_nats_opts){.url = server.url}, "test", 0, &c), KF_OK);
    kf_status s = kf_client_ask(c, &request, &opts, final);
    kf_client_close(c);
    return s;
}

static void test_cancel_of_any_length(void **state) {
    (void)state;
    static char id[2000];
    Kefu__V1__Response *final = NULL;
    memset(id, 'x', sizeof id - 1);
    taken_back = 1;
    assert_int_equal(ask_in_vain((char *)"in vain", id, &final), KF_OK);
    assert_int_equal(final->status->code, KEFU__V1__CODE__CANCELLED);
    assert_string_equal(final->id, id);
    kefu__v1__response__free_unpacked(final, NULL);
}

/* The broker goes while the reply is streamed, and then it is taken back: that fails, and is not waited for. */
static void test_cancel_that_cannot_be_sent(void **state) {
    (void)state;
    Kefu__V1__Response *final = NULL;
    taken_back = 0;
    int64_t from_ns = kf_clock_now_ns();
    assert_int_not_equal(ask_in_vain((char *)"parts in vain", (char *)"1", &final), KF_OK);
    assert_contains(kf_error_text(), "kefu.cancel");
    assert_true(kf_clock_now_ns() - from_ns < 10000000000);
    assert_null(final);
    broker_run(&server);
}

/* ---- bench ---- */

static json_int_t number(const json_t *doc, const char *name) {
    return json_integer_value(json_object_get(doc, name));
}

static double total_ms(const json_t *doc, const char *quantile) {
    return json_number_value(json_object_get(json_object_get(doc, "total_ms"), quantile));
}

static void test_bench_closed(void **state) {
    (void)state;
    cli_result r = cli_run(NULL, "bench", "--nats", server.url, "--requests", "200", "--clients", "7", "--json");
    json_t *doc = cli_json(&r);
    assert_int_equal(r.code, 0);
    assert_int_equal(number(doc, "sent"), 200);
    assert_int_equal(number(json_object_get(doc, "status"), "OK"), 200);
    assert_int_equal(number(json_object_get(doc, "ttft_ms"), "n"), 200);
    assert_int_equal(number(json_object_get(doc, "tpot_ms"), "n"), 200);
    assert_true(json_number_value(json_object_get(doc, "tokens_per_s")) >
                3.9 * json_number_value(json_object_get(doc, "requests_per_s")));
    json_decref(doc);

    r = cli_run("refuse\n{\"text\":\"silent\",\"max_tokens\":3}\n好\n", "bench", "--nats", server.url, "--requests",
                "30", "--clients", "30", "--timeout", "3", "--file", "-", "--json");
    doc = cli_json(&r);
    assert_int_equal(r.code, 0);
    assert_int_equal(number(json_object_get(doc, "status"), "RESOURCE_EXHAUSTED"), 10);
    assert_int_equal(number(json_object_get(doc, "status"), "OK"), 10);
    assert_int_equal(number(doc, "given_up"), 10);
    json_decref(doc);
    r = cli_run("{\"text\":\n", "bench", "--nats", server.url, "--file", "-");
    assert_int_equal(r.code, 1);
    assert_contains(r.err, "line 1");
}

/* The worker stops for 600 ms at the first of about 100 requests due in one second: those due meanwhile waited too, so
 * their median is far above what a closed loop, or counting from the sending, would show. */
static void test_bench_open(void **state) {
    (void)state;
    played.n_seen = 0;
    cli_result r = cli_run("stall\n", "bench", "--nats", server.url, "--rate", "100", "--duration", "1", "--slo-ms",
                           "100", "--file", "-", "--json");
    json_t *doc = cli_json(&r);
    assert_int_equal(r.code, 0);
    assert_in_range(number(doc, "sent"), 60, 140);
    assert_true(total_ms(doc, "max") >= STALL_MS * 0.9);
    assert_true(total_ms(doc, "p50") >= 50);
    assert_true(json_number_value(json_object_get(doc, "goodput_per_s")) <
                json_number_value(json_object_get(doc, "requests_per_s")));
    json_decref(doc);

    r = cli_run("silent\n", "bench", "--nats", server.url, "--rate", "100", "--duration", "0.5", "--outstanding", "5",
                "--timeout", "0.2", "--file", "-", "--json");
    assert_int_equal(r.code, 3); /* not even the probe is answered */
}

/* Ctrl-C ends a load early, with the figures so far. */
static void test_bench_interrupted(void **state) {
    (void)state;
    played.n_seen = 0;
    played.interrupt_at = 50;
    cli_result r = cli_run(NULL, "bench", "--nats", server.url, "--duration", "50", "--clients", "2", "--json");
    json_t *doc = cli_json(&r);
    assert_int_equal(r.code, 0);
    assert_true(number(doc, "sent") >= 45);
    assert_true(json_number_value(json_object_get(doc, "seconds")) < 25);
    json_decref(doc);
    played.interrupt_at = 0;
}

/* NATS's URL from the environment and from kefud's configuration file. */
static void test_options(void **state) {
    (void)state;
    char path[] = "/tmp/kefu-cli-conf-XXXXXX", line[256];
    int fd = mkstemp(path);
    snprintf(line, sizeof line, "http = 127.0.0.1:0\nmax-tokens = 7\nnats = %s\n", server.url);
    assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    close(fd);
    cli_result r = cli_run(NULL, "ask", "--config", path, "你好");
    assert_int_equal(r.code, 0);
    setenv("KEFU_NATS", server.url, 1);
    r = cli_run(NULL, "ask", "你好");
    unsetenv("KEFU_NATS");
    assert_int_equal(r.code, 0);
    unlink(path);
}

static int set_up(void **state) {
    (void)state;
    broker_start(&server, -1, NULL);
    play();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    stop_playing();
    broker_stop(&server);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ask),
        cmocka_unit_test(test_ask_refused),
        cmocka_unit_test(test_ask_waits),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_chat_cancel),
        cmocka_unit_test(test_bench_closed),
        cmocka_unit_test(test_bench_open),
        cmocka_unit_test(test_bench_interrupted),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_cancel_of_any_length),
        cmocka_unit_test(test_cancel_that_cannot_be_sent),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
