/* Products by oneDNN, for many rows.
 *
 * oneDNN runs in one thread here: a product is cut into pieces of rows and columns that the pool's threads take, each
 * with the library's kernel for a piece, then one pass of ours over it while it is in the second cache: bias,
 * activation, residual. A piece has a fixed shape: n_in inputs, a number of columns that depends on the weight and
 * the number of threads, a number of rows from `row_counts`. Its primitives are made when the first weight of that
 * shape is packed, and shared by the later ones; rows are filled up to the next count. So an operation makes no
 * primitive and allocates nothing, and a row's bits do not depend on the number of threads.
 *
 * Promise 3: the same row has the same bits at every row count that is kept. That is tried when the shape is made:
 * each count's product of random numbers is compared with the largest count's, and dropped where a bit differs. Then
 * our own products are tried, by order of summation and by K block, until one has these bits too: it takes the few
 * rows of a decoder's step. Where none has, oneDNN takes every row count. */
#ifdef KF_HAVE_ONEDNN
#include "device/cpu/cpu.h"
#include "base/log.h"
#include "device/bf16.h"

#include <dnnl.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    MAX_ROWS = 256,     /* of a piece */
    SLAB_ROWS = 512,    /* that are cut into pieces at once */
    MIN_COLUMNS = 128,  /* of a piece, and */
    MAX_COLUMNS = 1024, /* so that its sums are 1 MiB at most */
    PIECES_A_THREAD = 2,
    ROWS_OURS = 8,      /* at most; the library is faster from here on */
    ROWS_OURS_TILE = 2, /* where ours follows the tiles' order, which costs it twice the work */
    MAX_SHAPES = 64,
};
static const size_t row_counts[] = {16, 32, 48, 64, 96, 128, 192, MAX_ROWS};
enum { N_COUNTS = sizeof row_counts / sizeof row_counts[0] };

/* The kernel of one row count, and one thread's handles for it. */
typedef struct handles {
    dnnl_memory_t x, sums, scratchpad;
} handles;

typedef struct kernel {
    dnnl_primitive_t product; /* NULL where it is not kept */
    handles *of_thread;       /* [n_threads] */
} kernel;

typedef struct shape {
    size_t n_in, n_columns;
    kf_dtype dtype;
    dnnl_memory_desc_t panels;
    kernel kernels[N_COUNTS];
    kf_cpu_plan plan; /* ours, with the same bits; product NULL for none */
} shape;

struct kf_onednn {
    dnnl_engine_t engine;
    size_t n_threads;
    dnnl_stream_t *streams; /* [n_threads] */
    kf_cpu_scratch sums;    /* [n_threads, sums_bytes] */
    kf_cpu_scratch library; /* [n_threads, library_bytes]: the kernels' scratchpads */
    size_t sums_bytes, library_bytes;
    shape *shapes[MAX_SHAPES];
    size_t n_shapes;
};

struct kf_onednn_weight {
    const shape *wide, *rest; /* of a whole group of columns, of what is left of n_out; NULL where there is none */
    size_t n_columns;         /* of a whole group */
    size_t n_groups;
    dnnl_memory_t panels[]; /* [n_groups] */
};

/* ---- opening ---- */

kf_status kf_onednn_open(kf_cpu_device *d, kf_onednn **out) {
    kf_onednn *o = calloc(1, sizeof *o);
    size_t n = (size_t)kf_cpu_pool_threads(d->pool);
    dnnl_stream_t *streams = calloc(n, sizeof *streams);
    if (!o || !streams) {
        free(o);
        free(streams);
        return KF_FAIL(KF_ERR_NO_MEMORY, "oneDNN: the system has no memory for %zu threads", n);
    }
    o->n_threads = n;
    o->streams = streams;
    bool made = dnnl_engine_create(&o->engine, dnnl_cpu, 0) == dnnl_success;
    for (size_t i = 0; made && i < n; i++)
        made = dnnl_stream_create(&streams[i], o->engine, dnnl_stream_default_flags) == dnnl_success;
    if (!made) {
        kf_onednn_close(o);
        return KF_FAIL(KF_ERR_DEVICE, "oneDNN could not be started; build with -DKF_ONEDNN=OFF to do without");
    }
    *out = o;
    return KF_OK;
}

