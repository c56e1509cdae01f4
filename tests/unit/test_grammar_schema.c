/* Aim: what is drawn under the masks of a schema is JSON that parses and satisfies the schema, whole within the tokens
 * that it was given; a schema that is not taken is refused with its keyword and place. Method: random walks over the
 * demo's vocabulary, each mask's tokens equally likely or the end sought, held against jansson and a validator of the
 * tests' own; masks against the automaton's answer for every token alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "grammar/grammar.h"
#include "schema_check.h"

enum { N_WALKS = 60, N_LEFT = 160, REPLY_MAX = 1 << 16, END_ID = 1 };

static kf_tokenizer *tokenizer;
static kf_grammars *grammars;
static size_t vocab_size;

static const char *const schemas[] = {
    "{\"type\":\"string\"}",
    "{\"type\":[\"integer\",\"null\"]}",
    "{\"type\":\"number\"}",
    "{\"type\":\"number\",\"minimum\":0,\"maximum\":5}",
    "{\"type\":\"integer\",\"exclusiveMinimum\":-3,\"maximum\":120}",
    "{\"enum\":[\"退货\",\"exchange\",3,null,{\"a\":[1,\"x\\\"y\"]}]}",
    "{\"type\":\"string\",\"enum\":[\"a\",2,\"abc\"]}",
    "{\"const\":{\"ok\":true}}",
    "{\"type\":\"string\",\"minLength\":2,\"maxLength\":5}",
    "{\"type\":\"string\",\"minLength\":3}",
    "{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}\\\\d+$\"}",
    "{\"type\":\"string\",\"pattern\":\"元\"}",
    "{\"type\":\"string\",\"pattern\":\"^[^a]{2,3}(\\\"|\\\\\\\\|\\\\n)?$\"}",
    "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}",
    "{\"type\":\"array\",\"items\":{\"enum\":[1,22]},\"minItems\":2,\"maxItems\":4}",
    "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":3}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}],\"items\":false,\"minItems\":"
    "1}",
    "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"minItems\":2}",
    "{\"type\":\"object\",\"properties\":{\"sku\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\",\"minimum\":1,"
    "\"maximum\":99},\"gift\":{\"type\":\"boolean\"}},\"required\":[\"sku\",\"n\"],\"additionalProperties\":false}",
    "{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{\"const\":3}}}",
    "{\"properties\":{\"a\":{\"type\":\"null\"},\"ab\":{\"type\":\"null\"},\"价\":{\"type\":\"null\"}},"
    "\"additionalProperties\":{\"type\":\"integer\"},\"required\":[\"zz\"]}",
    "{\"type\":\"object\"}",
    "{}",
    "true",
    "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"x\"},\"v\":{\"type\":\"integer\"}},"
    "\"required\":[\"kind\",\"v\"]},{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"y\"}},\"required\":"
    "[\"kind\"]}]}",
    "{\"oneOf\":[{\"type\":\"string\",\"maxLength\":1},{\"type\":\"integer\"}]}",
    "{\"$ref\":\"#/$defs/tree\",\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
    "\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/tree\"}}},\"required\":[\"v\",\"kids\"]}}}",
    "{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}},\"required\":"
    "[\"next\"]}",
    "{\"type\":\"object\",\"properties\":{\"when\":{\"type\":\"string\",\"format\":\"date-time\"},\"mail\":{\"type\":"
    "\"string\",\"format\":\"email\"},\"id\":{\"format\":\"uuid\"},\"ip\":{\"format\":\"ipv4\"}},\"required\":"
    "[\"when\"]}",
    "{\"title\":\"说明\",\"description\":\"d\",\"x-any\":1,\"type\":\"object\",\"properties\":{\"a \\\"q\\\"\":"
    "{\"allOf\":[{\"type\":\"boolean\"}]}},\"required\":[\"a \\\"q\\\"\"]}",
};
enum { N_SCHEMAS = sizeof schemas / sizeof *schemas };

static kf_grammar *get(kf_grammar_kind kind, const char *text) {
    kf_grammar *g = NULL;
    if (kf_grammar_get(grammars, kind, text, strlen(text), &g) != KF_OK) fail_msg("%s: %s", text, kf_error_text());
    return g;
}

/* One of the row's tokens, each as likely; at the end of a text mostly the end. */
static int32_t draw(const uint32_t *row, uint64_t *seed) {
    size_t n = 0;
    if (row[END_ID / 32] >> END_ID % 32 & 1 && kf_random_next(seed) % 4) return END_ID;
    for (size_t w = 0; w < (vocab_size + 31) / 32; w++)
        n += (size_t)__builtin_popcount(row[w]);
    if (n == 0) return -1;
    size_t pick = kf_random_next(seed) % n;
    for (size_t id = 0; id < vocab_size; id++)
        if (row[id / 32] >> id % 32 & 1 && pick-- == 0) return (int32_t)id;
    return -1;
}

