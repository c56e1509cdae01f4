/* Aim: form C is form C, in texts that are already so and in texts that are far from it. Method: random strings of
 * characters that compose, reorder and block one another, against utf8proc's own normalisation of the whole string
 * (but for U+11A7, which it takes for a final consonant).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "text/nfc.h"
#include "text/utf8.h"

static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static uint32_t some_character(void) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {{'a', 'e'},        {'a', 'u'},       {0x300, 0x345},   {0x300, 0x331},     {0xC0, 0x17F},
                  {0x1E00, 0x1EF9},  {0x1100, 0x1112}, {0x1161, 0x1175}, {0x11A8, 0x11C2},   {0xAC00, 0xAC40},
                  {0x915, 0x950},    {0x958, 0x95F},   {0x9BC, 0x9D7},   {0xF40, 0xF84},     {0x1F00, 0x1FFC},
                  {0x2126, 0x212B},  {0x3046, 0x309E}, {0xF900, 0xF910}, {0x1D15E, 0x1D164}, {0x5D0, 0x5EA},
                  {0xFB1D, 0xFB4E},  {0x5B0, 0x5C2},   {0x4E00, 0x4E20}, {0x302A, 0x302F},   {0x11131, 0x11134},
                  {0x11127, 0x11127}};
    enum { N = sizeof ranges / sizeof *ranges };
    uint32_t r = below(N);
    return ranges[r].first + below(ranges[r].last - ranges[r].first + 1);
}

static void test_against_utf8proc(void **state) {
    (void)state;
    int n_needed = 0;
    seed = 3;
    for (int round = 0; round < 60000; round++) {
        char text[160], out[3 * sizeof text];
        int32_t source[3 * sizeof text];
        size_t n = 0, n_cps = 1 + below(12);
        for (size_t i = 0; i < n_cps; i++)
            n += kf_utf8_put(some_character(), text + n);
        text[n] = 0;
        char *want = (char *)utf8proc_NFC((const utf8proc_uint8_t *)text);
        assert_non_null(want);
        size_t n_out = kf_nfc(text, n, out, source);
        assert_int_equal(n_out, strlen(want));
        assert_memory_equal(out, want, n_out);
        size_t n_out_cps = kf_utf8_length(out, n_out);
        for (size_t i = 0; i < n_out_cps; i++) {
            assert_in_range(source[i], 0, n_cps - 1);
            if (i) assert_true(source[i] >= source[i - 1]);
        }
        bool needed = kf_nfc_needed(text, n);
        if (strcmp(want, text) != 0) assert_true(needed);
        n_needed += needed;
        free(want);
    }
    assert_true(n_needed > 1000);
}

static void test_plain_texts_are_left_alone(void **state) {
    (void)state;
    const char *const plain[] = {"", "hello", "我想要一件红色的羽绒服", "안녕하세요", "café Größe", "Ёлка", "😂"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        assert_false(kf_nfc_needed(plain[i], strlen(plain[i])));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_utf8proc),
        cmocka_unit_test(test_plain_texts_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
