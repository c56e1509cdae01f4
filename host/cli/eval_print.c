/* From an understanding to tallies, and from tallies to a page or a JSON document. */
#include "cli/eval_print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/term.h"

enum { HEAD_COLUMNS = 14, LABEL_COLUMNS = 22, CONFUSIONS_SHOWN = 12 };

void kf_eval_tallies_free(kf_eval_tallies *t) {
    kf_tally_free(&t->intent);
    kf_tally_free(&t->sentiment);
    kf_tally_free(&t->entities);
    kf_word_tallies_free(&t->words);
}

/* ---- adding ---- */

static kf_status add_entities(kf_tally *t, const kf_gold *gold, const kf_understanding *said) {
    kf_eval_span *spans = calloc(said->n_entities + 1, sizeof *spans);
    if (!spans) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu entities", said->n_entities);
    for (size_t i = 0; i < said->n_entities; i++)
        spans[i] = (kf_eval_span){said->entities[i].start, said->entities[i].end, said->entities[i].type};
    kf_status s = kf_score_spans(t, gold->entities, gold->n_entities, spans, said->n_entities);
    free(spans);
    return s;
}

static kf_status add_words(kf_word_tallies *t, const kf_gold *gold, const kf_understanding *said) {
    kf_eval_span *words = calloc(said->n_words + 1, sizeof *words);
    if (!words) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu words", said->n_words);
    for (size_t i = 0; i < said->n_words; i++)
        words[i] = (kf_eval_span){said->words[i].start, said->words[i].end, said->words[i].pos};
    kf_status s = kf_score_words(t, gold->has_pos, gold->words, gold->n_words, words, said->n_words);
    free(words);
    return s;
}

kf_status kf_eval_add(kf_eval_tallies *t, const kf_gold *gold, const kf_understanding *said) {
    const char *intent = said->n_intents ? said->intents[0].label : "(none)";
    const char *sentiment = said->sentiment.label && *said->sentiment.label ? said->sentiment.label : "(none)";
    if (gold->intent) KF_TRY(kf_score_class(&t->intent, gold->intent, gold->also, gold->n_also, intent));
    if (gold->sentiment) KF_TRY(kf_score_class(&t->sentiment, gold->sentiment, NULL, 0, sentiment));
    if (gold->has_entities) KF_TRY(add_entities(&t->entities, gold, said));
    if (gold->n_words) KF_TRY(add_words(&t->words, gold, said));
    return KF_OK;
}

/* ---- a page ---- */

static void figure(const char *name, kf_estimate e) {
    printf("%s %s%.1f %%%s (%.1f to %.1f)   ", name, kf_style(stdout, KF_CYAN), e.value * 100,
           kf_style(stdout, KF_PLAIN), e.lo * 100, e.hi * 100);
}

static void head(const char *name) {
    fputs(kf_style(stdout, KF_BOLD), stdout);
    kf_term_pad(stdout, name, HEAD_COLUMNS);
    fputs(kf_style(stdout, KF_PLAIN), stdout);
}

static void print_labels(const char *what, const kf_scores *s) {
    if (!s->n_rows) return;
    printf("\n%s", kf_style(stdout, KF_BOLD));
    kf_term_pad(stdout, what, LABEL_COLUMNS);
    printf("%6s  %-16s %9s %7s %6s %6s%s\n", "F1", "95 %", "precision", "recall", "gold", "said",
           kf_style(stdout, KF_PLAIN));
    for (size_t i = 0; i < s->n_labels; i++) {
        const kf_label_score *l = &s->labels[i];
        kf_term_pad(stdout, l->label, LABEL_COLUMNS);
        printf("%6.1f  %5.1f to %5.1f   %9.1f %7.1f %6llu %6llu\n", l->f1.value * 100, l->f1.lo * 100, l->f1.hi * 100,
               l->precision * 100, l->recall * 100, (unsigned long long)l->n_gold, (unsigned long long)l->n_said);
    }
}

static kf_status print_confusions(const char *what, const kf_tally *t) {
    kf_confusion *list;
    size_t n;
    KF_TRY(kf_tally_confusions(t, &list, &n));
    if (n) printf("\n%smost frequent confusions: %s%s\n", kf_style(stdout, KF_BOLD), what, kf_style(stdout, KF_PLAIN));
    for (size_t i = 0; i < n && i < CONFUSIONS_SHOWN; i++) {
        printf("%6zu  ", list[i].n);
        kf_term_pad(stdout, t->labels[list[i].gold], LABEL_COLUMNS);
        fputs("taken for  ", stdout);
        kf_term_text(stdout, t->labels[list[i].said]);
        putchar('\n');
    }
    free(list);
    return KF_OK;
}

/* The scores of the parts, in the order of kf_eval_tallies. */
enum { INTENT, SENTIMENT, ENTITIES, CUTS, TAGGED, TAGS, N_PARTS };

static kf_status score_parts(const kf_eval_tallies *t, kf_scores out[N_PARTS]) {
    const kf_tally *const parts[N_PARTS] = {&t->intent,     &t->sentiment,    &t->entities,
                                            &t->words.cuts, &t->words.tagged, &t->words.tags};
    kf_status s = KF_OK;
    memset(out, 0, N_PARTS * sizeof *out);
    for (size_t i = 0; i < N_PARTS; i++)
        KF_STEP(s, kf_tally_scores(parts[i], &out[i]));
    return s;
}

