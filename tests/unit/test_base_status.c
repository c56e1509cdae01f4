/* Aim: a failure's text and path are kept a thread each, however long they are and however deep they go.
 * Method: failures passed up through functions, from two threads at once; texts longer than the record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/status.h"

static kf_status leaf(int n) {
    if (n > 2) return KF_FAIL(KF_ERR_TOO_LARGE, "leaf: %d, the limit is %d; lower --n", n, 2);
    return KF_OK;
}

static kf_status middle(int n) {
    KF_TRY(leaf(n));
    return KF_OK;
}

static kf_status with_one_exit(int n, int *freed) {
    kf_status s = KF_OK;
    KF_STEP(s, leaf(1));
    KF_STEP(s, middle(n));
    KF_STEP(s, leaf(100)); /* not run after a failure */
    (*freed)++;
    return s;
}

static size_t count(const char *text, const char *what) {
    size_t n = 0;
    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void test_text_and_path(void **state) {
    (void)state;
    int freed = 0;
    kf_error_clear();
    assert_int_equal(middle(2), KF_OK);
    assert_string_equal(kf_error_text(), "");
    assert_int_equal(with_one_exit(3, &freed), KF_ERR_TOO_LARGE);
    assert_int_equal(freed, 1);
    assert_string_equal(kf_error_text(), "leaf: 3, the limit is 2; lower --n");
    assert_int_equal(count(kf_error_where(), "test_base_status.c:"), 3);
    assert_int_equal(count(kf_error_where(), " < "), 2);
    assert_null(strchr(kf_error_where(), '/'));
    kf_error_clear();
    assert_string_equal(kf_error_text(), "");
    assert_string_equal(kf_error_where(), "");
}

static kf_status deep(int n) {
    if (n == 0) return leaf(9);
    KF_TRY(deep(n - 1));
    return KF_OK;
}

static void test_longer_than_the_record(void **state) {
    (void)state;
    static char text[4000];
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(KF_FAIL(KF_ERR_IO, "%s", text), KF_ERR_IO);
    assert_in_range(strlen(kf_error_text()), 100, 1000);
    assert_int_equal(deep(200), KF_ERR_TOO_LARGE);
    assert_in_range(strlen(kf_error_where()), 100, 1000);
    assert_int_equal(KF_FAIL(KF_ERR_IO, "again: %s", kf_error_text()), KF_ERR_IO); /* its own record as an argument */
    assert_string_equal(kf_error_text(), "again: leaf: 9, the limit is 2; lower --n");
}

static void *fail_elsewhere(void *arg) {
    (void)arg;
    return (void *)(uintptr_t)(*kf_error_text() == 0 && leaf(7) == KF_ERR_TOO_LARGE);
}

static void test_a_record_a_thread(void **state) {
    (void)state;
    pthread_t thread;
    void *right;
    assert_int_equal(leaf(5), KF_ERR_TOO_LARGE);
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, &right);
    assert_non_null(right);
    assert_non_null(strstr(kf_error_text(), "leaf: 5"));
}

static void test_names(void **state) {
    (void)state;
    for (int i = 0; i < KF_N_STATUS; i++) {
        assert_string_not_equal(kf_status_name((kf_status)i), "UNKNOWN");
        for (int k = 0; k < i; k++)
            assert_string_not_equal(kf_status_name((kf_status)i), kf_status_name((kf_status)k));
    }
    assert_string_equal(kf_status_name(KF_N_STATUS), "UNKNOWN");
    assert_string_equal(kf_status_name((kf_status)-1), "UNKNOWN");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_and_path),
        cmocka_unit_test(test_longer_than_the_record),
        cmocka_unit_test(test_a_record_a_thread),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
