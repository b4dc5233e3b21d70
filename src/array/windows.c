/* windows.c -- pooling and its kin: arrays made dense for what src/cpu does window by window,
** launched here.
** */
#include "array/internal.h"

/* r of what fn makes of dense a and b (NULL: there is none); second: its other result. NULL: an
** error. */
static array *run(ctx *c, int op, cpu_fn *fn, const void *attr, array *a, array *b, array *r,
                  array *second) {
  array *x = r ? arr_contiguous(c, a) : NULL, *y = x && b ? arr_contiguous(c, b) : NULL;
  bool ok = x && (y || !b);
  if (ok && r->size)
    ok = arr_call(c, op, fn, attr, 2, (const array *[]){x, y}, 2, (array *[]){r, second});
  arr_unref(x);
  arr_unref(y);
  if (!ok) arr_unref(r);
  return ok ? r : NULL;
}

array *arr_max_pool(ctx *c, const pool *p, array *x, const shape *s, array **at) {
  WORK(c, OP_max_pool);
  array *place = at ? arr_new(c, pool_fits_bytes(p) ? U8 : I64, s) : NULL;
  array *r = at && !place ? NULL : arr_new(c, x->dtype, s);
  r = run(c, OP_max_pool, cpu_max_pool, p, x, NULL, r, place);
  if (r && at) *at = place;
  else arr_unref(place);
  return r;
}

array *arr_by_place(ctx *c, int op, const pool *p, array *x, array *at, const shape *s) {
  WORK(c, op);
  cpu_fn *fn = op == OP_max_pick ? cpu_max_pick : cpu_max_unpool;
  return run(c, op, fn, p, x, at, arr_new(c, x->dtype, s), NULL);
}

array *arr_average(ctx *c, int op, const pool *p, array *x, const shape *s) {
  WORK(c, op);
  cpu_fn *fn = op == OP_avg_pool ? cpu_avg_pool : cpu_avg_unpool;
  return run(c, op, fn, p, x, NULL, arr_new(c, x->dtype, s), NULL);
}
