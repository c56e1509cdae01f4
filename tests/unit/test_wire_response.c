/* Aim: everything in a kf_response arrives at the client, in the format that it asked in, and what is not there does
 * not. Method: encoded responses are unpacked by protobuf-c, or compared with the JSON that the mapping wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kefu.pb-c.h"
#include "wire/wire.h"

static kf_arena arena;
static char out[4096];
static size_t n_out;

static int setup(void **state) {
    (void)state;
    return kf_arena_init(&arena, 16 << 10) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_arena_free(&arena);
    return 0;
}

static kf_str str(const char *s) {
    return (kf_str){s, strlen(s)};
}

static void encoded_as_json(const kf_response *response, const char *want) {
    kf_request r = {.id = str("q-1"), .json = true};
    assert_int_equal(kf_wire_encode(&r, response, &arena, out, sizeof out, &n_out), KF_OK);
    if (n_out != strlen(want) || memcmp(out, want, n_out) != 0) fail_msg("got  %.*s\nwant %s", (int)n_out, out, want);
}

static Kefu__V1__Response *encoded(const kf_response *response) {
    kf_request r = {.id = str("q-1")};
    assert_int_equal(kf_wire_encode(&r, response, &arena, out, sizeof out, &n_out), KF_OK);
    assert_true(n_out > 0 && out[0] != 0x2d);
    Kefu__V1__Response *m = kefu__v1__response__unpack(NULL, n_out, (const uint8_t *)out);
    assert_non_null(m);
    assert_string_equal(m->id, "q-1");
    return m;
}

static kf_word words[] = {{.text = {"我", 3}, .pos = "r", .stop_word = true, .start = 0, .end = 1},
                          {.text = {"想要", 6}, .pos = "v", .start = 1, .end = 3}};
static kf_label intents[] = {{.label = "purchase", .score = 0.75f, .start = 1, .end = 3},
                             {.label = "price", .score = 0.25f}};
static kf_entity entities[] = {
    {.type = "size", .text = {"ＸＬ", 6}, .value = {"XL", 2}, .start = 4, .end = 6, .score = 0.5f}};
static const float logprobs[] = {-0.5f, -1.25f};

static kf_response whole_response(void) {
    return (kf_response){
        .seq = 3,
        .attempt = 2,
        .final = true,
        .message = {"", 0},
        .has_understanding = true,
        .understanding = {.words = words,
                          .n_words = 2,
                          .intents = intents,
                          .n_intents = 2,
                          .sentiment = {.label = "neutral", .score = 0.5f},
                          .entities = entities,
                          .n_entities = 1,
                          .confidence = 0.625f},
        .reply = {.text = str("好的"), .finish = KF_FINISH_STOP, .logprobs = logprobs, .n_logprobs = 2},
        .handoff = {.reason = KF_HANDOFF_ASKED, .summary = str("要人工")},
        .usage = {.prompt_tokens = 10,
                  .completion_tokens = 2,
                  .cached_tokens = 4,
                  .queue_us = 1,
                  .encode_us = 2,
                  .prefill_us = 3,
                  .decode_us = 5000000000},
        .model = "demo@1a2b"};
}

static void everything_arrives_as_protobuf(void **state) {
    (void)state;
    kf_response response = whole_response();
    Kefu__V1__Response *m = encoded(&response);
    assert_true(m->seq == 3 && m->attempt == 2 && m->final && m->status->code == KEFU__V1__CODE__OK);
    assert_string_equal(m->model, "demo@1a2b");
    const Kefu__V1__Understanding *u = m->understanding;
    assert_true(u->n_tokens == 2 && u->n_intents == 2 && u->n_entities == 1 && u->confidence == 0.625f);
    assert_string_equal(u->tokens[1]->text, "想要");
    assert_string_equal(u->tokens[1]->pos, "v");
    assert_true(u->tokens[0]->stop_word && !u->tokens[1]->stop_word && u->tokens[1]->start == 1 &&
                u->tokens[1]->end == 3);
    assert_string_equal(u->intents[0]->label, "purchase");
    assert_true(u->intents[0]->score == 0.75f && u->intents[0]->start == 1 && u->intents[0]->end == 3);
    assert_string_equal(u->sentiment->label, "neutral");
    assert_string_equal(u->entities[0]->type, "size");
    assert_string_equal(u->entities[0]->text, "ＸＬ");
    assert_string_equal(u->entities[0]->value, "XL");
    assert_true(u->entities[0]->start == 4 && u->entities[0]->end == 6 && u->entities[0]->score == 0.5f);
    assert_string_equal(m->reply->text, "好的");
    assert_true(m->reply->finish_reason == KEFU__V1__FINISH_REASON__STOP && m->reply->n_logprobs == 2);
    assert_true(m->reply->logprobs[1] == -1.25f);
    assert_string_equal(m->handoff->reason, "asked");
    assert_string_equal(m->handoff->summary, "要人工");
    const Kefu__V1__Usage *usage = m->usage;
    assert_true(usage->prompt_tokens == 10 && usage->completion_tokens == 2 && usage->cached_tokens == 4);
    assert_true(usage->queue_us == 1 && usage->encode_us == 2 && usage->prefill_us == 3 &&
                usage->decode_us == 5000000000);
    kefu__v1__response__free_unpacked(m, NULL);
    assert_int_equal(arena.bytes_used, 0);
}

static void everything_arrives_as_json(void **state) {
    (void)state;
    kf_response response = whole_response();
    encoded_as_json(
        &response,
        "{\"id\":\"q-1\",\"seq\":3,\"attempt\":2,\"final\":true,\"status\":{},\"understanding\":{\"tokens\":[{\"text\":"
        "\"我\",\"pos\":\"r\",\"stopWord\":true,\"end\":1},{\"text\":\"想要\",\"pos\":\"v\",\"start\":1,\"end\":3}],"
        "\"intents\":[{\"label\":\"purchase\",\"score\":0.75,\"start\":1,\"end\":3},{\"label\":\"price\",\"score\":0."
        "25}],"
        "\"sentiment\":{\"label\":\"neutral\",\"score\":0.5},\"entities\":[{\"type\":\"size\",\"text\":\"ＸＬ\","
        "\"start\":4,"
        "\"end\":6,\"value\":\"XL\",\"score\":0.5}],\"confidence\":0.625},\"reply\":{\"text\":\"好的\","
        "\"finishReason\":"
        "\"STOP\",\"logprobs\":[-0.5,-1.25]},\"handoff\":{\"reason\":\"asked\",\"summary\":\"要人工\"},\"usage\":{"
        "\"promptTokens\":10,\"completionTokens\":2,\"cachedTokens\":4,\"queueUs\":\"1\",\"encodeUs\":\"2\","
        "\"prefillUs\":"
        "\"3\",\"decodeUs\":\"5000000000\"},\"model\":\"demo@1a2b\"}");
}

static void a_part_is_small(void **state) {
    (void)state;
    kf_response part = {.seq = 1, .attempt = 1, .reply = {.text = str("好\"的\n"), .text_offset = 4}};
    encoded_as_json(&part, "{\"id\":\"q-1\",\"seq\":1,\"attempt\":1,\"status\":{},\"reply\":{\"text\":\"好\\\"的\\n\","
                           "\"textOffset\":4}}");
}

static void a_refusal_says_what_to_change(void **state) {
    (void)state;
    kf_response refusal = {.attempt = 1,
                           .final = true,
                           .code = KF_CODE_RESOURCE_EXHAUSTED,
                           .message = str("come back later"),
                           .retry_after_ms = INT64_C(1) << 40};
    Kefu__V1__Response *m = encoded(&refusal);
    assert_int_equal(m->status->code, KEFU__V1__CODE__RESOURCE_EXHAUSTED);
    assert_string_equal(m->status->message, "come back later");
    assert_int_equal(m->status->retry_after_ms, UINT32_MAX);
    assert_true(m->final && !m->understanding && !m->reply && !m->handoff);
    kefu__v1__response__free_unpacked(m, NULL);
    refusal.retry_after_ms = -5;
    encoded_as_json(&refusal,
                    "{\"id\":\"q-1\",\"attempt\":1,\"final\":true,\"status\":{\"code\":\"RESOURCE_EXHAUSTED\","
                    "\"message\":\"come back later\"},\"usage\":{}}");
}

static void too_little_room_says_how_much(void **state) {
    (void)state;
    kf_response response = whole_response();
    for (int json = 0; json < 2; json++) {
        kf_request r = {.id = str("q-1"), .json = json};
        assert_int_equal(kf_wire_encode(&r, &response, &arena, out, sizeof out, &n_out), KF_OK);
        size_t need = n_out;
        memset(out, '#', sizeof out);
        assert_int_equal(kf_wire_encode(&r, &response, &arena, out, need - 1, &n_out), KF_ERR_TOO_LARGE);
        assert_int_equal(out[need - 1], '#');
        assert_int_equal(n_out, need);
        assert_int_equal(kf_wire_encode(&r, &response, &arena, out, need, &n_out), KF_OK);
        assert_int_equal(arena.bytes_used, 0);
    }
}

static void every_status_has_its_code(void **state) {
    (void)state;
    static const kf_code codes[KF_N_STATUS] = {
        [KF_OK] = KF_CODE_OK,
        [KF_ERR_INVALID] = KF_CODE_INVALID_ARGUMENT,
        [KF_ERR_TOO_LARGE] = KF_CODE_INVALID_ARGUMENT,
        [KF_ERR_NOT_FOUND] = KF_CODE_INTERNAL,
        [KF_ERR_UNSUPPORTED] = KF_CODE_UNIMPLEMENTED,
        [KF_ERR_CORRUPT] = KF_CODE_INTERNAL,
        [KF_ERR_IO] = KF_CODE_INTERNAL,
        [KF_ERR_NO_MEMORY] = KF_CODE_RESOURCE_EXHAUSTED,
        [KF_ERR_DEVICE] = KF_CODE_UNAVAILABLE,
        [KF_ERR_OVERLOADED] = KF_CODE_RESOURCE_EXHAUSTED,
        [KF_ERR_CLOSED] = KF_CODE_UNAVAILABLE,
        [KF_ERR_DEADLINE] = KF_CODE_DEADLINE_EXCEEDED,
        [KF_ERR_CANCELLED] = KF_CODE_CANCELLED,
        [KF_ERR_BUG] = KF_CODE_INTERNAL,
    };
    for (int s = 0; s < KF_N_STATUS; s++) {
        assert_int_equal(kf_code_of((kf_status)s), codes[s]);
        assert_string_not_equal(kf_wire_code_name((int)codes[s]), "?");
    }
    assert_string_equal(kf_wire_code_name(KF_CODE_INVALID_ARGUMENT), "INVALID_ARGUMENT");
    assert_string_equal(kf_wire_code_name(999), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_as_protobuf),
        cmocka_unit_test(everything_arrives_as_json),
        cmocka_unit_test(a_part_is_small),
        cmocka_unit_test(a_refusal_says_what_to_change),
        cmocka_unit_test(too_little_room_says_how_much),
        cmocka_unit_test(every_status_has_its_code),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
