/* PReLU, the one activation of ACT2FN that has a weight: a slope for each layer. The table of operations has no place
 * for it, and needs none: prelu(u) = relu(u) - slope relu(-u), so with the weights stacked at load
 *
 *     Wdown prelu(Wup x + bup) = [Wdown, -slope Wdown] relu([Wup; -Wup] x + [bup; -bup])
 *
 * and the forward pass is that of relu at twice the width.
 */
#ifndef KF_MODEL_PRELU_H
#define KF_MODEL_PRELU_H

#include "model/loader.h"

/* [Wup; -Wup] [2 n_out, n_in] and its bias from NAME.weight [n_out, n_in], NAME.bias. The statuses of kf_load_linear.
 */
kf_status kf_load_prelu_up(kf_loader *l, const char *name, size_t n_out, size_t n_in, kf_weight **out);

/* [Wdown, -slope Wdown] [n_out, 2 n_in] and its bias from NAME.weight [n_out, n_in], NAME.bias, and the tensor `slope`
 * [1]. The statuses of kf_load_linear. */
kf_status kf_load_prelu_down(kf_loader *l, const char *name, const char *slope, size_t n_out, size_t n_in,
                             kf_weight **out);

#endif
