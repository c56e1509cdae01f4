/* Tallies, F1 and its bootstrap, and how spans, words and classes are counted. Test: tests/unit/test_eval_score.c. */
#include "cli/eval_score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/sort.h"

enum { LABELS_MAX = 1024, RESAMPLES = 1000 };

/* ---- the tally ---- */

void kf_tally_init(kf_tally *t) {
    *t = (kf_tally){0};
}

void kf_tally_free(kf_tally *t) {
    for (size_t i = 0; i < t->n_labels; i++)
        free(t->labels[i]);
    free(t->labels);
    free(t->events);
    free(t->row_end);
    *t = (kf_tally){0};
}

static kf_status no_memory(size_t bytes) {
    return KF_FAIL(KF_ERR_NO_MEMORY, "scores: no memory for %zu bytes", bytes);
}

kf_status kf_tally_label(kf_tally *t, const char *name, uint32_t *out) {
    for (size_t i = 0; i < t->n_labels; i++) {
        if (strcmp(t->labels[i], name) != 0) continue;
        *out = (uint32_t)i;
        return KF_OK;
    }
    if (t->n_labels == LABELS_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "scores: at most %d different labels, and there are more", LABELS_MAX);
    if (!t->labels && !(t->labels = malloc(LABELS_MAX * sizeof *t->labels)))
        return no_memory(LABELS_MAX * sizeof *t->labels);
    char *copy = strdup(name);
    if (!copy) return no_memory(strlen(name) + 1);
    t->labels[t->n_labels] = copy;
    *out = (uint32_t)t->n_labels++;
    return KF_OK;
}

/* Room for one more of `size` bytes in *items, which has n of *cap. */
static kf_status grow(void **items, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return KF_OK;
    size_t more = *cap ? 2 * *cap : 256;
    void *grown = realloc(*items, more * size);
    if (!grown) return no_memory(more * size);
    *items = grown;
    *cap = more;
    return KF_OK;
}

kf_status kf_tally_add(kf_tally *t, uint32_t label, kf_outcome outcome, uint32_t n) {
    if (n == 0) return KF_OK;
    KF_TRY(grow((void **)&t->events, t->n_events, &t->events_cap, sizeof *t->events));
    t->events[t->n_events++] = (kf_tally_event){label, outcome, n};
    return KF_OK;
}

kf_status kf_tally_end_row(kf_tally *t) {
    KF_TRY(grow((void **)&t->row_end, t->n_rows, &t->rows_cap, sizeof *t->row_end));
    t->row_end[t->n_rows++] = t->n_events;
    return KF_OK;
}

static size_t row_start(const kf_tally *t, size_t row) {
    return row ? t->row_end[row - 1] : 0;
}

/* ---- from counts to figures ---- */

typedef struct counts {
    uint64_t of[KF_N_OUTCOMES];
} counts;

/* The figures of one set of counts: F1 of each label, then item accuracy, micro F1, macro F1. NaN: nothing to judge. */
enum { ITEM_ACCURACY, MICRO_F1, MACRO_F1, N_TOTALS };

static double f1_of(const counts *c) {
    uint64_t judged = 2 * c->of[KF_HIT] + c->of[KF_MISS] + c->of[KF_FALSE];
    return judged ? 2.0 * (double)c->of[KF_HIT] / (double)judged : NAN;
}

static void figures_of(const counts *c, size_t n_labels, double *out) {
    counts all = {0};
    double sum = 0;
    size_t n_defined = 0;
    for (size_t i = 0; i < n_labels; i++) {
        for (size_t k = 0; k < KF_N_OUTCOMES; k++)
            all.of[k] += c[i].of[k];
        out[i] = f1_of(&c[i]);
        if (isnan(out[i])) continue;
        sum += out[i];
        n_defined++;
    }
    uint64_t n_gold = all.of[KF_HIT] + all.of[KF_MISS];
    out[n_labels + ITEM_ACCURACY] = n_gold ? (double)all.of[KF_HIT] / (double)n_gold : NAN;
    out[n_labels + MICRO_F1] = f1_of(&all);
    out[n_labels + MACRO_F1] = n_defined ? sum / (double)n_defined : NAN;
}

static void add_row(const kf_tally *t, size_t row, counts *c) {
    for (size_t e = row_start(t, row); e < t->row_end[row]; e++)
        c[t->events[e].label].of[t->events[e].outcome] += t->events[e].n;
}

