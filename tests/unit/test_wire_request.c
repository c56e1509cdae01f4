/* Aim: what passes kf_wire_decode is within kefu.proto's ranges with the defaults filled in; what does not is refused
 * with a text that names the field and holds nothing of what was sent; a refusal can be addressed.
 * Method: requests written as JSON and as protobuf (by protobuf-c, or byte by byte where they are broken). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kefu.pb-c.h"
#include "wire/wire.h"

static kf_arena arena;
static const kf_wire_limits limits = {.max_text_bytes = 400,
                                      .max_tokens = 256,
                                      .default_max_tokens = 64,
                                      .default_deadline_ms = 10000,
                                      .default_temperature = 0.7f,
                                      .default_top_p = 0.9f,
                                      .default_repetition_penalty = 1.1f,
                                      .default_top_k = 20};
enum { RECEIVED_NS = 1000000000 };

static int setup(void **state) {
    (void)state;
    return kf_arena_init(&arena, 256 << 10) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_arena_free(&arena);
    return 0;
}

static kf_status decode_from(const char *subject, const void *bytes, size_t n, kf_request *out) {
    kf_wire_in in = {.bytes = bytes, .n_bytes = n, .subject = subject, .received_ns = RECEIVED_NS};
    kf_arena_reset(&arena);
    return kf_wire_decode(&in, &limits, &arena, out);
}

static kf_status decode(const void *bytes, size_t n, kf_request *out) {
    return decode_from("kefu.request", bytes, n, out);
}

static kf_status decode_json(const char *text, kf_request *out) {
    return decode(text, strlen(text), out);
}

static kf_status decode_message(const Kefu__V1__Request *m, kf_request *out) {
    static uint8_t bytes[1 << 20];
    assert_true(kefu__v1__request__get_packed_size(m) <= sizeof bytes);
    return decode(bytes, kefu__v1__request__pack(m, bytes), out);
}

/* Refused with this status, by a text that has `named` in it; the refusal can be addressed. */
static void refused(kf_status got, kf_status want, const char *named, const kf_request *r) {
    if (got != want || !strstr(kf_error_text(), named))
        fail_msg("%s %s, wanted %s naming %s", kf_status_name(got), kf_error_text(), kf_status_name(want), named);
    assert_null(strstr(kf_error_text(), "error")); /* nats bench ends at a reply that has it */
    assert_true(r->id.n > 0 && strlen(r->id.s) == r->id.n);
    assert_string_equal(r->text.s, "");
}

static Kefu__V1__Request request_of(const char *text) {
    Kefu__V1__Request m = KEFU__V1__REQUEST__INIT;
    m.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    m.text = (char *)text;
    return m;
}

static void defaults_are_filled_in(void **state) {
    (void)state;
    Kefu__V1__Request m = request_of("我想要一件红色的羽绒服");
    kf_request r;
    assert_int_equal(decode_message(&m, &r), KF_OK);
    assert_string_equal(r.text.s, "我想要一件红色的羽绒服");
    assert_int_equal(r.text.n, strlen(r.text.s));
    assert_string_equal(r.tenant.s, "default");
    assert_int_equal(r.lane, KF_LANE_NORMAL);
    assert_int_equal(r.want, KF_WANT_REPLY);
    assert_false(r.stream || r.json || r.generate.has_seed || r.generate.logprobs);
    assert_int_equal(r.generate.max_tokens, 64);
    assert_true(r.generate.temperature == 0.7f && r.generate.top_p == 0.9f && r.generate.min_p == 0);
    assert_true(r.generate.repetition_penalty == 1.1f && r.generate.top_k == 20 && r.generate.n_stop == 0);
    assert_int_equal(r.deadline_ns, RECEIVED_NS + 10000 * INT64_C(1000000));
    assert_int_equal(r.id.n, 32);
    assert_string_equal(r.session_id.s, "");

    char first[33];
    memcpy(first, r.id.s, sizeof first);
    assert_int_equal(decode_message(&m, &r), KF_OK);
    assert_string_not_equal(first, r.id.s);
}

