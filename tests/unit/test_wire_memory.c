/* Aim: a message gets no more memory than its arena, however much it asks for, and decoding allocates nowhere else.
 * Method: malloc and realloc are counted in this program; hostile messages of 1 MB are decoded into small arenas, and
 * good ones into arenas of every size from none to enough. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "kefu.pb-c.h"
#include "wire/wire.h"

/* ---- every allocation of the process goes through here; sanitizers have their own and go uncounted ---- */

static volatile size_t n_allocations; /* volatile: compilers know malloc, and that it changes no variable of ours */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { COUNTED = 0 };
#else
enum { COUNTED = 1 };

static void *next_symbol(const char *name) {
    void *f = dlsym(RTLD_NEXT, name);
    if (!f) abort();
    return f;
}

void *malloc(size_t n) {
    static void *(*next)(size_t);
    if (!next) *(void **)&next = next_symbol("malloc");
    n_allocations++;
    return next(n);
}

void *realloc(void *p, size_t n) {
    static void *(*next)(void *, size_t);
    if (!next) *(void **)&next = next_symbol("realloc");
    n_allocations++;
    return next(p, n);
}
#endif

/* ---- */

enum { MESSAGE_BYTES = 1 << 20 };
static char message[MESSAGE_BYTES];
static const kf_wire_limits limits = {.max_text_bytes = MESSAGE_BYTES,
                                      .max_tokens = 256,
                                      .default_max_tokens = 64,
                                      .default_temperature = 1,
                                      .default_top_p = 1,
                                      .default_repetition_penalty = 1};

/* Decodes with the allocations counted. */
static kf_status decode(const void *bytes, size_t n, kf_arena *arena, kf_request *out) {
    kf_wire_in in = {.bytes = bytes, .n_bytes = n};
    kf_arena_reset(arena);
    size_t before = n_allocations;
    kf_status s = kf_wire_decode(&in, &limits, arena, out);
    assert_int_equal(n_allocations, before);
    return s;
}

static void the_counter_counts(void **state) {
    (void)state;
    size_t before = n_allocations;
    void *volatile p = malloc(1);
    assert_int_equal(n_allocations, before + COUNTED);
    free(p);
}

/* Fills `message` with `unit` over and over, between `head` and `tail`; returns the bytes used. */
static size_t fill(const char *head, size_t n_head, const char *unit, size_t n_unit, const char *tail) {
    size_t n = n_head, n_tail = strlen(tail);
    memcpy(message, head, n_head);
    for (; n + n_unit + n_tail <= MESSAGE_BYTES; n += n_unit)
        memcpy(message + n, unit, n_unit);
    memcpy(message + n, tail, n_tail);
    return n + n_tail;
}