/* Percentiles 2.5 and 97.5 of the defined ones of n samples. */
static void percentiles(double *samples, size_t n, kf_estimate *e) {
    size_t n_defined = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(samples[i])) samples[n_defined++] = samples[i];
    if (!n_defined) return;
    kf_sort_f64(samples, n_defined);
    e->lo = samples[(size_t)(0.025 * (double)(n_defined - 1) + 0.5)];
    e->hi = samples[(size_t)(0.975 * (double)(n_defined - 1) + 0.5)];
}

/* Resamples the rows; writes value and interval of each figure into out [n_labels + N_TOTALS]. */
static kf_status bootstrap(const kf_tally *t, const counts *whole, kf_estimate *out) {
    size_t n_figures = t->n_labels + N_TOTALS;
    counts *c = calloc(t->n_labels + 1, sizeof *c);
    double *samples = malloc(n_figures * RESAMPLES * sizeof *samples), *figures = malloc(n_figures * sizeof *figures);
    kf_status s = c && samples && figures ? KF_OK : no_memory(n_figures * RESAMPLES * sizeof *samples);
    uint64_t state = 20261124;
    for (size_t r = 0; s == KF_OK && r < RESAMPLES; r++) {
        memset(c, 0, t->n_labels * sizeof *c);
        for (size_t i = 0; i < t->n_rows; i++)
            add_row(t, kf_random_next(&state) % t->n_rows, c);
        figures_of(c, t->n_labels, figures);
        for (size_t f = 0; f < n_figures; f++)
            samples[f * RESAMPLES + r] = figures[f];
    }
    if (s == KF_OK) {
        figures_of(whole, t->n_labels, figures);
        for (size_t f = 0; f < n_figures; f++) {
            out[f] = (kf_estimate){.value = isnan(figures[f]) ? 0 : figures[f]};
            percentiles(samples + f * RESAMPLES, RESAMPLES, &out[f]);
        }
    }
    free(c);
    free(samples);
    free(figures);
    return s;
}

kf_estimate kf_wilson(size_t k, size_t n) {
    if (n == 0) return (kf_estimate){0, 0, 1};
    const double z = 1.959963984540054, nn = (double)n, p = (double)k / nn;
    double centre = (p + z * z / (2 * nn)) / (1 + z * z / nn);
    double half = z / (1 + z * z / nn) * sqrt(p * (1 - p) / nn + z * z / (4 * nn * nn));
    return (kf_estimate){p, fmax(0, centre - half), fmin(1, centre + half)};
}

static bool row_is_right(const kf_tally *t, size_t row) {
    for (size_t e = row_start(t, row); e < t->row_end[row]; e++)
        if (t->events[e].outcome != KF_HIT) return false;
    return true;
}

static int by_frequency(const void *a, const void *b) {
    const kf_label_score *x = a, *y = b;
    if (x->n_gold != y->n_gold) return x->n_gold < y->n_gold ? 1 : -1;
    return strcmp(x->label, y->label);
}

static kf_label_score label_score(const char *label, const counts *c, kf_estimate f1) {
    uint64_t hits = c->of[KF_HIT], gold = hits + c->of[KF_MISS], said = hits + c->of[KF_FALSE];
    return (kf_label_score){.label = label,
                            .n_gold = gold,
                            .n_said = said,
                            .n_hits = hits,
                            .precision = said ? (double)hits / (double)said : 0,
                            .recall = gold ? (double)hits / (double)gold : 0,
                            .f1 = f1};
}

kf_status kf_tally_scores(const kf_tally *t, kf_scores *out) {
    size_t n_right = 0;
    kf_scores scores = {.n_rows = t->n_rows, .n_labels = t->n_labels};
    counts *whole = calloc(t->n_labels + 1, sizeof *whole);
    kf_estimate *e = calloc(t->n_labels + N_TOTALS, sizeof *e);
    scores.labels = calloc(t->n_labels + 1, sizeof *scores.labels);
    kf_status s = whole && e && scores.labels ? KF_OK : no_memory((t->n_labels + 1) * sizeof *scores.labels);
    for (size_t row = 0; s == KF_OK && row < t->n_rows; row++) {
        add_row(t, row, whole);
        n_right += row_is_right(t, row);
    }
    if (t->n_rows) KF_STEP(s, bootstrap(t, whole, e));
    if (s == KF_OK) {
        scores.row_accuracy = kf_wilson(n_right, t->n_rows);
        scores.item_accuracy = e[t->n_labels + ITEM_ACCURACY];
        scores.micro_f1 = e[t->n_labels + MICRO_F1];
        scores.macro_f1 = e[t->n_labels + MACRO_F1];
        for (size_t i = 0; i < t->n_labels; i++)
            scores.labels[i] = label_score(t->labels[i], &whole[i], e[i]);
        qsort(scores.labels, scores.n_labels, sizeof *scores.labels, by_frequency);
        *out = scores;
    } else {
        free(scores.labels);
    }
    free(whole);
    free(e);
    return s;
}

