/* A decoder's own chat template, as its folder has it: chat_template.jinja, else chat_template of tokenizer_config.json
 * (a template, or a list of named ones: "default" is taken).
 *
 *     kf_chat *c;
 *     KF_TRY(kf_chat_open("models/decoder", tokenizer, &c));
 *     kf_message m[] = {{"system", system, n_system}, {"user", text, n_text}};
 *     KF_TRY(kf_chat_render(c, &(kf_chat_in){.messages = m, .n_messages = 2, .thinking = false}, &prompt));
 *     KF_TRY(kf_chat_encode(c, &prompt, &e));
 *
 * What a message says is text: no control token comes out of it, whatever it spells (template.h's marks).
 */
#ifndef KF_TEXT_CHAT_H
#define KF_TEXT_CHAT_H

#include "text/template.h"
#include "text/tokenizer.h"

#define KF_THOUGHT_BEGIN "<think>"
#define KF_THOUGHT_END "</think>"

typedef struct kf_chat kf_chat;

/* t outlives it. KF_ERR_NOT_FOUND: the folder has no chat template; the statuses of kf_template_compile and of reading
 * a file; KF_ERR_CORRUPT: chat_template or a token's name is not what it should be. */
kf_status kf_chat_open(const char *dir, const kf_tokenizer *t, kf_chat **out);
void kf_chat_close(kf_chat *c);

/* The id of tokenizer_config.json's eos_token, which ends a message in most templates; -1: there is none. */
int32_t kf_chat_eos(const kf_chat *c);

typedef struct kf_chat_in {
    const kf_message *messages; /* [n_messages]; an answer is asked for after the last one */
    size_t n_messages;
    bool thinking; /* the template's enable_thinking */
    time_t now;
} kf_chat_in;

/* The prompt's text; the chat's, until the next one. One thread at a time. The statuses of kf_template_render. */
kf_status kf_chat_render(kf_chat *c, const kf_chat_in *in, kf_rendered *out);

/* Its ids. The statuses of kf_tokenizer_encode_marked. */
kf_status kf_chat_encode(const kf_chat *c, const kf_rendered *prompt, kf_encoding *e);

/* Whether the prompt ends inside <think>: what is written next is a thought. */
bool kf_chat_opens_thought(const kf_rendered *prompt);

#endif
