/* Tokens to text, stop strings included; see writer.h. */
#include "serve/writer.h"

#include <string.h>

static bool is_end_token(const kf_writer *w, int32_t token) {
    for (size_t i = 0; i < w->config->n_eos; i++)
        if (w->config->eos_ids[i] == token) return true;
    return kf_prompt_is_stop(w->prompt, token);
}

/* Cuts the reply before the first stop string that its bytes from `from` on complete. */
static bool cut_at_stop(kf_job_impl *j, size_t from) {
    const kf_generate *g = &j->job.request.generate;
    size_t best = j->n_reply;
    for (size_t i = 0; i < g->n_stop; i++) {
        size_t back = g->stop[i].n - 1, begin = from > back ? from - back : 0;
        const char *at = memmem(j->reply + begin, j->n_reply - begin, g->stop[i].s, g->stop[i].n);
        if (at && (size_t)(at - j->reply) < best) best = (size_t)(at - j->reply);
    }
    if (best == j->n_reply) return false;
    j->n_reply = best;
    return true;
}

/* Bytes at the end that may begin a stop string: the longest suffix that is a prefix of one. A stop string starts with
 * a whole character, so the text is never cut inside one. */
static size_t held_bytes(const kf_job_impl *j) {
    const kf_generate *g = &j->job.request.generate;
    size_t held = 0;
    for (size_t i = 0; i < g->n_stop; i++) {
        size_t most = g->stop[i].n - 1 < j->n_reply ? g->stop[i].n - 1 : j->n_reply;
        for (size_t n = most; n > held; n--) {
            if (memcmp(j->reply + j->n_reply - n, g->stop[i].s, n)) continue;
            held = n;
            break;
        }
    }
    return held;
}

/* A model may draw the byte 0; a text of ours has none, since whoever reads it as a C string would lose the rest. */
static void drop_nul(kf_job_impl *j, size_t from) {
    size_t n = from;
    for (size_t i = from; i < j->n_reply; i++)
        if (j->reply[i]) j->reply[n++] = j->reply[i];
    j->n_reply = n;
}

static bool end(kf_job_impl *j, kf_finish finish) {
    j->finish = finish;
    j->n_sendable = j->n_reply;
    j->reply[j->n_reply] = 0;
    return true;
}

void kf_writer_end(kf_job_impl *j, kf_finish finish) {
    size_t from = j->n_reply;
    if (kf_detokenizer_finish(&j->detokenizer, j->reply, j->reply_cap, &j->n_reply) == KF_OK) cut_at_stop(j, from);
    end(j, finish);
}

bool kf_writer_add(const kf_writer *w, kf_job_impl *j, int32_t token, float logprob) {
    if (is_end_token(w, token)) {
        kf_writer_end(j, KF_FINISH_STOP);
        return true;
    }
    j->ids[j->n_prompt + j->n_written] = token;
    if (j->logprobs) j->logprobs[j->n_written] = logprob;
    j->n_written++;
    size_t from = j->n_reply;
    kf_status s = kf_detokenizer_push(&j->detokenizer, w->tokenizer, token, j->reply, j->reply_cap, &j->n_reply);
    if (s != KF_OK) return end(j, s == KF_ERR_TOO_LARGE ? KF_FINISH_LENGTH : KF_FINISH_FAILED);
    drop_nul(j, from);
    if (cut_at_stop(j, from)) return end(j, KF_FINISH_STOP);
    if (j->n_written == j->max_new) {
        kf_writer_end(j, KF_FINISH_LENGTH);
        return true;
    }
    j->n_sendable = j->n_reply - held_bytes(j);
    return false;
}
