/* The I/O thread's work: messages become jobs, responses become messages (nats.h). The loop below it is loop.h's. */
#include "transport/nats.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "observe/metrics.h"
#include "transport/discovery.h"
#include "transport/loop.h"
#include "wire/json.h"
#include "wire/pb.h"

enum {
    OUT_BYTES = 1 << 20,     /* of one reply; more is refused as over max_payload is */
    SCRATCH_BYTES = 1 << 18, /* for putting one reply together */
    CLOSE_MS = 3000,
    HEADER_BYTES = 1024, /* kept free under max_payload for a reply's headers */
    JOBS_A_TURN = 256,   /* taken from the outbox before the socket is looked at again */
    TICK_MS = 50,
    MAX_BUFFERED_BYTES = 8 << 20,
    SUBJECT_BYTES = 128,
    TRACEPARENT_BYTES = 64,
    N_OWN_SUBS = 3, /* the two endpoints and kefu.cancel */
    N_SUBS = N_OWN_SUBS + KF_N_DISCOVERY_SUBJECTS
};
static const int64_t MAX_RETRY_MS = 2000, UNSUBSCRIBE_NS = 2000000000, LOG_EVERY_NS = 1000000000;
static const char CANCEL_SUBJECT[] = "kefu.cancel";

typedef enum phase { SERVING, UNSUBSCRIBING, FINISHING, OVER } phase;

struct kf_transport {
    kf_transport_opts opts;
    kf_server *server;
    kf_io *loop;
    natsOptions *nats_options;
    natsConnection *nc;             /* NULL until the broker was there for the first time */
    int n_attempts;                 /* of connecting, until then */
    int64_t attempt_ns;             /* when the next one is due */
    natsSubscription *subs[N_SUBS]; /* the endpoints, cancel, then discovery's nine */
    kf_discovery discovery;
    kf_job spare; /* answers when every job of the server is in use; reads kefu.cancel */
    kf_arena scratch;
    char *out; /* [OUT_BYTES], the reply that is being written */
    phase phase;
    int64_t phase_ns;                 /* when it began */
    uint64_t n_dropped[KF_N_DROPPED]; /* by kf_dropped_label, since the last log line */
    int64_t logged_ns;
    _Atomic bool drain_wanted, closed, stopping;
    _Atomic int ended; /* kf_transport_end */
    int end_fd;
};

/* ---- replies ---- */

static kf_endpoint *endpoint_of(kf_transport *t, const kf_job *job) {
    for (size_t i = 0; i < KF_N_ENDPOINTS - 1; i++)
        if (!strcmp(job->origin.subject, t->discovery.endpoints[i].subject)) return &t->discovery.endpoints[i];
    return &t->discovery.endpoints[KF_N_ENDPOINTS - 1];
}

/* code: of what is sent, which is not the job's where the broker's limit makes it a refusal. */
static void count_final(kf_transport *t, const kf_job *job, kf_code code) {
    int64_t took_ns = kf_clock_now_ns() - job->origin.received_ns;
    kf_endpoint *e = endpoint_of(t, job);
    kf_metric_add_label(KF_M_REQUESTS, kf_metric_code_label((int)code), 1);
    e->num_requests++;
    e->processing_ns += took_ns;
    if (code == KF_CODE_OK) return;
    e->num_errors++;
    snprintf(e->last_error, sizeof e->last_error, "%d: %s", code, kf_wire_code_name((int)code));
}

/* A header's value is one line. */
static void one_line(kf_str text, char *out, size_t cap) {
    size_t n = text.n < cap - 1 ? text.n : cap - 1;
    while (n < text.n && n > 0 && ((unsigned char)text.s[n] & 0xc0) == 0x80)
        n--; /* no half character */
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)text.s[i] < 0x20 ? ' ' : text.s[i];
    out[n] = 0;
}

