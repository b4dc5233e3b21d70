/* axis.c -- work along an axis: operands made dense, seen as (outer, n, inner), handed to the machine. */
#include "array/array.h"
#include "cpu/scan.h"

array *arr_scan(ctx *c, int op, array *x, array *a, int axis, bool reverse, array **at) {
  WORK(c, op);
  array *dense = arr_contiguous(c, x), *second = dense && a ? arr_contiguous(c, a) : NULL;
  array *r = dense && (second || !a) ? arr_new(c, x->dtype, &x->s) : NULL;
  array *i = r && at ? arr_new(c, I64, &x->s) : NULL;
  if (r && (i || !at)) {
    scan s = {
        .op = op, .t = x->dtype, .outer = 1, .n = x->s.d[axis], .inner = 1, .reverse = reverse};
    for (int k = 0; k < axis; k++) s.outer *= x->s.d[k];
    for (int k = axis + 1; k < x->s.n; k++) s.inner *= x->s.d[k];
    s.x = arr_data(dense);
    s.a = arr_data(second ? second : dense);
    s.y = arr_data(r);
    s.at = i ? arr_data(i) : NULL;
    scan_run(c, &s);
  } else {
    arr_unref(r);
    r = NULL;
  }
  arr_unref(dense);
  arr_unref(second);
  if (at) *at = r ? i : NULL;
  return r;
}
