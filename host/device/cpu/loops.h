/* The inner loops of the CPU device, once for each instruction set.
 *
 * The source is loops/ (headers written on vectors of VW floats). loops_generic.c, loops_avx2.c and loops_avx512.c
 * compile it for 4, 8 and 16 floats; the best table that the processor can run is taken when the device is opened.
 * The order of every sum is fixed within a table, so a machine gives the same bits every time. Where the processor
 * has fused multiply-add, every product that is summed is fused; written out, never left to the compiler.
 */
#ifndef KF_DEVICE_CPU_LOOPS_H
#define KF_DEVICE_CPU_LOOPS_H

#include "device/device.h"

/* Weights lie in panels of PANEL outputs, zeros behind the last: f32 [n_panels, n_in_padded, PANEL]; bf16
 * [n_panels, n_in_padded / 2, PANEL, 2]. n_in is padded with zeros to a multiple of 16 or 32. These are oneDNN's
 * BA16a64b and BA16a64b2a, so that one packed copy serves its products and ours. */
enum { KF_CPU_PANEL = 64, KF_CPU_PAIRS_DEPTH = 32 };

static inline size_t kf_cpu_panel_depth(size_t n_in, kf_dtype dtype) {
    size_t multiple = dtype == KF_F32 ? 16 : KF_CPU_PAIRS_DEPTH;
    return (n_in + multiple - 1) / multiple * multiple;
}

/* Rows that one call of a product takes at most: what the registers of AVX-512 hold. */
enum { KF_CPU_PRODUCT_ROWS = 6 };

/* One panel's product: sums [n_rows, PANEL] from x, rows x_stride elements apart. Over n_in in order, restarted from
 * 0 every k_block inputs and the parts added in order; k_block is a multiple of 32, or n_in's panel depth. */
typedef struct kf_cpu_product {
    float *sums;
    const void *x; /* f32, or bf16 with zeros up to the padded n_in */
    size_t x_stride, n_rows;
    const void *panel;
    size_t n_in, k_block;
} kf_cpu_product;

/* An online softmax between blocks of keys. */
typedef struct kf_cpu_softmax {
    float max;
    float sums[KF_KV_BLOCK_SIZE]; /* one a place in the block */
} kf_cpu_softmax;

typedef struct kf_cpu_query {
    const float *q; /* [head_dim] */
    float *acc;     /* [head_dim], zeros before the first block; the output after attend_end */
    kf_cpu_softmax *softmax;
} kf_cpu_query;

/* A block of n keys, all of which a call's queries see. */
typedef struct kf_cpu_keys {
    const float *keys; /* [head_dim, 16], from transpose_keys */
    const float *v;    /* n rows */
    size_t v_stride, n;
} kf_cpu_keys;

typedef struct kf_cpu_loops {
    const char *name;

    void (*product_f32)(const kf_cpu_product *p);  /* x and the panel f32: one chain over K */
    void (*product_bf16)(const kf_cpu_product *p); /* x f32, the panel bf16: the same chain */
    /* x and the panel bf16, in the order of an instruction, else NULL: */
    void (*product_dot)(const kf_cpu_product *p);  /* vdpbf16ps: a chain of pairs */
    void (*product_tile)(const kf_cpu_product *p); /* tdpbf16ps: 16 pairs, even and odd apart, then their sum */

    void (*to_bf16)(uint16_t *out, const float *x, size_t n); /* to nearest, ties to even */

    /* out = act(sums + bias) + residual for n elements of a row; bias and residual may be NULL, out may be sums or
     * residual. */
    void (*finish)(float *out, const float *sums, const float *bias, kf_activation act, const float *residual,
                   size_t n);
    void (*activate)(float *out, const float *x, kf_activation act, size_t n);
    void (*gated)(float *out, const float *gate, const float *up, kf_activation act, size_t n);
    void (*layernorm)(float *out, const float *x, const float *gamma, const float *beta, float eps, size_t n);
    void (*rmsnorm)(float *out, const float *x, const float *gamma, float eps, size_t n);

    /* keys [head_dim, 16] from n rows of k, the rest 0. */
    void (*transpose_keys)(float *keys, const float *k, size_t stride, size_t n, size_t head_dim);
    void (*attend)(const kf_cpu_query *queries, size_t n_queries, const kf_cpu_keys *k, size_t head_dim, float scale);
    void (*attend_end)(const kf_cpu_softmax *s, float *acc, size_t head_dim);

    void (*exp)(float *out, const float *x, float max, size_t n); /* out = exp(x - max) */
    float (*max)(const float *x, size_t n);                       /* n > 0 */
    double (*sum_exp)(const float *x, float max, size_t n);       /* of exp(x - max) */
    bool (*all_finite)(const float *x, size_t n);
} kf_cpu_loops;

/* The best table that this processor can run, or the one of `most` (kf_device_opts.cpu_isa). KF_ERR_UNSUPPORTED. */
kf_status kf_cpu_loops_choose(const char *most, kf_cpu_loops *out);

extern const kf_cpu_loops kf_cpu_loops_generic;
#ifdef __x86_64__
extern const kf_cpu_loops kf_cpu_loops_avx2, kf_cpu_loops_avx512;
void kf_cpu_product_dot(const kf_cpu_product *p);  /* needs avx512_bf16 */
void kf_cpu_product_tile(const kf_cpu_product *p); /* needs avx512bw; worth it where there is amx_bf16 */
void kf_cpu_to_bf16_avx512(uint16_t *out, const float *x, size_t n);
#endif

#endif
