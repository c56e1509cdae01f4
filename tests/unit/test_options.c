/* Aim: an option's value comes from where the precedence says, and what is wrong is refused with a text that helps.
 * Method: one small table, parsed from every combination of command line, environment and file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/options.h"

typedef struct settings {
    const char *nats, *token, *config;
    int64_t max_jobs;
    double max_gap_ms;
    bool json, help;
    int device;
    kf_option_texts stop;
} settings;

static const char *const devices[] = {"cpu", "cuda", "null", NULL};
static const kf_option table[] = {
    KF_OPTION("nats", KF_OPTION_TEXT, offsetof(settings, nats), "URL", "nats://127.0.0.1:4222", "where the broker is",
              .url = true),
    KF_OPTION("token", KF_OPTION_TEXT, offsetof(settings, token), "TOKEN", NULL, "a secret", .secret = true),
    KF_OPTION("config", KF_OPTION_TEXT, offsetof(settings, config), "FILE", NULL, "a file with more of these"),
    KF_OPTION("max-jobs", KF_OPTION_INT, offsetof(settings, max_jobs), "N", "256", "in hand at once", .min = 1,
              .max = 1000),
    KF_OPTION("max-gap-ms", KF_OPTION_REAL, offsetof(settings, max_gap_ms), "MS", "20", "longest gap", .min = 0.1,
              .max = 1e4),
    KF_OPTION("json", KF_OPTION_FLAG, offsetof(settings, json), NULL, NULL, "print JSON"),
    KF_OPTION("device", KF_OPTION_CHOICE, offsetof(settings, device), "NAME", "cpu", "cpu, cuda or null",
              .choices = devices),
    KF_OPTION("stop", KF_OPTION_TEXTS, offsetof(settings, stop), "TEXT", NULL, "where to end"),
    KF_OPTION("help", KF_OPTION_FLAG, offsetof(settings, help), NULL, NULL, "this", .once = true),
};

static kf_options o;
static settings s;

static kf_status parse(int n, const char *const *args) {
    char *argv[16] = {(char *)"kefud"};
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)args[i];
    o = (kf_options){.program = "kefud",
                     .usage = "[options]",
                     .about = "A worker.",
                     .table = table,
                     .n_table = sizeof table / sizeof *table};
    return kf_options_parse(&o, n + 1, argv, &s);
}
#define PARSE(...)                                                                                                     \
    parse((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *const[]){__VA_ARGS__})

static const char *write_file(const char *text) {
    static char path[] = "/tmp/kefu_options_XXXXXX";
    strcpy(path, "/tmp/kefu_options_XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void defaults_hold(void **state) {
    (void)state;
    assert_int_equal(parse(0, NULL), KF_OK);
    assert_string_equal(s.nats, "nats://127.0.0.1:4222");
    assert_null(s.token);
    assert_int_equal(s.max_jobs, 256);
    assert_true(s.max_gap_ms == 20);
    assert_false(s.json);
    assert_int_equal(s.device, 0);
    assert_false(kf_options_given(&o, "max-jobs"));
    kf_options_free(&o);
}

static void command_line_beats_environment_beats_file(void **state) {
    (void)state;
    const char *path = write_file("# ours\n\n  max-jobs = 10 \nmax-gap-ms=5\r\ndevice = null\njson = on");
    setenv("KEFU_MAX_JOBS", "20", 1);
    setenv("KEFU_MAX_GAP_MS", "7.5", 1);
    setenv("KEFU_NATS", "", 1); /* empty counts as absent */
    assert_int_equal(PARSE("--config", path, "--max-jobs=30", "hello", "--", "--json"), KF_OK);
    assert_int_equal(s.max_jobs, 30);
    assert_true(s.max_gap_ms == 7.5);
    assert_int_equal(s.device, 2);
    assert_true(s.json);
    assert_string_equal(s.nats, "nats://127.0.0.1:4222");
    assert_int_equal(o.n_rest, 2);
    assert_string_equal(o.rest[0], "hello");
    assert_string_equal(o.rest[1], "--json");
    assert_true(kf_options_given(&o, "max-jobs"));
    kf_options_free(&o);
    unsetenv("KEFU_MAX_JOBS"), unsetenv("KEFU_MAX_GAP_MS"), unsetenv("KEFU_NATS");
    unlink(path);
}