static natsStatus send_with_headers(kf_transport *t, const kf_job *job, const kf_response *r, size_t n) {
    natsMsg *msg = NULL;
    char code[12], text[256];
    natsStatus ns = natsMsg_Create(&msg, job->origin.reply_to, NULL, t->out, (int)n);
    if (ns == NATS_OK && r->code != KF_CODE_OK) {
        snprintf(code, sizeof code, "%d", r->code);
        one_line(r->message, text, sizeof text);
        ns = natsMsgHeader_Set(msg, "Nats-Service-Error-Code", code);
        if (ns == NATS_OK) ns = natsMsgHeader_Set(msg, "Nats-Service-Error", text);
    }
    if (ns == NATS_OK && job->request.json) ns = natsMsgHeader_Set(msg, "Content-Type", "application/json");
    if (ns == NATS_OK && job->origin.traceparent) ns = natsMsgHeader_Set(msg, "traceparent", job->origin.traceparent);
    if (ns == NATS_OK) ns = natsConnection_PublishMsg(t->nc, msg);
    natsMsg_Destroy(msg);
    return ns;
}

/* The most bytes of a reply. natsConnection_GetMaxPayload changes with the server that we are connected to. */
static size_t reply_cap(kf_transport *t) {
    int64_t max_payload = natsConnection_GetMaxPayload(t->nc);
    int64_t cap = max_payload > 2 * HEADER_BYTES ? max_payload - HEADER_BYTES : max_payload / 2;
    return cap < OUT_BYTES ? (size_t)cap : OUT_BYTES;
}

/* Encodes *r into t->out; a final that cannot be sent as it is becomes a short refusal, in *r too. */
static kf_status encode(kf_transport *t, const kf_job *job, kf_response *r, size_t *n) {
    static const char too_large[] = "the reply is over the broker's max_payload: ask for fewer tokens, or raise it";
    size_t cap = reply_cap(t);
    kf_status s = kf_wire_encode(&job->request, r, &t->scratch, t->out, cap, n);
    if (s == KF_OK || !r->final) return s;
    *r = (kf_response){.seq = r->seq,
                       .attempt = r->attempt,
                       .final = true,
                       .code = KF_CODE_RESOURCE_EXHAUSTED,
                       .message = {too_large, sizeof too_large - 1},
                       .reply.text = {"", 0},
                       .handoff.summary = {"", 0},
                       .usage = r->usage,
                       .model = r->model};
    return kf_wire_encode(&job->request, r, &t->scratch, t->out, cap, n);
}

/* Sends one response of a job. What cannot be sent is lost with the connection, and said in the log. */
static void publish(kf_transport *t, const kf_job *job, kf_response r) {
    size_t n = 0;
    kf_status s = encode(t, job, &r, &n);
    natsStatus ns = NATS_OK;
    if (s == KF_OK && (r.code != KF_CODE_OK || job->request.json || job->origin.traceparent)) {
        ns = send_with_headers(t, job, &r, n);
    } else if (s == KF_OK) {
        ns = natsConnection_Publish(t->nc, job->origin.reply_to, t->out, (int)n);
    }
    if (s != KF_OK || ns != NATS_OK)
        kf_log(KF_WARN, "reply_not_sent", KF_BOOL("final", r.final), KF_INT("seq", r.seq),
               KF_STR("why", s != KF_OK ? kf_error_text() : natsStatus_GetText(ns)), KF_END);
    if (r.final) count_final(t, job, r.code);
}

static void on_outbox(void *ctx) {
    kf_transport *t = ctx;
    kf_job *job;
    for (int i = 0; i < JOBS_A_TURN && (job = kf_server_outbox_pop(t->server)); i++) {
        kf_response r = {.final = false};
        while (!r.final && kf_job_next_response(job, &r))
            publish(t, job, r);
        if (r.final) kf_job_put(t->server, job);
    }
}

/* ---- requests ---- */

static const char *header(natsMsg *msg, const char *name) {
    const char *value = NULL;
    return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : NULL;
}

/* A message that nobody hears of. */
static void drop(kf_transport *t, kf_dropped_label why) {
    t->n_dropped[why]++;
    kf_metric_add_label(KF_M_DROPPED, why, 1);
}

/* Fills a job from a message: where it came from, then what it asks. False: its arena does not even hold the subjects.
 */