/* ---- confusions ---- */

static bool row_confusion(const kf_tally *t, size_t row, uint32_t *gold, uint32_t *said) {
    bool missed = false, wrong = false;
    for (size_t e = row_start(t, row); e < t->row_end[row]; e++) {
        if (t->events[e].outcome == KF_MISS) *gold = t->events[e].label, missed = true;
        if (t->events[e].outcome == KF_FALSE) *said = t->events[e].label, wrong = true;
    }
    return missed && wrong;
}

static int by_count(const void *a, const void *b) {
    const kf_confusion *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? 1 : -1;
    if (x->gold != y->gold) return x->gold < y->gold ? -1 : 1;
    return (x->said > y->said) - (x->said < y->said);
}

kf_status kf_tally_confusions(const kf_tally *t, kf_confusion **out, size_t *n) {
    kf_confusion *list = NULL;
    size_t n_list = 0, cap = 0;
    for (size_t row = 0; row < t->n_rows; row++) {
        uint32_t gold = 0, said = 0;
        if (!row_confusion(t, row, &gold, &said)) continue;
        size_t i = 0;
        while (i < n_list && (list[i].gold != gold || list[i].said != said))
            i++;
        if (i == n_list) {
            kf_status s = grow((void **)&list, n_list, &cap, sizeof *list);
            if (s != KF_OK) {
                free(list);
                return s;
            }
            list[n_list++] = (kf_confusion){gold, said, 0};
        }
        list[i].n++;
    }
    if (n_list) qsort(list, n_list, sizeof *list, by_count);
    *out = list;
    *n = n_list;
    return KF_OK;
}

/* ---- what is counted ---- */

kf_status kf_score_class(kf_tally *t, const char *gold, const char *const *also, size_t n_also, const char *said) {
    uint32_t gold_label, said_label;
    bool right = !strcmp(gold, said);
    for (size_t i = 0; i < n_also && !right; i++)
        right = !strcmp(also[i], said);
    KF_TRY(kf_tally_label(t, said, &said_label));
    if (right) {
        KF_TRY(kf_tally_add(t, said_label, KF_HIT, 1));
    } else {
        KF_TRY(kf_tally_label(t, gold, &gold_label));
        KF_TRY(kf_tally_add(t, gold_label, KF_MISS, 1));
        KF_TRY(kf_tally_add(t, said_label, KF_FALSE, 1));
    }
    return kf_tally_end_row(t);
}

static bool same_borders(const kf_eval_span *a, const kf_eval_span *b) {
    return a->start == b->start && a->end == b->end;
}

static bool same_span(const kf_eval_span *a, const kf_eval_span *b) {
    return same_borders(a, b) && !strcmp(a->label, b->label);
}

static size_t count_of(const kf_eval_span *list, size_t n, const kf_eval_span *span) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += same_span(&list[i], span);
    return count;
}

kf_status kf_score_spans(kf_tally *t, const kf_eval_span *gold, size_t n_gold, const kf_eval_span *said,
                         size_t n_said) {
    uint32_t label;
    for (size_t i = 0; i < n_gold; i++) { /* the k-th of equal spans is right if the k-th was said too */
        bool hit = count_of(gold, i, &gold[i]) < count_of(said, n_said, &gold[i]);
        KF_TRY(kf_tally_label(t, gold[i].label, &label));
        KF_TRY(kf_tally_add(t, label, hit ? KF_HIT : KF_MISS, 1));
    }
    for (size_t i = 0; i < n_said; i++) {
        if (count_of(said, i, &said[i]) < count_of(gold, n_gold, &said[i])) continue;
        KF_TRY(kf_tally_label(t, said[i].label, &label));
        KF_TRY(kf_tally_add(t, label, KF_FALSE, 1));
    }
    return kf_tally_end_row(t);
}

static bool number_and_measure(const kf_eval_span *words, size_t i, size_t n) {
    return i + 1 < n && words[i].end == words[i + 1].start && !strcmp(words[i].label, "m") &&
           !strcmp(words[i + 1].label, "q");
}

