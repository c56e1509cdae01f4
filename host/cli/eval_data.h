/* A labelled set: JSON lines of what is right for a message, checked before a model is asked.
 *
 *     {"text": "我想要一件红色的羽绒服", "intent": "purchase", "also": ["stock"], "sentiment": "neutral",
 *      "entities": [{"type": "attribute", "start": 5, "end": 7}, {"type": "product", "start": 8, "end": 11}],
 *      "words": ["我", "想要", "一", "件", "红色", "的", "羽绒服"], "pos": ["r", "v", "m", "q", "n", "u", "n"]}
 *
 * Only `text` must be there; what a line does not have is not scored for it (an empty list of entities is scored).
 * Words follow each other in the text; white space between them may be left out. Other fields are ignored.
 */
#ifndef KF_CLI_EVAL_DATA_H
#define KF_CLI_EVAL_DATA_H

#include <jansson.h>

#include "base/status.h"
#include "cli/eval_score.h"

typedef struct kf_gold {
    const char *text; /* UTF-8, not empty */
    size_t n_bytes, line_no;
    const char *intent, *sentiment; /* NULL: not said */
    const char **also;              /* [n_also] */
    size_t n_also;
    bool has_entities, has_pos;
    kf_eval_span *entities; /* [n_entities] */
    size_t n_entities;
    kf_eval_span *words; /* [n_words], label "" without has_pos */
    size_t n_words;      /* 0: not said */
    json_t *line;        /* owns the strings */
} kf_gold;

typedef struct kf_gold_set {
    kf_gold *items; /* [n] */
    size_t n, cap;
} kf_gold_set;

/* Reads the whole file; "-" is standard input. *out is the caller's to free. Empty lines are skipped.
 * KF_ERR_NOT_FOUND, KF_ERR_IO: the file; KF_ERR_INVALID: a line (the text has file, line number, field, and what was
 * wanted); KF_ERR_TOO_LARGE: a line over 64 KiB, more than a million lines; KF_ERR_NO_MEMORY. */
kf_status kf_gold_read(const char *path, kf_gold_set *out);
void kf_gold_free(kf_gold_set *set);

#endif
