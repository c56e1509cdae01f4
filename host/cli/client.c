/* One connection, one inbox for all requests: the reply subject's last token says which request a message belongs to.
 */
#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "wire/wire.h"

enum { RETRY_NS = 200000000, TICK_MS = 50, FLUSH_MS = 3000, SUBJECT_BYTES = 256 };

struct kf_client {
    natsConnection *nc;
    natsSubscription *sub;
    natsInbox *inbox; /* "_INBOX.xyz"; replies go to "_INBOX.xyz.N" */
    uint64_t n_sent;
    int64_t sent_ns; /* of the last one */
};

static void nap(int64_t ns) {
    nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
}

static kf_status connect_until(const kf_nats_opts *nats, const char *name, int64_t wait_until_ns,
                               natsConnection **out) {
    natsOptions *opts = NULL;
    KF_TRY(kf_nats_options_new(nats, name, &opts));
    natsStatus ns;
    while ((ns = natsConnection_Connect(out, opts)) != NATS_OK && kf_clock_now_ns() < wait_until_ns)
        nap(RETRY_NS);
    natsOptions_Destroy(opts);
    char shown[256];
    kf_nats_url_shown(nats->url, shown, sizeof shown);
    return ns == NATS_OK ? KF_OK : KF_NATS_FAIL(ns, "no connection to %s", shown);
}

kf_status kf_client_open(const kf_nats_opts *nats, const char *name, int64_t wait_until_ns, kf_client **out) {
    kf_client *c = calloc(1, sizeof *c);
    if (!c) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a client");
    char subject[SUBJECT_BYTES];
    kf_status s = connect_until(nats, name, wait_until_ns, &c->nc);
    if (s == KF_OK) {
        natsStatus ns = natsInbox_Create(&c->inbox);
        if (ns == NATS_OK) snprintf(subject, sizeof subject, "%s.*", c->inbox);
        if (ns == NATS_OK) ns = natsConnection_SubscribeSync(&c->sub, c->nc, subject);
        if (ns != NATS_OK) s = KF_NATS_FAIL(ns, "no inbox");
    }
    if (s == KF_OK)
        *out = c;
    else
        kf_client_close(c);
    return s;
}

void kf_client_close(kf_client *c) {
    if (!c) return;
    natsSubscription_Destroy(c->sub);
    natsInbox_Destroy(c->inbox);
    natsConnection_Destroy(c->nc);
    free(c);
}

void kf_client_subject(const Kefu__V1__Request *request, const char *lane, char *out, size_t cap) {
    const char *tenant = *request->tenant ? request->tenant : "default", *session = request->session_id;
    if (!lane) lane = "normal";
    if (!*session && !strcmp(tenant, "default") && !strcmp(lane, "normal"))
        snprintf(out, cap, "kefu.request");
    else if (!*session)
        snprintf(out, cap, "kefu.v1.request.%s.%s.any", tenant, lane);
    else
        snprintf(out, cap, "kefu.v1.request.%s.%s.%u", tenant, lane, kf_wire_bucket(session, strlen(session)));
}

void kf_client_new_id(char out[33]) {
    unsigned char bits[16];
    if (getrandom(bits, sizeof bits, 0) != sizeof bits) {
        int64_t now[2] = {kf_clock_wall_ns(), kf_clock_now_ns()};
        memcpy(bits, now, sizeof bits);
    }
    for (size_t i = 0; i < sizeof bits; i++)
        snprintf(out + 2 * i, 3, "%02x", bits[i]);
}

int64_t kf_client_sent_ns(const kf_client *c) {
    return c->sent_ns;
}

int kf_client_exit_code(kf_status s) {
    switch (s) {
    case KF_OK: return KF_EXIT_OK;
    case KF_ERR_NOT_FOUND:
    case KF_ERR_IO:
    case KF_ERR_CLOSED:
    case KF_ERR_DEADLINE: return KF_EXIT_NO_WORKER;
    default: return KF_EXIT_FAILED;
    }
}

/* Publishes it and waits until the broker has it. reply_to: NULL where no answer is wanted. */
static kf_status publish(kf_client *c, const char *subject, const char *reply_to, const Kefu__V1__Request *request) {
    size_t n = kefu__v1__request__get_packed_size(request);
    uint8_t *bytes = malloc(n + 1);
    if (!bytes) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a request of %zu bytes", n);
    kefu__v1__request__pack(request, bytes);
    natsStatus ns = reply_to ? natsConnection_PublishRequest(c->nc, subject, reply_to, bytes, (int)n)
                             : natsConnection_Publish(c->nc, subject, bytes, (int)n);
    if (ns == NATS_OK) ns = natsConnection_FlushTimeout(c->nc, FLUSH_MS);
    free(bytes);
    return ns == NATS_OK ? KF_OK : KF_NATS_FAIL(ns, "cannot publish to %s", subject);
}

