/* The model of a tokenizer.json that is BPE: merges, what a word starts as, what its pieces stand for. Two kinds:
 * byte-level (GPT-2 and after), told by the decoder ByteLevel, and SentencePiece's, over characters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_impl.h"
#include "text/utf8.h"

/* ---- the merges ---- */

/* One merge is "left right" or ["left", "right"]. */
static kf_status load_merge(kf_tokenizer *t, const json_t *merge, int32_t rank) {
    char joined[2 * KF_VOCAB_PIECE_BYTES_MAX];
    const char *left, *right;
    size_t n_left, n_right;
    if (json_is_string(merge)) {
        left = json_string_value(merge);
        const char *space = strchr(left, ' ');
        if (!space) return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: merge %d is not two pieces", rank);
        n_left = (size_t)(space - left);
        right = space + 1;
        n_right = json_string_length(merge) - n_left - 1;
    } else {
        const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
        if (json_array_size(merge) != 2 || !json_is_string(a) || !json_is_string(b))
            return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: merge %d is not two pieces", rank);
        left = json_string_value(a);
        right = json_string_value(b);
        n_left = json_string_length(a);
        n_right = json_string_length(b);
    }
    int32_t left_id = kf_vocab_find(&t->vocab, left, n_left), right_id = kf_vocab_find(&t->vocab, right, n_right);
    if (left_id < 0 || right_id < 0)
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: merge %d has a piece that is not in the vocabulary", rank);
    memcpy(joined, left, n_left); /* both are pieces: their lengths are within the limit */
    memcpy(joined + n_left, right, n_right);
    int32_t id = kf_vocab_find(&t->vocab, joined, n_left + n_right);
    if (id < 0) return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: what merge %d makes is not in the vocabulary", rank);
    kf_bpe_add_merge(&t->pipeline.bpe, left_id, right_id, rank, id);
    return KF_OK;
}

static kf_status load_merges(kf_tokenizer *t, const json_t *merges) {
    size_t n = json_array_size(merges);
    int32_t rank = 0;
    if (!json_is_array(merges) || n > KF_VOCAB_IDS_MAX)
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: model.merges is not a list of at most %d", KF_VOCAB_IDS_MAX);
    KF_TRY(kf_bpe_init(&t->pipeline.bpe, n));
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(merges, i);
        const char *line = json_string_value(merge);
        if (line && strncmp(line, "#version", 8) == 0) continue;
        KF_TRY(load_merge(t, merge, rank++));
    }
    return KF_OK;
}

/* ---- what a word starts as ---- */

/* Finds the pieces of the 256 bytes, spelled in GPT-2's alphabet or as <0xE4>. Returns how many there are. */
static int find_bytes(kf_tokenizer *t) {
    int n_found = 0;
    for (int byte = 0; byte < 256; byte++) {
        char spelled[8];
        size_t n = 6;
        if (t->pipeline.bpe.chars)
            snprintf(spelled, sizeof spelled, "<0x%02X>", (unsigned)byte);
        else
            n = kf_utf8_put(kf_byte_level_char((unsigned char)byte), spelled);
        t->pipeline.bpe.byte_id[byte] = kf_vocab_find(&t->vocab, spelled, n);
        n_found += t->pipeline.bpe.byte_id[byte] >= 0;
    }
    return n_found;
}

static kf_status load_symbols(kf_tokenizer *t, const json_t *model, bool byte_level) {
    kf_bpe *b = &t->pipeline.bpe;
    const char *unk = kf_json_text(model, "unk_token", NULL);
    b->chars = byte_level ? NULL : &t->vocab;
    b->byte_fallback = !byte_level && kf_json_flag(model, "byte_fallback", false);
    b->fuse_unk = kf_json_flag(model, "fuse_unk", false);
    b->unk_id = unk ? kf_tokenizer_id(t, unk) : -1;
    if (unk && b->unk_id < 0)
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: model.unk_token %.40s is not in the vocabulary", unk);
    int n_bytes = byte_level || b->byte_fallback ? find_bytes(t) : 256;
    if (n_bytes < 256 && (unk || b->byte_fallback))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: only %d of 256 bytes have a piece, beside %s", n_bytes,
                       b->byte_fallback ? "model.byte_fallback" : "a model.unk_token");
    return KF_OK;
}

