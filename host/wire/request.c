/* The bytes of a request → kf_request: the format is told apart, the message read, every field checked against
 * kefu.proto's ranges and the worker's limits, and what was not set filled in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "kefu.pb-c.h"
#include "text/utf8.h"
#include "wire/json.h"
#include "wire/pb.h"
#include "wire/wire.h"

/* The bounds that kefu.proto promises. */
enum {
    MAX_ID_BYTES = 128,
    MAX_TENANT_BYTES = 32,
    MAX_TURNS = 64,
    MAX_STOPS = 8,
    MAX_STOP_BYTES = 64,
    MAX_BIASES = 64,
    MAX_FORMAT_BYTES = 65536,
    GENERATED_ID_BYTES = 16 /* of randomness; twice as many digits */
};

typedef Kefu__V1__Request message;

static const kf_str UNSET = {"", 0};

static kf_str str(const char *s) {
    return (kf_str){s, strlen(s)};
}

static kf_status no_room(const char *what, const kf_arena *arena) {
    return KF_FAIL(KF_ERR_TOO_LARGE, "%s: does not fit into the %zu bytes that a request may take: send less", what,
                   arena->bytes_cap);
}

/* ---- field by field ---- */

static kf_status take_str(const char *field, const char *s, size_t max_bytes, kf_str *out) {
    size_t n = strlen(s);
    if (n > max_bytes) return KF_FAIL(KF_ERR_TOO_LARGE, "%s: %zu bytes, wanted at most %zu", field, n, max_bytes);
    *out = (kf_str){s, n};
    return KF_OK;
}

static kf_status take_enum(const char *field, int value, const ProtobufCEnumDescriptor *type) {
    if (protobuf_c_enum_descriptor_get_value(type, value)) return KF_OK;
    return KF_FAIL(KF_ERR_INVALID, "%s: %d is none of %s's values, which are %d (%s) to %d (%s)", field, value,
                   type->short_name, type->values[0].value, type->values[0].name,
                   type->values[type->n_values - 1].value, type->values[type->n_values - 1].name);
}

/* low ≤ value ≤ high, and not low itself where it is excluded; NaN is outside. */
static kf_status take_float(const char *field, float value, float low, bool low_excluded, float high, float *out) {
    if (!(value >= low && value <= high) || (low_excluded && value == low))
        return KF_FAIL(KF_ERR_INVALID, "%s: %g, wanted %s %g and at most %g", field, (double)value,
                       low_excluded ? "above" : "at least", (double)low, (double)high);
    *out = value;
    return KF_OK;
}

static bool is_tenant(const char *s, size_t n) {
    if (n == 0 || n > MAX_TENANT_BYTES) return false;
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '_' || s[i] == '-')) return false;
    return true;
}

static kf_status take_input(const message *m, const kf_wire_limits *limits, kf_str *out) {
    switch (m->input_case) {
    case KEFU__V1__REQUEST__INPUT_TEXT: break;
    case KEFU__V1__REQUEST__INPUT_AUDIO: return KF_FAIL(KF_ERR_UNSUPPORTED, "audio: not understood yet: send text");
    case KEFU__V1__REQUEST__INPUT_IMAGE: return KF_FAIL(KF_ERR_UNSUPPORTED, "image: not understood yet: send text");
    default: return KF_FAIL(KF_ERR_INVALID, "text: not there: send what the customer said");
    }
    if (kf_utf8_blank(m->text)) return KF_FAIL(KF_ERR_INVALID, "text: empty or blank: send what the customer said");
    size_t n = strlen(m->text);
    if (n > limits->max_text_bytes)
        return KF_FAIL(KF_ERR_TOO_LARGE, "text: %zu bytes, this worker takes at most %zu: send a shorter text", n,
                       limits->max_text_bytes);
    *out = (kf_str){m->text, n};
    return KF_OK;
}

static kf_status take_history(const message *m, const kf_wire_limits *limits, kf_arena *arena, kf_request *out) {
    if (m->n_history > MAX_TURNS)
        return KF_FAIL(KF_ERR_TOO_LARGE, "history: %zu turns, wanted at most %d: send the latest", m->n_history,
                       MAX_TURNS);
    kf_turn *turns = kf_arena_alloc(arena, m->n_history * sizeof *turns);
    if (!turns) return no_room("history", arena);
    for (size_t i = 0; i < m->n_history; i++) {
        const Kefu__V1__Turn *turn = m->history[i];
        char field[48]; /* wide enough for any index */
        snprintf(field, sizeof field, "history[%zu].role", i);
        KF_TRY(take_enum(field, turn->role, &kefu__v1__turn__role__descriptor));
        turns[i].role = (kf_role)turn->role;
        snprintf(field, sizeof field, "history[%zu].text", i);
        KF_TRY(take_str(field, turn->text, limits->max_text_bytes, &turns[i].text));
    }
    out->history = turns;
    out->n_history = m->n_history;
    return KF_OK;
}

