/* kf_response → bytes, in the format that the request came in: kefu.v1.Response is put together in scratch memory (its
 * texts stay where they are) and written as protobuf or as JSON. */
#include "kefu.pb-c.h"
#include "wire/json.h"
#include "wire/wire.h"

/* The numbers that job.h and kefu.proto share. */
_Static_assert((int)KF_CODE_INVALID_ARGUMENT == KEFU__V1__CODE__INVALID_ARGUMENT, "code");
_Static_assert((int)KF_CODE_DEADLINE_EXCEEDED == KEFU__V1__CODE__DEADLINE_EXCEEDED, "code");
_Static_assert((int)KF_CODE_RESOURCE_EXHAUSTED == KEFU__V1__CODE__RESOURCE_EXHAUSTED, "code");
_Static_assert((int)KF_CODE_CANCELLED == KEFU__V1__CODE__CANCELLED, "code");
_Static_assert((int)KF_CODE_UNIMPLEMENTED == KEFU__V1__CODE__UNIMPLEMENTED, "code");
_Static_assert((int)KF_CODE_INTERNAL == KEFU__V1__CODE__INTERNAL, "code");
_Static_assert((int)KF_CODE_UNAVAILABLE == KEFU__V1__CODE__UNAVAILABLE, "code");
_Static_assert((int)KF_FINISH_STOP == KEFU__V1__FINISH_REASON__STOP, "finish");
_Static_assert((int)KF_FINISH_LENGTH == KEFU__V1__FINISH_REASON__LENGTH, "finish");
_Static_assert((int)KF_FINISH_CANCELLED == KEFU__V1__FINISH_REASON__FINISH_CANCELLED, "finish");
_Static_assert((int)KF_FINISH_FAILED == KEFU__V1__FINISH_REASON__FINISH_FAILED, "finish");

/* protobuf-c's members are not const; nothing here writes through them. */
static char *text(const char *s) {
    return s ? (char *)s : "";
}

static bool put_tokens(const kf_understanding *u, kf_arena *arena, Kefu__V1__Understanding *out) {
    Kefu__V1__Token *tokens = kf_arena_alloc(arena, u->n_words * sizeof *tokens);
    out->tokens = kf_arena_alloc(arena, u->n_words * sizeof *out->tokens);
    if (!tokens || !out->tokens) return false;
    for (size_t i = 0; i < u->n_words; i++) {
        const kf_word *w = &u->words[i];
        kefu__v1__token__init(&tokens[i]);
        tokens[i].text = text(w->text.s);
        tokens[i].pos = text(w->pos);
        tokens[i].stop_word = w->stop_word;
        tokens[i].start = (uint32_t)w->start;
        tokens[i].end = (uint32_t)w->end;
        out->tokens[i] = &tokens[i];
    }
    out->n_tokens = u->n_words;
    return true;
}

static void put_label(const kf_label *l, Kefu__V1__Label *out) {
    kefu__v1__label__init(out);
    out->label = text(l->label);
    out->score = l->score;
    out->start = (uint32_t)l->start;
    out->end = (uint32_t)l->end;
}

static bool put_intents(const kf_understanding *u, kf_arena *arena, Kefu__V1__Understanding *out) {
    Kefu__V1__Label *labels = kf_arena_alloc(arena, u->n_intents * sizeof *labels);
    out->intents = kf_arena_alloc(arena, u->n_intents * sizeof *out->intents);
    if (!labels || !out->intents) return false;
    for (size_t i = 0; i < u->n_intents; i++) {
        put_label(&u->intents[i], &labels[i]);
        out->intents[i] = &labels[i];
    }
    out->n_intents = u->n_intents;
    return true;
}

static bool put_entities(const kf_understanding *u, kf_arena *arena, Kefu__V1__Understanding *out) {
    Kefu__V1__Entity *entities = kf_arena_alloc(arena, u->n_entities * sizeof *entities);
    out->entities = kf_arena_alloc(arena, u->n_entities * sizeof *out->entities);
    if (!entities || !out->entities) return false;
    for (size_t i = 0; i < u->n_entities; i++) {
        const kf_entity *e = &u->entities[i];
        kefu__v1__entity__init(&entities[i]);
        entities[i].type = text(e->type);
        entities[i].text = text(e->text.s);
        entities[i].start = (uint32_t)e->start;
        entities[i].end = (uint32_t)e->end;
        entities[i].value = text(e->value.s);
        entities[i].score = e->score;
        out->entities[i] = &entities[i];
    }
    out->n_entities = u->n_entities;
    return true;
}

