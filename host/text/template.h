/* Chat templates: the part of Jinja that models' chat_template is written in, as transformers renders it (trim_blocks
 * and lstrip_blocks on).
 *
 *     kf_template *t;
 *     KF_TRY(kf_template_compile("chat_template", source, n, &t));          // once
 *     KF_TRY(kf_template_render(t, &(kf_template_in){.messages = m, .n_messages = 2, …}, &prompt));   // often
 *     kf_tokenizer_encode_marked(tokenizer, prompt.text, prompt.marks, prompt.n, &e);
 *
 * A template comes with a checkpoint and is outside input: a render takes a bounded number of steps, and its memory is
 * the template's own, allocated when it is compiled. What is not known (a filter, a test, a statement) is refused by
 * compile, with its name and line.
 *
 * Every byte of a prompt is marked by where it came from: the template, or a message's content. The mark goes with the
 * byte through all that a template does to a text (slices, split, replace, tojson …), so that control tokens are taken
 * from the template's own bytes only, whatever a customer writes.
 */
#ifndef KF_TEXT_TEMPLATE_H
#define KF_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/status.h"

typedef struct kf_template kf_template;

enum {
    KF_TEMPLATE_SOURCE_BYTES = 256 << 10, /* of a template, at most */
    KF_TEMPLATE_TEXT_BYTES = 1 << 20,     /* of all texts that a render makes, and of its prompt */
    KF_TEMPLATE_VALUES = 1 << 15,         /* of lists and dicts in a render */
    KF_TEMPLATE_STEPS = 500000            /* of a render: some 20 ms */
};

/* source: UTF-8 [n]; name is said in messages. The template owns all it needs.
 * KF_ERR_UNSUPPORTED names what kefu does not know, and its line; KF_ERR_CORRUPT: no well-formed template;
 * KF_ERR_TOO_LARGE; KF_ERR_NO_MEMORY. Any thread. */
kf_status kf_template_compile(const char *name, const char *source, size_t n, kf_template **out);
void kf_template_free(kf_template *t);

typedef struct kf_message {
    const char *role;    /* system, user or assistant: ours, so its bytes count as the template's */
    const char *content; /* UTF-8 [n] */
    size_t n;
} kf_message;

/* A variable that holds a text of the model's own, such as eos_token. */
typedef struct kf_template_text {
    const char *name, *text;
} kf_template_text;

typedef struct kf_template_in {
    const kf_message *messages; /* [n_messages] */
    size_t n_messages;
    const kf_template_text *texts; /* [n_texts] */
    size_t n_texts;
    bool add_generation_prompt;
    bool has_thinking, enable_thinking; /* without the first there is no variable of that name */
    time_t now;                         /* what strftime_now tells, in local time */
} kf_template_in;

typedef struct kf_rendered {
    const char *text;           /* [n] valid UTF-8, no NUL behind it */
    const unsigned char *marks; /* [n] 1: the byte is of a message's content; 0: the template's */
    size_t n;
} kf_rendered;

/* *out is the template's, until its next render. Allocates nothing. One thread at a time.
 * KF_ERR_INVALID: the template raised an exception, or asked for what cannot be (its line and its words, those of a
 * message left out); KF_ERR_TOO_LARGE: a limit above. */
kf_status kf_template_render(kf_template *t, const kf_template_in *in, kf_rendered *out);

#endif
