/* Printing a Response. Its texts are a worker's: they go through kf_term_text. */
#include "cli/show.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/term.h"
#include "wire/json.h"
#include "wire/wire.h"

enum { HEAD_COLUMNS = 11, OTHER_INTENTS = 2 };

static void head(FILE *to, const char *what) {
    fputs(kf_style(to, KF_BOLD), to);
    kf_term_pad(to, what, HEAD_COLUMNS);
    fputs(kf_style(to, KF_PLAIN), to);
}

static void styled(FILE *to, kf_term_style style, const char *text) {
    fputs(kf_style(to, style), to);
    kf_term_text(to, text);
    fputs(kf_style(to, KF_PLAIN), to);
}

static void show_intents(FILE *to, const Kefu__V1__Understanding *u) {
    if (!u->n_intents) return;
    head(to, "intent");
    styled(to, KF_CYAN, u->intents[0]->label);
    fprintf(to, " %.2f", (double)u->intents[0]->score);
    for (size_t i = 1; i < u->n_intents && i <= OTHER_INTENTS; i++) {
        fputs(i == 1 ? "   (" : ", ", to);
        kf_term_text(to, u->intents[i]->label);
        fprintf(to, " %.2f", (double)u->intents[i]->score);
    }
    fputs(u->n_intents > 1 ? ")\n" : "\n", to);
}

static void show_entities(FILE *to, const Kefu__V1__Understanding *u) {
    for (size_t i = 0; i < u->n_entities; i++) {
        const Kefu__V1__Entity *e = u->entities[i];
        head(to, i == 0 ? "entities" : "");
        kf_term_pad(to, e->type, HEAD_COLUMNS);
        styled(to, KF_CYAN, e->text);
        if (*e->value && strcmp(e->value, e->text) != 0) {
            fputs(" = ", to);
            kf_term_text(to, e->value);
        }
        fprintf(to, "  [%u, %u) %.2f\n", e->start, e->end, (double)e->score);
    }
}

static void show_words(FILE *to, const Kefu__V1__Understanding *u) {
    bool any_stop_word = false;
    if (!u->n_tokens) return;
    head(to, "words");
    for (size_t i = 0; i < u->n_tokens; i++) {
        const Kefu__V1__Token *t = u->tokens[i];
        any_stop_word |= t->stop_word;
        if (i) fputs("  ", to);
        styled(to, t->stop_word ? KF_DIM : KF_CYAN, t->text);
        fputs(kf_style(to, KF_DIM), to);
        fputc('/', to);
        kf_term_text(to, t->pos);
        fputs(t->stop_word ? "*" : "", to);
        fputs(kf_style(to, KF_PLAIN), to);
    }
    fputs(any_stop_word ? "   (* stop word)\n" : "\n", to);
}

static void show_understanding(FILE *to, const Kefu__V1__Understanding *u) {
    show_intents(to, u);
    if (u->sentiment && *u->sentiment->label) {
        head(to, "sentiment");
        kf_term_text(to, u->sentiment->label);
        fprintf(to, " %.2f\n", (double)u->sentiment->score);
    }
    show_entities(to, u);
    show_words(to, u);
}

static void show_status(FILE *to, const Kefu__V1__Response *r) {
    Kefu__V1__Code code = r->status ? r->status->code : KEFU__V1__CODE__OK;
    head(to, "status");
    styled(to, code == KEFU__V1__CODE__OK ? KF_GREEN : KF_RED, kf_wire_code_name((int)code));
    if (r->status && *r->status->message) {
        fputs(": ", to);
        kf_term_text(to, r->status->message);
    }
    if (r->status && r->status->retry_after_ms) fprintf(to, " (again in %u ms)", r->status->retry_after_ms);
    fputc('\n', to);
}

static void show_usage(FILE *to, const Kefu__V1__Response *r, double seconds) {
    const Kefu__V1__Usage *u = r->usage;
    head(to, "time");
    fprintf(to, "%.1f ms", seconds * 1e3);
    if (u && (u->queue_us || u->encode_us))
        fprintf(to, "   queue %.1f, encode %.1f ms", (double)u->queue_us / 1e3, (double)u->encode_us / 1e3);
    if (u && u->completion_tokens)
        fprintf(to, ", prefill %.1f, decode %.1f ms; %u prompt + %u reply tokens", (double)u->prefill_us / 1e3,
                (double)u->decode_us / 1e3, u->prompt_tokens, u->completion_tokens);
    fputc('\n', to);
}

static const char *finish_name(Kefu__V1__FinishReason reason) {
    switch (reason) {
    case KEFU__V1__FINISH_REASON__LENGTH: return "cut at the longest length asked for";
    case KEFU__V1__FINISH_REASON__FINISH_CANCELLED: return "cancelled";
    case KEFU__V1__FINISH_REASON__FINISH_FAILED: return "failed";
    default: return NULL;
    }
}

static void show_reply(FILE *to, const Kefu__V1__Reply *reply) {
    const char *finish = finish_name(reply->finish_reason);
    head(to, "reply");
    styled(to, KF_GREEN, reply->text);
    if (finish) fprintf(to, "   (%s)", finish);
    fputc('\n', to);
}

static void show_handoff(FILE *to, const Kefu__V1__Handoff *handoff) {
    head(to, "hand-off");
    styled(to, KF_YELLOW, handoff->reason);
    if (*handoff->summary) {
        fputs(": ", to);
        kf_term_text(to, handoff->summary);
    }
    fputc('\n', to);
}

void kf_show_response(FILE *to, const Kefu__V1__Response *r, bool with_reply, double seconds) {
    if (r->understanding) show_understanding(to, r->understanding);
    if (with_reply && r->reply && *r->reply->text) show_reply(to, r->reply);
    if (r->handoff) show_handoff(to, r->handoff);
    show_status(to, r);
    show_usage(to, r, seconds);
    if (*r->model) {
        head(to, "model");
        kf_term_text(to, r->model);
        fputc('\n', to);
    }
}

void kf_show_brief(FILE *to, const Kefu__V1__Response *r) {
    const Kefu__V1__Understanding *u = r->understanding;
    if (!u || !u->n_intents) return;
    fputs(kf_style(to, KF_DIM), to);
    kf_term_text(to, u->intents[0]->label);
    fprintf(to, " %.2f", (double)u->intents[0]->score);
    if (u->sentiment) {
        fputs(" · ", to);
        kf_term_text(to, u->sentiment->label);
    }
    for (size_t i = 0; i < u->n_entities; i++) {
        fputs(" · ", to);
        kf_term_text(to, u->entities[i]->type);
        fputc(' ', to);
        kf_term_text(to, u->entities[i]->text);
    }
    fprintf(to, "%s\n", kf_style(to, KF_PLAIN));
}

kf_status kf_show_json(const Kefu__V1__Response *r) {
    size_t n = kf_wire_json_write(&r->base, NULL, 0);
    char *line = malloc(n + 1);
    if (!line) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu bytes of JSON", n);
    kf_wire_json_write(&r->base, line, n);
    line[n] = '\n';
    size_t written = fwrite(line, 1, n + 1, stdout);
    free(line);
    return written == n + 1 ? KF_OK : KF_FAIL(KF_ERR_IO, "cannot write to standard output");
}

int kf_show_exit_code(const Kefu__V1__Response *r) {
    return r->status && r->status->code != KEFU__V1__CODE__OK ? KF_EXIT_FAILED : KF_EXIT_OK;
}
