/* Aim: short and long words merge by the same rule: the lowest rank first, the leftmost of equals.
 * Method: random merges over a small alphabet, random words of 1 to 3,000 bytes, against the rule written plainly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/bpe.h"

enum { ALPHABET = 4, MERGES = 60, WORD_MAX = 3000 };

static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* Merge k joins left[k] and right[k] into id ALPHABET + k; its rank is rank[k]. */
static int32_t left[MERGES], right[MERGES], rank[MERGES];

static void make_merges(kf_bpe *b) {
    assert_int_equal(kf_bpe_init(b, MERGES), KF_OK);
    for (int i = 0; i < ALPHABET; i++)
        b->byte_id['a' + i] = i;
    for (int k = 0; k < MERGES; k++) {
        bool again = true; /* each pair once */
        while (again) {
            left[k] = (int32_t)below((uint32_t)(ALPHABET + k));
            right[k] = (int32_t)below((uint32_t)(ALPHABET + k));
            again = false;
            for (int i = 0; i < k; i++)
                again = again || (left[i] == left[k] && right[i] == right[k]);
        }
        rank[k] = (k * 37) % MERGES; /* a permutation: a piece's parts may rank after it */
        kf_bpe_add_merge(b, left[k], right[k], rank[k], ALPHABET + k);
    }
}

static size_t merge_plainly(int32_t *ids, size_t n) {
    for (;;) {
        size_t at = n;
        int best = -1;
        for (size_t i = 0; i + 1 < n; i++)
            for (int k = 0; k < MERGES; k++)
                if (ids[i] == left[k] && ids[i + 1] == right[k] && (best < 0 || rank[k] < rank[best])) {
                    best = k;
                    at = i;
                }
        if (best < 0) return n;
        ids[at] = ALPHABET + best;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static int32_t got[WORD_MAX];
static size_t n_got, got_end;

static void take(void *user, int32_t id, size_t from, size_t to) {
    (void)user;
    assert_int_equal(from, got_end);
    assert_true(to > from);
    got_end = to;
    got[n_got++] = id;
}

static void test_against_the_rule(void **state) {
    (void)state;
    seed = 5;
    for (int round = 0; round < 30; round++) {
        kf_bpe b;
        make_merges(&b);
        for (int w = 0; w < 12; w++) {
            static char word[WORD_MAX];
            static int32_t want[WORD_MAX];
            size_t n = w == 11 && round % 10 == 0 ? WORD_MAX : 1 + below(w < 6 ? 40 : 120);
            for (size_t i = 0; i < n; i++) {
                want[i] = (int32_t)below(below(8) ? 2 : ALPHABET);
                word[i] = (char)('a' + want[i]);
            }
            size_t n_want = merge_plainly(want, n);
            n_got = got_end = 0;
            assert_int_equal(kf_bpe_encode(&b, word, n, take, NULL), KF_OK);
            assert_int_equal(n_got, n_want);
            assert_int_equal(got_end, n);
            assert_memory_equal(got, want, n_want * sizeof *want);
        }
        kf_bpe_free(&b);
    }
}

static void test_alphabet(void **state) {
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        uint32_t cp = kf_byte_level_char((unsigned char)byte);
        assert_int_equal(kf_byte_level_byte(cp), byte);
    }
    assert_int_equal(kf_byte_level_char(' '), 0x120);  /* Ġ */
    assert_int_equal(kf_byte_level_char('\n'), 0x10A); /* Ċ */
    assert_int_equal(kf_byte_level_char(0xE4), 0xE4);
    assert_int_equal(kf_byte_level_byte(' '), -1);
    assert_int_equal(kf_byte_level_byte(0x144), -1);
    assert_int_equal(kf_byte_level_byte(0x10FFFF), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_rule),
        cmocka_unit_test(test_alphabet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