static bool fill(kf_transport *t, kf_job *job, natsMsg *msg, int64_t now_ns) {
    static const char no_room[] = "the request needs more memory than one job has: send less";
    const char *reply_to = natsMsg_GetReply(msg), *subject = natsMsg_GetSubject(msg),
               *trace = header(msg, "traceparent");
    const char *lenient = header(msg, "Kefu-Lenient");
    size_t n_trace = trace ? strlen(trace) : 0;
    job->origin = (kf_origin){.reply_to = kf_arena_strndup(&job->arena, reply_to, strlen(reply_to)),
                              .subject = kf_arena_strndup(&job->arena, subject, strlen(subject)),
                              .received_ns = now_ns};
    if (!job->origin.reply_to || !job->origin.subject) return false;
    if (n_trace > 0 && n_trace < TRACEPARENT_BYTES)
        job->origin.traceparent = kf_arena_strndup(&job->arena, trace, n_trace);
    kf_wire_in in = {.bytes = natsMsg_GetData(msg),
                     .n_bytes = (size_t)natsMsg_GetDataLength(msg),
                     .content_type = header(msg, "Content-Type"),
                     .subject = job->origin.subject,
                     .lenient = lenient && !strcmp(lenient, "1"),
                     .received_ns = now_ns};
    job->admitted = kf_wire_decode(&in, &t->opts.limits, &job->arena, &job->request);
    job->refusal = (kf_str){"", 0};
    if (job->admitted != KF_OK) {
        size_t n = strlen(kf_error_text());
        char *text = kf_arena_strndup(&job->arena, kf_error_text(), n);
        job->refusal = text ? (kf_str){text, n} : (kf_str){no_room, sizeof no_room - 1};
    }
    return true;
}

/* Every job is in use: the spare one answers at once. A request that is wrong anyway hears that instead. */
static void refuse(kf_transport *t, natsMsg *msg, int64_t now_ns) {
    static const char busy[] = "every place of this worker is taken: come back after retry_after_ms";
    kf_server_state state;
    kf_arena_reset(&t->spare.arena);
    if (!fill(t, &t->spare, msg, now_ns)) {
        drop(t, KF_DROP_NO_REPLY_SUBJECT);
        return;
    }
    kf_response r = {.attempt = 1,
                     .final = true,
                     .message = t->spare.refusal,
                     .reply.text = {"", 0},
                     .handoff.summary = {"", 0},
                     .model = t->discovery.model};
    if (t->spare.admitted != KF_OK) {
        r.code = kf_code_of(t->spare.admitted);
    } else {
        kf_server_state_get(t->server, &state);
        r.code = KF_CODE_RESOURCE_EXHAUSTED;
        r.message = (kf_str){busy, sizeof busy - 1};
        r.retry_after_ms = state.retry_after_ms > 0 ? state.retry_after_ms : 1;
    }
    publish(t, &t->spare, r);
    kf_metric_add(KF_M_RECEIVED, 1); /* as the server counts its own */
    kf_metric_observe(KF_M_E2E, kf_clock_now_ns() - now_ns);
}

static void on_request(kf_transport *t, natsMsg *msg) {
    int64_t now_ns = kf_clock_now_ns();
    if (!natsMsg_GetReply(msg)) {
        drop(t, KF_DROP_NO_REPLY_SUBJECT);
        return;
    }
    kf_job *job = kf_job_get(t->server);
    if (!job) {
        refuse(t, msg, now_ns);
    } else if (fill(t, job, msg, now_ns)) {
        kf_server_submit(t->server, job);
    } else {
        drop(t, KF_DROP_NO_REPLY_SUBJECT);
        kf_job_put(t->server, job);
    }
}

/* ---- kefu.cancel ---- */

/* A string of a cancellation, JSON or protobuf; unset where it is not there or cannot be read. */
static kf_str cancel_field(const json_t *root, natsMsg *msg, const char *name, uint32_t number) {
    const json_t *value = json_object_get(root, name);
    kf_str out = {json_string_value(value), json_string_length(value)};
    if (!root && !kf_wire_pb_find(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), number, &out.s, &out.n))
        out.s = NULL;
    return out.s ? out : (kf_str){"", 0};
}

static void on_cancel(kf_transport *t, natsMsg *msg) {
    static const kf_str default_tenant = {"default", 7};
    const char *data = natsMsg_GetData(msg);
    size_t n = (size_t)natsMsg_GetDataLength(msg);
    json_t *root = NULL;
    kf_str id = {"", 0}, tenant = {"", 0};
    kf_arena_reset(&t->spare.arena);
    if (n > 0 && (data[0] != '{' || kf_wire_json_parse(data, n, &t->spare.arena, &root) == KF_OK)) {
        id = cancel_field(root, msg, "id", 1);
        tenant = cancel_field(root, msg, "tenant", 4);
    }
    if (id.n) {
        kf_server_cancel(t->server, tenant.n ? tenant : default_tenant, id);
    } else {
        drop(t, KF_DROP_UNREADABLE_CANCEL);
    }
}