static void everything_set_arrives(void **state) {
    (void)state;
    const char *text =
        "{\"id\":\"a-1\",\"sessionId\":\"s\",\"user_id\":\"u\",\"tenant\":\"shop_7\",\"text\":\"好\","
        "\"history\":[{\"text\":\"在吗\"},{\"role\":\"ASSISTANT\",\"text\":\"在\"},{\"role\":2,\"text\":\"我来\"}],"
        "\"generate\":{\"maxTokens\":256,\"temperature\":0,\"topK\":0,\"top_p\":1,\"minP\":0.05,"
        "\"repetitionPenalty\":10,\"seed\":\"18446744073709551615\",\"stop\":[\"。\",\"!\"],\"logprobs\":true},"
        "\"want\":\"UNDERSTAND\",\"stream\":true,\"deadlineMs\":1,\"priority\":\"PRIORITY_HIGH\"}";
    kf_request r;
    assert_int_equal(decode_json(text, &r), KF_OK);
    assert_true(r.json && r.stream && r.want == KF_WANT_UNDERSTAND && r.lane == KF_LANE_HIGH);
    assert_string_equal(r.id.s, "a-1");
    assert_string_equal(r.session_id.s, "s");
    assert_string_equal(r.user_id.s, "u");
    assert_string_equal(r.tenant.s, "shop_7");
    assert_int_equal(r.n_history, 3);
    assert_int_equal(r.history[0].role, KF_ROLE_USER);
    assert_int_equal(r.history[1].role, KF_ROLE_ASSISTANT);
    assert_int_equal(r.history[2].role, KF_ROLE_AGENT);
    assert_string_equal(r.history[2].text.s, "我来");
    const kf_generate *g = &r.generate;
    assert_true(g->max_tokens == 256 && g->temperature == 0 && g->top_k == 0 && g->top_p == 1 && g->min_p == 0.05f);
    assert_true(g->repetition_penalty == 10 && g->has_seed && g->seed == UINT64_MAX && g->logprobs && g->n_stop == 2);
    assert_string_equal(g->stop[0].s, "。");
    assert_int_equal(r.deadline_ns, RECEIVED_NS + 1000000);
}

static void how_a_reply_is_to_be_drawn_arrives(void **state) {
    (void)state;
    const char *text = "{\"text\":\"好\",\"generate\":{\"presencePenalty\":-2,\"frequency_penalty\":0.5,\"logitBias\":"
                       "[{\"token\":7,\"bias\":-100},{\"token\":2147483647,\"bias\":1.5}],"
                       "\"responseFormat\":{\"jsonSchema\":\"{\\\"type\\\":\\\"null\\\"}\"}}}";
    kf_request r;
    assert_int_equal(decode_json(text, &r), KF_OK);
    const kf_generate *g = &r.generate;
    assert_true(g->presence_penalty == -2 && g->frequency_penalty == 0.5f && g->n_logit_bias == 2);
    assert_true(g->logit_bias[0].token == 7 && g->logit_bias[0].value == -100);
    assert_true(g->logit_bias[1].token == INT32_MAX && g->logit_bias[1].value == 1.5f);
    assert_int_equal(g->format, KF_GRAMMAR_SCHEMA);
    assert_string_equal(g->format_text.s, "{\"type\":\"null\"}");
    text = "{\"text\":\"好\",\"generate\":{\"response_format\":{\"regex\":\"a+\"}}}";
    assert_int_equal(decode_json(text, &r), KF_OK);
    assert_int_equal(r.generate.format, KF_GRAMMAR_REGEX);
    assert_int_equal(r.generate.format_text.n, 2);
    assert_true(r.generate.presence_penalty == 0 && r.generate.frequency_penalty == 0 && !r.generate.n_logit_bias);
}

