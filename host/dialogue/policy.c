/* The policy of policy.h. */
#include "dialogue/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/utf8.h"

static const char first_mark[] = "{first}", second_mark[] = "{second}", thing_mark[] = "{thing}";

/* ---- deciding ---- */

static const kf_policy_intent *intent_of(const kf_policy *p, const char *label) {
    for (size_t i = 0; i < p->n_intents; i++)
        if (!strcmp(p->intents[i].label, label)) return &p->intents[i];
    return NULL;
}

static const char *title_of(const kf_policy *p, const char *label) {
    const kf_policy_intent *intent = intent_of(p, label);
    return intent ? intent->title : NULL;
}

static bool contains(kf_str text, const char *word) {
    return memmem(text.s, text.n, word, strlen(word)) != NULL;
}

static bool called_by_name(const kf_policy *p, kf_str text) {
    for (size_t i = 0; i < p->n_bot_names; i++)
        if (contains(text, p->bot_names[i])) return true;
    return false;
}

/* The bot's last turn was a question back: the policy's words stand in it, the last ones at its end. */
static bool asked_before(const kf_policy *p, const kf_turn *history, size_t n_history) {
    if (n_history == 0 || history[n_history - 1].role != KF_ROLE_ASSISTANT || !p->ask_back) return false;
    kf_str t = history[n_history - 1].text;
    size_t n_head = (size_t)(strstr(p->ask_back, first_mark) - p->ask_back);
    const char *tail = strstr(p->ask_back, second_mark) + strlen(second_mark);
    size_t n_tail = strlen(tail);
    return memmem(t.s, t.n, p->ask_back, n_head) && t.n >= n_tail && !memcmp(t.s + t.n - n_tail, tail, n_tail);
}

void kf_policy_decide(const kf_policy *p, const kf_policy_in *in, kf_decision *out) {
    *out = (kf_decision){.move = KF_MOVE_WRITE};
    if (in->n_history && in->history[in->n_history - 1].role == KF_ROLE_AGENT && !called_by_name(p, in->text)) {
        *out = (kf_decision){.move = KF_MOVE_SILENT, .handoff = KF_HANDOFF_AGENT_HAS_IT};
        return;
    }
    if (!in->can_write) {
        *out = (kf_decision){.move = KF_MOVE_SILENT, .handoff = KF_HANDOFF_NO_DECODER};
        return;
    }
    const kf_understanding *u = in->understood;
    if (!u || u->n_intents == 0) return;
    const kf_policy_intent *first = intent_of(p, u->intents[0].label);
    if (first && first->handoff && (double)u->intents[0].score >= p->handoff_from) {
        out->handoff = first->handoff;
        return;
    }
    if ((double)u->confidence >= p->ask_back_below) return;
    if (asked_before(p, in->history, in->n_history)) {
        out->handoff = KF_HANDOFF_LOW_CONFIDENCE;
    } else {
        out->move = KF_MOVE_ASK_BACK;
    }
}

/* ---- the question back ---- */

static bool is_type(const kf_entity *e, const char *type) {
    return !strcmp(e->type, type);
}

/* What the customer named, in the customer's words: the first product with the brand and attributes right before it
 * (黑色的保温杯), else the first attribute of more than one character. Empty where neither was named. */
static kf_str thing_named(kf_str text, const kf_understanding *u) {
    size_t at = 0;
    while (at < u->n_entities && !is_type(&u->entities[at], "product"))
        at++;
    if (at == u->n_entities) {
        for (size_t i = 0; i < u->n_entities; i++)
            if (is_type(&u->entities[i], "attribute") && u->entities[i].end - u->entities[i].start > 1)
                return u->entities[i].text;
        return (kf_str){.s = ""};
    }
    int32_t start = u->entities[at].start, end = u->entities[at].end;
    for (size_t i = at; i-- > 0 && u->entities[i].end + 1 >= start;) /* at most one 的 between */
        if (is_type(&u->entities[i], "attribute") || is_type(&u->entities[i], "brand")) start = u->entities[i].start;
    size_t from = kf_utf8_offset(text.s, text.n, (size_t)start);
    return (kf_str){.s = text.s + from, .n = kf_utf8_offset(text.s, text.n, (size_t)end) - from};
}

