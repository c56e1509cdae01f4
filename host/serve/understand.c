/* Softmax over the sequence heads, spans over the token heads; see understand.h. */
#include "serve/understand.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/stopwords.h"
#include "text/utf8.h"

/* p = softmax(z) of one label. */
static float probability(const float *z, size_t n, size_t at) {
    float max = z[0];
    for (size_t i = 1; i < n; i++)
        max = z[i] > max ? z[i] : max;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)z[i] - (double)max);
    return (float)(exp((double)z[at] - (double)max) / sum);
}

/* The KF_MAX_INTENTS best labels, best first; of equal ones the first. */
static size_t best_labels(const float *z, size_t n, size_t out[KF_MAX_INTENTS]) {
    size_t n_out = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = n_out;
        while (at > 0 && z[i] > z[out[at - 1]])
            at--;
        if (at == KF_MAX_INTENTS) continue;
        if (n_out < KF_MAX_INTENTS) n_out++;
        memmove(out + at + 1, out + at, (n_out - 1 - at) * sizeof *out);
        out[at] = i;
    }
    return n_out;
}

/* Share of the text's tokens that the model knows: of a noisy text little can be relied on. */
static float known_share(const kf_understander *u, const kf_understand_in *in) {
    size_t n = 0, n_known = 0;
    for (size_t i = 0; i < in->n_tokens; i++) {
        if (in->start[i] == in->end[i]) continue; /* a special token of ours */
        n++;
        n_known += in->ids[i] != u->unk_id;
    }
    return n ? (float)n_known / (float)n : 0;
}

static bool all_finite(const float *z, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(z[i])) return false;
    return true;
}

static kf_status not_finite(const kf_head *head) {
    return KF_FAIL(KF_ERR_CORRUPT, "head %s: NaN or Inf in its logits", head->name);
}

static kf_status understand_intents(const kf_understander *u, const kf_understand_in *in, kf_arena *arena,
                                    kf_understanding *out) {
    if (u->intent < 0) return KF_OK;
    const kf_head *head = kf_bert_head(u->model, (size_t)u->intent);
    const float *z = kf_bert_logits(in->pass, (size_t)u->intent, in->seq_idx);
    if (!all_finite(z, head->n_labels)) return not_finite(head);
    size_t best[KF_MAX_INTENTS], n = best_labels(z, head->n_labels, best);
    kf_label *intents = kf_arena_calloc(arena, n, sizeof *intents);
    if (!intents) return KF_FAIL(KF_ERR_NO_MEMORY, "understanding: the job's arena has no room for %zu intents", n);
    for (size_t i = 0; i < n; i++)
        intents[i] = (kf_label){.label = head->labels[best[i]], .score = probability(z, head->n_labels, best[i])};
    out->intents = intents;
    out->n_intents = n;
    out->confidence = intents[0].score * known_share(u, in);
    return KF_OK;
}

static kf_status understand_sentiment(const kf_understander *u, const kf_understand_in *in, kf_understanding *out) {
    if (u->sentiment < 0) return KF_OK;
    const kf_head *head = kf_bert_head(u->model, (size_t)u->sentiment);
    const float *z = kf_bert_logits(in->pass, (size_t)u->sentiment, in->seq_idx);
    if (!all_finite(z, head->n_labels)) return not_finite(head);
    size_t best[KF_MAX_INTENTS] = {0};
    best_labels(z, head->n_labels, best);
    out->sentiment = (kf_label){.label = head->labels[best[0]], .score = probability(z, head->n_labels, best[0])};
    return KF_OK;
}

/* ---- the value of an entity ---- */

/* 1 to 9 for 一 … 九 and 两, 0 for anything else. */
static unsigned numeral(uint32_t cp) {
    static const uint32_t numerals[] = {0x4E00, 0x4E8C, 0x4E09, 0x56DB, 0x4E94, 0x516D, 0x4E03, 0x516B, 0x4E5D};
    for (unsigned i = 0; i < sizeof numerals / sizeof *numerals; i++)
        if (cp == numerals[i]) return i + 1;
    return cp == 0x4E24 ? 2 : 0; /* 两 */
}