static void the_subject_wins(void **state) {
    (void)state;
    static const char text[] = "{\"text\":\"好\",\"tenant\":\"mine\",\"priority\":\"PRIORITY_LOW\"}";
    kf_request r;
    assert_int_equal(decode_from("kefu.request", text, sizeof text - 1, &r), KF_OK);
    assert_string_equal(r.tenant.s, "mine");
    assert_int_equal(r.lane, KF_LANE_LOW);
    assert_int_equal(decode_from("kefu.v1.request.shop.high.any", text, sizeof text - 1, &r), KF_OK);
    assert_string_equal(r.tenant.s, "shop");
    assert_int_equal(r.lane, KF_LANE_HIGH);
    assert_int_equal(decode_from("kefu.jobs.v1.b-2.normal.15", text, sizeof text - 1, &r), KF_OK);
    assert_string_equal(r.tenant.s, "b-2");
    assert_int_equal(r.lane, KF_LANE_NORMAL);
    refused(decode_from("kefu.v1.request.Shop.high.any", text, sizeof text - 1, &r), KF_ERR_INVALID, "tenant", &r);
    refused(decode_from("kefu.v1.request.shop.highest.any", text, sizeof text - 1, &r), KF_ERR_INVALID, "lane", &r);
    static const char *const wrong_buckets[] = {"16",  "-1",     "03", "",   "1x",  "00",
                                                "ANY", "anyone", " 1", "+1", "1.2", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong_buckets / sizeof *wrong_buckets; i++) {
        char subject[64];
        snprintf(subject, sizeof subject, "kefu.v1.request.shop.high.%s", wrong_buckets[i]);
        refused(decode_from(subject, text, sizeof text - 1, &r), KF_ERR_INVALID, "bucket", &r);
    }
    assert_int_equal(decode_from("kefu.v1.request.shop.high.0", text, sizeof text - 1, &r), KF_OK);
    refused(decode_from("kefu.v1.request.shop.high", text, sizeof text - 1, &r), KF_ERR_INVALID, "bucket", &r);
    refused(decode_from("kefu.v1.request.shop", text, sizeof text - 1, &r), KF_ERR_INVALID, "lane", &r);
}

