/* Sorting numbers. */
#ifndef KF_BASE_SORT_H
#define KF_BASE_SORT_H

#include <stddef.h>

/* Ascending, in place; none of them NaN. x may be NULL where n is 0. */
void kf_sort_f64(double *x, size_t n);

#endif
