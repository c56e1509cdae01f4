/* Aim: the corners of protobuf's JSON mapping that random messages seldom reach, and what is refused with which words.
 * Method: tables of JSON and what it means, spelled in the mapping's own output. cases.jsonl has the common ground
 * (test_wire_json_format.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kefu.pb-c.h"
#include "wire/json.h"

static kf_arena arena;

static int setup(void **state) {
    (void)state;
    return kf_arena_init(&arena, 64 << 10) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_arena_free(&arena);
    return 0;
}

/* What our reader makes of `text`, written again; or the refusal's text after a '!'. */
static const char *read_and_write(const ProtobufCMessageDescriptor *type, const char *text, bool lenient) {
    static char out[4096];
    json_t *root;
    ProtobufCMessage *m;
    kf_arena_reset(&arena);
    kf_status s = kf_wire_json_parse(text, strlen(text), &arena, &root);
    if (s == KF_OK) s = kf_wire_json_read(root, type, lenient, &arena, &m);
    if (s != KF_OK) {
        assert_int_equal(s, KF_ERR_INVALID);
        snprintf(out, sizeof out, "!%s", kf_error_text());
        return out;
    }
    size_t n = kf_wire_json_write(m, out, sizeof out - 1);
    assert_true(n < sizeof out);
    out[n] = 0;
    return out;
}

typedef struct meaning {
    const char *text, *meant; /* "!…": refused, and the text has this in it */
} meaning;

static void check_meanings(const ProtobufCMessageDescriptor *type, const meaning *m, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *got = read_and_write(type, m[i].text, false);
        bool right = m[i].meant[0] == '!' ? got[0] == '!' && strstr(got, m[i].meant + 1) : strcmp(got, m[i].meant) == 0;
        if (!right) fail_msg("%s\nmeant %s\ngot   %s", m[i].text, m[i].meant, got);
    }
}
#define CHECK(type, ...)                                                                                               \
    check_meanings(&kefu__v1__##type##__descriptor, (const meaning[]){__VA_ARGS__},                                    \
                   sizeof((const meaning[]){__VA_ARGS__}) / sizeof(meaning))

static void integers(void **state) {
    (void)state;
    CHECK(generate, {"{\"maxTokens\":1.0}", "{\"maxTokens\":1}"}, {"{\"maxTokens\":1e2}", "{\"maxTokens\":100}"},
          {"{\"maxTokens\":\"7\"}", "{\"maxTokens\":7}"}, {"{\"maxTokens\":-0}", "{\"maxTokens\":0}"},
          {"{\"maxTokens\":4294967295}", "{\"maxTokens\":4294967295}"},
          {"{\"maxTokens\":4294967296}", "!max_tokens: wanted a whole number from 0 to 4294967295"},
          {"{\"maxTokens\":-1}", "!max_tokens"}, {"{\"maxTokens\":1.5}", "!max_tokens"},
          {"{\"maxTokens\":\"-1\"}", "!max_tokens"}, {"{\"maxTokens\":\" 7\"}", "!max_tokens"},
          {"{\"maxTokens\":\"\"}", "!max_tokens"}, {"{\"maxTokens\":\"-\"}", "!max_tokens"},
          {"{\"maxTokens\":\"0x7\"}", "!max_tokens"},
          {"{\"maxTokens\":true}", "!max_tokens: wanted an integer, found true"},
          {"{\"maxTokens\":[1]}", "!found an array"});
    CHECK(generate, {"{\"seed\":\"18446744073709551615\"}", "{\"seed\":\"18446744073709551615\"}"},
          {"{\"seed\":9223372036854775807}", "{\"seed\":\"9223372036854775807\"}"},
          {"{\"seed\":1e19}", "{\"seed\":\"10000000000000000000\"}"}, {"{\"seed\":\"18446744073709551616\"}", "!seed"},
          {"{\"seed\":1.8446744073709552e19}", "!seed"}, {"{\"seed\":-1}", "!seed"}, {"{\"seed\":-1e300}", "!seed"},
          {"{\"seed\":9223372036854775808}", "!write 64-bit integers as strings"});
}

