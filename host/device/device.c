/* What is the same for every device: names of formats, opening by name, closing. */
#include "device/device.h"

#include <string.h>

static const struct {
    size_t bytes;
    const char *name;
} dtypes[KF_N_DTYPES] = {
    [KF_F32] = {4, "F32"},
    [KF_BF16] = {2, "BF16"},
    [KF_F16] = {2, "F16"},
    [KF_I32] = {4, "I32"},
};

size_t kf_dtype_bytes(kf_dtype t) {
    return (unsigned)t < KF_N_DTYPES ? dtypes[t].bytes : 0;
}

const char *kf_dtype_name(kf_dtype t) {
    return (unsigned)t < KF_N_DTYPES ? dtypes[t].name : "unknown";
}

const char *const kf_device_names[] = {"cpu", "cuda", "null", NULL};

kf_status kf_device_open(const char *name, const kf_device_opts *o, kf_device **out) {
    static kf_status (*const open[])(const kf_device_opts *, kf_device **) = {kf_cpu_open, kf_cuda_open, kf_null_open};
    for (size_t i = 0; kf_device_names[i]; i++)
        if (!strcmp(name, kf_device_names[i])) return open[i](o, out);
    return KF_FAIL(KF_ERR_INVALID, "device \"%.32s\": there are cpu, cuda and null; change --device", name);
}

void kf_device_close(kf_device *d) {
    if (d) d->ops->close(d);
}

kf_dtype kf_device_fastest_dtype(const char *name) {
    if (!strcmp(name, "cuda")) return KF_BF16;
#ifdef __x86_64__
    if (!strcmp(name, "cpu") && __builtin_cpu_supports("avx512bf16")) return KF_BF16;
#endif
    return KF_F32;
}