/* The parts of a response, in one place for the time of the call. */
typedef struct parts {
    Kefu__V1__Response response;
    Kefu__V1__Status status;
    Kefu__V1__Understanding understanding;
    Kefu__V1__Label sentiment;
    Kefu__V1__Reply reply;
    Kefu__V1__Handoff handoff;
    Kefu__V1__Usage usage;
} parts;

static bool put_understanding(const kf_understanding *u, kf_arena *arena, parts *p) {
    kefu__v1__understanding__init(&p->understanding);
    p->response.understanding = &p->understanding;
    p->understanding.confidence = u->confidence;
    if (u->sentiment.label) {
        put_label(&u->sentiment, &p->sentiment);
        p->understanding.sentiment = &p->sentiment;
    }
    return put_tokens(u, arena, &p->understanding) && put_intents(u, arena, &p->understanding) &&
           put_entities(u, arena, &p->understanding);
}

static void put_status(const kf_response *r, parts *p) {
    kefu__v1__status__init(&p->status);
    p->response.status = &p->status;
    p->status.code = (Kefu__V1__Code)r->code;
    p->status.message = text(r->message.s);
    p->status.retry_after_ms = r->retry_after_ms < 0            ? 0
                               : r->retry_after_ms > UINT32_MAX ? UINT32_MAX
                                                                : (uint32_t)r->retry_after_ms;
}

static void put_reply(const kf_reply *r, parts *p) {
    if (!r->text.n && r->finish == KF_FINISH_NONE) return;
    kefu__v1__reply__init(&p->reply);
    p->response.reply = &p->reply;
    p->reply.text = text(r->text.s);
    p->reply.text_offset = r->text_offset;
    p->reply.finish_reason = (Kefu__V1__FinishReason)r->finish;
    p->reply.logprobs = (float *)r->logprobs;
    p->reply.n_logprobs = r->n_logprobs;
}

static void put_handoff(const kf_handoff *h, parts *p) {
    if (!h->reason) return;
    kefu__v1__handoff__init(&p->handoff);
    p->response.handoff = &p->handoff;
    p->handoff.reason = text(kf_handoff_name(h->reason));
    p->handoff.summary = text(h->summary.s);
}

static void put_usage(const kf_usage *u, parts *p) {
    kefu__v1__usage__init(&p->usage);
    p->response.usage = &p->usage;
    p->usage.prompt_tokens = u->prompt_tokens;
    p->usage.completion_tokens = u->completion_tokens;
    p->usage.cached_tokens = u->cached_tokens;
    p->usage.queue_us = (uint64_t)u->queue_us;
    p->usage.encode_us = (uint64_t)u->encode_us;
    p->usage.prefill_us = (uint64_t)u->prefill_us;
    p->usage.decode_us = (uint64_t)u->decode_us;
}

kf_status kf_wire_encode(const kf_request *r, const kf_response *response, kf_arena *arena, void *out, size_t cap,
                         size_t *n) {
    size_t mark = arena->bytes_used;
    parts p;
    kefu__v1__response__init(&p.response);
    p.response.id = text(r->id.s);
    p.response.seq = response->seq;
    p.response.attempt = response->attempt;
    p.response.final = response->final;
    p.response.model = text(response->model);
    put_status(response, &p);
    put_reply(&response->reply, &p);
    put_handoff(&response->handoff, &p);
    if (response->final) put_usage(&response->usage, &p);
    if (response->has_understanding && !put_understanding(&response->understanding, arena, &p)) {
        arena->bytes_used = mark;
        return KF_FAIL(KF_ERR_NO_MEMORY, "response: its words and labels do not fit into the %zu bytes of a job",
                       arena->bytes_cap);
    }
    size_t need =
        r->json ? kf_wire_json_write(&p.response.base, out, cap) : kefu__v1__response__get_packed_size(&p.response);
    if (!r->json && need <= cap) kefu__v1__response__pack(&p.response, out);
    arena->bytes_used = mark;
    *n = need;
    if (need > cap) return KF_FAIL(KF_ERR_TOO_LARGE, "response: %zu bytes, there is room for %zu", need, cap);
    return KF_OK;
}

const char *kf_wire_code_name(int code) {
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(&kefu__v1__code__descriptor, code);
    return v ? v->name : "?";
}
