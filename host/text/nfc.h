/* Unicode's normal form C, with the place that each character has in the original text. Internal to host/text; pure. */
#ifndef KF_TEXT_NFC_H
#define KF_TEXT_NFC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: the text (valid UTF-8) is in form C as it stands. True: it may not be. */
bool kf_nfc_needed(const char *text, size_t n_bytes);

/* Normalises into out, which has room for 3 * n_bytes bytes (the most that form C can take), and returns how many were
 * written. source [3 * n_bytes]: for each code point of out the code point of text that it comes from, counted from 0;
 * they are those of Hugging Face's NormalizedString, which gives a composed character its base's place. */
size_t kf_nfc(const char *text, size_t n_bytes, char *out, int32_t *source);

#endif
