/* Regular expressions, those of them that are regular: the common part of ECMA 262 and PCRE.
 *
 * Taken: characters, `.` (any but a line feed), [classes], \d \w \s \D \W \S (ASCII, as PCRE2 without UCP), \t \n \r \f
 * \v, \xHH, \x{H…}, \uHHHH, \u{H…}, ( ), (?: ), (?<name> ), |, * + ? {n} {n,} {n,m} and their lazy forms (which match
 * the same texts), ^ and $ at the ends of the whole or of its alternatives.
 * Refused by name: back-references, look-around, \b, \p, anchors elsewhere, possessive and atomic groups, flags.
 * Internal to host/grammar.
 */
#ifndef KF_GRAMMAR_REGEX_H
#define KF_GRAMMAR_REGEX_H

#include "grammar/nfa.h"

enum { KF_REGEX_BYTES_MAX = 4096 };

typedef enum kf_anchoring {
    KF_REGEX_WHOLE, /* the whole text matches, with or without ^ and $ */
    KF_REGEX_SEARCH /* a part of the text matches, as JSON schema has it: all of it only from ^ to $ */
} kf_anchoring;

/* The state that begins a text of the expression, spelled so, and then `to`. KF_NFA_NONE: there is none, or n->status:
 * KF_ERR_INVALID: no regular expression; KF_ERR_UNSUPPORTED: what is not taken; KF_ERR_TOO_LARGE. The text names the
 * byte and begins with `what`. */
int32_t kf_regex_build(kf_nfa *n, const char *what, const char *pattern, size_t n_bytes, kf_anchoring anchoring,
                       kf_spelling spelling, int32_t to);

#endif
