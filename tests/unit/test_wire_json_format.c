/* Aim: our JSON is that of Python's json_format, for every type of kefu.proto, in both directions.
 * Method: tests/e2e/json_format/cases.jsonl has random messages as json_format wrote them (messages.py made it): their
 * bytes must become the same JSON value, and their JSON (some in another spelling too) the same bytes again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "e2e/json_format/types.h"
#include "wire/json.h"
#include "wire/pb.h"

enum { CAP = 64 << 10 };

static size_t from_hex(const char *hex, uint8_t *out) {
    size_t n = strlen(hex) / 2;
    assert_true(n <= CAP);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
    return n;
}

static int by_key(const void *a, const void *b) {
    const Kefu__V1__Action__ArgumentsEntry *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

/* A map has no order, its entries in protobuf-c have: kefu.proto's only map is Action.arguments. */
static void sort_maps(ProtobufCMessage *m) {
    if (m->descriptor == &kefu__v1__action__descriptor) {
        Kefu__V1__Action *action = (Kefu__V1__Action *)m;
        if (action->n_arguments) qsort(action->arguments, action->n_arguments, sizeof *action->arguments, by_key);
    } else if (m->descriptor == &kefu__v1__response__descriptor) {
        Kefu__V1__Response *response = (Kefu__V1__Response *)m;
        for (size_t i = 0; i < response->n_actions; i++)
            sort_maps(&response->actions[i]->base);
    }
}

static void same_bytes(ProtobufCMessage *got, ProtobufCMessage *want) {
    static uint8_t a[CAP], b[CAP];
    sort_maps(got);
    sort_maps(want);
    size_t n = protobuf_c_message_get_packed_size(want);
    assert_int_equal(protobuf_c_message_get_packed_size(got), n);
    assert_true(n <= CAP);
    protobuf_c_message_pack(got, a);
    protobuf_c_message_pack(want, b);
    assert_memory_equal(a, b, n);
}

static void check_case(const char *line, size_t n, kf_arena *arena) {
    static uint8_t bytes[CAP];
    static char text[CAP];
    json_t *root, *ours;
    ProtobufCMessage *m, *back;
    assert_int_equal(kf_wire_json_parse(line, n, arena, &root), KF_OK);
    const ProtobufCMessageDescriptor *type = find_type(json_string_value(json_object_get(root, "type")));
    const json_t *json = json_object_get(root, "json"), *also = json_object_get(root, "also");
    assert_non_null(type);

    size_t n_bytes = from_hex(json_string_value(json_object_get(root, "hex")), bytes);
    assert_int_equal(kf_wire_pb_read(bytes, n_bytes, type, arena, &m), KF_OK);
    size_t n_text = kf_wire_json_write(m, text, CAP);
    assert_true(n_text <= CAP);
    assert_int_equal(kf_wire_json_parse(text, n_text, arena, &ours), KF_OK);
    if (!json_equal(ours, json)) fail_msg("we wrote %.*s for\n%s", (int)n_text, text, line);

    if (kf_wire_json_read(json, type, false, arena, &back) != KF_OK) fail_msg("%s for\n%s", kf_error_text(), line);
    same_bytes(back, m);
    if (!also) return;
    if (kf_wire_json_read(also, type, false, arena, &back) != KF_OK) fail_msg("%s for\n%s", kf_error_text(), line);
    same_bytes(back, m);
}

static void cases_of_json_format(void **state) {
    (void)state;
    kf_arena arena;
    assert_int_equal(kf_arena_init(&arena, 1 << 20), KF_OK);
    FILE *f = fopen(KF_SOURCE_DIR "/tests/e2e/json_format/cases.jsonl", "r");
    assert_non_null(f);
    char *line = NULL;
    size_t cap = 0, n_cases = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, f)) > 0) {
        kf_arena_reset(&arena);
        check_case(line, (size_t)n, &arena);
        n_cases++;
    }
    assert_int_equal(n_cases, 500);
    free(line);
    fclose(f);
    kf_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cases_of_json_format)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
