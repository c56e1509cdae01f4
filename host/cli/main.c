/* kefu: asks a worker over NATS, and looks at models in this process. One file a command; this one has their table. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const kf_command commands[] = {
    {"ask", "ask a worker one question and show all that it found", kf_cmd_ask},
    {"chat", "talk to a worker; replies appear as they are written", kf_cmd_chat},
    {"bench", "load a worker, closed or open loop; throughput and latencies", kf_cmd_bench},
    {"tokenize", "text to ids, pieces and offsets", kf_cmd_tokenize},
    {"logits", "a classifier's, a tagger's or a decoder's logits", kf_cmd_logits},
    {"generate", "let a decoder write", kf_cmd_generate},
    {"eval", "score the worker's understanding on a labelled file", kf_cmd_eval},
    {"inspect", "list a checkpoint's tensors", kf_cmd_inspect},
    {"diff", "find the first layer that departs from a reference dump", kf_cmd_diff},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *to) {
    fprintf(to, "usage: kefu COMMAND [options]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].about);
    fprintf(to, "\nkefu COMMAND --help has the options; kefu --version the version.\n" KF_EXIT_HELP);
}

/* A command whose last words could not be written has failed, whatever it says. */
static int end(int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "kefu: cannot write to standard output\n");
    return code == KF_EXIT_OK ? KF_EXIT_FAILED : code;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        help(stdout);
        return end(KF_EXIT_OK);
    }
    if (!strcmp(name, "--version")) {
        printf("kefu %s\n", KF_VERSION);
        return end(KF_EXIT_OK);
    }
    if (!*name) {
        help(stderr);
        return KF_EXIT_USAGE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return end(commands[i].run(argc - 1, argv + 1));
    const char *near = kf_cli_nearest(name, commands, N_COMMANDS);
    fprintf(stderr, "kefu: unknown command \"%s\"", name);
    if (near) fprintf(stderr, "; did you mean %s?", near);
    fprintf(stderr, "%s\n", near ? "" : "; see kefu --help");
    return KF_EXIT_USAGE;
}
