/* Devices and inputs of the commands that need no broker. */
#include "cli/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/chat.h"

const char *const kf_dtype_names[] = {"f32", "bf16", "auto", NULL};

enum { SPECIAL_TOKENS_MAX = 16 };

/* Takes one id off a list like 1,2,3; false where there is none, or something else. */
static bool take_id(const char **list, int32_t *out) {
    char *end;
    errno = 0;
    long id = strtol(*list, &end, 10);
    if (end == *list || errno || id < 0 || id > INT32_MAX || (*end && *end != ',')) return false;
    *list = *end ? end + 1 : end;
    *out = (int32_t)id;
    return true;
}

const char *kf_local_lacks(const kf_local_opts *o) {
    if (!o->model) return "--model is missing";
    if (!o->text == !o->ids) return "one of --text and --ids is wanted";
    if (o->chat && !o->text) return "--chat wants --text";
    if (o->system && !o->chat) return "--system goes with --chat";
    return kf_ids_lacks(o->ids);
}

const char *kf_ids_lacks(const char *list) {
    static const char wanted[] = "--ids: a list like 101,7592,102 wanted";
    int32_t id;
    if (!list) return NULL;
    do {
        if (!take_id(&list, &id)) return wanted;
    } while (*list);
    return NULL;
}

kf_status kf_local_open(const kf_local_opts *o, kf_local *out) {
    const kf_dtype dtypes[] = {KF_F32, KF_BF16, kf_device_fastest_dtype(kf_device_names[o->device])};
    kf_device_opts opts = {.dtype = dtypes[o->dtype], .n_threads = (int)o->threads};
    kf_local l = {0};
    KF_TRY(kf_device_open(kf_device_names[o->device], &opts, &l.device));
    kf_status s = kf_stream_open(l.device, &l.stream);
    if (s == KF_OK && o->trace) s = kf_trace_file_open(o->trace, &l.trace);
    if (s == KF_OK)
        *out = l;
    else
        kf_local_close(&l);
    return s;
}

void kf_local_close(kf_local *l) {
    kf_trace_file_close(l->trace);
    kf_stream_close(l->stream);
    if (l->device) kf_device_close(l->device);
    *l = (kf_local){0};
}

static kf_status ids_alloc(kf_ids *ids, size_t cap) {
    ids->ids = calloc(cap, sizeof *ids->ids);
    ids->start = calloc(cap, sizeof *ids->start);
    ids->end = calloc(cap, sizeof *ids->end);
    if (ids->ids && ids->start && ids->end) return KF_OK;
    return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu tokens", cap);
}

static kf_status ids_from_text(const char *text, kf_ids *ids) {
    size_t n_bytes = strlen(text), cap = n_bytes + SPECIAL_TOKENS_MAX; /* a token is a byte at least */
    KF_TRY(ids_alloc(ids, cap));
    kf_encoding e = {.cap = cap, .ids = ids->ids, .start = ids->start, .end = ids->end};
    KF_TRY(kf_tokenizer_encode(ids->tokenizer, text, n_bytes, KF_SPECIAL_ADD, &e));
    ids->n = e.n;
    return KF_OK;
}

static kf_status encode_prompt(const kf_chat *chat, const kf_rendered *prompt, kf_ids *ids) {
    KF_TRY(ids_alloc(ids, prompt->n + SPECIAL_TOKENS_MAX));
    kf_encoding e = {.cap = prompt->n, .ids = ids->ids, .start = ids->start, .end = ids->end};
    KF_TRY(kf_chat_encode(chat, prompt, &e));
    ids->n = e.n;
    ids->prompt = strndup(prompt->text, prompt->n);
    return ids->prompt ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a prompt of %zu bytes", prompt->n);
}

static kf_status ids_from_chat(const kf_local_opts *o, kf_ids *ids) {
    if (!o->text) return KF_FAIL(KF_ERR_INVALID, "--chat wants --text");
    kf_message messages[2];
    kf_chat_in in = {.messages = messages, .now = time(NULL)};
    if (o->system) messages[in.n_messages++] = (kf_message){"system", o->system, strlen(o->system)};
    messages[in.n_messages++] = (kf_message){"user", o->text, strlen(o->text)};
    kf_chat *chat;
    kf_rendered prompt;
    KF_TRY(kf_chat_open(o->model, ids->tokenizer, &chat));
    kf_status s = kf_chat_render(chat, &in, &prompt);
    KF_STEP(s, encode_prompt(chat, &prompt, ids));
    kf_chat_close(chat);
    return s;
}

static kf_status ids_from_list(const char *list, kf_ids *ids) {
    KF_TRY(ids_alloc(ids, strlen(list) + 1));
    while (*list) {
        if (!take_id(&list, &ids->ids[ids->n]))
            return KF_FAIL(KF_ERR_INVALID, "--ids: item %zu is no token id", ids->n + 1);
        ids->n++;
    }
    return KF_OK;
}

kf_status kf_ids_read(const kf_local_opts *o, kf_ids *out) {
    if (!o->text == !o->ids) return KF_FAIL(KF_ERR_INVALID, "one of --text and --ids is wanted");
    kf_ids ids = {0};
    kf_status s = kf_tokenizer_open(o->model, &ids.tokenizer);
    if (o->ids && s != KF_OK) { /* ids need none; pieces are then shown as numbers */
        kf_error_clear();
        s = KF_OK;
    }
    if (o->chat)
        KF_STEP(s, ids_from_chat(o, &ids));
    else
        KF_STEP(s, o->text ? ids_from_text(o->text, &ids) : ids_from_list(o->ids, &ids));
    if (s == KF_OK)
        *out = ids;
    else
        kf_ids_free(&ids);
    return s;
}

kf_status kf_ids_read_some(const kf_local_opts *o, kf_ids *out) {
    kf_ids ids;
    KF_TRY(kf_ids_read(o, &ids));
    if (ids.n == 0) {
        kf_ids_free(&ids);
        return KF_FAIL(KF_ERR_INVALID, "--text has no tokens: some words are wanted");
    }
    *out = ids;
    return KF_OK;
}

void kf_ids_free(kf_ids *ids) {
    if (ids->tokenizer) kf_tokenizer_close(ids->tokenizer);
    free(ids->ids);
    free(ids->start);
    free(ids->end);
    free(ids->prompt);
    *ids = (kf_ids){0};
}

const char *kf_ids_piece(const kf_tokenizer *t, int32_t id) {
    static char number[16];
    const char *piece = t ? kf_tokenizer_piece(t, id) : NULL;
    if (piece) return piece;
    snprintf(number, sizeof number, "#%d", id);
    return number;
}

const char *kf_ids_text(const kf_tokenizer *t, int32_t id) {
    static char text[256];
    size_t n = 0;
    if (!t || kf_tokenizer_decode(t, &id, 1, false, text, sizeof text - 1, &n) != KF_OK || n == 0)
        return kf_ids_piece(t, id);
    text[n] = 0;
    return text;
}