/* The numeral that a count begins with where it stands alone before its unit: 两件, and not 一百 or 三五斤. */
static unsigned lone_numeral(const kf_entity *e) {
    static const uint32_t tens[] = {0x5341, 0x767E, 0x5343, 0x4E07}; /* 十百千万 */
    if (strcmp(e->type, "quantity") && strcmp(e->type, "price") && strcmp(e->type, "size")) return 0;
    size_t at = 0;
    unsigned first = numeral(kf_utf8_next(e->text.s, &at));
    if (!first || at == e->text.n) return 0;
    uint32_t next = kf_utf8_next(e->text.s, &at);
    for (size_t i = 0; i < sizeof tens / sizeof *tens; i++)
        if (next == tens[i]) return 0;
    return numeral(next) ? 0 : first;
}

/* Full-width characters become half-width, a lone numeral a digit. "" where that changes nothing. */
static bool normal_form(const kf_entity *e, kf_arena *arena, kf_str *out) {
    size_t n = 0, at = 0;
    char *value = kf_arena_alloc(arena, e->text.n + 1);
    if (!value) return false;
    unsigned digit = lone_numeral(e);
    if (digit) {
        kf_utf8_next(e->text.s, &at);
        value[n++] = (char)('0' + digit);
    }
    while (at < e->text.n) {
        uint32_t cp = kf_utf8_next(e->text.s, &at);
        n += kf_utf8_put(cp >= 0xFF01 && cp <= 0xFF5E ? cp - 0xFEE0 : cp, value + n);
    }
    bool changed = n != e->text.n || memcmp(value, e->text.s, n);
    value[changed ? n : 0] = 0;
    *out = (kf_str){.s = value, .n = changed ? n : 0};
    return true;
}

/* ---- spans ---- */

/* The spans of a token head over the text's own tokens, into u->spans: those with a span in the text; the model's
 * special ones stand around them. */
static kf_status find_spans(kf_understander *u, const kf_understand_in *in, int head_idx, const kf_tag_set *tags,
                            size_t *n_spans) {
    const kf_head *head = kf_bert_head(u->model, (size_t)head_idx);
    size_t first = 0, last = in->n_tokens;
    while (first < last && in->start[first] == in->end[first])
        first++;
    while (last > first && in->start[last - 1] == in->end[last - 1])
        last--;
    for (size_t i = first; i < last; i++) {
        const float *z = kf_bert_logits(in->pass, (size_t)head_idx, in->first_row + i);
        if (!all_finite(z, head->n_labels)) return not_finite(head);
        memcpy(u->logits + (i - first) * head->n_labels, z, head->n_labels * sizeof *z);
    }
    *n_spans = 0;
    if (first == last) return KF_OK;
    kf_span_input input = {u->logits, last - first, in->start + first, in->end + first};
    return kf_spans_find(tags, &input, u->path, u->spans, u->max_seqlen, n_spans);
}

/* Walks forward through a text; spans come in its order. */
typedef struct cursor {
    kf_str text;
    int32_t cp;
    size_t byte;
} cursor;

static size_t advance(cursor *c, int32_t cp) {
    while (c->cp < cp && c->byte < c->text.n) {
        kf_utf8_next(c->text.s, &c->byte);
        c->cp++;
    }
    return c->byte;
}

/* Copies of the spans' words, each with its NUL, laid end to end in one piece of the arena. */
typedef struct copies {
    cursor at;
    char *next;
} copies;

static bool begin_copies(copies *c, kf_str text, size_t n_spans, kf_arena *arena) {
    *c = (copies){.at = {.text = text}, .next = kf_arena_alloc(arena, text.n + n_spans)};
    return c->next != NULL;
}

static kf_str copy_span(copies *c, const kf_span *span) {
    size_t from = advance(&c->at, span->start), to = advance(&c->at, span->end);
    kf_str out = {.s = c->next, .n = to - from};
    memcpy(c->next, c->at.text.s + from, out.n);
    c->next[out.n] = 0;
    c->next += out.n + 1;
    return out;
}

static kf_status understand_words(kf_understander *u, const kf_understand_in *in, kf_arena *arena,
                                  kf_understanding *out) {
    if (u->words < 0) return KF_OK;
    size_t n;
    copies c;
    KF_TRY(find_spans(u, in, u->words, &u->word_tags, &n));
    kf_word *words = kf_arena_calloc(arena, n, sizeof *words);
    if (!words || !begin_copies(&c, in->text, n, arena))
        return KF_FAIL(KF_ERR_NO_MEMORY, "understanding: the job's arena has no room for %zu words", n);
    for (size_t i = 0; i < n; i++) {
        const kf_span *span = &u->spans[i];
        kf_str text = copy_span(&c, span);
        words[i] = (kf_word){
            .text = text,
            .pos = span->type,
            .stop_word = kf_is_stop_word(text.s, text.n),
            .start = span->start,
            .end = span->end,
        };
    }
    out->words = words;
    out->n_words = n;
    return KF_OK;
}

