/* UTF-8 as kefu needs it: validity, code points, offsets. Case, categories and normal forms are utf8proc's. */
#ifndef KF_TEXT_UTF8_H
#define KF_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True for well-formed UTF-8 (no surrogates, no overlong forms, up to U+10FFFF). *bad_at: the first bad byte. */
bool kf_utf8_valid(const char *text, size_t n_bytes, size_t *bad_at);

/* True where a well-formed text holds nothing to be read: spaces, controls and formats (U+200B) alone, or no character.
 */
bool kf_utf8_blank(const char *text);

/* Decodes one code point of valid UTF-8 at text[*at], advances *at. */
uint32_t kf_utf8_next(const char *text, size_t *at);

/* Writes cp at out[0..4), returns its bytes (1 to 4). */
size_t kf_utf8_put(uint32_t cp, char out[4]);

/* Code points in valid UTF-8. */
size_t kf_utf8_length(const char *text, size_t n_bytes);

/* The byte at which code point number `cp` starts; n_bytes when the text has no more than cp. */
size_t kf_utf8_offset(const char *text, size_t n_bytes, size_t cp);

#endif
