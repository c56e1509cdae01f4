/* Piecewise linear curves of cost.h, and how they are corrected. */
#include "serve/cost.h"

void kf_cost_add(kf_cost_curve *c, size_t size, int64_t ns) {
    if (c->n == KF_COST_POINTS) return;
    if (c->n && ns < c->ns[c->n - 1]) ns = c->ns[c->n - 1];
    c->size[c->n] = (int64_t)size;
    c->ns[c->n++] = ns;
}

static int64_t measured_at(const kf_cost_curve *c, int64_t x) {
    if (c->n == 1 || x <= c->size[0]) return c->ns[0];
    size_t i = 1;
    while (i + 1 < c->n && x > c->size[i])
        i++;
    int64_t dx = c->size[i] - c->size[i - 1], dy = c->ns[i] - c->ns[i - 1];
    return c->ns[i - 1] + dy * (x - c->size[i - 1]) / dx;
}

int64_t kf_cost_at(const kf_cost_curve *c, size_t size) {
    if (size == 0 || c->n == 0) return 0;
    int64_t ns = measured_at(c, (int64_t)size);
    return ns + ns * c->slower / KF_COST_ONE;
}

size_t kf_cost_fit(const kf_cost_curve *c, int64_t ns, size_t most) {
    size_t low = 0, high = most; /* low fits */
    while (low < high) {
        size_t mid = high - (high - low) / 2;
        if (kf_cost_at(c, mid) <= ns) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    return low;
}

/* Each kind's part of the work's cost. */
typedef struct parts {
    int64_t layer, prefill, decode, all;
} parts;

static parts parts_of(const kf_cost *c, const kf_work *w) {
    parts p = {
        .layer = kf_cost_at(&c->layer, w->pass_tokens) * (int64_t)w->n_layers,
        .prefill = kf_cost_at(&c->prefill, w->n_prefill_tokens),
        .decode = kf_cost_at(&c->decode, w->n_decode_rows),
    };
    p.all = p.layer + p.prefill + p.decode;
    return p;
}

int64_t kf_cost_of(const kf_cost *c, const kf_work *w) {
    return parts_of(c, w).all;
}

/* error: of the whole run, in KF_COST_ONE of its cost; share: the kind's, the same. */
static void correct(kf_cost_curve *c, int64_t share, int64_t error) {
    int64_t factor = KF_COST_ONE + c->slower, rate = error > 0 ? 8 : 128;
    int64_t slower = c->slower + factor * share / KF_COST_ONE * error / (KF_COST_ONE * rate);
    c->slower = slower < 0 ? 0 : slower > KF_COST_SLOWER_MAX ? KF_COST_SLOWER_MAX : slower;
}

void kf_cost_learn(kf_cost *c, const kf_work *w, int64_t ns) {
    parts p = parts_of(c, w);
    if (p.all <= 0 || ns < 0) return;
    int64_t most = p.all * 4;
    if (ns > most) ns = most;
    int64_t error = (ns - p.all) * KF_COST_ONE / p.all;
    correct(&c->layer, p.layer * KF_COST_ONE / p.all, error);
    correct(&c->prefill, p.prefill * KF_COST_ONE / p.all, error);
    correct(&c->decode, p.decode * KF_COST_ONE / p.all, error);
}
