/* Reading prompt.json and laying out the prompt of prompt.h. */
#include "dialogue/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_FIELDS = 16 };

typedef enum field { F_USER, F_ASSISTANT, F_END, F_TEXT, F_REPLY, F_INTENT, F_SENTIMENT, F_ENTITIES, N_FIELDS } field;
static const char *const field_names[N_FIELDS] = {"user",  "assistant", "end",       "text",
                                                  "reply", "intent",    "sentiment", "entities"};

typedef struct layout {
    field fields[MAX_FIELDS];
    size_t n;
} layout;

/* The tokens of one kind of label, sorted by nothing: there are a few dozen, and few look-ups a request. */
typedef struct label_tokens {
    char **labels; /* [n] */
    int32_t *ids;
    size_t n;
} label_tokens;

struct kf_prompt {
    const kf_tokenizer *tokenizer;
    kf_chat *chat; /* NULL: a form of prompt.json; else of all below only max_turns and stops are used */
    char *system;  /* NULL: none */
    enum { THINKING_OFF, THINKING_HIDDEN, THINKING_SHOWN } thinking;
    int32_t bos; /* -1: none */
    int32_t marks[F_END + 1];
    label_tokens intent, sentiment, entity;
    layout earlier, present;
    size_t max_turns, max_entities;
    int32_t stops[KF_PROMPT_MAX_STOPS];
    size_t n_stops;
};

bool kf_prompt_is_stop(const kf_prompt *p, int32_t id) {
    for (size_t i = 0; i < p->n_stops; i++)
        if (p->stops[i] == id) return true;
    return false;
}

bool kf_prompt_hides_thoughts(const kf_prompt *p) {
    return p->chat && p->thinking != THINKING_SHOWN;
}

/* ---- tokenising ---- */

/* A piece has at least one byte, so a text has at most as many ids as bytes. */
static kf_status tokenise(const kf_prompt *p, kf_arena *arena, kf_str text, size_t max_ids, kf_prompt_ids *out,
                          bool *cut) {
    size_t cap = text.n < max_ids ? text.n : max_ids;
    kf_encoding e = {.cap = cap, .ids = kf_arena_alloc(arena, cap * sizeof *e.ids)};
    if (!e.ids) return KF_FAIL(KF_ERR_NO_MEMORY, "prompt: the job's arena has no room for %zu ids", cap);
    KF_TRY(kf_tokenizer_encode(p->tokenizer, text.s, text.n, KF_SPECIAL_NONE, &e));
    *out = (kf_prompt_ids){.ids = e.ids, .n = e.n};
    *cut = e.n_total > e.n;
    return KF_OK;
}

/* The newest max_turns pairs of a customer's turn and the answer right after it. Returns how many; at[] has the index
 * of each pair's first turn, oldest first. */
static size_t answered_turns(const kf_turn *history, size_t n_history, size_t max_turns, size_t *at) {
    size_t n = 0;
    for (size_t i = n_history; i >= 2 && n < max_turns; i--) {
        if (history[i - 1].role == KF_ROLE_USER || history[i - 2].role != KF_ROLE_USER) continue;
        at[n++] = i - 2;
    }
    for (size_t i = 0; i < n / 2; i++) {
        size_t t = at[i];
        at[i] = at[n - 1 - i];
        at[n - 1 - i] = t;
    }
    return n;
}

static kf_status prepare_texts(const kf_prompt *p, kf_arena *arena, const kf_prompt_in *in, kf_prompt_texts *out) {
    bool cut, cut_reply;
    size_t at[KF_PROMPT_MAX_TURNS], n = answered_turns(in->history, in->n_history, p->max_turns, at);
    KF_TRY(tokenise(p, arena, in->text, in->max_ids, &out->text, &cut));
    for (size_t i = 0; i < n; i++) {
        kf_prompt_ids said, reply;
        KF_TRY(tokenise(p, arena, in->history[at[i]].text, in->max_ids, &said, &cut));
        KF_TRY(tokenise(p, arena, in->history[at[i] + 1].text, in->max_ids, &reply, &cut_reply));
        if (cut || cut_reply) {
            out->n_turns = 0; /* what is older than a turn that cannot stand here makes no sense without it */
            continue;
        }
        out->turns[out->n_turns].text = said;
        out->turns[out->n_turns++].reply = reply;
    }
    return KF_OK;
}

