/* The part of a job that only serve/ sees, and how a job is answered.
 *
 * Who owns a job's fields: the I/O thread from kf_job_get to submit, the device thread until it ends the job, the I/O
 * thread again. Between the two there is one atomic word, `news`: how many bytes of the reply may be sent, whether the
 * job has ended, and whether it stands in the outbox. Whoever adds news and finds the job not in the outbox puts it
 * there; the I/O thread takes the job out and reads the news in one step. So a job stands there at most once, the
 * outbox cannot overflow, and after the news that a job has ended it never stands there again.
 */
#ifndef KF_SERVE_JOB_INTERNAL_H
#define KF_SERVE_JOB_INTERNAL_H

#include <stdatomic.h>

#include "base/queue.h"
#include "dialogue/dialogue.h"
#include "dialogue/prompt.h"
#include "serve/job.h"
#include "text/tokenizer.h"

enum { KF_REPLY_BYTES_PER_TOKEN = 16 };

#define KF_NEWS_QUEUED (UINT64_C(1) << 63)
#define KF_NEWS_ENDED (UINT64_C(1) << 62)
#define KF_NEWS_BYTES (KF_NEWS_ENDED - 1)

typedef struct kf_job_times {
    int64_t encode_ns, encoded_ns;
    int64_t prefill_ns;
    int64_t first_token_ns, last_token_ns;
    int64_t ended_ns; /* on its way to the I/O thread; kept where somebody traces */
} kf_job_times;

typedef struct kf_job_impl {
    kf_job job; /* first: a kf_job pointer is a kf_job_impl pointer */
    uint32_t idx;
    bool in_hand; /* under the server's lock: cancel looks for it */
    atomic_bool cancelled;

    /* by submit */
    const char *model;    /* the server's: of every response */
    int32_t *encoder_ids; /* [n_encoder] special ones counted */
    int32_t *start, *end; /* [n_encoder] code points */
    size_t n_encoder;
    kf_prompt_texts texts;
    int32_t *ids; /* [max_ids] prompt and reply */
    size_t max_ids;
    char *reply; /* [reply_cap + 1] */
    size_t reply_cap;
    bool hides_thoughts;
    float *logprobs;         /* [max_tokens] or NULL */
    kf_grammar *grammar;     /* NULL: the reply may be anything; held until the job is put back */
    kf_logit_adjust *adjust; /* [n_adjust] of the next draw; the device thread's from submit on */
    size_t n_adjust;
    char *parts; /* [2 * reply_cap] copies of what was streamed, each with its NUL; NULL without stream */

    /* the device thread's */
    uint32_t active_idx; /* its place among the jobs in hand */
    kf_dialogue dialogue;
    kf_understanding understanding;
    kf_detokenizer detokenizer;
    kf_grammar_run grammar_run;
    size_t n_prompt, n_written, max_new;     /* tokens */
    size_t n_reply, n_sendable, n_published; /* bytes */
    size_t n_plain; /* bytes of the reply that are no thought and no part of a tag; all where nothing is hidden */
    bool in_thought, after_thought; /* inside <think>; behind it, before the first word */
    kf_finish finish;
    kf_job_times times;
    kf_response final;

    atomic_uint_fast64_t news;

    /* the I/O thread's, between pop and put */
    uint64_t seen; /* news as they were when the job was popped */
    size_t n_sent, n_parts_bytes;
    uint32_t sent_chars, seq;
    bool final_given;
} kf_job_impl;

static inline kf_job_impl *kf_impl(kf_job *job) {
    return (kf_job_impl *)job;
}

/* Before a job is handed out: everything but its arena's block and its place forgotten. */
void kf_job_clear(kf_job_impl *j);

/* Puts into j->final what the client is told where there is no answer. text lives as long as the job. */
void kf_job_set_refusal(kf_job_impl *j, kf_code code, const char *text, int64_t retry_after_ms);

/* Sends the final that stands in j->final. The job is then the I/O thread's. */
void kf_job_end(kf_job_impl *j, kf_queue *outbox);

/* The first n bytes of the reply may be sent. */
void kf_job_publish(kf_job_impl *j, kf_queue *outbox, size_t n_bytes);

kf_job *kf_outbox_pop(kf_queue *outbox);

#endif
