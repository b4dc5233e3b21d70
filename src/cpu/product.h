/* product.h -- products of tiles, for calls that cut their work themselves.
**
** tiles_begin before par_for, with the multiplications of the largest product, and tiles_end after it; in its body, products stand between tiles_enter and
** tiles_leave.
*/
#ifndef MG_PRODUCT_H
#define MG_PRODUCT_H

#include "cpu/cpu.h"

typedef struct tiles {
  bool blas;
  int was; /* threads that OpenBLAS might start from this one; 0: nobody knows */
} tiles;

void tiles_begin(ctx *c, tiles *t, int64_t largest);
void tiles_end(tiles *t);
void tiles_enter(const tiles *t);
void tiles_leave(const tiles *t);

/* c (m, n; rows ldc apart) = a (m, k) b (k, n), or += where add, on this thread. a and b: strides of rows and
** columns, one of them 1, the other no less than what it steps over, all within an int. */
void tiles_float(const tiles *t, int64_t m, int64_t n, int64_t k, const float *a, int64_t ar, int64_t ac,
                 const float *b, int64_t br, int64_t bc, float *c, int64_t ldc, bool add);
void tiles_double(const tiles *t, int64_t m, int64_t n, int64_t k, const double *a, int64_t ar, int64_t ac,
                  const double *b, int64_t br, int64_t bc, double *c, int64_t ldc, bool add);

#endif