/* A random text of the grammar in at most n_left tokens; -1: the masks left none or no end. */
static long walk(const kf_grammar *g, size_t n_left, uint64_t *seed, char out[REPLY_MAX]) {
    kf_grammar_run r = kf_grammar_begin(g);
    kf_detokenizer d = {0};
    size_t n = 0;
    uint32_t *row = malloc(kf_grammars_words(grammars) * sizeof *row);
    bool ended = false;
    for (; n_left > 0 && !ended && !kf_grammar_over(&r); n_left--) {
        kf_grammar_mask(grammars, &r, n_left, row);
        int32_t token = draw(row, seed);
        if (token < 0) break;
        ended = token == END_ID;
        assert_int_equal(kf_grammar_add(grammars, &r, token), KF_OK);
        if (!ended) assert_int_equal(kf_detokenizer_push(&d, tokenizer, token, out, REPLY_MAX - 1, &n), KF_OK);
    }
    kf_grammar_mask(grammars, &r, 1, row);
    bool whole = row[END_ID / 32] >> END_ID % 32 & 1;
    free(row);
    out[n] = 0;
    return whole && d.n_held == 0 ? (long)n : -1;
}

static void every_walk_satisfies_its_schema(void **state) {
    (void)state;
    static char text[REPLY_MAX];
    uint64_t seed = 11;
    for (size_t i = 0; i < N_SCHEMAS; i++) {
        json_t *schema = json_loads(schemas[i], JSON_DECODE_ANY, NULL);
        kf_grammar *g = get(KF_GRAMMAR_SCHEMA, schemas[i]);
        for (size_t w = 0; w < N_WALKS; w++) {
            size_t n_left = w % 2 ? N_LEFT : kf_grammar_shortest(g);
            json_error_t e;
            if (walk(g, n_left, &seed, text) < 0) fail_msg("%s: no end: %s", schemas[i], text);
            json_t *v = json_loads(text, JSON_DECODE_ANY, &e);
            if (!v) fail_msg("%s: no JSON: %s: %s", schemas[i], text, e.text);
            if (!schema_ok(schema, schema, v)) fail_msg("%s: not met by %s", schemas[i], text);
            json_decref(v);
        }
        json_decref(schema);
        kf_grammar_put(grammars, g);
    }
}

/* The bytes as they are, a token each where they have one: taken, and the text is then whole? */
static bool takes(const kf_grammar *g, const char *text) {
    kf_grammar_run r = kf_grammar_begin(g);
    uint32_t *row = malloc(kf_grammars_words(grammars) * sizeof *row);
    int32_t ids[256], at[256], to[256];
    kf_encoding e = {.cap = 256, .ids = ids, .start = at, .end = to};
    assert_int_equal(kf_tokenizer_encode(tokenizer, text, strlen(text), KF_SPECIAL_NONE, &e), KF_OK);
    bool ok = true;
    for (size_t i = 0; i < e.n && ok; i++) {
        kf_grammar_mask(grammars, &r, 10000, row);
        ok = row[ids[i] / 32] >> ids[i] % 32 & 1;
        assert_int_equal(kf_grammar_add(grammars, &r, ids[i]) == KF_OK, ok);
    }
    kf_grammar_mask(grammars, &r, 1, row);
    ok = ok && row[END_ID / 32] >> END_ID % 32 & 1;
    free(row);
    return ok;
}

