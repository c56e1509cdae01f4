/* utf8proc's tables (Unicode 15), less what came after Unicode 8.0. */
#include "text/bert_chars.h"

#include <utf8proc.h>

typedef struct range {
    uint32_t first, last;
} range;

/* Marks (Mn), punctuation (P*) and format characters (Cf) that are newer than Unicode 8.0, in order. Code points of
 * other categories may lie inside a range: nobody asks for them. */
static const range newer[] = {
    {0x61D, 0x61D},     {0x7FD, 0x7FD},     {0x890, 0x8E2},     {0x9FD, 0x9FE},     {0xA76, 0xA76},
    {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC3C},     {0xC77, 0xC77},     {0xC84, 0xC84},
    {0xD00, 0xD00},     {0xD3B, 0xD3C},     {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},
    {0x180F, 0x1886},   {0x1ABF, 0x1ACE},   {0x1B7D, 0x1B7E},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E5D},
    {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},   {0x10D24, 0x10F89},
    {0x11070, 0x11074}, {0x110C2, 0x110CD}, {0x111C9, 0x111C9}, {0x111CF, 0x111CF}, {0x1123E, 0x11241},
    {0x1133B, 0x1133B}, {0x11438, 0x1145E}, {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1182F, 0x11FFF},
    {0x12FF1, 0x13455}, {0x16E97, 0x16F4F}, {0x16FE2, 0x16FE4}, {0x1CF00, 0x1CF46}, {0x1E000, 0x1E4EF},
    {0x1E944, 0x1E95F},
};

/* Marks that are newer than Unicode 9.0, whose combining classes that library does not know, in the same way. */
static const range unordered[] = {
    {0x7FD, 0x7FD},     {0x898, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},
    {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},
    {0x10D24, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x11A99},
    {0x11D42, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E4EF},
};

static bool is_in(const range *ranges, size_t n, uint32_t cp) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (cp > ranges[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && cp >= ranges[low].first;
}

static bool is_newer(uint32_t cp) {
    return is_in(newer, sizeof newer / sizeof *newer, cp);
}

static utf8proc_category_t category(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool kf_bert_is_dropped(uint32_t cp) {
    if (cp == 0 || cp == 0xFFFD) return true;
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CO: return true;
    case UTF8PROC_CATEGORY_CF: return !is_newer(cp);
    default: return false;
    }
}

bool kf_bert_is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= '\t' && cp <= '\r');
    if (cp == 0x85) return true;
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

bool kf_bert_is_punctuation(uint32_t cp) {
    if (cp < 0x80) {
        bool letter_or_digit = (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
        return cp > ' ' && cp < 0x7F && !letter_or_digit;
    }
    if (cp == 0x166D || cp == 0x111C9) return true; /* punctuation in Unicode 8.0 */
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO && !is_newer(cp);
}

/* U+2B820 to U+2B91F are missing there too. */
bool kf_bert_is_chinese(uint32_t cp) {
    if (cp < 0x3400) return false;
    return (cp >= 0x4E00 && cp <= 0x9FFF) || cp <= 0x4DBF || (cp >= 0xF900 && cp <= 0xFAFF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0x2F800 && cp <= 0x2FA1F);
}

bool kf_bert_is_accent(uint32_t cp) {
    if (cp < 0x300) return false;
    if (cp == 0x1734) return true; /* a mark of another kind since Unicode 14 */
    return category(cp) == UTF8PROC_CATEGORY_MN && !is_newer(cp);
}

size_t kf_bert_decompose(uint32_t cp, uint32_t out[KF_DECOMPOSED_MAX]) {
    if (cp >= 0xC0 && cp != 0x11938) { /* U+11938: Unicode 13 */
        utf8proc_int32_t parts[KF_DECOMPOSED_MAX] = {0};
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)cp, parts, KF_DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, NULL);
        if (n > 0 && n <= KF_DECOMPOSED_MAX) {
            for (utf8proc_ssize_t i = 0; i < n; i++)
                out[i] = (uint32_t)parts[i];
            return (size_t)n;
        }
    }
    out[0] = cp;
    return 1;
}

size_t kf_bert_lower(uint32_t cp, uint32_t out[2]) {
    if (cp == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    if (cp < 0x80)
        out[0] = cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    else
        out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    return 1;
}

unsigned kf_bert_combining_class(uint32_t cp) {
    unsigned class = cp < 0x300 ? 0 : (unsigned)utf8proc_get_property((utf8proc_int32_t)cp)->combining_class;
    return class && is_in(unordered, sizeof unordered / sizeof *unordered, cp) ? 0 : class;
}
