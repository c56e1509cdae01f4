/* Writing into a caller's kf_encoding. Internal to host/text. */
#ifndef KF_TEXT_ENCODING_H
#define KF_TEXT_ENCODING_H

#include "text/tokenizer.h"

static inline void kf_encoding_add(kf_encoding *e, int32_t id, int32_t start, int32_t end) {
    if (e->n < e->cap) {
        e->ids[e->n] = id;
        if (e->start) e->start[e->n] = start;
        if (e->end) e->end[e->n] = end;
        e->n++;
    }
    e->n_total++;
}

#endif
