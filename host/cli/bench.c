/* kefu bench: how much a worker bears, and how long its answers take. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/bench_load.h"
#include "cli/bench_plot.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/request.h"
#include "cli/term.h"
#include "wire/wire.h"

typedef struct settings {
    kf_cli_common common;
    kf_nats_opts nats;
    kf_request_opts request;
    const char *file, *plot;
    int64_t clients, n_requests, arrivals_seed, outstanding;
    double rate, duration_s, timeout_s, wait_s, slo_ms;
    bool no_stream;
} settings;

#define FIELD(f) offsetof(settings, f)
static const kf_option table[] = {
    KF_NATS_OPTIONS(settings, nats),
    KF_OPTION("clients", KF_OPTION_INT, FIELD(clients), "N", "8", "closed loop: so many, each asks when answered",
              .min = 1, .max = 100000, .once = true),
    KF_OPTION("rate", KF_OPTION_REAL, FIELD(rate), "R", NULL, "open loop: R requests a second, Poisson arrivals",
              .min = 1e-3, .max = 1e6, .once = true),
    KF_OPTION("outstanding", KF_OPTION_INT, FIELD(outstanding), "N", "10000", "open loop: most requests unanswered",
              .min = 1, .max = 100000, .once = true),
    KF_OPTION("requests", KF_OPTION_INT, FIELD(n_requests), "N", NULL, "end after so many", .min = 1, .max = 1e9,
              .once = true),
    KF_OPTION("duration", KF_OPTION_REAL, FIELD(duration_s), "SECONDS", NULL, "end after so long [10, or --requests]",
              .min = 0.01, .max = 1e6, .once = true),
    KF_OPTION("file", KF_OPTION_TEXT, FIELD(file), "FILE", NULL, "messages, a line each: text or {\"text\":…}",
              .once = true),
    KF_OPTION("plot", KF_OPTION_TEXT, FIELD(plot), "FILE.svg", NULL, "draw latencies and throughput", .once = true),
    KF_OPTION("slo-ms", KF_OPTION_REAL, FIELD(slo_ms), "MS", NULL, "goodput: OK within so long", .min = 0.001,
              .max = 1e9, .once = true),
    KF_OPTION("no-stream", KF_OPTION_FLAG, FIELD(no_stream), NULL, NULL, "whole replies: no ttft and tpot",
              .once = true),
    KF_OPTION("arrivals-seed", KF_OPTION_INT, FIELD(arrivals_seed), "N", "1", "of the open loop's arrivals",
              .max = 9007199254740991.0, .once = true),
    KF_OPTION("timeout", KF_OPTION_REAL, FIELD(timeout_s), "SECONDS", "30", "then a request is given up", .min = 0.001,
              .max = 86400, .once = true),
    KF_OPTION("wait", KF_OPTION_REAL, FIELD(wait_s), "SECONDS", "0", "wait so long for broker and worker to appear",
              .max = 86400, .once = true),
    KF_REQUEST_OPTIONS(settings, request),
    KF_CLI_OPTIONS(settings),
};

static volatile sig_atomic_t stop;

static void on_interrupt(int signal_no) {
    (void)signal_no;
    stop = 1;
}

/* ---- results ---- */

static void print_quantiles(const char *name, kf_samples *samples) {
    kf_quantiles q = kf_samples_quantiles(samples);
    if (q.n == 0) return;
    printf("%-11s %10.2f %10.2f %10.2f %10.2f %10.2f %10.2f   of %zu\n", name, q.p50 * 1e3, q.p90 * 1e3, q.p99 * 1e3,
           q.p999 * 1e3, q.max * 1e3, q.mean * 1e3, q.n);
}

static void print_counts(const kf_load_result *r) {
    printf("%-11s %llu sent", "requests", (unsigned long long)r->n_sent);
    for (int code = 0; code < KF_LOAD_CODES; code++)
        if (r->by_code[code]) printf(", %llu %s", (unsigned long long)r->by_code[code], kf_wire_code_name(code));
    if (r->n_timed_out) printf(", %llu given up", (unsigned long long)r->n_timed_out);
    if (r->n_no_worker) printf(", %llu without a worker", (unsigned long long)r->n_no_worker);
    if (r->n_bad) printf(", %llu answers that are no Response", (unsigned long long)r->n_bad);
    if (r->n_not_sent) printf("; %llu due but not sent (--outstanding)", (unsigned long long)r->n_not_sent);
    putchar('\n');
}

static double per_second(uint64_t n, const kf_load_result *r) {
    return r->seconds > 0 ? (double)n / r->seconds : 0;
}

static void print_result(const settings *s, kf_load_result *r) {
    if (s->rate > 0)
        printf("%-11s open, %.6g requests a second on average, %.1f s\n", "loop", s->rate, r->seconds);
    else
        printf("%-11s closed, %lld clients, %.1f s\n", "loop", (long long)s->clients, r->seconds);
    print_counts(r);
    printf("%-11s %.1f requests/s OK, %.1f tokens/s\n", "throughput", per_second(r->n_ok, r),
           per_second(r->n_tokens, r));
    if (s->slo_ms > 0)
        printf("%-11s %.1f requests/s OK within %.6g ms (%.1f %% of those sent)\n", "goodput", per_second(r->n_good, r),
               s->slo_ms, r->n_sent ? 100.0 * (double)r->n_good / (double)r->n_sent : 0);
    printf("%s%-11s %10s %10s %10s %10s %10s %10s%s\n", kf_style(stdout, KF_BOLD), "ms", "p50", "p90", "p99", "p99.9",
           "max", "mean", kf_style(stdout, KF_PLAIN));
    print_quantiles("ttft", &r->ttft);
    print_quantiles("tpot", &r->tpot);
    print_quantiles("total", &r->total);
}

