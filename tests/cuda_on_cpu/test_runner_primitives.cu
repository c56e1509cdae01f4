/* Aim: the built-ins and instructions that the runner has compute what CUDA and PTX ISA say. Method: small kernels at
 * random contents, against the definition written plainly: matrix fragments against a product, lanes against loops. */
#include "runner_test.h"

#include <algorithm>

static unsigned state = 1;
static float draw_float() {
    state = state * 1664525u + 1013904223u;
    return (float)(int)(state >> 24) / 64 - 2; /* few bits: products and sums are exact */
}
static std::vector<__nv_bfloat16> draw_matrix(size_t n) {
    std::vector<__nv_bfloat16> v(n);
    for (auto &x : v)
        x = __float2bfloat16_rn(draw_float());
    return v;
}

/* ---- matrices ---- */

/* d [16, 8] = c + a [16, K] b [K, 8]; a by ldmatrix row by row, b [K, 8] by its transposing form. */
template <int K>
__global__ static void product(float *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b, const float *c) {
    SHARED_ARRAY(__nv_bfloat16, shared_a, [16 * K]);
    SHARED_ARRAY(__nv_bfloat16, shared_b, [K * 8]);
    const int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4 * 2;
    for (int i = lane; i < 16 * K; i += 32)
        shared_a[i] = a[i];
    for (int i = lane; i < K * 8; i += 32)
        shared_b[i] = b[i];
    __syncwarp();
    uint32_t ra[4], rb[2];
    float sum[4] = {c[g * 8 + t], c[g * 8 + t + 1], c[(g + 8) * 8 + t], c[(g + 8) * 8 + t + 1]};
    if (K == 16) { /* matrices: rows 0 and 8 of columns 0, then of columns 8 */
        ldmatrix_x4(ra, shared_a + (lane % 16) * K + lane / 16 * 8);
        ldmatrix_x2_trans(rb, shared_b + (lane % 16) * 8);
        mma_m16n8k16_bf16(sum, ra, rb);
    } else {
        uint32_t both[4]; /* the second matrix twice over: x4's form is tried as well */
        ldmatrix_x2(ra, shared_a + (lane % 16) * K);
        ldmatrix_x4_trans(both, shared_b + (lane % 8) * 8);
        sum[0] += both[0] == both[3] ? 0.f : 1e6f;
        mma_m16n8k8_bf16(sum, ra, both);
    }
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + t + i % 2] = sum[i];
}

template <int K> static void product_is_exact() {
    const auto a = draw_matrix(16 * K), b = draw_matrix(K * 8);
    std::vector<float> c(16 * 8);
    for (float &x : c)
        x = draw_float();
    device_array<__nv_bfloat16> da(a), db(b);
    device_array<float> dc(c), d(16 * 8);
    RUN(1, 32, product<K>, d.p, (const __nv_bfloat16 *)da.p, (const __nv_bfloat16 *)db.p, (const float *)dc.p);
    const auto got = d.host();
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++) {
            float want = c[i * 8 + j];
            for (size_t k = 0; k < K; k++)
                want += __bfloat162float(a[i * K + k]) * __bfloat162float(b[k * 8 + j]);
            assert_true(got[i * 8 + j] == want);
        }
}

static void matrix_products(void **) {
    product_is_exact<16>();
    product_is_exact<8>();
}

/* ---- lanes ---- */

enum { XOR, UP, DOWN, FROM, BALLOT, ANY, ALL, MATCH, SUM, LEAST, MOST, N_LANE_OPS };

__global__ static void lane_operations(int *out, const int *in, int width) {
    const int lane = (int)threadIdx.x, v = in[lane];
    out[XOR * 32 + lane] = __shfl_xor_sync(0xffffffffu, v, 5, width);
    out[UP * 32 + lane] = __shfl_up_sync(0xffffffffu, v, 3, width);
    out[DOWN * 32 + lane] = __shfl_down_sync(0xffffffffu, v, 3, width);
    out[FROM * 32 + lane] = __shfl_sync(0xffffffffu, v, 7, width);
    out[BALLOT * 32 + lane] = (int)__ballot_sync(0xffffffffu, v & 1);
    out[ANY * 32 + lane] = __any_sync(0xffffffffu, v > 1000);
    out[ALL * 32 + lane] = __all_sync(0xffffffffu, v < 1000);
    out[MATCH * 32 + lane] = (int)__match_any_sync(0xffffffffu, v % 4);
    out[SUM * 32 + lane] = __reduce_add_sync(0xffffffffu, v);
    out[LEAST * 32 + lane] = __reduce_min_sync(0xffffffffu, v);
    out[MOST * 32 + lane] = __reduce_max_sync(0xffffffffu, v);
}

