/* The table of one instruction set: TABLE is its name. */
#include "device/bf16.h"
#include "device/cpu/loops.h"

/* clang-format off: the order matters */
#include "device/cpu/loops/vector.h"
#include "device/cpu/loops/activation.h"
#include "device/cpu/loops/product.h"
#include "device/cpu/loops/norm.h"
#include "device/cpu/loops/attention.h"
/* clang-format on */

const kf_cpu_loops TABLE = {
    .product_f32 = product_f32,
    .product_bf16 = product_bf16,
    .to_bf16 = to_bf16,
    .finish = finish,
    .activate = activate,
    .gated = gated,
    .layernorm = layernorm,
    .rmsnorm = rmsnorm,
    .transpose_keys = transpose_keys,
    .attend = attend,
    .attend_end = attend_end,
    .exp = exp_row,
    .max = max_row,
    .sum_exp = sum_exp,
    .all_finite = all_finite,
};
