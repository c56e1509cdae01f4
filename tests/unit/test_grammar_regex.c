/* Aim: an automaton accepts exactly the texts that its regular expression matches. Method: PCRE2 is the reference, over
 * random texts, over texts that walk the automaton itself, and over these with one byte changed; what is not taken is
 * refused in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/random.h"
#include "grammar/dfa.h"
#include "grammar/number.h"
#include "grammar/regex.h"
#include "text/utf8.h"

enum { TEXT_MAX = 32, N_TEXTS = 1200 };

static bool every_byte[256];

static kf_status make(const char *pattern, kf_anchoring anchoring, kf_dfa **out) {
    kf_nfa n;
    kf_nfa_init(&n);
    int32_t start = kf_regex_build(&n, "regex", pattern, strlen(pattern), anchoring, KF_SPELL_PLAIN, KF_NFA_ACCEPT);
    kf_status s = n.status == KF_OK ? kf_dfa_new(&n, start, every_byte, out) : n.status;
    kf_nfa_free(&n);
    return s;
}

static bool accepts(const kf_dfa *d, const char *text, size_t n) {
    uint16_t s = KF_DFA_START;
    for (size_t i = 0; i < n && s; i++)
        s = kf_dfa_next(d, s, (uint8_t)text[i]);
    return s && d->distance[s] == 0;
}

/* Random characters that the expressions speak of. */
static size_t random_text(uint64_t *seed, char *out) {
    static const char *const chars[] = {"a", "b", "c", "x", "A",  "Z", "0",  "1",
                                        "9", "_", "-", " ", "\n", "é", "中", "😀"};
    size_t n = 0;
    for (size_t count = kf_random_next(seed) % 12; count--;) {
        const char *c = chars[kf_random_next(seed) % (sizeof chars / sizeof *chars)];
        memcpy(out + n, c, strlen(c));
        n += strlen(c);
    }
    return n;
}

/* A text of the automaton, or the beginning of one. */
static size_t walked_text(const kf_dfa *d, uint64_t *seed, char *out) {
    uint16_t s = KF_DFA_START;
    size_t n = 0;
    while (n < TEXT_MAX && (d->distance[s] || kf_random_next(seed) % 8)) {
        unsigned first = kf_random_next(seed) % 256, i = 0;
        while (i < 256 && !kf_dfa_next(d, s, (uint8_t)(first + i)))
            i++;
        if (i == 256) break;
        out[n++] = (char)(first + i);
        s = kf_dfa_next(d, s, (uint8_t)(first + i));
    }
    return n;
}

static size_t check_against_pcre(const char *pattern, kf_anchoring anchoring) {
    int err;
    PCRE2_SIZE at;
    uint32_t options = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY;
    if (anchoring == KF_REGEX_WHOLE) options |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &err, &at, NULL);
    assert_non_null(code);
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    kf_dfa *d;
    uint64_t seed = 7;
    size_t n_matched = 0, ignored;
    if (make(pattern, anchoring, &d) != KF_OK) fail_msg("%s: not taken", pattern);
    for (size_t i = 0; i < N_TEXTS; i++) {
        char text[TEXT_MAX + 4];
        size_t n = i % 3 ? walked_text(d, &seed, text) : random_text(&seed, text);
        if (i % 3 == 2 && n) text[kf_random_next(&seed) % n] = "ab0 \n-"[kf_random_next(&seed) % 6];
        if (memchr(text, 0, n) || !kf_utf8_valid(text, n, &ignored)) continue;
        bool want = pcre2_match(code, (PCRE2_SPTR)text, n, 0, 0, match, NULL) >= 0;
        n_matched += want;
        if (accepts(d, text, n) != want) fail_msg("%s: \"%.*s\": wanted %d", pattern, (int)n, text, want);
    }
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    kf_dfa_free(d);
    return n_matched;
}

static void as_pcre2_has_it(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "abc",
        "a*b+c?",
        "(a|b)*c",
        "[a-c]{2,4}",
        "[^a-c\\n]+",
        "a.c",
        "\\d{3}-\\d+",
        "\\w+\\s\\w*",
        "\\W\\D\\S",
        "(?:ab){0,3}x",
        "a{0}b",
        "a{2,}",
        "中+é?😀{2}",
        "[一-龥]{1,3}",
        "[^中]",
        "\\x41\\x{4e2d}",
        "(a(b(c|x)?)?)?",
        "a|b|c0",
        "^a$|b",
        "a*?b+?",
        "[-a]+",
        "[a\\-c]x|[]a]",
        "(?<n>a|b){2}",
        "x{,2}",
        "(a|aa|aaa)*b",
        "[\\d_a-c]*[A-Z]",
        "(a*)*b",
        "(|a)(b|)",
        "a\\.b\\|c|\\(x\\)",
        "[\\s-]9{1,2}",
    };
    size_t n_matched = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        n_matched += check_against_pcre(patterns[i], KF_REGEX_WHOLE);
    assert_true(n_matched > N_TEXTS * 10);
}

