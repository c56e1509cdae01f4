/* Aim: no phone number, order number, address or name of a customer passes the redactor; everything else does.
 * Method: cases, with and without the encoder's entities; then random texts with a number planted in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dialogue/redact.h"
#include "text/utf8.h"

static kf_arena arena;

static const char *redacted(const char *text, const kf_entity *entities, size_t n, size_t max_chars) {
    kf_str out;
    kf_arena_reset(&arena);
    assert_true(kf_redact(&arena, (kf_str){text, strlen(text)}, entities, n, max_chars, &out));
    assert_int_equal(out.n, strlen(out.s));
    assert_true(kf_utf8_valid(out.s, out.n, NULL));
    return out.s;
}

static void by_shape(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"电话13812345678，快点", "电话[number]，快点"},
        {"138 1234-5678", "[number]"},
        {"１３８１２３４５６７８在吗", "[number]在吗"},
        {"一三八零零一三八零零零打我", "[number]打我"},
        {"单号SF1234567890123", "单号SF[number]"},
        {"六位123456没事", "六位123456没事"},
        {"七位1234567", "七位[number]"},
        {"买两件，199元", "买两件，199元"},
        {"发到a.b@c.com吧", "发到[mail]吧"},
        {"@你", "@你"},
        {"", ""},
        {"123 456 7 8", "[number]"},
        {"12  34567", "12  34567"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(redacted(cases[i].text, NULL, 0, 100), cases[i].want);
}

static void by_entity(void **state) {
    (void)state;
    kf_entity e[] = {{.type = "person", .start = 3, .end = 5},
                     {.type = "address", .start = 6, .end = 11},
                     {.type = "product", .start = 13, .end = 16}};
    assert_string_equal(redacted("收件人张三，杭州西湖区，要羽绒服", e, 3, 100), "收件人[person]，[address]，要羽绒服");
}

static void long_texts_are_cut(void **state) {
    (void)state;
    assert_string_equal(redacted("我想要一件红色的羽绒服", NULL, 0, 5), "我想要一件…");
    assert_string_equal(redacted("我想要一件13812345678", NULL, 0, 8), "我想要一件…"); /* half a mask is no mask */
}

static void no_room(void **state) {
    (void)state;
    kf_arena small;
    kf_str out = {.s = "untouched"};
    assert_int_equal(kf_arena_init(&small, 16), KF_OK);
    assert_false(kf_redact(&small, (kf_str){"我想要一件红色的羽绒服", 33}, NULL, 0, 100, &out));
    assert_string_equal(out.s, "untouched");
    kf_arena_free(&small);
}

static void planted(void **state) {
    (void)state;
    static const char *const around[] = {"我", "电话", " ", "，", "a", "@", "件", "12", "\xF0\x9F\x98\x80", "-"};
    srand(7);
    for (int i = 0; i < 20000; i++) {
        char text[512] = "", number[16];
        for (int k = rand() % 8; k > 0; k--)
            strcat(text, around[rand() % 10]);
        for (int k = 0; k < 11; k++)
            number[k] = (char)('0' + rand() % 10);
        number[11] = 0;
        strcat(text, number);
        for (int k = rand() % 8; k > 0; k--)
            strcat(text, around[rand() % 10]);
        assert_null(strstr(redacted(text, NULL, 0, 1000), number));
    }
}

int main(void) {
    if (kf_arena_init(&arena, 16 << 10) != KF_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_shape), cmocka_unit_test(by_entity), cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(no_room),  cmocka_unit_test(planted),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kf_arena_free(&arena);
    return failed;
}