static void put(char *out, size_t *n, const char *text, size_t n_bytes) {
    memcpy(out + *n, text, n_bytes);
    *n += n_bytes;
}

/* The form up to its mark, the word in the mark's place; returns what of the form is left. */
static const char *put_to_mark(char *out, size_t *n, const char *form, const char *mark, kf_str word) {
    const char *at = strstr(form, mark);
    put(out, n, form, (size_t)(at - form));
    put(out, n, word.s, word.n);
    return at + strlen(mark);
}

bool kf_policy_question(const kf_policy *p, kf_str text, const kf_understanding *u, kf_arena *arena, kf_str *out) {
    if (!p->ask_back || !u || u->n_intents < 2) return false;
    const char *first = title_of(p, u->intents[0].label), *second = title_of(p, u->intents[1].label);
    if (!first || !second) return false;
    kf_str thing = p->about ? thing_named(text, u) : (kf_str){.s = ""};
    size_t n_about = thing.n ? strlen(p->about) + thing.n : 0;
    char *question = kf_arena_alloc(arena, n_about + strlen(p->ask_back) + strlen(first) + strlen(second) + 1);
    if (!question) return false;
    size_t n = 0;
    if (thing.n) {
        const char *rest = put_to_mark(question, &n, p->about, thing_mark, thing);
        put(question, &n, rest, strlen(rest));
    }
    const char *rest = put_to_mark(question, &n, p->ask_back, first_mark, (kf_str){first, strlen(first)});
    rest = put_to_mark(question, &n, rest, second_mark, (kf_str){second, strlen(second)});
    put(question, &n, rest, strlen(rest));
    question[n] = 0;
    *out = (kf_str){.s = question, .n = n};
    return true;
}

bool kf_policy_reply_ok(kf_str text) {
    if (!kf_utf8_valid(text.s, text.n, NULL)) return false;
    if (contains(text, "<|") && contains(text, "|>")) return false;
    for (size_t at = 0; at < text.n;) {
        uint32_t cp = kf_utf8_next(text.s, &at);
        if (cp > ' ' && cp != 0x3000 && cp != 0xA0 && cp != 0xFFFD) return true;
    }
    return false;
}

/* ---- loading ---- */

/* The reason of that name that an intent may have; none for another name. */
static kf_handoff_reason known_reason(const char *name) {
    static const kf_handoff_reason reasons[] = {KF_HANDOFF_ASKED, KF_HANDOFF_COMPLAINT, KF_HANDOFF_LOW_CONFIDENCE,
                                                KF_HANDOFF_OTHER};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (!strcmp(name, kf_handoff_name(reasons[i]))) return reasons[i];
    return KF_HANDOFF_NONE;
}

static kf_status copy_string(const char *path, const char *field, const json_t *v, char **out) {
    if (!json_is_string(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a string", path, field);
    *out = strdup(json_string_value(v));
    return *out ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %s", path, field);
}

static kf_status add_intent(kf_policy *p, const char *path, const char *label, kf_handoff_reason reason) {
    if (p->n_intents == KF_POLICY_MAX_INTENTS)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: more than %d intents", path, KF_POLICY_MAX_INTENTS);
    kf_policy_intent *intent = &p->intents[p->n_intents++];
    *intent = (kf_policy_intent){.label = strdup(label), .handoff = reason};
    return intent->label ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for an intent", path);
}

static kf_status read_intent(kf_policy *p, const char *path, const char *label, const json_t *v) {
    static const char *const keys[] = {"title", "handoff", NULL};
    KF_TRY(kf_json_only(v, path, label, keys));
    KF_TRY(add_intent(p, path, label, KF_HANDOFF_NONE));
    kf_policy_intent *intent = &p->intents[p->n_intents - 1];
    const json_t *title = json_object_get(v, "title"), *handoff = json_object_get(v, "handoff");
    if (title) KF_TRY(copy_string(path, "an intent's title", title, &intent->title));
    if (!handoff) return KF_OK;
    intent->handoff = json_is_string(handoff) ? known_reason(json_string_value(handoff)) : KF_HANDOFF_NONE;
    if (!intent->handoff) // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): p has the label
        return KF_FAIL(KF_ERR_CORRUPT, "%s: handoff of %s must be asked, complaint, low_confidence or other", path,
                       label);
    return KF_OK;
}

static kf_status read_number(const char *path, const json_t *root, const char *field, double *out) {
    const json_t *v = json_object_get(root, field);
    if (!v) return KF_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= 0 && x <= 1))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a number from 0 to 1", path, field);
    *out = x;
    return KF_OK;
}