static kf_status understand_entities(kf_understander *u, const kf_understand_in *in, kf_arena *arena,
                                     kf_understanding *out) {
    if (u->entities < 0) return KF_OK;
    size_t n;
    copies c;
    KF_TRY(find_spans(u, in, u->entities, &u->entity_tags, &n));
    kf_entity *entities = kf_arena_calloc(arena, n, sizeof *entities);
    if (!entities || !begin_copies(&c, in->text, n, arena))
        return KF_FAIL(KF_ERR_NO_MEMORY, "understanding: the job's arena has no room for %zu entities", n);
    for (size_t i = 0; i < n; i++) {
        const kf_span *span = &u->spans[i];
        entities[i] = (kf_entity){
            .type = span->type,
            .text = copy_span(&c, span),
            .start = span->start,
            .end = span->end,
            .score = span->score,
        };
        if (!normal_form(&entities[i], arena, &entities[i].value))
            return KF_FAIL(KF_ERR_NO_MEMORY, "understanding: the job's arena has no room for an entity's value");
    }
    out->entities = entities;
    out->n_entities = n;
    return KF_OK;
}

kf_status kf_understand(kf_understander *u, const kf_understand_in *in, kf_arena *arena, kf_understanding *out) {
    kf_understanding made = {0};
    KF_TRY(understand_intents(u, in, arena, &made));
    KF_TRY(understand_sentiment(u, in, &made));
    KF_TRY(understand_words(u, in, arena, &made));
    KF_TRY(understand_entities(u, in, arena, &made));
    *out = made;
    return KF_OK;
}

/* ---- at start ---- */

static int find_head(const kf_bert *m, const char *name, kf_head_kind kind) {
    int idx = kf_bert_head_find(m, name);
    return idx >= 0 && kf_bert_head(m, (size_t)idx)->kind == kind ? idx : -1;
}

/* The head's labels as tags; the scratch grows to what it needs. */
static kf_status init_tags(kf_understander *u, int head_idx, kf_tag_set *tags, size_t *max_labels, size_t *path_bytes) {
    if (head_idx < 0) return KF_OK;
    const kf_head *head = kf_bert_head(u->model, (size_t)head_idx);
    KF_TRY(kf_tag_set_init(tags, (const char *const *)head->labels, head->n_labels));
    size_t bytes = kf_spans_scratch_bytes(tags, u->max_seqlen);
    if (bytes > *path_bytes) *path_bytes = bytes;
    if (head->n_labels > *max_labels) *max_labels = head->n_labels;
    return KF_OK;
}

kf_status kf_understander_init(kf_understander *u, const kf_bert *m, const kf_tokenizer *t) {
    size_t max_labels = 1, path_bytes = 1;
    *u = (kf_understander){
        .model = m,
        .unk_id = kf_tokenizer_id(t, "[UNK]"),
        .intent = find_head(m, "intent", KF_HEAD_SEQUENCE),
        .sentiment = find_head(m, "sentiment", KF_HEAD_SEQUENCE),
        .entities = find_head(m, "entities", KF_HEAD_TOKEN),
        .words = find_head(m, "words", KF_HEAD_TOKEN),
        .max_seqlen = kf_bert_config(m)->max_positions,
    };
    if (u->intent < 0) u->intent = find_head(m, "classifier", KF_HEAD_SEQUENCE);
    KF_TRY(init_tags(u, u->entities, &u->entity_tags, &max_labels, &path_bytes));
    KF_TRY(init_tags(u, u->words, &u->word_tags, &max_labels, &path_bytes));
    u->logits = calloc(u->max_seqlen * max_labels, sizeof *u->logits);
    u->path = calloc(1, path_bytes);
    u->spans = calloc(u->max_seqlen, sizeof *u->spans);
    if (u->logits && u->path && u->spans) return KF_OK;
    kf_understander_free(u);
    return KF_FAIL(KF_ERR_NO_MEMORY, "understanding: no memory for texts of %zu tokens",
                   kf_bert_config(m)->max_positions);
}

void kf_understander_free(kf_understander *u) {
    free(u->logits);
    free(u->path);
    free(u->spans);
    *u = (kf_understander){0};
}
