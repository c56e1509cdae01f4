/* Finding a folder's chat template and the names of its tokens; see chat.h. */
#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { CONFIG_BYTES_MAX = 16 << 20, TEXTS_MAX = 6 };

/* As transformers hands them to a template. */
static const char *const token_names[TEXTS_MAX] = {"bos_token", "eos_token", "unk_token",
                                                   "pad_token", "sep_token", "cls_token"};

struct kf_chat {
    const kf_tokenizer *tokenizer;
    kf_template *template;
    json_t *config; /* tokenizer_config.json; NULL: none */
    kf_template_text texts[TEXTS_MAX];
    size_t n_texts;
    int32_t eos;
};

/* "eos_token": "</s>", or {"content": "</s>", …}; null and absent mean that there is none. */
static kf_status read_tokens(kf_chat *c, const char *path) {
    for (size_t i = 0; i < TEXTS_MAX; i++) {
        const json_t *v = json_object_get(c->config, token_names[i]);
        if (!v || json_is_null(v)) continue;
        if (json_is_object(v)) v = json_object_get(v, "content");
        if (!json_is_string(v)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %s is no token", path, token_names[i]);
        c->texts[c->n_texts++] = (kf_template_text){token_names[i], json_string_value(v)};
        if (!strcmp(token_names[i], "eos_token")) c->eos = kf_tokenizer_id(c->tokenizer, json_string_value(v));
    }
    return KF_OK;
}

/* The template in tokenizer_config.json; NULL: none. */
static kf_status in_config(const kf_chat *c, const char *path, const char **out, size_t *n) {
    const json_t *v = json_object_get(c->config, "chat_template"), *named = NULL;
    *out = NULL;
    if (!v || json_is_null(v)) return KF_OK;
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v) && !named; i++) {
        const json_t *item = json_array_get(v, i), *name = json_object_get(item, "name");
        if (json_is_string(name) && !strcmp(json_string_value(name), "default"))
            named = json_object_get(item, "template");
    }
    if (json_is_array(v)) v = named;
    if (!json_is_string(v))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: chat_template must be a text, or a list with one named default", path);
    *out = json_string_value(v);
    *n = json_string_length(v);
    return KF_OK;
}

static kf_status load(kf_chat *c, const char *dir, const char *file_path, const char *config_path) {
    char *file = NULL;
    const char *source;
    size_t n;
    bool there;
    KF_TRY(kf_json_read_optional(config_path, CONFIG_BYTES_MAX, 0, &c->config));
    KF_TRY(read_tokens(c, config_path));
    KF_TRY(kf_path_exists(file_path, &there));
    if (there) {
        KF_TRY(kf_file_read(file_path, KF_TEMPLATE_SOURCE_BYTES, &file, &n));
        source = file;
    } else {
        KF_TRY(in_config(c, config_path, &source, &n));
    }
    if (!source) return KF_FAIL(KF_ERR_NOT_FOUND, "%s: no chat_template", dir);
    kf_status s = kf_template_compile("chat_template", source, n, &c->template);
    free(file);
    return s;
}

kf_status kf_chat_open(const char *dir, const kf_tokenizer *t, kf_chat **out) {
    char *file = kf_path_join(dir, "chat_template.jinja"), *config = kf_path_join(dir, "tokenizer_config.json");
    kf_chat *c = calloc(1, sizeof *c);
    kf_status s = file && config && c ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for its chat template", dir);
    if (s == KF_OK) {
        c->tokenizer = t;
        c->eos = -1;
        s = load(c, dir, file, config);
    }
    free(file);
    free(config);
    if (s == KF_OK)
        *out = c;
    else
        kf_chat_close(c);
    return s;
}

void kf_chat_close(kf_chat *c) {
    if (!c) return;
    kf_template_free(c->template);
    json_decref(c->config);
    free(c);
}

int32_t kf_chat_eos(const kf_chat *c) {
    return c->eos;
}

kf_status kf_chat_render(kf_chat *c, const kf_chat_in *in, kf_rendered *out) {
    return kf_template_render(c->template,
                              &(kf_template_in){.messages = in->messages,
                                                .n_messages = in->n_messages,
                                                .texts = c->texts,
                                                .n_texts = c->n_texts,
                                                .add_generation_prompt = true,
                                                .has_thinking = true,
                                                .enable_thinking = in->thinking,
                                                .now = in->now},
                              out);
}

kf_status kf_chat_encode(const kf_chat *c, const kf_rendered *prompt, kf_encoding *e) {
    return kf_tokenizer_encode_marked(c->tokenizer, prompt->text, prompt->marks, prompt->n, e);
}

bool kf_chat_opens_thought(const kf_rendered *prompt) {
    size_t n = prompt->n, tag = sizeof KF_THOUGHT_BEGIN - 1;
    while (n && (prompt->text[n - 1] == '\n' || prompt->text[n - 1] == ' '))
        n--;
    return n >= tag && !memcmp(prompt->text + n - tag, KF_THOUGHT_BEGIN, tag) &&
           !memchr(prompt->marks + n - tag, 1, tag);
}