/* ---- discovery ---- */

static void on_discovery(kf_transport *t, natsMsg *msg, unsigned idx) {
    char subject[SUBJECT_BYTES];
    size_t n = 0;
    kf_server_state state;
    if (!natsMsg_GetReply(msg)) return;
    kf_server_state_get(t->server, &state);
    kf_discovery_verb verb = kf_discovery_subject(&t->discovery, idx, subject, sizeof subject);
    kf_status s = kf_discovery_answer(&t->discovery, verb, &state, t->out, &n);
    natsStatus ns = NATS_OK;
    if (s == KF_OK) ns = natsConnection_Publish(t->nc, natsMsg_GetReply(msg), t->out, (int)n);
    if (s != KF_OK || ns != NATS_OK)
        kf_log(KF_WARN, "discovery_not_answered", KF_STR("why", s != KF_OK ? kf_error_text() : natsStatus_GetText(ns)),
               KF_END);
}

/* Counted from the last subscription to the first and taken from the first on: a cancellation that is counted was sent
 * after its request, which is then counted too and taken before it. */
static void on_messages(void *ctx) {
    kf_transport *t = ctx;
    uint64_t n[N_SUBS] = {0};
    for (unsigned i = N_SUBS; i-- > 0;)
        if (natsSubscription_QueuedMsgs(t->subs[i], &n[i]) != NATS_OK) n[i] = 0;
    for (unsigned i = 0; i < N_SUBS; i++) {
        natsMsg *msg = NULL;
        for (; n[i] > 0; n[i]--) {
            if (natsSubscription_NextMsg(&msg, t->subs[i], 0) != NATS_OK) continue;
            if (i < KF_N_ENDPOINTS) {
                on_request(t, msg);
            } else if (i < N_OWN_SUBS) {
                on_cancel(t, msg);
            } else {
                on_discovery(t, msg, i - N_OWN_SUBS);
            }
            natsMsg_Destroy(msg);
        }
    }
}

/* ---- draining ---- */

static void enter(kf_transport *t, phase next) {
    t->phase = next;
    t->phase_ns = kf_clock_now_ns();
}

static void end(kf_transport *t, kf_transport_end how) {
    uint64_t one = 1;
    enter(t, OVER);
    atomic_store(&t->ended, how);
    if (write(t->end_fd, &one, sizeof one) < 0)
        kf_log(KF_ERROR, "end_not_told", KF_STR("why", strerror(errno)), KF_END);
}

/* nats.c's drain of one subscription: UNSUB, a round trip in a thread of its own, then it is marked; a synchronous
 * subscription ends at the first NextMsg after the mark. NextMsg looks at the mark only where it may wait: 1 ms, in
 * ticks of a worker that is going away. */
static bool unsubscribed(natsSubscription *sub) {
    natsMsg *msg = NULL;
    uint64_t n = 0;
    if (!natsSubscription_IsValid(sub)) return true;
    if (natsSubscription_QueuedMsgs(sub, &n) == NATS_OK && n == 0 && natsSubscription_NextMsg(&msg, sub, 1) == NATS_OK)
        natsMsg_Destroy(msg);
    return !natsSubscription_IsValid(sub);
}

/* Where the broker cannot be told, requests come until the connection goes; UNSUBSCRIBE_NS bounds the wait for it. */
static void unsubscribe(kf_transport *t) {
    for (size_t i = 0; i < KF_N_ENDPOINTS; i++) {
        natsStatus ns = natsSubscription_Drain(t->subs[i]);
        if (ns != NATS_OK)
            kf_log(KF_WARN, "not_unsubscribed", KF_STR("subject", t->discovery.endpoints[i].subject),
                   KF_STR("why", natsStatus_GetText(ns)), KF_END);
    }
}