/* Every refusal leaves the struct as it was and says what to change. */
static void refusals_help(void **state) {
    (void)state;
    static const struct {
        const char *args[3], *text;
    } cases[] = {
        {{"--max-job", "3"}, "did you mean --max-jobs?"},
        {{"--devise", "cpu"}, "did you mean --device?"},
        {{"--xyzzy"}, "see kefud --help"},
        {{"-x"}, "unknown option -x"},
        {{"--max-jobs"}, "--max-jobs wants a value: --max-jobs N"},
        {{"--max-jobs", "0"}, "1 to 1000 wanted, not \"0\""},
        {{"--max-jobs", "3x"}, "a whole number wanted"},
        {{"--max-jobs", "99999999999999999999"}, "a whole number wanted"},
        {{"--max-gap-ms", "nan"}, "a number wanted"},
        {{"--device", "gpu"}, "cpu|cuda|null wanted, not \"gpu\""},
        {{"--json=maybe"}, "on or off wanted"},
        {{"--config", "/nowhere/kefu.conf"}, "/nowhere/kefu.conf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.max_jobs = -7;
        int n = cases[i].args[1] ? 2 : 1;
        assert_int_not_equal(parse(n, cases[i].args), KF_OK);
        assert_int_equal(s.max_jobs, -7);
        if (!strstr(kf_error_text(), cases[i].text)) fail_msg("%s: \"%s\"", cases[i].text, kf_error_text());
    }
    static const char *const files[][2] = {{"max-jobs 3\n", "line 1: \"name = value\" wanted"},
                                           {"\nmax-jbos = 3\n", "did you mean max-jobs?"},
                                           {"help = on\n", "for the command line only"},
                                           {"\nmax-jobs = 0\n", ", line 2): 1 to 1000 wanted"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *path = write_file(files[i][0]);
        assert_int_equal(PARSE("--config", path), KF_ERR_INVALID);
        if (!strstr(kf_error_text(), files[i][1])) fail_msg("%s: \"%s\"", files[i][1], kf_error_text());
        if (!strstr(kf_error_text(), path)) fail_msg("%s: \"%s\"", path, kf_error_text());
        unlink(path);
    }
}

static void secrets_are_not_shown(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    assert_non_null(to);
    assert_int_equal(PARSE("--token", "hunter2", "--nats", "nats://joe:hunter2@broker:4222"), KF_OK);
    kf_options_print(&o, to);
    kf_options_help(&o, to);
    fclose(to);
    assert_null(strstr(text, "hunter2"));
    assert_non_null(strstr(text, "nats = nats://…@broker:4222"));
    assert_non_null(strstr(text, "# command line"));
    assert_non_null(strstr(text, "max-jobs = 256"));
    free(text);
    kf_options_free(&o);
}

/* Of every server of a list, however it is written; hosts and schemes stay. */
static void passwords_in_urls_are_not_shown(void **state) {
    (void)state;
    static const char *const urls[][2] = {
        {"joe:hunter2@broker", "nats = …@broker\n"},
        {"nats://hunter2@broker:4222", "nats = nats://…@broker:4222\n"},
        {"nats://joe:hunter2@a,tls://ann:hunter2@b:1,nats://c", "nats = nats://…@a,tls://…@b:1,nats://c\n"},
        {"nats://joe:hun@hunter2@a", "nats = nats://…@…@a\n"},
        {"nats://a,b", "nats = nats://a,b\n"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *to = open_memstream(&text, &n);
        assert_non_null(to);
        assert_int_equal(PARSE("--nats", urls[i][0]), KF_OK);
        kf_options_print(&o, to);
        fclose(to);
        assert_null(strstr(text, "hunter2"));
        if (!strstr(text, urls[i][1])) fail_msg("\"%s\" wanted: %s", urls[i][1], text);
        free(text);
        kf_options_free(&o);
    }
}

static void a_list_is_given_piece_by_piece(void **state) {
    (void)state;
    assert_int_equal(parse(0, NULL), KF_OK);
    assert_int_equal(s.stop.n, 0);
    kf_options_free(&o);
    setenv("KEFU_STOP", "environment", 1);
    assert_int_equal(parse(0, NULL), KF_OK);
    assert_int_equal(s.stop.n, 1);
    assert_string_equal(s.stop.text[0], "environment");
    kf_options_free(&o);
    assert_int_equal(PARSE("--stop", "。", "--json", "--stop=", "--stop", "--json"), KF_OK);
    unsetenv("KEFU_STOP");
    assert_int_equal(s.stop.n, 3);
    assert_string_equal(s.stop.text[0], "。");
    assert_string_equal(s.stop.text[1], "");
    assert_string_equal(s.stop.text[2], "--json");
    kf_options_free(&o);
    assert_int_equal(PARSE("--stop=1", "--stop=2", "--stop=3", "--stop=4", "--stop=5", "--stop=6", "--stop=7",
                           "--stop=8", "--stop=9"),
                     KF_ERR_INVALID);
    assert_non_null(strstr(kf_error_text(), "--stop: at most 8 times"));
}

/* What --print-config shows is a file that --config takes. */
static void printed_configuration_can_be_read(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    assert_non_null(to);
    assert_int_equal(PARSE("--max-jobs", "12", "--json", "--device", "cuda"), KF_OK);
    kf_options_print(&o, to);
    fclose(to);
    kf_options_free(&o);
    const char *path = write_file(text);
    assert_int_equal(PARSE("--config", path), KF_OK);
    assert_int_equal(s.max_jobs, 12);
    assert_int_equal(s.device, 1);
    assert_true(s.json);
    kf_options_free(&o);
    unlink(path);
    free(text);
}

/* Where a value came from is named so that it can be found and changed. */
static void printed_configuration_names_sources(void **state) {
    (void)state;
    char *text = NULL, wanted[512];
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    assert_non_null(to);
    const char *path = write_file("# a comment\nmax-jobs = 12\n");
    assert_int_equal(PARSE("--config", path), KF_OK);
    kf_options_print(&o, to);
    fclose(to);
    kf_options_free(&o);
    snprintf(wanted, sizeof wanted, "# file %s, line 2\nmax-jobs = 12\n", path);
    if (!strstr(text, wanted)) fail_msg("\"%s\" is not in: %s", wanted, text);
    unlink(path);
    free(text);
}

/* One file for kefud and kefu: each passes over what is the other's. */
static void a_shared_file_may_hold_names_of_others(void **state) {
    (void)state;
    const char *path = write_file("http = 127.0.0.1:9\nmax-jobs = 5\nhelp = on\n");
    char *argv[] = {(char *)"kefu", (char *)"--config", (char *)path};
    o = (kf_options){.program = "kefu", .table = table, .n_table = sizeof table / sizeof *table, .shared_file = true};
    assert_int_equal(kf_options_parse(&o, 3, argv, &s), KF_OK);
    assert_int_equal(s.max_jobs, 5);
    assert_false(s.help);
    kf_options_free(&o);
    assert_int_equal(PARSE("--config", path), KF_ERR_INVALID);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold),
        cmocka_unit_test(command_line_beats_environment_beats_file),
        cmocka_unit_test(refusals_help),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(passwords_in_urls_are_not_shown),
        cmocka_unit_test(a_list_is_given_piece_by_piece),
        cmocka_unit_test(printed_configuration_can_be_read),
        cmocka_unit_test(printed_configuration_names_sources),
        cmocka_unit_test(a_shared_file_may_hold_names_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
