/* The classes of characters that BERT's tokenizer asks for, for every code point as Hugging Face's tokenizers has
 * them. That library's categories are those of Unicode 8.0 and its combining classes those of 9.0, so what came later
 * counts as a plain character; decompositions and case are those of the present standard.
 * tests/golden/test_golden_tokenizer.c compares every code point. Internal to host/text; pure. */
#ifndef KF_TEXT_BERT_CHARS_H
#define KF_TEXT_BERT_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KF_DECOMPOSED_MAX = 8 };

/* Removed by clean_text: NUL, U+FFFD, control, format and private use. Tab, line feed and carriage return are not. */
bool kf_bert_is_dropped(uint32_t cp);

/* White_Space of the Unicode standard. */
bool kf_bert_is_space(uint32_t cp);

/* Unicode's punctuation, and every printable ASCII character that is neither letter, digit nor space. */
bool kf_bert_is_punctuation(uint32_t cp);

/* The blocks that BERT's authors count as Chinese characters: each becomes a word of its own. Kana and hangul are not.
 */
bool kf_bert_is_chinese(uint32_t cp);

/* A non-spacing mark (Mn): what strip_accents removes. */
bool kf_bert_is_accent(uint32_t cp);

/* Canonical decomposition of cp into out[0 .. return), without ordering. */
size_t kf_bert_decompose(uint32_t cp, uint32_t out[KF_DECOMPOSED_MAX]);

/* Lower case of cp in out[0 .. return): two code points for U+0130, else one. */
size_t kf_bert_lower(uint32_t cp, uint32_t out[2]);

/* Canonical combining class, 0 for a starter. */
unsigned kf_bert_combining_class(uint32_t cp);

#endif
