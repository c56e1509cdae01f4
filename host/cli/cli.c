/* Parsing and ending of every command. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool kf_cli_parse(kf_options *o, int argc, char **argv, void *values, const kf_cli_common *common, int *code) {
    o->shared_file = true;
    o->after = KF_EXIT_HELP;
    if (kf_options_parse(o, argc, argv, values) != KF_OK) {
        fprintf(stderr, "%s: %s\n", o->program, kf_error_text());
        *code = KF_EXIT_USAGE;
        return false;
    }
    if (!common->help) return true;
    kf_options_help(o, stdout);
    kf_options_free(o);
    *code = KF_EXIT_OK;
    return false;
}

int kf_cli_usage(kf_options *o, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s: ", o->program);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "; see %s --help\n", o->program);
    va_end(args);
    kf_options_free(o);
    return KF_EXIT_USAGE;
}

int kf_cli_end(kf_options *o, kf_status s, int code) {
    if (s != KF_OK) fprintf(stderr, "%s: %s\n", o->program, kf_error_text());
    kf_options_free(o);
    return s != KF_OK && code == KF_EXIT_OK ? KF_EXIT_FAILED : code;
}

/* Letters of a and b that lie in the same order: the longest common subsequence. */
static size_t common_letters(const char *a, const char *b) {
    enum { LETTERS = 32 };
    size_t row[LETTERS + 1] = {0}, n = strlen(b);
    if (n > LETTERS) return 0;
    for (; *a; a++) {
        size_t diagonal = 0;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            if (*a == b[j - 1])
                row[j] = diagonal + 1;
            else if (row[j - 1] > row[j])
                row[j] = row[j - 1];
            diagonal = above;
        }
    }
    return row[n];
}

const char *kf_cli_nearest(const char *name, const kf_command *commands, size_t n) {
    const char *best = NULL;
    size_t best_common = 1;
    for (size_t i = 0; i < n; i++) {
        size_t common = common_letters(name, commands[i].name), longer = strlen(name);
        if (strlen(commands[i].name) > longer) longer = strlen(commands[i].name);
        if (common <= best_common || 2 * common < longer) continue;
        best = commands[i].name;
        best_common = common;
    }
    return best;
}

kf_status kf_cli_print_json(json_t *doc) {
    if (!doc) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the JSON document");
    int failed = json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(doc);
    if (failed || putchar('\n') == EOF) return KF_FAIL(KF_ERR_IO, "cannot write to standard output");
    return KF_OK;
}
