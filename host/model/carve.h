/* One block of memory cut into parts: the same list of cuts is run twice, first with base NULL to learn the size.
 *
 *     static void carve_all(kf_carve *c, thing *t) { t->x = kf_carve_take(c, n, sizeof(float)); … }
 *     kf_carve c = {0};  carve_all(&c, t);  alloc(c.bytes, &base);  c = (kf_carve){.base = base};  carve_all(&c, t);
 */
#ifndef KF_MODEL_CARVE_H
#define KF_MODEL_CARVE_H

#include <stddef.h>

enum { KF_CARVE_ALIGN = 256 }; /* of device memory that a GPU reads whole lines of */

typedef struct kf_carve {
    char *base;   /* NULL: sizes only */
    size_t bytes; /* used so far */
} kf_carve;

/* n elements, aligned; NULL where base is. Sizes come from checked configs (files under 2^63 bytes), so no overflow. */
static inline void *kf_carve_take(kf_carve *c, size_t n, size_t element_bytes) {
    char *p = c->base ? c->base + c->bytes : NULL;
    c->bytes += (n * element_bytes + KF_CARVE_ALIGN - 1) / KF_CARVE_ALIGN * KF_CARVE_ALIGN;
    return p;
}

#endif
