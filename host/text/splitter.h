/* Pre-tokenisers: what tokenizer.json cuts a text with before its model sees the words. Internal to host/text.
 *
 * A splitter is a list of steps. Each step finds matches in what the step before left (and sees nothing beyond it),
 * and keeps, drops or joins matches and the stretches between them, by its behaviour.
 */
#ifndef KF_TEXT_SPLITTER_H
#define KF_TEXT_SPLITTER_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KF_SPLIT_STEPS_MAX = 8 };

/* GPT-2's pattern, which tokenizer.json means by a ByteLevel with use_regex. */
#define KF_SPLIT_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef enum kf_split_behavior {
    KF_SPLIT_REMOVED,       /* matches are dropped */
    KF_SPLIT_ISOLATED,      /* each match is a word, each stretch between two is one */
    KF_SPLIT_WITH_PREVIOUS, /* a match belongs to the stretch before it */
    KF_SPLIT_WITH_NEXT,
    KF_SPLIT_CONTIGUOUS, /* matches that touch are one word */
} kf_split_behavior;

typedef struct kf_split_step {
    pcre2_code *code;              /* a pattern, or NULL: */
    bool (*is_match)(uint32_t cp); /* each such character is a match */
    kf_split_behavior behavior;
    bool invert; /* what matches is what lies between the pattern's matches */
} kf_split_step;

typedef struct kf_splitter {
    kf_split_step steps[KF_SPLIT_STEPS_MAX];
    size_t n_steps;
    pcre2_match_context *limits;
} kf_splitter;

/* Appends a step. `where` names it in a refusal. KF_ERR_UNSUPPORTED: too many steps, or a pattern that PCRE2 or this
 * translation does not know; KF_ERR_NO_MEMORY. is_literal: the pattern is a string, not a regular expression. */
kf_status kf_splitter_add_pattern(kf_splitter *s, const char *where, const char *pattern, size_t n, bool is_literal,
                                  kf_split_behavior behavior, bool invert);
kf_status kf_splitter_add_class(kf_splitter *s, const char *where, bool (*is_match)(uint32_t cp),
                                kf_split_behavior behavior);
void kf_splitter_free(kf_splitter *s);

/* Called for each word: text[from .. to). Anything but KF_OK ends the splitting. */
typedef kf_status (*kf_split_word)(void *user, size_t from, size_t to);

/* Splits valid UTF-8. Allocates nothing where PCRE2 has its compiler (JIT) for this machine.
 * KF_ERR_TOO_LARGE: a pattern reached its limits; what `word` returns. Any thread. */
kf_status kf_splitter_run(const kf_splitter *s, const char *text, size_t n, kf_split_word word, void *user);

#endif
