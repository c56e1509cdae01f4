/* Lines between protobuf and JSON, for tests/e2e/json_format/messages.py:
 *
 *     json TYPE HEX    → the message as JSON
 *     hex TYPE JSON    → the message as protobuf, in hexadecimal
 *
 * One line out for each line in; "refused: …" where our code says so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/json_format/types.h"
#include "wire/json.h"
#include "wire/pb.h"

enum { OUT_BYTES = 1 << 20 };
static char out[OUT_BYTES];
static uint8_t bytes[OUT_BYTES];

static kf_status to_json(const ProtobufCMessageDescriptor *type, const char *hex, kf_arena *arena) {
    size_t n = 0;
    ProtobufCMessage *m;
    for (; hex[2 * n] && n < OUT_BYTES; n++)
        if (sscanf(hex + 2 * n, "%2hhx", &bytes[n]) != 1) return KF_FAIL(KF_ERR_INVALID, "not hexadecimal");
    KF_TRY(kf_wire_pb_read(bytes, n, type, arena, &m));
    size_t n_out = kf_wire_json_write(m, out, OUT_BYTES);
    if (n_out > OUT_BYTES) return KF_FAIL(KF_ERR_TOO_LARGE, "%zu bytes of JSON", n_out);
    printf("%.*s\n", (int)n_out, out);
    return KF_OK;
}

static kf_status to_hex(const ProtobufCMessageDescriptor *type, const char *json, kf_arena *arena) {
    json_t *root;
    ProtobufCMessage *m;
    KF_TRY(kf_wire_json_parse(json, strlen(json), arena, &root));
    KF_TRY(kf_wire_json_read(root, type, false, arena, &m));
    size_t n = protobuf_c_message_get_packed_size(m);
    if (n > OUT_BYTES) return KF_FAIL(KF_ERR_TOO_LARGE, "%zu bytes of protobuf", n);
    protobuf_c_message_pack(m, bytes);
    for (size_t i = 0; i < n; i++)
        printf("%02x", bytes[i]);
    printf("\n");
    return KF_OK;
}

int main(void) {
    kf_arena arena;
    if (kf_arena_init(&arena, 16 << 20) != KF_OK) return 1;
    char *line = NULL, way[8], name[32];
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        int at = 0;
        if (line[n - 1] == '\n') line[n - 1] = 0;
        const ProtobufCMessageDescriptor *type =
            sscanf(line, "%7s %31s %n", way, name, &at) == 2 ? find_type(name) : NULL;
        kf_arena_reset(&arena);
        kf_status s = !type                      ? KF_FAIL(KF_ERR_INVALID, "no such line")
                      : strcmp(way, "json") == 0 ? to_json(type, line + at, &arena)
                                                 : to_hex(type, line + at, &arena);
        if (s != KF_OK) printf("refused: %s\n", kf_error_text());
    }
    free(line);
    kf_arena_free(&arena);
    return 0;
}