static void hostile_messages_are_refused_within_the_arena(void **state) {
    (void)state;
    const struct {
        const char *head, *unit, *tail;
        size_t n_head, n_unit;
    } cases[] = {
        {"", "\x42\x00", "", 0, 2},                  /* history: half a million empty turns, 71 MB if granted */
        {"\x2a\x01x", "\x4a\x02\x42\x00", "", 3, 4}, /* generate, merged again and again, a stop each time */
        {"\x2a\x01x", "\x98\x06\x01", "", 3, 3},     /* field 99, unknown, a third of a million times */
        {"{\"history\":[{}", ",{}", "]}", 14, 3},    /* the same in JSON */
        {"{\"history\":[[]", ",[]", "]}", 14, 3},
        {"{\"generate\":{\"stop\":[\"\"", ",\"\"", "]}}", 23, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kf_arena arena;
        kf_request r;
        size_t n = fill(cases[i].head, cases[i].n_head, cases[i].unit, cases[i].n_unit, cases[i].tail);
        assert_int_equal(kf_arena_init(&arena, 2 << 20), KF_OK);
        assert_int_equal(decode(message, n, &arena, &r), KF_ERR_TOO_LARGE);
        assert_non_null(strstr(kf_error_text(), "2097152 bytes"));
        assert_int_equal(r.id.n, 32); /* there is room for the refusal */
        kf_arena_free(&arena);
    }
}

static void a_large_text_needs_little_more_than_itself(void **state) {
    (void)state;
    kf_arena arena;
    kf_request r;
    assert_int_equal(kf_arena_init(&arena, 4 * MESSAGE_BYTES), KF_OK);
    size_t n = fill("{\"text\":\"", 9, "x", 1, "\"}");
    assert_int_equal(decode(message, n, &arena, &r), KF_OK);
    assert_int_equal(r.text.n, n - 11);
    assert_true(arena.bytes_used_max < 4 * MESSAGE_BYTES);
    kf_arena_free(&arena);
}

/* A string that outgrows the arena in the middle: jansson 2.14 does not survive a refused allocation there. */
static void a_string_larger_than_the_arena_is_refused(void **state) {
    (void)state;
    size_t n = fill("{\"text\":\"", 9, "x", 1, "\"}");
    for (size_t bytes = 256; bytes < MESSAGE_BYTES; bytes = bytes * 5 / 3) {
        kf_arena arena;
        kf_request r;
        assert_int_equal(kf_arena_init(&arena, bytes), KF_OK);
        assert_int_equal(decode(message, n, &arena, &r), KF_ERR_TOO_LARGE);
        assert_int_equal(r.id.n, 32);
        kf_arena_free(&arena);
    }
}

/* Every refusal for want of room is the same clean one, and there is a size from which on it passes. */
static void any_arena_will_do(void **state) {
    (void)state;
    static const char json[] = "{\"id\":\"me\",\"sessionId\":\"s\",\"text\":\"好\",\"history\":[{\"text\":\"在吗\"},"
                               "{\"role\":\"ASSISTANT\",\"text\":\"在\"}],\"generate\":{\"stop\":[\"。\"],\"topK\":5}}";
    static const uint8_t proto[] =
        "\x0a\x02me\x2a\x03\xe5\xa5\xbd\x42\x05\x12\x03\xe5\x9c\xa8\x4a\x05\x42\x03\xe3\x80\x82";
    for (int is_json = 0; is_json < 2; is_json++) {
        bool passed = false;
        for (size_t bytes = 0; bytes < 8192; bytes += 8) {
            kf_arena arena;
            kf_request r;
            assert_int_equal(kf_arena_init(&arena, bytes), KF_OK);
            kf_status s =
                is_json ? decode(json, sizeof json - 1, &arena, &r) : decode(proto, sizeof proto - 1, &arena, &r);
            assert_true(s == KF_OK || (s == KF_ERR_TOO_LARGE && !passed));
            passed = s == KF_OK;
            if (bytes >= 48) assert_true(r.id.n > 0); /* of a JSON that could not be parsed the id is not known */
            if (bytes >= 16 && !is_json) assert_string_equal(r.id.s, "me");
            if (passed) assert_string_equal(r.generate.stop[0].s, "。");
            kf_arena_free(&arena);
        }
        assert_true(passed);
    }
}

/* The hook into jansson is for the parse alone: what others do with jansson stays on the heap. */
static void the_rest_of_jansson_is_left_alone(void **state) {
    (void)state;
    kf_arena arena;
    kf_request r;
    assert_int_equal(kf_arena_init(&arena, 4096), KF_OK);
    assert_int_equal(decode("{\"text\":\"x\"}", 12, &arena, &r), KF_OK);
    size_t before = n_allocations, used = arena.bytes_used;
    json_t *object = json_object();
    assert_int_equal(arena.bytes_used, used);
    if (COUNTED) assert_true(n_allocations > before);
    json_decref(object);
    kf_arena_free(&arena);
}

static void encoding_allocates_nothing_and_gives_its_scratch_back(void **state) {
    (void)state;
    kf_arena arena;
    assert_int_equal(kf_arena_init(&arena, 4096), KF_OK);
    kf_word words[] = {{.text = {"我", 3}, .pos = "r", .start = 0, .end = 1},
                       {.text = {"想要", 6}, .pos = "v", .start = 1, .end = 3}};
    kf_label intent = {.label = "purchase", .score = 0.9f};
    kf_response response = {.final = true,
                            .message = {"", 0},
                            .has_understanding = true,
                            .understanding = {.words = words, .n_words = 2, .intents = &intent, .n_intents = 1},
                            .reply = {.text = {"好", 3}, .finish = KF_FINISH_STOP}};
    for (int json = 0; json < 2; json++) {
        kf_request r = {.id = {"me", 2}, .json = json};
        size_t n, before = n_allocations;
        assert_int_equal(kf_wire_encode(&r, &response, &arena, message, sizeof message, &n), KF_OK);
        assert_int_equal(n_allocations, before);
        assert_int_equal(arena.bytes_used, 0);
        assert_true(arena.bytes_used_max > 0);
    }
    kf_arena_free(&arena);
    assert_int_equal(kf_arena_init(&arena, 64), KF_OK);
    size_t n = 7;
    assert_int_equal(kf_wire_encode(&(kf_request){.id = {"me", 2}}, &response, &arena, message, sizeof message, &n),
                     KF_ERR_NO_MEMORY);
    assert_int_equal(n, 7);
    assert_int_equal(arena.bytes_used, 0);
    kf_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counter_counts),
        cmocka_unit_test(hostile_messages_are_refused_within_the_arena),
        cmocka_unit_test(a_large_text_needs_little_more_than_itself),
        cmocka_unit_test(a_string_larger_than_the_arena_is_refused),
        cmocka_unit_test(any_arena_will_do),
        cmocka_unit_test(the_rest_of_jansson_is_left_alone),
        cmocka_unit_test(encoding_allocates_nothing_and_gives_its_scratch_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
