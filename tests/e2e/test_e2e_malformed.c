/* Aim: whatever bytes come in, each request gets exactly one final reply with the right code, and the worker lives on.
 * Method: hundreds of requests outstanding at once, half of them wrong in every way that is listed below, some of them
 * mutated at random from a printed seed; then the replies and the worker's own counts must agree. */
#include "e2e/broker.h"

enum { N_CALLS = 800, ANY = -1, OK = 0, INVALID = 3, UNIMPLEMENTED = 12, NEAR_MAX_PAYLOAD = (1 << 20) - 200 };

static broker b;
static worker w;
static client c;

static uint64_t rng;
static uint32_t draw(uint32_t below) { /* xorshift64* */
    rng ^= rng >> 12, rng ^= rng << 25, rng ^= rng >> 27;
    return (uint32_t)((rng * 0x2545F4914F6CDD1DULL) >> 33) % below;
}

/* ---- messages ---- */

typedef struct message {
    uint8_t *bytes;
    size_t n;
    int code; /* that must come back; ANY where the mutation decides */
    const char *const *headers;
} message;

static message pack(const Kefu__V1__Request *r, int code) {
    message m = {.n = kefu__v1__request__get_packed_size(r), .code = code};
    m.bytes = malloc(m.n + 1);
    assert_non_null(m.bytes);
    kefu__v1__request__pack(r, m.bytes);
    return m;
}

static message literal(const char *bytes, size_t n, int code) {
    message m = {.bytes = malloc(n + 1), .n = n, .code = code};
    assert_non_null(m.bytes);
    memcpy(m.bytes, bytes, n);
    return m;
}

static message text_request(char *text, int code) {
    Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
    r.want = KEFU__V1__WANT__UNDERSTAND;
    r.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    r.text = text;
    return pack(&r, code);
}

/* n copies of unit between head and tail. */
static message repeated(const char *head, const char *unit, size_t n, const char *tail, int code) {
    size_t n_unit = strlen(unit), at = strlen(head);
    message m = {.n = at + n * n_unit + strlen(tail), .code = code};
    m.bytes = malloc(m.n + 1);
    assert_non_null(m.bytes);
    memcpy(m.bytes, head, at);
    for (size_t i = 0; i < n; i++, at += n_unit)
        memcpy(m.bytes + at, unit, n_unit);
    memcpy(m.bytes + at, tail, strlen(tail));
    return m;
}

static message long_text(const char *unit, size_t n) {
    message text = repeated("", unit, n, "", 0);
    text.bytes[text.n] = 0;
    message m = text_request((char *)text.bytes, INVALID);
    free(text.bytes);
    return m;
}

static message mutated(void) {
    message m = text_request((char *)"这个手机壳有没有货,想要蓝色的", ANY);
    for (uint32_t i = 0, n = 1 + draw(6); i < n; i++)
        m.bytes[draw((uint32_t)m.n)] = (uint8_t)draw(256);
    if (draw(3) == 0) m.n = draw((uint32_t)m.n);
    return m;
}

static message out_of_range(void) {
    Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
    Kefu__V1__Generate g = KEFU__V1__GENERATE__INIT;
    r.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    r.text = (char *)"你好";
    switch (draw(4)) {
    case 0: r.deadline_case = KEFU__V1__REQUEST__DEADLINE_DEADLINE_MS; break; /* 0 is refused */
    case 1:
        r.generate = &g;
        g.temperature_set_case = KEFU__V1__GENERATE__TEMPERATURE_SET_TEMPERATURE;
        g.temperature = 9;
        break;
    case 2:
        r.generate = &g;
        g.max_tokens_set_case = KEFU__V1__GENERATE__MAX_TOKENS_SET_MAX_TOKENS;
        g.max_tokens = 1u << 31;
        break;
    default: r.tenant = (char *)"Not A Tenant"; break;
    }
    return pack(&r, INVALID);
}

static message audio(void) {
    static uint8_t sound[100];
    Kefu__V1__Request r = KEFU__V1__REQUEST__INIT;
    r.input_case = KEFU__V1__REQUEST__INPUT_AUDIO;
    r.audio = (ProtobufCBinaryData){sizeof sound, sound};
    return pack(&r, UNIMPLEMENTED);
}

#define JSON(text, code) literal(text, sizeof(text) - 1, code)

