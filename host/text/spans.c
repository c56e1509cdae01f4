/* Viterbi over BIO labels. Only I-x is choosy about what comes before it, so a step costs n_labels, not its square:
 * O and B-x follow the best of all labels, I-x the better of B-x and I-x. */
#include "text/spans.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* ---- the labels ---- */

static int find_label(const char *const *labels, size_t n, const char *prefix, const char *type) {
    for (size_t i = 0; i < n; i++)
        if (strncmp(labels[i], prefix, 2) == 0 && strcmp(labels[i] + 2, type) == 0) return (int)i;
    return -1;
}

static kf_status check_labels(const char *const *labels, size_t n_labels) {
    if (n_labels == 0 || n_labels > KF_TAGS_MAX)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "labels: %zu, wanted 1 to %d", n_labels, KF_TAGS_MAX);
    for (size_t i = 0; i < n_labels; i++) {
        const char *l = labels[i];
        bool begins = strncmp(l, "B-", 2) == 0, inside = strncmp(l, "I-", 2) == 0;
        if (strcmp(l, "O") != 0 && ((!begins && !inside) || !l[2]))
            return KF_FAIL(KF_ERR_UNSUPPORTED, "label %.40s: wanted O, B-type or I-type", l);
        if (inside && find_label(labels, n_labels, "B-", l + 2) < 0)
            return KF_FAIL(KF_ERR_UNSUPPORTED, "label %.40s: there is no B-%.40s to begin it", l, l + 2);
        for (size_t k = 0; k < i; k++)
            if (strcmp(l, labels[k]) == 0) return KF_FAIL(KF_ERR_UNSUPPORTED, "label %.40s comes twice", l);
    }
    return KF_OK;
}

kf_status kf_tag_set_init(kf_tag_set *t, const char *const *labels, size_t n_labels) {
    KF_TRY(check_labels(labels, n_labels));
    kf_tag_set made = {.n_labels = n_labels};
    for (size_t i = 0; i < n_labels; i++) {
        made.tags[i].type = made.tags[i].begin = -1;
        if (strncmp(labels[i], "B-", 2) != 0) continue;
        made.tags[i].type = (int16_t)made.n_types;
        made.types[made.n_types++] = labels[i] + 2;
    }
    for (size_t i = 0; i < n_labels; i++) {
        if (strncmp(labels[i], "I-", 2) != 0) continue;
        int begin = find_label(labels, n_labels, "B-", labels[i] + 2);
        made.tags[i].begin = (int16_t)begin;
        made.tags[i].type = made.tags[begin].type;
    }
    *t = made;
    return KF_OK;
}

/* ---- the best path ---- */

static float number(float logit) {
    return isnan(logit) ? -INFINITY : logit;
}

static size_t best_label(const kf_tag_set *t, const double *score, bool may_be_inside) {
    size_t best = 0;
    bool any = false;
    for (size_t i = 0; i < t->n_labels; i++) {
        if (!may_be_inside && t->tags[i].begin >= 0) continue;
        if (any && !(score[i] > score[best])) continue;
        best = i;
        any = true;
    }
    return best;
}

size_t kf_spans_scratch_bytes(const kf_tag_set *t, size_t n_tokens) {
    return n_tokens * t->n_labels + n_tokens;
}

/* back [n_tokens, n_labels]: the label before; path [n_tokens]: the best labels. */
static void find_path(const kf_tag_set *t, const kf_span_input *in, uint8_t *back, uint8_t *path) {
    double score[KF_TAGS_MAX], next[KF_TAGS_MAX];
    for (size_t i = 0; i < t->n_labels; i++)
        score[i] = t->tags[i].begin < 0 ? number(in->logits[i]) : -INFINITY;
    for (size_t token = 1; token < in->n_tokens; token++) {
        size_t best = best_label(t, score, token > 1);
        for (size_t i = 0; i < t->n_labels; i++) {
            size_t before = best;
            if (t->tags[i].begin >= 0) {
                size_t begin = (size_t)t->tags[i].begin;
                before = token > 1 && score[i] > score[begin] ? i : begin;
            }
            back[token * t->n_labels + i] = (uint8_t)before;
            next[i] = score[before] + number(in->logits[token * t->n_labels + i]);
        }
        memcpy(score, next, t->n_labels * sizeof *score);
    }
    size_t label = best_label(t, score, in->n_tokens > 1);
    for (size_t token = in->n_tokens; token-- > 0;) {
        path[token] = (uint8_t)label;
        if (token) label = back[token * t->n_labels + label];
    }
}

/* Softmax probability of one label of a token. */
static float probability(const float *logits, size_t n_labels, size_t label) {
    float largest = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n_labels; i++)
        largest = fmaxf(largest, number(logits[i]));
    if (!isfinite(largest)) return 0;
    for (size_t i = 0; i < n_labels; i++)
        sum += exp((double)number(logits[i]) - largest);
    return (float)(exp((double)number(logits[label]) - largest) / sum);
}

static kf_span span_at(const kf_tag_set *t, const kf_span_input *in, const uint8_t *path, size_t first) {
    int type = t->tags[path[first]].type;
    size_t end = first + 1; /* the token behind the span */
    while (end < in->n_tokens && t->tags[path[end]].begin >= 0)
        end++;
    float sum = 0;
    for (size_t token = first; token < end; token++)
        sum += probability(in->logits + token * t->n_labels, t->n_labels, path[token]);
    return (kf_span){.type = t->types[type],
                     .start = in->start[first],
                     .end = in->end[end - 1],
                     .first_token = (uint32_t)first,
                     .last_token = (uint32_t)(end - 1),
                     .score = sum / (float)(end - first)};
}

kf_status kf_spans_find(const kf_tag_set *t, const kf_span_input *in, void *scratch, kf_span *spans, size_t cap,
                        size_t *n) {
    uint8_t *back = scratch, *path = back + in->n_tokens * t->n_labels;
    size_t count = 0;
    if (in->n_tokens) find_path(t, in, back, path);
    for (size_t token = 0; token < in->n_tokens;) {
        if (t->tags[path[token]].type < 0) {
            token++;
            continue;
        }
        kf_span span = span_at(t, in, path, token);
        if (count < cap) spans[count] = span;
        count++;
        token = span.last_token + 1;
    }
    *n = count;
    if (count > cap) return KF_FAIL(KF_ERR_TOO_LARGE, "spans: %zu, there is room for %zu", count, cap);
    return KF_OK;
}
