/* Products by oneDNN, for many rows.
 *
 * A product has a fixed shape: n_in inputs, at most 2048 columns, a number of rows from `row_counts`. Its primitives
 * are made when the first weight of that shape is packed, and shared by the later ones; rows are filled up to the
 * next count. So an operation makes no primitive and allocates nothing, and its output fits the second cache, where
 * one pass of ours adds bias, activation and residual.
 *
 * Promise 3: the same row has the same bits at every row count that is kept. That is tried when the shape is made:
 * each count's product of random numbers is compared with the largest count's, and dropped where a bit differs. Then
 * our own products are tried, by order of summation and by K block, until one has these bits too: it takes the few
 * rows of a decoder's step. Where none has, oneDNN takes every row count. */
#ifdef KF_HAVE_ONEDNN
#include "device/cpu/cpu.h"
#include "device/bf16.h"

#include <dnnl.h>
#include <stdlib.h>

static const size_t row_counts[] = {16, 32, 48, 64, 96, 128, 192, KF_ONEDNN_ROWS};
enum { N_COUNTS = sizeof row_counts / sizeof row_counts[0], MAX_SHAPES = 64, ROWS_OURS = 8 };

struct kf_onednn_shape {
    size_t n_in, n_columns;
    kf_dtype dtype;
    dnnl_memory_desc_t weights;
    dnnl_primitive_t product[N_COUNTS]; /* NULL where it is not kept */
    dnnl_memory_t x[N_COUNTS], sums[N_COUNTS], scratchpad[N_COUNTS];
    kf_cpu_plan plan; /* ours, with the same bits; product NULL for none */
};

struct kf_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    kf_onednn_shape *shapes[MAX_SHAPES];
    size_t n_shapes;
};

/* ---- opening ---- */

kf_status kf_onednn_open(kf_cpu_device *d, kf_onednn **out) {
    (void)d;
    kf_onednn *o = calloc(1, sizeof *o);
    if (!o) return KF_FAIL(KF_ERR_NO_MEMORY, "oneDNN: %zu bytes asked for, the system has none", sizeof *o);
    if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) != dnnl_success) {
        kf_onednn_close(o);
        return KF_FAIL(KF_ERR_DEVICE, "oneDNN could not be started; build with -DKF_ONEDNN=OFF to do without");
    }
    *out = o;
    return KF_OK;
}

static void shape_free(kf_onednn_shape *p) {
    if (!p) return;
    for (size_t i = 0; i < N_COUNTS; i++) {
        if (p->product[i]) dnnl_primitive_destroy(p->product[i]);
        if (p->x[i]) dnnl_memory_destroy(p->x[i]);
        if (p->sums[i]) dnnl_memory_destroy(p->sums[i]);
        if (p->scratchpad[i]) dnnl_memory_destroy(p->scratchpad[i]);
    }
    free(p);
}

void kf_onednn_close(kf_onednn *o) {
    if (!o) return;
    for (size_t i = 0; i < o->n_shapes; i++)
        shape_free(o->shapes[i]);
    if (o->stream) dnnl_stream_destroy(o->stream);
    if (o->engine) dnnl_engine_destroy(o->engine);
    free(o);
}

/* ---- making a shape ---- */

/* The panels of loops.h in oneDNN's words. */
static dnnl_status_t panels_desc(dnnl_memory_desc_t *m, size_t n_in, size_t n_columns, kf_dtype dtype) {
    dnnl_dims_t dims = {(dnnl_dim_t)n_in, (dnnl_dim_t)n_columns};
    if (dtype == KF_F32) return dnnl_memory_desc_init_by_tag(m, 2, dims, dnnl_f32, dnnl_BA16a64b);
    return dnnl_memory_desc_init_by_tag(m, 2, dims, dnnl_bf16, dnnl_BA16a64b2a);
}