static void what_a_schema_says_is_taken_and_no_more(void **state) {
    (void)state;
    static const struct {
        size_t schema;
        const char *good[4], *bad[5];
    } cases[] = {
        {0, {"\"\"", "\"你好 \\\"x\\\" \\n\\u0001\""}, {"\"a", "a", "\"\\x\"", "\"\n\"", " \"\""}},
        {1, {"null", "-12", "0"}, {"1.5", "01", "nul", "\"1\"", "-0"}},
        {2, {"-1.5e-10", "0", "12.25", "1E9"}, {"1.", ".5", "+1", "1e", "00"}},
        {3, {"0", "5", "4.999", "5.0"}, {"5.1", "-1", "6", "1e1", "55"}},
        {4, {"-2", "120", "0"}, {"-3", "121", "1200", "1.0"}},
        {6, {"\"a\"", "\"abc\""}, {"2", "\"ab\"", "\"\""}},
        {8, {"\"ab\"", "\"你好吗\"", "\"\\\"\\\\\\n\""}, {"\"a\"", "\"abcdef\"", "\"\""}},
        {10, {"\"AB1\"", "\"XY0123\""}, {"\"A1\"", "\"AB\"", "\"xAB1\"", "\"AB1x\""}},
        {13, {"[]", "[true]", "[true, false]"}, {"[true,]", "[ true]", "[,]", "[true  ,true]"}},
        {14, {"[1,22]", "[1,1,1,1]"}, {"[1]", "[]", "[1,1,1,1,1]", "[2,2]"}},
        {18,
         {"{\"sku\":\"x\",\"n\":5}", "{\"sku\": \"\", \"n\": 99, \"gift\": true}"},
         {"{\"n\":5,\"sku\":\"x\"}", "{\"sku\":\"x\"}", "{\"sku\":\"x\",\"n\":0}", "{\"sku\":\"x\",\"n\":5,\"z\":1}",
          "{\"sku\":\"x\",\"n\":5,}"}},
        {19, {"{}", "{\"b\":2}", "{\"a\":1,\"c\":3}"}, {"{\"c\":3,\"a\":1}", "{,\"a\":1}", "{\"d\":4}"}},
        {20,
         {"{\"zz\":7,\"abc\":3}", "{\"a\":null,\"zz\":1,\"\":0,\"价格\":2}"},
         {"{\"abc\":3}", "{\"zz\":true}", "{\"zz\":1,\"a\":3}", "{\"zz\":1,\"价\":3}", "{\"zz\":1,\"ab\":3}"}},
        {28,
         {"{\"when\":\"2024-02-29T23:59:59Z\"}", "{\"when\":\"2023-12-31T00:00:00.5+08:00\",\"ip\":\"8.8.4.255\"}"},
         {"{\"when\":\"2023-02-29T00:00:00Z\"}", "{\"when\":\"2023-13-01T00:00:00Z\"}",
          "{\"when\":\"2023-04-31T00:00:00Z\"}"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_grammar *g = get(KF_GRAMMAR_SCHEMA, schemas[cases[i].schema]);
        for (size_t t = 0; t < 4 && cases[i].good[t]; t++)
            if (!takes(g, cases[i].good[t])) fail_msg("%s: %s refused", schemas[cases[i].schema], cases[i].good[t]);
        for (size_t t = 0; t < 5 && cases[i].bad[t]; t++)
            if (takes(g, cases[i].bad[t])) fail_msg("%s: %s taken", schemas[cases[i].schema], cases[i].bad[t]);
        kf_grammar_put(grammars, g);
    }
}

/* The mask's ready rows and its walk agree with adding each token alone. */
static void a_mask_is_what_may_be_added(void **state) {
    (void)state;
    uint32_t *row = malloc(kf_grammars_words(grammars) * sizeof *row);
    uint64_t seed = 5;
    size_t n_checked = 0;
    for (size_t i = 0; i < N_SCHEMAS; i++) {
        kf_grammar *g = get(KF_GRAMMAR_SCHEMA, schemas[i]);
        kf_grammar_run r = kf_grammar_begin(g);
        for (size_t step = 0; step < 24 && !kf_grammar_over(&r); step++) {
            kf_grammar_mask(grammars, &r, N_LEFT - step, row);
            for (size_t id = 0; id < vocab_size; id++) {
                kf_grammar_run next = r;
                size_t n_bytes;
                kf_tokenizer_bytes(tokenizer, (int32_t)id, &n_bytes);
                if (id == END_ID || kf_tokenizer_is_special(tokenizer, (int32_t)id) || n_bytes > 32) continue;
                bool may = kf_grammar_add(grammars, &next, (int32_t)id) == KF_OK;
                if (may != (row[id / 32] >> id % 32 & 1)) fail_msg("%s: token %zu: %d", schemas[i], id, may);
                n_checked++;
            }
            int32_t token = draw(row, &seed);
            if (token == END_ID) break;
            kf_grammar_add(grammars, &r, token);
        }
        kf_grammar_put(grammars, g);
    }
    assert_true(n_checked > 100 * vocab_size);
    free(row);
}

static void what_is_not_taken_is_named(void **state) {
    (void)state;
    static const struct {
        const char *schema, *words;
    } cases[] = {
        {"{\"properties\":{\"price\":{\"type\":\"number\",\"multipleOf\":0.1}}}",
         "schema at /properties/price: `multipleOf` is not supported"},
        {"{\"type\":\"array\",\"items\":{\"not\":{}}}", "schema at /items: `not`"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "schema at /: `uniqueItems`"},
        {"{\"type\":\"text\"}", "schema at /: `type` wanted"},
        {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "leave no number"},
        {"{\"type\":\"string\",\"minLength\":5,\"maxLength\":4}", "`maxLength` is below"},
        {"{\"type\":\"array\",\"minItems\":5,\"maxItems\":4}", "`maxItems` is below"},
        {"{\"type\":\"string\",\"enum\":[1,2]}", "`enum` has no value of the `type`"},
        {"{\"enum\":[]}", "`enum` wanted"},
        {"{\"required\":[\"a\"],\"additionalProperties\":false}", "`required` names what neither"},
        {"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}", "`$ref` never comes to an end"},
        {"{\"$ref\":\"#/$defs/b\"}", "`$ref` leads nowhere"},
        {"{\"$ref\":\"http://x/y\"}", "`$ref` is supported as #/"},
        {"{\"allOf\":[{},{}]}", "`allOf` is supported with one"},
        {"{\"anyOf\":[{}],\"type\":\"string\"}", "`anyOf` is supported alone"},
        {"{\"type\":\"string\",\"pattern\":\"(?=x)\"}", "`pattern`: at byte"},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":3}", "`maxLength` is not supported beside"},
        {"{\"type\":\"string\",\"format\":\"hostname\"}", "`format` is supported as"},
        {"{\"type\":\"number\",\"minimum\":0.5}", "`minimum` is supported with a whole number"},
        {"{\"type\":\"string\",\"maxLength\":5000}", "`maxLength` is supported up to 4096"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":200},\"maxItems\":200}", "needs more than"},
        {"false", "nothing meets"},
        {"[]", "is no schema"},
        {"{\"type\":", "is no JSON"},
        {"", "is no JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_grammar *g;
        kf_error_clear();
        kf_status s = kf_grammar_get(grammars, KF_GRAMMAR_SCHEMA, cases[i].schema, strlen(cases[i].schema), &g);
        if (s == KF_OK) fail_msg("%s is taken", cases[i].schema);
        if (!strstr(kf_error_text(), cases[i].words)) fail_msg("%s: %s", cases[i].schema, kf_error_text());
        assert_memory_equal(kf_error_text(), "response_format", 15);
    }
}

static void a_grammar_is_made_once_and_kept_while_in_use(void **state) {
    (void)state;
    kf_grammars *few;
    kf_grammar *a, *b, *again;
    const int32_t end = END_ID;
    kf_grammars_opts o = {.end_ids = &end, .n_end_ids = 1, .n_kept = 2, .n_masks = 2};
    assert_int_equal(kf_grammars_new(tokenizer, vocab_size, &o, &few), KF_OK);
    assert_int_equal(kf_grammar_get(few, KF_GRAMMAR_REGEX, "a", 1, &a), KF_OK);
    assert_int_equal(kf_grammar_get(few, KF_GRAMMAR_REGEX, "b+", 2, &b), KF_OK);
    assert_int_equal(kf_grammar_get(few, KF_GRAMMAR_REGEX, "a", 1, &again), KF_OK);
    assert_ptr_equal(a, again);
    assert_int_equal(kf_grammar_get(few, KF_GRAMMAR_REGEX, "c", 1, &again), KF_ERR_OVERLOADED);
    kf_grammar_put(few, b);
    assert_int_equal(kf_grammar_get(few, KF_GRAMMAR_REGEX, "c", 1, &b), KF_OK);
    assert_int_equal(kf_grammar_get(few, KF_GRAMMAR_REGEX, "b+", 2, &again), KF_ERR_OVERLOADED);
    kf_grammars_free(few);
}

static int setup(void **state) {
    (void)state;
    const int32_t end = END_ID;
    kf_grammars_opts o = {.end_ids = &end, .n_end_ids = 1, .n_kept = 4, .n_masks = 64};
    if (kf_tokenizer_open(KF_SOURCE_DIR "/models/decoder", &tokenizer) != KF_OK) return -1;
    vocab_size = kf_tokenizer_vocab_size(tokenizer) + 5; /* a model may have more rows than tokens */
    return kf_grammars_new(tokenizer, vocab_size, &o, &grammars) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_grammars_free(grammars);
    kf_tokenizer_close(tokenizer);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_walk_satisfies_its_schema),
        cmocka_unit_test(what_a_schema_says_is_taken_and_no_more),
        cmocka_unit_test(a_mask_is_what_may_be_added),
        cmocka_unit_test(what_is_not_taken_is_named),
        cmocka_unit_test(a_grammar_is_made_once_and_kept_while_in_use),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