/* The first of `words` that starts at or after `start`, from *at on. */
static size_t seek(const kf_eval_span *words, size_t n, size_t at, int32_t start) {
    while (at < n && words[at].start < start)
        at++;
    return at;
}

/* What was said, in the gold's form where only 一件 or 一/件 is the difference. out: room for 2 * n_said words. */
static size_t as_gold_cuts(const kf_eval_span *gold, size_t n_gold, const kf_eval_span *said, size_t n_said,
                           kf_eval_span *out) {
    size_t n = 0, g = 0;
    for (size_t i = 0; i < n_said; i++) {
        const kf_eval_span *w = &said[i];
        g = seek(gold, n_gold, g, w->start);
        bool here = g < n_gold && gold[g].start == w->start;
        if (here && number_and_measure(gold, g, n_gold) && gold[g + 1].end == w->end) { /* 一件 said, 一/件 wanted */
            bool fits = !strcmp(w->label, "m") || !strcmp(w->label, "q") || !strcmp(w->label, "mq");
            out[n++] = (kf_eval_span){w->start, gold[g].end, fits ? gold[g].label : w->label};
            out[n++] = (kf_eval_span){gold[g].end, w->end, fits ? gold[g + 1].label : w->label};
        } else if (here && number_and_measure(said, i, n_said) && gold[g].end == said[i + 1].end) { /* the reverse */
            bool fits = !strcmp(gold[g].label, "q") || !strcmp(gold[g].label, "mq");
            out[n++] = (kf_eval_span){w->start, gold[g].end, fits ? gold[g].label : w->label};
            i++;
        } else {
            out[n++] = *w;
        }
    }
    return n;
}

/* Adds a message in which n_right of the words are right, and ends its row. */
static kf_status add_word_counts(kf_tally *t, uint32_t n_right, size_t n_gold, size_t n_said) {
    uint32_t word;
    KF_TRY(kf_tally_label(t, "word", &word));
    KF_TRY(kf_tally_add(t, word, KF_HIT, n_right));
    KF_TRY(kf_tally_add(t, word, KF_MISS, (uint32_t)n_gold - n_right));
    KF_TRY(kf_tally_add(t, word, KF_FALSE, (uint32_t)n_said - n_right));
    return kf_tally_end_row(t);
}

static kf_status add_tag(kf_tally *t, const char *gold, const char *said) {
    uint32_t label;
    bool hit = !strcmp(gold, said);
    KF_TRY(kf_tally_label(t, gold, &label));
    KF_TRY(kf_tally_add(t, label, hit ? KF_HIT : KF_MISS, 1));
    if (hit) return KF_OK;
    KF_TRY(kf_tally_label(t, said, &label));
    return kf_tally_add(t, label, KF_FALSE, 1);
}

static kf_status score_cuts(kf_word_tallies *t, bool with_tags, const kf_eval_span *gold, size_t n_gold,
                            const kf_eval_span *said, size_t n_said) {
    uint32_t n_cut = 0, n_tagged = 0;
    for (size_t i = 0, g = 0; i < n_said; i++) {
        g = seek(gold, n_gold, g, said[i].start);
        if (g == n_gold || !same_borders(&gold[g], &said[i])) continue;
        n_cut++;
        if (!with_tags) continue;
        n_tagged += !strcmp(gold[g].label, said[i].label);
        KF_TRY(add_tag(&t->tags, gold[g].label, said[i].label));
    }
    KF_TRY(add_word_counts(&t->cuts, n_cut, n_gold, n_said));
    if (!with_tags) return KF_OK;
    KF_TRY(add_word_counts(&t->tagged, n_tagged, n_gold, n_said));
    return kf_tally_end_row(&t->tags);
}

kf_status kf_score_words(kf_word_tallies *t, bool with_tags, const kf_eval_span *gold, size_t n_gold,
                         const kf_eval_span *said, size_t n_said) {
    kf_eval_span *form = malloc((2 * n_said + 1) * sizeof *form);
    if (!form) return no_memory((2 * n_said + 1) * sizeof *form);
    size_t n = as_gold_cuts(gold, n_gold, said, n_said, form);
    kf_status s = score_cuts(t, with_tags, gold, n_gold, form, n);
    free(form);
    return s;
}

void kf_word_tallies_free(kf_word_tallies *t) {
    kf_tally_free(&t->cuts);
    kf_tally_free(&t->tagged);
    kf_tally_free(&t->tags);
}