static void a_search_is_not_anchored(void **state) {
    (void)state;
    static const char *const patterns[] = {"b", "^b", "b$", "^b$", "^a|b$", "a{2}|^$", "^(a|b)", "[^a]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        assert_true(check_against_pcre(patterns[i], KF_REGEX_SEARCH) > 15);
}

static void what_is_not_regular_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *words;
    } cases[] = {
        {"(a)\\1", "back-reference"},
        {"a(?=b)", "not supported"},
        {"(?<!a)b", "not supported"},
        {"\\bword", "border"},
        {"\\p{L}", "\\p"},
        {"a(^b)", "^ and $"},
        {"a++", "possessive"},
        {"(a", "without its )"},
        {"a)", "without its ("},
        {"[a", "without its ]"},
        {"*a", "nothing to repeat"},
        {"a{3,2}", "end is below"},
        {"[b-a]", "range"},
        {"a\\", "backslash"},
        {"\\x4", "hexadecimal"},
        {"a**", "repetition of a"},
        {"[[:alpha:]]", "POSIX"},
        {"(?i)a", "not supported"},
        {"a{20000}", "10000"},
        {"[^\\x01-\\x{10FFFF}]", "nothing can be written"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_dfa *d;
        if (make(cases[i].pattern, KF_REGEX_WHOLE, &d) == KF_OK) fail_msg("%s is taken", cases[i].pattern);
        if (!strstr(kf_error_text(), cases[i].words)) fail_msg("%s: %s", cases[i].pattern, kf_error_text());
    }
}

/* Small texts that would be large automata end soon, refused. */
static void what_would_grow_is_bounded(void **state) {
    (void)state;
    static const char *const patterns[] = {"(a|b)*a(a|b){16}", "((a{999}){999}){999}",
                                           "((((){9999}){9999}){9999}){9999}", "[ab]*a[ab]{9999}", "(.{100}){400}"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        kf_dfa *d;
        assert_int_equal(make(patterns[i], KF_REGEX_WHOLE, &d), KF_ERR_TOO_LARGE);
    }
}

static bool number_accepted(kf_dfa *d, const char *fmt, long long v) {
    char text[32];
    return accepts(d, text, (size_t)snprintf(text, sizeof text, fmt, v));
}

static void whole_numbers_of_a_range(void **state) {
    (void)state;
    static const int64_t ranges[][2] = {{0, 0},      {-1, 1},      {7, 7},        {12, 345}, {-345, -12}, {-99, 1000},
                                        {1000, 999}, {0, 4999999}, {-5000, 4096}, {10, 19},  {-20, 0},    {199, 2001}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int64_t min = ranges[i][0], max = ranges[i][1];
        kf_nfa n;
        kf_dfa *d;
        kf_nfa_init(&n);
        int32_t start = kf_nfa_whole(&n, min, max, KF_NFA_ACCEPT);
        if (min > max) assert_int_equal(start, KF_NFA_NONE);
        if (min <= max) {
            assert_int_equal(kf_dfa_new(&n, start, every_byte, &d), KF_OK);
            for (int64_t v = -6000; v <= 6000; v++)
                assert_int_equal(number_accepted(d, "%lld", v), v >= min && v <= max);
            assert_int_equal(number_accepted(d, "%lld", max), true);
            assert_int_equal(number_accepted(d, "%lld", max + 1), false);
            assert_false(number_accepted(d, "0%lld", max) || number_accepted(d, "-0%lld", 0));
            kf_dfa_free(d);
        }
        kf_nfa_free(&n);
    }
}

static void decimals_of_a_range(void **state) {
    (void)state;
    static const int64_t ranges[][2] = {{0, 1}, {-1, 1}, {3, 12}, {-12, -3}, {-2, 0}, {5, 5}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        kf_nfa n;
        kf_dfa *d;
        kf_nfa_init(&n);
        int32_t start = kf_nfa_decimal(&n, ranges[i][0], ranges[i][1], KF_NFA_ACCEPT);
        assert_int_equal(kf_dfa_new(&n, start, every_byte, &d), KF_OK);
        for (int v = -1500; v <= 1500; v++) { /* hundredths */
            char text[32];
            size_t size =
                (size_t)snprintf(text, sizeof text, "%s%d.%02d", v < 0 ? "-" : "", abs(v) / 100, abs(v) % 100);
            bool inside = v >= 100 * ranges[i][0] && v <= 100 * ranges[i][1], ends = v % 100 == 0;
            if (accepts(d, text, size) && !inside) fail_msg("%s is accepted", text);
            if (inside && !ends && !accepts(d, text, size)) fail_msg("%s is refused", text);
        }
        kf_dfa_free(d);
        kf_nfa_free(&n);
    }
}

int main(void) {
    memset(every_byte, true, sizeof every_byte);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_pcre2_has_it),
        cmocka_unit_test(a_search_is_not_anchored),
        cmocka_unit_test(what_is_not_regular_is_refused),
        cmocka_unit_test(what_would_grow_is_bounded),
        cmocka_unit_test(whole_numbers_of_a_range),
        cmocka_unit_test(decimals_of_a_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
