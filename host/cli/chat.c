/* kefu chat: a conversation with a worker. The client keeps the history and sends it along; a reply appears as it is
 * written. Ctrl-C takes the running reply back; at the prompt it ends the conversation, as Ctrl-D does. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/lines.h"
#include "cli/request.h"
#include "cli/show.h"
#include "cli/term.h"
#include "text/utf8.h"
#include "wire/wire.h"

enum { HISTORY_MAX = 64 }; /* turns: the wire's limit */

typedef struct settings {
    kf_cli_common common;
    kf_nats_opts nats;
    kf_request_opts request;
    const char *session;
    double wait_s, timeout_s;
} settings;

#define FIELD(f) offsetof(settings, f)
static const kf_option table[] = {
    KF_NATS_OPTIONS(settings, nats),
    KF_OPTION("wait", KF_OPTION_REAL, FIELD(wait_s), "SECONDS", "0", "wait so long for broker and worker to appear",
              .max = 86400, .once = true),
    KF_OPTION("timeout", KF_OPTION_REAL, FIELD(timeout_s), "SECONDS", "60", "give up after so long without a message",
              .min = 0.001, .max = 86400, .once = true),
    KF_OPTION("session", KF_OPTION_TEXT, FIELD(session), "ID", NULL, "the conversation; else a new one", .once = true),
    KF_REQUEST_OPTIONS(settings, request),
    KF_CLI_OPTIONS(settings),
};

/* Ctrl-C: set by the handler, seen by kf_client_ask and by the prompt's read, which it interrupts. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_no) {
    (void)signal_no;
    interrupted = 1;
}

typedef struct conversation {
    const settings *s;
    const kf_options *o;
    kf_client *client;
    char session[129];
    Kefu__V1__Turn *turns[HISTORY_MAX]; /* oldest first */
    size_t n_turns;
    uint32_t n_shown; /* code points of the running reply that are on the screen */
    bool on_terminal;
} conversation;

/* ---- history ---- */

static void turn_free(Kefu__V1__Turn *t) {
    if (!t) return;
    free(t->text);
    free(t);
}

static void forget(conversation *c) {
    for (size_t i = 0; i < c->n_turns; i++)
        turn_free(c->turns[i]);
    c->n_turns = 0;
}

static kf_status remember(conversation *c, Kefu__V1__Turn__Role role, const char *text) {
    Kefu__V1__Turn *t = malloc(sizeof *t);
    if (t) kefu__v1__turn__init(t);
    char *copy = t ? strdup(text) : NULL;
    if (!copy) {
        free(t);
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the conversation");
    }
    t->role = role;
    t->text = copy;
    if (c->n_turns == HISTORY_MAX) {
        turn_free(c->turns[0]);
        memmove(c->turns, c->turns + 1, (HISTORY_MAX - 1) * sizeof *c->turns);
        c->n_turns--;
    }
    c->turns[c->n_turns++] = t;
    return KF_OK;
}

/* ---- one turn ---- */

/* Shows what of the reply is not on the screen yet. */
static void show_rest(conversation *c, const char *text, uint32_t offset) {
    size_t n = strlen(text), skip = c->n_shown > offset ? c->n_shown - offset : 0;
    kf_term_text(stdout, text + kf_utf8_offset(text, n, skip));
    uint32_t end = offset + (uint32_t)kf_utf8_length(text, n);
    if (end > c->n_shown) c->n_shown = end;
    fflush(stdout);
}

static void on_part(void *user, const Kefu__V1__Response *r) {
    conversation *c = user;
    if (c->s->common.json) {
        if (kf_show_json(r) == KF_OK) fflush(stdout);
    } else if (r->reply) {
        show_rest(c, r->reply->text, r->reply->text_offset);
    }
}

static void show_end(conversation *c, const Kefu__V1__Response *r) {
    Kefu__V1__Code code = r->status ? r->status->code : KEFU__V1__CODE__OK;
    const char *plain = kf_style(stdout, KF_PLAIN);
    if (r->reply) show_rest(c, r->reply->text, 0);
    fputs(plain, stdout);
    if (code != KEFU__V1__CODE__OK) {
        printf("%s%s[%s", c->n_shown ? " " : "", kf_style(stdout, KF_RED), kf_wire_code_name((int)code));
        if (r->status && *r->status->message) {
            fputs(": ", stdout);
            kf_term_text(stdout, r->status->message);
        }
        printf("]%s", plain);
    }
    putchar('\n');
    if (r->handoff) {
        printf("%s", kf_style(stdout, KF_YELLOW));
        printf("[a colleague takes over: ");
        kf_term_text(stdout, r->handoff->reason);
        printf("]%s\n", plain);
    }
    if (c->on_terminal) kf_show_brief(stdout, r);
}

