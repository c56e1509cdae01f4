/* What the device does next. Pure: no clock, no device, no lock, no allocation after init; the same calls give the
 * same plans, so a seed replays a whole day.
 *
 *     KF_TRY(kf_plan_init(&p, &limits, &cost));
 *     kf_plan_add(&p, job_idx, &(kf_plan_job){.lane = …, .arrived_ns = …, .n_encode = 12});
 *     kf_plan_next(&p, now_ns, &run);     // run n: an encoder piece, prefill chunks, decoder rows, whose time is past
 *     …enqueue it; plan n + 1; wait for n…
 *     kf_plan_took(&p, &run.work, ns);
 *     kf_plan_decode(&p, job_idx, n_prompt, max_new);   // its understanding is known and a reply is wanted
 *     kf_plan_remove(&p, job_idx);                      // it ended, whatever the reason
 *
 * kf_plan_next advances the state as if everything in the run succeeded and every sequence went on; what is found to
 * have ended is removed. The budget is time: in a run with decoder rows, decoder step + encoder piece take at most
 * max_gap_ns by the measured cost, since a run is the gap between two tokens of a running sequence.
 *
 *  - Running sequences first, then the prompts of those already admitted, then admission, oldest first (Orca, OSDI '22;
 *    vLLM's scheduler: n_computed chases n_total, so a prompt, a chunk of it and a decoder row are one case).
 *  - A quarter of the run is the encoder's while it has work. Its pass is cut between layers. Where even one layer has
 * no room beside the rows, nobody is admitted until they are done and the pass has gone through.
 *  - No block free: the newest sequence is set back (recomputed later), and nobody is admitted in that run.
 *  - Lanes: a request counts as if it had come KF_LANE_AGE_NS later for each lane below high: high goes first, and
 *    nothing waits for ever.
 *  - Tenants: it counts as if it had come later by the time that its own tenant's requests in hand, of its lane and
 *    those above, take. So who sends a thousand at once waits for a thousand, and the next tenant's one does not.
 */
#ifndef KF_SERVE_PLAN_H
#define KF_SERVE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "serve/cost.h"

enum {
    KF_PLAN_MIN_CHUNK = 16, /* tokens: a prompt is not cut finer while others are decoding */
    KF_PLAN_LANES = 3,      /* 0 high, 1 normal, 2 low */
    KF_PLAN_TENANTS = 64    /* told apart; more share places */
};
#define KF_LANE_AGE_NS INT64_C(2000000000)

typedef struct kf_plan_limits {
    size_t n_jobs;            /* job_idx: 0 … n_jobs - 1 */
    size_t max_running;       /* slots */
    size_t n_layers;          /* of the encoder */
    size_t encode_max_tokens; /* of one pass; at least the longest text */
    size_t encode_max_seqs;
    size_t step_max_tokens; /* rows of one decoder step; at least max_running */
    size_t n_blocks;        /* of the KV cache; at least one full sequence's */
    size_t block_size;      /* tokens */
    int64_t max_gap_ns;
    int64_t job_ns; /* device time that a request takes of a full worker */
} kf_plan_limits;

typedef struct kf_plan_job {
    unsigned lane;
    uint32_t tenant; /* a hash of its name */
    int64_t arrived_ns;
    int64_t deadline_ns; /* 0: none */
    size_t n_encode;     /* tokens of the text, special ones counted */
} kf_plan_job;

typedef enum kf_plan_stage {
    KF_PLAN_FREE,
    KF_PLAN_WAIT_ENCODE,
    KF_PLAN_ENCODE, /* in a pass, or its results are not yet known */
    KF_PLAN_WAIT_DECODE,
    KF_PLAN_RUNNING
} kf_plan_stage;

typedef struct kf_plan_seq {
    kf_plan_stage stage;
    unsigned lane, tenant; /* index of the tenant's place */
    int64_t deadline_ns;
    int64_t key_ns; /* arrival, put off by lane and tenant: what waiting is ordered by */
    size_t n_encode;
    size_t n_prompt, n_max; /* tokens; prompt, and prompt with the longest reply */
    size_t n_total;         /* prompt and the tokens drawn by planned runs */
    size_t n_computed;      /* tokens in the cache after planned runs */
    size_t n_blocks;
    bool drawn_here;    /* its last token was drawn in its slot: the device knows it */
    bool waits;         /* no row of it while its last token is not known to the host */
    bool in_flight;     /* that token is not: kf_plan_drawn */
    int32_t slot;       /* -1: none */
    int32_t next, prev; /* in its waiting list; -1 ends it */
} kf_plan_seq;

