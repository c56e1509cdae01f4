/* What the commands of `kefu` share: their table, their options, how they end.
 *
 *     typedef struct settings { kf_cli_common common; kf_nats_opts nats; … } settings;
 *     static const kf_option table[] = {KF_NATS_OPTIONS(settings, nats), …, KF_CLI_OPTIONS(settings)};
 *     kf_options o = {.program = "kefu ask", …};
 *     int code;
 *     if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;     // --help, or a usage error
 *     …
 *     return kf_cli_end(&o, status, code);                                     // says what failed; frees o
 *
 * Results go to stdout, everything else to stderr. With --json a command prints one JSON document and nothing else.
 */
#ifndef KF_CLI_CLI_H
#define KF_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>

#include "base/options.h"
#include "base/status.h"

typedef enum kf_exit {
    KF_EXIT_OK = 0,
    KF_EXIT_FAILED = 1,    /* refused, or it went wrong: stderr says what */
    KF_EXIT_USAGE = 2,     /* the command line */
    KF_EXIT_NO_WORKER = 3, /* no broker, no worker, or no answer in time */
} kf_exit;

#define KF_EXIT_HELP "Exit codes: 0 done, 1 failed or refused, 2 usage, 3 no broker, no worker or no answer in time.\n"

typedef struct kf_command {
    const char *name, *about;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
} kf_command;

int kf_cmd_ask(int argc, char **argv);
int kf_cmd_chat(int argc, char **argv);
int kf_cmd_bench(int argc, char **argv);
int kf_cmd_tokenize(int argc, char **argv);
int kf_cmd_logits(int argc, char **argv);
int kf_cmd_generate(int argc, char **argv);
int kf_cmd_eval(int argc, char **argv);
int kf_cmd_inspect(int argc, char **argv);
int kf_cmd_diff(int argc, char **argv);

/* ---- options ---- */

typedef struct kf_cli_common {
    bool json, help;
    const char *config;
} kf_cli_common;

/* Rows for a settings struct T with a kf_cli_common named `common`; last in the table. */
#define KF_CLI_OPTIONS(T)                                                                                              \
    KF_OPTION("json", KF_OPTION_FLAG, offsetof(T, common.json), NULL, NULL, "print JSON, for programs"),               \
        KF_OPTION("config", KF_OPTION_TEXT, offsetof(T, common.config), "FILE", NULL,                                  \
                  "configuration file, the same as kefud's"),                                                          \
        KF_OPTION("help", KF_OPTION_FLAG, offsetof(T, common.help), NULL, NULL, "show this", .once = true)

/* Sets what every command's options share, then parses the command line into `values`, of which `common` is a part.
 * False where the command ends here, with *code: help was printed, or the command line is wrong and stderr says how.
 * True: o is kf_cli_end's to free. */
bool kf_cli_parse(kf_options *o, int argc, char **argv, void *values, const kf_cli_common *common, int *code);

/* A usage error found after parsing; what is wanted goes to stderr. Frees o; returns KF_EXIT_USAGE. */
int kf_cli_usage(kf_options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Ends a command: a failure's text goes to stderr. Frees o; returns `code`, or KF_EXIT_FAILED where s failed and code
 * says that all is well. */
int kf_cli_end(kf_options *o, kf_status s, int code);

/* The nearest command for a name that is none; NULL where nothing is near. */
const char *kf_cli_nearest(const char *name, const kf_command *commands, size_t n);

/* ---- results ---- */

/* Prints a document and a newline to stdout, and frees it. Numbers have 9 digits: enough for every f32.
 * KF_ERR_NO_MEMORY: doc is NULL; KF_ERR_IO. */
kf_status kf_cli_print_json(json_t *doc);

#endif
