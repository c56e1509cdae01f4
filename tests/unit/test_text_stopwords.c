/* Aim: every word of the list is found and nothing else. Method: the list itself, its order, and near misses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "text/stopwords.h"
#include "text/utf8.h"

static void test_every_word_is_found(void **state) {
    (void)state;
    size_t n;
    const char *const *words = kf_stop_words(&n);
    assert_true(n > 300);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = strlen(words[i]);
        assert_true(kf_utf8_valid(words[i], bytes, NULL));
        assert_true(kf_is_stop_word(words[i], bytes));
        if (i) assert_true(strcmp(words[i - 1], words[i]) < 0);
    }
}

static void test_other_words_are_not(void **state) {
    (void)state;
    const char *const others[] = {"", "羽绒服", "红色", "的的", "我们的", "好", "买", "a", "\xE7", "\xE7\x9A", "，"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(kf_is_stop_word(others[i], strlen(others[i])));
    assert_false(kf_is_stop_word("的\0", 4));
    assert_true(kf_is_stop_word("的羽绒服", strlen("的")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_word_is_found),
        cmocka_unit_test(test_other_words_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
