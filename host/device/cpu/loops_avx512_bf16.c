/* Products in the order in which the processor's bf16 instructions sum, so that a decoder's rows have the bits of
 * oneDNN's products. Both instructions read denormals as 0 and flush what comes out as one. */
#ifdef __AVX512BF16__
#include "device/cpu/loops.h"

#include <immintrin.h>

enum { VECS = KF_CPU_PANEL / 16, DOT_ROWS = 6, TILE_ROWS = 2, PAIRS = KF_CPU_PAIRS_DEPTH / 2 };

#define INLINE static inline __attribute__((always_inline))

/* Row r of the inputs, as pairs. */
INLINE const uint32_t *pairs_of(const kf_cpu_product *p, size_t r) {
    return (const uint32_t *)((const uint16_t *)p->x + r * p->x_stride);
}

INLINE void add_part(float *sum, __m512 part, bool first) {
    _mm512_storeu_ps(sum, first ? part : _mm512_add_ps(_mm512_loadu_ps(sum), part));
}

/* ---- vdpbf16ps ---- */

INLINE void dot_rows(const kf_cpu_product *p, size_t row, size_t rows) {
    const __m512i *panel = p->panel;
    size_t n_pairs = (p->n_in + 1) / 2, block = p->k_block / 2;
    for (size_t first = 0; first < n_pairs; first += block) {
        size_t last = n_pairs - first < block ? n_pairs : first + block;
        __m512 acc[DOT_ROWS][VECS];
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < VECS; v++)
                acc[r][v] = _mm512_setzero_ps();
        for (size_t k = first; k < last; k++)
            for (size_t r = 0; r < rows; r++) {
                __m512bh x = (__m512bh)_mm512_set1_epi32((int)pairs_of(p, row + r)[k]);
                for (size_t v = 0; v < VECS; v++) {
                    __m512bh w = (__m512bh)_mm512_loadu_si512(panel + k * VECS + v);
                    acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, w);
                }
            }
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < VECS; v++)
                add_part(p->sums + (row + r) * KF_CPU_PANEL + v * 16, acc[r][v], first == 0);
    }
}

void kf_cpu_product_dot(const kf_cpu_product *p) {
    for (size_t row = 0; row < p->n_rows; row += DOT_ROWS)
        switch (p->n_rows - row) {
        case 1: dot_rows(p, row, 1); break;
        case 2: dot_rows(p, row, 2); break;
        case 3: dot_rows(p, row, 3); break;
        case 4: dot_rows(p, row, 4); break;
        case 5: dot_rows(p, row, 5); break;
        default: dot_rows(p, row, DOT_ROWS);
        }
}

/* ---- tdpbf16ps ---- */

/* One step of the instruction: 16 pairs; the even and the odd inputs have a chain each, from 0; their sum is added. */
INLINE void tile_step(__m512 acc[TILE_ROWS][VECS], const kf_cpu_product *p, size_t row, size_t rows, size_t pair) {
    const __m512i *panel = (const __m512i *)p->panel + pair * VECS;
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
    __m512 even[TILE_ROWS][VECS], odd[TILE_ROWS][VECS];
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < VECS; v++)
            even[r][v] = odd[r][v] = _mm512_setzero_ps();
    for (size_t k = 0; k < PAIRS; k++)
        for (size_t v = 0; v < VECS; v++) {
            __m512i w = _mm512_loadu_si512(panel + k * VECS + v);
            __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
            __m512 w1 = _mm512_castsi512_ps(_mm512_and_si512(w, upper));
            for (size_t r = 0; r < rows; r++) {
                __m512i x = _mm512_set1_epi32((int)pairs_of(p, row + r)[pair + k]);
                __m512 x0 = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
                __m512 x1 = _mm512_castsi512_ps(_mm512_and_si512(x, upper));
                even[r][v] = _mm512_fmadd_ps(x0, w0, even[r][v]);
                odd[r][v] = _mm512_fmadd_ps(x1, w1, odd[r][v]);
            }
        }
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < VECS; v++)
            acc[r][v] = _mm512_add_ps(acc[r][v], _mm512_add_ps(even[r][v], odd[r][v]));
}

INLINE void tile_rows(const kf_cpu_product *p, size_t row, size_t rows) {
    size_t n_pairs = (p->n_in + KF_CPU_PAIRS_DEPTH - 1) / KF_CPU_PAIRS_DEPTH * PAIRS, block = p->k_block / 2;
    for (size_t first = 0; first < n_pairs; first += block) {
        size_t last = n_pairs - first < block ? n_pairs : first + block;
        __m512 acc[TILE_ROWS][VECS];
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < VECS; v++)
                acc[r][v] = _mm512_setzero_ps();
        for (size_t pair = first; pair < last; pair += PAIRS)
            tile_step(acc, p, row, rows, pair);
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < VECS; v++)
                add_part(p->sums + (row + r) * KF_CPU_PANEL + v * 16, acc[r][v], first == 0);
    }
}

/* Not inlined: the products must not move out of the lines that set and restore the processor's mode. */
static __attribute__((noinline)) void tile_all(const kf_cpu_product *p) {
    for (size_t row = 0; row < p->n_rows; row += TILE_ROWS)
        if (p->n_rows - row == 1)
            tile_rows(p, row, 1);
        else
            tile_rows(p, row, TILE_ROWS);
}

void kf_cpu_product_tile(const kf_cpu_product *p) {
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | _MM_FLUSH_ZERO_ON | 0x40 /* denormals are zeros */);
    tile_all(p);
    _mm_setcsr(mode);
}

/* ---- rounding ---- */

void kf_cpu_to_bf16_avx512(uint16_t *out, const float *x, size_t n) {
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff), quiet = _mm512_set1_epi32(0x40);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        __m512 f = _mm512_maskz_loadu_ps(lanes, x + i);
        __m512i u = _mm512_castps_si512(f), top = _mm512_srli_epi32(u, 16);
        __m512i rounded =
            _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(half, _mm512_and_si512(top, one))), 16);
        __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);
        rounded = _mm512_mask_or_epi32(rounded, nan, top, quiet);
        _mm256_mask_storeu_epi16(out + i, lanes, _mm512_cvtepi32_epi16(rounded));
    }
}
#endif