/* ---- with a chat template ---- */

/* The system's message, n turns of which at[] has the first messages, and the text. Returns how many. */
static size_t lay_messages(const kf_prompt *p, const kf_prompt_in *in, const size_t *at, size_t n, kf_message *out) {
    size_t k = 0;
    if (p->system) out[k++] = (kf_message){"system", p->system, strlen(p->system)};
    for (size_t i = 0; i < n; i++) {
        kf_str said = in->history[at[i]].text, reply = in->history[at[i] + 1].text;
        out[k++] = (kf_message){"user", said.s, said.n};
        out[k++] = (kf_message){"assistant", reply.s, reply.n};
    }
    out[k++] = (kf_message){"user", in->text.s, in->text.n};
    return k;
}

/* Where not even the text leaves n_reply, it may take all but one id: a short reply rather than none. */
static kf_status prepare_chat(const kf_prompt *p, kf_arena *arena, const kf_prompt_in *in, kf_prompt_texts *out) {
    kf_message messages[2 * KF_PROMPT_MAX_TURNS + 2];
    size_t at[KF_PROMPT_MAX_TURNS], n = answered_turns(in->history, in->n_history, p->max_turns, at);
    kf_encoding e = {.cap = in->max_ids, .ids = kf_arena_alloc(arena, in->max_ids * sizeof *e.ids)};
    if (!e.ids) return KF_FAIL(KF_ERR_NO_MEMORY, "prompt: the job's arena has no room for %zu ids", in->max_ids);
    for (size_t first = 0; first <= n; first++) {
        kf_rendered prompt;
        kf_chat_in chat = {.messages = messages, .thinking = p->thinking != THINKING_OFF, .now = in->now};
        chat.n_messages = lay_messages(p, in, at + first, n - first, messages);
        KF_TRY(kf_chat_render(p->chat, &chat, &prompt));
        KF_TRY(kf_chat_encode(p->chat, &prompt, &e));
        out->in_thought = kf_chat_opens_thought(&prompt);
        if (e.n_total + in->n_reply <= in->max_ids) break;
    }
    out->text = (kf_prompt_ids){.ids = e.ids, .n = e.n_total > e.n ? SIZE_MAX : e.n};
    return KF_OK;
}

kf_status kf_prompt_prepare(const kf_prompt *p, kf_arena *arena, const kf_prompt_in *in, kf_prompt_texts *out) {
    out->n_turns = 0;
    out->in_thought = false;
    return p->chat ? prepare_chat(p, arena, in, out) : prepare_texts(p, arena, in, out);
}

/* ---- laying out ---- */

typedef struct writer {
    int32_t *ids; /* [cap] */
    size_t n, cap;
    bool full;
} writer;

static void put_id(writer *w, int32_t id) {
    if (id < 0) return;
    if (w->n < w->cap) {
        w->ids[w->n++] = id;
    } else {
        w->full = true;
    }
}

static void put_ids(writer *w, kf_prompt_ids x) {
    if (w->cap - w->n < x.n) {
        w->full = true;
        return;
    }
    if (x.n) memcpy(w->ids + w->n, x.ids, x.n * sizeof *x.ids);
    w->n += x.n;
}

static int32_t token_of(const label_tokens *t, const char *label) {
    for (size_t i = 0; label && i < t->n; i++)
        if (!strcmp(t->labels[i], label)) return t->ids[i];
    return -1;
}

