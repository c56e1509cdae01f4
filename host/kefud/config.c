/* The rows of kefud's options. */
#include "kefud/config.h"

#include <string.h>

#include "observe/http.h"

static const char *const dtypes[] = {"auto", "f32", "bf16", NULL};
static const char *const off_on[] = {"off", "on", NULL};
static const char *const levels[] = {"debug", "info", "warn", "error", NULL}; /* in kf_log_level's order */

#define ROW(name, kind, field, arg, def, help, ...)                                                                    \
    KF_OPTION(name, KF_OPTION_##kind, offsetof(kf_kefud_config, field), arg, def, help, __VA_ARGS__)

static const kf_option table[] = {
    KF_NATS_OPTIONS(kf_kefud_config, nats),
    ROW("models", TEXT, models, "DIR", "models", "folder with encoder/ and decoder/"),
    ROW("device", CHOICE, device, "NAME", "cpu", "cpu, cuda or null (computes nothing)", .choices = kf_device_names),
    ROW("decoder", CHOICE, decoder, "on|off", "on", "off: understand only, write no replies", .choices = off_on),
    ROW("dtype", CHOICE, dtype, "TYPE", "auto", "format of the weights: f32, bf16 or auto: what is faster here",
        .choices = dtypes),
    ROW("threads", INT, threads, "N", "0", "compute threads of the cpu device; 0: one a core", .min = 0, .max = 1024),
    ROW("batch-invariant", CHOICE, batch_invariant, "on|off", "on", "the same answer alone or in company",
        .choices = off_on),
    ROW("cuda-graphs", CHOICE, cuda_graphs, "on|off", "on", "on cuda: a decoder step is one graph", .choices = off_on),
    ROW("http", TEXT, http, "ADDR:PORT", "127.0.0.1:8080", "/livez /readyz /startupz /metrics; off: none"),
    ROW("max-jobs", INT, max_jobs, "N", "1024", "requests in hand; more are refused", .min = 1, .max = 65536),
    ROW("max-running", INT, max_running, "N", "16", "replies written at once", .min = 1, .max = 4096),
    ROW("max-gap-ms", REAL, max_gap_ms, "MS", "0", "longest gap between two tokens; 0: 20 on cuda, 150 on cpu",
        .min = 0, .max = 60000),
    ROW("kv-cache-mb", INT, kv_cache_mb, "MB", "0", "KV cache; 0: enough for max-running full sequences", .min = 0,
        .max = 1 << 20),
    ROW("max-tokens", INT, max_tokens, "N", "256", "the most tokens that a request may ask for", .min = 1,
        .max = 65536),
    ROW("deadline-ms", INT, deadline_ms, "MS", "30000", "of requests that name none", .min = 1, .max = 3600000),
    ROW("drain-s", INT, drain_s, "S", "25", "after SIGTERM: how long to finish what is in hand", .min = 0, .max = 3600),
    ROW("log-level", CHOICE, log_level, "LEVEL", "info", "debug, info, warn or error", .choices = levels),
    ROW("trace", TEXT, trace, "FILE", NULL, "write what happens when, for ui.perfetto.dev; 256 MiB at most"),
    ROW("config", TEXT, file, "FILE", NULL, "configuration file: lines \"name = value\", # comments"),
    ROW("print-config", FLAG, print_config, NULL, NULL, "show what holds and from where, and end", .once = true),
    ROW("version", FLAG, version, NULL, NULL, "show the version, and end", .once = true),
    ROW("help", FLAG, help, NULL, NULL, "show this, and end", .once = true),
};

kf_status kf_kefud_config_read(int argc, char **argv, kf_options *o, kf_kefud_config *out) {
    *o = (kf_options){
        .program = "kefud",
        .usage = "[options]",
        .about = "The customer-service worker: takes requests off NATS, understands and answers them.\n"
                 "Logs JSON lines on stderr. SIGTERM or SIGINT drains; a second one ends at once.\n",
        .after = "\nExit codes: 0 drained; 1 it could not start (a model, memory, a port); 2 usage; 3 the broker "
                 "refuses it\n"
                 "(credentials, permissions, certificate); 4 the device failed; 5 ended before all was answered.\n",
        .table = table,
        .n_table = sizeof table / sizeof *table,
    };
    kf_kefud_config c;
    KF_TRY(kf_options_parse(o, argc, argv, &c));
    kf_status s = KF_OK;
    if (o->n_rest) s = KF_FAIL(KF_ERR_INVALID, "\"%s\" is no option; see kefud --help", o->rest[0]);
    KF_STEP(s, kf_nats_opts_check(&c.nats));
    if (s == KF_OK && kf_kefud_has_http(&c)) s = kf_http_address_check(c.http);
    if (s != KF_OK) {
        kf_options_free(o);
        return s;
    }
    if (c.max_gap_ms == 0) c.max_gap_ms = strcmp(kf_device_names[c.device], "cuda") == 0 ? 20 : 150;
    *out = c;
    return KF_OK;
}

bool kf_kefud_has_http(const kf_kefud_config *c) {
    return strcmp(c->http, "off") != 0;
}

kf_dtype kf_kefud_dtype(const kf_kefud_config *c) {
    if (!strcmp(dtypes[c->dtype], "auto")) return kf_device_fastest_dtype(kf_device_names[c->device]);
    return strcmp(dtypes[c->dtype], "bf16") == 0 ? KF_BF16 : KF_F32;
}