static void what_is_out_of_range_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *field, *json;
        kf_status want;
    } cases[] = {
        {"text", "\"text\":\"\"", KF_ERR_INVALID},
        {"text", "\"text\":\" \\t\\n\"", KF_ERR_INVALID},
        {"text", "\"text\":\"\\u3000\\u200b\"", KF_ERR_INVALID},
        {"text", "\"stream\":true", KF_ERR_INVALID},
        {"text", "\"text\":null", KF_ERR_INVALID},
        {"audio", "\"audio\":\"UklGRg==\"", KF_ERR_UNSUPPORTED},
        {"image", "\"image\":\"\"", KF_ERR_UNSUPPORTED},
        {"tenant", "\"text\":\"x\",\"tenant\":\"a.b\"", KF_ERR_INVALID},
        {"tenant", "\"text\":\"x\",\"tenant\":\"123456789012345678901234567890123\"", KF_ERR_INVALID},
        {"priority", "\"text\":\"x\",\"priority\":3", KF_ERR_INVALID},
        {"want", "\"text\":\"x\",\"want\":2", KF_ERR_INVALID},
        {"want", "\"text\":\"x\",\"want\":-1", KF_ERR_INVALID},
        {"history[1].role", "\"text\":\"x\",\"history\":[{},{\"role\":3}]", KF_ERR_INVALID},
        {"deadline_ms", "\"text\":\"x\",\"deadlineMs\":0", KF_ERR_INVALID},
        {"max_tokens", "\"text\":\"x\",\"generate\":{\"maxTokens\":0}", KF_ERR_INVALID},
        {"max_tokens", "\"text\":\"x\",\"generate\":{\"maxTokens\":257}", KF_ERR_INVALID},
        {"temperature", "\"text\":\"x\",\"generate\":{\"temperature\":-0.1}", KF_ERR_INVALID},
        {"temperature", "\"text\":\"x\",\"generate\":{\"temperature\":2.0001}", KF_ERR_INVALID},
        {"temperature", "\"text\":\"x\",\"generate\":{\"temperature\":\"NaN\"}", KF_ERR_INVALID},
        {"temperature", "\"text\":\"x\",\"generate\":{\"temperature\":\"Infinity\"}", KF_ERR_INVALID},
        {"top_p", "\"text\":\"x\",\"generate\":{\"topP\":0}", KF_ERR_INVALID},
        {"top_p", "\"text\":\"x\",\"generate\":{\"topP\":1.1}", KF_ERR_INVALID},
        {"min_p", "\"text\":\"x\",\"generate\":{\"minP\":-1}", KF_ERR_INVALID},
        {"min_p", "\"text\":\"x\",\"generate\":{\"minP\":\"NaN\"}", KF_ERR_INVALID},
        {"repetition_penalty", "\"text\":\"x\",\"generate\":{\"repetitionPenalty\":0}", KF_ERR_INVALID},
        {"repetition_penalty", "\"text\":\"x\",\"generate\":{\"repetitionPenalty\":10.5}", KF_ERR_INVALID},
        {"presence_penalty", "\"text\":\"x\",\"generate\":{\"presencePenalty\":2.5}", KF_ERR_INVALID},
        {"frequency_penalty", "\"text\":\"x\",\"generate\":{\"frequencyPenalty\":-2.5}", KF_ERR_INVALID},
        {"frequency_penalty", "\"text\":\"x\",\"generate\":{\"frequencyPenalty\":\"NaN\"}", KF_ERR_INVALID},
        {"logit_bias[1].bias",
         "\"text\":\"x\",\"generate\":{\"logitBias\":[{\"token\":1,\"bias\":1},{\"token\":2,\"bias\":101}]}",
         KF_ERR_INVALID},
        {"logit_bias[1].token",
         "\"text\":\"x\",\"generate\":{\"logitBias\":[{\"token\":1,\"bias\":1},{\"token\":1,\"bias\":2}]}",
         KF_ERR_INVALID},
        {"logit_bias[0].token", "\"text\":\"x\",\"generate\":{\"logitBias\":[{\"token\":4000000000}]}", KF_ERR_INVALID},
        {"response_format", "\"text\":\"x\",\"generate\":{\"responseFormat\":{}}", KF_ERR_INVALID},
        {"stop[1]", "\"text\":\"x\",\"generate\":{\"stop\":[\"a\",\"\"]}", KF_ERR_INVALID},
        {"stop", "\"text\":\"x\",\"generate\":{\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
         KF_ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        kf_request r;
        snprintf(text, sizeof text, "{\"id\":\"me\",%s}", cases[i].json);
        refused(decode_json(text, &r), cases[i].want, cases[i].field, &r);
        assert_string_equal(r.id.s, "me");
        assert_true(r.json);
    }
}

static void too_long_is_refused_by_name(void **state) {
    (void)state;
    static char long_text[402];
    memset(long_text, 'x', 401);
    kf_request r;
    Kefu__V1__Request m = request_of(long_text);
    refused(decode_message(&m, &r), KF_ERR_TOO_LARGE, "text: 401 bytes", &r);
    m.text = long_text + 1;
    assert_int_equal(decode_message(&m, &r), KF_OK);

    m = request_of("x");
    long_text[129] = 0;
    m.id = long_text;
    refused(decode_message(&m, &r), KF_ERR_TOO_LARGE, "id: 129 bytes", &r);
    assert_int_equal(r.id.n, 32); /* one of ours */
    m = request_of("x");
    m.session_id = long_text;
    refused(decode_message(&m, &r), KF_ERR_TOO_LARGE, "session_id: 129 bytes", &r);
    m = request_of("x");
    m.user_id = long_text;
    refused(decode_message(&m, &r), KF_ERR_TOO_LARGE, "user_id: 129 bytes", &r);
    m.user_id = long_text + 1;
    assert_int_equal(decode_message(&m, &r), KF_OK);

    Kefu__V1__Turn turn = KEFU__V1__TURN__INIT, *turns[65];
    turn.text = "在吗";
    for (size_t i = 0; i < 65; i++)
        turns[i] = &turn;
    m = request_of("x");
    m.history = turns;
    m.n_history = 65;
    refused(decode_message(&m, &r), KF_ERR_TOO_LARGE, "history: 65 turns", &r);
    m.n_history = 64;
    assert_int_equal(decode_message(&m, &r), KF_OK);
    assert_int_equal(r.n_history, 64);

    Kefu__V1__Generate g = KEFU__V1__GENERATE__INIT;
    char *stop[] = {long_text + 64};
    g.stop = stop;
    g.n_stop = 1;
    m = request_of("x");
    m.generate = &g;
    refused(decode_message(&m, &r), KF_ERR_TOO_LARGE, "stop[0]: 65 bytes", &r);
    stop[0]++;
    assert_int_equal(decode_message(&m, &r), KF_OK);
}

