/* The options of options.h: collect the texts by precedence, then check and convert each once. */
#include "base/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 64 << 10, VARIABLE_BYTES = 80, NAME_BYTES_MAX = 40 };

static const char *const source_names[] = {"default", "file", "environment", "command line"};

/* ---- finding an option, or the one that was meant ---- */

static const kf_option *find(const kf_options *o, const char *name, size_t n, size_t *idx) {
    for (size_t i = 0; i < o->n_table; i++) {
        if (strlen(o->table[i].name) != n || strncmp(o->table[i].name, name, n) != 0) continue;
        *idx = i;
        return &o->table[i];
    }
    return NULL;
}

/* Levenshtein's distance, for names of at most NAME_BYTES_MAX. */
static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t row[NAME_BYTES_MAX + 1];
    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n_b];
}

/* The nearest name, NULL where none is near: at most a third of the letters differ, or one begins with the other. */
static const char *nearest(const kf_options *o, const char *name, size_t n) {
    const char *best = NULL;
    size_t best_distance = n / 3 + 1;
    if (n > NAME_BYTES_MAX) return NULL;
    for (size_t i = 0; i < o->n_table; i++) {
        const char *other = o->table[i].name;
        size_t n_other = strlen(other);
        if (n_other > NAME_BYTES_MAX) continue;
        size_t d = n >= 3 && strncmp(other, name, n) == 0 ? 1 : distance(name, n, other, n_other);
        if (d > best_distance || (best && d == best_distance)) continue;
        best = other;
        best_distance = d;
    }
    return best;
}

static kf_status unknown(const kf_options *o, const char *prefix, const char *name, size_t n, const char *where) {
    const char *meant = nearest(o, name, n);
    if (meant)
        return KF_FAIL(KF_ERR_INVALID, "unknown option %s%.*s%s; did you mean %s%s?", prefix, (int)n, name, where,
                       prefix, meant);
    return KF_FAIL(KF_ERR_INVALID, "unknown option %s%.*s%s; see %s --help", prefix, (int)n, name, where, o->program);
}

/* ---- collecting: the command line, the environment, the file ---- */

static void take(kf_options *o, size_t idx, const char *text, kf_option_source source) {
    o->text[idx] = text;
    o->source[idx] = source;
}

/* One argument that starts with "--"; *i moves past its value. */
static kf_status take_argument(kf_options *o, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name), idx;
    const kf_option *opt = find(o, name, n, &idx);
    if (!opt) return unknown(o, "--", name, n, "");
    if (equals) {
        take(o, idx, equals + 1, KF_FROM_COMMAND_LINE);
    } else if (opt->kind == KF_OPTION_FLAG) {
        take(o, idx, "on", KF_FROM_COMMAND_LINE);
    } else if (*i + 1 < argc) {
        take(o, idx, argv[++*i], KF_FROM_COMMAND_LINE);
    } else {
        return KF_FAIL(KF_ERR_INVALID, "--%s wants a value: --%s %s", opt->name, opt->name, opt->arg);
    }
    o->given[o->n_given++] = (struct kf_option_given){idx, o->text[idx]};
    return KF_OK;
}

static kf_status take_command_line(kf_options *o, int argc, char **argv) {
    size_t idx;
    bool only_rest = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (only_rest || a[0] != '-' || !a[1]) {
            o->rest[o->n_rest++] = argv[i];
        } else if (!strcmp(a, "--")) {
            only_rest = true;
        } else if (!strcmp(a, "-h") && find(o, "help", 4, &idx)) {
            take(o, idx, "on", KF_FROM_COMMAND_LINE);
        } else if (a[1] == '-') {
            KF_TRY(take_argument(o, argc, argv, &i));
        } else {
            return KF_FAIL(KF_ERR_INVALID, "unknown option %s; see %s --help (-- ends the options)", a, o->program);
        }
    }
    return KF_OK;
}

