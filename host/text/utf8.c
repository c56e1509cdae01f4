/* UTF-8 by the table of the Unicode standard, 3-7 (well-formed byte sequences). */
#include "text/utf8.h"

#include <utf8proc.h>

/* Bytes of the well-formed character at p, at most n; 0 where there is none. */
static size_t char_bytes(const unsigned char *p, size_t n) {
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
    size_t want = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (n < want) return 0;
    unsigned char low = 0x80, high = 0xBF; /* of the second byte */
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < want; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return want;
}

bool kf_utf8_valid(const char *text, size_t n_bytes, size_t *bad_at) {
    for (size_t at = 0; at < n_bytes;) {
        size_t n = char_bytes((const unsigned char *)text + at, n_bytes - at);
        if (n == 0) {
            if (bad_at) *bad_at = at;
            return false;
        }
        at += n;
    }
    return true;
}

uint32_t kf_utf8_next(const char *text, size_t *at) {
    const unsigned char *p = (const unsigned char *)text + *at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *at += 2;
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    }
    if (p[0] < 0xF0) {
        *at += 3;
        return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    }
    *at += 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

size_t kf_utf8_put(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t kf_utf8_length(const char *text, size_t n_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

size_t kf_utf8_offset(const char *text, size_t n_bytes, size_t cp) {
    for (size_t i = 0; i < n_bytes; i++)
        if (((unsigned char)text[i] & 0xC0) != 0x80 && cp-- == 0) return i;
    return n_bytes;
}

bool kf_utf8_blank(const char *text) {
    for (size_t at = 0; text[at];) {
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)kf_utf8_next(text, &at));
        if (c != UTF8PROC_CATEGORY_ZS && c != UTF8PROC_CATEGORY_ZL && c != UTF8PROC_CATEGORY_ZP &&
            c != UTF8PROC_CATEGORY_CC && c != UTF8PROC_CATEGORY_CF)
            return false;
    }
    return true;
}
