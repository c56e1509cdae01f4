/* Aim: the house's rules that a tool can see: lines of 120 columns, files of 700 lines that begin by saying what they
 * do, no tab, no blank at a line's end, no call that cannot be made safe, nothing left to be done later. Method: every
 * .c, .h and .cu of host/, cuda/ and tests/ is read; what the rules find in lines made wrong is checked too. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <regex.h>

enum { COLUMNS_MAX = 120, LINES_MAX = 700, LINE_BYTES = 4096 };

/* What a line of code must not have. Calls are those of host/ and cuda/: a test may end, print and read numbers badly.
 */
static const struct rule {
    const char *pattern, *why;
    int tests_too;
} rules[] = {
    {"(^|[^a-z_0-9])(strcpy|strcat|stpcpy|sprintf|vsprintf|gets|strtok|alloca|tmpnam|mktemp)[(]", "takes no bound", 0},
    {"(^|[^a-z_0-9])(atoi|atol|atoll|atof)[(]", "does not say what it could not read: strtol", 0},
    {"(^|[^a-z_0-9])(rand|srand|random|system|popen)[(]", "not here", 0},
    {"(^|[^a-z_0-9])(localtime|gmtime|ctime|asctime|strsignal|strerror_l)[(]", "is shared by threads: …_r", 0},
    {"(^|[^A-Z])(F[I]XME|T[O]DO|X[X]X|H[A]CK)([^A-Z]|$)", "is to be done now, or an issue", 1},
    {"\t", "has a tab", 1},
    {"[ \r]$", "ends with a blank", 1},
};
enum { N_RULES = sizeof rules / sizeof *rules };

/* No library ends the process, prints, or reads the environment's input: the programs' rooms may. */
static const struct rule library_rule = {"(^|[^a-z_0-9])(exit|_exit|abort|printf|puts|putchar|perror)[(]",
                                         "is the programs'", 0};

static regex_t compiled[N_RULES + 1];

/* Code points, which a terminal shows as columns (a Chinese character as two: the formatter counts it so as well). */
static size_t columns(const char *line) {
    size_t n = 0;
    for (; *line; line++) {
        unsigned char c = (unsigned char)*line;
        n += (c & 0xc0) == 0x80 ? 0 : c >= 0xe3 && c <= 0xed ? 2 : 1;
    }
    return n;
}

static const char *broken_rule(const char *line, int is_test, int is_library) {
    if (columns(line) > COLUMNS_MAX) return "has more than 120 columns";
    for (size_t i = 0; i < N_RULES; i++)
        if ((!is_test || rules[i].tests_too) && regexec(&compiled[i], line, 0, NULL, 0) == 0) return rules[i].why;
    if (is_library && regexec(&compiled[N_RULES], line, 0, NULL, 0) == 0) return library_rule.why;
    return NULL;
}

static size_t check_file(const char *path) {
    char line[LINE_BYTES];
    int is_test = strstr(path, "/tests/") != NULL;
    int is_library = !is_test && !strstr(path, "/host/cli/") && !strstr(path, "/host/kefud/");
    size_t n_lines = 0, n_wrong = 0;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        const char *why = broken_rule(line, is_test, is_library);
        if (++n_lines == 1 && strncmp(line, "/*", 2) != 0 && strncmp(line, "//", 2) != 0)
            why = "begins a file without saying what it does";
        if (n_lines == LINES_MAX + 1) why = "is one too many: look for the seam";
        if (!why) continue;
        print_error("%s:%zu: %s\n", path, n_lines, why);
        n_wrong++;
    }
    fclose(f);
    return n_wrong;
}

static size_t check_folder(const char *folder, size_t *n_files) {
    size_t n_wrong = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));) {
        char path[1024];
        const char *dot = strrchr(e->d_name, '.');
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_type == DT_DIR && e->d_name[0] != '.') n_wrong += check_folder(path, n_files);
        if (!dot || (strcmp(dot, ".c") && strcmp(dot, ".h") && strcmp(dot, ".cu"))) continue;
        n_wrong += check_file(path);
        ++*n_files;
    }
    closedir(dir);
    return n_wrong;
}

static void the_house_is_in_order(void **state) {
    (void)state;
    size_t n_files = 0, n_wrong = 0;
    n_wrong += check_folder(KF_SOURCE_DIR "/host", &n_files);
    n_wrong += check_folder(KF_SOURCE_DIR "/cuda", &n_files);
    n_wrong += check_folder(KF_SOURCE_DIR "/tests", &n_files);
    assert_true(n_files > 200);
    assert_int_equal(n_wrong, 0);
}

static void the_rules_see_what_is_wrong(void **state) {
    (void)state;
    static char wide[COLUMNS_MAX + 2];
    static const char *const wrong[] = {
        "    strcpy(a, b);", "x = atoi(s)", "if (sprintf(a, b))", "/* TO\x44O: later */",
        "\tint x;",          "int x; ",     "abort();",           "    printf(\"%d\", 1);"};
    static const char *const right[] = {"kf_strcpy(a, b);", "snprintf(a, n, b);", "/* XXXL is a size */",
                                        "fprintf(to, a)", "do_exit = 1;"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!broken_rule(wrong[i], 0, 1)) fail_msg("\"%s\" passes", wrong[i]);
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        if (broken_rule(right[i], 0, 1)) fail_msg("\"%s\": %s", right[i], broken_rule(right[i], 0, 1));
    memset(wide, 'x', COLUMNS_MAX);
    assert_null(broken_rule(wide, 0, 1));
    wide[COLUMNS_MAX] = 'x';
    assert_non_null(broken_rule(wide, 0, 1));
    assert_null(broken_rule("x = atoi(s)", 1, 0));
}

static int setup(void **state) {
    (void)state;
    for (size_t i = 0; i <= N_RULES; i++)
        if (regcomp(&compiled[i], i < N_RULES ? rules[i].pattern : library_rule.pattern, REG_EXTENDED | REG_NOSUB) != 0)
            return -1;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (size_t i = 0; i <= N_RULES; i++)
        regfree(&compiled[i]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_house_is_in_order),
        cmocka_unit_test(the_rules_see_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