static void variable_name(const char *name, char out[VARIABLE_BYTES]) {
    snprintf(out, VARIABLE_BYTES, "KEFU_%s", name);
    for (char *p = out; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

static void take_environment(kf_options *o) {
    char variable[VARIABLE_BYTES];
    for (size_t i = 0; i < o->n_table; i++) {
        if (o->text[i] || o->table[i].once) continue;
        variable_name(o->table[i].name, variable);
        const char *value = getenv(variable);
        if (value && *value) take(o, i, value, KF_FROM_ENVIRONMENT);
    }
}

static kf_status read_file(const char *path, char **out) {
    FILE *f = fopen(path, "re");
    if (!f)
        return KF_FAIL(errno == ENOENT ? KF_ERR_NOT_FOUND : KF_ERR_IO, "configuration file %s: %s", path,
                       strerror(errno));
    char *bytes = malloc(FILE_BYTES_MAX + 1);
    size_t n = bytes ? fread(bytes, 1, FILE_BYTES_MAX + 1, f) : 0;
    bool failed = ferror(f) != 0;
    fclose(f);
    kf_status s = KF_OK;
    if (!bytes) {
        s = KF_FAIL(KF_ERR_NO_MEMORY, "configuration file %s: no memory for its %d bytes", path, FILE_BYTES_MAX);
    } else if (failed) {
        s = KF_FAIL(KF_ERR_IO, "configuration file %s cannot be read", path);
    } else if (n > FILE_BYTES_MAX || memchr(bytes, 0, n)) {
        s = KF_FAIL(n > FILE_BYTES_MAX ? KF_ERR_TOO_LARGE : KF_ERR_INVALID,
                    "configuration file %s: text of at most %d bytes wanted", path, FILE_BYTES_MAX);
    }
    if (s != KF_OK) {
        free(bytes);
        return s;
    }
    bytes[n] = 0;
    *out = bytes;
    return KF_OK;
}

/* Cuts spaces off both ends, in place. */
static char *trim(char *s) {
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        n--;
    s[n] = 0;
    return s;
}

static kf_status take_line(kf_options *o, char *line, const char *path, int line_no) {
    char *name = trim(line), *equals = strchr(name, '='), where[128];
    size_t idx;
    if (!*name || *name == '#') return KF_OK;
    if (!equals)
        return KF_FAIL(KF_ERR_INVALID, "configuration file %s, line %d: \"name = value\" wanted", path, line_no);
    *equals = 0;
    name = trim(name);
    const kf_option *opt = find(o, name, strlen(name), &idx);
    if (o->shared_file && (!opt || opt->once)) return KF_OK;
    snprintf(where, sizeof where, " in configuration file %s, line %d", path, line_no);
    if (!opt) return unknown(o, "", name, strlen(name), where);
    if (opt->once) return KF_FAIL(KF_ERR_INVALID, "option %s%s: it is for the command line only", opt->name, where);
    if (o->source[idx] > KF_FROM_FILE) return KF_OK;
    take(o, idx, trim(equals + 1), KF_FROM_FILE);
    o->line_no[idx] = line_no;
    return KF_OK;
}

static kf_status take_file(kf_options *o) {
    size_t idx;
    if (!find(o, "config", 6, &idx) || !o->text[idx]) return KF_OK;
    const char *path = o->text[idx];
    KF_TRY(read_file(path, &o->file));
    char *rest = o->file, *line;
    for (int line_no = 1; (line = strsep(&rest, "\n")); line_no++)
        KF_TRY(take_line(o, line, path, line_no));
    return KF_OK;
}

/* ---- checking and converting ---- */

/* "file k.conf, line 3", "environment KEFU_DTYPE", "command line" or "default". */
static const char *source_of(const kf_options *o, size_t idx, char *out, size_t cap) {
    char variable[VARIABLE_BYTES];
    size_t config;
    if (o->source[idx] == KF_FROM_FILE && find(o, "config", 6, &config)) {
        snprintf(out, cap, "file %s, line %d", o->text[config], o->line_no[idx]);
    } else if (o->source[idx] == KF_FROM_ENVIRONMENT) {
        variable_name(o->table[idx].name, variable);
        snprintf(out, cap, "environment %s", variable);
    } else {
        snprintf(out, cap, "%s", source_names[o->source[idx]]);
    }
    return out;
}

static kf_status wrong(const kf_options *o, size_t idx, const char *wanted) {
    const kf_option *opt = &o->table[idx];
    char source[256];
    return KF_FAIL(KF_ERR_INVALID, "--%s (%s): %s wanted, not \"%s\"", opt->name,
                   source_of(o, idx, source, sizeof source), wanted, opt->secret ? "…" : o->text[idx]);
}

static kf_status check_range(const kf_options *o, size_t idx, double value) {
    const kf_option *opt = &o->table[idx];
    char wanted[80];
    if (value >= opt->min && value <= opt->max) return KF_OK;
    snprintf(wanted, sizeof wanted, "%.12g to %.12g", opt->min, opt->max);
    return wrong(o, idx, wanted);
}

static kf_status convert_flag(const kf_options *o, size_t idx, bool *out) {
    static const char *const words[] = {"off", "on", "false", "true", "0", "1", "no", "yes"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(o->text[idx], words[i]) != 0) continue;
        *out = i % 2;
        return KF_OK;
    }
    return wrong(o, idx, "on or off");
}

static kf_status convert_choice(const kf_options *o, size_t idx, int *out) {
    const kf_option *opt = &o->table[idx];
    char wanted[128];
    size_t n = 0;
    for (int i = 0; opt->choices[i]; i++) {
        if (!strcmp(o->text[idx], opt->choices[i])) {
            *out = i;
            return KF_OK;
        }
        int added = snprintf(wanted + n, sizeof wanted - n, "%s%s", i ? "|" : "", opt->choices[i]);
        n += added > 0 && (size_t)added < sizeof wanted - n ? (size_t)added : 0;
    }
    return wrong(o, idx, wanted);
}

static kf_status convert_texts(const kf_options *o, size_t idx, kf_option_texts *out) {
    if (o->source[idx] != KF_FROM_COMMAND_LINE) {
        if (o->text[idx]) out->text[out->n++] = o->text[idx];
        return KF_OK;
    }
    for (size_t i = 0; i < o->n_given; i++) {
        if (o->given[i].idx != idx) continue;
        if (out->n == KF_OPTION_TEXTS_MAX)
            return KF_FAIL(KF_ERR_INVALID, "--%s: at most %d times wanted", o->table[idx].name, KF_OPTION_TEXTS_MAX);
        out->text[out->n++] = o->given[i].text;
    }
    return KF_OK;
}

/* Writes the field of option idx, or only checks it where values is NULL. */
static kf_status convert(const kf_options *o, size_t idx, char *values) {
    const kf_option *opt = &o->table[idx];
    const char *text = o->text[idx];
    union {
        const char *text;
        int64_t i;
        double f;
        bool flag;
        int choice;
        kf_option_texts texts;
    } v = {.texts = {.n = 0}};
    size_t n_bytes = 0;
    char *end = NULL;
    errno = 0;
    switch (opt->kind) {
    case KF_OPTION_TEXT:
        v.text = text;
        n_bytes = sizeof v.text;
        break;
    case KF_OPTION_INT:
        v.i = text ? strtoll(text, &end, 10) : 0;
        if (text && (end == text || *end || errno)) return wrong(o, idx, "a whole number");
        if (text) KF_TRY(check_range(o, idx, (double)v.i));
        n_bytes = sizeof v.i;
        break;
    case KF_OPTION_REAL:
        v.f = text ? strtod(text, &end) : 0;
        if (text && (end == text || *end || !isfinite(v.f))) return wrong(o, idx, "a number");
        if (text) KF_TRY(check_range(o, idx, v.f));
        n_bytes = sizeof v.f;
        break;
    case KF_OPTION_FLAG:
        if (text) KF_TRY(convert_flag(o, idx, &v.flag));
        n_bytes = sizeof v.flag;
        break;
    case KF_OPTION_CHOICE:
        if (text) KF_TRY(convert_choice(o, idx, &v.choice));
        n_bytes = sizeof v.choice;
        break;
    case KF_OPTION_TEXTS:
        KF_TRY(convert_texts(o, idx, &v.texts));
        n_bytes = sizeof v.texts;
        break;
    }
    if (values) memcpy(values + opt->offset, &v, n_bytes);
    return KF_OK;
}

kf_status kf_options_parse(kf_options *o, int argc, char **argv, void *values) {
    KF_REQUIRE(o->n_table <= KF_MAX_OPTIONS);
    memset(o->text, 0, sizeof o->text);
    memset(o->source, 0, sizeof o->source);
    o->n_rest = o->n_given = 0;
    o->file = NULL;
    o->rest = calloc((size_t)argc + 1, sizeof *o->rest);
    o->given = calloc((size_t)argc + 1, sizeof *o->given);
    if (!o->rest || !o->given) {
        kf_options_free(o);
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %d arguments", argc);
    }

    kf_status s = KF_OK;
    KF_STEP(s, take_command_line(o, argc, argv));
    if (s == KF_OK) take_environment(o);
    KF_STEP(s, take_file(o));
    for (size_t i = 0; i < o->n_table; i++)
        if (!o->text[i]) o->text[i] = o->table[i].def;
    for (size_t i = 0; i < o->n_table; i++)
        KF_STEP(s, convert(o, i, NULL));
    for (size_t i = 0; i < o->n_table; i++)
        KF_STEP(s, convert(o, i, values));
    if (s != KF_OK) kf_options_free(o);
    return s;
}

void kf_options_free(kf_options *o) {
    free(o->rest);
    free(o->given);
    free(o->file);
    o->rest = NULL;
    o->given = NULL;
    o->file = NULL;
    o->n_rest = o->n_given = 0;
}

bool kf_options_given(const kf_options *o, const char *name) {
    size_t idx;
    return find(o, name, strlen(name), &idx) && o->source[idx] != KF_FROM_DEFAULT;
}

/* ---- showing ---- */

/* The rows of the command line alone, or the others. */
static void put_rows(const kf_options *o, bool once, FILE *to) {
    for (size_t i = 0; i < o->n_table; i++) {
        const kf_option *opt = &o->table[i];
        char left[64];
        if (opt->once != once) continue;
        snprintf(left, sizeof left, "--%s%s%s", opt->name, opt->arg ? " " : "", opt->arg ? opt->arg : "");
        fprintf(to, "  %-28s %s", left, opt->help);
        if (opt->def && !opt->secret) fprintf(to, " [%s]", opt->def);
        fputc('\n', to);
    }
}

void kf_options_help(const kf_options *o, FILE *to) {
    size_t idx;
    bool has_file = find(o, "config", 6, &idx) != NULL;
    fprintf(to, "usage: %s %s\n\n%s\n", o->program, o->usage, o->about);
    put_rows(o, true, to);
    fprintf(to, "\nAlso as KEFU_NAME in the environment (--max-jobs is KEFU_MAX_JOBS)%s; the command line wins:\n\n",
            has_file ? ", or as a line \"name = value\" in the file of --config" : "");
    put_rows(o, false, to);
    fprintf(to, "\n%s", o->after ? o->after : "");
}

/* A value as it may be seen. */
static void put_value(const kf_option *opt, const char *text, FILE *to) {
    const char *at, *scheme;
    if (opt->secret) {
        fputs("(set, not shown)", to);
        return;
    }
    while (opt->url && (at = strchr(text, '@'))) { /* one round a URL of the list: its scheme stays, and its host */
        const char *from = text;
        while ((scheme = strstr(from, "://")) && scheme < at)
            from = scheme + 3;
        fprintf(to, "%.*s…@", (int)(from - text), text);
        text = at + 1;
    }
    fputs(text, to);
}

void kf_options_print(const kf_options *o, FILE *to) {
    char source[PATH_MAX];
    for (size_t i = 0; i < o->n_table; i++) {
        const kf_option *opt = &o->table[i];
        if (opt->once) continue;
        fprintf(to, "# %s\n", source_of(o, i, source, sizeof source));
        fprintf(to, "%s%s = ", o->text[i] && !opt->secret ? "" : "# ", opt->name);
        if (o->text[i]) put_value(opt, o->text[i], to);
        fputc('\n', to);
    }
}
