/* Split patterns are written for Oniguruma, which Hugging Face's tokenizers runs; here PCRE2 runs them. Internal to
 * host/text. */
#ifndef KF_TEXT_PATTERN_H
#define KF_TEXT_PATTERN_H

#include <stddef.h>

#include "base/status.h"

/* Writes the pattern so that PCRE2 (UTF, UCP, MULTILINE) means what Oniguruma means by it: \s is White_Space (PCRE2
 * adds U+180E), \w has marks, \h is a hexadecimal digit, \p{Han} a script and not its extensions. *out is the
 * caller's to free. KF_ERR_UNSUPPORTED: a class inside a class, or && between two; KF_ERR_NO_MEMORY. */
kf_status kf_pattern_translate(const char *where, const char *pattern, size_t n, char **out);

#endif