/* Makes the product of one row count. False: oneDNN has none for these panels. */
static bool product_make(kf_cpu_device *d, kf_onednn_shape *p, size_t count) {
    dnnl_engine_t engine = d->onednn->engine;
    dnnl_data_type_t type = p->dtype == KF_F32 ? dnnl_f32 : dnnl_bf16;
    dnnl_dim_t n_rows = (dnnl_dim_t)row_counts[count];
    dnnl_memory_desc_t x, sums;
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_dims_t x_dims = {n_rows, (dnnl_dim_t)p->n_in}, sums_dims = {n_rows, (dnnl_dim_t)p->n_columns};
    bool made = dnnl_memory_desc_init_by_tag(&x, 2, x_dims, type, dnnl_ab) == dnnl_success &&
                dnnl_memory_desc_init_by_tag(&sums, 2, sums_dims, dnnl_f32, dnnl_ab) == dnnl_success &&
                dnnl_matmul_desc_init(&op, &x, &p->weights, NULL, &sums) == dnnl_success &&
                dnnl_primitive_attr_create(&attr) == dnnl_success &&
                dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
                dnnl_primitive_desc_create(&desc, &op, attr, engine, NULL) == dnnl_success;
    const char *name = "";
    if (made) dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
    if (strncmp(name, "brg", 3)) made = false; /* the others are slower than ours */
    if (made) {
        const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        made = kf_cpu_scratch_grow(&d->scratch.library, &d->scratch.library_bytes, dnnl_memory_desc_get_size(pad)) ==
                   KF_OK &&
               dnnl_memory_create(&p->scratchpad[count], pad, engine, DNNL_MEMORY_NONE) == dnnl_success &&
               dnnl_memory_create(&p->x[count], &x, engine, DNNL_MEMORY_NONE) == dnnl_success &&
               dnnl_memory_create(&p->sums[count], &sums, engine, DNNL_MEMORY_NONE) == dnnl_success &&
               dnnl_primitive_create(&p->product[count], desc) == dnnl_success;
    }
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return made;
}

/* The least kept row count that holds n_rows. */
static size_t count_for(const kf_onednn_shape *p, size_t n_rows) {
    size_t i = 0;
    while (i < N_COUNTS - 1 && (row_counts[i] < n_rows || !p->product[i]))
        i++;
    return i;
}

/* sums [row_counts[count], n_columns] = x W; x has the weights' format and row_counts[count] rows. */
static bool product_run(kf_cpu_device *d, const kf_onednn_shape *p, size_t count, const void *x, dnnl_memory_t weights,
                        float *sums) {
    kf_cpu_pool_adopt(d->pool);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->x[count]},
                              {DNNL_ARG_WEIGHTS, weights},
                              {DNNL_ARG_DST, p->sums[count]},
                              {DNNL_ARG_SCRATCHPAD, p->scratchpad[count]}};
    return dnnl_memory_set_data_handle(p->x[count], (void *)x) == dnnl_success &&
           dnnl_memory_set_data_handle(p->sums[count], sums) == dnnl_success &&
           dnnl_memory_set_data_handle(p->scratchpad[count], d->scratch.library) == dnnl_success &&
           dnnl_primitive_execute(p->product[count], d->onednn->stream, 4, args) == dnnl_success &&
           dnnl_stream_wait(d->onednn->stream) == dnnl_success;
}

/* ---- comparing bits ---- */