static void free_parts(kf_scores parts[N_PARTS]) {
    for (size_t i = 0; i < N_PARTS; i++)
        free(parts[i].labels);
}

static void print_summary(const kf_scores parts[N_PARTS]) {
    static const char *const names[N_PARTS] = {"intent", "sentiment", "entities", "segmentation", NULL, "pos"};
    for (size_t i = 0; i < N_PARTS; i++) {
        if (!parts[i].n_rows || !names[i]) continue;
        head(names[i]);
        if (i == INTENT || i == SENTIMENT) {
            figure("accuracy", parts[i].row_accuracy);
            figure("macro F1", parts[i].macro_f1);
        } else if (i == TAGS) {
            figure("accuracy", parts[TAGS].item_accuracy);
            figure("words and tags F1", parts[TAGGED].micro_f1);
        } else {
            figure("F1", parts[i].micro_f1);
        }
        printf("of %zu messages\n", parts[i].n_rows);
    }
}

kf_status kf_eval_print(const kf_eval_tallies *t, const kf_eval_about *about) {
    kf_scores parts[N_PARTS];
    kf_status s = score_parts(t, parts);
    if (s == KF_OK) {
        head("model");
        kf_term_text(stdout, about->model);
        printf("   %zu messages in %.1f s\n", about->n_messages, about->seconds);
        print_summary(parts);
        print_labels("intent", &parts[INTENT]);
        print_labels("sentiment", &parts[SENTIMENT]);
        print_labels("entity", &parts[ENTITIES]);
        print_labels("part of speech", &parts[TAGS]);
        KF_STEP(s, print_confusions("intent", &t->intent));
        KF_STEP(s, print_confusions("sentiment", &t->sentiment));
    }
    free_parts(parts);
    return s;
}

/* ---- a document ---- */

static json_t *interval_json(kf_estimate e) {
    return json_pack("[f, f]", e.lo, e.hi);
}

static json_t *labels_json(const kf_scores *s) {
    json_t *labels = json_object();
    for (size_t i = 0; i < s->n_labels; i++) {
        const kf_label_score *l = &s->labels[i];
        json_object_set_new(labels, l->label,
                            json_pack("{s:f, s:o, s:f, s:f, s:I, s:I}", "f1", l->f1.value, "ci95", interval_json(l->f1),
                                      "precision", l->precision, "recall", l->recall, "gold", (json_int_t)l->n_gold,
                                      "said", (json_int_t)l->n_said));
    }
    return labels;
}

static kf_status class_json(const kf_tally *t, const kf_scores *s, json_t **out) {
    kf_confusion *list;
    size_t n;
    KF_TRY(kf_tally_confusions(t, &list, &n));
    json_t *confusions = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(confusions, json_pack("{s:s, s:s, s:I}", "gold", t->labels[list[i].gold], "said",
                                                    t->labels[list[i].said], "n", (json_int_t)list[i].n));
    free(list);
    *out = json_pack("{s:I, s:f, s:o, s:f, s:o, s:o, s:o}", "n", (json_int_t)s->n_rows, "accuracy",
                     s->row_accuracy.value, "ci95", interval_json(s->row_accuracy), "macro_f1", s->macro_f1.value,
                     "macro_f1_ci95", interval_json(s->macro_f1), "labels", labels_json(s), "confusions", confusions);
    return KF_OK;
}

static json_t *figure_json(const kf_scores *s, const char *name, kf_estimate e) {
    json_t *part = json_pack("{s:I, s:f, s:o}", "n", (json_int_t)s->n_rows, name, e.value, "ci95", interval_json(e));
    if (part && s->n_labels > 1) json_object_set_new(part, "labels", labels_json(s));
    return part;
}

kf_status kf_eval_print_json(const kf_eval_tallies *t, const kf_eval_about *about) {
    kf_scores parts[N_PARTS];
    json_t *intent = NULL, *sentiment = NULL;
    kf_status s = score_parts(t, parts);
    if (parts[INTENT].n_rows) KF_STEP(s, class_json(&t->intent, &parts[INTENT], &intent));
    if (parts[SENTIMENT].n_rows) KF_STEP(s, class_json(&t->sentiment, &parts[SENTIMENT], &sentiment));
    json_t *doc = json_pack("{s:I, s:s, s:f}", "n", (json_int_t)about->n_messages, "model", about->model, "seconds",
                            about->seconds);
    if (intent) json_object_set_new(doc, "intent", intent);
    if (sentiment) json_object_set_new(doc, "sentiment", sentiment);
    if (parts[ENTITIES].n_rows)
        json_object_set_new(doc, "entities", figure_json(&parts[ENTITIES], "f1", parts[ENTITIES].micro_f1));
    if (parts[CUTS].n_rows)
        json_object_set_new(doc, "segmentation", figure_json(&parts[CUTS], "f1", parts[CUTS].micro_f1));
    if (parts[TAGS].n_rows) {
        json_t *pos = figure_json(&parts[TAGS], "accuracy", parts[TAGS].item_accuracy);
        json_object_set_new(pos, "f1", json_real(parts[TAGGED].micro_f1.value));
        json_object_set_new(pos, "f1_ci95", interval_json(parts[TAGGED].micro_f1));
        json_object_set_new(doc, "pos", pos);
    }
    free_parts(parts);
    if (s == KF_OK) return kf_cli_print_json(doc);
    json_decref(doc);
    return s;
}
