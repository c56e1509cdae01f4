/* A bump allocator of fixed capacity: one malloc at the start, none afterwards, everything freed at once.
 *
 *     kf_arena a;
 *     KF_TRY(kf_arena_init(&a, 64 << 10));
 *     int *ids = kf_arena_alloc(&a, n * sizeof *ids);   // NULL when the capacity is used up
 *     kf_arena_reset(&a);                               // all of it is free again
 *     kf_arena_free(&a);
 *
 * Not thread-safe: an arena belongs to whoever owns the thing that it holds.
 */
#ifndef KF_BASE_ARENA_H
#define KF_BASE_ARENA_H

#include <stddef.h>

#include "base/status.h"

typedef struct kf_arena {
    unsigned char *base;
    size_t bytes_cap;
    size_t bytes_used;
    size_t bytes_used_max; /* since init; for the ledger and for tests */
} kf_arena;

/* KF_OK; KF_ERR_NO_MEMORY. The arena owns its block until kf_arena_free. */
kf_status kf_arena_init(kf_arena *a, size_t bytes_cap);
void kf_arena_free(kf_arena *a);

/* `bytes` aligned to 16, not zeroed, valid until reset or free. NULL where it does not fit; no error record is set,
 * since only the caller knows what the limit is called. A request for 0 bytes gives a valid pointer. */
void *kf_arena_alloc(kf_arena *a, size_t bytes);

/* As above, `n * size` checked for overflow and zeroed. */
void *kf_arena_calloc(kf_arena *a, size_t n, size_t size);

/* A NUL-terminated copy of text[0 .. n). NULL where it does not fit. */
char *kf_arena_strndup(kf_arena *a, const char *text, size_t n);

void kf_arena_reset(kf_arena *a);

#endif