static void drain_step(kf_transport *t) {
    int64_t in_phase_ns = kf_clock_now_ns() - t->phase_ns;
    bool connected = kf_io_connected(t->loop), done = true;
    switch (t->phase) {
    case SERVING:
        if (connected) unsubscribe(t);
        enter(t, UNSUBSCRIBING);
        break;
    case UNSUBSCRIBING:
        for (size_t i = 0; i < KF_N_ENDPOINTS && connected; i++)
            done = unsubscribed(t->subs[i]) && done;
        if (!done && in_phase_ns < UNSUBSCRIBE_NS) break;
        kf_server_drain(t->server);
        enter(t, FINISHING);
        break;
    case FINISHING:
        if (kf_server_idle(t->server) && (!connected || natsConnection_Buffered(t->nc) == 0))
            end(t, KF_TRANSPORT_DRAINED);
        break;
    case OVER: break;
    }
}

/* ---- what nats.c tells, on its own threads ---- */

static void log_connected(natsConnection *nc, const char *event) {
    char url[256] = "", shown[256];
    natsConnection_GetConnectedUrl(nc, url, sizeof url);
    kf_nats_url_shown(url, shown, sizeof shown);
    kf_log(KF_INFO, event, KF_STR("server", shown), KF_INT("max_payload", natsConnection_GetMaxPayload(nc)), KF_END);
}

static void on_reconnected(natsConnection *nc, void *ctx) {
    (void)ctx;
    kf_metric_add(KF_M_RECONNECTS, 1);
    log_connected(nc, "nats_reconnected");
}

static void on_disconnected(natsConnection *nc, void *ctx) {
    (void)nc;
    const kf_transport *t = ctx;
    if (!atomic_load(&t->stopping)) kf_log(KF_WARN, "nats_disconnected", KF_END);
}

static void on_closed(natsConnection *nc, void *ctx) {
    kf_transport *t = ctx;
    const char *why = NULL;
    natsConnection_GetLastError(nc, &why);
    if (!atomic_load(&t->stopping))
        kf_log(KF_ERROR, "nats_closed", KF_STR("why", why && *why ? why : "the broker refuses us"), KF_END);
    atomic_store(&t->closed, true);
    kf_io_wake(t->loop);
}

static void on_async(natsConnection *nc, natsSubscription *sub, natsStatus err, void *ctx) {
    (void)sub, (void)ctx;
    const char *why = NULL;
    natsConnection_GetLastError(nc, &why);
    kf_log(KF_ERROR, "nats_says", KF_STR("status", natsStatus_GetText(err)), KF_STR("why", why ? why : ""), KF_END);
}

/* 100 ms, doubled up to 2 s, and up to a quarter more so that workers spread. */
static int64_t retry_wait_ms(int attempts) {
    int64_t wait_ms = attempts < 6 ? 100LL << (attempts > 0 ? attempts - 1 : 0) : MAX_RETRY_MS;
    if (wait_ms > MAX_RETRY_MS) wait_ms = MAX_RETRY_MS;
    return wait_ms + kf_clock_now_ns() / 1000 % (wait_ms / 4 + 1);
}

static void log_attempt(int attempt, int64_t wait_ms, const char *why) {
    kf_log(KF_WARN, "nats_not_connected", KF_INT("attempt", attempt), KF_INT("retry_in_ms", wait_ms),
           KF_STR("why", why && *why ? why : "the connection was lost"), KF_END);
}

/* After a loss: before each round over the servers, on the reconnecting thread. */
static int64_t on_retry(natsConnection *nc, int attempts, void *ctx) {
    (void)nc, (void)ctx;
    int64_t wait_ms = retry_wait_ms(attempts);
    log_attempt(attempts, wait_ms, nats_GetLastError(NULL));
    return wait_ms;
}

/* ---- connecting for the first time ---- */

static kf_status subscribe(kf_transport *t) {
    char discovery[SUBJECT_BYTES];
    for (unsigned i = 0; i < N_SUBS; i++) {
        natsStatus ns;
        const char *subject = discovery;
        if (i < KF_N_ENDPOINTS) {
            subject = t->discovery.endpoints[i].subject;
            ns = natsConnection_QueueSubscribeSync(&t->subs[i], t->nc, subject, kf_service_queue);
        } else {
            if (i < N_OWN_SUBS) subject = CANCEL_SUBJECT;
            if (i >= N_OWN_SUBS) kf_discovery_subject(&t->discovery, i - N_OWN_SUBS, discovery, sizeof discovery);
            ns = natsConnection_SubscribeSync(&t->subs[i], t->nc, subject);
        }
        if (ns != NATS_OK) return KF_NATS_FAIL(ns, "subscribing to %s", subject);
    }
    return KF_OK;
}

