/* The path of a text through pipeline.h's parts, and the offsets of its tokens: those of Hugging Face, which gives
 * a token that holds part of a character the whole character. */
#include "text/pipeline.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "text/bert_chars.h"
#include "text/encoding.h"
#include "text/nfc.h"
#include "text/utf8.h"

/* A stretch of text between two added tokens. */
typedef struct stretch {
    const kf_pipeline *p;
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

/* White space at the ends of a token is outside its span: n_leading and n_trailing code points of it. */
static void add_trimmed(stretch *s, int32_t id, int32_t start, int32_t end, int32_t n_leading, int32_t n_trailing) {
    bool first = s->e->n_total == s->n_before || start == 0;
    if (n_leading == 1 && first && s->p->trim_keeps_first) n_leading = 0;
    start = start + n_leading < end ? start + n_leading : end;
    if (end >= n_trailing) end = end - n_trailing > start ? end - n_trailing : start;
    kf_encoding_add(s->e, id, start, end);
}

static void emit(void *user, int32_t id, size_t from, size_t to) {
    stretch *s = user;
    const char *token = s->text + s->word + from;
    size_t n = to - from;
    int32_t start = place_of(s, s->word + from), end = place_of(s, s->word + to - 1) + 1;
    if (!s->p->trim_offsets) {
        kf_encoding_add(s->e, id, start, end);
        return;
    }
    int32_t n_leading = 0, n_trailing = 0;
    while ((size_t)n_leading < n && token[n_leading] == ' ')
        n_leading++;
    while ((size_t)n_trailing < n && token[n - 1 - (size_t)n_trailing] == ' ')
        n_trailing++;
    add_trimmed(s, id, start, end, n_leading, n_trailing);
}

/* An added token of n_cps code points at the stretch's base. */
static void emit_added(stretch *s, const kf_added *a, int32_t n_cps) {
    int32_t n_leading = 0, n_trailing = 0;
    bool only_space = true;
    for (size_t at = 0; s->p->trim_offsets && at < a->n;) {
        bool space = kf_bert_is_space(kf_utf8_next(a->text, &at));
        only_space = only_space && space;
        n_leading += only_space;
        n_trailing = space ? n_trailing + 1 : 0;
    }
    add_trimmed(s, a->id, s->base, s->base + n_cps, n_leading, n_trailing);
}

static kf_status cut_word(void *user, size_t from, size_t to) {
    stretch *s = user;
    s->word = from;
    return kf_bpe_encode(&s->p->bpe, s->text + from, to - from, emit, s);
}

static bool wants_prefix(const stretch *s, const char *text, size_t n) {
    const kf_pipeline *p = s->p;
    if (n == 0 || p->prefix == KF_PREFIX_NEVER || (p->prefix_once && s->base > 0)) return false;
    if (p->prefix == KF_PREFIX_ALWAYS) return true;
    bool spelled = p->metaspace && n >= strlen(KF_METASPACE) && memcmp(text, KF_METASPACE, strlen(KF_METASPACE)) == 0;
    return text[0] != ' ' && !spelled;
}

/* Writes one space as the model spells it. */
static size_t put_space(const kf_pipeline *p, char *out) {
    size_t n = p->metaspace ? strlen(KF_METASPACE) : 1;
    memcpy(out, p->metaspace ? KF_METASPACE : " ", n);
    return n;
}

/* Writes the stretch as the model wants it: a space in front, normal form, spaces spelled. Returns its bytes. */
static size_t normalise(const kf_pipeline *p, bool prefix, const char *text, size_t n, char *out, int32_t *source) {
    size_t n_out = 0;
    if (prefix) {
        n_out = put_space(p, out);
        *source++ = 0;
    }
    if (p->nfc) return n_out + kf_nfc(text, n, out + n_out, source);
    int32_t n_cps = -1;
    for (size_t i = 0; i < n; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) {
            n_cps++;
            source[n_cps] = n_cps;
        }
        if (text[i] == ' ')
            n_out += put_space(p, out + n_out);
        else
            out[n_out++] = text[i];
    }
    return n_out;
}

static kf_status encode_stretch(stretch *s, const char *text, size_t n) {
    enum { GROWTH = 3, ENTRY = sizeof(int32_t) + 1 }; /* neither form makes more than three bytes of one */
    _Alignas(16) char memory[(GROWTH * KF_NORMAL_TEXT_BYTES + 4) * ENTRY];
    const kf_pipeline *p = s->p;
    bool prefix = wants_prefix(s, text, n);
    bool change = prefix || (p->metaspace && memchr(text, ' ', n)) || (p->nfc && kf_nfc_needed(text, n));
    s->text = text;
    s->source = NULL;
    s->cursor = 0;
    s->cursor_cp = 0;
    if (n == 0) return KF_OK;
    if (!change) return kf_splitter_run(&p->splitter, text, n, cut_word, s);

    size_t cap = GROWTH * n + 4; /* and the prefix */
    void *block = n <= KF_NORMAL_TEXT_BYTES ? memory : malloc(cap * ENTRY);
    if (!block) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory to normalise %zu bytes", n);
    int32_t *source = block;
    char *out = (char *)(source + cap);
    n = normalise(p, prefix, text, n, out, source);
    s->text = out;
    s->source = source;
    kf_status status = kf_splitter_run(&p->splitter, out, n, cut_word, s);
    if (block != memory) free(block);
    return status;
}

