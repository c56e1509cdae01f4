/* WordPiece as a pipeline of three stages that passes one code point at a time, each with the place that it has in
 * the original text: clean → strip_accents → lower → word. Only the word being read is kept, so a text of any length
 * needs the same memory. Offsets are those of Hugging Face's NormalizedString. */
#include "text/wordpiece.h"

#include <string.h>

#include "base/hash.h"
#include "text/bert_chars.h"
#include "text/encoding.h"
#include "text/utf8.h"

enum {
    WORD_BYTES = KF_WORD_CHARS_MAX * 4,
    /* Combining characters after one base that are put in canonical order; the standard's stream-safe form allows 30.
     * Beyond that they stay as written, which shows only in marks that strip_accents keeps. */
    PENDING_MAX = 64,
};

typedef struct lexer {
    const kf_wordpiece *w;
    const kf_vocab *v;
    kf_encoding *e;

    /* The word being read. bytes leaves room in front for the prefix of its continuing pieces. */
    char bytes[KF_WORD_PREFIX_MAX + WORD_BYTES];
    uint16_t at[KF_WORD_CHARS_MAX + 1]; /* where character i starts, counted from behind the room */
    int32_t source[KF_WORD_CHARS_MAX];  /* the code point of the original text that character i came from */
    size_t n_chars;                     /* may pass what is kept: such a word is unk */
    int32_t last_source;

    /* A base and its combining characters, not in canonical order yet. */
    struct {
        uint32_t cp;
        uint8_t class;
        bool added; /* by a decomposition: shares the place of the character before it */
    } pending[PENDING_MAX];
    size_t n_pending;
    int32_t pending_source[PENDING_MAX]; /* of those that were not added, in the order of the text */
    size_t n_pending_source;
} lexer;

/* ---- stage 4: the word, cut into pieces ---- */

/* The longest piece that starts at character `from`; its id, or -1. *to: the character behind it. */
static int32_t longest_piece(lexer *x, size_t from, size_t *to) {
    size_t n_prefix = from ? x->w->n_prefix : 0;
    char *start = x->bytes + KF_WORD_PREFIX_MAX + x->at[from] - n_prefix;
    memcpy(start, x->w->prefix, n_prefix); /* over characters that earlier pieces took */

    uint32_t hash[KF_WORD_CHARS_MAX + 1]; /* of start up to the end of character i - 1 */
    uint32_t h = from ? x->w->prefix_hash : KF_FNV32_START;
    size_t last = from;
    while (last < x->n_chars && n_prefix + x->at[last + 1] - x->at[from] <= x->v->piece_bytes_max) {
        h = kf_fnv32(h, x->bytes + KF_WORD_PREFIX_MAX + x->at[last], (size_t)(x->at[last + 1] - x->at[last]));
        hash[++last] = h;
    }
    for (; last > from; last--) {
        int32_t id = kf_vocab_find_hashed(x->v, start, n_prefix + x->at[last] - x->at[from], hash[last]);
        if (id >= 0) {
            *to = last;
            return id;
        }
    }
    return -1;
}

static void end_word(lexer *x) {
    struct {
        int32_t id, start, end;
    } pieces[KF_WORD_CHARS_MAX];
    size_t n_pieces = 0, n_chars = x->n_chars;
    if (n_chars == 0) return;
    bool known = n_chars <= x->w->word_chars_max;
    for (size_t from = 0, to; known && from < n_chars; from = to) {
        int32_t id = longest_piece(x, from, &to);
        known = id >= 0;
        if (!known) break;
        pieces[n_pieces].id = id;
        pieces[n_pieces].start = x->source[from];
        pieces[n_pieces++].end = x->source[to - 1] + 1;
    }
    if (!known) kf_encoding_add(x->e, x->w->unk_id, x->source[0], x->last_source + 1);
    for (size_t i = 0; known && i < n_pieces; i++)
        kf_encoding_add(x->e, pieces[i].id, pieces[i].start, pieces[i].end);
    x->n_chars = 0;
}

static void add_to_word(lexer *x, uint32_t cp, int32_t source) {
    if (x->n_chars < x->w->word_chars_max) {
        uint16_t at = x->n_chars ? x->at[x->n_chars] : 0;
        x->at[x->n_chars] = at;
        x->source[x->n_chars] = source;
        x->at[x->n_chars + 1] = (uint16_t)(at + kf_utf8_put(cp, x->bytes + KF_WORD_PREFIX_MAX + at));
    }
    x->last_source = source;
    x->n_chars++;
}

static void word(lexer *x, uint32_t cp, int32_t source) {
    if (kf_bert_is_space(cp)) {
        end_word(x);
    } else if (kf_bert_is_punctuation(cp)) {
        end_word(x);
        add_to_word(x, cp, source);
        end_word(x);
    } else {
        add_to_word(x, cp, source);
    }
}

