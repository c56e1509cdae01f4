/* Reads a labelled set. Every refusal names file, line and field, and quotes nothing of the text. */
#include "cli/eval_data.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/lines.h"
#include "text/utf8.h"

enum { ITEMS_MAX = 4096 }; /* entities or words of one line */

/* The line that is being read, for messages. */
typedef struct where {
    const char *path;
    size_t line_no;
} where;

__attribute__((format(printf, 2, 3))) static kf_status refuse(const where *w, const char *fmt, ...) {
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: %s", w->path, w->line_no, what);
}

static kf_status no_memory(const where *w) {
    return KF_FAIL(KF_ERR_NO_MEMORY, "%s, line %zu: no memory", w->path, w->line_no);
}

/* An optional string field that is not empty. */
static kf_status read_string(const where *w, json_t *line, const char *field, const char **out) {
    json_t *value = json_object_get(line, field);
    if (!value || json_is_null(value)) return KF_OK;
    if (json_string_length(value) == 0) return refuse(w, "\"%s\" must be a string that is not empty", field);
    *out = json_string_value(value);
    return KF_OK;
}

/* An optional list; *out NULL where it is absent. */
static kf_status read_list(const where *w, json_t *line, const char *field, json_t **out) {
    json_t *list = json_object_get(line, field);
    if (list && !json_is_null(list) && (!json_is_array(list) || json_array_size(list) > ITEMS_MAX))
        return refuse(w, "\"%s\" must be a list of at most %d items", field, ITEMS_MAX);
    *out = json_is_array(list) ? list : NULL;
    return KF_OK;
}

static kf_status read_also(const where *w, kf_gold *g) {
    json_t *list = NULL;
    KF_TRY(read_list(w, g->line, "also", &list));
    size_t n = json_array_size(list);
    if (n == 0) return KF_OK;
    if (!g->intent) return refuse(w, "\"also\" says what counts as right beside \"intent\", which is not there");
    g->also = calloc(n, sizeof *g->also);
    if (!g->also) return no_memory(w);
    for (; g->n_also < n; g->n_also++) {
        const char *label = json_string_value(json_array_get(list, g->n_also));
        if (!label) return refuse(w, "\"also\" must be a list of strings");
        g->also[g->n_also] = label;
    }
    return KF_OK;
}

static kf_status read_entities(const where *w, kf_gold *g, size_t n_chars) {
    json_t *list = NULL;
    KF_TRY(read_list(w, g->line, "entities", &list));
    if (!list) return KF_OK;
    g->has_entities = true;
    g->entities = calloc(json_array_size(list) + 1, sizeof *g->entities);
    if (!g->entities) return no_memory(w);
    for (; g->n_entities < json_array_size(list); g->n_entities++) {
        json_t *item = json_array_get(list, g->n_entities);
        json_t *start = json_object_get(item, "start"), *end = json_object_get(item, "end");
        const char *type = json_string_value(json_object_get(item, "type"));
        if (!type || !json_is_integer(start) || !json_is_integer(end))
            return refuse(w, "an entity must have \"type\" (a string), \"start\" and \"end\" (integers)");
        json_int_t from = json_integer_value(start), to = json_integer_value(end);
        if (from < 0 || to <= from || (uint64_t)to > n_chars)
            return refuse(w, "entity [%lld, %lld) does not lie in the text of %zu code points", (long long)from,
                          (long long)to, n_chars);
        g->entities[g->n_entities] = (kf_eval_span){(int32_t)from, (int32_t)to, type};
    }
    return KF_OK;
}

/* Skips white space of the text; *at in bytes, *cp in code points. */
static void skip_space(const kf_gold *g, size_t *at, size_t *cp) {
    while (*at < g->n_bytes) {
        size_t next = *at;
        uint32_t c = kf_utf8_next(g->text, &next);
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != 0xA0 && c != 0x3000) return;
        *at = next;
        ++*cp;
    }
}

