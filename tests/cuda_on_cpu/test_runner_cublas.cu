/* Aim: the stand-in for cublasLt computes D = alpha Aᵀ B + beta C + bias in column-major order, and refuses what the
 * documentation of cublasLtMatmul does. Method: one call that is right, against the sum written plainly; then the same
 * call with one thing wrong, each in turn. */
#include "runner_test.h"

#include <cublasLt.h>

enum { K = 64, M = 24, N = 5 };

struct matmul { /* all that a call takes; right as it is made */
    cudaDataType type = CUDA_R_16BF, out_type = CUDA_R_16BF, bias_type = CUDA_R_16BF;
    cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
    cublasOperation_t trans_a = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    uint64_t k_of_b = K, m_of_c = M, m_of_bias = M;
    int64_t ld_a = K, ld_d = M;
    const void *bias = nullptr;
    const void *a = nullptr, *b = nullptr, *c = nullptr;
    void *d = nullptr;
    uint32_t align = 16;
    size_t workspace = 0;
    float beta = 1;
};

static cublasLtHandle_t handle;
static cublasLtMatmulAlgo_t algo;

static cublasStatus_t set(cublasLtMatmulDescOpaque_t *d, cublasLtMatmulDescAttributes_t a, const void *v, size_t n) {
    return cublasLtMatmulDescSetAttribute(d, a, v, n);
}

/* Asks for an algorithm (and keeps it where `keep`), then multiplies with the one that is kept. */
static cublasStatus_t run(const matmul &m, bool keep) {
    const float alpha = 2;
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    (void)cublasLtMatmulDescInit(&desc, m.compute, CUDA_R_32F);
    (void)set(&desc, CUBLASLT_MATMUL_DESC_TRANSA, &m.trans_a, sizeof m.trans_a);
    (void)set(&desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &m.epilogue, sizeof m.epilogue);
    (void)set(&desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &m.bias, sizeof m.bias);
    (void)set(&desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &m.bias_type, sizeof m.bias_type);
    (void)cublasLtMatrixLayoutInit(&a, m.type, K, M, m.ld_a);
    (void)cublasLtMatrixLayoutInit(&b, m.type, m.k_of_b, N, (int64_t)m.k_of_b);
    (void)cublasLtMatrixLayoutInit(&c, m.out_type, m.m_of_c, N, m.ld_d);
    (void)cublasLtMatrixLayoutInit(&d, m.out_type, M, N, m.ld_d);
    (void)cublasLtMatmulPreferenceInit(&preference);
    (void)cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &m.align, 4);
    (void)cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &m.align, 4);
    (void)cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &m.align, 4);
    (void)cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &m.align, 4);
    if (keep) {
        assert_int_equal(
            cublasLtMatmulAlgoGetHeuristic(handle, &desc, &a, &b, &c, &d, &preference, 1, &found, &n_found), 0);
        assert_int_equal(n_found, 1);
        algo = found.algo;
    }
    return cublasLtMatmul(handle, &desc, &alpha, m.a, &a, m.b, &b, &m.beta, m.c, &c, m.d, &d, &algo, nullptr,
                          m.workspace, nullptr);
}

static std::vector<__nv_bfloat16> some(size_t n, int step) {
    std::vector<__nv_bfloat16> v(n);
    for (size_t i = 0; i < n; i++)
        v[i] = __float2bfloat16_rn((float)((int)i * step % 7 - 3) / 4);
    return v;
}

static void products(void **) {
    const auto a = some(K * M, 3), b = some(K * N, 5), c = some(M * N, 2), bias = some(M, 1);
    device_array<__nv_bfloat16> da(a), db(b), dc(c), dbias(bias), dd(M * N), small(M);
    matmul right;
    right.a = da.p, right.b = db.p, right.c = dc.p, right.d = dd.p, right.bias = dbias.p;
    assert_int_equal(run(right, true), CUBLAS_STATUS_SUCCESS);
    assert_cuda(cudaDeviceSynchronize());
    const auto d = dd.host();
    for (size_t j = 0; j < N; j++)
        for (size_t i = 0; i < M; i++) {
            float sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += __bfloat162float(a[i * K + k]) * __bfloat162float(b[j * K + k]);
            sum = 2 * sum + __bfloat162float(c[j * M + i]) + __bfloat162float(bias[i]);
            assert_true(__bfloat162float(d[j * M + i]) == __bfloat162float(__float2bfloat16_rn(sum)));
        }

#define REFUSED(field_, value_)                                                                                        \
    do {                                                                                                               \
        matmul m = right;                                                                                              \
        m.field_ = value_;                                                                                             \
        assert_int_equal(run(m, false), CUBLAS_STATUS_INVALID_VALUE);                                                  \
    } while (0)
    REFUSED(trans_a, CUBLAS_OP_N);
    REFUSED(compute, CUBLAS_COMPUTE_32F_FAST_TF32);
    REFUSED(epilogue, CUBLASLT_EPILOGUE_GELU_BIAS);
    REFUSED(epilogue, CUBLASLT_EPILOGUE_DEFAULT); /* the algorithm was found for the other one */
    REFUSED(bias, nullptr);
    REFUSED(bias_type, CUDA_R_32F);
    REFUSED(out_type, CUDA_R_32F); /* and so the bias is in another format */
    REFUSED(type, CUDA_R_32F);
    REFUSED(k_of_b, K - 16);
    REFUSED(m_of_c, M - 8);
    REFUSED(ld_a, K - 8);
    REFUSED(ld_a, K + 1); /* rows that are not aligned as was promised */
    REFUSED(ld_d, M - 8);
    REFUSED(a, (const __nv_bfloat16 *)da.p + 1);
    REFUSED(b, nullptr);
    REFUSED(d, (void *)db.p);
    REFUSED(c, dd.p + 8); /* overlaps D, and is not D */
    REFUSED(workspace, 256);
}

/* A matrix that is too small for its layout ends the process when the product runs. */
static void bias_too_short() {
    device_array<__nv_bfloat16> a(K * M), b(K * N), d(M * N), bias(M - 1);
    matmul m;
    m.a = a.p, m.b = b.p, m.c = m.d = d.p, m.bias = bias.p;
    (void)run(m, true);
    (void)cudaDeviceSynchronize();
}
static void output_too_short() {
    device_array<__nv_bfloat16> a(K * M), b(K * N), d(M * N - 1), bias(M);
    matmul m;
    m.a = a.p, m.b = b.p, m.c = m.d = d.p, m.bias = bias.p;
    (void)run(m, true);
    (void)cudaDeviceSynchronize();
}

static void short_matrices(void **) {
    expect_noticed(bias_too_short, "cublasLt: bias: 48 bytes at offset 0 overrun", "of 46 bytes");
    expect_noticed(output_too_short, "cublasLt: D: 240 bytes at offset 0 overrun", "of 238 bytes");
}

static int setup(void **) {
    return cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS ? 0 : -1;
}
static int teardown(void **) {
    return cublasLtDestroy(handle) == CUBLAS_STATUS_SUCCESS ? 0 : -1;
}

int main() {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(short_matrices)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
