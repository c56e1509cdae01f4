/* Softmax over the sequence heads, spans over the token heads; see understand.h. */
#include "serve/understand.h"

#include <math.h>
#include <string.h>

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

static kf_status understand_intents(const kf_understander *u, const kf_understand_in *in, kf_arena *arena,
                                    kf_understanding *out) {
    if (u->intent < 0) return KF_OK;
    const kf_head *head = kf_bert_head(u->model, (size_t)u->intent);
    const float *z = kf_bert_logits(in->pass, (size_t)u->intent, in->seq_idx);
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

static void understand_sentiment(const kf_understander *u, const kf_understand_in *in, kf_understanding *out) {
    if (u->sentiment < 0) return;
    const kf_head *head = kf_bert_head(u->model, (size_t)u->sentiment);
    const float *z = kf_bert_logits(in->pass, (size_t)u->sentiment, in->seq_idx);
    size_t best[KF_MAX_INTENTS];
    best_labels(z, head->n_labels, best);
    out->sentiment = (kf_label){.label = head->labels[best[0]], .score = probability(z, head->n_labels, best[0])};
}

kf_status kf_understand(const kf_understander *u, const kf_understand_in *in, kf_arena *arena, kf_understanding *out) {
    kf_understanding made = {0};
    KF_TRY(understand_intents(u, in, arena, &made));
    understand_sentiment(u, in, &made);
    *out = made;
    return KF_OK;
}

static int find_head(const kf_bert *m, const char *name, kf_head_kind kind) {
    int idx = kf_bert_head_find(m, name);
    return idx >= 0 && kf_bert_head(m, (size_t)idx)->kind == kind ? idx : -1;
}

kf_status kf_understander_init(kf_understander *u, const kf_bert *m, const kf_tokenizer *t) {
    *u = (kf_understander){
        .model = m,
        .unk_id = kf_tokenizer_id(t, "[UNK]"),
        .intent = find_head(m, "intent", KF_HEAD_SEQUENCE),
        .sentiment = find_head(m, "sentiment", KF_HEAD_SEQUENCE),
    };
    if (u->intent < 0) u->intent = find_head(m, "classifier", KF_HEAD_SEQUENCE);
    return KF_OK;
}

void kf_understander_free(kf_understander *u) {
    *u = (kf_understander){0};
}