static void kernel_free(kernel *k, size_t n_threads) {
    for (size_t i = 0; k->of_thread && i < n_threads; i++) {
        handles *h = &k->of_thread[i];
        if (h->x) dnnl_memory_destroy(h->x);
        if (h->sums) dnnl_memory_destroy(h->sums);
        if (h->scratchpad) dnnl_memory_destroy(h->scratchpad);
    }
    free(k->of_thread);
    if (k->product) dnnl_primitive_destroy(k->product);
    *k = (kernel){0};
}

static void shape_free(shape *p, size_t n_threads) {
    for (size_t i = 0; i < N_COUNTS; i++)
        kernel_free(&p->kernels[i], n_threads);
    free(p);
}

void kf_onednn_close(kf_onednn *o) {
    if (!o) return;
    for (size_t i = 0; i < o->n_shapes; i++)
        shape_free(o->shapes[i], o->n_threads);
    for (size_t i = 0; i < o->n_threads; i++)
        if (o->streams[i]) dnnl_stream_destroy(o->streams[i]);
    if (o->engine) dnnl_engine_destroy(o->engine);
    free(o->streams);
    free(o->sums.p);
    free(o->library.p);
    free(o);
}

/* ---- making a shape ---- */

/* The panels of loops.h in oneDNN's words. */
static dnnl_status_t panels_desc(dnnl_memory_desc_t *m, size_t n_in, size_t n_columns, kf_dtype dtype) {
    dnnl_dims_t dims = {(dnnl_dim_t)n_in, (dnnl_dim_t)n_columns};
    if (dtype == KF_F32) return dnnl_memory_desc_init_by_tag(m, 2, dims, dnnl_f32, dnnl_BA16a64b);
    return dnnl_memory_desc_init_by_tag(m, 2, dims, dnnl_bf16, dnnl_BA16a64b2a);
}