/* ---- what pieces stand for ---- */

/* One decoder; *byte_level and *strips are set by those that say so. */
static kf_status load_decoder_step(const json_t *d, bool *byte_level, bool *strips) {
    const json_t *start = json_object_get(d, "start");
    bool known = kf_json_is(d, "ByteFallback") || kf_json_is(d, "Fuse");
    if (kf_json_is(d, "ByteLevel")) known = *byte_level = true;
    if (kf_json_is(d, "Replace"))
        known = kf_json_text_is(d, "content", " ") &&
                kf_json_text_is(json_object_get(d, "pattern"), "String", KF_METASPACE);
    if (kf_json_is(d, "Strip"))
        known = *strips = kf_json_text_is(d, "content", " ") && json_integer_value(start) == 1 &&
                          json_integer_value(json_object_get(d, "stop")) == 0;
    if (kf_json_is(d, "Metaspace")) {
        *strips = !kf_json_text_is(d, "prepend_scheme", "never") && kf_json_flag(d, "add_prefix_space", true);
        known = kf_json_text_is(d, "replacement", KF_METASPACE);
    }
    if (known) return KF_OK;
    return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: decoder %.40s, as it is set, is not known for BPE",
                   kf_json_type(d));
}

static kf_status load_decoder(kf_tokenizer *t, const json_t *decoder, bool *byte_level) {
    const json_t *parts = json_object_get(decoder, "decoders");
    *byte_level = false;
    if (!kf_json_is(decoder, "Sequence")) return load_decoder_step(decoder, byte_level, &t->text_starts_with_space);
    for (size_t i = 0; i < json_array_size(parts); i++)
        KF_TRY(load_decoder_step(json_array_get(parts, i), byte_level, &t->text_starts_with_space));
    return KF_OK;
}

/* ---- words that are one piece ---- */

static kf_status load_whole_words(kf_tokenizer *t, json_t *vocab, bool ignore_merges) {
    const char *piece;
    json_t *id;
    char *word = malloc(KF_VOCAB_PIECE_BYTES_MAX);
    if (!word) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for a piece");
    kf_status s = KF_OK;
    json_object_foreach(vocab, piece, id) {
        int32_t i = (int32_t)json_integer_value(id);
        size_t n = strlen(piece);
        if (kf_tokenizer_is_special(t, i)) continue;
        if (!t->pipeline.bpe.chars) n = kf_byte_level_bytes(piece, n, word);
        if (n)
            KF_STEP(s, kf_bpe_add_whole(&t->pipeline.bpe, t->pipeline.bpe.chars ? piece : word, n, i, ignore_merges));
    }
    free(word);
    return s;
}

kf_status kf_tokenizer_load_bpe(kf_tokenizer *t, const json_t *root, const json_t *model) {
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    kf_pipeline *p = &t->pipeline;
    bool byte_level;
    for (size_t i = 0; i < 2; i++)
        if (kf_json_text(model, empty[i], "")[0])
            return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: model.%s is not empty", empty[i]);
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: model.dropout is not 0");
    t->kind = KF_TOKENIZER_BPE;
    KF_TRY(load_merges(t, json_object_get(model, "merges")));
    KF_TRY(load_decoder(t, json_object_get(root, "decoder"), &byte_level));
    KF_TRY(load_symbols(t, model, byte_level));
    KF_TRY(kf_tokenizer_load_normalizer(p, json_object_get(root, "normalizer")));
    KF_TRY(kf_tokenizer_load_pre_tokenizer(p, json_object_get(root, "pre_tokenizer")));
    return load_whole_words(t, json_object_get(model, "vocab"), kf_json_flag(model, "ignore_merges", false));
}
