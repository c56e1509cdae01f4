/* The tokenizer of tokenizer.h: opening, encoding, and decoding whole or as a stream. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/encoding.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

enum { PATH_BYTES = 4096, FILE_BYTES_MAX = 128 << 20, TEXT_BYTES_MAX = 1 << 28 };

static kf_status path_in(const char *dir, const char *name, char out[PATH_BYTES]) {
    if (snprintf(out, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
        return KF_FAIL(KF_ERR_INVALID, "tokenizer: the path of %s is longer than %d bytes", name, PATH_BYTES);
    return KF_OK;
}

/* What the content of a file is refused for names the file; this names its folder. */
static kf_status in_folder(kf_status s, const char *dir) {
    char text[512];
    if (s == KF_OK) return s;
    snprintf(text, sizeof text, "%s", kf_error_text());
    return KF_FAIL(s, "%s: %s", dir, text);
}

static kf_status load_json(kf_tokenizer *t, const char *dir, const char *path) {
    json_t *root;
    KF_TRY(kf_json_read(path, FILE_BYTES_MAX, JSON_ALLOW_NUL, &root, NULL));
    kf_status s = in_folder(kf_tokenizer_load_json(t, root), dir);
    json_decref(root);
    return s;
}

static kf_status load_vocab(kf_tokenizer *t, const char *dir, const char *path, const char *config_path) {
    char *bytes = NULL;
    size_t n = 0;
    json_t *config = NULL;
    kf_status s = kf_json_read_optional(config_path, FILE_BYTES_MAX, JSON_ALLOW_NUL, &config);
    KF_STEP(s, kf_file_read(path, FILE_BYTES_MAX, &bytes, &n));
    KF_STEP(s, in_folder(kf_tokenizer_load_vocab(t, "vocab.txt", bytes, n, config), dir));
    free(bytes);
    json_decref(config);
    return s;
}

static kf_status load(kf_tokenizer *t, const char *dir) {
    char json[PATH_BYTES], vocab[PATH_BYTES], config[PATH_BYTES];
    KF_TRY(path_in(dir, "tokenizer.json", json));
    KF_TRY(path_in(dir, "vocab.txt", vocab));
    KF_TRY(path_in(dir, "tokenizer_config.json", config));
    bool there;
    KF_TRY(kf_path_exists(json, &there));
    if (there) return load_json(t, dir, json);
    KF_TRY(kf_path_exists(vocab, &there));
    if (there) return load_vocab(t, dir, vocab, config);
    return KF_FAIL(KF_ERR_NOT_FOUND, "%s: neither tokenizer.json nor vocab.txt is there", dir);
}

kf_status kf_tokenizer_new(kf_tokenizer **out) {
    kf_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for %zu bytes", sizeof *t);
    kf_status s = kf_vocab_init(&t->vocab);
    if (s != KF_OK) {
        free(t);
        return s;
    }
    *out = t;
    return KF_OK;
}

kf_status kf_tokenizer_open(const char *dir, kf_tokenizer **out) {
    kf_tokenizer *t;
    KF_TRY(kf_tokenizer_new(&t));
    kf_status s = load(t, dir);
    if (s != KF_OK) {
        kf_tokenizer_close(t);
        return s;
    }
    *out = t;
    return KF_OK;
}

void kf_tokenizer_close(kf_tokenizer *t) {
    if (!t) return;
    kf_pipeline_free(&t->pipeline);
    kf_vocab_free(&t->vocab);
    free(t->special);
    free(t->text);
    free(t->text_at);
    free(t);
}

kf_status kf_tokenizer_set_special(kf_tokenizer *t, int32_t id) {
    if ((size_t)id >= t->n_special) {
        size_t n = (size_t)id + 1;
        bool *special = realloc(t->special, n * sizeof *special);
        if (!special) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for %zu ids", n);
        memset(special + t->n_special, 0, (n - t->n_special) * sizeof *special);
        t->special = special;
        t->n_special = n;
    }
    t->special[id] = true;
    return KF_OK;
}

/* What a piece stands for in a decoded text, in out [n + 1]. */
static size_t text_of(const kf_tokenizer *t, const char *piece, size_t n, char *out) {
    if (t->kind == KF_TOKENIZER_WORDPIECE) return kf_wordpiece_text(&t->wordpiece, piece, n, out);
    return kf_pipeline_text(&t->pipeline, piece, n, out);
}