/* What oneDNN would do for one row count. NULL: nothing that is faster than ours. */
static dnnl_primitive_desc_t kernel_desc(dnnl_engine_t engine, const shape *p, size_t n_rows) {
    dnnl_data_type_t type = p->dtype == KF_F32 ? dnnl_f32 : dnnl_bf16;
    dnnl_memory_desc_t x, sums;
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_dims_t x_dims = {(dnnl_dim_t)n_rows, (dnnl_dim_t)p->n_in};
    dnnl_dims_t sums_dims = {(dnnl_dim_t)n_rows, (dnnl_dim_t)p->n_columns};
    if (dnnl_memory_desc_init_by_tag(&x, 2, x_dims, type, dnnl_ab) == dnnl_success &&
        dnnl_memory_desc_init_by_tag(&sums, 2, sums_dims, dnnl_f32, dnnl_ab) == dnnl_success &&
        dnnl_matmul_desc_init(&op, &x, &p->panels, NULL, &sums) == dnnl_success &&
        dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success)
        dnnl_primitive_desc_create(&desc, &op, attr, engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    const char *name = "";
    if (desc) dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
    if (!desc || !strncmp(name, "brg", 3)) return desc;
    dnnl_primitive_desc_destroy(desc);
    return NULL;
}

static bool kernel_make(kf_onednn *o, shape *p, size_t count) {
    kernel *k = &p->kernels[count];
    omp_set_num_threads(1);
    dnnl_primitive_desc_t desc = kernel_desc(o->engine, p, row_counts[count]);
    if (!desc) return false;
    const dnnl_memory_desc_t *x = dnnl_primitive_desc_query_md(desc, dnnl_query_src_md, 0);
    const dnnl_memory_desc_t *sums = dnnl_primitive_desc_query_md(desc, dnnl_query_dst_md, 0);
    const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    size_t pad_bytes = (dnnl_memory_desc_get_size(pad) + 63) / 64 * 64;
    if (pad_bytes > o->library_bytes) o->library_bytes = pad_bytes;
    k->of_thread = calloc(o->n_threads, sizeof *k->of_thread);
    bool made = k->of_thread && kf_cpu_scratch_grow(&o->library, o->n_threads * o->library_bytes) == KF_OK &&
                dnnl_primitive_create(&k->product, desc) == dnnl_success;
    for (size_t i = 0; made && i < o->n_threads; i++) {
        handles *h = &k->of_thread[i];
        made = dnnl_memory_create(&h->x, x, o->engine, DNNL_MEMORY_NONE) == dnnl_success &&
               dnnl_memory_create(&h->sums, sums, o->engine, DNNL_MEMORY_NONE) == dnnl_success &&
               dnnl_memory_create(&h->scratchpad, pad, o->engine, DNNL_MEMORY_NONE) == dnnl_success;
    }
    dnnl_primitive_desc_destroy(desc);
    return made;
}

/* The least kept row count that holds n_rows. */
static size_t count_for(const shape *p, size_t n_rows) {
    size_t i = 0;
    while (i < N_COUNTS - 1 && (row_counts[i] < n_rows || !p->kernels[i].product))
        i++;
    return i;
}

/* sums [row_counts[count], n_columns] = x W; x has the weights' format and as many rows. In the calling thread. */
static bool kernel_run(const kf_onednn *o, const shape *p, size_t count, const void *x, dnnl_memory_t panels,
                       float *sums) {
    size_t thread = (size_t)kf_cpu_thread_index();
    const kernel *k = &p->kernels[count];
    const handles *h = &k->of_thread[thread];
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, h->x},
                              {DNNL_ARG_WEIGHTS, panels},
                              {DNNL_ARG_DST, h->sums},
                              {DNNL_ARG_SCRATCHPAD, h->scratchpad}};
    omp_set_num_threads(1); /* this thread's setting: the library starts no threads of its own */
    return dnnl_memory_set_data_handle(h->x, (void *)x) == dnnl_success &&
           dnnl_memory_set_data_handle(h->sums, sums) == dnnl_success &&
           dnnl_memory_set_data_handle(h->scratchpad, (char *)o->library.p + thread * o->library_bytes) ==
               dnnl_success &&
           dnnl_primitive_execute(k->product, o->streams[thread], 4, args) == dnnl_success;
}

/* ---- comparing bits ---- */

/* Random numbers for a shape, in the weights' format, and the sums of two products. */
typedef struct trial {
    void *x;      /* [MAX_ROWS, n_in] */
    void *x_ours; /* its first rows as our products take them: [KF_CPU_PRODUCT_ROWS, padded n_in] */
    void *panels;
    float *sums, *sums_most; /* [MAX_ROWS, n_columns] */
    dnnl_memory_t weights;
} trial;

static void random_fill(void *p, kf_dtype dtype, size_t n) {
    uint32_t u = 2463534242u;
    for (size_t i = 0; i < n; i++) {
        u ^= u << 13, u ^= u >> 17, u ^= u << 5; /* xorshift32 (Marsaglia 2003) */
        float v = (float)(int32_t)u * 0x1p-31f;
        if (dtype == KF_F32)
            ((float *)p)[i] = v;
        else
            ((uint16_t *)p)[i] = kf_bf16_from_f32(v);
    }
}

/* Zeros where the panels of a shape are padding: inputs from n_in, columns from n_columns. */
static void zero_padding(const shape *p, void *panels, size_t depth) {
    size_t n_panels = (p->n_columns + KF_CPU_PANEL - 1) / KF_CPU_PANEL;
    for (size_t col = 0; col < n_panels * KF_CPU_PANEL; col++)
        for (size_t in = col < p->n_columns ? p->n_in : 0; in < depth; in++) {
            size_t row = col / KF_CPU_PANEL * depth + in, lane = col % KF_CPU_PANEL;
            if (p->dtype == KF_F32)
                ((float *)panels)[row * KF_CPU_PANEL + lane] = 0;
            else
                ((uint16_t *)panels)[(row / 2 * KF_CPU_PANEL + lane) * 2 + in % 2] = 0;
        }
}

