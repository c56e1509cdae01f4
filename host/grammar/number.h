/* JSON numbers as automata: whole numbers and decimals between whole bounds, each number in one spelling (no leading
 * zero, no -0 among whole numbers). Internal to host/grammar. */
#ifndef KF_GRAMMAR_NUMBER_H
#define KF_GRAMMAR_NUMBER_H

#include "grammar/nfa.h"

/* Whole numbers of at most 18 digits: they fit in 64 bits wherever they are read. */
#define KF_WHOLE_MAX INT64_C(999999999999999999)

/* A whole number from min to max, then `to`; KF_NFA_NONE where max < min. Bounds beyond 18 digits are cut to them. */
int32_t kf_nfa_whole(kf_nfa *n, int64_t min, int64_t max, int32_t to);

/* A decimal from min to max: up to 15 digits after the point, no exponent. */
int32_t kf_nfa_decimal(kf_nfa *n, int64_t min, int64_t max, int32_t to);

/* Any number: as kf_nfa_decimal without bounds, with an exponent of at most two digits or none. */
int32_t kf_nfa_number(kf_nfa *n, int32_t to);

#endif
