/* Aim: a trace file is valid whatever is recorded, loses nothing without counting it, and bounds what waits. Method:
 * several threads record as fast as they can; texts that JSON must escape; a path that cannot be written. */
#include "trace_check.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/trace.h"
#include "observe/trace_file.h"

enum { THREADS = 3, EACH = 30000 };

static char path[] = "/tmp/kefu_traceXXXXXX";

static void *record_many(void *arg) {
    int64_t *start = arg;
    for (int64_t i = 0; i < EACH; i++) {
        int64_t at = *start + i;
        kf_trace(&(kf_trace_record){.track = KF_TRACE_REQUESTS,
                                    .name = "reply",
                                    .id = (uint64_t)at,
                                    .begin_ns = at,
                                    .end_ns = at + 9,
                                    .items = {{"queued", at + 2}, {"publish", at + 9}}});
    }
    return NULL;
}

static void what_is_not_written_is_counted(void **state) {
    (void)state;
    kf_trace_file *f;
    pthread_t threads[THREADS];
    int64_t starts[THREADS];
    assert_int_equal(kf_trace_file_open(path, &f), KF_OK);
    for (int i = 0; i < THREADS; i++) {
        starts[i] = 1 + (int64_t)i * EACH;
        assert_int_equal(pthread_create(&threads[i], NULL, record_many, &starts[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    kf_trace_file_close(f);
    json_t *events = json_load_file(path, 0, NULL);
    assert_non_null(events);
    const json_t *last = json_object_get(json_array_get(events, json_array_size(events) - 1), "args");
    int64_t written = json_integer_value(json_object_get(last, "records"));
    assert_int_equal(written + json_integer_value(json_object_get(last, "dropped")), THREADS * EACH);
    assert_int_equal(json_array_size(events), 5 + written * 6);
    json_decref(events);
}

static void ids_are_escaped(void **state) {
    (void)state;
    kf_trace_file *f;
    assert_int_equal(kf_trace_file_open(path, &f), KF_OK);
    kf_trace_record r = {.name = "reply", .label = "a\"\\\n\x01 订单", .code = 4, .begin_ns = 1000, .end_ns = 1500};
    kf_trace(&r);
    kf_trace_file_close(f);
    trace_seen t = trace_read(path);
    assert_int_equal(t.n_requests, 1);
    const json_t *begin = json_array_get(t.events, 4), *args = json_object_get(begin, "args");
    assert_string_equal(trace_text(args, "request"), r.label);
    assert_int_equal(trace_number(args, "code"), 4);
    assert_true(trace_number(begin, "ts") == 1.0);
    json_decref(t.events);
}

static void nobody_listens_unless_asked(void **state) {
    (void)state;
    assert_false(kf_trace_on());
    assert_int_equal(kf_trace_begin(), 0);
    kf_trace_pass("layer", 0, "layer", 1); /* to nobody */
    kf_trace_file *f = NULL;
    assert_int_equal(kf_trace_file_open("/no/such/folder/trace.json", &f), KF_ERR_IO);
    assert_non_null(strstr(kf_error_text(), "/no/such/folder/trace.json"));
    assert_null(f);
    assert_false(kf_trace_on());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_written_is_counted),
        cmocka_unit_test(ids_are_escaped),
        cmocka_unit_test(nobody_listens_unless_asked),
    };
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