static void trial_free(trial *t) {
    if (t->weights) dnnl_memory_destroy(t->weights);
    free(t->x), free(t->x_ours), free(t->panels), free(t->sums), free(t->sums_most);
    *t = (trial){0};
}

static bool trial_make(kf_cpu_device *d, const shape *p, trial *t) {
    size_t depth = kf_cpu_panel_depth(p->n_in, p->dtype), n_panels = (p->n_columns + KF_CPU_PANEL - 1) / KF_CPU_PANEL;
    size_t bytes = kf_dtype_bytes(p->dtype);
    *t = (trial){0};
    t->x = malloc(MAX_ROWS * p->n_in * bytes);
    t->x_ours = calloc(KF_CPU_PRODUCT_ROWS * depth, bytes);
    t->panels = aligned_alloc(64, n_panels * KF_CPU_PANEL * depth * bytes);
    t->sums = malloc(MAX_ROWS * p->n_columns * sizeof(float));
    t->sums_most = malloc(MAX_ROWS * p->n_columns * sizeof(float));
    if (!t->x || !t->x_ours || !t->panels || !t->sums || !t->sums_most) return false;
    random_fill(t->x, p->dtype, MAX_ROWS * p->n_in);
    random_fill(t->panels, p->dtype, n_panels * KF_CPU_PANEL * depth);
    for (size_t r = 0; r < KF_CPU_PRODUCT_ROWS; r++)
        memcpy((char *)t->x_ours + r * depth * bytes, (char *)t->x + r * p->n_in * bytes, p->n_in * bytes);
    zero_padding(p, t->panels, depth);
    return dnnl_memory_create(&t->weights, &p->panels, d->onednn->engine, t->panels) == dnnl_success;
}

/* Whether our product has the bits of sums_most, on the first n_rows of the first and the last panel. */
static bool plan_fits(const shape *p, const trial *t, const kf_cpu_plan *plan, size_t n_rows) {
    float sums[KF_CPU_PRODUCT_ROWS * KF_CPU_PANEL];
    size_t last = (p->n_columns - 1) / KF_CPU_PANEL, bytes = kf_dtype_bytes(p->dtype);
    for (size_t panel = 0; panel <= last; panel += last ? last : 1) {
        size_t column = panel * KF_CPU_PANEL;
        size_t width = p->n_columns - column < KF_CPU_PANEL ? p->n_columns - column : KF_CPU_PANEL;
        kf_cpu_product c = {.sums = sums,
                            .x = t->x_ours,
                            .x_stride = kf_cpu_panel_depth(p->n_in, p->dtype),
                            .n_rows = n_rows,
                            .panel = (const char *)t->panels + column * kf_cpu_panel_depth(p->n_in, p->dtype) * bytes,
                            .n_in = p->n_in,
                            .k_block = plan->k_block};
        plan->product(&c);
        for (size_t r = 0; r < c.n_rows; r++)
            if (memcmp(sums + r * KF_CPU_PANEL, t->sums_most + r * p->n_columns + column, width * sizeof *sums))
                return false;
    }
    return true;
}

/* Our product with these bits: by order of summation, then by K block, the likely ones first. */
static kf_cpu_plan plan_find(const kf_cpu_device *d, const shape *p, const trial *t) {
    void (*const orders[])(const kf_cpu_product *) = {p->dtype == KF_F32 ? d->loops.product_f32 : d->loops.product_dot,
                                                      p->dtype == KF_F32 ? NULL : d->loops.product_tile};
    size_t all = kf_cpu_panel_depth(p->n_in, p->dtype);
    for (size_t i = 0; i < 2; i++) {
        kf_cpu_plan plan = {.product = orders[i], .x_bf16 = p->dtype == KF_BF16};
        if (!plan.product) continue;
        const size_t likely[] = {all, 1024, 512};
        for (size_t j = 0; j < 3; j++)
            if (plan.k_block = likely[j], plan_fits(p, t, &plan, KF_CPU_PRODUCT_ROWS)) return plan;
        for (plan.k_block = 64; plan.k_block < all; plan.k_block += 32)
            if (plan_fits(p, t, &plan, 1) && plan_fits(p, t, &plan, KF_CPU_PRODUCT_ROWS)) return plan;
    }
    return (kf_cpu_plan){0};
}

