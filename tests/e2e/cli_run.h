/* For tests of the command: runs the build's own `kefu` and keeps its exit code, stdout and stderr.
 *
 *     cli_result r = cli_run(NULL, "tokenize", "--model", dir, "--text", "我", "--json");
 *     assert_int_equal(r.code, 0);
 *     json_t *doc = cli_json(&r);
 *
 * Texts are valid until the next run. The first argument is what the command reads from standard input, or NULL.
 */
#ifndef KF_TESTS_E2E_CLI_RUN_H
#define KF_TESTS_E2E_CLI_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

enum { CLI_OUT_BYTES = 1 << 20, CLI_SECONDS = 60 };

typedef struct cli_result {
    int code; /* -1: a signal ended it */
    const char *out, *err;
} cli_result;

/* The command that runs now: for a signal from another thread. */
static atomic_int cli_pid;

static inline const char *cli_read(FILE *f, char *text) {
    rewind(f);
    size_t n = fread(text, 1, CLI_OUT_BYTES - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static inline cli_result cli_run_list(const char *input, const char *const *args) {
    static char out[CLI_OUT_BYTES], err[CLI_OUT_BYTES];
    FILE *in = tmpfile(), *to = tmpfile(), *errors = tmpfile();
    assert_true(in && to && errors);
    if (input) fputs(input, in);
    rewind(in);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(CLI_SECONDS); /* ends a command that hangs: its code is then -1 */
        dup2(fileno(in), 0);
        dup2(fileno(to), 1);
        dup2(fileno(errors), 2);
        execv(KF_BIN_DIR "/kefu", (char *const *)args);
        _exit(127);
    }
    cli_pid = pid;
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    fclose(in);
    return (cli_result){WIFEXITED(status) ? WEXITSTATUS(status) : -1, cli_read(to, out), cli_read(errors, err)};
}

#define cli_run(input, ...) cli_run_list((input), (const char *const[]){"kefu", __VA_ARGS__, NULL})

/* stdout as one JSON document; the caller json_decrefs it. */
static inline json_t *cli_json(const cli_result *r) {
    json_error_t why;
    json_t *doc = json_loads(r->out, JSON_REJECT_DUPLICATES, &why);
    if (!doc) fail_msg("not one JSON document (%s): %s%s", why.text, r->out, r->err);
    return doc;
}

#define assert_contains(text, part)                                                                                    \
    do {                                                                                                               \
        if (!strstr((text), (part))) fail_msg("\"%s\" is not in: %s", (part), (text));                                 \
    } while (0)

#endif
