/* What stands for cublasLt on the CPU runner: the product that cuda/linear.cu asks for, in plain C, one chain over k in
 * f32 for each element. It is as strict as the documentation of cublasLtMatmul and stricter than the library: pointers
 * and rows aligned as the preference promised, shapes and leading dimensions that fit, the bias in the output's format,
 * an algorithm that was found for these formats and this epilogue, no workspace. What it has no rule for it refuses,
 * and asking for the algorithm of such a product ends the run: on a card another one might quietly be found.
 *
 * What it cannot show: whether the real library has an algorithm for a shape, and in which order that one sums.
 */
#include "runtime.h"
#include <cublasLt.h>

#include <cstdio>
#include <vector>

using oncpu::fail;

namespace {

struct layout { /* of a column-major matrix */
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};
struct matmul_desc {
    cublasComputeType_t compute;
    cudaDataType scale, bias_type;
    cublasOperation_t trans_a, trans_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
};
struct preference {
    size_t workspace;
    uint32_t reduction, align[4]; /* of A, B, C, D */
};
/* What an algorithm was found for. */
struct algo {
    uint64_t magic, a_rows, a_cols;
    cudaDataType in, out;
    cublasLtEpilogue_t epilogue;
    uint32_t align[4];
    uint32_t
        backwards; /* sums from the last k to the first, as algorithms for few columns do here: not all sum alike */
};
constexpr uint64_t FEW_COLUMNS = 64;
constexpr uint64_t ALGO_MAGIC = 0x6b65667561006c67;

static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "an opaque struct holds ours");
static_assert(sizeof(matmul_desc) <= sizeof(cublasLtMatmulDescOpaque_t), "an opaque struct holds ours");
static_assert(sizeof(preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "an opaque struct holds ours");
static_assert(sizeof(algo) <= sizeof(cublasLtMatmulAlgo_t), "an opaque struct holds ours");

size_t bytes_of(cudaDataType t) {
    return t == CUDA_R_32F ? 4 : 2;
}

float get(const void *p, size_t i, cudaDataType t) {
    return t == CUDA_R_32F ? ((const float *)p)[i] : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}

void put(void *p, size_t i, cudaDataType t, float v) {
    if (t == CUDA_R_32F)
        ((float *)p)[i] = v;
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
}

/* One product, as it is enqueued. */
struct product {
    uint64_t m, n, k;
    float alpha, beta;
    const void *a, *b, *c, *bias;
    void *d;
    layout la, lb, lc, ld;
    bool backwards;
};

size_t matrix_bytes(const layout &l) {
    return ((l.cols - 1) * (uint64_t)l.ld + l.rows) * bytes_of(l.type);
}

void check_matrix(const void *p, const layout &l, const char *what) {
    oncpu::check_device_range(p, matrix_bytes(l), what);
}

/* Elements first .. first + CHAINS of a column of D: independent chains hide each other's waits. */
constexpr uint64_t CHAINS = 8;
void chains(const product &p, const float *b, uint64_t column, uint64_t first) {
    uint64_t n = p.m - first < CHAINS ? p.m - first : CHAINS;
    float sum[CHAINS] = {};
    for (uint64_t step = 0; step < p.k; step++) {
        uint64_t k = p.backwards ? p.k - 1 - step : step;
        for (uint64_t i = 0; i < n; i++)
            sum[i] = fmaf(get(p.a, (first + i) * (uint64_t)p.la.ld + k, p.la.type), b[k], sum[i]);
    }
    for (uint64_t i = 0; i < n; i++) {
        float v = p.alpha * sum[i];
        if (p.beta != 0) v += p.beta * get(p.c, column * (uint64_t)p.lc.ld + first + i, p.lc.type);
        if (p.bias) v += get(p.bias, first + i, p.ld.type);
        put(p.d, column * (uint64_t)p.ld.ld + first + i, p.ld.type, v);
    }
}

void run(const product &p) {
    check_matrix(p.a, p.la, "cublasLt: A");
    check_matrix(p.b, p.lb, "cublasLt: B");
    check_matrix(p.d, p.ld, "cublasLt: D");
    if (p.beta != 0) check_matrix(p.c, p.lc, "cublasLt: C");
    if (p.bias) oncpu::check_device_range(p.bias, p.m * bytes_of(p.ld.type), "cublasLt: bias");
    std::vector<float> b(p.k);
    for (uint64_t column = 0; column < p.n; column++) {
        for (uint64_t k = 0; k < p.k; k++)
            b[k] = get(p.b, column * (uint64_t)p.lb.ld + k, p.lb.type);
        for (uint64_t first = 0; first < p.m; first += CHAINS)
            chains(p, b.data(), column, first);
    }
}

/* The reason why a product is not one that is documented to work, or that the runner knows; NULL: none. */
const char *refusal(const matmul_desc &d, const layout &a, const layout &b, const layout &c, const layout &out) {
    bool bias = d.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (d.trans_a != CUBLAS_OP_T || d.trans_b != CUBLAS_OP_N) return "only A transposed and B not is known";
    if (!a.rows || !a.cols || !b.cols) return "an empty matrix";
    if (a.rows != b.rows || a.cols != out.rows || b.cols != out.cols) return "shapes do not fit";
    if (c.rows != out.rows || c.cols != out.cols || c.type != out.type) return "C is not like D";
    if (a.ld < (int64_t)a.rows || b.ld < (int64_t)b.rows || c.ld < (int64_t)c.rows || out.ld < (int64_t)out.rows)
        return "a leading dimension is less than the rows";
    if (a.type != b.type || (out.type != a.type && out.type != CUDA_R_32F)) return "formats do not go together";
    if (d.compute != CUBLAS_COMPUTE_32F || d.scale != CUDA_R_32F) return "sums are not f32";
    if (!bias && d.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return "only the bias epilogue is known";
    if (bias && !d.bias) return "the bias pointer is NULL";
    if (bias && d.bias_type != out.type) return "the bias is not in the output's format";
    return nullptr;
}

/* The same of a call's pointers. D may be C, with C's layout; no other overlap is allowed. */
const char *pointers_refused(const void *a, const void *b, const void *c, const void *d, float beta, const layout &lc,
                             const layout &ld) {
    if (!a || !b || !d || (beta != 0 && !c)) return "a matrix is NULL";
    if (a == d || b == d) return "the output is an input";
    if (beta != 0 && c == d && lc.ld != ld.ld) return "C is D in place, with another leading dimension";
    if (beta != 0 && c != d && (const char *)c < (const char *)d + matrix_bytes(ld) &&
        (const char *)d < (const char *)c + matrix_bytes(lc))
        return "C and D overlap";
    return nullptr;
}

bool aligned(const void *p, const layout &l, uint32_t align) {
    return (uintptr_t)p % align == 0 && (uint64_t)l.ld * bytes_of(l.type) % align == 0;
}

cublasStatus_t refuse(const char *why) {
    fprintf(stderr, "cuda on cpu: cublasLt: %s\n", why);
    return CUBLAS_STATUS_INVALID_VALUE;
}

template <class T> cublasStatus_t assign(T *to, const void *from, size_t bytes) {
    if (bytes != sizeof *to) return refuse("an attribute of another size");
    memcpy(to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {
struct cublasLtContext {
    int opened;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
    *h = new cublasLtContext{1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusName(cublasStatus_t s) {
    return s == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_INVALID_VALUE";
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, size_t, cudaDataType t, uint64_t rows,
                                                 uint64_t cols, int64_t ld) {
    if (t != CUDA_R_32F && t != CUDA_R_16BF) return refuse("a matrix is neither f32 nor bf16");
    layout mine{t, rows, cols, ld};
    memcpy((void *)l, &mine, sizeof mine);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t d, size_t, cublasComputeType_t c, cudaDataType s) {
    matmul_desc mine{c, s, CUDA_R_32F, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
    memcpy((void *)d, &mine, sizeof mine);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t a,
                                              const void *p, size_t n) {
    matmul_desc *d = (matmul_desc *)desc;
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return assign(&d->trans_a, p, n);
    case CUBLASLT_MATMUL_DESC_TRANSB: return assign(&d->trans_b, p, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return assign(&d->epilogue, p, n);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return assign(&d->bias, p, n);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return assign(&d->bias_type, p, n);
    default: return refuse("an attribute of a product that the runner does not know");
    }
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t p, size_t) {
    preference mine{0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}}; /* the documented defaults */
    memcpy((void *)p, &mine, sizeof mine);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t a, const void *p, size_t n) {
    preference *mine = (preference *)pref;
    switch (a) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return assign(&mine->workspace, p, n);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return assign(&mine->reduction, p, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return assign(&mine->align[0], p, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return assign(&mine->align[1], p, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return assign(&mine->align[2], p, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return assign(&mine->align[3], p, n);
    default: return refuse("a preference that the runner does not know");
    }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t la,
                                              cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t lc,
                                              cublasLtMatrixLayout_t ld, cublasLtMatmulPreference_t pref, int n,
                                              cublasLtMatmulHeuristicResult_t *found, int *n_found) {
    const matmul_desc &d = *(const matmul_desc *)desc;
    const layout &a = *(const layout *)la, &out = *(const layout *)ld;
    const preference &p = *(const preference *)pref;
    *n_found = 0;
    if (n < 1) return refuse("no algorithm is asked for");
    if (const char *why = refusal(d, a, *(const layout *)lb, *(const layout *)lc, out))
        fail("cublasLt: no algorithm for a product that is not one: %s", why);
    algo mine{ALGO_MAGIC, a.rows, a.cols, a.type, out.type, d.epilogue, {}, out.cols <= FEW_COLUMNS};
    memcpy(mine.align, p.align, sizeof mine.align);
    memset((void *)found, 0, sizeof *found);
    memcpy((void *)&found->algo, &mine, sizeof mine);
    *n_found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *pa,
                              cublasLtMatrixLayout_t la, const void *pb, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *pc, cublasLtMatrixLayout_t lc, void *pd, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *with, void *workspace, size_t workspace_bytes,
                              cudaStream_t s) {
    const matmul_desc &d = *(const matmul_desc *)desc;
    const layout &a = *(const layout *)la, &b = *(const layout *)lb, &c = *(const layout *)lc,
                 &out = *(const layout *)ld;
    algo mine;
    if (!handle || !with || !alpha || !beta) return refuse("no handle, algorithm, alpha or beta");
    memcpy(&mine, with, sizeof mine);
    if (const char *why = refusal(d, a, b, c, out)) return refuse(why);
    if (mine.magic != ALGO_MAGIC || mine.a_rows != a.rows || mine.a_cols != a.cols || mine.in != a.type ||
        mine.out != out.type || mine.epilogue != d.epilogue)
        return refuse("the algorithm was found for another product");
    if (const char *why = pointers_refused(pa, pb, pc, pd, *(const float *)beta, c, out)) return refuse(why);
    if (workspace || workspace_bytes) return refuse("a workspace that the algorithm did not ask for");
    if (!aligned(pa, a, mine.align[0]) || !aligned(pb, b, mine.align[1]) || !aligned(pc, c, mine.align[2]) ||
        !aligned(pd, out, mine.align[3]))
        return refuse("a pointer or a leading dimension is not aligned as the algorithm was promised");
    product p{out.rows,
              out.cols,
              a.rows,
              *(const float *)alpha,
              *(const float *)beta,
              pa,
              pb,
              pc,
              d.epilogue == CUBLASLT_EPILOGUE_BIAS ? d.bias : nullptr,
              pd,
              a,
              b,
              c,
              out,
              mine.backwards != 0};
    oncpu::call lock;
    cudaError_t e = oncpu::enqueue(s, [p] {
        oncpu::device_open device;
        run(p);
    });
    return e == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
