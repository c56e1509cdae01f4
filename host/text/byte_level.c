/* The path of a text through byte_level.h's parts, and the offsets of its tokens: those of Hugging Face, which gives
 * a token that holds part of a character the whole character. */
#include "text/byte_level.h"

#include <stdlib.h>
#include <string.h>

#include "text/encoding.h"
#include "text/nfc.h"
#include "text/utf8.h"

/* A stretch of text between two added tokens. */
typedef struct stretch {
    const kf_byte_level *b;
    kf_encoding *e;
    size_t n_before;       /* tokens that e held before this text */
    const char *text;      /* normalised */
    const int32_t *source; /* of each code point of text: its place in the stretch; NULL: where it is */
    int32_t base;          /* the stretch's place in the original text, in code points */
    size_t word;           /* the word being cut starts here */
    size_t cursor;         /* the start of code point number cursor_cp: tokens come in order */
    int32_t cursor_cp;
} stretch;

static size_t char_bytes(char lead) {
    unsigned char c = (unsigned char)lead;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* The place in the original text of the code point that byte `at` of the stretch belongs to. */
static int32_t place_of(stretch *s, size_t at) {
    for (size_t n; s->cursor + (n = char_bytes(s->text[s->cursor])) <= at; s->cursor_cp++)
        s->cursor += n;
    return s->base + (s->source ? s->source[s->cursor_cp] : s->cursor_cp);
}

/* Spaces at the ends of a token are outside its span: each is one code point. */
static void trim(const stretch *s, size_t from, size_t to, int32_t *start, int32_t *end) {
    int32_t leading = 0, trailing = 0;
    while (from + (size_t)leading < to && s->text[from + (size_t)leading] == ' ')
        leading++;
    while (from + (size_t)trailing < to && s->text[to - 1 - (size_t)trailing] == ' ')
        trailing++;
    bool first = s->e->n_total == s->n_before || *start == 0;
    if (leading && first && s->b->trim_keeps_first) leading--;
    *start = *start + leading < *end ? *start + leading : *end;
    if (trailing && *end >= trailing) *end = *end - trailing > *start ? *end - trailing : *start;
}

static void emit(void *user, int32_t id, size_t from, size_t to) {
    stretch *s = user;
    from += s->word;
    to += s->word;
    int32_t start = place_of(s, from), end = place_of(s, to - 1) + 1;
    if (s->b->trim_offsets) trim(s, from, to, &start, &end);
    kf_encoding_add(s->e, id, start, end);
}

static kf_status cut_word(void *user, size_t from, size_t to) {
    stretch *s = user;
    s->word = from;
    return kf_bpe_encode(&s->b->bpe, s->text + from, to - from, emit, s);
}

/* Writes the stretch with a space in front and in normal form, as far as each is asked for. */
static size_t normalise(const kf_byte_level *b, bool prefix, const char *text, size_t n, char *out, int32_t *source) {
    if (prefix) {
        out[0] = ' ';
        source[0] = 0;
    }
    if (b->nfc) return prefix + kf_nfc(text, n, out + prefix, source + prefix);
    memcpy(out + prefix, text, n);
    for (size_t i = 0, n_cps = kf_utf8_length(text, n); i < n_cps; i++)
        source[prefix + i] = (int32_t)i;
    return prefix + n;
}

static kf_status encode_stretch(stretch *s, const char *text, size_t n) {
    _Alignas(16) char memory[KF_NORMAL_STACK_BYTES];
    bool prefix = s->b->add_prefix_space && n && text[0] != ' ';
    s->text = text;
    s->source = NULL;
    s->cursor = 0;
    s->cursor_cp = 0;
    if (!prefix && !(s->b->nfc && kf_nfc_needed(text, n)))
        return kf_splitter_run(&s->b->splitter, text, n, cut_word, s);

    size_t cap = 3 * n + 4, need = cap * (sizeof(int32_t) + 1); /* form C takes at most three times the bytes */
    void *block = need <= sizeof memory ? memory : malloc(need);
    if (!block) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory to normalise %zu bytes", n);
    int32_t *source = block;
    char *out = (char *)(source + cap);
    n = normalise(s->b, prefix, text, n, out, source);
    s->text = out;
    s->source = source;
    kf_status status = kf_splitter_run(&s->b->splitter, out, n, cut_word, s);
    if (block != memory) free(block);
    return status;
}

/* The added token that starts at text[0 .. n), the longest of several. */
static const kf_added *added_at(const kf_byte_level *b, const char *text, size_t n) {
    if (!b->starts_added[(unsigned char)text[0]]) return NULL;
    for (size_t i = 0; i < b->n_added; i++)
        if (b->added[i].n <= n && memcmp(b->added[i].text, text, b->added[i].n) == 0) return &b->added[i];
    return NULL;
}

kf_status kf_byte_level_encode(const kf_byte_level *b, const char *text, size_t n_bytes, kf_encoding *e) {
    stretch s = {.b = b, .e = e, .n_before = e->n_total};
    size_t from = 0;
    for (size_t at = 0; b->n_added && at < n_bytes;) {
        const kf_added *a = added_at(b, text + at, n_bytes - at);
        if (!a) {
            at++;
            continue;
        }
        KF_TRY(encode_stretch(&s, text + from, at - from));
        s.base += (int32_t)kf_utf8_length(text + from, at - from);
        int32_t n_cps = (int32_t)kf_utf8_length(a->text, a->n);
        kf_encoding_add(e, a->id, s.base, s.base + n_cps);
        s.base += n_cps;
        from = at += a->n;
    }
    return encode_stretch(&s, text + from, n_bytes - from);
}

size_t kf_byte_level_bytes(const char *piece, size_t n, char *out) {
    size_t n_out = 0;
    for (size_t at = 0; at < n;) {
        int byte = kf_byte_level_byte(kf_utf8_next(piece, &at));
        if (byte < 0) return 0;
        out[n_out++] = (char)byte;
    }
    return n_out;
}

void kf_byte_level_free(kf_byte_level *b) {
    kf_bpe_free(&b->bpe);
    kf_splitter_free(&b->splitter);
    free(b->added);
    *b = (kf_byte_level){0};
}
