/* Aim: pictures are well-formed XML, whatever a label holds, and draw as many points as there are data. Method: results
 * made here are drawn, and the file is read tag by tag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench_plot.h"
#include "cli/eval_plot.h"

static char path[] = "/tmp/kefu_plotXXXXXX", xml[1 << 20];

static void read_plot(void) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(xml, 1, sizeof xml - 1, f);
    xml[n] = 0;
    fclose(f);
}

/* One tag from its '<' on: its attributes are quoted, and it opens or closes as the stack says. Returns its end. */
static const char *check_tag(const char *at, char stack[8][16], int *depth) {
    char name[16];
    int closing = at[1] == '/', quoted = 0;
    assert_int_equal(sscanf(at + 1 + closing, "%15[a-z]", name), 1);
    const char *end = at + 1;
    for (; *end && (quoted || *end != '>'); end++) {
        quoted ^= *end == '"';
        if (*end == '=' && !quoted) assert_int_equal(end[1], '"');
        if (*end == '<') fail_msg("a < inside a tag: %.40s", at);
    }
    assert_int_equal(*end, '>');
    if (closing) {
        assert_true(*depth > 0);
        assert_string_equal(stack[--*depth], name);
    } else if (end[-1] != '/') {
        assert_true(*depth < 8);
        snprintf(stack[(*depth)++], 16, "%s", name);
    }
    return end;
}

static void assert_well_formed(void) {
    char stack[8][16];
    int depth = 0;
    read_plot();
    assert_memory_equal(xml, "<svg ", 5);
    for (const char *at = xml; *at; at++) {
        if (*at == '<') at = check_tag(at, stack, &depth);
        if (*at == '&' && strncmp(at, "&#", 2) != 0) fail_msg("a bare &: %.40s", at);
        if (depth == 0 && at > xml + 5 && *at != '>' && *at != '\n') fail_msg("text after the end: %.40s", at);
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(xml, "nan"));
    assert_null(strstr(xml, "inf,"));
}

static size_t count(const char *what) {
    size_t n = 0;
    for (const char *at = xml; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

/* Points of the curve of a class; 0: there is none. */
static size_t points_of(const char *cls) {
    char begin[64];
    size_t n = 0;
    snprintf(begin, sizeof begin, "<polyline class=\"%s\" points=\"", cls);
    const char *at = strstr(xml, begin);
    if (!at) return 0;
    for (at += strlen(begin); *at != '"'; at++)
        n += *at == ',';
    return n;
}

static void fill(kf_load_result *r, size_t n, double step) {
    *r = (kf_load_result){.n_sent = n, .n_ok = n, .seconds = step * (double)n};
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kf_samples_add(&r->total, 0.02 + 0.001 * (double)(i * 7 % 100)), KF_OK);
        if (i % 2) assert_int_equal(kf_samples_add(&r->ttft, 0.01), KF_OK);
        assert_int_equal(kf_samples_add(&r->done, step * (double)i), KF_OK);
    }
}

static void a_load_has_its_points(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 50, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        kf_load_result r;
        fill(&r, sizes[i], 0.01);
        assert_int_equal(kf_bench_plot(path, &r), KF_OK);
        assert_well_formed();
        size_t n = sizes[i], n_ttft = n / 2;
        assert_int_equal(points_of("c0"), n < KF_PLOT_POINTS ? n : KF_PLOT_POINTS);
        assert_int_equal(points_of("c1"), n_ttft < KF_PLOT_POINTS ? n_ttft : KF_PLOT_POINTS);
        assert_int_equal(points_of("c2"), 0); /* no tpot was measured */
        assert_int_equal(count("fill-opacity=\"0.850\""), KF_PLOT_BINS);
        kf_load_result_free(&r);
    }
}

static void nothing_came_back(void **state) {
    (void)state;
    kf_load_result r = {.n_sent = 3};
    assert_int_equal(kf_bench_plot(path, &r), KF_OK);
    assert_well_formed();
    assert_int_equal(count("<polyline"), 0);
    assert_int_equal(kf_bench_plot("/no/such/folder/a.svg", &r), KF_ERR_IO);
    assert_non_null(strstr(kf_error_text(), "/no/such/folder/a.svg"));
}

static void a_matrix_has_its_cells(void **state) {
    (void)state;
    kf_tally t;
    kf_tally_init(&t);
    assert_int_equal(kf_eval_plot(path, "intent", &t), KF_ERR_INVALID);
    static const char *const pairs[][2] = {{"a", "a"},       {"a", "a"},    {"a", "b<&\"'>"}, {"b<&\"'>", "a"},
                                           {"退货", "退货"}, {"退货", "a"}, {"退货", "a"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(kf_score_class(&t, pairs[i][0], NULL, 0, pairs[i][1]), KF_OK);
    assert_int_equal(kf_eval_plot(path, "intent", &t), KF_OK);
    assert_well_formed();
    assert_int_equal(count("<rect class=\"c0\""), 2); /* a as a, 退货 as 退货 */
    assert_int_equal(count("<rect class=\"c1\""), 3);
    assert_int_equal(count("class=\"cell\""), 5);
    assert_non_null(strstr(xml, "退货"));
    kf_tally_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_has_its_points),
        cmocka_unit_test(nothing_came_back),
        cmocka_unit_test(a_matrix_has_its_cells),
    };
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
