/* The load: this thread sends, nats.c's delivery thread takes the answers; one lock over slots and counts.
 *
 * A slot is a request that is outstanding. Its reply subject is INBOX.SLOT.TURN: TURN counts the slot's requests, so an
 * answer that comes after its request was given up is told apart and dropped. */
#include "cli/bench_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/term.h"

enum { SUBJECT_BYTES = 256, ID_BYTES = 64, SWEEP_NS = 50000000, NO_WORKER_NAP_NS = 10000000 };

typedef struct slot {
    int64_t due_ns, sent_ns, first_ns; /* first_ns: of the first text, 0: none yet */
    uint64_t turn;
    bool busy;
} slot;

typedef struct load {
    const kf_load_opts *o;
    natsConnection *nc;
    natsSubscription *sub;
    natsInbox *inbox;
    char subject[SUBJECT_BYTES], run_id[33];
    uint8_t *buffer; /* one packed request */

    pthread_mutex_t lock;
    pthread_cond_t slot_freed; /* on CLOCK_MONOTONIC */
    slot *slots;               /* [outstanding] */
    size_t *free_slots;        /* [n_free], a stack */
    size_t n_free;
    int64_t start_ns, swept_ns, last_answer_ns;
    kf_status failed; /* of a sample that could not be kept */
    bool completed;   /* no message will come any more */
    kf_load_result r;
    kf_progress progress;
} load;

/* ---- answers: nats.c's thread ---- */

static void free_slot(load *l, slot *s) {
    s->busy = false;
    l->free_slots[l->n_free++] = (size_t)(s - l->slots);
    pthread_cond_signal(&l->slot_freed);
}

static void keep(load *l, kf_samples *samples, int64_t ns) {
    if (kf_samples_add(samples, (double)ns / 1e9) != KF_OK) l->failed = KF_ERR_NO_MEMORY;
}

static void take_ok(load *l, const slot *s, const Kefu__V1__Response *r, int64_t now) {
    uint32_t n_tokens = r->usage ? r->usage->completion_tokens : 0;
    l->r.n_ok++;
    l->r.n_tokens += n_tokens;
    if (l->o->slo_s > 0 && (double)(now - s->due_ns) <= l->o->slo_s * 1e9) l->r.n_good++;
    keep(l, &l->r.total, now - s->due_ns);
    keep(l, &l->r.done, now - l->start_ns);
    if (!s->first_ns) return;
    keep(l, &l->r.ttft, s->first_ns - s->due_ns);
    if (n_tokens > 1) keep(l, &l->r.tpot, (now - s->first_ns) / (n_tokens - 1));
}

static void take_answer(load *l, slot *s, const Kefu__V1__Response *r, int64_t now) {
    if (!r->final) {
        if (!s->first_ns && r->reply && *r->reply->text) s->first_ns = now;
        return;
    }
    unsigned code = r->status ? (unsigned)r->status->code : 0;
    l->last_answer_ns = now;
    if (code < KF_LOAD_CODES) l->r.by_code[code]++;
    if (code == KEFU__V1__CODE__OK) take_ok(l, s, r, now);
    free_slot(l, s);
}

/* The slot that a message is for; NULL: for none, or for a request that was given up. */
static slot *find_slot(load *l, const char *subject) {
    const char *at = subject + strlen(l->inbox);
    char *end = NULL;
    unsigned long long idx = *at == '.' ? strtoull(at + 1, &end, 10) : ~0ull;
    if (idx >= l->o->outstanding || *end != '.') return NULL;
    slot *s = &l->slots[idx];
    return s->busy && strtoull(end + 1, NULL, 10) == s->turn ? s : NULL;
}

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)nc;
    (void)sub;
    load *l = closure;
    int64_t now = kf_clock_now_ns();
    bool nobody = natsMsg_IsNoResponders(msg);
    Kefu__V1__Response *r = nobody ? NULL
                                   : kefu__v1__response__unpack(NULL, (size_t)natsMsg_GetDataLength(msg),
                                                                (const uint8_t *)natsMsg_GetData(msg));
    pthread_mutex_lock(&l->lock);
    slot *s = find_slot(l, natsMsg_GetSubject(msg));
    if (s && r) {
        take_answer(l, s, r, now);
    } else if (s) {
        *(nobody ? &l->r.n_no_worker : &l->r.n_bad) += 1;
        free_slot(l, s);
    }
    pthread_mutex_unlock(&l->lock);
    if (r) kefu__v1__response__free_unpacked(r, NULL);
    natsMsg_Destroy(msg);
}

/* ---- sending: the caller's thread ---- */

static void sweep(load *l, int64_t now) {
    if (now - l->swept_ns < SWEEP_NS) return;
    l->swept_ns = now;
    for (size_t i = 0; i < l->o->outstanding; i++) {
        slot *s = &l->slots[i];
        if (!s->busy || (double)(now - s->sent_ns) < l->o->timeout_s * 1e9) continue;
        l->r.n_timed_out++;
        free_slot(l, s);
    }
}

