/* kefu tokenize: a text's ids, pieces, and where each piece stands. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/local.h"
#include "cli/term.h"
#include "text/utf8.h"

enum { PIECE_COLUMNS = 18 };

typedef struct settings {
    kf_cli_common common;
    kf_local_opts local;
} settings;

static const kf_option table[] = {
    KF_MODEL_OPTION(settings, local),
    KF_INPUT_OPTIONS(settings, local),
    KF_CHAT_OPTIONS(settings, local),
    KF_CLI_OPTIONS(settings),
};

static kf_status print_json(const kf_ids *in) {
    json_t *ids = json_array(), *pieces = json_array(), *offsets = json_array();
    for (size_t i = 0; i < in->n; i++) {
        const char *piece = in->tokenizer ? kf_tokenizer_piece(in->tokenizer, in->ids[i]) : NULL;
        json_array_append_new(ids, json_integer(in->ids[i]));
        json_array_append_new(pieces, piece ? json_string(piece) : json_null());
        json_array_append_new(offsets, json_pack("[i, i]", in->start[i], in->end[i]));
    }
    return kf_cli_print_json(
        json_pack("{s:o, s:o, s:o, s:s*}", "ids", ids, "pieces", pieces, "offsets", offsets, "prompt", in->prompt));
}

/* The part of the text that token i stands for; tokens that share a character show it each. */
static void print_part(const char *text, const kf_ids *in, size_t i) {
    size_t n = strlen(text);
    size_t from = kf_utf8_offset(text, n, (size_t)in->start[i]), to = kf_utf8_offset(text, n, (size_t)in->end[i]);
    char *part = strndup(text + from, to - from);
    if (part) kf_term_text(stdout, part);
    free(part);
}

static void print_table(const kf_ids *in, const char *text) {
    printf("%s%8s  %-14s  %-16s  %s%s\n", kf_style(stdout, KF_BOLD), "id", "offsets", "piece", text ? "text" : "",
           kf_style(stdout, KF_PLAIN));
    for (size_t i = 0; i < in->n; i++) {
        char span[32];
        snprintf(span, sizeof span, "[%d, %d)", in->start[i], in->end[i]);
        printf("%8d  %-14s  ", in->ids[i], span);
        kf_term_pad(stdout, kf_ids_piece(in->tokenizer, in->ids[i]), PIECE_COLUMNS);
        if (text) print_part(text, in, i);
        putchar('\n');
    }
}

static kf_status tokenize(const settings *s) {
    kf_ids ids;
    KF_TRY(kf_ids_read(&s->local, &ids));
    kf_status st = KF_OK;
    if (s->common.json)
        st = print_json(&ids);
    else
        print_table(&ids, ids.prompt ? ids.prompt : s->local.text);
    kf_ids_free(&ids);
    return st;
}

int kf_cmd_tokenize(int argc, char **argv) {
    kf_options o = {.program = "kefu tokenize",
                    .usage = "--model DIR --text TEXT",
                    .about =
                        "Shows a text's token ids, their pieces, and offsets in code points of the text (special "
                        "tokens: 0, 0).\nWith --ids: the pieces of these ids. With --chat: the prompt that the model's "
                        "chat template makes of a message.\n\n--json: {\"ids\":[…],"
                        "\"pieces\":[…],\"offsets\":[[0,1],…],\"prompt\":\"…\"}, prompt with --chat\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    const char *lacks = kf_local_lacks(&s.local);
    if (lacks) return kf_cli_usage(&o, "%s", lacks);
    return kf_cli_end(&o, tokenize(&s), KF_EXIT_OK);
}