/* What does not mend by trying again. */
static bool is_refusal(natsStatus ns) {
    return ns == NATS_CONNECTION_AUTH_FAILED || ns == NATS_NOT_PERMITTED || ns == NATS_SSL_ERROR ||
           ns == NATS_SECURE_CONNECTION_WANTED || ns == NATS_SECURE_CONNECTION_REQUIRED;
}

/* One round over the servers. It may wait, a few seconds at most: nothing else is to be done on this thread before
 * there is a connection. nats.c's own way (RetryOnFailedConnect) gives up for good in 3.4.1 where a server, or a proxy
 * before it, takes the first connection and drops it. */
static void first_connect(kf_transport *t, int64_t now_ns) {
    natsStatus ns = natsConnection_Connect(&t->nc, t->nats_options);
    if (ns == NATS_OK) {
        log_connected(t->nc, "nats_connected");
        if (subscribe(t) == KF_OK) return;
        kf_log(KF_ERROR, "nats_closed", KF_STR("why", kf_error_text()), KF_END);
        end(t, KF_TRANSPORT_CLOSED);
    } else if (is_refusal(ns)) {
        kf_log(KF_ERROR, "nats_closed", KF_STR("why", nats_GetLastError(NULL)), KF_END);
        end(t, KF_TRANSPORT_CLOSED);
    } else {
        int64_t wait_ms = retry_wait_ms(++t->n_attempts);
        log_attempt(t->n_attempts, wait_ms, nats_GetLastError(NULL));
        t->attempt_ns = now_ns + wait_ms * 1000000;
    }
}

/* ---- the tick ---- */

static void log_dropped(kf_transport *t, int64_t now_ns) {
    const uint64_t *n = t->n_dropped;
    if (!n[KF_DROP_NO_REPLY_SUBJECT] && !n[KF_DROP_UNREADABLE_CANCEL]) return;
    kf_log(KF_WARN, "messages_dropped", KF_INT("no_reply_subject", n[KF_DROP_NO_REPLY_SUBJECT]),
           KF_INT("unreadable_cancel", n[KF_DROP_UNREADABLE_CANCEL]), KF_END);
    memset(t->n_dropped, 0, sizeof t->n_dropped);
    t->logged_ns = now_ns;
}

static void on_tick(void *ctx) {
    kf_transport *t = ctx;
    int64_t now = kf_clock_now_ns();
    if (now - t->logged_ns > LOG_EVERY_NS) log_dropped(t, now);
    if (!t->nc && t->phase == SERVING && now >= t->attempt_ns) first_connect(t, now);
    if (atomic_load(&t->closed) && t->phase != OVER) end(t, KF_TRANSPORT_CLOSED);
    if (atomic_load(&t->drain_wanted)) drain_step(t);
}

/* ---- life ---- */

/* Servers, identity and TLS come from connect.h; here: how a worker behaves that must come back by itself. */
static kf_status make_options(kf_transport *t, natsOptions **out) {
    natsOptions *o = NULL;
    KF_TRY(kf_nats_options_new(&t->opts.nats, "kefud", &o));
    natsStatus ns = natsOptions_SetMaxReconnect(o, -1); /* for ever */
    if (ns == NATS_OK) ns = natsOptions_SetCustomReconnectDelay(o, on_retry, t);
    if (ns == NATS_OK) ns = natsOptions_SetDisconnectedCB(o, on_disconnected, t);
    if (ns == NATS_OK) ns = natsOptions_SetReconnectedCB(o, on_reconnected, t);
    if (ns == NATS_OK) ns = natsOptions_SetClosedCB(o, on_closed, t);
    if (ns == NATS_OK) ns = natsOptions_SetErrorHandler(o, on_async, t);
    kf_status s = ns == NATS_OK ? KF_OK : KF_NATS_FAIL(ns, "nats.c's options");
    KF_STEP(s, kf_io_use(t->loop, o));
    if (s != KF_OK) {
        natsOptions_Destroy(o);
        return s;
    }
    *out = o;
    return KF_OK;
}