kf_status kf_tokenizer_make_texts(kf_tokenizer *t) {
    const kf_vocab *v = &t->vocab;
    t->text = malloc(v->bytes_used + 1);
    t->text_at = malloc((v->n_ids + 1) * sizeof *t->text_at);
    if (!t->text || !t->text_at) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for %zu texts", v->n_ids);
    size_t used = 0, n;
    for (size_t id = 0; id < v->n_ids; id++) {
        t->text_at[id] = (uint32_t)used;
        const char *piece = kf_vocab_piece(v, (int64_t)id, &n);
        if (piece) used += text_of(t, piece, n, t->text + used);
    }
    t->text_at[v->n_ids] = (uint32_t)used;
    return KF_OK;
}

kf_status kf_tokenizer_encode(const kf_tokenizer *t, const char *text, size_t n_bytes, kf_special special,
                              kf_encoding *e) {
    size_t bad_at;
    e->n = e->n_total = 0;
    if (n_bytes > TEXT_BYTES_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "text of %zu bytes: a tokenizer takes at most %d", n_bytes, TEXT_BYTES_MAX);
    if (!kf_utf8_valid(text, n_bytes, &bad_at))
        return KF_FAIL(KF_ERR_INVALID, "text: byte %zu of %zu is not valid UTF-8", bad_at, n_bytes);
    kf_status s = KF_OK;
    for (size_t i = 0; special == KF_SPECIAL_ADD && i < t->n_before; i++)
        kf_encoding_add(e, t->before[i], 0, 0);
    if (t->kind == KF_TOKENIZER_WORDPIECE)
        kf_wordpiece_encode(&t->wordpiece, &t->vocab, text, n_bytes, e);
    else
        s = kf_pipeline_encode(&t->pipeline, text, NULL, n_bytes, e);
    if (s != KF_OK) {
        e->n = e->n_total = 0;
        return s;
    }
    for (size_t i = 0; special == KF_SPECIAL_ADD && i < t->n_after; i++)
        kf_encoding_add(e, t->after[i], 0, 0);
    return KF_OK;
}

kf_status kf_tokenizer_encode_marked(const kf_tokenizer *t, const char *text, const unsigned char *marks,
                                     size_t n_bytes, kf_encoding *e) {
    size_t bad_at;
    e->n = e->n_total = 0;
    if (t->kind != KF_TOKENIZER_BPE || t->pipeline.control_single_word)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: prompts with control tokens are made for BPE, and none of "
                                           "them may be single_word");
    if (n_bytes > TEXT_BYTES_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "text of %zu bytes: a tokenizer takes at most %d", n_bytes, TEXT_BYTES_MAX);
    if (!kf_utf8_valid(text, n_bytes, &bad_at))
        return KF_FAIL(KF_ERR_INVALID, "text: byte %zu of %zu is not valid UTF-8", bad_at, n_bytes);
    kf_status s = kf_pipeline_encode(&t->pipeline, text, marks, n_bytes, e);
    if (s != KF_OK) e->n = e->n_total = 0;
    return s;
}

size_t kf_tokenizer_vocab_size(const kf_tokenizer *t) {
    return t->vocab.n_ids;
}

const char *kf_tokenizer_piece(const kf_tokenizer *t, int32_t id) {
    return kf_vocab_piece(&t->vocab, id, NULL);
}

int32_t kf_tokenizer_id(const kf_tokenizer *t, const char *piece) {
    return kf_vocab_find(&t->vocab, piece, strlen(piece));
}

bool kf_tokenizer_is_special(const kf_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n_special && t->special[id];
}

const char *kf_tokenizer_bytes(const kf_tokenizer *t, int32_t id, size_t *n) {
    bool known = id >= 0 && (size_t)id < t->vocab.n_ids;
    *n = known ? t->text_at[id + 1] - t->text_at[id] : 0;
    return t->text + (known ? t->text_at[id] : 0);
}

bool kf_tokenizer_drops_first_space(const kf_tokenizer *t) {
    return t->text_starts_with_space;
}

