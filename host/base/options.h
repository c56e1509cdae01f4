/* A program's options: one table gives the command line, the environment, the configuration file and the help.
 *
 *     typedef struct settings { const char *nats; int64_t max_jobs; bool json; int device; } settings;
 *     static const kf_option table[] = {
 *         KF_OPTION("nats", KF_OPTION_TEXT, offsetof(settings, nats), "URL", "nats://127.0.0.1:4222", "the broker"),
 *         KF_OPTION("max-jobs", KF_OPTION_INT, offsetof(settings, max_jobs), "N", "256", "in hand", .max = 1e5),
 *         KF_OPTION("json", KF_OPTION_FLAG, offsetof(settings, json), NULL, NULL, "print JSON", .once = true),
 *     };
 *     kf_options o = {.program = "kefu ask", .table = table, .n_table = 3};
 *     settings s;
 *     KF_TRY(kf_options_parse(&o, argc, argv, &s));         // o.rest [o.n_rest]: the arguments that are no options
 *     …                                                     // texts in s are valid until kf_options_free
 *     kf_options_free(&o);
 *
 * An option `max-jobs` is `--max-jobs 8` or `--max-jobs=8` on the command line, `KEFU_MAX_JOBS=8` in the environment
 * and the line `max-jobs = 8` in a configuration file; the first of these that is there wins, then the table's default.
 * An empty variable counts as absent. A flag needs no value on the command line; elsewhere it is on/off, true/false,
 * 1/0.
 *
 * A configuration file is named by the option `config`, where a table has one. It has lines `name = value`; a line that
 * starts with # is a comment; spaces round name and value do not count; quotes are part of the value.
 *
 * Called once, by main, before threads start.
 */
#ifndef KF_BASE_OPTIONS_H
#define KF_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum kf_option_kind {
    KF_OPTION_TEXT,   /* field: const char *; NULL where there is no value and no default */
    KF_OPTION_INT,    /* int64_t, decimal, min … max */
    KF_OPTION_REAL,   /* double, min … max */
    KF_OPTION_FLAG,   /* bool */
    KF_OPTION_CHOICE, /* int: the index in `choices` */
    KF_OPTION_TEXTS,  /* kf_option_texts: each time it is given on the command line is one more; elsewhere it is one */
} kf_option_kind;

enum { KF_OPTION_TEXTS_MAX = 8 };

typedef struct kf_option_texts {
    const char *text[KF_OPTION_TEXTS_MAX];
    size_t n;
} kf_option_texts;

typedef struct kf_option {
    const char *name; /* lower case, digits and hyphens */
    kf_option_kind kind;
    size_t offset;    /* of its field in the program's struct */
    const char *arg;  /* what the help calls the value; NULL for a flag */
    const char *def;  /* the default as it would be typed; NULL: unset, 0, off, the first choice */
    const char *help; /* one line */
    double min, max;
    const char *const *choices; /* ends with NULL */
    bool secret;                /* its value is never shown */
    bool url;                   /* nor what stands before an @ in it; a list of URLs counts */
    bool once;                  /* of the command line alone: --help, --version, --print-config */
} kf_option;

/* A row of a table; what follows the help are designated initialisers. */
#define KF_OPTION(name_, kind_, offset_, arg_, def_, help_, ...)                                                       \
    {                                                                                                                  \
        .name = (name_), .kind = (kind_), .offset = (offset_), .arg = (arg_), .def = (def_), .help = (help_),          \
        __VA_ARGS__                                                                                                    \
    }

typedef enum kf_option_source {
    KF_FROM_DEFAULT,
    KF_FROM_FILE,
    KF_FROM_ENVIRONMENT,
    KF_FROM_COMMAND_LINE
} kf_option_source;

enum { KF_MAX_OPTIONS = 64 };

typedef struct kf_options {
    /* the program's */
    const char *program; /* "kefud": starts the texts of help */
    const char *usage;   /* what follows it there: "[options] TEXT" */
    const char *about;   /* lines after the usage */
    const char *after;   /* lines after the options; NULL: none */
    const kf_option *table;
    size_t n_table;   /* at most KF_MAX_OPTIONS */
    bool shared_file; /* the configuration file is another program's too: names that are not for us are passed over */
    /* found by kf_options_parse */
    char **rest; /* [n_rest], argv's own strings */
    size_t n_rest;
    const char *text[KF_MAX_OPTIONS]; /* the value as it was given; NULL: unset */
    kf_option_source source[KF_MAX_OPTIONS];
    int line_no[KF_MAX_OPTIONS]; /* in the file, where the source is that */
    struct kf_option_given {     /* [n_given], on the command line, in order */
        size_t idx;
        const char *text;
    } * given;
    size_t n_given;
    char *file; /* the configuration file's bytes, cut into lines */
} kf_options;

/* Reads argv[1 …], the environment and the configuration file, checks every value and fills the program's struct.
 * KF_ERR_INVALID: an unknown option (the text suggests the nearest one), a value that is missing, of the wrong kind or
 * out of range (the text says where it came from and what is wanted); KF_ERR_NOT_FOUND, KF_ERR_IO, KF_ERR_TOO_LARGE:
 * the configuration file; KF_ERR_NO_MEMORY. On failure nothing is to be freed and the struct is untouched. */
kf_status kf_options_parse(kf_options *o, int argc, char **argv, void *values);
void kf_options_free(kf_options *o);

/* Was it given at all, or does the default hold? */
bool kf_options_given(const kf_options *o, const char *name);

/* What --help shows. */
void kf_options_help(const kf_options *o, FILE *to);

/* What --print-config shows: a configuration file that says the same, each line with where its value came from. */
void kf_options_print(const kf_options *o, FILE *to);

#endif
