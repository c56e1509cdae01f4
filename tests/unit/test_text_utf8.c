/* Aim: what is called valid is well-formed UTF-8 and nothing else, and code points come out as they went in.
 * Method: every code point; every sequence of up to four bytes of a set that has all borders of the standard's table,
 * against a checker written from its definition; random strings for lengths and offsets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "text/utf8.h"

static void test_every_code_point(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char bytes[4];
        size_t n = kf_utf8_put(cp, bytes), at = 0;
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        assert_int_equal(kf_utf8_next(bytes, &at), cp);
        assert_int_equal(at, n);
        assert_int_equal(kf_utf8_valid(bytes, n, NULL), cp < 0xD800 || cp > 0xDFFF);
    }
}

/* By definition: the bits of a character of n bytes give a code point that needs n bytes and is no surrogate. */
static size_t well_formed(const unsigned char *p, size_t n) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (n >= 1 && p[0] < 0x80) return 1;
    for (size_t k = 2; k <= 4 && k <= n; k++) {
        unsigned lead = 0xF00u >> k & 0xFF; /* k ones and a zero */
        if ((p[0] & (0xFF80u >> k & 0xFF)) != lead) continue;
        uint32_t cp = p[0] & (0x7Fu >> k);
        size_t i = 1;
        for (; i < k && (p[i] & 0xC0) == 0x80; i++)
            cp = cp << 6 | (p[i] & 0x3F);
        if (i == k && cp >= least[k] && cp < 0x110000 && (cp < 0xD800 || cp > 0xDFFF)) return k;
    }
    return 0;
}

static void test_borders(void **state) {
    (void)state;
    static const unsigned char borders[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                            0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
                                            0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF};
    enum { N = sizeof borders };
    for (size_t k = 0; k < (size_t)N * N * N * N; k++) {
        unsigned char s[4] = {borders[k % N], borders[k / N % N], borders[k / N / N % N], borders[k / N / N / N]};
        size_t at = 0, step, bad_at = 99;
        while (at < 4 && (step = well_formed(s + at, 4 - at)))
            at += step;
        assert_int_equal(kf_utf8_valid((char *)s, 4, &bad_at), at == 4);
        assert_int_equal(bad_at, at == 4 ? 99 : at);
    }
}

static void test_lengths_and_offsets(void **state) {
    (void)state;
    const char *text = "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x82z";
    const size_t starts[] = {0, 1, 3, 6, 10, 11, 11};
    assert_int_equal(kf_utf8_length(text, strlen(text)), 5);
    for (size_t cp = 0; cp < 7; cp++)
        assert_int_equal(kf_utf8_offset(text, strlen(text), cp), starts[cp]);
    assert_int_equal(kf_utf8_length(text, 0), 0);
    assert_true(kf_utf8_valid(text, 0, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_lengths_and_offsets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