static kf_status take_stop(const Kefu__V1__Generate *g, kf_arena *arena, kf_generate *out) {
    if (g->n_stop > MAX_STOPS)
        return KF_FAIL(KF_ERR_TOO_LARGE, "generate.stop: %zu texts, wanted at most %d", g->n_stop, MAX_STOPS);
    out->stop = kf_arena_alloc(arena, g->n_stop * sizeof *out->stop);
    if (!out->stop) return no_room("generate.stop", arena);
    for (size_t i = 0; i < g->n_stop; i++) {
        char field[48]; /* wide enough for any index */
        snprintf(field, sizeof field, "generate.stop[%zu]", i);
        if (!g->stop[i][0]) return KF_FAIL(KF_ERR_INVALID, "%s: empty, wanted 1 to %d bytes", field, MAX_STOP_BYTES);
        KF_TRY(take_str(field, g->stop[i], MAX_STOP_BYTES, &out->stop[i]));
    }
    out->n_stop = g->n_stop;
    return KF_OK;
}

static kf_status take_bias(const Kefu__V1__Generate *g, kf_arena *arena, kf_generate *out) {
    if (g->n_logit_bias > MAX_BIASES)
        return KF_FAIL(KF_ERR_TOO_LARGE, "generate.logit_bias: %zu tokens, wanted at most %d", g->n_logit_bias,
                       MAX_BIASES);
    out->logit_bias = kf_arena_alloc(arena, g->n_logit_bias * sizeof *out->logit_bias);
    if (!out->logit_bias) return no_room("generate.logit_bias", arena);
    for (size_t i = 0; i < g->n_logit_bias; i++) {
        char field[48]; /* wide enough for any index */
        uint32_t token = g->logit_bias[i]->token;
        snprintf(field, sizeof field, "generate.logit_bias[%zu].bias", i);
        if (token > INT32_MAX)
            return KF_FAIL(KF_ERR_INVALID, "generate.logit_bias[%zu].token: %u is no token", i, token);
        for (size_t k = 0; k < i; k++)
            if (g->logit_bias[k]->token == token)
                return KF_FAIL(KF_ERR_INVALID, "generate.logit_bias[%zu].token: %u stands there twice", i, token);
        out->logit_bias[i].token = (int32_t)token;
        KF_TRY(take_float(field, g->logit_bias[i]->bias, -100, false, 100, &out->logit_bias[i].value));
    }
    out->n_logit_bias = g->n_logit_bias;
    return KF_OK;
}

static kf_status take_format(const Kefu__V1__ResponseFormat *f, kf_generate *out) {
    if (!f) return KF_OK;
    switch (f->format_case) {
    case KEFU__V1__RESPONSE_FORMAT__FORMAT_JSON_SCHEMA:
        out->format = KF_GRAMMAR_SCHEMA;
        return take_str("generate.response_format.json_schema", f->json_schema, MAX_FORMAT_BYTES, &out->format_text);
    case KEFU__V1__RESPONSE_FORMAT__FORMAT_REGEX:
        out->format = KF_GRAMMAR_REGEX;
        return take_str("generate.response_format.regex", f->regex, MAX_FORMAT_BYTES, &out->format_text);
    default: return KF_FAIL(KF_ERR_INVALID, "generate.response_format: empty, wanted json_schema or regex");
    }
}

static kf_status take_generate(const Kefu__V1__Generate *g, const kf_wire_limits *limits, kf_arena *arena,
                               kf_generate *out) {
    *out = (kf_generate){.max_tokens = limits->default_max_tokens,
                         .temperature = limits->default_temperature,
                         .top_p = limits->default_top_p,
                         .top_k = limits->default_top_k,
                         .repetition_penalty = limits->default_repetition_penalty};
    if (!g) return KF_OK;
    if (g->max_tokens_set_case) {
        if (g->max_tokens < 1 || g->max_tokens > limits->max_tokens)
            return KF_FAIL(KF_ERR_INVALID, "generate.max_tokens: %u, this worker takes 1 to %u", g->max_tokens,
                           limits->max_tokens);
        out->max_tokens = g->max_tokens;
    }
    if (g->temperature_set_case)
        KF_TRY(take_float("generate.temperature", g->temperature, 0, false, 2, &out->temperature));
    if (g->top_k_set_case) out->top_k = g->top_k;
    if (g->top_p_set_case) KF_TRY(take_float("generate.top_p", g->top_p, 0, true, 1, &out->top_p));
    if (g->min_p_set_case) KF_TRY(take_float("generate.min_p", g->min_p, 0, false, 1, &out->min_p));
    if (g->repetition_penalty_set_case)
        KF_TRY(take_float("generate.repetition_penalty", g->repetition_penalty, 0, true, 10, &out->repetition_penalty));
    if (g->presence_penalty_set_case)
        KF_TRY(take_float("generate.presence_penalty", g->presence_penalty, -2, false, 2, &out->presence_penalty));
    if (g->frequency_penalty_set_case)
        KF_TRY(take_float("generate.frequency_penalty", g->frequency_penalty, -2, false, 2, &out->frequency_penalty));
    if (g->seed_set_case) {
        out->seed = g->seed;
        out->has_seed = true;
    }
    out->logprobs = g->logprobs;
    KF_TRY(take_bias(g, arena, out));
    KF_TRY(take_format(g->response_format, out));
    return take_stop(g, arena, out);
}

