/* What PTX's warp matrix instructions compute, and asynchronous copies. Fragments are laid out as in PTX ISA, "Warp
 * Level Matrix Instructions": lane l = 4 g + t. A product adds its terms one by one in f32, in order of k; the card's
 * order and rounding inside of an instruction are its own. */
#include "runtime.h"

#include <cstring>
#include "primitives.h"

namespace oncpu {

/* ---- mma ---- */

static float half_of(uint32_t pair, int high) {
    const uint32_t bits = high ? pair & 0xffff0000u : pair << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* d [16, 8] += a [16, K] b [K, 8]. Two registers of a and one of b for every 8 of k. */
template <int K> static void mma_bf16(warp &w) {
    float a[16][K], b[K][8], d[16][8];
    for (int l = 0; l < WARP; l++) {
        const mma_operands &in = *(const mma_operands *)w.lane[l]->op.in;
        const float *c = (const float *)w.lane[l]->op.out;
        const int g = l / 4, t = l % 4 * 2;
        for (int high = 0; high < 2; high++) {
            for (int k = 0; k < K; k += 8) {
                a[g][k + t + high] = half_of(in.a[k / 4], high);
                a[g + 8][k + t + high] = half_of(in.a[k / 4 + 1], high);
                b[k + t + high][g] = half_of(in.b[k / 8], high);
            }
            d[g][t + high] = c[high];
            d[g + 8][t + high] = c[2 + high];
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < K; k++)
            for (int j = 0; j < 8; j++)
                d[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < WARP; l++) {
        float *c = (float *)w.lane[l]->op.out;
        const int g = l / 4, t = l % 4 * 2;
        for (int high = 0; high < 2; high++) {
            c[high] = d[g][t + high];
            c[2 + high] = d[g + 8][t + high];
        }
    }
}

void mma_bf16_k16(warp &w, uint32_t) {
    mma_bf16<16>(w);
}

void mma_bf16_k8(warp &w, uint32_t) {
    mma_bf16<8>(w);
}

/* ---- ldmatrix ---- */

static const uint32_t *row_of(const warp &w, int matrix, int row) {
    return ((const matrix_row *)w.lane[matrix * 8 + row]->op.in)->word;
}

/* Elements (row, column) and (row + 1, column) as one register. */
static uint32_t column_pair(const warp &w, int matrix, int row, int column) {
    const uint32_t x = row_of(w, matrix, row)[column / 2], y = row_of(w, matrix, row + 1)[column / 2];
    return column % 2 ? (x >> 16) | (y & 0xffff0000u) : (x & 0xffffu) | (y << 16);
}

void ldmatrix(warp &w, uint32_t) {
    for (int l = 0; l < WARP; l++) {
        const lane_op &o = w.lane[l]->op;
        const int n = o.arg < 0 ? -o.arg : o.arg;
        for (int m = 0; m < n; m++)
            ((uint32_t *)o.out)[m] = o.arg < 0 ? column_pair(w, m, l % 4 * 2, l / 4) : row_of(w, m, l / 4)[l % 4];
    }
}

/* ---- cp.async ---- */

void copy_begin(void *shared, const void *global, int bytes, bool there, place at) {
    fiber *me = current;
    if (!me) fail("%s outside of a kernel", at.op);
    if (((uintptr_t)shared | (there ? (uintptr_t)global : 0)) % (unsigned)bytes)
        fail("%s (%s:%d): misaligned address: to %p, from %p", at.op, at.file, at.line, shared, global);
    if (!is_shared(shared)) fail("%s (%s:%d): the destination is not shared memory", at.op, at.file, at.line);
    if (there && is_shared(global)) fail("%s (%s:%d): the source is shared memory", at.op, at.file, at.line);
    if (me->n_copies == COPIES_MAX)
        fail("%s (%s:%d): more than %d copies under way", at.op, at.file, at.line, COPIES_MAX);
    me->copies[me->n_copies++] = async_copy{shared, global, bytes, there, me->group, at};
}

void copy_commit() {
    if (!current) fail("cp_async_commit outside of a kernel");
    current->group++;
}

const async_copy *copy_next(int n_groups_left) {
    static async_copy taken; /* until the next call: no switch lies between */
    fiber *me = current;
    if (!me) fail("cp_async_wait outside of a kernel");
    if (!me->n_copies || me->copies[0].group >= me->group - n_groups_left) return nullptr;
    taken = me->copies[0];
    memmove(me->copies, me->copies + 1, sizeof taken * (size_t)--me->n_copies);
    return &taken;
}

} // namespace oncpu