/* Random numbers for a shape, in the weights' format, and the sums of two products. */
typedef struct trial {
    void *x;      /* [KF_ONEDNN_ROWS, n_in] */
    void *x_ours; /* its first rows as our products take them: [KF_CPU_PRODUCT_ROWS, padded n_in] */
    void *panels;
    float *sums, *sums_most; /* [KF_ONEDNN_ROWS, n_columns] */
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
static void zero_padding(const kf_onednn_shape *p, void *panels, size_t depth) {
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

static bool trial_make(kf_cpu_device *d, const kf_onednn_shape *p, trial *t) {
    size_t depth = kf_cpu_panel_depth(p->n_in, p->dtype), n_panels = (p->n_columns + KF_CPU_PANEL - 1) / KF_CPU_PANEL;
    size_t bytes = kf_dtype_bytes(p->dtype);
    *t = (trial){0};
    t->x = malloc(KF_ONEDNN_ROWS * p->n_in * bytes);
    t->x_ours = calloc(KF_CPU_PRODUCT_ROWS * depth, bytes);
    t->panels = aligned_alloc(64, n_panels * KF_CPU_PANEL * depth * bytes);
    t->sums = malloc(KF_ONEDNN_ROWS * p->n_columns * sizeof(float));
    t->sums_most = malloc(KF_ONEDNN_ROWS * p->n_columns * sizeof(float));
    if (!t->x || !t->x_ours || !t->panels || !t->sums || !t->sums_most) return false;
    random_fill(t->x, p->dtype, KF_ONEDNN_ROWS * p->n_in);
    random_fill(t->panels, p->dtype, n_panels * KF_CPU_PANEL * depth);
    for (size_t r = 0; r < KF_CPU_PRODUCT_ROWS; r++)
        memcpy((char *)t->x_ours + r * depth * bytes, (char *)t->x + r * p->n_in * bytes, p->n_in * bytes);
    zero_padding(p, t->panels, depth);
    return dnnl_memory_create(&t->weights, &p->weights, d->onednn->engine, t->panels) == dnnl_success;
}

/* Whether our product has the bits of sums_most, on the first n_rows of the first and the last panel. */
static bool plan_fits(const kf_onednn_shape *p, const trial *t, const kf_cpu_plan *plan, size_t n_rows) {
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
static kf_cpu_plan plan_find(const kf_cpu_device *d, const kf_onednn_shape *p, const trial *t) {
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
static bool shape_try(kf_cpu_device *d, kf_onednn_shape *p) {
    trial t;
    size_t most = N_COUNTS - 1, bytes = kf_dtype_bytes(p->dtype);
    bool made = trial_make(d, p, &t) && product_run(d, p, most, t.x, t.weights, t.sums_most);
    for (size_t i = 0; made && i < most; i++) {
        bool same = p->product[i] != NULL;
        /* the last rows, so that a row is tried at two places */
        size_t first = KF_ONEDNN_ROWS - row_counts[i];
        if (same) made = product_run(d, p, i, (char *)t.x + first * p->n_in * bytes, t.weights, t.sums);
        same = same && made &&
               !memcmp(t.sums, t.sums_most + first * p->n_columns, row_counts[i] * p->n_columns * sizeof(float));
        if (same || !p->product[i]) continue;
        dnnl_primitive_destroy(p->product[i]);
        p->product[i] = NULL;
    }
    if (made) p->plan = plan_find(d, p, &t);
    trial_free(&t);
    return made;
}

/* The shape, made when it is new. NULL: oneDNN has no product for it, or there is no place for another shape. */
static kf_onednn_shape *shape_get(kf_cpu_device *d, size_t n_in, size_t n_columns, kf_dtype dtype) {
    kf_onednn *o = d->onednn;
    for (size_t i = 0; i < o->n_shapes; i++) {
        kf_onednn_shape *p = o->shapes[i];
        if (p->n_in == n_in && p->n_columns == n_columns && p->dtype == dtype) return p;
    }
    kf_onednn_shape *p = o->n_shapes < MAX_SHAPES ? calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    p->n_in = n_in, p->n_columns = n_columns, p->dtype = dtype;
    bool made = panels_desc(&p->weights, n_in, n_columns, dtype) == dnnl_success;
    for (size_t i = 0; made && i < N_COUNTS; i++)
        made = product_make(d, p, i);
    if (made) made = shape_try(d, p);
    if (!made) {
        shape_free(p);
        return NULL;
    }
    return o->shapes[o->n_shapes++] = p;
}

/* ---- a weight ---- */

static size_t n_groups_of(const kf_weight *w) {
    return (w->n_out + KF_ONEDNN_COLUMNS - 1) / KF_ONEDNN_COLUMNS;
}

static const kf_onednn_shape *group_shape(const kf_weight *w, size_t group) {
    return (group + 1) * KF_ONEDNN_COLUMNS <= w->n_out ? w->wide : w->rest;
}

static bool same_plan(const kf_cpu_plan *a, const kf_cpu_plan *b) {
    return a->product == b->product && a->k_block == b->k_block;
}

/* Both shapes of a weight must agree with one product of ours. */
static void choose_rows(const kf_cpu_device *d, kf_weight *w) {
    const kf_onednn_shape *p = w->wide ? w->wide : w->rest;
    bool fits = p->plan.product && (!w->wide || !w->rest || same_plan(&w->wide->plan, &w->rest->plan));
    if (fits) w->plan = p->plan;
    w->n_rows_ours = fits || !d->base.batch_invariant ? ROWS_OURS : 0;
}

kf_status kf_onednn_weight_add(kf_cpu_device *d, kf_weight *w) {
    /* oneDNN takes these panels with AVX-512 only, and bf16 without its instructions is slower than ours */
    if (w->dtype == KF_BF16 && !d->loops.product_dot) return KF_OK;
    size_t n_groups = n_groups_of(w), rest = w->n_out % KF_ONEDNN_COLUMNS;
    if (n_groups > 1 || rest == 0) {
        w->wide = shape_get(d, w->n_in, KF_ONEDNN_COLUMNS, w->dtype);
        if (!w->wide) return KF_OK;
    }
    if (rest) {
        w->rest = shape_get(d, w->n_in, rest, w->dtype);
        if (!w->rest) return KF_OK;
    }
    size_t x_bytes = KF_ONEDNN_ROWS * w->n_in_padded * sizeof(float);
    size_t columns = w->wide ? KF_ONEDNN_COLUMNS : rest;
    KF_TRY(kf_cpu_scratch_grow(&d->scratch.x, &d->scratch.x_bytes, x_bytes));
    KF_TRY(kf_cpu_scratch_grow((void **)&d->scratch.sums, &d->scratch.sums_bytes,
                               KF_ONEDNN_ROWS * columns * sizeof(float)));
    w->column_groups = calloc(n_groups, sizeof *w->column_groups);
    if (!w->column_groups) return KF_FAIL(KF_ERR_NO_MEMORY, "weight: no memory for %zu handles", n_groups);
    for (size_t i = 0; i < n_groups; i++) {
        char *panels = (char *)w->panels + i * KF_ONEDNN_COLUMNS * w->n_in_padded * kf_dtype_bytes(w->dtype);
        dnnl_memory_t *m = (dnnl_memory_t *)&w->column_groups[i];
        if (dnnl_memory_create(m, &group_shape(w, i)->weights, d->onednn->engine, panels) != dnnl_success)
            return KF_FAIL(KF_ERR_NO_MEMORY, "weight: oneDNN has no memory for its handle");
    }
    choose_rows(d, w);
    return KF_OK;
}

void kf_onednn_weight_free(kf_weight *w) {
    for (size_t i = 0; w->column_groups && i < n_groups_of(w); i++)
        if (w->column_groups[i]) dnnl_memory_destroy(w->column_groups[i]);
    free(w->column_groups);
}

/* ---- the operation ---- */

typedef struct rows_job {
    kf_cpu_device *d;
    const kf_weight *w;
    const float *x;
    float *out;
    size_t column, n_columns; /* of this group */
    kf_linear_opts o;
} rows_job;

/* x in the product's format, in scratch. */
static void convert_body(void *arg, size_t first, size_t last) {
    const rows_job *j = arg;
    size_t n_in = j->w->n_in;
    for (size_t r = first; r < last; r++)
        if (j->w->dtype == KF_BF16)
            j->d->loops.to_bf16((uint16_t *)j->d->scratch.x + r * n_in, j->x + r * n_in, n_in);
        else
            memcpy((float *)j->d->scratch.x + r * n_in, j->x + r * n_in, n_in * sizeof(float));
}

/* Bias, activation, residual: from scratch to out. */
static void finish_body(void *arg, size_t first, size_t last) {
    const rows_job *j = arg;
    for (size_t r = first; r < last; r++) {
        size_t at = r * j->w->n_out + j->column;
        j->d->loops.finish(j->out + at, j->d->scratch.sums + r * j->n_columns,
                           j->w->bias ? j->w->bias + j->column : NULL, j->o.act,
                           j->o.residual ? (const float *)j->o.residual + at : NULL, j->n_columns);
    }
}

void kf_onednn_linear(kf_stream *s, float *out, const float *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    kf_cpu_device *d = (kf_cpu_device *)s->device;
    rows_job j = {.d = d, .w = w, .x = x, .out = out, .o = o};
    bool direct = w->dtype == KF_F32 && row_counts[count_for(w->rest ? w->rest : w->wide, n_rows)] == n_rows &&
                  row_counts[count_for(w->wide ? w->wide : w->rest, n_rows)] == n_rows;
    if (!direct) kf_cpu_parallel_for(s, n_rows, 16, convert_body, &j);
    for (size_t i = 0; i < n_groups_of(w); i++) {
        const kf_onednn_shape *p = group_shape(w, i);
        size_t count = count_for(p, n_rows);
        if (!product_run(d, p, count, direct ? x : d->scratch.x, w->column_groups[i], d->scratch.sums)) {
            kf_cpu_fail(s, KF_ERR_DEVICE, "linear: oneDNN failed for %zu rows, %zu inputs, %zu outputs", n_rows,
                        w->n_in, w->n_out);
            return;
        }
        j.column = i * KF_ONEDNN_COLUMNS;
        j.n_columns = p->n_columns;
        kf_cpu_parallel_for(s, n_rows, 1 + 8192 / p->n_columns, finish_body, &j);
    }
}
#endif
