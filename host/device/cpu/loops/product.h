/* Products with a panel of 64 outputs: TILE_ROWS rows of x by TILE_VECS vectors of outputs in registers, a chain of
 * (fused) multiply-adds over K for each output. */

#if VW == 16
enum { TILE_VECS = 4, TILE_ROWS = 6 };
#elif VW == 8
enum { TILE_VECS = 2, TILE_ROWS = 6 };
#else
enum { TILE_VECS = 2, TILE_ROWS = 4 };
#endif
enum { TILE = TILE_VECS * VW };

/* K in [first, last) of one tile. rows and bf16 are constants at every call. */
INLINE void tile_part(vec acc[][TILE_VECS], const kf_cpu_product *p, const float *x, size_t rows, size_t column,
                      size_t first, size_t last, bool bf16) {
    if (!bf16) {
        const float *w = (const float *)p->panel + column;
        for (size_t k = first; k < last; k++)
            for (size_t r = 0; r < rows; r++)
                for (size_t v = 0; v < TILE_VECS; v++)
                    acc[r][v] = fma_v(splat(x[r * p->x_stride + k]), load(w + k * KF_CPU_PANEL + v * VW), acc[r][v]);
        return;
    }
    const uint32_t *w = (const uint32_t *)p->panel + column; /* a pair: the even input is the lower half */
    for (size_t k = first; k < last; k += 2)
        for (size_t v = 0; v < TILE_VECS; v++) {
            uvec pair = *(const uvec_mem *)(w + k / 2 * KF_CPU_PANEL + v * VW);
            for (size_t r = 0; r < rows; r++)
                acc[r][v] = fma_v(splat(x[r * p->x_stride + k]), (vec)(pair << 16), acc[r][v]);
            for (size_t r = 0; r < rows && k + 1 < last; r++)
                acc[r][v] = fma_v(splat(x[r * p->x_stride + k + 1]), (vec)(pair & 0xffff0000u), acc[r][v]);
        }
}

INLINE void tile(const kf_cpu_product *p, size_t row, size_t rows, size_t column, bool bf16) {
    const float *x = (const float *)p->x + row * p->x_stride;
    float *sums = p->sums + row * KF_CPU_PANEL + column;
    for (size_t first = 0; first < p->n_in; first += p->k_block) {
        size_t last = p->n_in - first < p->k_block ? p->n_in : first + p->k_block;
        vec acc[TILE_ROWS][TILE_VECS] = {{{0}}};
        tile_part(acc, p, x, rows, column, first, last, bf16);
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < TILE_VECS; v++) {
                float *sum = sums + r * KF_CPU_PANEL + v * VW;
                store(sum, first ? load(sum) + acc[r][v] : acc[r][v]);
            }
    }
}

INLINE void product(const kf_cpu_product *p, bool bf16) {
    for (size_t column = 0; column < KF_CPU_PANEL; column += TILE)
        for (size_t row = 0; row < p->n_rows; row += TILE_ROWS)
            switch (p->n_rows - row) {
            case 1: tile(p, row, 1, column, bf16); break;
            case 2: tile(p, row, 2, column, bf16); break;
            case 3: tile(p, row, 3, column, bf16); break;
#if VW > 4
            case 4: tile(p, row, 4, column, bf16); break;
            case 5: tile(p, row, 5, column, bf16); break;
#endif
            default: tile(p, row, TILE_ROWS, column, bf16);
            }
}

static void product_f32(const kf_cpu_product *p) {
    product(p, false);
}

static void product_bf16(const kf_cpu_product *p) {
    product(p, true);
}
