/* A job: one request from the moment its bytes arrived to its one final reply. Wire fills the request, serve and
 * dialogue the rest, wire writes the response out. All strings of a job live in its arena and end with the job;
 * they are UTF-8, valid, without NUL, and both NUL-terminated and counted (kf_str).
 */
#ifndef KF_SERVE_JOB_H
#define KF_SERVE_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "device/device.h"
#include "dialogue/conversation.h"
#include "grammar/grammar.h"

/* What a client is told; kefu.proto's Code has the same numbers and the text for people. */
typedef enum kf_code {
    KF_CODE_OK = 0,
    KF_CODE_INVALID_ARGUMENT = 3,
    KF_CODE_DEADLINE_EXCEEDED = 4,
    KF_CODE_RESOURCE_EXHAUSTED = 8,
    KF_CODE_CANCELLED = 1,
    KF_CODE_UNIMPLEMENTED = 12,
    KF_CODE_INTERNAL = 13,
    KF_CODE_UNAVAILABLE = 14,
} kf_code;

/* The code that a client is told for a status of ours. */
kf_code kf_code_of(kf_status s);

typedef enum kf_lane { KF_LANE_HIGH, KF_LANE_NORMAL, KF_LANE_LOW, KF_N_LANES } kf_lane;
typedef enum kf_want { KF_WANT_REPLY, KF_WANT_UNDERSTAND } kf_want;

/* What a client asks of the sampler; wire has checked the ranges and put in the defaults. */
typedef struct kf_generate {
    uint32_t max_tokens;
    float temperature, top_p, min_p, repetition_penalty;
    float presence_penalty, frequency_penalty;
    uint32_t top_k;
    uint64_t seed;
    bool has_seed; /* else the worker draws one */
    kf_str *stop;  /* [n_stop] */
    size_t n_stop;
    bool logprobs;
    kf_logit_adjust *logit_bias; /* [n_logit_bias] each token once; whether the model has it is serve's to check */
    size_t n_logit_bias;
    kf_grammar_kind format; /* what the reply must look like: format_text, which serve reads */
    kf_str format_text;
} kf_generate;

typedef struct kf_request {
    kf_str id, session_id, user_id, tenant;
    kf_str text;
    kf_turn *history; /* [n_history], oldest first */
    size_t n_history;
    kf_generate generate;
    kf_want want;
    kf_lane lane;
    bool stream;
    bool json;           /* the client speaks JSON: so does the answer */
    int64_t deadline_ns; /* on the clock of kf_clock_now_ns; 0: none */
} kf_request;

/* ---- what the worker found and says ---- */

typedef struct kf_reply {
    kf_str text;          /* final: the whole text; a part: this part's */
    uint32_t text_offset; /* code points of the whole before this part */
    kf_finish finish;
    const float *logprobs; /* [n_logprobs], in the final where generate.logprobs asks for them; natural, one a token */
    size_t n_logprobs;
} kf_reply;

typedef struct kf_usage {
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    int64_t queue_us, encode_us, prefill_us, decode_us;
} kf_usage;

typedef struct kf_response {
    uint32_t seq;     /* 0, 1, … of the messages of this request */
    uint32_t attempt; /* of the job: 1 on core NATS */
    bool final;
    kf_code code;
    kf_str message; /* of the status: what to change */
    int64_t retry_after_ms;
    bool has_understanding;
    kf_understanding understanding;
    kf_reply reply;
    kf_handoff handoff;
    kf_usage usage;
    const char *model; /* name@hash of what answered */
} kf_response;

/* ---- the job ---- */

/* Where transport sends the answer; filled by transport, untouched by serve. Strings live in the job's arena. */
typedef struct kf_origin {
    const char *reply_to; /* NULL: nobody waits for an answer */
    const char *subject;
    const char *traceparent; /* W3C, passed on in the reply; NULL if absent */
    int64_t received_ns;
} kf_origin;

/* Public part of a job; host/serve/ has the rest behind it. */
typedef struct kf_job {
    kf_arena arena; /* the message and everything found in it; reset by kf_job_put */
    kf_origin origin;
    kf_request request;
    kf_status admitted; /* not KF_OK: wire refused it; refusal has the words, submit turns it into the final */
    kf_str refusal;
} kf_job;

#endif