static void lane_operations_at(int width) {
    std::vector<int> in(32);
    int odd = 0, sum = 0, least = 1000, most = 0;
    for (int i = 0; i < 32; i++) {
        in[(size_t)i] = (i * 37 + 11) % 101;
        if (in[(size_t)i] & 1) odd |= (int)(1u << i);
        sum += in[(size_t)i];
        least = std::min(least, in[(size_t)i]);
        most = std::max(most, in[(size_t)i]);
    }
    device_array<int> d_in(in), out((size_t)N_LANE_OPS * 32);
    RUN(1, 32, lane_operations, out.p, (const int *)d_in.p, width);
    const auto got = out.host();
    for (int i = 0; i < 32; i++) {
        const int first = i / width * width, at = i % width, crossed = i ^ 5;
        int same = 0;
        for (int k = 0; k < 32; k++)
            if (in[(size_t)k] % 4 == in[(size_t)i] % 4) same |= (int)(1u << k);
        const int want[N_LANE_OPS] = {in[(size_t)(crossed < first + width ? crossed : i)],
                                      in[(size_t)(at < 3 ? i : i - 3)],
                                      in[(size_t)(at + 3 >= width ? i : i + 3)],
                                      in[(size_t)(first + 7 % width)],
                                      odd,
                                      0,
                                      1,
                                      same,
                                      sum,
                                      least,
                                      most};
        for (int op = 0; op < N_LANE_OPS; op++)
            if (got[(size_t)(op * 32 + i)] != want[op])
                fail_msg("operation %d, width %d, lane %d: %d, not %d", op, width, i, got[(size_t)(op * 32 + i)],
                         want[op]);
    }
}

static void shuffles_votes_reductions(void **) {
    for (int width : {32, 16, 8})
        lane_operations_at(width);
}

/* ---- blocks ---- */

__global__ static void block_votes(int *out) {
    const int i = (int)threadIdx.x, n = __syncthreads_count(i % 3 == 0);
    const int any = __syncthreads_or(i == 70), all = __syncthreads_and(i != 70);
    out[i] = n * 100 + any * 10 + all;
}

__global__ static void half_block_barriers(int *out) {
    SHARED_ARRAY(int, row, [128]);
    const int i = (int)threadIdx.x, half = i / 64;
    row[i] = i;
    named_barrier_sync(1 + half, 64);
    out[i] = row[half * 64 + 63 - i % 64];
}

static void votes_and_barriers_of_blocks(void **) {
    device_array<int> out(128);
    RUN(1, 128, block_votes, out.p);
    for (int x : out.host())
        assert_int_equal(x, 43 * 100 + 1 * 10 + 0);
    RUN(1, 128, half_block_barriers, out.p);
    const auto got = out.host();
    for (int i = 0; i < 128; i++)
        assert_int_equal(got[(size_t)i], i / 64 * 64 + 63 - i % 64);
}

/* ---- atomics ---- */

struct atomics {
    int sum, most, least, swapped, bits;
    float sum_f32;
    unsigned wrapped;
};

__global__ static void atomic_operations(atomics *a) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(&a->sum, i);
    atomicAdd(&a->sum_f32, 0.5f);
    atomicMax(&a->most, i);
    atomicMin(&a->least, -i);
    atomicCAS(&a->swapped, 0, i + 1);
    atomicOr((unsigned *)&a->bits, 1u << i % 8);
    atomicInc(&a->wrapped, 9);
}

static void atomic_operations_add_up(void **) {
    device_array<atomics> a(1);
    RUN(3, 96, atomic_operations, a.p);
    const atomics got = a.host()[0];
    assert_int_equal(got.sum, 288 * 287 / 2);
    assert_true(got.sum_f32 == 144);
    assert_int_equal(got.most, 287);
    assert_int_equal(got.least, -287);
    assert_in_range(got.swapped, 1, 288);
    assert_int_equal(got.bits, 255);
    assert_int_equal(got.wrapped, 288 % 10);
}

/* ---- asynchronous copies ---- */

__global__ static void copies_of_all_sizes(uint32_t *out, const uint32_t *in) {
    SHARED_ARRAY(uint32_t, row, [2 * 8]);
    cp_async4(row, in, true);
    cp_async4(row + 1, in + 1, false); /* zeros */
    cp_async8(row + 2, in + 2, true);
    cp_async_commit();
    cp_async16(row + 4, in + 4, true);
    cp_async_commit();
    cp_async_wait<1>();
    for (int i = 0; i < 8; i++)
        out[i] = row[i]; /* the second group is not there yet */
    cp_async_wait<0>();
    for (int i = 4; i < 8; i++)
        out[i + 4] = row[i];
}

static void asynchronous_copies(void **) {
    device_array<uint32_t> in(std::vector<uint32_t>{10, 11, 12, 13, 14, 15, 16, 17}), out(12);
    RUN(1, 1, copies_of_all_sizes, out.p, (const uint32_t *)in.p);
    const uint32_t none = 0xffffffffu;
    const std::vector<uint32_t> want = {10, 0, 12, 13, none, none, none, none, 14, 15, 16, 17};
    assert_true(out.host() == want);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrix_products),
        cmocka_unit_test(shuffles_votes_reductions),
        cmocka_unit_test(votes_and_barriers_of_blocks),
        cmocka_unit_test(atomic_operations_add_up),
        cmocka_unit_test(asynchronous_copies),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
