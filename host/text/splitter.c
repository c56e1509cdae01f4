/* The steps of splitter.h, run depth first: a word goes through all steps before the next one is looked for, so no
 * list of words is ever kept. */
#include "text/splitter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/pattern.h"
#include "text/utf8.h"

enum { MATCH_LIMIT = 10000000, HEAP_LIMIT_KIB = 64 << 10, SCRATCH_BYTES = 1024 };

/* ---- building ---- */

static kf_status check_room(const kf_splitter *s, const char *where) {
    if (s->n_steps < KF_SPLIT_STEPS_MAX) return KF_OK;
    return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: more than %d steps", where, KF_SPLIT_STEPS_MAX);
}

static kf_status make_limits(kf_splitter *s) {
    if (s->limits) return KF_OK;
    s->limits = pcre2_match_context_create(NULL);
    if (!s->limits) return KF_FAIL(KF_ERR_NO_MEMORY, "pre-tokeniser: no memory for its limits");
    pcre2_set_match_limit(s->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
    return KF_OK;
}

static kf_status compile(const char *where, const char *pattern, size_t n, uint32_t options, pcre2_code **out) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for its pattern", where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, n, options, &error, &at, context);
    pcre2_compile_context_free(context);
    if (!code && error == PCRE2_ERROR_HEAP_FAILED)
        return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for its pattern", where);
    if (!code) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(error, text, sizeof text);
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: its pattern, at %zu: %s", where, (size_t)at, (const char *)text);
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where there is none, the pattern is interpreted */
    *out = code;
    return KF_OK;
}

kf_status kf_splitter_add_pattern(kf_splitter *s, const char *where, const char *pattern, size_t n, bool is_literal,
                                  kf_split_behavior behavior, bool invert) {
    pcre2_code *code = NULL;
    KF_TRY(check_room(s, where));
    KF_TRY(make_limits(s));
    uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C;
    if (is_literal) {
        KF_TRY(compile(where, pattern, n, PCRE2_UTF | PCRE2_LITERAL, &code));
    } else {
        char *translated;
        KF_TRY(kf_pattern_translate(where, pattern, n, &translated));
        kf_status status = compile(where, translated, strlen(translated), options | PCRE2_UCP | PCRE2_MULTILINE, &code);
        free(translated);
        if (status != KF_OK) return status;
    }
    s->steps[s->n_steps++] = (kf_split_step){.code = code, .behavior = behavior, .invert = invert};
    return KF_OK;
}

kf_status kf_splitter_add_class(kf_splitter *s, const char *where, bool (*is_match)(uint32_t cp),
                                kf_split_behavior behavior) {
    KF_TRY(check_room(s, where));
    s->steps[s->n_steps++] = (kf_split_step){.is_match = is_match, .behavior = behavior};
    return KF_OK;
}

void kf_splitter_free(kf_splitter *s) {
    for (size_t i = 0; i < s->n_steps; i++)
        pcre2_code_free(s->steps[i].code);
    pcre2_match_context_free(s->limits);
    *s = (kf_splitter){0};
}

/* ---- running ---- */

/* PCRE2 asks for its match data here: on the stack, and from the system only for what a pattern without JIT needs. */
typedef struct scratch {
    _Alignas(16) unsigned char bytes[SCRATCH_BYTES];
    size_t used;
} scratch;

static void *scratch_alloc(PCRE2_SIZE n, void *user) {
    scratch *s = user;
    size_t rounded = (n + 15) & ~(size_t)15;
    if (rounded < n || rounded > SCRATCH_BYTES - s->used) return malloc(n);
    void *p = s->bytes + s->used;
    s->used += rounded;
    return p;
}

static void scratch_free(void *p, void *user) {
    scratch *s = user;
    if ((unsigned char *)p < s->bytes || (unsigned char *)p >= s->bytes + SCRATCH_BYTES) free(p);
}

typedef struct run {
    const kf_splitter *splitter;
    const char *text;
    pcre2_match_data *match;
    kf_split_word word;
    void *user;
} run;