static json_t *quantiles_json(kf_samples *samples) {
    kf_quantiles q = kf_samples_quantiles(samples);
    if (q.n == 0) return json_null();
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)q.n, "mean", q.mean * 1e3, "p50",
                     q.p50 * 1e3, "p90", q.p90 * 1e3, "p99", q.p99 * 1e3, "p99.9", q.p999 * 1e3, "max", q.max * 1e3);
}

static kf_status print_json(const settings *s, kf_load_result *r) {
    json_t *status = json_object();
    for (int code = 0; code < KF_LOAD_CODES; code++)
        if (r->by_code[code])
            json_object_set_new(status, kf_wire_code_name(code), json_integer((json_int_t)r->by_code[code]));
    json_t *doc = json_pack(
        "{s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:o, s:o, s:o}", "loop", s->rate > 0 ? "open" : "closed",
        "seconds", r->seconds, "sent", (json_int_t)r->n_sent, "given_up", (json_int_t)r->n_timed_out, "no_worker",
        (json_int_t)r->n_no_worker, "bad", (json_int_t)r->n_bad, "not_sent", (json_int_t)r->n_not_sent, "status",
        status, "requests_per_s", per_second(r->n_ok, r), "tokens_per_s", per_second(r->n_tokens, r), "ttft_ms",
        quantiles_json(&r->ttft), "tpot_ms", quantiles_json(&r->tpot), "total_ms", quantiles_json(&r->total));
    if (doc && s->rate > 0)
        json_object_set_new(doc, "rate", json_real(s->rate));
    else if (doc)
        json_object_set_new(doc, "clients", json_integer(s->clients));
    if (doc && s->slo_ms > 0) {
        json_object_set_new(doc, "slo_ms", json_real(s->slo_ms));
        json_object_set_new(doc, "goodput_per_s", json_real(per_second(r->n_good, r)));
    }
    return kf_cli_print_json(doc);
}

/* ---- the run ---- */

/* One request before the load: is anybody there? Its answer is the warm-up and counts for nothing. */
static kf_status probe(const settings *s, Kefu__V1__Request *request, const kf_mix *mix) {
    int64_t wait_until = s->wait_s > 0 ? kf_clock_now_ns() + (int64_t)(s->wait_s * 1e9) : 0;
    kf_client *c;
    Kefu__V1__Response *final = NULL;
    request->input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    request->text = mix->items[0].text;
    KF_TRY(kf_client_open(&s->nats, "kefu bench", wait_until, &c));
    kf_status st = kf_client_ask(c, request,
                                 &(kf_ask_opts){.lane = kf_lane_names[s->request.lane],
                                                .timeout_ns = (int64_t)(s->timeout_s * 1e9),
                                                .wait_until_ns = wait_until},
                                 &final);
    if (st == KF_OK) kefu__v1__response__free_unpacked(final, NULL);
    kf_client_close(c);
    return st;
}

static kf_status load_worker(const settings *s, const kf_options *o, const kf_mix *mix, kf_load_result *out) {
    kf_request_build b;
    kf_request_build_init(&b, &s->request, o);
    b.request.stream = !s->no_stream;
    KF_TRY(probe(s, &b.request, mix));
    struct sigaction act = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &act, NULL);
    kf_load_opts opts = {.nats = &s->nats,
                         .request = &b.request,
                         .lane = kf_lane_names[s->request.lane],
                         .mix = mix,
                         .outstanding = (size_t)(s->rate > 0 ? s->outstanding : s->clients),
                         .rate = s->rate,
                         .n_requests = (uint64_t)s->n_requests,
                         .duration_s = s->duration_s > 0 || s->n_requests ? s->duration_s : 10,
                         .timeout_s = s->timeout_s,
                         .slo_s = s->slo_ms / 1e3,
                         .seed = (uint64_t)s->arrivals_seed,
                         .stop = &stop,
                         .progress = true};
    return kf_load_run(&opts, out);
}

static kf_status bench(const settings *s, const kf_options *o, int *code) {
    kf_mix mix;
    kf_load_result r = {0};
    *code = KF_EXIT_FAILED;
    KF_TRY(kf_mix_read(s->file, &mix));
    kf_status st = load_worker(s, o, &mix, &r);
    *code = kf_client_exit_code(st);
    if (st == KF_OK) {
        *code = r.n_ok ? KF_EXIT_OK : r.n_no_worker || r.n_timed_out ? KF_EXIT_NO_WORKER : KF_EXIT_FAILED;
        if (s->common.json)
            st = print_json(s, &r);
        else
            print_result(s, &r);
        if (s->plot) KF_STEP(st, kf_bench_plot(s->plot, &r));
        kf_load_result_free(&r);
    }
    kf_mix_free(&mix);
    return st;
}

int kf_cmd_bench(int argc, char **argv) {
    kf_options o = {.program = "kefu bench",
                    .usage = "[--clients N | --rate R] [--duration SECONDS | --requests N]",
                    .about = "Loads a worker. Closed loop: N clients, each asks again when it is answered. Open loop: "
                             "requests are due at\nPoisson times and their latency counts from when they were due, so "
                             "a stalled worker hides nothing.\nttft: to the first text; tpot: from there to the end, a "
                             "token; total: to the final. Of OK replies.\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest) return kf_cli_usage(&o, "bench takes no arguments; messages come from --file");
    if (s.rate > 0 && kf_options_given(&o, "clients")) return kf_cli_usage(&o, "--clients or --rate, not both");
    const char *lacks = kf_request_lacks(&s.request, &s.nats);
    if (lacks) return kf_cli_usage(&o, "%s", lacks);
    kf_status st = bench(&s, &o, &code);
    return kf_cli_end(&o, st, code);
}
