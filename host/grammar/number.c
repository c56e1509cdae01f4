/* Ranges of numbers, digit by digit; see number.h. */
#include "grammar/number.h"

enum { DIGITS_MAX = 18, FRACTION_MAX = 15 };

/* n digits of any kind. */
static int32_t digits(kf_nfa *n, size_t count, int32_t to) {
    while (count--)
        to = kf_nfa_range(n, '0', '9', to);
    return to;
}

static int32_t digit_range(kf_nfa *n, char lo, char hi, int32_t to) {
    return lo <= hi ? kf_nfa_range(n, (uint8_t)lo, (uint8_t)hi, to) : KF_NFA_NONE;
}

/* count digits that are at least those of `low`. */
static int32_t from_low(kf_nfa *n, const char *low, size_t count, int32_t to) {
    if (count == 0) return to;
    int32_t above = digit_range(n, (char)(low[0] + 1), '9', digits(n, count - 1, to));
    return kf_nfa_either(n, digit_range(n, low[0], low[0], from_low(n, low + 1, count - 1, to)), above);
}

static int32_t to_high(kf_nfa *n, const char *high, size_t count, int32_t to) {
    if (count == 0) return to;
    int32_t below = digit_range(n, '0', (char)(high[0] - 1), digits(n, count - 1, to));
    return kf_nfa_either(n, digit_range(n, high[0], high[0], to_high(n, high + 1, count - 1, to)), below);
}

/* count digits from low to high. */
static int32_t between(kf_nfa *n, const char *low, const char *high, size_t count, int32_t to) {
    if (count == 0) return to;
    if (low[0] == high[0]) return digit_range(n, low[0], low[0], between(n, low + 1, high + 1, count - 1, to));
    int32_t inner = digit_range(n, (char)(low[0] + 1), (char)(high[0] - 1), digits(n, count - 1, to));
    int32_t lowest = digit_range(n, low[0], low[0], from_low(n, low + 1, count - 1, to));
    int32_t highest = digit_range(n, high[0], high[0], to_high(n, high + 1, count - 1, to));
    return kf_nfa_either(n, inner, kf_nfa_either(n, lowest, highest));
}

static void spell(uint64_t v, size_t count, char out[DIGITS_MAX]) {
    for (size_t i = count; i-- > 0; v /= 10)
        out[i] = (char)('0' + v % 10);
}

/* A whole number of lo to hi without a sign. */
static int32_t magnitude(kf_nfa *n, uint64_t lo, uint64_t hi, int32_t to) {
    int32_t all = KF_NFA_NONE;
    uint64_t least = 0, most = 9; /* of that many digits */
    for (size_t count = 1; count <= DIGITS_MAX; count++, least = most + 1, most = most * 10 + 9) {
        uint64_t from = lo > least ? lo : least, up_to = hi < most ? hi : most;
        char low[DIGITS_MAX], high[DIGITS_MAX];
        if (from > up_to) continue;
        if (from == least && up_to == most) {
            char first = count == 1 ? '0' : '1';
            all = kf_nfa_either(n, all, digit_range(n, first, '9', digits(n, count - 1, to)));
            continue;
        }
        spell(from, count, low);
        spell(up_to, count, high);
        all = kf_nfa_either(n, all, between(n, low, high, count, to));
    }
    return all;
}

static int64_t cut(int64_t v) {
    return v < -KF_WHOLE_MAX ? -KF_WHOLE_MAX : v > KF_WHOLE_MAX ? KF_WHOLE_MAX : v;
}

int32_t kf_nfa_whole(kf_nfa *n, int64_t min, int64_t max, int32_t to) {
    int32_t all = KF_NFA_NONE;
    if (min > max || min > KF_WHOLE_MAX || max < -KF_WHOLE_MAX) return KF_NFA_NONE;
    min = cut(min);
    max = cut(max);
    if (max >= 0) all = magnitude(n, (uint64_t)(min > 0 ? min : 0), (uint64_t)max, to);
    if (min >= 0) return all;
    int32_t below = magnitude(n, (uint64_t)(max < 0 ? -max : 1), (uint64_t)-min, to);
    return kf_nfa_either(n, all, kf_nfa_text(n, "-", 1, below));
}

/* Nothing, or a point and digits. */
static int32_t fraction(kf_nfa *n, int32_t to) {
    int32_t some = to;
    for (int i = 1; i < FRACTION_MAX; i++)
        some = kf_nfa_either(n, kf_nfa_range(n, '0', '9', some), to);
    return kf_nfa_either(n, to, kf_nfa_text(n, ".", 1, kf_nfa_range(n, '0', '9', some)));
}

/* A decimal of lo to hi without a sign: below hi with any fraction, or hi with ".0" or none. */
static int32_t decimal_magnitude(kf_nfa *n, int64_t lo, int64_t hi, int32_t to) {
    int32_t whole = kf_nfa_either(n, to, kf_nfa_text(n, ".0", 2, to));
    int32_t all = magnitude(n, (uint64_t)hi, (uint64_t)hi, whole);
    if (hi > lo) all = kf_nfa_either(n, all, magnitude(n, (uint64_t)lo, (uint64_t)hi - 1, fraction(n, to)));
    return all;
}

int32_t kf_nfa_decimal(kf_nfa *n, int64_t min, int64_t max, int32_t to) {
    int32_t all = KF_NFA_NONE;
    if (min > max || min > KF_WHOLE_MAX || max < -KF_WHOLE_MAX) return KF_NFA_NONE;
    min = cut(min);
    max = cut(max);
    if (max >= 0) all = decimal_magnitude(n, min > 0 ? min : 0, max, to);
    if (min >= 0) return all;
    int32_t below = decimal_magnitude(n, max < 0 ? -max : 0, -min, to);
    return kf_nfa_either(n, all, kf_nfa_text(n, "-", 1, below));
}

int32_t kf_nfa_number(kf_nfa *n, int32_t to) {
    int32_t power = kf_nfa_range(n, '0', '9', kf_nfa_either(n, kf_nfa_range(n, '0', '9', to), to));
    int32_t sign =
        kf_nfa_either(n, power, kf_nfa_either(n, kf_nfa_text(n, "-", 1, power), kf_nfa_text(n, "+", 1, power)));
    int32_t e = kf_nfa_either(n, kf_nfa_text(n, "e", 1, sign), kf_nfa_text(n, "E", 1, sign));
    int32_t end = fraction(n, kf_nfa_either(n, to, e));
    int32_t all = magnitude(n, 0, (uint64_t)KF_WHOLE_MAX, end);
    return kf_nfa_either(n, all, kf_nfa_text(n, "-", 1, all));
}
