/* multiply.h -- matrix products and distances on one thread, by kernels of one instruction level (multiply.c). */
#ifndef MG_MULTIPLY_H
#define MG_MULTIPLY_H

#include "cpu/cpu.h"

/* c (m, n; rows ldc apart) = a (m, k) b (k, n), or += where add; any strides of rows and columns. The order of
** additions is that of k in runs of a fixed length: an element does not depend on which others are computed. */
#define MULTIPLY(of, T)                                                                            \
  void (*of)(int64_t m, int64_t n, int64_t k, const T *a, int64_t ars, int64_t acs, const T *b,    \
             int64_t brs, int64_t bcs, T *c, int64_t ldc, bool add)
/* y[i] = sum over j of a[i * row + j] * x[j], 0 <= i < m, 0 <= j < k; runs of sums are added up in double */
#define DOTS_OF(T) void (*dots_##T)(int64_t m, int64_t k, const T *a, int64_t row, const T *x, T *y)
#define IS_DISTANCE(d) ((d) > 0x1p-450 && (d) < 0x1p500) /* its square neither overflows nor loses digits */
typedef struct multiply_kernels {
  MULTIPLY(of_float, float);
  MULTIPLY(of_double, double);
  DOTS_OF(float);
  DOTS_OF(double);
  MULTIPLY(apart, double); /* of sums over k of (a[i, k] - b[k, j])^2 */
  bool (*roots)(int64_t n, double *c); /* in place; is each of them IS_DISTANCE? */
  /* c (m, k) = sums over j of w[i, j] (x[i] - y[j]); x (m, k) and y (n, k) dense */
  void (*pull)(int64_t m, int64_t n, int64_t k, const double *w, int64_t wrs, int64_t wcs,
               const double *x, const double *y, double *c);
} multiply_kernels;
EXTERN_LEVELS(multiply_kernels, mg_multiply);

#endif
