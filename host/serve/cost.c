/* Piecewise linear curves of cost.h. */
#include "serve/cost.h"

void kf_cost_add(kf_cost_curve *c, size_t size, int64_t ns) {
    if (c->n == KF_COST_POINTS) return;
    if (c->n && ns < c->ns[c->n - 1]) ns = c->ns[c->n - 1];
    c->size[c->n] = (int64_t)size;
    c->ns[c->n++] = ns;
}

int64_t kf_cost_at(const kf_cost_curve *c, size_t size) {
    int64_t x = (int64_t)size;
    if (x == 0 || c->n == 0) return 0;
    if (c->n == 1 || x <= c->size[0]) return c->ns[0];
    size_t i = 1;
    while (i + 1 < c->n && x > c->size[i])
        i++;
    int64_t dx = c->size[i] - c->size[i - 1], dy = c->ns[i] - c->ns[i - 1];
    return c->ns[i - 1] + dy * (x - c->size[i - 1]) / dx;
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
