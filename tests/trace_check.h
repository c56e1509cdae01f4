/* Reads a trace back: valid JSON, every begin of a request ends and its parts nest, times never go back in a request,
 * slices of a track lie beside or inside each other. */
#ifndef KF_TESTS_TRACE_CHECK_H
#define KF_TESTS_TRACE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct trace_seen {
    json_t *events; /* the whole file */
    size_t n_requests, n_parts, n_runs, n_passes;
    int64_t n_records, n_dropped; /* as the file says */
} trace_seen;

static inline const char *trace_text(const json_t *e, const char *key) {
    const char *s = json_string_value(json_object_get(e, key));
    return s ? s : "";
}

static inline double trace_number(const json_t *e, const char *key) {
    const json_t *v = json_object_get(e, key);
    if (!json_is_number(v)) fail_msg("%s has no number %s", trace_text(e, "name"), key);
    return json_number_value(v);
}

/* Follows one request from its outer begin at index `at` to its end. */
static inline void trace_follow(trace_seen *t, size_t at) {
    const char *open[4], *id = trace_text(json_array_get(t->events, at), "id");
    size_t depth = 0;
    double before = 0;
    for (;; at++) {
        const json_t *e = json_array_get(t->events, at);
        if (!e) fail_msg("request %s does not end", id);
        if (strcmp(trace_text(e, "id"), id)) continue;
        assert_true(trace_number(e, "ts") >= before);
        before = trace_number(e, "ts");
        if (!strcmp(trace_text(e, "ph"), "b")) {
            assert_true(depth < 2);
            t->n_parts += depth == 1;
            open[depth++] = trace_text(e, "name");
        } else {
            assert_true(depth > 0);
            assert_string_equal(trace_text(e, "name"), open[--depth]);
            if (depth == 0) return;
        }
    }
}

static inline void trace_nests(const trace_seen *t, int64_t track) {
    double end = 0;
    for (size_t i = 0; i < json_array_size(t->events); i++) {
        const json_t *e = json_array_get(t->events, i);
        if (strcmp(trace_text(e, "ph"), "X") || json_integer_value(json_object_get(e, "tid")) != track) continue;
        assert_true(trace_number(e, "ts") >= end - 0.0005);
        end = trace_number(e, "ts") + trace_number(e, "dur");
    }
}

static inline trace_seen trace_read(const char *path) {
    json_error_t error;
    trace_seen t = {.events = json_load_file(path, JSON_REJECT_DUPLICATES, &error), .n_dropped = -1};
    if (!t.events) fail_msg("%s:%d: %s", path, error.line, error.text);
    assert_true(json_is_array(t.events));
    for (size_t i = 0; i < json_array_size(t.events); i++) {
        const json_t *e = json_array_get(t.events, i), *args = json_object_get(e, "args");
        const char *phase = trace_text(e, "ph");
        if (!strcmp(phase, "b") && args) {
            t.n_requests++;
            trace_follow(&t, i);
        } else if (!strcmp(phase, "X")) {
            t.n_runs += json_integer_value(json_object_get(e, "tid")) == 1;
            t.n_passes += json_integer_value(json_object_get(e, "tid")) == 2;
        } else if (!strcmp(phase, "i")) {
            assert_string_equal(trace_text(e, "name"), "trace ended");
            t.n_records = (int64_t)trace_number(args, "records");
            t.n_dropped = (int64_t)trace_number(args, "dropped");
        }
    }
    assert_int_equal(t.n_records, t.n_requests + t.n_runs + t.n_passes);
    trace_nests(&t, 1);
    trace_nests(&t, 2);
    return t;
}

/* How many requests' parts, or slices, have this name. */
static inline size_t trace_count(const trace_seen *t, const char *name) {
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(t->events); i++) {
        const json_t *e = json_array_get(t->events, i);
        n += !strcmp(trace_text(e, "name"), name) && strcmp(trace_text(e, "ph"), "e") != 0;
    }
    return n;
}

#endif