static void show_progress(load *l, int64_t start, int64_t now) {
    char note[128];
    double seconds = (double)(now - start) / 1e9;
    bool by_count = l->o->n_requests && (double)l->r.n_sent * l->o->duration_s >= seconds * (double)l->o->n_requests;
    if (!l->o->progress) return;
    snprintf(note, sizeof note, "%.0f s, %llu sent, %llu OK (%.1f/s), %zu outstanding", seconds,
             (unsigned long long)l->r.n_sent, (unsigned long long)l->r.n_ok,
             seconds > 0 ? (double)l->r.n_ok / seconds : 0, l->o->outstanding - l->n_free);
    by_count |= l->o->duration_s == 0;
    l->progress.total = by_count ? l->o->n_requests : (uint64_t)(l->o->duration_s * 1e3);
    kf_progress_show(&l->progress, by_count ? l->r.n_sent : (uint64_t)(seconds * 1e3), now, note);
}

/* With the lock: sleeps until `until`, a freed slot, or the next sweep. */
static void wait_a_little(load *l, int64_t until, int64_t start) {
    int64_t now = kf_clock_now_ns(), wake = now + SWEEP_NS < until ? now + SWEEP_NS : until;
    sweep(l, now);
    show_progress(l, start, now);
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t ns = at.tv_nsec + (wake > now ? wake - now : 0);
    at.tv_sec += ns / 1000000000;
    at.tv_nsec = ns % 1000000000;
    pthread_cond_timedwait(&l->slot_freed, &l->lock, &at);
}

static bool ended(const load *l, uint64_t n_due, int64_t start, int64_t now) {
    return (l->o->stop && *l->o->stop) || l->failed != KF_OK || (l->o->n_requests && n_due >= l->o->n_requests) ||
           (l->o->duration_s > 0 && (double)(now - start) >= l->o->duration_s * 1e9);
}

static kf_status send_one(load *l, size_t idx, uint64_t turn, uint64_t n) {
    const kf_mix_item *item = &l->o->mix->items[n % l->o->mix->n];
    Kefu__V1__Request request = *l->o->request;
    Kefu__V1__Generate generate = *l->o->request->generate;
    char id[ID_BYTES], reply_to[SUBJECT_BYTES];
    snprintf(id, sizeof id, "%s-%llu", l->run_id, (unsigned long long)n);
    snprintf(reply_to, sizeof reply_to, "%s.%zu.%llu", l->inbox, idx, (unsigned long long)turn);
    request.id = id;
    request.text = item->text;
    request.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
    request.generate = &generate;
    if (item->understand) request.want = KEFU__V1__WANT__UNDERSTAND;
    if (item->max_tokens) {
        generate.max_tokens_set_case = KEFU__V1__GENERATE__MAX_TOKENS_SET_MAX_TOKENS;
        generate.max_tokens = item->max_tokens;
    }
    size_t n_bytes = kefu__v1__request__pack(&request, l->buffer);
    natsStatus ns = natsConnection_PublishRequest(l->nc, l->subject, reply_to, l->buffer, (int)n_bytes);
    return ns == NATS_OK ? KF_OK : KF_NATS_FAIL(ns, "cannot publish to %s", l->subject);
}

/* Takes a free slot for the request that is due; false: there is none. */
static bool take_slot(load *l, int64_t due, size_t *idx, uint64_t *turn) {
    if (l->n_free == 0) return false;
    *idx = l->free_slots[--l->n_free];
    slot *s = &l->slots[*idx];
    *turn = s->turn + 1;
    *s = (slot){.due_ns = due, .sent_ns = kf_clock_now_ns(), .turn = *turn, .busy = true};
    l->r.n_sent++;
    return true;
}

/* Both loops differ in one thing only: when the next request is due. */
static kf_status send_all(load *l, int64_t start) {
    uint64_t n_due = 0, state = l->o->seed, n_no_worker_seen = 0;
    bool open = l->o->rate > 0;
    int64_t due = start;
    kf_status s = KF_OK;
    while (s == KF_OK) {
        size_t idx;
        uint64_t turn, n_no_worker;
        pthread_mutex_lock(&l->lock);
        int64_t now = kf_clock_now_ns();
        while (!ended(l, n_due, start, now) && (open ? now < due : l->n_free == 0)) {
            wait_a_little(l, open ? due : INT64_MAX, start);
            now = kf_clock_now_ns();
        }
        bool over = ended(l, n_due, start, now), sending = !over && take_slot(l, open ? due : now, &idx, &turn);
        if (!over && !sending) l->r.n_not_sent++;
        n_no_worker = l->r.n_no_worker;
        sweep(l, now);
        show_progress(l, start, now);
        pthread_mutex_unlock(&l->lock);
        if (over) break;
        if (sending) s = send_one(l, idx, turn, n_due);
        if (!open && n_no_worker > n_no_worker_seen) nanosleep(&(struct timespec){0, NO_WORKER_NAP_NS}, NULL);
        n_no_worker_seen = n_no_worker;
        n_due++;
        if (open) due += (int64_t)(kf_poisson_gap(&state, l->o->rate) * 1e9);
    }
    return s;
}

