/* The random number of one draw: a hash of (seed, position), so that a sequence draws the same numbers alone, in
 * company and after a preemption. Every device draws from this one function. */
#ifndef KF_DEVICE_RANDOM_H
#define KF_DEVICE_RANDOM_H

#include <stdint.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014). */
static inline uint64_t kf_random_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [0, 1), a multiple of 2^-24, so exact in f32. */
static inline float kf_random_uniform(uint32_t seed_lo, uint32_t seed_hi, uint32_t position) {
    uint64_t seed = (uint64_t)seed_hi << 32 | seed_lo;
    uint64_t z = kf_random_mix(kf_random_mix(seed) + (position + 1u) * 0x9e3779b97f4a7c15u);
    return (float)(z >> 40) * 0x1p-24f;
}

#endif
