/* Aim: a labelled set or a request mix from anywhere is read as it stands or refused with the line's number. Method:
 * files written to a temporary place, good ones field by field, bad ones by their message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli/bench_mix.h"
#include "cli/eval_data.h"
#include "cli/lines.h"

static char path[] = "/tmp/kefu-eval-data-XXXXXX";

static const char *written(const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    return path;
}

static const char *text_file(const char *text) {
    return written(text, strlen(text));
}

static void test_good(void **state) {
    (void)state;
    kf_gold_set set;
    assert_int_equal(
        kf_gold_read(text_file("\n{\"text\":\"我想要 一件\",\"intent\":\"purchase\",\"also\":[\"stock\"],\"sentiment\":"
                               "\"neutral\",\"entities\":[{\"type\":\"quantity\",\"start\":4,\"end\":6}],"
                               "\"words\":[\"我\",\"想要\",\"一件\"],\"pos\":[\"r\",\"v\",\"m\"],\"note\":1}\r\n"
                               "{\"text\":\"好\",\"entities\":[]}"),
                     &set),
        KF_OK);
    assert_int_equal(set.n, 2);
    const kf_gold *g = &set.items[0];
    assert_int_equal(g->line_no, 2);
    assert_string_equal(g->intent, "purchase");
    assert_string_equal(g->also[0], "stock");
    assert_int_equal(g->n_entities, 1);
    assert_int_equal(g->entities[0].end, 6);
    assert_int_equal(g->n_words, 3);
    assert_int_equal(g->words[2].start, 4); /* after the space */
    assert_int_equal(g->words[2].end, 6);
    assert_string_equal(g->words[2].label, "m");
    assert_true(set.items[1].has_entities && !set.items[1].n_entities && !set.items[1].intent && !set.items[1].n_words);
    kf_gold_free(&set);
}

static void test_bad(void **state) {
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"{\"text\":\"a\"", "line 2: not a JSON object"},
        {"[1]", "line 2: not a JSON object"},
        {"{\"intent\":\"x\"}", "line 2: \"text\" is not there"},
        {"{\"text\":\"\"}", "\"text\" must be a string that is not empty"},
        {"{\"text\":\"a\\u0000b\"}", "not a JSON object"},
        {"{\"text\":\"a\",\"text\":\"b\"}", "not a JSON object"},
        {"{\"text\":\"a\",\"intent\":7}", "\"intent\" must be a string"},
        {"{\"text\":\"a\",\"also\":[\"x\"]}", "\"also\" says what counts as right beside \"intent\""},
        {"{\"text\":\"a\",\"intent\":\"x\",\"also\":[1]}", "\"also\" must be a list of strings"},
        {"{\"text\":\"a\",\"intent\":\"x\",\"also\":\"y\"}", "\"also\" must be a list"},
        {"{\"text\":\"红色\",\"entities\":[{\"type\":\"attribute\",\"start\":0,\"end\":3}]}",
         "entity [0, 3) does not lie in the text of 2 code points"},
        {"{\"text\":\"红色\",\"entities\":[{\"type\":\"attribute\",\"start\":1,\"end\":1}]}", "entity [1, 1)"},
        {"{\"text\":\"红色\",\"entities\":[{\"type\":\"attribute\",\"start\":-9223372036854775808,\"end\":1}]}",
         "entity [-9223372036854775808, 1)"},
        {"{\"text\":\"红色\",\"entities\":[{\"start\":0,\"end\":1}]}", "an entity must have \"type\""},
        {"{\"text\":\"红色\",\"entities\":[7]}", "an entity must have \"type\""},
        {"{\"text\":\"红色\",\"words\":[\"红\",\"衣\"],\"pos\":[\"a\",\"n\"]}",
         "word 2 of \"words\" is not what the text"},
        {"{\"text\":\"红色\",\"words\":[\"红\"],\"pos\":[\"a\"]}", "\"words\" end at code point 1"},
        {"{\"text\":\"红色\",\"words\":[\"红色\"],\"pos\":[\"a\",\"n\"]}", "\"words\" has 1 items, \"pos\" has 2"},
        {"{\"text\":\"红色\",\"words\":[\"红色\"],\"pos\":[1]}", "\"pos\" must be a list of strings"},
        {"{\"text\":\"红色\",\"words\":[\"\"]}", "word 1 of \"words\" must be a string"},
        {"{\"text\":\"\xff\"}", "line 2: not UTF-8 text"},
    };
    char file[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_gold_set set;
        snprintf(file, sizeof file, "{\"text\":\"好\"}\n%s\n", cases[i].line);
        assert_int_equal(kf_gold_read(text_file(file), &set), KF_ERR_INVALID);
        if (!strstr(kf_error_text(), cases[i].says)) fail_msg("%s: %s", cases[i].line, kf_error_text());
    }
}

static void test_bounds(void **state) {
    (void)state;
    kf_gold_set set;
    size_t n = KF_LINE_BYTES_MAX + 1;
    char *line = malloc(n);
    memset(line, 'x', n);
    assert_int_equal(kf_gold_read(written(line, n), &set), KF_ERR_TOO_LARGE);
    assert_int_equal(kf_gold_read(written("{\"text\":\"a\0b\"}", 14), &set), KF_ERR_INVALID);
    assert_int_equal(kf_gold_read(text_file("\n\n"), &set), KF_ERR_INVALID);
    assert_int_equal(kf_gold_read("/no/such/file", &set), KF_ERR_NOT_FOUND);
    memset(line, '[', n - 1); /* nesting as deep as a line is long */
    assert_int_equal(kf_gold_read(written(line, n - 1), &set), KF_ERR_INVALID);
    free(line);
}

static void test_mix(void **state) {
    (void)state;
    kf_mix m;
    assert_int_equal(kf_mix_read(NULL, &m), KF_OK);
    assert_true(m.n >= 24);
    kf_mix_free(&m);
    assert_int_equal(kf_mix_read(text_file("在吗\n{\"text\":\"好\",\"max_tokens\":7,\"understand\":true}\n"), &m),
                     KF_OK);
    assert_int_equal(m.n, 2);
    assert_string_equal(m.items[0].text, "在吗");
    assert_int_equal(m.items[1].max_tokens, 7);
    assert_true(m.items[1].understand);
    assert_int_equal(m.text_bytes_max, 6);
    kf_mix_free(&m);
    static const char *const bad[] = {"{\"text\":\"a\",\"max_tokens\":0}",
                                      "{\"text\":\"a\",\"max_tokens\":\"7\"}",
                                      "{\"text\":\"a\",\"understand\":1}",
                                      "{\"text\":7}",
                                      "{\"text\"",
                                      "\xff",
                                      "\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(kf_mix_read(text_file(bad[i]), &m), KF_ERR_INVALID);
}

int main(void) {
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_bounds), cmocka_unit_test(test_mix)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