/* ---- stage 3: case ---- */

static void lower(lexer *x, uint32_t cp, int32_t source) {
    if (!x->w->lowercase) {
        word(x, cp, source);
        return;
    }
    uint32_t parts[2];
    size_t n = kf_bert_lower(cp, parts);
    for (size_t i = 0; i < n; i++)
        word(x, parts[i], source);
}

/* ---- stage 2: canonical decomposition, less its non-spacing marks ---- */

/* Canonical order is by class, stable. Places in the text are given out after it, as Hugging Face does. */
static void end_pending(lexer *x) {
    size_t n_sources = x->n_pending && x->pending[0].added ? 1 : 0; /* its base went out before it */
    for (size_t i = 1; i < x->n_pending; i++)
        for (size_t j = i; j > 0 && x->pending[j - 1].class > x->pending[j].class; j--) {
            __typeof__(x->pending[0]) t = x->pending[j];
            x->pending[j] = x->pending[j - 1];
            x->pending[j - 1] = t;
        }
    for (size_t i = 0; i < x->n_pending; i++) {
        if (!x->pending[i].added && n_sources < x->n_pending_source) n_sources++;
        if (!kf_bert_is_accent(x->pending[i].cp))
            lower(x, x->pending[i].cp, x->pending_source[n_sources ? n_sources - 1 : 0]);
    }
    x->n_pending = x->n_pending_source = 0;
}

static void strip_accents(lexer *x, uint32_t cp, int32_t source) {
    if (!x->w->strip_accents) {
        lower(x, cp, source);
        return;
    }
    uint32_t parts[KF_DECOMPOSED_MAX];
    size_t n = kf_bert_decompose(cp, parts);
    for (size_t i = 0; i < n; i++) {
        unsigned class = kf_bert_combining_class(parts[i]);
        if (class == 0 || x->n_pending == PENDING_MAX) end_pending(x);
        x->pending[x->n_pending].cp = parts[i];
        x->pending[x->n_pending].class = (uint8_t) class;
        x->pending[x->n_pending++].added = i > 0;
        if (i == 0 || x->n_pending_source == 0) x->pending_source[x->n_pending_source++] = source;
    }
}

/* ---- stage 1: cleaning, and spaces round Chinese characters ---- */

static void clean(lexer *x, uint32_t cp, int32_t source) {
    if (x->w->clean_text) {
        if (kf_bert_is_dropped(cp)) return;
        if (kf_bert_is_space(cp)) cp = ' ';
    }
    bool alone = x->w->handle_chinese_chars && kf_bert_is_chinese(cp);
    if (alone) strip_accents(x, ' ', source);
    strip_accents(x, cp, source);
    if (alone) strip_accents(x, ' ', source);
}

/* ---- settings, text, the way back ---- */

kf_wordpiece kf_wordpiece_default(void) {
    kf_wordpiece w = {.clean_text = true,
                      .handle_chinese_chars = true,
                      .strip_accents = true,
                      .lowercase = true,
                      .unk_id = -1,
                      .word_chars_max = 100,
                      .cleanup = true};
    kf_wordpiece_set_prefix(&w, "##");
    return w;
}

kf_status kf_wordpiece_set_prefix(kf_wordpiece *w, const char *prefix) {
    size_t n = strlen(prefix);
    if (n > KF_WORD_PREFIX_MAX)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: continuing_subword_prefix has %zu bytes, the limit is %d",
                       n, KF_WORD_PREFIX_MAX);
    memcpy(w->prefix, prefix, n + 1);
    w->n_prefix = n;
    w->prefix_hash = kf_fnv32(KF_FNV32_START, prefix, n);
    return KF_OK;
}

size_t kf_wordpiece_text(const kf_wordpiece *w, const char *piece, size_t n, char *out) {
    static const char *const close_up[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    if (w->n_prefix && n >= w->n_prefix && memcmp(piece, w->prefix, w->n_prefix) == 0) {
        memcpy(out, piece + w->n_prefix, n - w->n_prefix);
        return n - w->n_prefix;
    }
    bool space = true;
    for (size_t i = 0; w->cleanup && i < sizeof close_up / sizeof *close_up; i++)
        if (strncmp(piece, close_up[i], strlen(close_up[i])) == 0) space = false;
    out[0] = ' ';
    memcpy(out + space, piece, n);
    return n + space;
}

void kf_wordpiece_encode(const kf_wordpiece *w, const kf_vocab *v, const char *text, size_t n_bytes, kf_encoding *e) {
    lexer x;
    x.w = w;
    x.v = v;
    x.e = e;
    x.n_chars = x.n_pending = x.n_pending_source = 0;
    x.last_source = 0;
    int32_t source = 0;
    for (size_t at = 0; at < n_bytes; source++)
        clean(&x, kf_utf8_next(text, &at), source);
    end_pending(&x);
    end_word(&x);
}
