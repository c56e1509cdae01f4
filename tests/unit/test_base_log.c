/* Aim: every line of the log is one JSON object with the fields that it was given, whatever their content, length or
 * number, and lines of several threads never mix. Method: lines written to a pipe or a file, read back with jansson.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>

#include "base/log.h"

static FILE *file;

static int open_log(void **state) {
    (void)state;
    file = tmpfile();
    if (!file) return -1;
    kf_log_to(fileno(file), KF_INFO);
    return 0;
}

static int close_log(void **state) {
    (void)state;
    kf_log_to(-1, KF_INFO);
    return fclose(file);
}

/* The next line of the log, which must be one JSON object; NULL at the end. The caller drops it. */
static json_t *next_line(void) {
    static char line[1 << 14];
    if (!fgets(line, sizeof line, file)) return NULL;
    size_t n = strlen(line);
    assert_true(n > 0 && line[n - 1] == '\n');
    json_error_t error;
    json_t *j = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);
    if (!j) fail_msg("%s: %s", error.text, line);
    assert_true(json_is_object(j));
    return j;
}

static const char *text_of(const json_t *j, const char *key) {
    return json_string_value(json_object_get(j, key));
}

static void test_fields(void **state) {
    (void)state;
    kf_log(KF_WARN, "some_event", KF_STR("s", "quote \" back \\ line \n tab \t bell \a 羽绒服"), KF_INT("i", INT64_MIN),
           KF_F64("f", 0.25), KF_F64("nan", NAN), KF_F64("inf", INFINITY), KF_BOOL("yes", 7), KF_BOOL("no", 0),
           KF_STR("null", NULL), KF_END);
    kf_log(KF_DEBUG, "too_fine", KF_END);
    kf_log(KF_ERROR, "bare", KF_END);
    rewind(file);
    json_t *j = next_line();
    assert_string_equal(text_of(j, "event"), "some_event");
    assert_string_equal(text_of(j, "level"), "warn");
    assert_int_equal(strlen(text_of(j, "ts")), 24);
    assert_string_equal(text_of(j, "s"), "quote \" back \\ line \n tab \t bell \a 羽绒服");
    assert_true(json_integer_value(json_object_get(j, "i")) == INT64_MIN);
    assert_true(json_number_value(json_object_get(j, "f")) == 0.25);
    assert_true(json_is_null(json_object_get(j, "nan")) && json_is_null(json_object_get(j, "inf")));
    assert_true(json_is_true(json_object_get(j, "yes")) && json_is_false(json_object_get(j, "no")));
    assert_string_equal(text_of(j, "null"), "");
    json_decref(j);
    j = next_line();
    assert_string_equal(text_of(j, "event"), "bare");
    assert_string_equal(text_of(j, "level"), "error");
    json_decref(j);
    assert_null(next_line());
}

/* A line has a limit: what is over it goes, from the end, and what stays is JSON. */
static void test_any_length(void **state) {
    (void)state;
    static char value[5000];
    for (size_t n = 0; n < sizeof value - 1; n += n < 1800 || n > 2100 ? 97 : 1) {
        memset(value, '"', n); /* each takes two bytes */
        memset(value, 'x', n / 2);
        value[n] = 0;
        kf_log(KF_INFO, "e", KF_INT("first", 1), KF_STR("value", value), KF_INT("last", 2), KF_STR("more", value),
               KF_END);
    }
    rewind(file);
    size_t n_lines = 0, n_whole = 0;
    for (json_t *j; (j = next_line()); json_decref(j), n_lines++) {
        assert_int_equal(json_integer_value(json_object_get(j, "first")), 1);
        n_whole += json_object_get(j, "more") != NULL;
    }
    assert_in_range(n_whole, 1, n_lines - 1);
}

static void *write_lines(void *name) {
    for (int i = 0; i < 500; i++)
        kf_log(KF_INFO, "line", KF_STR("thread", name), KF_INT("i", i), KF_END);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    static char names[4][200];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        memset(names[i], 'a' + (int)i, sizeof names[i] - 1);
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    rewind(file);
    int next[4] = {0};
    for (json_t *j; (j = next_line()); json_decref(j)) {
        size_t thread = (size_t)(text_of(j, "thread")[0] - 'a');
        assert_string_equal(text_of(j, "thread"), names[thread]);
        assert_int_equal(json_integer_value(json_object_get(j, "i")), next[thread]++);
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(next[i], 500);
}

static void test_nowhere(void **state) {
    (void)state;
    kf_log_to(-1, KF_DEBUG);
    kf_log(KF_ERROR, "nobody_reads_this", KF_END);
    rewind(file);
    assert_null(next_line());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_log, close_log)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_fields), TEST(test_any_length), TEST(test_threads),
                                       TEST(test_nowhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