/* Waiting jobs, ascending by (key_ns, job_idx). */
typedef struct kf_plan_list {
    int32_t first, last;
    size_t n;
} kf_plan_list;

/* A sequence's part of the run's decoder step: tokens [n_computed, n_computed + n_tokens) of prompt and reply. */
typedef struct kf_plan_row {
    uint32_t job_idx;
    int32_t slot;
    uint32_t n_computed, n_tokens;
    bool sampled; /* its one token is the one drawn last in this slot, which the host may not know yet */
    bool sample;  /* draw a token after it */
} kf_plan_row;

typedef struct kf_run {
    /* the encoder's piece: layers [layer_from, layer_to) of a pass; empty where they are equal */
    bool encode_begin; /* a new pass: over encode[0 … n_encode) */
    bool encode_finish;
    size_t layer_from, layer_to;
    uint32_t *encode; /* [encode_max_seqs] job_idx */
    size_t n_encode;

    kf_plan_row *rows; /* [max_running] the decoder's step */
    size_t n_rows;

    uint32_t *set_back; /* [max_running] job_idx: lost slot and blocks, will be computed again */
    int32_t *set_back_slot;
    size_t n_set_back;

    uint32_t *expired; /* [n_jobs] job_idx: past their deadline, already removed from the plan */
    int32_t *expired_slot;
    size_t n_expired;

    kf_work work;
    int64_t cost_ns; /* of the work, expected */
} kf_run;

typedef struct kf_plan_tenant {
    size_t n[KF_PLAN_LANES];        /* in hand */
    int64_t last_ns[KF_PLAN_LANES]; /* when its latest request counts as come: the next is not before it */
} kf_plan_tenant;

typedef struct kf_plan {
    kf_plan_limits limits;
    kf_cost cost;      /* as it is corrected now */
    kf_plan_seq *seqs; /* [n_jobs] by job_idx */
    kf_plan_list wait_encode, wait_decode;
    kf_plan_tenant tenants[KF_PLAN_TENANTS];
    uint32_t *running; /* [max_running] job_idx, in order of admission: the last is the newest */
    size_t n_running;
    int32_t *free_slots; /* [max_running] a stack */
    size_t n_free_slots;
    size_t n_free_blocks;
    size_t pass_tokens, pass_layer; /* of the pass under way; tokens 0: none */
    bool encoder_stalled;           /* a run had no room for a layer: nobody is admitted before its pass has ended */
    int64_t next_deadline_ns;       /* no job's is earlier; 0: none has one */
} kf_plan;

/* KF_ERR_NO_MEMORY; KF_ERR_BUG: limits that cannot hold one sequence. */
kf_status kf_plan_init(kf_plan *p, const kf_plan_limits *limits, const kf_cost *cost);
void kf_plan_free(kf_plan *p);
kf_status kf_run_init(kf_run *run, const kf_plan_limits *limits);
void kf_run_free(kf_run *run);

/* A job that wants to be understood. Its index must be free. */
void kf_plan_add(kf_plan *p, uint32_t job_idx, const kf_plan_job *job);

/* It has been understood and is to be answered: n_prompt tokens, then at most max_new. n_prompt + max_new fits in the
 * cache. */
void kf_plan_decode(kf_plan *p, uint32_t job_idx, size_t n_prompt, size_t max_new);

/* Called after it, for a sequence whose every draw needs the token before: from now on it gets no row until
 * kf_plan_drawn says that the last row's token has come. */
void kf_plan_wait_for_tokens(kf_plan *p, uint32_t job_idx);
void kf_plan_drawn(kf_plan *p, uint32_t job_idx);

/* Gives back what it holds, at any stage. Returns the slot that it had, or -1. A free index is ignored. */
int32_t kf_plan_remove(kf_plan *p, uint32_t job_idx);

/* Plans the next run. False: nothing is to be done on the device (expired jobs may still be listed). */
bool kf_plan_next(kf_plan *p, int64_t now_ns, kf_run *run);

/* A run took ns: an event like the others. What runs cost from now on is corrected by it (cost.h). */
void kf_plan_took(kf_plan *p, const kf_work *work, int64_t ns);

/* Longest decoder step by count of sequences that the budget admits: for the rate and for a warning at start. */
size_t kf_plan_rows_that_fit(const kf_plan *p);

#endif