static kf_status run(load *l) {
    int64_t start = kf_clock_now_ns();
    l->start_ns = l->last_answer_ns = start;
    kf_status s = send_all(l, start);
    pthread_mutex_lock(&l->lock);
    while (s == KF_OK && l->n_free < l->o->outstanding) /* the sweep ends this at the latest */
        wait_a_little(l, INT64_MAX, start);
    l->r.seconds = (double)(l->last_answer_ns - start) / 1e9;
    if (s == KF_OK && l->failed != KF_OK) s = KF_FAIL(l->failed, "bench: no memory for more samples; ask for less");
    pthread_mutex_unlock(&l->lock);
    kf_progress_clear(&l->progress);
    return s;
}

/* ---- setting up ---- */

static kf_status allocate(load *l) {
    size_t n = l->o->outstanding, common = kefu__v1__request__get_packed_size(l->o->request);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->slot_freed, &attr);
    pthread_condattr_destroy(&attr);
    l->slots = calloc(n, sizeof *l->slots);
    l->free_slots = calloc(n, sizeof *l->free_slots);
    l->buffer = malloc(common + l->o->mix->text_bytes_max + (size_t)(2 * ID_BYTES));
    if (!l->slots || !l->free_slots || !l->buffer)
        return KF_FAIL(KF_ERR_NO_MEMORY, "bench: no memory for %zu requests outstanding", n);
    for (size_t i = n; i-- > 0;)
        l->free_slots[l->n_free++] = i;
    return KF_OK;
}

static kf_status connect_and_subscribe(load *l) {
    natsOptions *opts = NULL;
    char wildcard[SUBJECT_BYTES];
    KF_TRY(kf_nats_options_new(l->o->nats, "kefu bench", &opts));
    natsStatus ns = natsOptions_SetSendAsap(opts, true); /* the flusher's delay is no latency of the worker's */
    if (ns == NATS_OK) ns = natsConnection_Connect(&l->nc, opts);
    natsOptions_Destroy(opts);
    if (ns != NATS_OK) return KF_NATS_FAIL(ns, "no connection to %s", l->o->nats->url);
    ns = natsInbox_Create(&l->inbox);
    if (ns == NATS_OK) snprintf(wildcard, sizeof wildcard, "%s.*.*", l->inbox);
    if (ns == NATS_OK) ns = natsConnection_Subscribe(&l->sub, l->nc, wildcard, on_message, l);
    if (ns == NATS_OK) ns = natsSubscription_SetPendingLimits(l->sub, -1, -1);
    return ns == NATS_OK ? KF_OK : KF_NATS_FAIL(ns, "no inbox on %s", l->o->nats->url);
}

static void on_complete(void *closure) {
    load *l = closure;
    pthread_mutex_lock(&l->lock);
    l->completed = true;
    pthread_cond_signal(&l->slot_freed);
    pthread_mutex_unlock(&l->lock);
}

/* Ends the delivery thread's use of l before l goes away. */
static void disconnect(load *l) {
    if (l->sub) {
        bool told = natsSubscription_SetOnCompleteCB(l->sub, on_complete, l) == NATS_OK;
        natsSubscription_Unsubscribe(l->sub);
        pthread_mutex_lock(&l->lock);
        while (told && !l->completed)
            pthread_cond_wait(&l->slot_freed, &l->lock);
        pthread_mutex_unlock(&l->lock);
    }
    natsSubscription_Destroy(l->sub);
    natsInbox_Destroy(l->inbox);
    natsConnection_Destroy(l->nc);
}

kf_status kf_load_run(const kf_load_opts *o, kf_load_result *out) {
    load l = {.o = o, .progress = {.label = "bench"}};
    kf_client_new_id(l.run_id);
    kf_client_subject(o->request, o->lane, l.subject, sizeof l.subject);
    kf_status s = allocate(&l);
    KF_STEP(s, connect_and_subscribe(&l));
    KF_STEP(s, run(&l));
    disconnect(&l);
    pthread_cond_destroy(&l.slot_freed);
    pthread_mutex_destroy(&l.lock);
    free(l.slots);
    free(l.free_slots);
    free(l.buffer);
    if (s == KF_OK)
        *out = l.r;
    else
        kf_load_result_free(&l.r);
    return s;
}

void kf_load_result_free(kf_load_result *r) {
    kf_samples_free(&r->total);
    kf_samples_free(&r->ttft);
    kf_samples_free(&r->tpot);
    kf_samples_free(&r->done);
}
