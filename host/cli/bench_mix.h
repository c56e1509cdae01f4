/* What a load test asks: messages from a file, or a built-in list of what shoppers type.
 *
 * A file has one message a line: plain text, or a JSON object {"text": "…", "max_tokens": 32, "understand": true} of
 * which only `text` must be there; other fields are ignored, so a labelled set for `kefu eval` will do as well.
 */
#ifndef KF_CLI_BENCH_MIX_H
#define KF_CLI_BENCH_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct kf_mix_item {
    char *text;
    uint32_t max_tokens; /* 0: not said */
    bool understand;
} kf_mix_item;

typedef struct kf_mix {
    kf_mix_item *items; /* [n] */
    size_t n, cap;
    size_t text_bytes_max;
} kf_mix;

/* path NULL: the built-in list. *out is the caller's to free. KF_ERR_INVALID names file, line and field; the statuses
 * of kf_lines_open; KF_ERR_NO_MEMORY. */
kf_status kf_mix_read(const char *path, kf_mix *out);
void kf_mix_free(kf_mix *m);

#endif
