/* The decoder's prompt: the conversation and what was understood of it as ids, in the form that the decoder was trained
 * on. There are two kinds.
 *
 * A decoder of ours has its form as data, DIR/prompt.json beside the checkpoint:
 *
 *     {"bos": "<|endoftext|>", "user": "<|user|>", "assistant": "<|assistant|>", "end": "<|end|>",
 *      "intent": {"purchase": "<|intent:purchase|>", …}, "sentiment": {…}, "entity": {…},
 *      "earlier_turn": ["user", "text", "assistant", "reply", "end"],
 *      "present_turn": ["user", "text", "intent", "sentiment", "entities", "assistant"],
 *      "max_history_turns": 2, "max_entities": 8, "stop": ["<|end|>"]}
 *
 * A label without a token is left out. {"earlier_turn": [], "present_turn": ["text"]} is the text alone.
 *
 * Any other decoder brings a chat template (text/chat.h). It needs no prompt.json; one may say
 *
 *     {"system": "你是一家服装店的客服，回答要简短。", "thinking": "off", "max_history_turns": 16}
 *
 * thinking: "off" (the template is told so, and a thought that comes all the same is dropped), "hidden" (the model
 * thinks, its thoughts are dropped) or "shown". A decoder with neither is refused.
 *
 * Control tokens come from these files only: no customer's text, and no earlier reply, can yield one.
 *
 * Two steps, for two threads: `prepare` tokenises the texts, which is nearly all of the work, on the I/O thread;
 * `build` lays ids end to end on the device thread and tokenises only the entities' few characters, which are known
 * no earlier. Neither allocates outside the arena. A prompt form is read-only after opening, but for the memory of a
 * chat template's render: `prepare` may run on one thread at a time.
 */
#ifndef KF_DIALOGUE_PROMPT_H
#define KF_DIALOGUE_PROMPT_H

#include "base/arena.h"
#include "base/status.h"
#include "dialogue/conversation.h"
#include "text/chat.h"
#include "text/tokenizer.h"

enum { KF_PROMPT_MAX_TURNS = 16, KF_PROMPT_MAX_STOPS = 8 };

typedef struct kf_prompt kf_prompt;

/* t outlives the prompt. KF_ERR_NOT_FOUND: neither prompt.json nor a chat template; KF_ERR_TOO_LARGE; KF_ERR_CORRUPT
 * names the field, or the token that the tokenizer does not have; KF_ERR_UNSUPPORTED: the template has what kefu does
 * not know, or takes no conversation such as ours; KF_ERR_NO_MEMORY; KF_ERR_IO. */
kf_status kf_prompt_open(const char *dir, const kf_tokenizer *t, kf_prompt **out);
void kf_prompt_close(kf_prompt *p);

/* A token after which the reply is over; the checkpoint's own end tokens are the caller's to know. */
bool kf_prompt_is_stop(const kf_prompt *p, int32_t id);

/* Whether thoughts (<think>…</think>) are kept from the customer. */
bool kf_prompt_hides_thoughts(const kf_prompt *p);

typedef struct kf_prompt_ids {
    const int32_t *ids;
    size_t n;
} kf_prompt_ids;

typedef struct kf_prompt_texts {
    kf_prompt_ids text;
    struct {
        kf_prompt_ids text, reply;
    } turns[KF_PROMPT_MAX_TURNS]; /* oldest first: what the customer said and what was answered */
    size_t n_turns;
    bool in_thought; /* the prompt ends in <think>: the reply begins with a thought */
} kf_prompt_texts;

typedef struct kf_prompt_in {
    kf_str text;
    const kf_turn *history; /* [n_history], oldest first */
    size_t n_history;
    size_t max_ids; /* of a sequence */
    size_t n_reply; /* of these, what the reply wants */
    time_t now;     /* for a template that tells the date */
} kf_prompt_in;

/* Tokenises the text and the last answered turns of the history into the arena. A text of more than max_ids ids is cut
 * there (and will not fit later); such a turn ends the history. With a chat template the whole prompt is made, as text,
 * and the oldest turns are left out until n_reply fits behind it.
 * KF_ERR_NO_MEMORY: the arena is full; KF_ERR_INVALID; KF_ERR_TOO_LARGE: over a limit of the template. */
kf_status kf_prompt_prepare(const kf_prompt *p, kf_arena *arena, const kf_prompt_in *in, kf_prompt_texts *out);

/* Writes the prompt to ids[cap] and returns its length; the oldest turns give way where it would be too long. 0: not
 * even the text alone fits. u may be NULL. */
size_t kf_prompt_build(const kf_prompt *p, const kf_prompt_texts *texts, const kf_understanding *u, int32_t *ids,
                       size_t cap);

#endif