static void what_is_no_message_is_refused(void **state) {
    (void)state;
    static const char zeros[128];
    kf_request r;
    refused(decode(zeros, sizeof zeros, &r), KF_ERR_INVALID, "byte 0", &r);
    refused(decode("", 0, &r), KF_ERR_INVALID, "text", &r);
    refused(decode(NULL, 0, &r), KF_ERR_INVALID, "text", &r);
    refused(decode("hello", 5, &r), KF_ERR_INVALID, "protobuf", &r);
    refused(decode("\x0a\x02me\x2a\x7fx", 7, &r), KF_ERR_INVALID, "byte 4", &r); /* longer than what is there */
    assert_string_equal(r.id.s, "me");
    refused(decode("\x0a\x02me\x28\x01", 6, &r), KF_ERR_INVALID, "wire type", &r); /* text as a number */
    assert_string_equal(r.id.s, "me");
    refused(decode("{", 1, &r), KF_ERR_INVALID, "JSON", &r);
    assert_true(r.json);

    char nested[4096]; /* a group in a group in a group …, and length-prefixed fields in one another */
    memset(nested, 0x0b, sizeof nested);
    refused(decode(nested, sizeof nested, &r), KF_ERR_INVALID, "byte 0", &r);
    memset(nested, '[', sizeof nested);
    memcpy(nested, "{\"text\":", 8);
    refused(decode(nested, sizeof nested, &r), KF_ERR_INVALID, "nested 4089 deep, at most 64", &r);
    refused(decode(nested, 8 + 64, &r), KF_ERR_INVALID, "nested 65 deep", &r);
    refused(decode(nested, 8 + 63, &r), KF_ERR_INVALID, "ends too early", &r);
    memset(nested + 9, '{', sizeof nested - 9);
    nested[8] = '"'; /* in a string they nest nothing */
    memcpy(nested + 198, "\"}", 2);
    assert_int_equal(decode(nested, 200, &r), KF_OK);
}

static void bytes_that_are_no_text_are_refused(void **state) {
    (void)state;
    kf_request r;
    refused(decode("\x2a\x03x\xff"
                   "y",
                   5, &r),
            KF_ERR_INVALID, "text: byte 1 is not UTF-8", &r);
    refused(decode("\x2a\x03x\0y", 5, &r), KF_ERR_INVALID, "text: byte 1 is NUL", &r);
    refused(decode("\x0a\x01\xff\x2a\x01x", 6, &r), KF_ERR_INVALID, "id: byte 0", &r);
    assert_int_equal(r.id.n, 32);
    refused(decode("\x0a\x02\0y\x2a\x01x", 7, &r), KF_ERR_INVALID, "id: byte 0", &r);
    assert_int_equal(r.id.n, 32);
    refused(decode("\x42\x05\x12\x03\xed\xa0\x80", 7, &r), KF_ERR_INVALID, "Turn.text", &r); /* a surrogate */
    refused(decode_json("{\"text\":\"a\\u0000b\"}", &r), KF_ERR_INVALID, "u0000", &r);
    refused(decode_json("{\"text\":\"a\xff\"}", &r), KF_ERR_INVALID, "UTF-8", &r);
    refused(decode_json("{\"text\":\"\\ud800\"}", &r), KF_ERR_INVALID, "JSON", &r);
}