/* Drops the row counts whose bits differ from the largest one's, then looks for our product. */
static bool shape_try(kf_cpu_device *d, shape *p) {
    trial t;
    const kf_onednn *o = d->onednn;
    size_t most = N_COUNTS - 1, bytes = kf_dtype_bytes(p->dtype);
    bool made = trial_make(d, p, &t) && kernel_run(o, p, most, t.x, t.weights, t.sums_most);
    for (size_t i = 0; made && i < most; i++) {
        size_t first = MAX_ROWS - row_counts[i]; /* the last rows, so that a row is tried at two places */
        made = kernel_run(o, p, i, (char *)t.x + first * p->n_in * bytes, t.weights, t.sums);
        if (made && memcmp(t.sums, t.sums_most + first * p->n_columns, row_counts[i] * p->n_columns * sizeof(float)))
            kernel_free(&p->kernels[i], o->n_threads);
    }
    if (made) p->plan = plan_find(d, p, &t);
    trial_free(&t);
    return made;
}

static void shape_log(const kf_cpu_device *d, const shape *p) {
    const char *order = !p->plan.product                          ? "none"
                        : p->plan.product == d->loops.product_f32 ? "f32 chain"
                        : p->plan.product == d->loops.product_dot ? "bf16 pairs"
                                                                  : "bf16 tiles";
    int n_kept = 0;
    for (size_t i = 0; i < N_COUNTS; i++)
        n_kept += p->kernels[i].product != NULL;
    kf_log(KF_DEBUG, "onednn_shape", KF_INT("n_in", p->n_in), KF_INT("n_columns", p->n_columns),
           KF_STR("dtype", kf_dtype_name(p->dtype)), KF_STR("order_found", order), KF_INT("k_block", p->plan.k_block),
           KF_INT("row_counts_kept", n_kept), KF_END);
}

/* The shape, made when it is new. NULL: oneDNN has no product for it, or there is no place for another shape. */
static const shape *shape_get(kf_cpu_device *d, size_t n_in, size_t n_columns, kf_dtype dtype) {
    kf_onednn *o = d->onednn;
    for (size_t i = 0; i < o->n_shapes; i++) {
        shape *p = o->shapes[i];
        if (p->n_in == n_in && p->n_columns == n_columns && p->dtype == dtype) return p;
    }
    shape *p = o->n_shapes < MAX_SHAPES ? calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    p->n_in = n_in, p->n_columns = n_columns, p->dtype = dtype;
    bool made = panels_desc(&p->panels, n_in, n_columns, dtype) == dnnl_success;
    for (size_t i = 0; made && i < N_COUNTS; i++)
        made = kernel_make(o, p, i);
    if (made) made = shape_try(d, p);
    if (!made) {
        shape_free(p, o->n_threads);
        return NULL;
    }
    shape_log(d, p);
    return o->shapes[o->n_shapes++] = p;
}

/* ---- a weight ---- */

/* Columns of a piece: enough pieces for the threads, not too small nor too large, as even as can be. */
static size_t columns_for(size_t n_out, size_t n_threads) {
    size_t columns = n_threads > 1 ? n_out / (n_threads * PIECES_A_THREAD) : n_out;
    if (columns < MIN_COLUMNS) columns = MIN_COLUMNS;
    if (columns > MAX_COLUMNS) columns = MAX_COLUMNS;
    size_t n_groups = (n_out + columns - 1) / columns;
    columns = (n_out + n_groups - 1) / n_groups;
    return (columns + KF_CPU_PANEL - 1) / KF_CPU_PANEL * KF_CPU_PANEL;
}