/* ---- tenant and lane: the subject's where it names them, else the message's ---- */

static const struct {
    const char *name;
    Kefu__V1__Priority priority;
    kf_lane lane;
} lanes[] = {
    {"high", KEFU__V1__PRIORITY__PRIORITY_HIGH, KF_LANE_HIGH},
    {"normal", KEFU__V1__PRIORITY__PRIORITY_NORMAL, KF_LANE_NORMAL},
    {"low", KEFU__V1__PRIORITY__PRIORITY_LOW, KF_LANE_LOW},
};
enum { N_LANES = sizeof lanes / sizeof lanes[0] };

/* "any", or a bucket as kf_wire_bucket has it, in decimal and without a leading zero. */
static bool is_bucket(const char *s) {
    char *end;
    if (!strcmp(s, "any")) return true;
    if (s[0] < '0' || s[0] > '9' || (s[0] == '0' && s[1])) return false;
    return strtoul(s, &end, 10) < KF_WIRE_BUCKETS && !*end;
}

/* What follows the prefix: <tenant>.<lane>.<bucket>. */
static kf_status take_subject(const char *rest, kf_arena *arena, kf_request *out) {
    size_t n_tenant = strcspn(rest, ".");
    const char *lane = rest + n_tenant + (rest[n_tenant] == '.');
    size_t n_lane = strcspn(lane, ".");
    if (!is_tenant(rest, n_tenant))
        return KF_FAIL(KF_ERR_INVALID, "subject: its tenant must be 1 to %d of a-z, 0-9, _ and -", MAX_TENANT_BYTES);
    for (size_t i = 0; i < N_LANES; i++) {
        if (strlen(lanes[i].name) != n_lane || memcmp(lanes[i].name, lane, n_lane) != 0) continue;
        if (!is_bucket(lane + n_lane + (lane[n_lane] == '.')))
            return KF_FAIL(KF_ERR_INVALID, "subject: its bucket must be 0 to %d or any, as in <tenant>.<lane>.<bucket>",
                           KF_WIRE_BUCKETS - 1);
        char *tenant = kf_arena_strndup(arena, rest, n_tenant);
        if (!tenant) return no_room("subject", arena);
        out->tenant = (kf_str){tenant, n_tenant};
        out->lane = lanes[i].lane;
        return KF_OK;
    }
    return KF_FAIL(KF_ERR_INVALID, "subject: its lane must be high, normal or low, as in <tenant>.<lane>.<bucket>");
}

static kf_status take_tenant_and_lane(const message *m, const char *subject, kf_arena *arena, kf_request *out) {
    static const char *const prefixes[] = {"kefu.v1.request.", "kefu.jobs.v1."};
    if (m->tenant[0] && !is_tenant(m->tenant, strlen(m->tenant)))
        return KF_FAIL(KF_ERR_INVALID, "tenant: %zu bytes, wanted 1 to %d of a-z, 0-9, _ and -", strlen(m->tenant),
                       MAX_TENANT_BYTES);
    if (m->priority_set_case) KF_TRY(take_enum("priority", m->priority, &kefu__v1__priority__descriptor));
    for (size_t i = 0; subject && i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(subject, prefixes[i], strlen(prefixes[i])) == 0)
            return take_subject(subject + strlen(prefixes[i]), arena, out);
    out->tenant = m->tenant[0] ? str(m->tenant) : str("default");
    out->lane = KF_LANE_NORMAL;
    for (size_t i = 0; m->priority_set_case && i < N_LANES; i++)
        if (lanes[i].priority == m->priority) out->lane = lanes[i].lane;
    return KF_OK;
}

/* ---- the id ---- */