/* ---- decoding ---- */

/* Counts all that is put, keeps what fits. */
typedef struct sink {
    char *out;
    size_t cap, n;
} sink;

static void put(sink *s, const void *bytes, size_t n) {
    if (s->n <= s->cap && n <= s->cap - s->n) memcpy(s->out + s->n, bytes, n);
    s->n += n;
}

static void put_replacement(sink *s) {
    put(s, "\xEF\xBF\xBD", 3);
}

/* Whether byte may follow held[0 .. n) in a well-formed character. */
static bool continues(const unsigned char *held, size_t n, unsigned char byte) {
    if (n == 1 && held[0] == 0xE0) return byte >= 0xA0 && byte <= 0xBF;
    if (n == 1 && held[0] == 0xED) return byte >= 0x80 && byte <= 0x9F;
    if (n == 1 && held[0] == 0xF0) return byte >= 0x90 && byte <= 0xBF;
    if (n == 1 && held[0] == 0xF4) return byte >= 0x80 && byte <= 0x8F;
    return (byte & 0xC0) == 0x80;
}

/* Whole characters go out; each maximal part of an ill-formed one becomes one U+FFFD (Unicode standard, 3.9), as
 * Rust's and therefore Hugging Face's lossy decoding does it. */
static void push_byte(kf_detokenizer *d, unsigned char byte, sink *s) {
    if (d->n_held && !continues(d->held, d->n_held, byte)) {
        put_replacement(s);
        d->n_held = 0;
    }
    if (d->n_held == 0 && byte < 0x80) {
        put(s, &byte, 1);
        return;
    }
    if (d->n_held == 0 && (byte < 0xC2 || byte > 0xF4)) {
        put_replacement(s);
        return;
    }
    d->held[d->n_held++] = byte;
    size_t want = d->held[0] < 0xE0 ? 2 : d->held[0] < 0xF0 ? 3 : 4;
    if (d->n_held == want) {
        put(s, d->held, want);
        d->n_held = 0;
    }
}

static void push_token(kf_detokenizer *d, const kf_tokenizer *t, int32_t id, sink *s) {
    if (id < 0 || (size_t)id >= t->vocab.n_ids) return;
    size_t at = t->text_at[id], end = t->text_at[id + 1];
    if (!d->begun && t->text_starts_with_space && at < end && t->text[at] == ' ') at++;
    d->begun = true;
    for (; at < end; at++)
        push_byte(d, (unsigned char)t->text[at], s);
}

kf_status kf_tokenizer_decode(const kf_tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special, char *out,
                              size_t cap, size_t *n_bytes) {
    kf_detokenizer d = {0};
    sink s = {out, cap, 0};
    for (size_t i = 0; i < n_ids; i++)
        if (!skip_special || !kf_tokenizer_is_special(t, ids[i])) push_token(&d, t, ids[i], &s);
    if (d.n_held) put_replacement(&s);
    *n_bytes = s.n;
    if (s.n > cap) return KF_FAIL(KF_ERR_TOO_LARGE, "decoded text: %zu bytes, there is room for %zu", s.n, cap);
    return KF_OK;
}

kf_status kf_detokenizer_push(kf_detokenizer *d, const kf_tokenizer *t, int32_t id, char *out, size_t cap,
                              size_t *n_bytes) {
    if (kf_tokenizer_is_special(t, id)) return KF_OK;
    kf_detokenizer next = *d;
    sink s = {out, cap, *n_bytes};
    push_token(&next, t, id, &s);
    if (s.n > cap) return KF_FAIL(KF_ERR_TOO_LARGE, "decoded text: %zu bytes, there is room for %zu", s.n, cap);
    *d = next;
    *n_bytes = s.n;
    return KF_OK;
}

kf_status kf_detokenizer_finish(kf_detokenizer *d, char *out, size_t cap, size_t *n_bytes) {
    sink s = {out, cap, *n_bytes};
    if (d->n_held) put_replacement(&s);
    if (s.n > cap) return KF_FAIL(KF_ERR_TOO_LARGE, "decoded text: %zu bytes, there is room for %zu", s.n, cap);
    *d = (kf_detokenizer){0};
    *n_bytes = s.n;
    return KF_OK;
}