static kf_status take_turn(conversation *c, char *text) {
    kf_request_build b;
    Kefu__V1__Response *final;
    kf_ask_opts opts = {.lane = kf_lane_names[c->s->request.lane],
                        .timeout_ns = (int64_t)(c->s->timeout_s * 1e9),
                        .wait_until_ns = c->s->wait_s > 0 ? kf_clock_now_ns() + (int64_t)(c->s->wait_s * 1e9) : 0,
                        .on_part = on_part,
                        .user = c,
                        .cancel = &interrupted};
    kf_request_build_init(&b, &c->s->request, c->o);
    b.request.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    b.request.text = text;
    b.request.session_id = c->session;
    b.request.stream = true;
    b.request.history = c->turns;
    b.request.n_history = c->n_turns;

    c->n_shown = 0;
    interrupted = 0;
    if (!c->s->common.json) printf("%s", kf_style(stdout, KF_GREEN));
    kf_status s = kf_client_ask(c->client, &b.request, &opts, &final);
    if (s != KF_OK) {
        if (!c->s->common.json) printf("%s\n", kf_style(stdout, KF_PLAIN));
        return s;
    }
    if (c->s->common.json)
        s = kf_show_json(final);
    else
        show_end(c, final);
    if (kf_show_exit_code(final) == KF_EXIT_OK) {
        KF_STEP(s, remember(c, KEFU__V1__TURN__ROLE__USER, text));
        if (final->reply && *final->reply->text)
            KF_STEP(s, remember(c, KEFU__V1__TURN__ROLE__ASSISTANT, final->reply->text));
    }
    kefu__v1__response__free_unpacked(final, NULL);
    fflush(stdout);
    return s;
}

/* ---- the conversation ---- */

static void prompt(const conversation *c) {
    if (!c->on_terminal) return;
    printf("%s> %s", kf_style(stdout, KF_BOLD), kf_style(stdout, KF_PLAIN));
    fflush(stdout);
}

static kf_status talk(conversation *c) {
    kf_lines in;
    char *line;
    size_t n_bytes;
    KF_TRY(kf_lines_open(&in, "-"));
    kf_status s = KF_OK;
    for (;;) {
        interrupted = 0;
        prompt(c);
        s = kf_lines_next(&in, &line, &n_bytes);
        if (s != KF_OK) break;
        if (!strcmp(line, "/new")) {
            forget(c);
            kf_client_new_id(c->session);
            continue;
        }
        if ((s = take_turn(c, line)) != KF_OK) break;
    }
    kf_lines_close(&in);
    if (interrupted && s == KF_ERR_IO) s = KF_ERR_CLOSED; /* Ctrl-C at the prompt */
    if (s == KF_ERR_CLOSED && c->on_terminal) putchar('\n');
    return s == KF_ERR_CLOSED ? KF_OK : s;
}

static kf_status chat(const settings *s, const kf_options *o) {
    conversation c = {.s = s, .o = o, .on_terminal = !s->common.json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    int64_t wait_until = s->wait_s > 0 ? kf_clock_now_ns() + (int64_t)(s->wait_s * 1e9) : 0;
    if (s->session)
        snprintf(c.session, sizeof c.session, "%s", s->session);
    else
        kf_client_new_id(c.session);
    KF_TRY(kf_client_open(&s->nats, "kefu chat", wait_until, &c.client));
    struct sigaction act = {.sa_handler = on_interrupt}; /* no SA_RESTART: reading the prompt must end */
    sigaction(SIGINT, &act, NULL);
    if (c.on_terminal)
        printf("%sCtrl-C takes a reply back, /new begins again, Ctrl-D ends.%s\n", kf_style(stdout, KF_DIM),
               kf_style(stdout, KF_PLAIN));
    kf_status st = talk(&c);
    forget(&c);
    kf_client_close(c.client);
    return st;
}

int kf_cmd_chat(int argc, char **argv) {
    kf_options o = {.program = "kefu chat",
                    .usage = "[options]",
                    .about = "Talks to a worker, a line a turn from standard input. /new forgets what was said.\n"
                             "Ctrl-C takes the running reply back; at the prompt it ends the conversation.\n\n"
                             "--json: every message of every turn as a line, as the wire has it.\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest) return kf_cli_usage(&o, "chat reads its lines from standard input, not from arguments");
    const char *lacks = kf_request_lacks(&s.request, &s.nats);
    if (lacks) return kf_cli_usage(&o, "%s", lacks);
    if (s.session && strlen(s.session) > 128) return kf_cli_usage(&o, "--session: at most 128 bytes");
    kf_status st = chat(&s, &o);
    return kf_cli_end(&o, st, kf_client_exit_code(st));
}