/* Finds the words in the text, one after another. */
static kf_status place_words(const where *w, kf_gold *g, json_t *words, json_t *pos) {
    size_t at = 0, cp = 0;
    for (; g->n_words < json_array_size(words); g->n_words++) {
        json_t *item = json_array_get(words, g->n_words);
        const char *word = json_string_value(item);
        size_t n = json_string_length(item);
        if (n == 0) return refuse(w, "word %zu of \"words\" must be a string that is not empty", g->n_words + 1);
        if (strncmp(g->text + at, word, n) != 0) skip_space(g, &at, &cp);
        if (strncmp(g->text + at, word, n) != 0)
            return refuse(w, "word %zu of \"words\" is not what the text has at code point %zu", g->n_words + 1, cp);
        const char *tag = pos ? json_string_value(json_array_get(pos, g->n_words)) : "";
        if (!tag) return refuse(w, "\"pos\" must be a list of strings");
        size_t end = cp + kf_utf8_length(word, n);
        g->words[g->n_words] = (kf_eval_span){(int32_t)cp, (int32_t)end, tag};
        at += n;
        cp = end;
    }
    skip_space(g, &at, &cp);
    if (at < g->n_bytes) return refuse(w, "\"words\" end at code point %zu, the text goes on", cp);
    return KF_OK;
}

static kf_status read_words(const where *w, kf_gold *g) {
    json_t *words = NULL, *pos = NULL;
    KF_TRY(read_list(w, g->line, "words", &words));
    KF_TRY(read_list(w, g->line, "pos", &pos));
    if (pos && json_array_size(pos) != json_array_size(words))
        return refuse(w, "\"words\" has %zu items, \"pos\" has %zu: one tag a word wanted", json_array_size(words),
                      json_array_size(pos));
    if (!words) return KF_OK;
    g->has_pos = pos != NULL;
    g->words = calloc(json_array_size(words) + 1, sizeof *g->words);
    if (!g->words) return no_memory(w);
    return place_words(w, g, words, pos);
}

static void gold_free(kf_gold *g) {
    free(g->also);
    free(g->entities);
    free(g->words);
    json_decref(g->line);
}

static kf_status read_gold(const where *w, const char *bytes, size_t n_bytes, kf_gold *g) {
    json_error_t why;
    g->line_no = w->line_no;
    g->line = json_loadb(bytes, n_bytes, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(g->line)) return refuse(w, "not a JSON object%s%s", *why.text ? ": " : "", why.text);
    KF_TRY(read_string(w, g->line, "text", &g->text));
    if (!g->text) return refuse(w, "\"text\" is not there");
    g->n_bytes = json_string_length(json_object_get(g->line, "text"));
    KF_TRY(read_string(w, g->line, "intent", &g->intent));
    KF_TRY(read_string(w, g->line, "sentiment", &g->sentiment));
    KF_TRY(read_also(w, g));
    KF_TRY(read_entities(w, g, kf_utf8_length(g->text, g->n_bytes)));
    return read_words(w, g);
}

static kf_status read_all(kf_lines *in, kf_gold_set *set) {
    char *line;
    size_t n_bytes;
    kf_status s;
    while ((s = kf_lines_next(in, &line, &n_bytes)) == KF_OK) {
        if (set->n == set->cap) {
            size_t cap = set->cap ? 2 * set->cap : 256;
            kf_gold *grown = realloc(set->items, cap * sizeof *grown);
            if (!grown) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu lines", in->path, cap);
            set->items = grown;
            set->cap = cap;
        }
        kf_gold *g = &set->items[set->n++];
        *g = (kf_gold){0};
        KF_TRY(read_gold(&(where){in->path, in->line_no}, line, n_bytes, g));
    }
    if (s != KF_ERR_CLOSED) return s;
    return set->n ? KF_OK : KF_FAIL(KF_ERR_INVALID, "%s: no lines in it", in->path);
}

kf_status kf_gold_read(const char *path, kf_gold_set *out) {
    kf_lines in;
    kf_gold_set set = {0};
    KF_TRY(kf_lines_open(&in, path));
    kf_status s = read_all(&in, &set);
    kf_lines_close(&in);
    if (s == KF_OK)
        *out = set;
    else
        kf_gold_free(&set);
    return s;
}

void kf_gold_free(kf_gold_set *set) {
    for (size_t i = 0; i < set->n; i++)
        gold_free(&set->items[i]);
    free(set->items);
    *set = (kf_gold_set){0};
}
