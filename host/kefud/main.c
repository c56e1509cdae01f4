/* kefud: configuration, log, HTTP, device, models, NATS, in this order; then it waits for a signal and drains.
 *
 * HTTP comes early, so that probes hear "loading models" instead of nothing. Signals are blocked everywhere and read
 * from a descriptor here, so no handler ever interrupts a thread. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "kefud/config.h"
#include "kefud/generation.h"
#include "kefud/health.h"
#include "observe/trace_file.h"

enum { EXIT_DRAINED = 0, EXIT_START = 1, EXIT_USAGE = 2, EXIT_BROKER = 3, EXIT_DEVICE = 4, EXIT_UNFINISHED = 5 };
enum {
    JOB_ARENA_BYTES = 256 << 10,
    MAX_TEXT_BYTES = 16 << 10, /* of one text; the model's limit in tokens comes on top */
    POLL_MS = 100
};

static const int64_t REFUSALS_NS = 2000000000;

typedef struct worker {
    kf_kefud_config config;
    kf_device *device;
    kf_health health;
    kf_http *http;
    kf_trace_file *trace;
    int signal_fd;
} worker;

static void log_failure(const char *event) {
    kf_log(KF_ERROR, event, KF_STR("why", kf_error_text()), KF_STR("where", kf_error_where()), KF_END);
}

/* ---- start and stop ---- */

static kf_status block_signals(int *out) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || (*out = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return KF_FAIL(KF_ERR_IO, "signals: %s", strerror(errno));
    return KF_OK;
}

static kf_status start_http(worker *w) {
    if (!kf_kefud_has_http(&w->config)) return KF_OK;
    kf_http_opts o = {
        .address = w->config.http, .probe = kf_health_probe, .before_metrics = kf_health_gauges, .ctx = &w->health};
    return kf_http_start(&o, &w->http);
}

static kf_status start_server(worker *w) {
    const kf_kefud_config *c = &w->config;
    kf_device_opts device = {
        .dtype = kf_kefud_dtype(c), .n_threads = (int)c->threads, .batch_invariant_off = !c->batch_invariant};
    KF_TRY(kf_device_open(kf_device_names[c->device], &device, &w->device));
    kf_server_opts o = {.device = w->device,
                        .models_dir = c->models,
                        .understand_only = !c->decoder,
                        .n_jobs = (size_t)c->max_jobs,
                        .job_arena_bytes = JOB_ARENA_BYTES,
                        .max_running = (size_t)c->max_running,
                        .kv_cache_bytes = (size_t)c->kv_cache_mb << 20,
                        .max_gap_ms = c->max_gap_ms,
                        .no_graphs = !c->cuda_graphs};
    kf_server *server;
    KF_TRY(kf_server_start(&o, &server));
    atomic_store(&w->health.server, server);
    return KF_OK;
}

static kf_status start_transport(worker *w) {
    const kf_kefud_config *c = &w->config;
    kf_transport_opts o = {.nats = c->nats,
                           .job_arena_bytes = JOB_ARENA_BYTES,
                           .limits = {.max_text_bytes = MAX_TEXT_BYTES,
                                      .max_tokens = (uint32_t)c->max_tokens,
                                      .default_deadline_ms = (uint32_t)c->deadline_ms}};
    KF_TRY(kf_generation_defaults(c->models, &o.limits));
    kf_transport *t;
    KF_TRY(kf_transport_start(&o, atomic_load(&w->health.server), &t));
    atomic_store(&w->health.transport, t);
    return KF_OK;
}

static void stop(worker *w) {
    kf_http_stop(w->http); /* first: its thread looks at the others */
    kf_transport_stop(atomic_load(&w->health.transport));
    kf_server_free(atomic_load(&w->health.server));
    kf_trace_file_close(w->trace); /* after all that record */
    if (w->device) kf_device_close(w->device);
    if (w->signal_fd >= 0) close(w->signal_fd);
}

/* ---- the main thread's wait ---- */

