/* A classifier's confusions as a picture. */
#ifndef KF_CLI_EVAL_PLOT_H
#define KF_CLI_EVAL_PLOT_H

#include "cli/eval_score.h"

/* A square a pair of labels: rows are the gold, columns what was said, darker where more of the row lies there.
 * KF_ERR_INVALID: no message was scored; KF_ERR_IO; KF_ERR_NO_MEMORY. */
kf_status kf_eval_plot(const char *path, const char *what, const kf_tally *t);

#endif
