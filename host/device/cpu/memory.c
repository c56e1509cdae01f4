/* Memory of the CPU device: counted, aligned to 64 bytes, refused with both figures where it does not fit. */
#include "device/cpu/cpu.h"

#include <stdlib.h>

enum { ALIGN = 64 };

/* Before every block, in a cache line of its own. */
typedef union block_head {
    size_t bytes;
    char line[ALIGN];
} block_head;

kf_status kf_cpu_alloc(kf_device *d, size_t bytes, const char *what, void **out) {
    size_t left = d->memory_bytes > d->memory_bytes_used ? d->memory_bytes - d->memory_bytes_used : 0;
    block_head *b = NULL;
    if (bytes <= left && bytes <= SIZE_MAX - 2 * ALIGN)
        b = aligned_alloc(ALIGN, sizeof *b + (bytes + ALIGN - 1) / ALIGN * ALIGN);
    if (!b)
        return KF_FAIL(KF_ERR_NO_MEMORY, "%s: %zu bytes asked for, %zu of %zu bytes are left on device %s", what, bytes,
                       left, d->memory_bytes, d->name);
    b->bytes = bytes;
    d->memory_bytes_used += bytes;
    *out = b + 1;
    return KF_OK;
}

void kf_cpu_free(kf_device *d, void *p) {
    if (!p) return;
    block_head *b = (block_head *)p - 1;
    d->memory_bytes_used -= b->bytes;
    free(b);
}

kf_status kf_cpu_alloc_pinned(kf_device *d, size_t bytes, void **out) {
    (void)d;
    void *p = aligned_alloc(ALIGN, (bytes / ALIGN + 1) * ALIGN);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "host buffer: %zu bytes asked for, the system has none", bytes);
    *out = p;
    return KF_OK;
}

void kf_cpu_free_pinned(kf_device *d, void *p) {
    (void)d;
    free(p);
}