static message wrong(unsigned kind) {
    static const char zeros[128], nul[] = "\x2a\x03"
                                          "a\0b";
    switch (kind) {
    case 0: return literal(zeros, sizeof zeros, INVALID); /* what nats bench sends */
    case 1: return literal("", 0, INVALID);
    case 2: return text_request((char *)"", INVALID);
    case 3: return text_request((char *)"\xff\xfe\xc3", INVALID);
    case 4: return literal(nul, sizeof nul - 1, INVALID);
    case 5: return long_text("a", 20000);
    case 6: return long_text("好", 4000);
    case 7: return JSON("{\"text\":\"你好\",\"colour\":1}", INVALID);
    case 8: return JSON("{\"text\":\"你好\"", INVALID);
    case 9: return JSON("{\"text\":\"\\u0000\"}", INVALID);
    case 10: return repeated("{\"history\":", "[", 30000, "", INVALID);
    case 11: return repeated("{\"text\":\"", "a", NEAR_MAX_PAYLOAD, "\"}", INVALID);
    case 12: return long_text("a", NEAR_MAX_PAYLOAD);
    case 13: return audio();
    case 14: return out_of_range();
    case 15: return JSON("{\"text\":[1,2,3]}", INVALID);
    case 16: return JSON("{\"want\":\"EVERYTHING\",\"text\":\"你好\"}", INVALID);
    default: return mutated();
    }
}

static message right(unsigned kind) {
    static const char *const lenient[] = {"Kefu-Lenient", "1", NULL};
    static const char *const json[] = {"Content-Type", "application/json", NULL};
    message m;
    switch (kind) {
    case 0: return text_request((char *)"想买一双跑步鞋", OK);
    case 1: return JSON("{\"text\":\"快递到哪了\",\"want\":\"UNDERSTAND\"}", OK);
    case 2:
        m = JSON("{\"text\":\"退货运费谁出\",\"want\":1,\"colour\":\"red\"}", OK);
        m.headers = lenient;
        return m;
    case 3:
        m = JSON(" {\"text\":\"在吗\",\"want\":\"UNDERSTAND\"}", OK);
        m.headers = json;
        return m;
    default: return text_request((char *)"谢谢亲😊", OK);
    }
}

/* ---- the test ---- */

static int json_code(const char *json) {
    static const struct {
        const char *name;
        int code;
    } codes[] = {{"\"INVALID_ARGUMENT\"", INVALID}, {"\"UNIMPLEMENTED\"", UNIMPLEMENTED}, {"\"code\"", 99}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strstr(json, codes[i].name)) return codes[i].code;
    return OK;
}

static void check(int idx, int code) {
    const answer *a = &c.answers[idx];
    if (a->n_finals != 1) fail_msg("request %d: %d finals", idx, a->n_finals);
    int got = a->json ? json_code(a->json) : code_of(a);
    if (code == ANY ? got != OK && got != INVALID && got != UNIMPLEMENTED : got != code)
        fail_msg("request %d: code %d, wanted %d: %s", idx, got, code, a->json ? a->json : a->final->status->message);
    if (got != OK) assert_int_equal(atoi(a->code_header), got);
    if (got == OK && a->final) assert_non_null(a->final->understanding);
}

static double metric(const char *body, const char *name) {
    const char *at = strstr(body, name);
    if (!at) fail_msg("no metric %s", name);
    return atof(at + strlen(name));
}

/* Messages received = finals sent, in the worker's own words. */
static void counts_agree(void) {
    static char body[HTTP_BYTES];
    assert_int_equal(http_get(w.http, "/metrics", body), 200);
    double finals = 0;
    for (const char *at = body; (at = strstr(at, "kefu_requests_total{")); at++)
        finals += atof(strchr(at, '}') + 1);
    assert_true(finals == N_CALLS + 1);
    assert_true(metric(body, "\nkefu_received_total ") == N_CALLS + 1);
    assert_true(metric(body, "\nkefu_e2e_request_latency_seconds_count ") <= N_CALLS + 1); /* of those let in */
}

static void one_final_each(void **state) {
    (void)state;
    static int codes[N_CALLS];
    rng = (uint64_t)kf_clock_now_ns() | 1;
    print_message("seed %llu\n", (unsigned long long)rng);
    for (int i = 0; i < N_CALLS; i++) {
        unsigned kind = (unsigned)i / 2 % 32;
        if (kind >= 11 && kind <= 12 && i > 100) kind = 20; /* the megabytes not too often */
        message m = i % 2 ? wrong(kind) : right(kind % 5);
        codes[i] = m.code;
        client_send(&c, i % 3 ? "kefu.request" : "kefu.v1.request.shop_1.normal.any", i, m.bytes, m.n, m.headers);
        free(m.bytes);
    }
    if (!client_wait(&c, N_CALLS, 60000)) fail_msg("%d of %d finals; %s", c.n_finals, N_CALLS, file_text(w.log));
    client_linger(&c, 300);
    for (int i = 0; i < N_CALLS; i++)
        check(i, codes[i]);

    client_forget_answers(&c);
    message again = right(0);
    client_send(&c, "kefu.request", 0, again.bytes, again.n, NULL);
    free(again.bytes);
    assert_true(client_wait(&c, 1, 10000));
    check(0, OK);
    counts_agree();
}

static int setup(void **state) {
    (void)state;
    broker_start(&b, -1, NULL);
    worker_start(&w, b.url, (const char *[]){"--device", "null", NULL});
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
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(one_final_each, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
