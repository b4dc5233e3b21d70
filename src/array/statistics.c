/* statistics.c -- what groups of an array's elements are normalized by: launched here.
*/
#include "array/internal.h"

bool arr_moments(ctx *c, const moments *a, array *x, const shape *s, array *out[4]) {
  WORK(c, OP_moments);
  array *dense = arr_contiguous(c, x);
  bool ok = dense;
  for (int k = 0; k < 4; k++) {
    out[k] = !ok ? NULL : x->size ? arr_new(c, x->dtype, s) : arr_zeros(c, x->dtype, s);
    ok = out[k];
  }
  if (ok && x->size)
    ok = arr_call(c, OP_moments, cpu_moments, (const int64_t *)a, 1, (const array *[]){dense}, 4,
                  out);
  arr_unref(dense);
  for (int k = 0; k < 4 && !ok; k++) arr_unref(out[k]), out[k] = NULL;
  return ok;
}
