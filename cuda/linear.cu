/* out = act(x Wᵀ + bias) + residual: cublasLt's products where they may be used, else ours (linear_rows.cu).
 *
 * cublasLt sees column-major matrices: outᵀ [n_out, n_rows] = W [n_out, n_in] · xᵀ [n_in, n_rows], both read along n_in
 * (transpose of A, none of B). The bias, and a residual where there is no activation, go into its epilogue; an
 * activation takes one more pass (cublasLt's GELU is the tanh form, and BERT's is not). No split of n_in, so no
 * workspace. bf16 accumulates in f32; f32 is true f32 (CUBLAS_COMPUTE_32F), never TF32.
 *
 * Which path runs for which rows (promise 3: with batch_invariant that is never the row count's to say):
 *   ours, for every row count: a shape that no algorithm is known for (n_in or n_out no multiple of 16 bytes: the heads
 *     of the demo's encoder), an activation whose residual is out itself, a residual of another format than out;
 *   with batch_invariant, all others: the one algorithm that cublasLt names for 256 rows, from 1 row on. That it sums
 *     alike for every row count is what only a card can prove (README.md);
 *   without: ours up to KF_CUDA_PRODUCT_ROWS rows, above them cublasLt's algorithm for the bucket of rows.
 * What invariance costs: a decoder step of 1 to 8 rows runs tiles made for 256 rows. With tiles of 128 outputs a
 * product of 896 has 7 blocks, each reading at one processor's 50 to 100 GB/s: 1.6 MB in 2 to 5 us, by ours 0.5; one of
 * 16,384 has 128 blocks and keeps the bandwidth of 40 to 100 % of the processors. On paper a step is 1.3 to 4 times as
 * long, the smaller the model the more. Large prefills lose what the tiles of another bucket would gain. */
#include "cuda.h"

#include <string.h>

static const size_t bucket_rows[KF_CUDA_ROW_BUCKETS] = {16, 64, 256, 1024, 4096};
enum { INVARIANT_BUCKET = 2, ALIGN = 16 }; /* bytes: of pointers and of rows, what fast algorithms ask for */

static cudaDataType cuda_type(kf_dtype t) {
    return t == KF_F32 ? CUDA_R_32F : CUDA_R_16BF;
}

/* What a call of cublasLt takes, all on the stack. */
typedef struct product {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t w, x, out;
} product;

/* CUBLAS_STATUS_SUCCESS, or the first refusal. */
static cublasStatus_t product_init(product *p, const kf_weight *w, kf_dtype act, kf_dtype to, size_t n_rows) {
    const cublasOperation_t transpose = CUBLAS_OP_T;
    const cudaDataType type = cuda_type(act), out_type = cuda_type(to);
    cublasStatus_t s = cublasLtMatmulDescInit(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose);
    if (w->bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        const void *bias = to == KF_F32 ? w->bias : w->bias_act;
        if (s == CUBLAS_STATUS_SUCCESS)
            s = cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        if (s == CUBLAS_STATUS_SUCCESS)
            s = cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
        if (s == CUBLAS_STATUS_SUCCESS)
            s = cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out_type,
                                               sizeof out_type);
    }
    if (s == CUBLAS_STATUS_SUCCESS) s = cublasLtMatrixLayoutInit(&p->w, type, w->n_in, w->n_out, (int64_t)w->n_in);
    if (s == CUBLAS_STATUS_SUCCESS) s = cublasLtMatrixLayoutInit(&p->x, type, w->n_in, n_rows, (int64_t)w->n_in);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatrixLayoutInit(&p->out, out_type, w->n_out, n_rows, (int64_t)w->n_out);
    return s;
}

/* No workspace, no partial sums that are added afterwards, and pointers of ALIGN bytes. */
static cublasStatus_t preference_init(cublasLtMatmulPreferenceOpaque_t *p) {
    const size_t workspace = 0;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE, align = ALIGN;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t s = cublasLtMatmulPreferenceInit(p);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                 sizeof workspace);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction,
                                                 sizeof reduction);
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments && s == CUBLAS_STATUS_SUCCESS; i++)
        s = cublasLtMatmulPreferenceSetAttribute(p, alignments[i], &align, sizeof align);
    return s;
}

