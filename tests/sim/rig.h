/* A server driven as transport drives it, from one thread, and what came out of it by request. */
#ifndef KF_TESTS_SIM_RIG_H
#define KF_TESTS_SIM_RIG_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "serve/serve.h"
#include "sim/tiny.h"

static char *models; /* tiny_models() of this program */

typedef struct answer {
    int n_finals, n_parts;
    kf_code code;
    kf_finish finish;
    char text[2048], parts[2048], message[512];
    char intent[64];
    size_t n_intents, n_words;
    bool handoff, has_understanding;
    uint32_t seq, completion_tokens;
    int64_t retry_after_ms;
} answer;

typedef struct rig {
    kf_device *device;
    kf_server *server;
    answer answers[512];
} rig;

/* The device's table of operations may be changed before the server sees it: `faults` says how. */
typedef struct rig_opts {
    const char *device;
    size_t n_jobs, max_running, kv_cache_bytes;
    double max_gap_ms; /* 0: 150 */
    bool plain_products;
    void (*faults)(kf_device *d);
} rig_opts;

static rig *start_with(rig_opts o) {
    rig *r = calloc(1, sizeof *r);
    kf_device_opts device = {.dtype = KF_F32, .n_threads = 1, .plain_products = o.plain_products};
    assert_int_equal(kf_device_open(o.device, &device, &r->device), KF_OK);
    if (o.faults) o.faults(r->device);
    kf_server_opts so = {
        .device = r->device,
        .models_dir = models,
        .n_jobs = o.n_jobs,
        .job_arena_bytes = 64 << 10,
        .max_running = o.max_running,
        .kv_cache_bytes = o.kv_cache_bytes,
        .max_gap_ms = o.max_gap_ms > 0 ? o.max_gap_ms : 150,
    };
    kf_status s = kf_server_start(&so, &r->server);
    if (s != KF_OK) fail_msg("start: %s at %s", kf_error_text(), kf_error_where());
    return r;
}

static inline rig *start(const char *device, size_t n_jobs, size_t max_running) {
    return start_with((rig_opts){.device = device, .n_jobs = n_jobs, .max_running = max_running});
}

static void end(rig *r) {
    kf_server_free(r->server);
    kf_device_close(r->device);
    free(r);
}

static kf_str str(const char *s) {
    return (kf_str){.s = s, .n = strlen(s)};
}

/* A request whose id is its number; text and id are copied into the job's arena as wire does it. */
static kf_job *request(rig *r, int number, const char *text, uint32_t max_tokens) {
    kf_job *job = kf_job_get(r->server);
    assert_non_null(job);
    char id[16];
    snprintf(id, sizeof id, "%d", number);
    kf_request *q = &job->request;
    *q = (kf_request){.lane = KF_LANE_NORMAL};
    q->id = str(kf_arena_strndup(&job->arena, id, strlen(id)));
    q->text = str(kf_arena_strndup(&job->arena, text, strlen(text)));
    q->session_id = q->user_id = str("");
    q->tenant = str("default");
    q->generate =
        (kf_generate){.max_tokens = max_tokens, .top_p = 1, .repetition_penalty = 1, .seed = 7, .has_seed = true};
    return job;
}

static void note(answer *a, const kf_response *m) {
    assert_int_equal(a->n_finals, 0); /* nothing comes after the final */
    assert_int_equal(m->seq, a->seq++);
    assert_int_equal(m->reply.text.n, strlen(m->reply.text.s));
    if (!m->final) {
        a->n_parts++;
        strcat(a->parts, m->reply.text.s);
        return;
    }
    a->n_finals++;
    a->code = m->code;
    a->finish = m->reply.finish;
    snprintf(a->text, sizeof a->text, "%s", m->reply.text.s);
    snprintf(a->message, sizeof a->message, "%s", m->message.s);
    a->handoff = m->handoff.reason != KF_HANDOFF_NONE;
    a->has_understanding = m->has_understanding;
    a->n_intents = m->understanding.n_intents;
    a->n_words = m->understanding.n_words;
    if (a->n_intents) snprintf(a->intent, sizeof a->intent, "%s", m->understanding.intents[0].label);
    a->retry_after_ms = m->retry_after_ms;
    a->completion_tokens = m->usage.completion_tokens;
}

/* Sends what has come out; returns how many finals. */
static int drain_outbox(rig *r) {
    kf_job *job;
    kf_response m = {0};
    int n = 0;
    while ((job = kf_server_outbox_pop(r->server)) != NULL) {
        answer *a = &r->answers[atoi(job->request.id.s)];
        m.final = false;
        while (kf_job_next_response(job, &m))
            note(a, &m);
        if (!m.final) continue;
        n++;
        kf_job_put(r->server, job);
    }
    return n;
}

static void wait_finals(rig *r, int n) {
    int64_t until = kf_clock_now_ns() + 60000000000;
    while (n > 0 && kf_clock_now_ns() < until) {
        struct pollfd p = {.fd = kf_server_outbox_fd(r->server), .events = POLLIN};
        poll(&p, 1, 1000);
        n -= drain_outbox(r);
    }
    assert_int_equal(n, 0);
}

/* The gauges follow the last final by a moment. */
static inline void wait_empty(rig *r) {
    kf_server_state s;
    int64_t until = kf_clock_now_ns() + 10000000000;
    do {
        usleep(1000);
        kf_server_state_get(r->server, &s);
    } while ((s.n_waiting || s.n_running || s.kv_blocks_used || s.oldest_age_ns) && kf_clock_now_ns() < until);
    assert_int_equal(s.n_waiting + s.n_running + s.kv_blocks_used, 0);
    assert_int_equal(s.oldest_age_ns, 0);
}

/* After N requests (ids 0 on) on a device that is lost: one final each; who had an answer by then has the right one of
 * alone [n_alone], the others are told to ask again, and so is whoever comes now. */
static inline void expect_lost(rig *r, int n, char (*alone)[2048], int n_alone) {
    int n_unavailable = 0;
    wait_finals(r, n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(r->answers[i].n_finals, 1);
        if (r->answers[i].code == KF_CODE_UNAVAILABLE)
            n_unavailable++;
        else
            assert_string_equal(r->answers[i].text, alone[i % n_alone]);
    }
    assert_true(n_unavailable > 0);
    kf_server_state s;
    kf_server_state_get(r->server, &s);
    assert_true(s.device_failed);
    assert_false(s.ready);
    kf_server_submit(r->server, request(r, n, "你好", 8)); /* and it goes on answering */
    wait_finals(r, 1);
    assert_int_equal(r->answers[n].code, KF_CODE_UNAVAILABLE);
}

static const char *const texts[] = {"我想要一件红色的羽绒服", "多少钱",         "退货在吗？", "你好",
                                    "红色的要一件，钱多吗",   "想要想要想要123"};
enum { N_TEXTS = sizeof texts / sizeof *texts };

#endif