static const shape *shape_of(const kf_onednn_weight *w, size_t group) {
    return group + 1 < w->n_groups || !w->rest ? w->wide : w->rest;
}

void kf_onednn_weight_free(kf_onednn_weight *w) {
    for (size_t i = 0; w && i < w->n_groups; i++)
        if (w->panels[i]) dnnl_memory_destroy(w->panels[i]);
    free(w);
}

/* Few rows are ours where the bits are the same for all of the weight's columns, or need not be. */
static void choose_ours(const kf_cpu_device *d, kf_weight *w) {
    const shape *wide = w->onednn->wide, *rest = w->onednn->rest; /* one of them at least is there */
    const kf_cpu_plan *plan = wide ? &wide->plan : &rest->plan;
    bool fits = plan->product != NULL; // NOLINT(clang-analyzer-core.NullDereference)
    if (wide && rest) fits = fits && rest->plan.product == plan->product && rest->plan.k_block == plan->k_block;
    if (fits) w->plan = *plan;
    w->n_rows_ours = !fits && d->base.batch_invariant           ? 0
                     : w->plan.product == d->loops.product_tile ? ROWS_OURS_TILE
                                                                : ROWS_OURS;
}

kf_status kf_onednn_weight_add(kf_cpu_device *d, kf_weight *w) {
    kf_onednn *o = d->onednn;
    /* bf16 without its instructions is slower than ours */
    if (w->dtype == KF_BF16 && !d->loops.product_dot) return KF_OK;
    size_t columns = columns_for(w->n_out, o->n_threads), rest = w->n_out % columns;
    const shape *wide = w->n_out >= columns ? shape_get(d, w->n_in, columns, w->dtype) : NULL;
    const shape *narrow = rest ? shape_get(d, w->n_in, rest, w->dtype) : NULL;
    if ((w->n_out >= columns && !wide) || (rest && !narrow)) return KF_OK;

    size_t x_bytes = (SLAB_ROWS + MAX_ROWS) * w->n_in_padded * kf_dtype_bytes(w->dtype);
    size_t sums_bytes = MAX_ROWS * columns * sizeof(float);
    if (sums_bytes > o->sums_bytes) o->sums_bytes = sums_bytes;
    KF_TRY(kf_cpu_scratch_grow(&d->x, x_bytes));
    KF_TRY(kf_cpu_scratch_grow(&o->sums, o->n_threads * o->sums_bytes));
    size_t n_groups = (w->n_out + columns - 1) / columns;
    w->onednn = calloc(1, sizeof *w->onednn + n_groups * sizeof w->onednn->panels[0]);
    if (!w->onednn) return KF_FAIL(KF_ERR_NO_MEMORY, "weight: no memory for %zu handles of oneDNN", n_groups);
    *w->onednn = (kf_onednn_weight){.wide = wide, .rest = narrow, .n_columns = columns, .n_groups = n_groups};
    for (size_t i = 0; i < n_groups; i++) {
        char *panels = (char *)w->panels + i * columns * w->n_in_padded * kf_dtype_bytes(w->dtype);
        if (dnnl_memory_create(&w->onednn->panels[i], &shape_of(w->onednn, i)->panels, o->engine, panels) !=
            dnnl_success)
            return KF_FAIL(KF_ERR_NO_MEMORY, "weight: oneDNN has no memory for handle %zu of %zu", i, n_groups);
    }
    choose_ours(d, w);
    return KF_OK;
}

/* ---- the operation ---- */

typedef struct slab {
    kf_cpu_device *d;
    const kf_weight *w;
    const float *x;
    float *out;
    const float *residual; /* or NULL */
    kf_activation act;
    size_t n_rows;     /* at most SLAB_ROWS */
    size_t piece_rows; /* at most MAX_ROWS */
    atomic_bool failed;
} slab;

static bool piece_is_whole(const slab *j, const shape *p, size_t row) {
    return row + j->piece_rows <= j->n_rows && row_counts[count_for(p, j->piece_rows)] == j->piece_rows;
}

