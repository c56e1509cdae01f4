/* The runner's side of cuda/kernel.cuh and cuda/primitives.cuh: shared memory, and PTX instructions as functions. What
 * memory an instruction reads or writes, the calling lane touches here, in instrumented code, so that sanitizers see
 * it. */
#ifndef KF_ONCPU_PRIMITIVES_H
#define KF_ONCPU_PRIMITIVES_H

#define SHARED_ARRAY(type, name, ...)                                                                                  \
    typedef type name##_shared_t __VA_ARGS__;                                                                          \
    static char name##_key;                                                                                            \
    name##_shared_t &name = *reinterpret_cast<name##_shared_t *>(                                                      \
        ::oncpu::static_shared(&name##_key, sizeof(name##_shared_t), alignof(name##_shared_t), #name))
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(::oncpu::dynamic_shared())

namespace oncpu {

struct mma_operands { /* of a lane; k16: all registers, k8: the first half */
    uint32_t a[4], b[2];
};
void mma_bf16_k16(warp &, uint32_t);
void mma_bf16_k8(warp &, uint32_t);

struct matrix_row { /* 8 elements of 16 bits */
    uint32_t word[4];
};
void ldmatrix(warp &, uint32_t); /* arg: the number of matrices, negative: transposed */

inline void mma(warp_fn fn, float d[4], const mma_operands &in, place at) {
    float out[4] = {d[0], d[1], d[2], d[3]};
    warp_operation(fn, 0xffffffffu, &in, out, 0, at);
    for (int i = 0; i < 4; i++)
        d[i] = out[i];
}

/* Lane i gives the address of row i % 8 of matrix i / 8; lanes beyond the matrices' give none that is read. */
inline void load_matrices(uint32_t *r, int n, bool transposed, const void *row, place at) {
    matrix_row in = {};
    uint32_t out[4];
    if (current && (int)current->lane < 8 * n) {
        if ((uintptr_t)row & 15)
            fail("%s (%s:%d): row address %p is not aligned to 16 bytes", at.op, at.file, at.line, row);
        for (int i = 0; i < 4; i++)
            in.word[i] = ((const uint32_t *)row)[i];
    }
    warp_operation(&ldmatrix, 0xffffffffu, &in, out, transposed ? -n : n, at);
    for (int i = 0; i < n; i++)
        r[i] = out[i];
}

template <class T> void copy_async(void *shared, const void *global, bool there, place at) {
    copy_begin(shared, global, sizeof(T), there, at);
    for (size_t i = 0; i < sizeof(T) / sizeof(uint32_t); i++)
        ((volatile uint32_t *)shared)[i] = 0xffffffffu; /* NaN until it is waited for */
}

inline void copy_now(const async_copy &c) {
    if (!c.there) {
        memset(c.to, 0, (size_t)c.bytes);
        return;
    }
    for (int i = 0; i < c.bytes / 4; i++)
        ((uint32_t *)c.to)[i] = ((const uint32_t *)c.from)[i];
}

} // namespace oncpu

inline void mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], KF_ONCPU_LOC) {
    oncpu::mma(&oncpu::mma_bf16_k16, d, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, KF_ONCPU_HERE("mma_m16n8k16_bf16"));
}
inline void mma_m16n8k8_bf16(float d[4], const uint32_t a[2], const uint32_t b[1], KF_ONCPU_LOC) {
    oncpu::mma(&oncpu::mma_bf16_k8, d, {{a[0], a[1], 0, 0}, {b[0], 0}}, KF_ONCPU_HERE("mma_m16n8k8_bf16"));
}
inline void ldmatrix_x2(uint32_t r[2], const void *row, KF_ONCPU_LOC) {
    oncpu::load_matrices(r, 2, false, row, KF_ONCPU_HERE("ldmatrix_x2"));
}
inline void ldmatrix_x2_trans(uint32_t r[2], const void *row, KF_ONCPU_LOC) {
    oncpu::load_matrices(r, 2, true, row, KF_ONCPU_HERE("ldmatrix_x2_trans"));
}
inline void ldmatrix_x4(uint32_t r[4], const void *row, KF_ONCPU_LOC) {
    oncpu::load_matrices(r, 4, false, row, KF_ONCPU_HERE("ldmatrix_x4"));
}
inline void ldmatrix_x4_trans(uint32_t r[4], const void *row, KF_ONCPU_LOC) {
    oncpu::load_matrices(r, 4, true, row, KF_ONCPU_HERE("ldmatrix_x4_trans"));
}

/* There only after cp_async_wait, for other threads after a barrier behind it; zeros where !there. */
inline void cp_async4(void *shared, const void *global, bool there, KF_ONCPU_LOC) {
    oncpu::copy_async<uint32_t>(shared, global, there, KF_ONCPU_HERE("cp_async4"));
}
inline void cp_async8(void *shared, const void *global, bool there, KF_ONCPU_LOC) {
    oncpu::copy_async<uint2>(shared, global, there, KF_ONCPU_HERE("cp_async8"));
}
inline void cp_async16(void *shared, const void *global, bool there, KF_ONCPU_LOC) {
    oncpu::copy_async<uint4>(shared, global, there, KF_ONCPU_HERE("cp_async16"));
}
inline void cp_async_commit() {
    oncpu::copy_commit();
}
template <int N> inline void cp_async_wait() {
    while (const oncpu::async_copy *c = oncpu::copy_next(N))
        oncpu::copy_now(*c);
}

/* bar.sync: n_threads of the block, whole warps. */
inline void named_barrier_sync(int id, int n_threads, KF_ONCPU_LOC) {
    oncpu::block_barrier(id, n_threads, KF_ONCPU_HERE("named_barrier_sync"));
}

#endif
