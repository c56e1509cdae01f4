/* Tokens to text, stop strings and thoughts included; see writer.h. */
#include "serve/writer.h"

#include <string.h>

static bool is_end_token(const kf_writer *w, int32_t token) {
    for (size_t i = 0; i < w->config->n_eos; i++)
        if (w->config->eos_ids[i] == token) return true;
    return kf_prompt_is_stop(w->prompt, token);
}

/* ---- thoughts ---- */

/* Takes bytes out of the reply, which begin where the plain ones end. */
static void remove_bytes(kf_job_impl *j, size_t n) {
    memmove(j->reply + j->n_plain, j->reply + j->n_plain + n, j->n_reply - j->n_plain - n);
    j->n_reply -= n;
}

/* How many bytes at the end of the reply, behind the plain ones, may begin the tag. */
static size_t begun_tag(const kf_job_impl *j, const char *tag, size_t n_tag) {
    size_t n = j->n_reply - j->n_plain < n_tag - 1 ? j->n_reply - j->n_plain : n_tag - 1;
    while (n && memcmp(j->reply + j->n_reply - n, tag, n))
        n--;
    return n;
}

/* Looks for the tag behind the plain bytes: *n bytes stand before it. Where it is not there yet, these are the bytes
 * that are surely no part of it. */
static bool find_tag(const kf_job_impl *j, const char *tag, size_t *n) {
    size_t n_tag = strlen(tag), n_new = j->n_reply - j->n_plain;
    const char *from = j->reply + j->n_plain, *at = memmem(from, n_new, tag, n_tag);
    *n = at ? (size_t)(at - from) : n_new - begun_tag(j, tag, n_tag);
    return at != NULL;
}

/* White space between a thought and the first word after it goes with the thought. */
static void skip_blanks(kf_job_impl *j) {
    size_t n = 0;
    while (j->n_plain + n < j->n_reply && strchr(" \t\r\n", j->reply[j->n_plain + n]))
        n++;
    remove_bytes(j, n);
    j->after_thought = j->n_plain == j->n_reply;
}

/* Drops what is inside <think> … </think> from the new bytes. Behind the plain ones the reply then has at most the
 * beginning of a tag. */
static void drop_thoughts(kf_job_impl *j) {
    bool found = true;
    while (found) {
        size_t n;
        if (j->after_thought) skip_blanks(j);
        found = find_tag(j, j->in_thought ? KF_THOUGHT_END : KF_THOUGHT_BEGIN, &n);
        if (!j->in_thought) j->n_plain += n;
        if (j->in_thought)
            remove_bytes(j, n + (found ? sizeof KF_THOUGHT_END - 1 : 0));
        else if (found)
            remove_bytes(j, sizeof KF_THOUGHT_BEGIN - 1);
        if (!found) break;
        j->after_thought = j->in_thought;
        j->in_thought = !j->in_thought;
    }
}

/* At the end no half tag is left: of what is not plain only a single < is text. */
static void drop_half_tag(kf_job_impl *j) {
    if (!j->hides_thoughts) return;
    if (j->in_thought || j->n_reply - j->n_plain > 1) j->n_reply = j->n_plain;
}

/* A tag that is a control token gives no text of its own. */
static const char *control_tag(const kf_writer *w, int32_t token) {
    const char *piece = kf_tokenizer_is_special(w->tokenizer, token) ? kf_tokenizer_piece(w->tokenizer, token) : NULL;
    if (!piece) return NULL;
    if (!strcmp(piece, KF_THOUGHT_BEGIN)) return KF_THOUGHT_BEGIN;
    return strcmp(piece, KF_THOUGHT_END) ? NULL : KF_THOUGHT_END;
}

static kf_status push(const kf_writer *w, kf_job_impl *j, int32_t token) {
    const char *tag = control_tag(w, token);
    if (!tag || !j->hides_thoughts)
        return kf_detokenizer_push(&j->detokenizer, w->tokenizer, token, j->reply, j->reply_cap, &j->n_reply);
    size_t n = strlen(tag);
    if (n > j->reply_cap - j->n_reply) return KF_FAIL(KF_ERR_TOO_LARGE, "reply: no room for %zu bytes", n);
    memcpy(j->reply + j->n_reply, tag, n);
    j->n_reply += n;
    return KF_OK;
}

/* ---- stop strings ---- */

/* Cuts the reply before the first stop string that its bytes from `from` on complete. */
static bool cut_at_stop(kf_job_impl *j, size_t from) {
    const kf_generate *g = &j->job.request.generate;
    size_t n_text = j->in_thought ? j->n_plain : j->n_reply, best = n_text;
    for (size_t i = 0; i < g->n_stop; i++) {
        size_t back = g->stop[i].n - 1, begin = from > back ? from - back : 0;
        const char *at = memmem(j->reply + begin, n_text - begin, g->stop[i].s, g->stop[i].n);
        if (at && (size_t)(at - j->reply) < best) best = (size_t)(at - j->reply);
    }
    if (best == n_text) return false;
    j->n_reply = best;
    if (j->n_plain > best) j->n_plain = best;
    j->in_thought = false;
    return true;
}

/* Plain bytes at the end that may begin a stop string: the longest suffix that is a prefix of one. A stop string starts
 * with a whole character, so the text is never cut inside one. */
static size_t held_bytes(const kf_job_impl *j) {
    const kf_generate *g = &j->job.request.generate;
    size_t held = 0;
    for (size_t i = 0; i < g->n_stop; i++) {
        size_t most = g->stop[i].n - 1 < j->n_plain ? g->stop[i].n - 1 : j->n_plain;
        for (size_t n = most; n > held; n--) {
            if (memcmp(j->reply + j->n_plain - n, g->stop[i].s, n)) continue;
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

/* What the new bytes from `from` on make of the reply. True: a stop string ends it. */
static bool take(kf_job_impl *j, size_t from) {
    drop_nul(j, from);
    if (!j->hides_thoughts) {
        j->n_plain = j->n_reply;
    } else {
        from = j->n_plain; /* what may have begun a tag is text, or gone */
        drop_thoughts(j);
    }
    return cut_at_stop(j, from);
}

void kf_writer_end(kf_job_impl *j, kf_finish finish) {
    size_t from = j->n_reply;
    if (kf_detokenizer_finish(&j->detokenizer, j->reply, j->reply_cap, &j->n_reply) == KF_OK) take(j, from);
    drop_half_tag(j);
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
    kf_status s = push(w, j, token);
    if (s != KF_OK) {
        drop_half_tag(j);
        return end(j, s == KF_ERR_TOO_LARGE ? KF_FINISH_LENGTH : KF_FINISH_FAILED);
    }
    if (take(j, from)) return end(j, KF_FINISH_STOP);
    if (j->n_written == j->max_new) {
        kf_writer_end(j, KF_FINISH_LENGTH);
        return true;
    }
    j->n_sendable = j->n_plain - held_bytes(j);
    return false;
}
