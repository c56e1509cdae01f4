/* The random number of one draw: a hash of (seed, position), so that a sequence draws the same numbers alone, in
 * company and after a preemption. Every device draws from this one function. */
#ifndef KF_DEVICE_RANDOM_H
#define KF_DEVICE_RANDOM_H

#include <stdint.h>

#include "base/random.h"

/* Uniform in [0, 1), a multiple of 2^-24, so exact in f32. */
KF_RANDOM_FUNCTION float kf_random_uniform(uint32_t seed_lo, uint32_t seed_hi, uint32_t position) {
    uint64_t seed = (uint64_t)seed_hi << 32 | seed_lo;
    uint64_t z = kf_random_mix(kf_random_mix(seed) + (position + 1u) * 0x9e3779b97f4a7c15u);
    return (float)(z >> 40) * 0x1p-24f;
}

#endif
