/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014): for seeds, arrivals and
 * resampling. Equal states give equal numbers everywhere; it is no source of secrets. */
#ifndef KF_BASE_RANDOM_H
#define KF_BASE_RANDOM_H

#include <stdint.h>

#ifdef __CUDACC__ /* kernels draw from it, too */
#define KF_RANDOM_FUNCTION static inline __host__ __device__
#else
#define KF_RANDOM_FUNCTION static inline
#endif

/* The generator's finaliser: a bijection in which every bit of z moves about half of the bits. */
KF_RANDOM_FUNCTION uint64_t kf_random_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The next number; any state is a good start. The caller's thread owns the state. */
static inline uint64_t kf_random_next(uint64_t *state) {
    return kf_random_mix(*state += 0x9e3779b97f4a7c15u);
}

#endif
