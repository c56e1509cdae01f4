/* Counts this program's allocations: its own malloc in place of the library's, where a sanitizer does not bring one.
 * To be included by one file of a program. */
#ifndef KF_TESTS_COUNT_MALLOC_H
#define KF_TESTS_COUNT_MALLOC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "own_malloc.h"

static atomic_size_t n_allocations;

#if OWN_MALLOC
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *aligned_alloc(size_t align, size_t n);

void *malloc(size_t n) {
    n_allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
    n_allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
    n_allocations++;
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n) {
    n_allocations++;
    return __libc_memalign(align, n);
}
#endif

#endif