/* The first of a list, which is the longest, that starts at text[0 .. n); with marks only of bytes whose mark is 0. */
static const kf_added *first_of(const kf_added *list, size_t n_list, const char *text, const unsigned char *marks,
                                size_t n) {
    for (size_t i = 0; i < n_list; i++)
        if (list[i].n <= n && memcmp(list[i].text, text, list[i].n) == 0 && (!marks || !memchr(marks, 1, list[i].n)))
            return &list[i];
    return NULL;
}

/* The added token that starts at text[0 .. n), the longest of several; a control token only where marks say so. */
static const kf_added *added_at(const kf_pipeline *p, const char *text, const unsigned char *marks, size_t n) {
    unsigned char c = (unsigned char)text[0];
    const kf_added *a = p->starts_added[c] ? first_of(p->added, p->n_added, text, NULL, n) : NULL;
    const kf_added *control = marks && p->starts_control[c] ? first_of(p->control, p->n_control, text, marks, n) : NULL;
    return control && (!a || control->n > a->n) ? control : a;
}

/* A control token may take the white space on its sides with it: where it then begins, at or after `from`, and ends. */
static void widen(const kf_added *a, const char *text, size_t from, size_t n_bytes, size_t *begin, size_t *end) {
    for (size_t at = *begin; a->lstrip && at > from; *begin = at) {
        do {
            at--;
        } while (((unsigned char)text[at] & 0xC0) == 0x80);
        size_t next = at;
        if (!kf_bert_is_space(kf_utf8_next(text, &next))) break;
    }
    for (size_t at = *end; a->rstrip && at < n_bytes; *end = at)
        if (!kf_bert_is_space(kf_utf8_next(text, &at))) break;
}

kf_status kf_pipeline_encode(const kf_pipeline *p, const char *text, const unsigned char *marks, size_t n_bytes,
                             kf_encoding *e) {
    stretch s = {.p = p, .e = e, .n_before = e->n_total};
    size_t from = 0;
    for (size_t at = 0; (p->n_added || marks) && at < n_bytes;) {
        const kf_added *a = added_at(p, text + at, marks ? marks + at : NULL, n_bytes - at);
        if (!a) {
            at++;
            continue;
        }
        size_t begin = at, end = at + a->n;
        widen(a, text, from, n_bytes, &begin, &end);
        KF_TRY(encode_stretch(&s, text + from, begin - from));
        s.base += (int32_t)kf_utf8_length(text + from, begin - from);
        int32_t n_cps = (int32_t)kf_utf8_length(text + begin, end - begin);
        emit_added(&s, a, n_cps);
        s.base += n_cps;
        from = at = end;
    }
    return encode_stretch(&s, text + from, n_bytes - from);
}

/* The byte that a piece such as <0xE4> stands for, -1 for another piece. */
static int fallback_byte(const char *piece, size_t n) {
    if (n != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>') return -1;
    if (!isxdigit((unsigned char)piece[3]) || !isxdigit((unsigned char)piece[4])) return -1;
    return (int)strtol(piece + 3, NULL, 16);
}

size_t kf_pipeline_text(const kf_pipeline *p, const char *piece, size_t n, char *out) {
    int byte = p->bpe.byte_fallback ? fallback_byte(piece, n) : -1;
    if (byte >= 0) {
        out[0] = (char)byte;
        return 1;
    }
    if (!p->bpe.chars) {
        size_t n_bytes = kf_byte_level_bytes(piece, n, out);
        if (n_bytes == 0) memcpy(out, piece, n); /* an added token that is spelled as it is */
        return n_bytes ? n_bytes : n;
    }
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        bool space = n - i >= strlen(KF_METASPACE) && memcmp(piece + i, KF_METASPACE, strlen(KF_METASPACE)) == 0;
        out[n_out++] = space ? ' ' : piece[i];
        i += space ? strlen(KF_METASPACE) : 1;
    }
    return n_out;
}

void kf_pipeline_free(kf_pipeline *p) {
    kf_bpe_free(&p->bpe);
    kf_splitter_free(&p->splitter);
    free(p->added);
    free(p->control);
    *p = (kf_pipeline){0};
}