/* Rows of x to scratch, in the product's format; those that a whole piece takes from x itself need not go. */
static void convert_body(void *arg, size_t first, size_t last) {
    const slab *j = arg;
    const kf_weight *w = j->w;
    for (size_t r = first; r < last; r++) {
        size_t piece = r / j->piece_rows * j->piece_rows;
        if (w->dtype == KF_BF16)
            j->d->loops.to_bf16((uint16_t *)j->d->x.p + r * w->n_in, j->x + r * w->n_in, w->n_in);
        else if (!piece_is_whole(j, shape_of(w->onednn, 0), piece) ||
                 !piece_is_whole(j, shape_of(w->onednn, w->onednn->n_groups - 1), piece))
            memcpy((float *)j->d->x.p + r * w->n_in, j->x + r * w->n_in, w->n_in * sizeof(float));
    }
}

/* Pieces first .. last of [row pieces, column groups]. */
static void piece_body(void *arg, size_t first, size_t last) {
    slab *j = arg;
    const kf_weight *w = j->w;
    const kf_onednn *o = j->d->onednn;
    float *sums = (float *)((char *)o->sums.p + (size_t)kf_cpu_thread_index() * o->sums_bytes);
    for (size_t i = first; i < last; i++) {
        size_t group = i % w->onednn->n_groups, row = i / w->onednn->n_groups * j->piece_rows;
        size_t n = j->n_rows - row < j->piece_rows ? j->n_rows - row : j->piece_rows;
        const shape *p = shape_of(w->onednn, group);
        const void *x = (const char *)j->d->x.p + row * w->n_in * kf_dtype_bytes(w->dtype);
        if (w->dtype == KF_F32 && piece_is_whole(j, p, row)) x = j->x + row * w->n_in;
        if (!kernel_run(o, p, count_for(p, n), x, w->onednn->panels[group], sums)) {
            atomic_store(&j->failed, true);
            return;
        }
        size_t column = group * w->onednn->n_columns;
        for (size_t r = 0; r < n; r++) {
            size_t at = (row + r) * w->n_out + column;
            j->d->loops.finish(j->out + at, sums + r * p->n_columns, w->bias ? w->bias + column : NULL, j->act,
                               j->residual ? j->residual + at : NULL, p->n_columns);
        }
    }
}

/* Halves the rows of a piece until there are enough pieces for the threads. */
static size_t piece_rows_for(const kf_onednn *o, const kf_weight *w, size_t n_rows) {
    size_t rows = MAX_ROWS, wanted = o->n_threads > 1 ? o->n_threads * PIECES_A_THREAD : 1;
    while (rows > 32 && (n_rows + rows - 1) / rows * w->onednn->n_groups < wanted)
        rows /= 2;
    return rows;
}

void kf_onednn_linear(kf_stream *s, float *out, const float *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    kf_cpu_device *d = (kf_cpu_device *)s->device;
    for (size_t row = 0; row < n_rows; row += SLAB_ROWS) {
        slab j = {.d = d, .w = w, .x = x + row * w->n_in, .out = out + row * w->n_out, .act = o.act};
        if (o.residual) j.residual = (const float *)o.residual + row * w->n_out;
        j.n_rows = n_rows - row < SLAB_ROWS ? n_rows - row : SLAB_ROWS;
        j.piece_rows = piece_rows_for(d->onednn, w, j.n_rows);
        kf_cpu_parallel_for(s, j.n_rows, 1 + KF_CPU_GRAIN / w->n_in, convert_body, &j);
        size_t n_pieces = (j.n_rows + j.piece_rows - 1) / j.piece_rows * w->onednn->n_groups;
        kf_cpu_parallel_for(s, n_pieces, 1, piece_body, &j);
        if (atomic_load(&j.failed)) {
            kf_cpu_fail(s, KF_ERR_DEVICE, "linear: oneDNN failed for %zu rows, %zu inputs, %zu outputs", n_rows,
                        w->n_in, w->n_out);
            return;
        }
    }
}
#endif
