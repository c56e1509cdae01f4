/* What work costs on this device, in nanoseconds by size: measured at start, corrected by what it takes later, read by
 * the plan.
 *
 *     kf_cost_curve c = {0};
 *     kf_cost_add(&c, 1, 900000), kf_cost_add(&c, 16, 2400000);
 *     kf_cost_at(&c, 8);            // between the two; past the last point the last slope goes on
 *     kf_cost_fit(&c, 20000000);    // the largest size that takes at most 20 ms
 *
 * Integers only, so that a plan made from a curve, and what it learns, is the same on every machine.
 */
#ifndef KF_SERVE_COST_H
#define KF_SERVE_COST_H

#include <stddef.h>
#include <stdint.h>

enum { KF_COST_POINTS = 16 };

typedef struct kf_cost_curve {
    size_t n;
    int64_t size[KF_COST_POINTS]; /* ascending */
    int64_t ns[KF_COST_POINTS];   /* never falling; as measured */
    int64_t slower;               /* than that now: KF_COST_ONE says twice, 0 as measured; to KF_COST_SLOWER_MAX */
} kf_cost_curve;

enum { KF_COST_ONE = 1 << 20, KF_COST_SLOWER_MAX = 3 * KF_COST_ONE };

/* Appends a point; sizes come in ascending order. A time below the last point's was noise and is raised to it. Points
 * past KF_COST_POINTS are left out. */
void kf_cost_add(kf_cost_curve *c, size_t size, int64_t ns);

/* Straight lines between the points, the first point's time below it, the last slope above. 0 for size 0 or no points.
 */
int64_t kf_cost_at(const kf_cost_curve *c, size_t size);

/* The largest size, at most `most`, whose time is at most ns; 0 where not even 1 fits. */
size_t kf_cost_fit(const kf_cost_curve *c, int64_t ns, size_t most);

/* One device's figures. A decoder step costs decode(rows) + prefill(tokens): more than it takes, since both read the
 * weights once, and the plan's promise is an upper bound. */
typedef struct kf_cost {
    kf_cost_curve layer; /* of one encoder layer by a pass's tokens; embeddings and heads are spread over the layers */
    kf_cost_curve prefill; /* by tokens of prompts in a step */
    kf_cost_curve decode;  /* by running sequences in a step */
} kf_cost;

/* What one run of the device did. */
typedef struct kf_work {
    size_t n_decode_rows, n_prefill_tokens; /* of its decoder step */
    size_t pass_tokens, n_layers;           /* of its encoder piece */
} kf_work;

int64_t kf_cost_of(const kf_cost *c, const kf_work *w);

/* The work took ns: each kind's curve moves by its share of the error. Up quickly (an eighth of it a run), for a gap
 * that is too long is a broken promise; down slowly (a 128th), and never below what was measured at start, where the
 * longest texts were tried. One run counts as four times its expected time at most, and a curve is never corrected by
 * more: a machine that stood still for seconds must not stop the worker. */
void kf_cost_learn(kf_cost *c, const kf_work *w, int64_t ns);

#endif
