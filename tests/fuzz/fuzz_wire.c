/* Aim: no bytes crash the wire's readers, and what passes them is what their headers promise.
 * Method: libFuzzer. Every input is decoded as a request (by its first byte and as JSON, strict and lenient, in an
 * arena with room and in one that may be too small), and read as a Request and a Response of protobuf and JSON; what
 * was read is written as JSON, which must read back the same. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kefu.pb-c.h"
#include "text/utf8.h"
#include "wire/json.h"
#include "wire/pb.h"
#include "wire/wire.h"

enum { ARENA_BYTES = 1 << 20, TEXT_BYTES = 8 << 20 };

static const kf_wire_limits limits = {.max_text_bytes = 4096,
                                      .max_tokens = 256,
                                      .default_max_tokens = 64,
                                      .default_deadline_ms = 10000,
                                      .default_temperature = 0.7f,
                                      .default_top_p = 0.9f,
                                      .default_repetition_penalty = 1.1f,
                                      .default_top_k = 20};

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) __builtin_trap();                                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must_be_text(kf_str s, size_t max_bytes) {
    size_t bad_at;
    MUST(s.s && s.n <= max_bytes && strlen(s.s) == s.n && kf_utf8_valid(s.s, s.n, &bad_at));
}

static void must_be_request(const kf_request *r) {
    must_be_text(r->id, 128);
    must_be_text(r->session_id, 128);
    must_be_text(r->user_id, 128);
    must_be_text(r->tenant, 32);
    must_be_text(r->text, limits.max_text_bytes);
    MUST(r->id.n > 0 && r->tenant.n > 0 && r->text.n > 0);
    MUST(r->n_history <= 64 && (unsigned)r->lane < KF_N_LANES && (unsigned)r->want <= KF_WANT_UNDERSTAND);
    for (size_t i = 0; i < r->n_history; i++) {
        MUST((unsigned)r->history[i].role <= KF_ROLE_AGENT);
        must_be_text(r->history[i].text, limits.max_text_bytes);
    }
    const kf_generate *g = &r->generate;
    MUST(g->max_tokens >= 1 && g->max_tokens <= limits.max_tokens);
    MUST(g->temperature >= 0 && g->temperature <= 2 && g->top_p > 0 && g->top_p <= 1 && g->min_p >= 0 && g->min_p <= 1);
    MUST(g->repetition_penalty > 0 && g->repetition_penalty <= 10 && g->n_stop <= 8);
    for (size_t i = 0; i < g->n_stop; i++) {
        must_be_text(g->stop[i], 64);
        MUST(g->stop[i].n > 0);
    }
    MUST(r->deadline_ns >= 1000000);
}

static void decode(const kf_wire_in *in, kf_arena *arena) {
    kf_request r;
    kf_arena_reset(arena);
    kf_status s = kf_wire_decode(in, &limits, arena, &r);
    if (s == KF_OK) {
        must_be_request(&r);
        return;
    }
    const char *text = kf_error_text();
    size_t bad_at;
    MUST(s == KF_ERR_INVALID || s == KF_ERR_TOO_LARGE || s == KF_ERR_UNSUPPORTED);
    MUST(*text && kf_utf8_valid(text, strlen(text), &bad_at));
    must_be_text(r.id, 128);
    MUST(!r.text.n && arena->bytes_used <= 256); /* what was read is given back */
    MUST(r.id.n > 0 || arena->bytes_cap < 128);
}

/* Decodes by the first byte, and as JSON. */
static void decode_both(const uint8_t *data, size_t n, kf_arena *arena) {
    decode(&(kf_wire_in){.bytes = data, .n_bytes = n}, arena);
    decode(&(kf_wire_in){.bytes = data, .n_bytes = n, .content_type = "application/json", .lenient = true}, arena);
}

/* The message as JSON, read again and written again, is the same JSON. */
static void must_round_trip(const ProtobufCMessage *m, kf_arena *arena) {
    static char first[TEXT_BYTES], second[TEXT_BYTES];
    size_t n = kf_wire_json_write(m, first, TEXT_BYTES);
    if (n > TEXT_BYTES) return;
    json_t *root;
    ProtobufCMessage *again;
    kf_status s = kf_wire_json_parse(first, n, arena, &root);
    if (s == KF_OK) s = kf_wire_json_read(root, m->descriptor, false, arena, &again);
    if (s == KF_ERR_TOO_LARGE) return;
    MUST(s == KF_OK);
    MUST(kf_wire_json_write(again, second, TEXT_BYTES) == n && memcmp(first, second, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const ProtobufCMessageDescriptor *const types[] = {&kefu__v1__request__descriptor,
                                                              &kefu__v1__response__descriptor};
    static kf_arena arena;
    if (!arena.base) MUST(kf_arena_init(&arena, ARENA_BYTES) == KF_OK);
    decode_both(data, n, &arena);

    kf_arena small; /* of its own, so that AddressSanitizer watches its end */
    MUST(kf_arena_init(&small, n ? n * (data[n / 2] % 16) / 2 : 0) == KF_OK);
    decode_both(data, n, &small);
    kf_arena_free(&small);

    for (size_t i = 0; i < 2; i++) {
        ProtobufCMessage *m;
        json_t *root;
        kf_arena_reset(&arena);
        if (kf_wire_pb_read(data, n, types[i], &arena, &m) == KF_OK) must_round_trip(m, &arena);
        kf_arena_reset(&arena);
        if (kf_wire_json_parse((const char *)data, n, &arena, &root) == KF_OK &&
            kf_wire_json_read(root, types[i], true, &arena, &m) == KF_OK)
            must_round_trip(m, &arena);
    }
    return 0;
}