static void the_format_is_told_by_header_or_first_byte(void **state) {
    (void)state;
    static const char text[] = " {\"text\":\"x\"}", proto[] = "\x2a\x01x";
    kf_request r;
    kf_wire_in in = {.bytes = text, .n_bytes = sizeof text - 1, .content_type = "Application/JSON; charset=utf-8"};
    kf_arena_reset(&arena);
    assert_int_equal(kf_wire_decode(&in, &limits, &arena, &r), KF_OK);
    assert_true(r.json);
    in.content_type = "application/jsonlines";
    assert_int_not_equal(kf_wire_decode(&in, &limits, &arena, &r), KF_OK);
    in = (kf_wire_in){.bytes = proto, .n_bytes = 3, .content_type = "application/protobuf"};
    assert_int_equal(kf_wire_decode(&in, &limits, &arena, &r), KF_OK);
    assert_false(r.json);
    assert_int_equal(r.deadline_ns, 10000 * INT64_C(1000000));
}

static void no_refusal_repeats_what_the_customer_said(void **state) {
    (void)state;
    static const char *const broken[] = {
        "{\"text\":\"13800138000\",\"want\":\"13800138000\"}",
        "{\"text\":\"13800138000\"",
        "{\"text\":\"13800138000\"}13800138000",
        "{\"text\":[\"13800138000\"]}",
        "{\"text\":\"x\",\"deadlineMs\":\"13800138000\"}",
        "{\"text\":13800138000}",
        "{\"text\":\"x\",\"audio\":\"13800138000!\"}",
        "{\"text\":\"x\",\"tenant\":\"13800138000 13800138000 13800138000\"}",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        kf_request r;
        assert_int_not_equal(decode_json(broken[i], &r), KF_OK);
        assert_null(strstr(kf_error_text(), "13800138000"));
    }
}

static void unknown_fields(void **state) {
    (void)state;
    static const char text[] = "{\"id\":\"me\",\"text\":\"x\",\"generate\":{\"top-p\":1}}";
    kf_request r;
    refused(decode(text, sizeof text - 1, &r), KF_ERR_INVALID, "generate: no field \"top-p\"", &r);
    assert_non_null(strstr(kf_error_text(), "topP"));
    kf_wire_in in = {.bytes = text, .n_bytes = sizeof text - 1, .lenient = true};
    assert_int_equal(kf_wire_decode(&in, &limits, &arena, &r), KF_OK);
    /* protobuf: field 100, a varint, is passed over */
    assert_int_equal(decode("\xa0\x06\x01\x2a\x01x", 6, &r), KF_OK);
    assert_string_equal(r.text.s, "x");
}

static void buckets(void **state) {
    (void)state;
    /* FNV-1a 64 of "" is cbf29ce484222325, of "a" af63dc4c8601ec8c, of "foobar" 85944171f73967e8 (its authors' list) */
    assert_int_equal(kf_wire_bucket("", 0), 0x5);
    assert_int_equal(kf_wire_bucket("a", 1), 0xc);
    assert_int_equal(kf_wire_bucket("foobar", 6), 0x8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(everything_set_arrives),
        cmocka_unit_test(how_a_reply_is_to_be_drawn_arrives),
        cmocka_unit_test(the_subject_wins),
        cmocka_unit_test(what_is_out_of_range_is_refused_by_name),
        cmocka_unit_test(too_long_is_refused_by_name),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(bytes_that_are_no_text_are_refused),
        cmocka_unit_test(the_format_is_told_by_header_or_first_byte),
        cmocka_unit_test(no_refusal_repeats_what_the_customer_said),
        cmocka_unit_test(unknown_fields),
        cmocka_unit_test(buckets),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
