/* The matrix of eval_plot.h. */
#include "cli/eval_plot.h"

#include <stdlib.h>

#include "cli/svg.h"

enum { CELL = 30, LEFT = 200, TOP = 70, MARGIN = 40 };

typedef struct matrix {
    const kf_scores *scores;
    size_t *of_label; /* [n_labels] of the tally: its place in the scores' order */
} matrix;

static void draw_cell(kf_svg *s, size_t gold, size_t said, uint64_t n, uint64_t n_row) {
    double x = LEFT + CELL * (double)said, y = TOP + CELL * (double)gold;
    char text[24];
    if (!n) return;
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    kf_svg_area(s, x + 1, y + 1, CELL - 2, CELL - 2, gold == said ? "c0" : "c1",
                0.08 + 0.62 * (n_row ? (double)n / (double)n_row : 1));
    kf_svg_text(s, x + CELL / 2.0, y + CELL / 2.0 + 4, "cell", text);
}

/* Columns have their rows' numbers: names would not fit above them. */
static void draw_frame(kf_svg *s, const kf_scores *scores) {
    double size = CELL * (double)scores->n_labels;
    for (size_t i = 0; i < scores->n_labels; i++) {
        char text[96];
        double at = CELL * ((double)i + 0.5);
        snprintf(text, sizeof text, "%.60s  %zu", scores->labels[i].label, i + 1);
        kf_svg_text(s, LEFT - 8, TOP + at + 4, "label", text);
        snprintf(text, sizeof text, "%zu", i + 1);
        kf_svg_text(s, LEFT + at, TOP - 8, "axis", text);
    }
    for (size_t i = 0; i <= scores->n_labels; i++) {
        double at = CELL * (double)i;
        kf_svg_line(s, LEFT, TOP + at, LEFT + size, TOP + at, "grid");
        kf_svg_line(s, LEFT + at, TOP, LEFT + at, TOP + size, "grid");
    }
}

static kf_status place_labels(const kf_tally *t, matrix *m) {
    m->of_label = calloc(t->n_labels + 1, sizeof *m->of_label);
    if (!m->of_label) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu labels", t->n_labels);
    for (size_t i = 0; i < t->n_labels; i++)
        for (size_t k = 0; k < m->scores->n_labels; k++)
            if (m->scores->labels[k].label == t->labels[i]) m->of_label[i] = k;
    return KF_OK;
}

static kf_status draw(const char *path, const char *what, const kf_scores *scores, const matrix *m,
                      const kf_confusion *list, size_t n) {
    kf_svg s;
    char text[128];
    double size = CELL * (double)scores->n_labels;
    KF_TRY(kf_svg_open(path, LEFT + size + MARGIN, TOP + size + MARGIN, "kefu eval", &s));
    snprintf(text, sizeof text, "%.40s: rows are right, columns were said; accuracy %.1f %%", what,
             scores->row_accuracy.value * 100);
    kf_svg_text(&s, 16, 26, "title", text);
    draw_frame(&s, scores);
    for (size_t i = 0; i < scores->n_labels; i++)
        draw_cell(&s, i, i, scores->labels[i].n_hits, scores->labels[i].n_gold);
    for (size_t i = 0; i < n; i++) {
        size_t gold = m->of_label[list[i].gold], said = m->of_label[list[i].said];
        draw_cell(&s, gold, said, list[i].n, scores->labels[gold].n_gold);
    }
    return kf_svg_close(&s);
}

kf_status kf_eval_plot(const char *path, const char *what, const kf_tally *t) {
    kf_scores scores = {0};
    matrix m = {.scores = &scores};
    kf_confusion *list = NULL;
    size_t n = 0;
    if (!t->n_rows) return KF_FAIL(KF_ERR_INVALID, "--plot: no line has \"%s\", so there is nothing to draw", what);
    kf_status s = kf_tally_scores(t, &scores);
    KF_STEP(s, place_labels(t, &m));
    KF_STEP(s, kf_tally_confusions(t, &list, &n));
    KF_STEP(s, draw(path, what, &scores, &m, list, n));
    free(list);
    free(m.of_label);
    free(scores.labels);
    return s;
}
