/* How replies are written where a request does not say: the decoder's generation_config.json, else kefud's own. */
#ifndef KF_KEFUD_GENERATION_H
#define KF_KEFUD_GENERATION_H

#include "wire/wire.h"

/* Fills the defaults of sampling in *limits from DIR/decoder/generation_config.json, as transformers reads it
 * (max_new_tokens, do_sample, temperature, top_k, top_p, repetition_penalty); what is not there keeps kefud's own, and
 * so does everything where there is no such file. limits->max_tokens is set before, and bounds default_max_tokens.
 * KF_ERR_CORRUPT: the file is no JSON, or a value is out of the wire's range (the text names it); KF_ERR_TOO_LARGE;
 * KF_ERR_IO: it is there and cannot be read. */
kf_status kf_generation_defaults(const char *models_dir, kf_wire_limits *limits);

#endif
