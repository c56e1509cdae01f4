/* The two hashes that rooms share. Both tell contents apart; neither is a defence against somebody who wants two to be
 * equal. */
#ifndef KF_BASE_HASH_H
#define KF_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 32 bits, for tables in memory: h is KF_FNV32_START, or the hash of what comes before. */
#define KF_FNV32_START 2166136261u
uint32_t kf_fnv32(uint32_t h, const char *bytes, size_t n);

/* FNV-1a over 64-bit words, for contents of files: the last word filled up with zeros and the length mixed in. An
 * eighth of the multiplications of the bytewise form. h is KF_FNV64_START, or the hash of what comes before. */
#define KF_FNV64_START 14695981039346656037ull
uint64_t kf_fnv64_words(uint64_t h, const void *data, size_t n);

#endif
