/* Chooses the inner loops when a device is opened. */
#include "device/cpu/loops.h"

#include <string.h>

static const char *const names[] = {"generic", "avx2", "avx512", "avx512_bf16"};
enum { GENERIC, AVX2, AVX512, AVX512_BF16, N_ISAS };

/* The most that the processor has. */
static int isa_there(void) {
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return GENERIC;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return AVX2;
    return __builtin_cpu_supports("avx512bf16") ? AVX512_BF16 : AVX512;
#else
    return GENERIC;
#endif
}

static kf_cpu_loops table_of(int isa) {
    kf_cpu_loops loops = kf_cpu_loops_generic;
#ifdef __x86_64__
    if (isa >= AVX2) loops = kf_cpu_loops_avx2;
    if (isa >= AVX512) loops = kf_cpu_loops_avx512;
    if (isa >= AVX512_BF16) {
        loops.product_dot = kf_cpu_product_dot;
        loops.product_tile = kf_cpu_product_tile;
        loops.to_bf16 = kf_cpu_to_bf16_avx512;
    }
#endif
    loops.name = names[isa];
    return loops;
}

kf_status kf_cpu_loops_choose(const char *most, kf_cpu_loops *out) {
    int isa = isa_there();
    if (most) {
        int wanted = 0;
        while (wanted < N_ISAS && strcmp(names[wanted], most))
            wanted++;
        if (wanted > isa)
            return KF_FAIL(KF_ERR_UNSUPPORTED, "device cpu: instruction set \"%.32s\": this processor has %s at most",
                           most, names[isa]);
        isa = wanted;
    }
    *out = table_of(isa);
    return KF_OK;
}