static bool signalled(worker *w) {
    struct signalfd_siginfo info;
    if (read(w->signal_fd, &info, sizeof info) != sizeof info) return false;
    kf_log(KF_INFO, "signal", KF_STR("name", sigdescr_np((int)info.ssi_signo)), KF_END);
    return true;
}

static bool device_failed(worker *w) {
    kf_server_state s;
    kf_server_state_get(atomic_load(&w->health.server), &s);
    return s.device_failed;
}

static void begin_drain(worker *w) {
    kf_log(KF_INFO, "draining", KF_INT("at_most_s", w->config.drain_s), KF_END);
    kf_transport_drain(atomic_load(&w->health.transport));
}

/* Until the transport has ended or a second signal says so. Where the time for draining is over, what is still in hand
 * is answered UNAVAILABLE. Returns the exit code. */
static int wait_for_end(worker *w) {
    kf_transport *t = atomic_load(&w->health.transport);
    int64_t give_up_ns = INT64_MAX; /* not draining */
    int code = EXIT_DRAINED;
    for (;;) {
        struct pollfd fds[] = {{w->signal_fd, POLLIN, 0}, {kf_transport_end_fd(t), POLLIN, 0}};
        if (poll(fds, 2, POLL_MS) < 0 && errno != EINTR) return EXIT_UNFINISHED;
        bool draining = give_up_ns != INT64_MAX, asked = signalled(w);
        if (asked && draining) return EXIT_UNFINISHED;
        if (kf_transport_ended(t) == KF_TRANSPORT_CLOSED) return EXIT_BROKER;
        if (kf_transport_ended(t) == KF_TRANSPORT_DRAINED) return code;
        if (!draining && device_failed(w)) code = EXIT_DEVICE;
        if (!draining && (asked || code == EXIT_DEVICE)) {
            give_up_ns = kf_clock_now_ns() + w->config.drain_s * 1000000000;
            begin_drain(w);
        } else if (kf_clock_now_ns() > give_up_ns) {
            if (code == EXIT_UNFINISHED) return code; /* the refusals did not go out either */
            code = EXIT_UNFINISHED;
            give_up_ns = kf_clock_now_ns() + REFUSALS_NS;
            kf_server_stop(atomic_load(&w->health.server));
        }
    }
}

static int run(worker *w) {
    kf_log(KF_INFO, "starting", KF_STR("version", KF_VERSION), KF_STR("device", kf_device_names[w->config.device]),
           KF_STR("dtype", kf_dtype_name(kf_kefud_dtype(&w->config))), KF_STR("models", w->config.models), KF_END);
    kf_status s = KF_OK;
    KF_STEP(s, block_signals(&w->signal_fd));
    KF_STEP(s, start_http(w));
    if (w->config.trace) KF_STEP(s, kf_trace_file_open(w->config.trace, &w->trace));
    KF_STEP(s, start_server(w));
    KF_STEP(s, start_transport(w));
    if (s != KF_OK) {
        log_failure("not_started");
        return EXIT_START;
    }
    int code = wait_for_end(w);
    if (code == EXIT_DEVICE) kf_log(KF_ERROR, "device_failed", KF_END);
    kf_log(code ? KF_ERROR : KF_INFO, "ended", KF_INT("exit_code", code), KF_END);
    return code;
}

int main(int argc, char **argv) {
    worker w = {.signal_fd = -1};
    kf_options options;
    if (kf_kefud_config_read(argc, argv, &options, &w.config) != KF_OK) {
        fprintf(stderr, "kefud: %s\n", kf_error_text());
        return EXIT_USAGE;
    }
    int code = EXIT_DRAINED;
    if (w.config.help) {
        kf_options_help(&options, stdout);
    } else if (w.config.version) {
        puts("kefud " KF_VERSION);
    } else if (w.config.print_config) {
        kf_options_print(&options, stdout);
    } else {
        kf_log_to(STDERR_FILENO, (kf_log_level)w.config.log_level);
        code = run(&w);
        if (code == EXIT_UNFINISHED) _exit(code); /* at once: no thread is waited for */
        stop(&w);
    }
    kf_options_free(&options);
    return code;
}