static kf_status run_step(run *r, size_t step, size_t from, size_t to);

/* Looks for the next match in text[from .. to) at or after `at`; *start == to where there is none. */
static kf_status next_match(run *r, const kf_split_step *step, size_t from, size_t to, size_t at, size_t *start,
                            size_t *end) {
    if (step->is_match) {
        for (*start = at; *start < to; *start = *end) {
            *end = *start;
            if (step->is_match(kf_utf8_next(r->text, end))) return KF_OK;
        }
        return KF_OK;
    }
    PCRE2_SPTR subject = (PCRE2_SPTR)r->text + from;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int n = pcre2_match(step->code, subject, to - from, at - from, options, r->match, r->splitter->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(step->code, subject, to - from, at - from, options | PCRE2_NO_JIT, r->match,
                        r->splitter->limits);
    if (n == PCRE2_ERROR_NOMATCH) {
        *start = to;
        return KF_OK;
    }
    if (n < 0)
        return KF_FAIL(KF_ERR_TOO_LARGE, "text: the pre-tokeniser's pattern gave up on %zu bytes (PCRE2 error %d)",
                       to - from, n);
    PCRE2_SIZE *span = pcre2_get_ovector_pointer(r->match);
    *start = from + span[0];
    *end = from + span[1];
    return KF_OK;
}

/* What a step has found and not passed on yet, since the next stretch may join it. */
typedef struct held {
    size_t from, to;
    bool any, was_match;
} held;

static bool joins(kf_split_behavior behavior, bool was_match, bool is_match) {
    switch (behavior) {
    case KF_SPLIT_CONTIGUOUS: return is_match == was_match;
    case KF_SPLIT_WITH_PREVIOUS: return is_match && !was_match;
    case KF_SPLIT_WITH_NEXT: return !is_match && was_match;
    default: return false;
    }
}

static kf_status take(run *r, size_t step_idx, held *h, size_t from, size_t to, bool matched) {
    const kf_split_step *step = &r->splitter->steps[step_idx];
    bool is_match = matched != step->invert;
    if (from == to) return KF_OK;
    if (h->any && joins(step->behavior, h->was_match, is_match)) {
        h->to = to;
        h->was_match = is_match;
        return KF_OK;
    }
    held before = *h;
    *h = (held){from, to, !(is_match && step->behavior == KF_SPLIT_REMOVED), is_match};
    return before.any ? run_step(r, step_idx + 1, before.from, before.to) : KF_OK;
}

static kf_status run_step(run *r, size_t step_idx, size_t from, size_t to) {
    if (step_idx == r->splitter->n_steps) return r->word(r->user, from, to);
    held h = {0};
    size_t after = from; /* the end of the last match */
    for (size_t at = from, start = to, end = from; at < to;) {
        KF_TRY(next_match(r, &r->splitter->steps[step_idx], from, to, at, &start, &end));
        if (start == to) break;
        KF_TRY(take(r, step_idx, &h, after, start, false));
        KF_TRY(take(r, step_idx, &h, start, end, true));
        after = at = end;
        if (start == end) kf_utf8_next(r->text, &at); /* an empty match cuts, and is not found again */
    }
    KF_TRY(take(r, step_idx, &h, after, to, false));
    return h.any ? run_step(r, step_idx + 1, h.from, h.to) : KF_OK;
}

kf_status kf_splitter_run(const kf_splitter *s, const char *text, size_t n, kf_split_word word, void *user) {
    scratch memory;
    memory.used = 0;
    run r = {.splitter = s, .text = text, .word = word, .user = user};
    pcre2_general_context *context = pcre2_general_context_create(scratch_alloc, scratch_free, &memory);
    if (context) r.match = pcre2_match_data_create(1, context);
    kf_status status = KF_OK;
    if (r.match)
        status = n ? run_step(&r, 0, 0, n) : KF_OK;
    else
        status = KF_FAIL(KF_ERR_NO_MEMORY, "pre-tokeniser: no memory for a match");
    pcre2_match_data_free(r.match);
    pcre2_general_context_free(context);
    return status;
}