/* 128 random bits in hexadecimal. UNSET where the arena is full or the system gives none. */
static kf_str generate_id(kf_arena *arena) {
    unsigned char random[GENERATED_ID_BYTES];
    char *id = kf_arena_alloc(arena, 2 * sizeof random + 1);
    if (!id || getrandom(random, sizeof random, 0) != sizeof random) return UNSET;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
    return (kf_str){id, 2 * sizeof random};
}

/* The id of a request that was refused, from what could be read of it: into id[MAX_ID_BYTES], its bytes; 0 where
 * there is none that may be used. */
static size_t salvage_id(const kf_wire_in *in, const json_t *root, char *id) {
    const json_t *value = json_object_get(root, "id");
    const char *s = json_string_value(value);
    size_t n = json_string_length(value), bad_at;
    if (!root && !kf_wire_pb_find(in->bytes, in->n_bytes, 1, &s, &n)) return 0;
    if (!s || n == 0 || n > MAX_ID_BYTES || memchr(s, 0, n) || !kf_utf8_valid(s, n, &bad_at)) return 0;
    memcpy(id, s, n);
    return n;
}

/* ---- the whole ---- */

static kf_status take_message(const message *m, const kf_wire_in *in, const kf_wire_limits *limits, kf_arena *arena,
                              kf_request *out) {
    KF_TRY(take_str("id", m->id, MAX_ID_BYTES, &out->id));
    KF_TRY(take_str("session_id", m->session_id, MAX_ID_BYTES, &out->session_id));
    KF_TRY(take_str("user_id", m->user_id, MAX_ID_BYTES, &out->user_id));
    KF_TRY(take_tenant_and_lane(m, in->subject, arena, out));
    KF_TRY(take_input(m, limits, &out->text));
    KF_TRY(take_history(m, limits, arena, out));
    KF_TRY(take_generate(m->generate, limits, arena, &out->generate));
    KF_TRY(take_enum("want", m->want, &kefu__v1__want__descriptor));
    out->want = m->want == KEFU__V1__WANT__UNDERSTAND ? KF_WANT_UNDERSTAND : KF_WANT_REPLY;
    out->stream = m->stream;
    uint32_t ms = limits->default_deadline_ms;
    if (m->deadline_case) {
        ms = m->deadline_ms;
        if (ms == 0) return KF_FAIL(KF_ERR_INVALID, "deadline_ms: 0, wanted at least 1, or leave it out");
    }
    out->deadline_ns = ms ? in->received_ns + (int64_t)ms * 1000000 : 0;
    if (!out->id.n) out->id = generate_id(arena);
    return out->id.n ? KF_OK : no_room("id", arena);
}

/* 0x7b, '{', would be a group in protobuf, which proto3 does not have. */
static bool is_json(const kf_wire_in *in) {
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    if (in->content_type && strncasecmp(in->content_type, json, n) == 0)
        return !in->content_type[n] || strchr("; \t", in->content_type[n]) != NULL;
    return in->n_bytes && *(const char *)in->bytes == '{';
}

static kf_request unset(bool json) {
    return (kf_request){.id = UNSET,
                        .session_id = UNSET,
                        .user_id = UNSET,
                        .tenant = UNSET,
                        .text = UNSET,
                        .lane = KF_LANE_NORMAL,
                        .json = json};
}

kf_status kf_wire_decode(const kf_wire_in *in, const kf_wire_limits *limits, kf_arena *arena, kf_request *out) {
    size_t mark = arena->bytes_used;
    kf_request r = unset(is_json(in));
    ProtobufCMessage *m = NULL;
    json_t *root = NULL;
    kf_status s = KF_OK;
    if (r.json) {
        KF_STEP(s, kf_wire_json_parse(in->bytes, in->n_bytes, arena, &root));
        KF_STEP(s, kf_wire_json_read(root, &kefu__v1__request__descriptor, in->lenient, arena, &m));
    } else {
        KF_STEP(s, kf_wire_pb_read(in->bytes, in->n_bytes, &kefu__v1__request__descriptor, arena, &m));
    }
    KF_STEP(s, take_message((const message *)m, in, limits, arena, &r));
    if (s == KF_OK) {
        *out = r;
        return KF_OK;
    }
    char id[MAX_ID_BYTES];
    size_t n = salvage_id(in, root, id);
    arena->bytes_used = mark; /* what was read of it is of no more use */
    *out = unset(r.json);
    char *kept = n ? kf_arena_strndup(arena, id, n) : NULL;
    out->id = kept ? (kf_str){kept, n} : generate_id(arena);
    return s;
}

unsigned kf_wire_bucket(const char *session_id, size_t n_bytes) {
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a, 64 bits */
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ (unsigned char)session_id[i]) * 0x100000001b3;
    return hash % KF_WIRE_BUCKETS;
}