static void warn_of_tls(const kf_transport *t) {
    if (!kf_nats_uses_tls(&t->opts.nats)) return;
    if (!t->opts.nats.tls_name)
        kf_log(KF_WARN, "nats_host_not_checked",
               KF_STR("why", "whose certificate it is, is looked at only with --nats-tls-name HOST"), KF_END);
    if (nats_GetVersionNumber() < 0x030B00)
        kf_log(KF_WARN, "nats_client_old", KF_STR("version", nats_GetVersion()),
               KF_STR("why", "before 3.11 a TLS handshake may hang"), KF_END);
}

static kf_status init(kf_transport *t) {
    t->discovery.model = kf_server_model(t->server);
    t->discovery.max_tokens = t->opts.limits.max_tokens;
    t->discovery.max_text_tokens = kf_server_max_text_tokens(t->server);
    t->discovery.endpoints[0] = (kf_endpoint){.name = "request", .subject = "kefu.request"};
    t->discovery.endpoints[1] = (kf_endpoint){.name = "request-v1", .subject = "kefu.v1.request.*.*.*"};
    KF_TRY(kf_discovery_init(&t->discovery));
    KF_TRY(kf_arena_init(&t->spare.arena, t->opts.job_arena_bytes));
    KF_TRY(kf_arena_init(&t->scratch, SCRATCH_BYTES));
    t->out = malloc(OUT_BYTES);
    if (!t->out) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %d bytes of replies", OUT_BYTES);
    t->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->end_fd < 0) return KF_FAIL(KF_ERR_IO, "eventfd: %s", strerror(errno));
    kf_io_hooks hooks = {.messages = on_messages,
                         .outbox = on_outbox,
                         .tick = on_tick,
                         .ctx = t,
                         .outbox_fd = kf_server_outbox_fd(t->server),
                         .tick_ms = TICK_MS,
                         .max_buffered_bytes = MAX_BUFFERED_BYTES};
    return kf_io_new(&hooks, &t->loop);
}

kf_status kf_transport_start(const kf_transport_opts *o, kf_server *server, kf_transport **out) {
    kf_transport *t = calloc(1, sizeof *t);
    if (!t) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the transport");
    t->opts = *o;
    t->server = server;
    t->end_fd = -1;
    kf_status s = init(t);
    KF_STEP(s, make_options(t, &t->nats_options));
    KF_STEP(s, kf_io_start(t->loop));
    if (s != KF_OK) {
        kf_transport_stop(t);
        return s;
    }
    warn_of_tls(t);
    kf_io_wake(t->loop);
    *out = t;
    return KF_OK;
}

void kf_transport_drain(kf_transport *t) {
    atomic_store(&t->drain_wanted, true);
    kf_io_wake(t->loop);
}

void kf_transport_stop(kf_transport *t) {
    if (!t) return;
    if (t->loop) kf_io_stop(t->loop);
    atomic_store(&t->stopping, true);
    natsConnection_Close(t->nc); /* before the subscriptions go: their UNSUBs would wait for a loop that has ended */
    for (size_t i = 0; i < N_SUBS; i++)
        natsSubscription_Destroy(t->subs[i]);
    natsConnection_Destroy(t->nc);
    natsOptions_Destroy(t->nats_options);
    /* Then its callbacks are over, and nothing of nats.c looks at t any more. Else t stays: the process is ending. */
    if (nats_CloseAndWait(CLOSE_MS) == NATS_TIMEOUT) return;
    kf_io_free(t->loop);
    kf_arena_free(&t->spare.arena);
    kf_arena_free(&t->scratch);
    free(t->out);
    if (t->end_fd >= 0) close(t->end_fd);
    free(t);
}

bool kf_transport_connected(const kf_transport *t) {
    return kf_io_connected(t->loop);
}

bool kf_transport_draining(const kf_transport *t) {
    return atomic_load(&t->drain_wanted);
}

kf_transport_end kf_transport_ended(const kf_transport *t) {
    return (kf_transport_end)atomic_load(&t->ended);
}

int kf_transport_end_fd(const kf_transport *t) {
    return t->end_fd;
}
