/* Aim: an arena gives aligned memory that never overlaps, refuses what does not fit, and takes all of it back at once.
 * Method: random requests until it is full, each filled with its own byte and checked at the end; sizes near overflow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static void test_blocks_do_not_overlap(void **state) {
    (void)state;
    enum { BLOCKS_MAX = 1000 };
    struct {
        unsigned char *p;
        size_t n;
    } blocks[BLOCKS_MAX];
    kf_arena a;
    assert_int_equal(kf_arena_init(&a, 1 << 14), KF_OK);
    uint32_t x = 1;
    size_t n_blocks = 0;
    for (; n_blocks < BLOCKS_MAX; n_blocks++) {
        x = x * 1664525u + 1013904223u;
        blocks[n_blocks].n = x >> 25;
        blocks[n_blocks].p = kf_arena_alloc(&a, blocks[n_blocks].n);
        if (!blocks[n_blocks].p) break;
        assert_int_equal((uintptr_t)blocks[n_blocks].p % 16, 0);
        memset(blocks[n_blocks].p, (int)(n_blocks & 0xFF), blocks[n_blocks].n);
    }
    assert_in_range(n_blocks, 100, BLOCKS_MAX - 1); /* it did fill up */
    for (size_t i = 0; i < n_blocks; i++)
        for (size_t k = 0; k < blocks[i].n; k++)
            assert_int_equal(blocks[i].p[k], i & 0xFF);
    assert_true(a.bytes_used <= a.bytes_cap && a.bytes_used_max == a.bytes_used);
    kf_arena_free(&a);
}

static void test_limits(void **state) {
    (void)state;
    kf_arena a;
    assert_int_equal(kf_arena_init(&a, 64), KF_OK);
    assert_null(kf_arena_alloc(&a, 65));
    assert_null(kf_arena_alloc(&a, SIZE_MAX));
    assert_null(kf_arena_calloc(&a, SIZE_MAX / 2, 3));
    assert_null(kf_arena_strndup(&a, "x", SIZE_MAX));
    assert_int_equal(a.bytes_used, 0);
    assert_non_null(kf_arena_alloc(&a, 64));
    assert_null(kf_arena_alloc(&a, 1));
    kf_arena_reset(&a);
    assert_int_equal(a.bytes_used_max, 64);
    assert_non_null(kf_arena_alloc(&a, 0));
    kf_arena_free(&a);
    assert_int_equal(kf_arena_init(&a, 0), KF_OK);
    assert_null(kf_arena_alloc(&a, 1));
    kf_arena_free(&a);
}

static void test_zeroed_and_copied(void **state) {
    (void)state;
    kf_arena a;
    assert_int_equal(kf_arena_init(&a, 256), KF_OK);
    memset(kf_arena_alloc(&a, 100), 0xEE, 100);
    kf_arena_reset(&a);
    const unsigned char *zeros = kf_arena_calloc(&a, 25, 4);
    assert_non_null(zeros);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(zeros[i], 0);
    assert_string_equal(kf_arena_strndup(&a, "羽绒服", 6), "羽绒");
    assert_string_equal(kf_arena_strndup(&a, NULL, 0), "");
    kf_arena_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_zeroed_and_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
