/* generation_config.json → the defaults of a request (generation.h). */
#include "kefud/generation.h"

#include <math.h>
#include <stdio.h>

#include "base/file.h"

static const kf_wire_limits own = {.default_max_tokens = 64,
                                   .default_temperature = 0.3f,
                                   .default_top_p = 0.9f,
                                   .default_top_k = 40,
                                   .default_repetition_penalty = 1.1f};

/* The number `key`, or fallback where it is absent or null. */
static kf_status number(const json_t *root, const char *path, const char *key, double min, double max, double fallback,
                        double *out) {
    const json_t *v = json_object_get(root, key);
    if (!v || json_is_null(v)) {
        *out = fallback;
        return KF_OK;
    }
    double value = json_number_value(v);
    if (!json_is_number(v) || !(value >= min && value <= max))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s: a number from %g to %g wanted", path, key, min, max);
    *out = value;
    return KF_OK;
}

static kf_status take(const json_t *root, const char *path, kf_wire_limits *limits) {
    double max_tokens, temperature, top_k, top_p, penalty;
    KF_TRY(number(root, path, "max_new_tokens", 1, 1e6, own.default_max_tokens, &max_tokens));
    KF_TRY(number(root, path, "temperature", 0, 2, (double)own.default_temperature, &temperature));
    KF_TRY(number(root, path, "top_k", 0, 1e6, own.default_top_k, &top_k));
    KF_TRY(number(root, path, "top_p", 1e-6, 1, (double)own.default_top_p, &top_p));
    KF_TRY(number(root, path, "repetition_penalty", 1e-6, 10, (double)own.default_repetition_penalty, &penalty));
    if (json_is_false(json_object_get(root, "do_sample"))) temperature = 0;
    limits->default_max_tokens = (uint32_t)fmin(max_tokens, limits->max_tokens);
    limits->default_temperature = (float)temperature;
    limits->default_top_k = (uint32_t)top_k;
    limits->default_top_p = (float)top_p;
    limits->default_repetition_penalty = (float)penalty;
    return KF_OK;
}

kf_status kf_generation_defaults(const char *models_dir, kf_wire_limits *limits) {
    char path[4096];
    json_t *root; /* NULL: no such file, and every value is the fallback */
    if (snprintf(path, sizeof path, "%s/decoder/generation_config.json", models_dir) >= (int)sizeof path)
        return KF_FAIL(KF_ERR_TOO_LARGE, "--models: the path of generation_config.json is over %zu bytes", sizeof path);
    KF_TRY(kf_json_read_optional(path, KF_JSON_BYTES_MAX, JSON_REJECT_DUPLICATES, &root));
    kf_status s = take(root, path, limits);
    json_decref(root);
    return s;
}
