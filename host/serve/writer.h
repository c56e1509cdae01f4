/* A reply as it is written: one drawn token after another becomes text, until a token, a stop string or a limit ends
 * it. No model and no device: tokens come in, text and the reason of the end come out. */
#ifndef KF_SERVE_WRITER_H
#define KF_SERVE_WRITER_H

#include "model/config.h"
#include "serve/job_internal.h"

typedef struct kf_writer {
    const kf_tokenizer *tokenizer;
    const kf_prompt *prompt;
    const kf_config *config; /* its end tokens */
} kf_writer;

/* Adds a token. True: the reply is over, j->finish says why and j->reply is complete and NUL-terminated. Until then
 * the first j->n_sendable bytes will stand whatever comes: text that may be the start of a stop string is held back.
 * Where j->hides_thoughts, what stands in <think> … </think> is dropped, with the white space behind it; a tag that is
 * begun is held back, and never sent in part. */
bool kf_writer_add(const kf_writer *w, kf_job_impl *j, int32_t token, float logprob);

/* Ends it from outside (cancelled, failed, no room for more tokens). */
void kf_writer_end(kf_job_impl *j, kf_finish finish);

#endif
