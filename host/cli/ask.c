/* kefu ask: one question to a worker, and everything that came back. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/request.h"
#include "cli/show.h"
#include "cli/term.h"

enum { TEXT_BYTES_MAX = 1 << 20 };

typedef struct settings {
    kf_cli_common common;
    kf_nats_opts nats;
    kf_request_opts request;
    const char *session;
    double wait_s, timeout_s;
    bool stream;
} settings;

#define FIELD(f) offsetof(settings, f)
static const kf_option table[] = {
    KF_NATS_OPTIONS(settings, nats),
    KF_OPTION("wait", KF_OPTION_REAL, FIELD(wait_s), "SECONDS", "0", "wait so long for broker and worker to appear",
              .max = 86400, .once = true),
    KF_OPTION("timeout", KF_OPTION_REAL, FIELD(timeout_s), "SECONDS", "60", "give up after so long without a message",
              .min = 0.001, .max = 86400, .once = true),
    KF_OPTION("stream", KF_OPTION_FLAG, FIELD(stream), NULL, NULL, "show the reply as it is written", .once = true),
    KF_OPTION("session", KF_OPTION_TEXT, FIELD(session), "ID", NULL, "the conversation", .once = true),
    KF_REQUEST_OPTIONS(settings, request),
    KF_CLI_OPTIONS(settings),
};

/* The question: the arguments with spaces between them, or standard input for "-". The caller frees it. */
static kf_status read_question(const kf_options *o, char **out) {
    char *text = malloc(TEXT_BYTES_MAX + 1);
    size_t n = 0;
    if (!text) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the question");
    if (o->n_rest == 1 && !strcmp(o->rest[0], "-")) {
        n = fread(text, 1, TEXT_BYTES_MAX, stdin);
        while (n && text[n - 1] == '\n')
            n--;
    } else {
        for (size_t i = 0; i < o->n_rest && n < TEXT_BYTES_MAX; i++) {
            int added = snprintf(text + n, TEXT_BYTES_MAX - n, "%s%s", i ? " " : "", o->rest[i]);
            n += added > 0 ? (size_t)added : 0;
        }
        if (n >= TEXT_BYTES_MAX) n = TEXT_BYTES_MAX - 1;
    }
    text[n] = 0;
    *out = text;
    return KF_OK;
}

static void show_part(void *user, const Kefu__V1__Response *r) {
    bool *any = user;
    if (!r->reply) return;
    *any = true;
    kf_term_text(stdout, r->reply->text);
    fflush(stdout);
}

static kf_status ask(const settings *s, const kf_options *o, char *text, int *code) {
    kf_client *c = NULL;
    Kefu__V1__Response *final = NULL;
    kf_request_build b;
    int64_t wait_until = s->wait_s > 0 ? kf_clock_now_ns() + (int64_t)(s->wait_s * 1e9) : 0;
    bool show_parts = s->stream && !s->common.json, any_shown = false;
    kf_request_build_init(&b, &s->request, o);
    b.request.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    b.request.text = text;
    b.request.stream = s->stream;
    if (s->session) b.request.session_id = (char *)s->session;

    kf_ask_opts opts = {.lane = kf_lane_names[s->request.lane],
                        .timeout_ns = (int64_t)(s->timeout_s * 1e9),
                        .wait_until_ns = wait_until,
                        .on_part = show_parts ? show_part : NULL,
                        .user = &any_shown};
    kf_status st = kf_client_open(&s->nats, "kefu ask", wait_until, &c);
    KF_STEP(st, kf_client_ask(c, &b.request, &opts, &final));
    *code = kf_client_exit_code(st);
    if (st == KF_OK) {
        double seconds = (double)(kf_clock_now_ns() - kf_client_sent_ns(c)) / 1e9;
        *code = kf_show_exit_code(final);
        if (any_shown) fputs("\n\n", stdout);
        if (s->common.json)
            st = kf_show_json(final);
        else
            kf_show_response(stdout, final, !any_shown, seconds);
        kefu__v1__response__free_unpacked(final, NULL);
    }
    kf_client_close(c);
    return st;
}

int kf_cmd_ask(int argc, char **argv) {
    kf_options o = {.program = "kefu ask",
                    .usage = "[options] TEXT   (- reads it from standard input)",
                    .about = "Asks a worker one question: intent, sentiment, entities, words, the reply, and how long "
                             "it took.\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    char *text = NULL;
    int code = KF_EXIT_OK;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest == 0) return kf_cli_usage(&o, "what to ask is missing");
    const char *lacks = kf_request_lacks(&s.request, &s.nats);
    if (lacks) return kf_cli_usage(&o, "%s", lacks);
    kf_status st = read_question(&o, &text);
    KF_STEP(st, ask(&s, &o, text, &code));
    free(text);
    return kf_cli_end(&o, st, code);
}
