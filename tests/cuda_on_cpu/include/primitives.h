// oncpu side of kernels/prims.cuh: the wrappers that hide PTX and shared-memory declarations.
#pragma once
#define SHARED_ARRAY(type, name, ...)                                                                                  \
    typedef type name##_smem_t __VA_ARGS__;                                                                            \
    name##_smem_t &name = ::oncpu::static_smem<name##_smem_t>([] {}, #name)
#define DYN_SMEM(type, name) type *name = reinterpret_cast<type *>(::oncpu::dyn_smem())

namespace oncpu {
void mma_bf16_done(Warp &, uint32_t);
void ldmatrix_done(Warp &, uint32_t);
struct MmaIn {
    float *d;
    uint32_t a[4], b[2];
};
struct LdmIn {
    uint32_t row[4];
}; // this lane's 16-byte row
} // namespace oncpu
inline void mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], KF_ONCPU_LOC) {
    oncpu::MmaIn in{d, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    float out[4] = {d[0], d[1], d[2], d[3]};
    oncpu::warp_collective(&oncpu::mma_bf16_done, 0xffffffffu, &in, out, 0, KF_ONCPU_HERE("mma_m16n8k16_bf16"));
    for (int i = 0; i < 4; i++)
        d[i] = out[i];
}
// x4 (trans or not): lane i supplies the address of row (i & 7) of matrix (i >> 3)
template <bool TRANS>
inline void oncpu_ldmatrix(uint32_t r[4], const void *p, const char *op, const char *oncpu_f, int oncpu_l) {
    if ((uintptr_t)p & 15) oncpu::fail("%s: row address %p is not 16-byte aligned (%s:%d)", op, p, oncpu_f, oncpu_l);
    oncpu::LdmIn in;
    const uint32_t *q = (const uint32_t *)p; // read here, so sanitizers see this lane's read
    for (int i = 0; i < 4; i++)
        in.row[i] = q[i];
    uint32_t out[4];
    oncpu::warp_collective(&oncpu::ldmatrix_done, 0xffffffffu, &in, out, TRANS, KF_ONCPU_HERE(op));
    for (int i = 0; i < 4; i++)
        r[i] = out[i];
}
inline void ldmatrix_x4(uint32_t r[4], const void *p, KF_ONCPU_LOC) {
    oncpu_ldmatrix<false>(r, p, "ldmatrix_x4", oncpu_f, oncpu_l);
}
inline void ldmatrix_x4_trans(uint32_t r[4], const void *p, KF_ONCPU_LOC) {
    oncpu_ldmatrix<true>(r, p, "ldmatrix_x4_trans", oncpu_f, oncpu_l);
}
// copies 16 bytes, or zero-fills when !pred; the copy takes effect only at cp_async_wait
inline void cp_async16(void *smem, const void *gmem, bool pred, KF_ONCPU_LOC) {
    oncpu::cp_async(smem, gmem, 16, pred ? 16 : 0, KF_ONCPU_HERE("cp_async16"));
    for (int i = 0; i < 4; i++)
        ((volatile uint32_t *)smem)[i] = 0xffffffffu; // NaNs until waited for
}
inline void cp_async_commit() {
    oncpu::cp_async_commit();
}
template <int N> inline void cp_async_wait() {
    while (const oncpu::CpAsync *c = oncpu::cp_async_pop(N)) {
        if (c->src_bytes)
            *(uint4 *)c->dst = *(const uint4 *)c->src;
        else
            memset(c->dst, 0, 16);
    }
}
inline void named_barrier_sync(int id, int nthreads, KF_ONCPU_LOC) {
    oncpu::block_barrier(id, nthreads, KF_ONCPU_HERE("named_barrier_sync"));
}