/* The algorithm that cublasLt thinks fastest for so many rows. False: it has none. */
static bool choose(kf_cuda_device *d, const kf_weight *w, kf_dtype to, size_t n_rows, cublasLtMatmulAlgo_t *algo) {
    product p;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    if (product_init(&p, w, d->base.act, to, n_rows) != CUBLAS_STATUS_SUCCESS) return false;
    if (preference_init(&preference) != CUBLAS_STATUS_SUCCESS) return false;
    cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(d->cublas, &p.desc, &p.w, &p.x, &p.out, &p.out, &preference, 1,
                                                      &found, &n_found);
    if (s != CUBLAS_STATUS_SUCCESS || n_found == 0 || found.state != CUBLAS_STATUS_SUCCESS) return false;
    *algo = found.algo;
    return true;
}

static void choose_for(kf_cuda_device *d, const kf_weight *w, kf_dtype to, kf_cuda_product *p) {
    size_t align = ALIGN / kf_dtype_bytes(d->base.act);
    if (w->n_in % align || w->n_out % align) return; /* rows that start anywhere: ours */
    if (d->base.batch_invariant) {
        p->n_algos = choose(d, w, to, bucket_rows[INVARIANT_BUCKET], &p->algos[0]);
        return;
    }
    for (size_t i = 0; i < KF_CUDA_ROW_BUCKETS; i++)
        if (!choose(d, w, to, bucket_rows[i], &p->algos[i])) return;
    p->n_algos = KF_CUDA_ROW_BUCKETS;
}

void kf_cuda_products_choose(kf_cuda_device *d, kf_weight *w) {
    choose_for(d, w, d->base.act, &w->to_act);
    if (d->base.act == KF_F32)
        w->to_f32 = w->to_act;
    else
        choose_for(d, w, KF_F32, &w->to_f32);
}

static const cublasLtMatmulAlgo_t *algo_for(const kf_cuda_product *p, size_t n_rows) {
    size_t i = 0;
    while (i + 1 < p->n_algos && n_rows > bucket_rows[i])
        i++;
    return &p->algos[i];
}

static void linear_cublas(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    kf_cuda_device *d = kf_cuda_device_of(s);
    kf_dtype to = o.out_f32 ? KF_F32 : d->base.act;
    const bool fused = o.act == KF_ACT_NONE && o.residual; /* added in the epilogue */
    const float one = 1, beta = fused ? 1 : 0;
    product p;
    if (((uintptr_t)out | (uintptr_t)x | (uintptr_t)o.residual) % ALIGN) {
        kf_cuda_fail(s, KF_ERR_BUG, "linear: out %p, x %p or residual %p is not aligned to %d bytes", out, x,
                     o.residual, ALIGN);
        return;
    }
    cublasStatus_t status = product_init(&p, w, d->base.act, to, n_rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(d->cublas, &p.desc, &one, w->data, &p.w, x, &p.x, &beta, fused ? o.residual : out,
                                &p.out, out, &p.out, algo_for(o.out_f32 ? &w->to_f32 : &w->to_act, n_rows), NULL, 0,
                                ((kf_cuda_stream *)s)->cuda);
    if (status != CUBLAS_STATUS_SUCCESS) {
        kf_cuda_fail(s, KF_ERR_DEVICE, "linear: cublasLt, %zu rows, %zu to %zu: %s", n_rows, w->n_in, w->n_out,
                     cublasLtGetStatusName(status));
        return;
    }
    if (o.act != KF_ACT_NONE) kf_cuda_linear_end(s, out, n_rows * w->n_out, o);
}

void kf_cuda_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    const kf_device *d = s->device;
    const kf_cuda_product *p = o.out_f32 ? &w->to_f32 : &w->to_act;
    bool overwritten = o.act != KF_ACT_NONE && o.residual == out && o.residual; /* before it would be added */
    bool two_formats = o.out_f32 && o.residual && d->act != KF_F32;
    bool few = !d->batch_invariant && n_rows <= KF_CUDA_PRODUCT_ROWS;
    if (p->n_algos == 0 || overwritten || two_formats || few)
        kf_cuda_linear_rows(s, out, x, w, n_rows, o);
    else
        linear_cublas(s, out, x, w, n_rows, o);
}
