/* The two panels of bench_plot.h. */
#include "cli/bench_plot.h"

#include <math.h>

#include "cli/svg.h"

enum { WIDTH = 1000, HEIGHT = 400, PANEL_WIDTH = 400, PANEL_HEIGHT = 270, TOP = 70, LEFT = 60, RIGHT = 560, TICKS = 5 };

static double y_of(double share) {
    return TOP + PANEL_HEIGHT * (1 - share);
}

/* The next of 1, 2, 5, 10, 20, … that is not below x. */
static double nice_ceil(double x) {
    double power = pow(10, floor(log10(x)));
    return power * (x <= power ? 1 : x <= 2 * power ? 2 : x <= 5 * power ? 5 : 10);
}

static void draw_level(kf_svg *s, double left, double share, const char *format, double value) {
    char text[32];
    snprintf(text, sizeof text, format, value);
    kf_svg_line(s, left, y_of(share), left + PANEL_WIDTH, y_of(share), "grid");
    kf_svg_text(s, left - 8, y_of(share) + 4, "label", text);
}

/* ---- how long answers took ---- */

/* A logarithmic axis of milliseconds. */
typedef struct time_axis {
    double lo, hi;
} time_axis;

static double x_of(const time_axis *a, double ms) {
    double at = ms > a->lo ? log(ms / a->lo) / log(a->hi / a->lo) : 0;
    return LEFT + PANEL_WIDTH * (at < 1 ? at : 1);
}

static time_axis axis_of(const kf_load_result *r) {
    const kf_samples *const all[] = {&r->ttft, &r->tpot, &r->total};
    time_axis a = {.lo = 1e9, .hi = 1e-3};
    for (size_t i = 0; i < 3; i++) { /* sorted */
        if (!all[i]->n) continue;
        a.lo = fmin(a.lo, all[i]->values[0] * 1e3);
        a.hi = fmax(a.hi, all[i]->values[all[i]->n - 1] * 1e3);
    }
    a.hi = nice_ceil(a.hi);
    a.lo = pow(10, floor(log10(fmin(fmax(a.lo, a.hi / 1e6), a.hi / 2))));
    return a;
}

static void draw_time_axis(kf_svg *s, const time_axis *a) {
    int n_decades = (int)floor(log10(a->hi / a->lo) + 1e-4);
    for (int i = 0; i <= n_decades; i++) {
        double ms = a->lo * pow(10, i);
        char text[32];
        snprintf(text, sizeof text, "%g ms", ms);
        kf_svg_line(s, x_of(a, ms), TOP, x_of(a, ms), TOP + PANEL_HEIGHT, "grid");
        kf_svg_text(s, x_of(a, ms), TOP + PANEL_HEIGHT + 18, "axis", text);
    }
    for (int i = 0; i <= TICKS; i++)
        draw_level(s, LEFT, (double)i / TICKS, "%.0f %%", 100.0 * i / TICKS);
}

static void draw_share(kf_svg *s, const time_axis *a, const kf_samples *samples, const char *cls) {
    double points[KF_PLOT_POINTS][2];
    size_t n = samples->n < KF_PLOT_POINTS ? samples->n : KF_PLOT_POINTS;
    for (size_t i = 0; i < n; i++) {
        size_t rank = (i + 1) * samples->n / n; /* n's last is the slowest */
        points[i][0] = x_of(a, samples->values[rank - 1] * 1e3);
        points[i][1] = y_of((double)rank / (double)samples->n);
    }
    if (n) kf_svg_curve(s, points, n, cls);
}

static void draw_key(kf_svg *s, int row, const char *name, const char *cls, kf_samples *samples) {
    char text[128];
    kf_quantiles q = kf_samples_quantiles(samples);
    double y = TOP + PANEL_HEIGHT - 58 + 18.0 * row, x = LEFT + PANEL_WIDTH - 232;
    if (!q.n) return;
    snprintf(text, sizeof text, "%s p50 %.4g, p90 %.4g, p99 %.4g ms", name, q.p50 * 1e3, q.p90 * 1e3, q.p99 * 1e3);
    kf_svg_area(s, x, y - 9, 10, 10, cls, 1);
    kf_svg_text(s, x + 16, y, "key", text);
}

static void draw_times(kf_svg *s, kf_load_result *r) {
    static const char *const names[] = {"ttft", "tpot", "total"}, *const classes[] = {"c1", "c2", "c0"};
    kf_samples *const all[] = {&r->ttft, &r->tpot, &r->total};
    for (size_t i = 0; i < 3; i++)
        kf_samples_quantiles(all[i]);
    time_axis a = axis_of(r);
    kf_svg_text(s, LEFT, TOP - 16, "title", "share of OK replies within a time");
    draw_time_axis(s, &a);
    for (int i = 0; i < 3; i++) {
        draw_share(s, &a, all[i], classes[i]);
        draw_key(s, i, names[i], classes[i], all[i]);
    }
}

/* ---- how many came when ---- */

static double count_bins(const kf_load_result *r, double seconds, size_t bins[KF_PLOT_BINS]) {
    size_t most = 1;
    for (size_t i = 0; i < r->done.n; i++) {
        double at = r->done.values[i] / seconds * KF_PLOT_BINS;
        size_t bin = at < KF_PLOT_BINS - 1 ? (size_t)at : KF_PLOT_BINS - 1;
        if (++bins[bin] > most) most = bins[bin];
    }
    return nice_ceil((double)most * KF_PLOT_BINS / seconds);
}

static void draw_rate(kf_svg *s, const kf_load_result *r) {
    size_t bins[KF_PLOT_BINS] = {0};
    double seconds = fmax(r->seconds, 1e-3), top = count_bins(r, seconds, bins),
           width = PANEL_WIDTH / (double)KF_PLOT_BINS;
    kf_svg_text(s, RIGHT, TOP - 16, "title", "OK replies a second, over time");
    for (int i = 0; i <= TICKS; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.3g s", seconds * i / TICKS);
        draw_level(s, RIGHT, (double)i / TICKS, "%g", top * i / TICKS);
        kf_svg_text(s, RIGHT + PANEL_WIDTH * (double)i / TICKS, TOP + PANEL_HEIGHT + 18, "axis", text);
    }
    for (size_t i = 0; i < KF_PLOT_BINS; i++) {
        double share = (double)bins[i] * KF_PLOT_BINS / seconds / top;
        kf_svg_area(s, RIGHT + width * (double)i + 0.5, y_of(share), width - 1, PANEL_HEIGHT * share, "c0", 0.85);
    }
}

kf_status kf_bench_plot(const char *path, kf_load_result *r) {
    kf_svg s;
    char text[160];
    KF_TRY(kf_svg_open(path, WIDTH, HEIGHT, "kefu bench", &s));
    snprintf(text, sizeof text, "kefu bench: %llu sent, %llu OK in %.1f s", (unsigned long long)r->n_sent,
             (unsigned long long)r->n_ok, r->seconds);
    kf_svg_text(&s, LEFT, 26, "title", text);
    if (r->n_ok) {
        draw_times(&s, r);
        draw_rate(&s, r);
    }
    return kf_svg_close(&s);
}
