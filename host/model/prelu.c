/* Stacking a feed-forward's weights so that relu does what prelu should (see prelu.h). */
#include "model/prelu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NAME.weight [n_out, n_in] and NAME.bias [n_out] as f32 on the host; *weight and *bias are to be freed on failure too.
 */
static kf_status read_linear(kf_loader *l, const char *name, size_t n_out, size_t n_in, float **weight, float **bias) {
    char tensor[KF_TENSOR_NAME_MAX / 2];
    const size_t shape[] = {n_out, n_in};
    snprintf(tensor, sizeof tensor, "%s.weight", name);
    KF_TRY(kf_load_host(l, tensor, shape, 2, weight));
    snprintf(tensor, sizeof tensor, "%s.bias", name);
    return kf_load_host(l, tensor, shape, 1, bias);
}

static kf_status pack(kf_loader *l, const char *name, const kf_weight_part *parts, size_t n_parts, size_t n_in,
                      kf_weight **out) {
    const kf_weight_desc desc = {.name = name, .parts = parts, .n_parts = n_parts, .n_in = n_in, .dtype = KF_F32};
    return kf_weight_pack(l->d, &desc, out);
}

static float *negated(const float *x, size_t n) {
    float *y = malloc(n * sizeof *y);
    for (size_t i = 0; y && i < n; i++)
        y[i] = -x[i];
    return y;
}

kf_status kf_load_prelu_up(kf_loader *l, const char *name, size_t n_out, size_t n_in, kf_weight **out) {
    float *weight = NULL, *bias = NULL;
    kf_status s = read_linear(l, name, n_out, n_in, &weight, &bias);
    float *minus_weight = s == KF_OK ? negated(weight, n_out * n_in) : NULL;
    float *minus_bias = s == KF_OK ? negated(bias, n_out) : NULL;
    if (s == KF_OK && (!minus_weight || !minus_bias))
        s = KF_FAIL(KF_ERR_NO_MEMORY, "weight %s: no memory for it on the host", name);
    const kf_weight_part parts[] = {
        {.data = weight, .bias = bias, .n_out = n_out, .bias_dtype = KF_F32},
        {.data = minus_weight, .bias = minus_bias, .n_out = n_out, .bias_dtype = KF_F32},
    };
    KF_STEP(s, pack(l, name, parts, 2, n_in, out));
    free(weight);
    free(bias);
    free(minus_weight);
    free(minus_bias);
    return s;
}

kf_status kf_load_prelu_down(kf_loader *l, const char *name, const char *slope, size_t n_out, size_t n_in,
                             kf_weight **out) {
    float *weight = NULL, *bias = NULL, *a = NULL;
    kf_status s = kf_load_host(l, slope, &(size_t){1}, 1, &a);
    KF_STEP(s, read_linear(l, name, n_out, n_in, &weight, &bias));
    float *wide = s == KF_OK ? malloc(n_out * 2 * n_in * sizeof *wide) : NULL;
    if (s == KF_OK && !wide) s = KF_FAIL(KF_ERR_NO_MEMORY, "weight %s: no memory for it on the host", name);
    for (size_t row = 0; s == KF_OK && row < n_out; row++)
        for (size_t i = 0; i < n_in; i++) {
            wide[row * 2 * n_in + i] = weight[row * n_in + i];
            wide[row * 2 * n_in + n_in + i] = -a[0] * weight[row * n_in + i];
        }
    const kf_weight_part part = {.data = wide, .bias = bias, .n_out = n_out, .bias_dtype = KF_F32};
    KF_STEP(s, pack(l, name, &part, 1, 2 * n_in, out));
    free(weight);
    free(bias);
    free(wide);
    free(a);
    return s;
}
