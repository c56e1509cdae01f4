/* out = act(x Wᵀ + bias) + residual: our products, or oneDNN's where a weight has them and there are rows enough.
 *
 * For a weight, an element's sum has one order whoever computes it (promise 3): weight packing has chosen our
 * product so that its bits are oneDNN's, or gives all rows to one of them. */
#include "device/cpu/cpu.h"

/* Rows of one piece of work; a panel is read from memory once for them. And the fewest multiply-adds worth a thread. */
enum { PIECE_ROWS = 48, PIECE_PRODUCTS = 1 << 18 };

typedef struct linear_job {
    const kf_cpu_loops *loops;
    float *out;
    const void *x; /* [n_rows], rows x_stride apart, in the product's format */
    size_t x_stride, n_rows;
    size_t n_panels;
    const kf_weight *w;
    kf_linear_opts o;
} linear_job;

/* Rows row .. row + n of one panel. */
static void panel_rows(const linear_job *j, size_t panel, size_t row, size_t n) {
    const kf_weight *w = j->w;
    float sums[KF_CPU_PRODUCT_ROWS * KF_CPU_PANEL];
    size_t x_bytes = j->w->plan.x_bf16 ? 2 : 4, column = panel * KF_CPU_PANEL;
    size_t width = w->n_out - column < KF_CPU_PANEL ? w->n_out - column : KF_CPU_PANEL;
    kf_cpu_product p = {
        .sums = sums,
        .x = (const char *)j->x + row * j->x_stride * x_bytes,
        .x_stride = j->x_stride,
        .n_rows = n,
        .panel = (const char *)w->panels + column * w->n_in_padded * kf_dtype_bytes(w->dtype),
        .n_in = w->n_in,
        .k_block = w->plan.k_block,
    };
    w->plan.product(&p);
    for (size_t r = 0; r < n; r++) {
        size_t at = (row + r) * w->n_out + column;
        const float *residual = j->o.residual ? (const float *)j->o.residual + at : NULL;
        j->loops->finish(j->out + at, sums + r * KF_CPU_PANEL, w->bias ? w->bias + column : NULL, j->o.act, residual,
                         width);
    }
}

/* Pieces first .. last of [row groups, n_panels]. */
static void linear_body(void *arg, size_t first, size_t last) {
    const linear_job *j = arg;
    for (size_t i = first; i < last; i++) {
        size_t row = i / j->n_panels * PIECE_ROWS, panel = i % j->n_panels;
        size_t end = j->n_rows - row < PIECE_ROWS ? j->n_rows : row + PIECE_ROWS;
        for (size_t n; row < end; row += n) {
            n = end - row < KF_CPU_PRODUCT_ROWS ? end - row : KF_CPU_PRODUCT_ROWS;
            panel_rows(j, panel, row, n);
        }
    }
}

/* Rows in bf16, zeros from n_in to n_in_padded. */
static void rows_to_bf16(const kf_cpu_loops *loops, uint16_t *out, const float *x, const kf_weight *w, size_t n_rows) {
    for (size_t r = 0; r < n_rows; r++, out += w->n_in_padded) {
        loops->to_bf16(out, x + r * w->n_in, w->n_in);
        memset(out + w->n_in, 0, (w->n_in_padded - w->n_in) * sizeof *out);
    }
}

static void linear_ours(kf_stream *s, float *out, const float *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    kf_cpu_device *d = (kf_cpu_device *)s->device;
    linear_job j = {.loops = &d->loops, .out = out, .x = x, .x_stride = w->n_in, .n_rows = n_rows, .w = w, .o = o};
    if (w->plan.x_bf16) {
        rows_to_bf16(&d->loops, d->x.p, x, w, n_rows);
        j.x = d->x.p;
        j.x_stride = w->n_in_padded;
    }
    j.n_panels = (w->n_out + KF_CPU_PANEL - 1) / KF_CPU_PANEL;
    size_t n_groups = (n_rows + PIECE_ROWS - 1) / PIECE_ROWS;
    size_t products = w->n_in * KF_CPU_PANEL * (n_rows < PIECE_ROWS ? n_rows : PIECE_ROWS);
    kf_cpu_parallel_for(s, n_groups * j.n_panels, 1 + PIECE_PRODUCTS / products, linear_body, &j);
}

void kf_cpu_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    if (!kf_cpu_runs(s) || n_rows == 0) return;
#ifdef KF_HAVE_ONEDNN
    if (n_rows > w->n_rows_ours) {
        kf_onednn_linear(s, out, x, w, n_rows, o);
        return;
    }
#endif
    linear_ours(s, out, x, w, n_rows, o);
}