/* Each entity in the order of the text: its token, then its characters. */
static void put_entities(const kf_prompt *p, writer *w, const kf_understanding *u) {
    size_t n_put = 0;
    for (size_t i = 0; i < u->n_entities && n_put < p->max_entities && !w->full; i++) {
        int32_t id = token_of(&p->entity, u->entities[i].type);
        if (id < 0) continue;
        put_id(w, id);
        kf_encoding e = {.cap = w->cap - w->n, .ids = w->ids + w->n};
        kf_str text = u->entities[i].text;
        if (kf_tokenizer_encode(p->tokenizer, text.s, text.n, KF_SPECIAL_NONE, &e) != KF_OK || e.n_total > e.n)
            w->full = true;
        else
            w->n += e.n;
        n_put++;
    }
}

static void put_turn(const kf_prompt *p, writer *w, const layout *l, kf_prompt_ids text, kf_prompt_ids reply,
                     const kf_understanding *u) {
    for (size_t i = 0; i < l->n; i++) {
        switch (l->fields[i]) {
        case F_TEXT: put_ids(w, text); break;
        case F_REPLY: put_ids(w, reply); break;
        case F_INTENT:
            if (u && u->n_intents) put_id(w, token_of(&p->intent, u->intents[0].label));
            break;
        case F_SENTIMENT:
            if (u) put_id(w, token_of(&p->sentiment, u->sentiment.label));
            break;
        case F_ENTITIES:
            if (u) put_entities(p, w, u);
            break;
        default: put_id(w, p->marks[l->fields[i]]); break;
        }
    }
}

size_t kf_prompt_build(const kf_prompt *p, const kf_prompt_texts *texts, const kf_understanding *u, int32_t *ids,
                       size_t cap) {
    if (p->chat) {
        writer w = {.ids = ids, .cap = cap};
        put_ids(&w, texts->text);
        return w.full ? 0 : w.n;
    }
    for (size_t first = 0; first <= texts->n_turns; first++) {
        writer w = {.ids = ids, .cap = cap};
        put_id(&w, p->bos);
        for (size_t i = first; i < texts->n_turns; i++)
            put_turn(p, &w, &p->earlier, texts->turns[i].text, texts->turns[i].reply, NULL);
        put_turn(p, &w, &p->present, texts->text, (kf_prompt_ids){0}, u);
        if (!w.full) return w.n;
    }
    return 0;
}

/* ---- reading prompt.json ---- */

typedef struct source {
    const char *path;
    const json_t *root;
    const kf_tokenizer *tokenizer;
} source;

