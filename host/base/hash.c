/* The hashes of hash.h (Fowler, Noll, Vo: draft-eastlake-fnv). */
#include "base/hash.h"

#include <string.h>

uint32_t kf_fnv32(uint32_t h, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)bytes[i]) * 16777619u;
    return h;
}

uint64_t kf_fnv64_words(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    size_t left = n;
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t), p += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        h = (h ^ word) * 1099511628211ull;
        h ^= h >> 32; /* the multiplication moves upwards only */
    }
    uint64_t last = 0;
    if (left) memcpy(&last, p, left);
    h = (h ^ last) * 1099511628211ull;
    return (h ^ n) * 1099511628211ull;
}
