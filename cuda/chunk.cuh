/* Rows in pieces of 16 bytes, a load or store of 128 bits each, as f32 in registers.
 *
 * A row that does not start at 16 bytes, or whose width is no multiple of a chunk, is read element by element into the
 * same chunks: which thread has which element, and so the order of every sum, does not depend on where a row lies. */
#ifndef KF_CUDA_CHUNK_CUH
#define KF_CUDA_CHUNK_CUH

#include "kernel.cuh"

/* Elements of a chunk: 4 of f32, 8 of bf16. */
template <class T> constexpr unsigned CHUNK = 16 / sizeof(T);

/* Whether all rows may be taken by 128 bits: `pointers` is the OR of their first rows' addresses, `elements` of their
 * strides and widths. */
template <class T> static inline bool chunks_aligned(uintptr_t pointers, size_t elements) {
    return pointers % 16 == 0 && elements % CHUNK<T> == 0;
}

__device__ inline float bf16_low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}
__device__ inline float bf16_high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}
__device__ inline uint32_t bf16_pair(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

/* A chunk's 16 bytes as f32, and back. */
__device__ inline void unpack(float (&v)[8], uint4 bytes) {
    v[0] = bf16_low(bytes.x), v[1] = bf16_high(bytes.x), v[2] = bf16_low(bytes.y), v[3] = bf16_high(bytes.y);
    v[4] = bf16_low(bytes.z), v[5] = bf16_high(bytes.z), v[6] = bf16_low(bytes.w), v[7] = bf16_high(bytes.w);
}
__device__ inline void unpack(float (&v)[4], uint4 bytes) {
    v[0] = __uint_as_float(bytes.x), v[1] = __uint_as_float(bytes.y);
    v[2] = __uint_as_float(bytes.z), v[3] = __uint_as_float(bytes.w);
}
__device__ inline uint4 pack(const float (&v)[8]) {
    return make_uint4(bf16_pair(v[0], v[1]), bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]), bf16_pair(v[6], v[7]));
}
__device__ inline uint4 pack(const float (&v)[4]) {
    return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
}

__device__ inline uint4 load_16(const void *p) {
    return *static_cast<const uint4 *>(p);
}
__device__ inline void store_16(void *p, uint4 bytes) {
    *static_cast<uint4 *>(p) = bytes;
}

/* Elements [first, first + CHUNK) of a row of `width`; zeros behind its end. */
template <class T>
__device__ void chunk_load(float (&v)[CHUNK<T>], const T *row, unsigned first, unsigned width, bool aligned) {
    if (aligned) {
        unpack(v, first < width ? load_16(row + first) : make_uint4(0, 0, 0, 0));
        return;
    }
    for (unsigned i = 0; i < CHUNK<T>; i++)
        v[i] = first + i < width ? to_f32(row[first + i]) : 0;
}

template <class T>
__device__ void chunk_store(T *row, const float (&v)[CHUNK<T>], unsigned first, unsigned width, bool aligned) {
    if (aligned) {
        if (first < width) store_16(row + first, pack(v));
        return;
    }
    for (unsigned i = 0; i < CHUNK<T>; i++)
        if (first + i < width) row[first + i] = from_f32<T>(v[i]);
}

/* f32 that lies beside rows of another format, N elements of it: gamma, beta, angles. */
template <unsigned N>
__device__ void f32_load(float (&v)[N], const float *row, unsigned first, unsigned width, bool aligned) {
    if (aligned && first < width) {
        for (unsigned i = 0; i < N; i += 4) {
            float4 four = *reinterpret_cast<const float4 *>(row + first + i);
            v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
        }
        return;
    }
    for (unsigned i = 0; i < N; i++)
        v[i] = first + i < width ? row[first + i] : 0;
}

#endif