static void reals(void **state) {
    (void)state;
    CHECK(generate, {"{\"topP\":0.1}", "{\"topP\":0.1}"}, {"{\"topP\":1}", "{\"topP\":1.0}"},
          {"{\"topP\":-0.0}", "{\"topP\":-0.0}"}, {"{\"topP\":16777217}", "{\"topP\":16777216.0}"},
          {"{\"topP\":1e-50}", "{\"topP\":0.0}"}, {"{\"topP\":1e10}", "{\"topP\":1e+10}"},
          {"{\"topP\":3.4028235e38}", "{\"topP\":3.4028235e+38}"},
          {"{\"topP\":3.4028236e38}", "!top_p: wanted a number within"}, {"{\"topP\":1e-45}", "{\"topP\":1.4013e-45}"},
          {"{\"topP\":1e400}", "!a number is too large"}, {"{\"topP\":\"1.5\"}", "{\"topP\":1.5}"},
          {"{\"topP\":\"NaN\"}", "{\"topP\":\"NaN\"}"}, {"{\"topP\":\"Infinity\"}", "{\"topP\":\"Infinity\"}"},
          {"{\"topP\":\"-Infinity\"}", "{\"topP\":\"-Infinity\"}"}, {"{\"topP\":\"nan\"}", "!top_p"},
          {"{\"topP\":\"inf\"}", "!top_p"}, {"{\"topP\":\"0x1p3\"}", "!top_p"}, {"{\"topP\":\"1e400\"}", "!top_p"},
          {"{\"topP\":\" 1\"}", "!top_p"}, {"{\"topP\":\"\"}", "!top_p"}, {"{\"topP\":NaN}", "!no JSON"},
          {"{\"topP\":true}", "!top_p: wanted a number, found true"});
}

static void enums_and_bools(void **state) {
    (void)state;
    CHECK(request, {"{\"want\":\"UNDERSTAND\"}", "{\"want\":\"UNDERSTAND\"}"},
          {"{\"want\":1}", "{\"want\":\"UNDERSTAND\"}"}, {"{\"want\":1.0}", "{\"want\":\"UNDERSTAND\"}"},
          {"{\"want\":\"REPLY\"}", "{}"}, {"{\"want\":7}", "{\"want\":7}"},
          {"{\"want\":-2147483648}", "{\"want\":-2147483648}"}, {"{\"want\":2147483648}", "!want"},
          {"{\"want\":\"reply\"}", "!want: is no name of Want: wanted REPLY"}, {"{\"want\":true}", "!want"},
          {"{\"stream\":true}", "{\"stream\":true}"},
          {"{\"stream\":\"true\"}", "!stream: wanted true or false, found a string"}, {"{\"stream\":1}", "!stream"},
          {"{\"priority\":0}", "{\"priority\":\"PRIORITY_NORMAL\"}"});
}

static void bytes_in_base64(void **state) {
    (void)state;
    CHECK(request, {"{\"audio\":\"\"}", "{\"audio\":\"\"}"}, {"{\"audio\":\"YQ==\"}", "{\"audio\":\"YQ==\"}"},
          {"{\"audio\":\"YWI\"}", "{\"audio\":\"YWI=\"}"}, {"{\"audio\":\"-_8=\"}", "{\"audio\":\"+/8=\"}"},
          {"{\"audio\":\"YWJj\"}", "{\"audio\":\"YWJj\"}"}, {"{\"audio\":\"Y\"}", "!audio"},
          {"{\"audio\":\"=\"}", "!audio"}, {"{\"audio\":\"YQ=\"}", "!audio"}, {"{\"audio\":\"Y Q=\"}", "!audio"},
          {"{\"audio\":\"Y=Q=\"}", "!audio"}, {"{\"audio\":\"YQ\\u00e9=\"}", "!audio"},
          {"{\"audio\":[1]}", "!audio: wanted base64, found an array"});
}

static void texts(void **state) {
    (void)state;
    CHECK(turn, {"{\"text\":\"\\ud83d\\ude00\\u00e9\\/\"}", "{\"text\":\"😀é/\"}"},
          {"{\"text\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u001f\\u007f\"}",
           "{\"text\":\"\\\"\\\\\\u0008\\u000c\\n\\r\\t\\u001f\x7f\"}"},
          {"{\"text\":\"\\ud83d\"}", "!no JSON"}, {"{\"text\":\"\\ude00\\ud83d\"}", "!no JSON"},
          {"{\"text\":\"\\u0000\"}", "!u0000"}, {"{\"te\\u0000xt\":\"\"}", "!u0000"},
          {"{\"text\":\"\xc0\xaf\"}", "!UTF-8"}, {"{\"text\":\"\xed\xa0\x80\"}", "!UTF-8"},
          {"{\"text\":\"a\tb\"}", "!no JSON"}, {"{\"text\":1}", "!text: wanted a string, found an integer"});
}