static kf_status token_id(const source *in, const char *what, const json_t *v, int32_t *out) {
    if (!json_is_string(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a token", in->path, what);
    int32_t id = kf_tokenizer_id(in->tokenizer, json_string_value(v));
    if (id < 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s is %.40s, which the tokenizer does not have", in->path, what,
                       json_string_value(v));
    *out = id;
    return KF_OK;
}

static kf_status optional_token(const source *in, const char *name, int32_t *out) {
    const json_t *v = json_object_get(in->root, name);
    *out = -1;
    return v ? token_id(in, name, v, out) : KF_OK;
}

static kf_status read_labels(const source *in, const char *name, label_tokens *out) {
    json_t *map = json_object_get(in->root, name), *v;
    if (!map) return KF_OK;
    if (!json_is_object(map)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be an object", in->path, name);
    size_t n = json_object_size(map);
    out->labels = calloc(n + 1, sizeof *out->labels);
    out->ids = calloc(n + 1, sizeof *out->ids);
    if (!out->labels || !out->ids) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %s", in->path, name);
    const char *label;
    json_object_foreach(map, label, v) {
        KF_TRY(token_id(in, label, v, &out->ids[out->n]));
        if (!(out->labels[out->n] = strdup(label)))
            return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %s", in->path, name);
        out->n++;
    }
    return KF_OK;
}

static kf_status read_layout(const source *in, const char *name, layout *out) {
    const json_t *list = json_object_get(in->root, name);
    if (!json_is_array(list) || json_array_size(list) > MAX_FIELDS)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a list of at most %d fields", in->path, name, MAX_FIELDS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_array_get(list, i));
        field f = 0;
        while (f < N_FIELDS && (!s || strcmp(s, field_names[f])))
            f++;
        if (f == N_FIELDS)
            return KF_FAIL(KF_ERR_CORRUPT,
                           "%s: %s has the field %.40s; there are user, assistant, end, text, reply, "
                           "intent, sentiment and entities",
                           in->path, name, s ? s : "(no string)");
        out->fields[out->n++] = f;
    }
    return KF_OK;
}

static kf_status read_count(const source *in, const char *name, size_t most, size_t *out) {
    const json_t *v = json_object_get(in->root, name);
    if (!v) return KF_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a count", in->path, name);
    json_int_t n = json_integer_value(v);
    *out = (size_t)n < most ? (size_t)n : most;
    return KF_OK;
}

static kf_status read_stops(const source *in, kf_prompt *p) {
    const json_t *list = json_object_get(in->root, "stop");
    if (!list) return KF_OK;
    if (!json_is_array(list) || json_array_size(list) > KF_PROMPT_MAX_STOPS)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: stop must be a list of at most %d tokens", in->path, KF_PROMPT_MAX_STOPS);
    for (; p->n_stops < json_array_size(list); p->n_stops++)
        KF_TRY(token_id(in, "stop", json_array_get(list, p->n_stops), &p->stops[p->n_stops]));
    return KF_OK;
}

static kf_status read_form(const source *in, kf_prompt *p) {
    static const char *const keys[] = {
        "bos",          "user",         "assistant",         "end",          "intent", "sentiment", "entity",
        "earlier_turn", "present_turn", "max_history_turns", "max_entities", "stop",   NULL};
    KF_TRY(kf_json_only(in->root, in->path, "the prompt", keys));
    KF_TRY(optional_token(in, "bos", &p->bos));
    for (field f = F_USER; f <= F_END; f++)
        KF_TRY(optional_token(in, field_names[f], &p->marks[f]));
    KF_TRY(read_labels(in, "intent", &p->intent));
    KF_TRY(read_labels(in, "sentiment", &p->sentiment));
    KF_TRY(read_labels(in, "entity", &p->entity));
    KF_TRY(read_layout(in, "earlier_turn", &p->earlier));
    KF_TRY(read_layout(in, "present_turn", &p->present));
    KF_TRY(read_count(in, "max_history_turns", KF_PROMPT_MAX_TURNS, &p->max_turns));
    KF_TRY(read_count(in, "max_entities", 64, &p->max_entities));
    return read_stops(in, p);
}

static kf_status read_chat_settings(const source *in, kf_prompt *p) {
    static const char *const keys[] = {"system", "thinking", "max_history_turns", NULL};
    static const char *const choices[] = {"off", "hidden", "shown"};
    const json_t *system = json_object_get(in->root, "system"), *thinking = json_object_get(in->root, "thinking");
    KF_TRY(kf_json_only(in->root, in->path, "the prompt of a chat template", keys));
    KF_TRY(read_count(in, "max_history_turns", KF_PROMPT_MAX_TURNS, &p->max_turns));
    if (system && !json_is_string(system)) return KF_FAIL(KF_ERR_CORRUPT, "%s: system must be a text", in->path);
    if (system && !(p->system = strdup(json_string_value(system))))
        return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for system", in->path);
    if (!thinking) return KF_OK;
    for (unsigned i = 0; i < 3; i++) {
        if (!json_is_string(thinking) || strcmp(json_string_value(thinking), choices[i])) continue;
        p->thinking = i;
        return KF_OK;
    }
    return KF_FAIL(KF_ERR_CORRUPT, "%s: thinking must be \"off\", \"hidden\" or \"shown\"", in->path);
}

/* A template that takes no conversation of ours (a system's message, turns of customer and shop) is refused at start,
 * not at the first request. */
static kf_status try_chat(const kf_prompt *p, const char *dir) {
    static const kf_turn history[] = {{KF_ROLE_USER, {"a", 1}}, {KF_ROLE_ASSISTANT, {"b", 1}}};
    const size_t at[] = {0};
    kf_message messages[4];
    kf_rendered prompt;
    for (size_t n = 0; n < 2; n++) {
        kf_prompt_in in = {.text = {"c", 1}, .history = history, .n_history = 2};
        kf_chat_in chat = {.messages = messages, .thinking = p->thinking != THINKING_OFF};
        chat.n_messages = lay_messages(p, &in, at, n, messages);
        if (kf_chat_render(p->chat, &chat, &prompt) == KF_OK) continue;
        char text[400];
        snprintf(text, sizeof text, "%s", kf_error_text());
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: a conversation %s cannot be rendered: %s", dir,
                       p->system ? "with prompt.json's system text" : "without a system text", text);
    }
    return KF_OK;
}

/* root: prompt.json; NULL: there is none. */
static kf_status open_chat(kf_prompt *p, const char *dir, const char *path, const json_t *root) {
    p->max_turns = KF_PROMPT_MAX_TURNS;
    KF_TRY(kf_chat_open(dir, p->tokenizer, &p->chat));
    if (root) KF_TRY(read_chat_settings(&(source){.path = path, .root = root, .tokenizer = p->tokenizer}, p));
    int32_t eos = kf_chat_eos(p->chat);
    if (eos >= 0) p->stops[p->n_stops++] = eos;
    return try_chat(p, dir);
}

/* A form that nobody wrote down would be a guess, and the replies nonsense. */
static kf_status no_form(const char *path) {
    return KF_FAIL(KF_ERR_NOT_FOUND,
                   "%s: no such file, and no chat_template beside it; write down there what a prompt of this decoder "
                   "is made of, or {\"earlier_turn\": [], \"present_turn\": [\"text\"]} for the text alone",
                   path);
}

static bool has_either(const json_t *root, const char *a, const char *b) {
    return json_object_get(root, a) || json_object_get(root, b);
}

static kf_status read_any(kf_prompt *p, const char *dir, const char *path) {
    json_t *root;
    KF_TRY(kf_json_read_optional(path, KF_JSON_BYTES_MAX, JSON_REJECT_DUPLICATES, &root));
    source in = {.path = path, .root = root, .tokenizer = p->tokenizer};
    kf_status s = KF_ERR_NOT_FOUND;
    if (!has_either(root, "earlier_turn", "present_turn")) s = open_chat(p, dir, path, root);
    if (s == KF_ERR_NOT_FOUND) {
        if (!root)
            s = no_form(path);
        else if (has_either(root, "system", "thinking"))
            s = KF_FAIL(KF_ERR_CORRUPT, "%s is for a chat_template, and there is none beside it", path);
        else
            s = read_form(&in, p);
    }
    json_decref(root);
    return s;
}

kf_status kf_prompt_open(const char *dir, const kf_tokenizer *t, kf_prompt **out) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/prompt.json", dir) >= (int)sizeof path)
        return KF_FAIL(KF_ERR_TOO_LARGE, "prompt: the path of the decoder's folder is over %zu bytes", sizeof path);
    kf_prompt *p = calloc(1, sizeof *p);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "prompt: no memory");
    p->tokenizer = t;
    kf_status s = read_any(p, dir, path);
    if (s == KF_OK) {
        *out = p;
    } else {
        kf_prompt_close(p);
    }
    return s;
}

static void free_labels(label_tokens *t) {
    for (size_t i = 0; i < t->n; i++)
        free(t->labels[i]);
    free(t->labels);
    free(t->ids);
}

void kf_prompt_close(kf_prompt *p) {
    if (!p) return;
    free_labels(&p->intent);
    free_labels(&p->sentiment);
    free_labels(&p->entity);
    kf_chat_close(p->chat);
    free(p->system);
    free(p);
}
