/* Aim: the metrics add up and their text is Prometheus' format, line by line.
 * Method: the process's own set, updated from several threads, then parsed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "observe/metrics.h"

static char text[1 << 17];

static const char *written(void) {
    size_t n = kf_metrics_write(text, sizeof text - 1);
    assert_true(n < sizeof text);
    text[n] = 0;
    return text;
}

/* The value of the line that starts with `series`. */
static double value_of(const char *series) {
    char line[256];
    snprintf(line, sizeof line, "\n%s ", series);
    const char *at = strstr(written(), line);
    if (!at) fail_msg("no series %s", series);
    return atof(at + strlen(line));
}

static void *count(void *arg) {
    (void)arg;
    for (int i = 0; i < 10000; i++) {
        kf_metric_add(KF_M_PREEMPTIONS, 1);
        kf_metric_observe(KF_M_PREFILL_TIME, 1000);
    }
    return NULL;
}

static void counting_from_several_threads_loses_nothing(void **state) {
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(value_of("kefu_num_preemptions_total") == 40000);
    assert_true(value_of("kefu_request_prefill_time_seconds_count") == 40000);
    assert_true(kf_metric_read(KF_M_PREFILL_TIME, 0) == 40000);
    assert_true(value_of("kefu_request_prefill_time_seconds_sum") == 0.04);
}

static void buckets_are_cumulative_and_bounds_inclusive(void **state) {
    (void)state;
    kf_metric_observe(KF_M_TTFT, 100000); /* 100 µs: the first bucket's bound itself */
    kf_metric_observe(KF_M_TTFT, 100001);
    kf_metric_observe(KF_M_TTFT, -5); /* counts as 0 */
    kf_metric_observe(KF_M_TTFT, INT64_C(3600000000000));
    assert_true(value_of("kefu_time_to_first_token_seconds_bucket{le=\"0.0001\"}") == 2);
    assert_true(value_of("kefu_time_to_first_token_seconds_bucket{le=\"0.00025\"}") == 3);
    assert_true(value_of("kefu_time_to_first_token_seconds_bucket{le=\"60\"}") == 3);
    assert_true(value_of("kefu_time_to_first_token_seconds_bucket{le=\"+Inf\"}") == 4);
    assert_true(value_of("kefu_time_to_first_token_seconds_count") == 4);
    kf_metric_observe(KF_M_INPUT_LENGTH, 8); /* a count, not nanoseconds */
    assert_true(value_of("kefu_request_input_length_bucket{le=\"4\"}") == 0);
    assert_true(value_of("kefu_request_input_length_bucket{le=\"8\"}") == 1);
    assert_true(value_of("kefu_request_input_length_sum") == 8);
}

static void labels_stand_apart(void **state) {
    (void)state;
    static const struct {
        int code;
        const char *name;
    } codes[] = {{0, "OK"},          {1, "CANCELLED"},          {3, "INVALID_ARGUMENT"}, {4, "DEADLINE_EXCEEDED"},
                 {5, "NOT_FOUND"},   {8, "RESOURCE_EXHAUSTED"}, {12, "UNIMPLEMENTED"},   {13, "INTERNAL"},
                 {14, "UNAVAILABLE"}};
    char series[96];
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        kf_metric_add_label(KF_M_REQUESTS, kf_metric_code_label(codes[i].code), i + 1);
        snprintf(series, sizeof series, "kefu_requests_total{code=\"%s\"}", codes[i].name);
        assert_true(value_of(series) == (double)(i + 1));
    }
    kf_metric_set_label(KF_M_MEMORY, KF_MEM_KV_CACHE, 3e9);
    assert_true(value_of("kefu_memory_bytes{part=\"kv_cache\"}") == 3e9);
    kf_metric_set(KF_M_KV_USAGE, 0.25);
    assert_true(value_of("kefu_kv_cache_usage_perc") == 0.25);
}

/* Every series stands under a HELP and a TYPE of its family; families appear once. */
static void every_line_is_in_the_format(void **state) {
    (void)state;
    char family[128] = "", name[128], kind[32];
    size_t n_families = 0;
    char *rest = (char *)written(), *line;
    while ((line = strsep(&rest, "\n")) && *line) {
        if (sscanf(line, "# HELP %127s", name) == 1) {
            assert_true(strlen(line) > strlen("# HELP ") + strlen(name) + 1);
            assert_string_not_equal(name, family);
            snprintf(family, sizeof family, "%s", name);
            n_families++;
        } else if (sscanf(line, "# TYPE %127s %31s", name, kind) == 2) {
            assert_string_equal(name, family);
            assert_true(!strcmp(kind, "gauge") || !strcmp(kind, "counter") || !strcmp(kind, "histogram"));
            if (!strcmp(kind, "counter")) assert_string_equal(name + strlen(name) - 6, "_total");
        } else {
            char *space = strrchr(line, ' '), *end;
            assert_non_null(space);
            strtod(space + 1, &end);
            assert_true(end > space + 1 && !*end);
            assert_int_equal(strncmp(line, family, strlen(family)), 0);
        }
    }
    assert_int_equal(n_families, KF_N_METRICS);
}

static void a_small_buffer_is_never_overrun(void **state) {
    (void)state;
    size_t n = kf_metrics_write(NULL, 0);
    assert_true(n > 0);
    static char small[600];
    memset(small, '#', sizeof small);
    assert_int_equal(kf_metrics_write(small, 500), n);
    for (size_t i = 500; i < sizeof small; i++)
        assert_int_equal(small[i], '#');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting_from_several_threads_loses_nothing),
        cmocka_unit_test(buckets_are_cumulative_and_bounds_inclusive),
        cmocka_unit_test(labels_stand_apart),
        cmocka_unit_test(every_line_is_in_the_format),
        cmocka_unit_test(a_small_buffer_is_never_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
