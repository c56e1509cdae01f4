/* Chinese stop words: words that say nothing about what a text is about, for marking words and for search. */
#ifndef KF_TEXT_STOPWORDS_H
#define KF_TEXT_STOPWORDS_H

#include <stdbool.h>
#include <stddef.h>

/* word: UTF-8, n_bytes, not NUL-terminated. Any thread. */
bool kf_is_stop_word(const char *word, size_t n_bytes);

/* The whole list, in the order of its bytes; lives as long as the program. */
const char *const *kf_stop_words(size_t *n);

#endif
