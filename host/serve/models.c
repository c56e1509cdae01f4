/* Opening what models.h names, in the order: encoder, decoder, policy. */
#include "serve/models.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

enum {
    END_TOKENS_MAX = 32, /* that end a reply */
    GRAMMARS_KEPT = 32,  /* of at most 4 MiB, usually a tenth of one */
    MASKS_KEPT = 256,
    PATH_BYTES = 4096,
    ENCODE_MAX_TOKENS = 2048, /* of a pass, or one text where that is longer */
    ENCODE_MAX_SEQS = 64,
    STEP_MAX_PROMPT_TOKENS = 512, /* of a decoder step, beside a row for each running sequence */
    DECODER_MAX_SEQLEN = 2048
};

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

static kf_status path_in(const char *dir, const char *name, char out[PATH_BYTES]) {
    if (snprintf(out, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
        return KF_FAIL(KF_ERR_TOO_LARGE, "--models: the path of %s is longer than %d bytes", name, PATH_BYTES);
    return KF_OK;
}

static kf_status folder_exists(const char *dir, const char *advice) {
    bool there;
    KF_TRY(kf_path_exists(dir, &there));
    return there ? KF_OK : KF_FAIL(KF_ERR_NOT_FOUND, "%s: no such folder; %s", dir, advice);
}

static kf_status open_tokenizer(const char *dir, const kf_config *config, kf_tokenizer **out) {
    KF_TRY(kf_tokenizer_open(dir, out));
    size_t n = kf_tokenizer_vocab_size(*out);
    if (n > config->vocab_size)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: the tokenizer has %zu ids, config.json's vocab_size is %zu", dir, n,
                       config->vocab_size);
    return KF_OK;
}

static kf_status open_encoder(kf_device *d, const char *dir, kf_models *m) {
    kf_config config;
    KF_TRY(kf_config_read(dir, &config)); /* the buffers are sized by its positions */
    m->encoder_max_seqlen = config.max_positions;
    kf_config_free(&config);
    m->encode_max_tokens = max_size(ENCODE_MAX_TOKENS, m->encoder_max_seqlen);
    m->encode_max_seqs = ENCODE_MAX_SEQS;
    KF_TRY(kf_bert_open(d, dir, &(kf_bert_opts){.max_tokens = m->encode_max_tokens, .max_seqs = m->encode_max_seqs},
                        &m->encoder));
    KF_TRY(open_tokenizer(dir, kf_bert_config(m->encoder), &m->encoder_tokenizer));
    KF_TRY(kf_bert_pass_new(m->encoder, &m->pass[0]));
    KF_TRY(kf_bert_pass_new(m->encoder, &m->pass[1]));
    return kf_understander_init(&m->understander, m->encoder, m->encoder_tokenizer);
}

/* The tokens that end a reply: the checkpoint's and the prompt form's. */
static kf_status open_grammars(kf_models *m) {
    const kf_config *c = kf_decoder_config(m->decoder);
    int32_t ends[END_TOKENS_MAX];
    size_t n = 0, n_ids = kf_tokenizer_vocab_size(m->decoder_tokenizer);
    for (size_t id = 0; id < n_ids && id < c->vocab_size && n < END_TOKENS_MAX; id++) {
        bool is_end = kf_prompt_is_stop(m->prompt, (int32_t)id);
        for (size_t i = 0; i < c->n_eos; i++)
            is_end |= c->eos_ids[i] == (int32_t)id;
        if (is_end) ends[n++] = (int32_t)id;
    }
    kf_grammars_opts o = {.end_ids = ends, .n_end_ids = n, .n_kept = GRAMMARS_KEPT, .n_masks = MASKS_KEPT};
    return kf_grammars_new(m->decoder_tokenizer, c->vocab_size, &o, &m->grammars);
}

static kf_status open_decoder(kf_device *d, const char *dir, const kf_models_opts *o, kf_models *m) {
    m->step_max_tokens = STEP_MAX_PROMPT_TOKENS + o->max_running;
    kf_decoder_opts opts = {
        .max_tokens = m->step_max_tokens,
        .max_seqs = o->max_running,
        .max_seqlen = DECODER_MAX_SEQLEN,
        .cache_bytes = o->kv_cache_bytes,
    };
    KF_TRY(kf_decoder_open(d, dir, &opts, &m->decoder));
    KF_TRY(open_tokenizer(dir, kf_decoder_config(m->decoder), &m->decoder_tokenizer));
    KF_TRY(kf_decoder_step_new(m->decoder, &m->step[0]));
    KF_TRY(kf_decoder_step_new(m->decoder, &m->step[1]));
    KF_TRY(kf_prompt_open(dir, m->decoder_tokenizer, &m->prompt));
    KF_TRY(open_grammars(m));
    m->kv = kf_decoder_kv_cache(m->decoder);
    m->decoder_max_seqlen = kf_decoder_max_seqlen(m->decoder);
    size_t need = (m->decoder_max_seqlen + KF_KV_BLOCK_SIZE - 1) / KF_KV_BLOCK_SIZE;
    if (kf_kv_cache_n_blocks(m->kv) < need)
        return KF_FAIL(KF_ERR_INVALID,
                       "--kv-cache-mb: %zu bytes are %zu blocks, one full sequence of %zu tokens needs %zu; raise it",
                       o->kv_cache_bytes, kf_kv_cache_n_blocks(m->kv), m->decoder_max_seqlen, need);
    return o->graphs_stream ? kf_decoder_capture(m->decoder, o->graphs_stream) : KF_OK;
}

/* A refusal for want of memory also says what to lower. */
static kf_status say_what_to_lower(kf_status s, const char *options) {
    char text[512];
    if (s != KF_ERR_NO_MEMORY) return s;
    snprintf(text, sizeof text, "%s", kf_error_text());
    return KF_FAIL(s, "%s; %s", text, options);
}

kf_status kf_models_open(kf_device *d, const kf_models_opts *o, kf_models *out) {
    char encoder[PATH_BYTES], decoder[PATH_BYTES], policy[PATH_BYTES];
    KF_TRY(path_in(o->dir, "encoder", encoder));
    KF_TRY(path_in(o->dir, "decoder", decoder));
    KF_TRY(path_in(o->dir, "policy.json", policy));
    kf_models m = {0};
    KF_TRY(folder_exists(encoder, "set --models to the folder that has it"));
    if (!o->understand_only)
        KF_TRY(folder_exists(decoder, "put one there, or start with --decoder off to understand only"));
    kf_status s = say_what_to_lower(open_encoder(d, encoder, &m), "take --dtype bf16 or a smaller encoder");
    if (s == KF_OK && !o->understand_only)
        s = say_what_to_lower(open_decoder(d, decoder, o, &m),
                              "lower --max-running or --kv-cache-mb, or take --dtype bf16 or a smaller decoder");
    KF_STEP(s, kf_policy_load(policy, &m.policy));
    if (s != KF_OK) {
        kf_models_close(&m);
        return s;
    }
    snprintf(m.id, sizeof m.id, "%.90s%s%.90s", kf_bert_id(m.encoder), m.decoder ? "+" : "",
             m.decoder ? kf_decoder_id(m.decoder) : "");
    *out = m;
    return KF_OK;
}

void kf_models_close(kf_models *m) {
    kf_policy_free(&m->policy);
    kf_grammars_free(m->grammars);
    kf_prompt_close(m->prompt);
    for (int i = 0; i < 2; i++) {
        if (m->step[i]) kf_decoder_step_free(m->step[i]);
        if (m->pass[i]) kf_bert_pass_free(m->pass[i]);
    }
    if (m->decoder) kf_decoder_close(m->decoder);
    kf_understander_free(&m->understander);
    if (m->encoder) kf_bert_close(m->encoder);
    kf_tokenizer_close(m->decoder_tokenizer);
    kf_tokenizer_close(m->encoder_tokenizer);
    *m = (kf_models){0};
}

size_t kf_models_weights_bytes(const kf_models *m) {
    return kf_bert_weights_bytes(m->encoder) + (m->decoder ? kf_decoder_weights_bytes(m->decoder) : 0);
}

size_t kf_models_activations_bytes(const kf_models *m) {
    size_t bytes = kf_bert_arena_bytes(m->encoder);
    if (m->decoder) bytes += kf_decoder_arena_bytes(m->decoder) + kf_decoder_graphs_bytes(m->decoder);
    return bytes;
}