static void messages(void **state) {
    (void)state;
    CHECK(request, {"{\"session_id\":\"a\",\"userId\":\"b\"}", "{\"sessionId\":\"a\",\"userId\":\"b\"}"},
          {"{\"id\":null,\"history\":null,\"generate\":null,\"text\":null}", "{}"},
          {"{\"generate\":{}}", "{\"generate\":{}}"}, {"{\"history\":[]}", "{}"},
          {"{\"history\":[{}]}", "{\"history\":[{}]}"}, {"{\"text\":\"\"}", "{\"text\":\"\"}"},
          {"{\"text\":\"a\",\"audio\":null}", "{\"text\":\"a\"}"},
          {"{\"text\":\"a\",\"audio\":\"\"}", "!audio: stands beside text"},
          {"{\"id\":\"a\",\"id\":\"a\"}", "!a key stands twice"},
          {"{\"userId\":\"a\",\"user_id\":\"a\"}", "!user_id stands twice"},
          {"{\"history\":[null]}", "!history[0]: wanted an object, found null"},
          {"{\"history\":{}}", "!history: wanted an array, found an object"},
          {"{\"history\":[{},{\"text\":[]}]}", "!history[1].text: wanted a string, found an array"},
          {"{\"generate\":{\"stop\":[\"a\",null]}}", "!generate.stop[1]: wanted a string, found null"},
          {"[]", "!the message: wanted an object, found an array"}, {"{} x", "!something follows"}, {"{", "!"},
          {"{\"id\":\"a\",}", "!line 1, column"}, {"\"x\"", "!no JSON"}, {"", "!"});
}

static void maps(void **state) {
    (void)state;
    CHECK(action, {"{\"arguments\":{\"a\":\"b\",\"\":\"\"}}", "{\"arguments\":{\"a\":\"b\",\"\":\"\"}}"},
          {"{\"arguments\":{}}", "{}"}, {"{\"arguments\":{\"a\":\"b\",\"a\":\"b\"}}", "!a key stands twice"},
          {"{\"arguments\":{\"a\":null}}", "!arguments[0]: wanted a string, found null"},
          {"{\"arguments\":[{\"key\":\"a\",\"value\":\"b\"}]}", "!arguments: wanted an object, found an array"});

    Kefu__V1__Action__ArgumentsEntry a = KEFU__V1__ACTION__ARGUMENTS_ENTRY__INIT, b = a, c = a;
    a.key = b.key = "size";
    a.value = "L";
    b.value = "XL";
    c.key = "colour";
    Kefu__V1__Action__ArgumentsEntry *entries[] = {&a, &c, &b};
    Kefu__V1__Action m = KEFU__V1__ACTION__INIT;
    m.arguments = entries;
    m.n_arguments = 3;
    char out[128];
    size_t n = kf_wire_json_write(&m.base, out, sizeof out);
    static const char want[] = "{\"arguments\":{\"colour\":\"\",\"size\":\"XL\"}}";
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(out, want, n);
}

static void unknown_names(void **state) {
    (void)state;
    CHECK(generate, {"{\"TopK\":1}", "!no field \"TopK\": Generate has maxTokens temperature topK"},
          {"{\"top_k_set\":1}", "!no field \"top_k_set\""}, {"{\"\":1}", "!no field \"\""},
          {"{\"a\\nb\\u007f\":1}", "!no field \"a?b?\""},
          {"{\"123456789012345678901234567890123456789\\u00e9\":1}",
           "!no field \"123456789012345678901234567890123456789\""}); /* cut at 40 bytes, not within é */
    const ProtobufCMessageDescriptor *request = &kefu__v1__request__descriptor;
    assert_string_equal(read_and_write(request, "{\"x\":{\"y\":[1]},\"id\":\"a\",\"generate\":{\"z\":1}}", true),
                        "{\"id\":\"a\",\"generate\":{}}");
    assert_non_null(strstr(read_and_write(request, "{\"history\":[{\"role\":\"NOBODY\"}]}", true), "history[0].role"));
}

static void too_little_room(void **state) {
    (void)state;
    Kefu__V1__Turn turn = KEFU__V1__TURN__INIT;
    turn.text = "在吗";
    char whole[64], part[64];
    size_t n = kf_wire_json_write(&turn.base, whole, sizeof whole);
    for (size_t cap = 0; cap < n; cap++) {
        memset(part, '#', sizeof part);
        assert_int_equal(kf_wire_json_write(&turn.base, part, cap), n);
        assert_memory_equal(part, whole, cap);
        assert_int_equal(part[cap], '#');
    }
}

/* Recursion along the types ends: pb.c and the JSON code rely on it. */
static void must_end(const ProtobufCMessageDescriptor *type, int depth) {
    assert_true(depth < 8);
    assert_true(type->n_fields <= 64);
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) must_end(type->fields[i].descriptor, depth + 1);
}

static void no_type_contains_itself(void **state) {
    (void)state;
    must_end(&kefu__v1__request__descriptor, 0);
    must_end(&kefu__v1__response__descriptor, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(reals),
        cmocka_unit_test(enums_and_bools),
        cmocka_unit_test(bytes_in_base64),
        cmocka_unit_test(texts),
        cmocka_unit_test(messages),
        cmocka_unit_test(maps),
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(too_little_room),
        cmocka_unit_test(no_type_contains_itself),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