static kf_status read_question(kf_policy *p, const char *path, const json_t *root) {
    const json_t *question = json_object_get(root, "ask_back"), *about = json_object_get(root, "ask_back_about");
    if (question) {
        KF_TRY(copy_string(path, "ask_back", question, &p->ask_back));
        const char *first = strstr(p->ask_back, first_mark), *second = strstr(p->ask_back, second_mark);
        if (!first || !second || second < first)
            return KF_FAIL(KF_ERR_CORRUPT, "%s: ask_back must hold %s and after it %s", path, first_mark, second_mark);
    }
    if (!about) return KF_OK;
    KF_TRY(copy_string(path, "ask_back_about", about, &p->about));
    if (!strstr(p->about, thing_mark))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: ask_back_about must hold %s", path, thing_mark);
    return KF_OK;
}

static kf_status read_names(kf_policy *p, const char *path, const json_t *names) {
    if (!names) return KF_OK;
    size_t n = json_array_size(names);
    if (!json_is_array(names)) return KF_FAIL(KF_ERR_CORRUPT, "%s: bot_names must be a list", path);
    if (n > KF_POLICY_MAX_NAMES)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: %zu bot_names, at most %d are kept", path, n, KF_POLICY_MAX_NAMES);
    for (; p->n_bot_names < n; p->n_bot_names++)
        KF_TRY(copy_string(path, "bot_names", json_array_get(names, p->n_bot_names), &p->bot_names[p->n_bot_names]));
    return KF_OK;
}

static kf_status read_policy(kf_policy *p, const char *path, json_t *root) {
    static const char *const keys[] = {"ask_back_below", "handoff_from", "ask_back", "ask_back_about",
                                       "bot_names",      "intents",      NULL};
    KF_TRY(kf_json_only(root, path, "the policy", keys));
    KF_TRY(read_number(path, root, "ask_back_below", &p->ask_back_below));
    KF_TRY(read_number(path, root, "handoff_from", &p->handoff_from));
    KF_TRY(read_question(p, path, root));
    KF_TRY(read_names(p, path, json_object_get(root, "bot_names")));
    json_t *intents = json_object_get(root, "intents"), *v;
    if (intents && !json_is_object(intents)) return KF_FAIL(KF_ERR_CORRUPT, "%s: intents must be an object", path);
    const char *label;
    json_object_foreach(intents, label, v) KF_TRY(read_intent(p, path, label, v));
    return KF_OK;
}

static kf_status read_defaults(kf_policy *p, const char *path) {
    KF_TRY(add_intent(p, path, "human_agent", KF_HANDOFF_ASKED));
    return add_intent(p, path, "complaint", KF_HANDOFF_COMPLAINT);
}

kf_status kf_policy_load(const char *path, kf_policy *out) {
    kf_policy p = {.ask_back_below = 0.25, .handoff_from = 0.5};
    json_t *root = NULL;
    kf_status s = kf_json_read_optional(path, KF_JSON_BYTES_MAX, JSON_REJECT_DUPLICATES, &root);
    KF_STEP(s, root ? read_policy(&p, path, root) : read_defaults(&p, path));
    json_decref(root);
    if (s == KF_OK) {
        *out = p;
    } else {
        kf_policy_free(&p);
    }
    return s;
}

void kf_policy_free(kf_policy *p) {
    for (size_t i = 0; i < p->n_intents; i++) {
        free(p->intents[i].label);
        free(p->intents[i].title);
    }
    for (size_t i = 0; i < p->n_bot_names; i++)
        free(p->bot_names[i]);
    free(p->ask_back);
    free(p->about);
    *p = (kf_policy){0};
}
