/* PTX that attention is made of, one instruction a function: warp matrix products, transposed loads of shared memory,
 * asynchronous copies into it, and the two operations whose meaning the language has no word for.
 *
 * Under KF_CUDA_ON_CPU the runner has these functions (tests/cuda_on_cpu/include/primitives.h), and checks more than a
 * card does: alignment, that a whole warp calls, and that what is copied is waited for before it is read. */
#ifndef KF_CUDA_PRIMITIVES_CUH
#define KF_CUDA_PRIMITIVES_CUH

#include "kernel.cuh"

#ifdef KF_CUDA_ON_CPU

#define UNROLL

inline float exp2_approx(float x) {
    return exp2f(x);
}
inline int atomic_add_acq_rel(int *p, int v) {
    return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL);
}

#else

#define UNROLL _Pragma("unroll")

/* d += a b. a [16, 16] row by row, b [16, 8] column by column, d [16, 8] in f32; lane l = 4 g + t has
 * a: rows g, g + 8, g, g + 8; columns 2t, 2t + 1 in the first two registers, 2t + 8, 2t + 9 in the last two;
 * b: column g; rows 2t, 2t + 1, then 2t + 8, 2t + 9;  d: columns 2t, 2t + 1 of row g, then of row g + 8. */
__device__ inline void mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8×8 matrices of 16 bits, transposed. Lane i gives the address of row i % 8 of matrix i / 8, 16 bytes in shared
 * memory; r[m] gets elements (2t, g) and (2t + 1, g) of matrix m. */
__device__ inline void ldmatrix_x4_trans(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

/* Copies 16 bytes of global memory to shared memory without a register, or fills them with zeros where !there; both
 * addresses aligned to 16. It is there after a wait for its group, and for other threads after a barrier behind that.
 */
__device__ inline void cp_async16(void *shared, const void *global, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(global), "r"(there ? 16 : 0)
                 : "memory");
}
__device__ inline void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most N groups of this thread are under way. */
template <int N> __device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 2^x to two units in the last place; 1 for 0, 0 for -infinity, and 0 where the result is below 2^-126. */
__device__ inline float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* *p += v in device memory; the old value. What this block wrote before a barrier in front of it is seen by the block
 * that reads the new value, behind a barrier of its own. */
__device__ inline int atomic_add_acq_rel(int *p, int v) {
    int old;
    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
    return old;
}

#endif
#endif