static kf_status send_request(kf_client *c, const Kefu__V1__Request *request, const char *lane) {
    char subject[SUBJECT_BYTES], reply_to[SUBJECT_BYTES];
    kf_client_subject(request, lane, subject, sizeof subject);
    snprintf(reply_to, sizeof reply_to, "%s.%llu", c->inbox, (unsigned long long)++c->n_sent);
    c->sent_ns = kf_clock_now_ns();
    return publish(c, subject, reply_to, request);
}

/* Does the message answer the request that was sent last? */
static bool is_current(const kf_client *c, const natsMsg *msg) {
    const char *subject = natsMsg_GetSubject(msg), *dot = strrchr(subject, '.');
    return dot && strtoull(dot + 1, NULL, 10) == c->n_sent;
}

/* What the loop of one request knows. */
typedef struct asking {
    const kf_ask_opts *o;
    const Kefu__V1__Request *request;
    int64_t heard_ns; /* of the last message, or of the sending */
    bool cancelled;
    uint32_t next_seq;
} asking;

/* Asks the worker to stop; the final response still comes. */
static kf_status cancel_once(kf_client *c, asking *a) {
    if (a->cancelled || !a->o->cancel || !*a->o->cancel) return KF_OK;
    a->cancelled = true;
    Kefu__V1__Request taken_back = KEFU__V1__REQUEST__INIT;
    taken_back.id = a->request->id;
    taken_back.tenant = a->request->tenant;
    return publish(c, "kefu.cancel", NULL, &taken_back);
}

/* The next message of the present request, the caller's to free; NULL: *s says why.
 * KF_ERR_NOT_FOUND: the broker says that nobody listens. */
static Kefu__V1__Response *next_message(kf_client *c, asking *a, kf_status *s) {
    for (;;) {
        natsMsg *msg = NULL;
        if ((*s = cancel_once(c, a)) != KF_OK) return NULL;
        natsStatus ns = natsSubscription_NextMsg(&msg, c->sub, TICK_MS);
        if (ns == NATS_TIMEOUT && kf_clock_now_ns() - a->heard_ns < a->o->timeout_ns) continue;
        if (ns == NATS_TIMEOUT)
            *s = KF_FAIL(KF_ERR_DEADLINE, "no answer within %.6g s (--timeout)", (double)a->o->timeout_ns / 1e9);
        else if (ns == NATS_NO_RESPONDERS)
            *s = KF_FAIL(KF_ERR_NOT_FOUND, "no worker listens: is kefud running there?");
        else if (ns != NATS_OK)
            *s = KF_NATS_FAIL(ns, "the connection is lost");
        if (ns != NATS_OK) return NULL;
        if (!is_current(c, msg)) {
            natsMsg_Destroy(msg);
            continue;
        }
        Kefu__V1__Response *r =
            kefu__v1__response__unpack(NULL, (size_t)natsMsg_GetDataLength(msg), (const uint8_t *)natsMsg_GetData(msg));
        natsMsg_Destroy(msg);
        if (!r) *s = KF_FAIL(KF_ERR_CORRUPT, "the answer is no kefu.v1.Response");
        a->heard_ns = kf_clock_now_ns();
        return r;
    }
}

static kf_status ask_once(kf_client *c, asking *a, Kefu__V1__Response **final) {
    kf_status s = KF_OK;
    KF_TRY(send_request(c, a->request, a->o->lane));
    a->heard_ns = c->sent_ns;
    a->next_seq = 0;
    for (;;) {
        Kefu__V1__Response *r = next_message(c, a, &s);
        if (!r) return s;
        if (r->final) {
            *final = r;
            return KF_OK;
        }
        if (r->seq >= a->next_seq && a->o->on_part) a->o->on_part(a->o->user, r);
        a->next_seq = r->seq + 1;
        kefu__v1__response__free_unpacked(r, NULL);
    }
}

kf_status kf_client_ask(kf_client *c, const Kefu__V1__Request *request, const kf_ask_opts *o,
                        Kefu__V1__Response **final) {
    asking a = {.o = o, .request = request};
    for (;;) {
        kf_status s = ask_once(c, &a, final);
        bool not_ready = s == KF_OK && (*final)->status && (*final)->status->code == KEFU__V1__CODE__UNAVAILABLE;
        if (s != KF_ERR_NOT_FOUND && !not_ready) return s;
        if (kf_clock_now_ns() >= o->wait_until_ns || a.cancelled) return s;
        if (not_ready) kefu__v1__response__free_unpacked(*final, NULL);
        nap(RETRY_NS);
    }
}
