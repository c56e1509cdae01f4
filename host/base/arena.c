/* The bump allocator of arena.h. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16 };

kf_status kf_arena_init(kf_arena *a, size_t bytes_cap) {
    unsigned char *base = malloc(bytes_cap ? bytes_cap : 1);
    if (!base) return KF_FAIL(KF_ERR_NO_MEMORY, "arena: %zu bytes asked for, the system has none", bytes_cap);
    *a = (kf_arena){.base = base, .bytes_cap = bytes_cap};
    return KF_OK;
}

void kf_arena_free(kf_arena *a) {
    free(a->base);
    *a = (kf_arena){0};
}

void *kf_arena_alloc(kf_arena *a, size_t bytes) {
    size_t start = (a->bytes_used + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (start > a->bytes_cap || bytes > a->bytes_cap - start) return NULL;
    a->bytes_used = start + bytes;
    if (a->bytes_used > a->bytes_used_max) a->bytes_used_max = a->bytes_used;
    return a->base + start;
}

void *kf_arena_calloc(kf_arena *a, size_t n, size_t size) {
    if (size && n > SIZE_MAX / size) return NULL;
    void *p = kf_arena_alloc(a, n * size);
    if (p) memset(p, 0, n * size);
    return p;
}

char *kf_arena_strndup(kf_arena *a, const char *text, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *p = kf_arena_alloc(a, n + 1);
    if (!p) return NULL;
    if (n) memcpy(p, text, n);
    p[n] = 0;
    return p;
}

void kf_arena_reset(kf_arena *a) {
    a->bytes_used = 0;
}
