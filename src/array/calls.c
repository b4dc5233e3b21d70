/* calls.c -- what is not elementwise: arrays made ready for calls of the machine, which are launched here.
**
** Operands are made READY and, where the machine wants it, dense; results are fresh. Arguments have been
** checked above.
*/
#include <string.h>

#include "array/internal.h"

bool arr_call(ctx *c, int op, cpu_fn *fn, const int64_t *attr, int nin, const array *const *in,
              int nout, array *const *out) {
  const view *from[MAXCALLIN], *to[MAXCALLOUT];
  launch l = {.kind = CALL, .op = op};
  for (int i = 0; i < nin; i++) {
    if (in[i] && !arr_readable(c, in[i])) return false;
    from[i] = in[i] ? &in[i]->v : NULL;
  }
  for (int i = 0; i < nout; i++) {
    if (out[i] && !arr_readable(c, out[i])) return false;
    to[i] = out[i] ? &out[i]->v : NULL;
  }
  l.fn = fn;
  l.attr = attr;
  l.in = from;
  l.nin = nin;
  l.out = to;
  l.nout = nout;
  if (__builtin_expect(c->arrays->tape != NULL, 0))
    for (int i = 0; i < nin; i++)
      if (in[i] && !tape_hold(c, in[i])) return false;
  return launch_work(c, &l);
}

static bool call(ctx *c, int op, cpu_fn *fn, const int64_t *attr, const array *x, const array *y,
                 array *r) {
  return r->size == 0 || arr_call(c, op, fn, attr, 2, (const array *[]){x, y}, 1, &r);
}

/* r if the call was made, else NULL; x and y are let go. */
static array *result(ctx *c, int op, cpu_fn *fn, const int64_t *attr, array *x, array *y,
                     array *r) {
  if (r && !call(c, op, fn, attr, x, y, r)) arr_unref(r), r = NULL;
  arr_unref(x);
  arr_unref(y);
  return r;
}

/* Both operands dense */
static bool dense_pair(ctx *c, array *a, array *b, array **x, array **y) {
  *x = arr_contiguous(c, a);
  *y = *x ? arr_contiguous(c, b) : NULL;
  if (!*y) arr_unref(*x);
  return *y;
}

array *arr_zeros(ctx *c, dtype t, const shape *s) {
  array *r = arr_new(c, t, s);
  return result(c, OP_identity, cpu_zero, NULL, NULL, NULL, r);
}

array *arr_copy(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  array *r = arr_new(c, a->dtype, &a->s);
  if (!r || !r->size) return r;
  if (a->state == CONST && c->arrays->tape)
    return result(c, OP_identity, tape_fill, &a->k.i, NULL, NULL, r);
  if (a->state == CONST) return imm_fill(a->dtype, r->p, a->k, a->size), r;
  return result(c, OP_identity, cpu_copy, NULL, arr_ref(a), NULL, r);
}

/* ---- slices --------------------------------------------------------------------------------------- */

static bool slice(ctx *c, cpu_fn *fn, array *dst, const int64_t *first, const int64_t *step,
                  array *src) {
  int64_t attr[2 * MAXDIM] = {0};
  if (src->size == 0) return true;
  array *x = arr_contiguous(c, src);
  if (!x) return false;
  memcpy(attr, first, dst->s.n * sizeof *attr); /* there may be no more of them */
  memcpy(attr + MAXDIM, step, dst->s.n * sizeof *attr);
  bool ok = call(c, OP_slice, fn, attr, x, NULL, dst);
  arr_unref(x);
  return ok;
}

static bool can_add(ctx *c, const array *a) {
  return (a->dtype != U8 && a->dtype != BOOL) ||
         fail(c, "%s values cannot be added up in place", dtype_name[a->dtype]);
}

/* dst and src are of one rank; first counts from 0 */
bool arr_add_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src) {
  return can_add(c, dst) && slice(c, cpu_add_slice, dst, first, step, src);
}

bool arr_set_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src) {
  return slice(c, cpu_set_slice, dst, first, step, src);
}

array *arr_cat(ctx *c, int n, array *const *a, int axis) {
  WORK(c, OP_cat);
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  shape s = a[0]->s;
  for (int k = 1; k < n; k++)
    if (__builtin_add_overflow(s.d[axis], a[k]->s.d[axis], &s.d[axis]))
      return fail(c, "cat: more than an axis can have"), NULL;
  for (int i = 0; i < MAXDIM; i++) step[i] = 1;
  array *r = arr_new(c, a[0]->dtype, &s);
  for (int k = 0; r && k < n; k++) {
    if (!arr_set_slice(c, r, first, step, a[k])) return arr_unref(r), NULL;
    first[axis] += a[k]->s.d[axis];
  }
  return r;
}

/* ---- by an index ----------------------------------------------------------------------------------- */

/* One number that a call gives about x; it is charged to nobody, unless WORK says so. */
static int64_t ask(ctx *c, cpu_fn *fn, int64_t attr, const array *x) {
  int64_t answer = 0;
  if (c->arrays->tape) { /* there is an answer in a replay alone: it must be 0 */
    if (fn != cpu_first_bad) return tape_refuse(c), -1;
    array *no = arr_new(c, I64, &(shape){0});
    bool ok = no && arr_call(c, OP_NONE, fn, &attr, 1, &x, 1, &no) &&
              tape_check(c, no, (imm){0}, NO_CHOICE);
    arr_unref(no);
    return ok ? 0 : -1;
  }
  view r = {.p = &answer, .size = 1, .dtype = I64};
  launch l = {.kind = CALL, .op = OP_NONE};
  l.fn = fn;
  l.attr = &attr;
  l.in = (const view *[]){&x->v};
  l.nin = 1;
  l.out = (const view *[]){&r};
  l.nout = 1;
  return arr_readable(c, x) && launch_work(c, &l) ? answer : -1;
}

int64_t arr_check_index(ctx *c, array *idx, int64_t n) {
  array *x = arr_contiguous(c, idx);
  int64_t bad = x ? ask(c, cpu_first_bad, n, x) : -1;
  arr_unref(x);
  return bad;
}

array *arr_take(ctx *c, array *a, int axis, array *idx) {
  WORK(c, OP_index_select);
  shape s = a->s;
  int64_t along = axis;
  array *x, *i;
  s.d[axis] = idx->size;
  if (!dense_pair(c, a, idx, &x, &i)) return NULL;
  return result(c, OP_index_select, cpu_take, &along, x, i, arr_new(c, a->dtype, &s));
}

/* In place; attr: the axis, or what fn takes */
static bool into(ctx *c, int op, cpu_fn *fn, int64_t attr, array *dst, array *idx, array *src) {
  array *x, *i;
  if (!dense_pair(c, src, idx, &x, &i)) return false;
  bool ok = x->size == 0 || call(c, op, fn, &attr, x, i, dst);
  arr_unref(x);
  arr_unref(i);
  return ok;
}

bool arr_add_take(ctx *c, array *dst, int axis, array *idx, array *src) {
  return can_add(c, dst) && into(c, OP_index_add, cpu_add_take, axis, dst, idx, src);
}

bool arr_put_rows(ctx *c, array *dst, int64_t n, array *idx, array *src) {
  return into(c, OP_index_select, cpu_put_rows, n, dst, idx, src);
}

array *arr_gather(ctx *c, array *a, int axis, array *idx) {
  WORK(c, OP_gather);
  int64_t along = axis;
  array *x, *i;
  if (!dense_pair(c, a, idx, &x, &i)) return NULL;
  return result(c, OP_gather, cpu_gather, &along, x, i, arr_new(c, a->dtype, &idx->s));
}

bool arr_add_gather(ctx *c, array *dst, int axis, array *idx, array *src) {
  return can_add(c, dst) && into(c, OP_scatter_add, cpu_add_gather, axis, dst, idx, src);
}

bool arr_set_gather(ctx *c, array *dst, int axis, array *idx, array *src) {
  return into(c, OP_scatter, cpu_put_gather, axis, dst, idx, src);
}

array *arr_nonzero(ctx *c, array *mask) {
  array *x = arr_contiguous(c, mask);
  int64_t n = x ? ask(c, cpu_count_true, 0, x) : -1;
  array *r = n < 0 ? NULL : arr_new(c, I64, &(shape){1, {n}});
  return result(c, OP_index_select, cpu_nonzero, NULL, x, NULL, r);
}

array *arr_places(ctx *c, array *mask) {
  WORK(c, OP_nonzero);
  array *at = arr_nonzero(c, mask);
  int64_t attr[1 + MAXDIM] = {mask->s.n};
  memcpy(attr + 1, mask->s.d, sizeof mask->s.d);
  array *r = at ? arr_new(c, I64, &(shape){2, {at->size, mask->s.n}}) : NULL;
  return result(c, OP_nonzero, cpu_unravel, attr, at, NULL, r);
}

array *arr_search(ctx *c, array *sorted, array *v, bool right) {
  WORK(c, OP_searchsorted);
  int64_t behind = right;
  array *x, *y;
  if (!dense_pair(c, sorted, v, &x, &y)) return NULL;
  return result(c, OP_searchsorted, cpu_search, &behind, x, y, arr_new(c, I64, &v->s));
}

/* ---- along an axis ----------------------------------------------------------------------------------- */

/* uint8 and bool count as int64 */
array *arr_cumsum(ctx *c, array *a, int axis) {
  WORK(c, OP_cumsum);
  int64_t along = axis;
  array *t = arr_cast(c, a, a->dtype == U8 || a->dtype == BOOL ? I64 : a->dtype);
  array *x = t ? arr_contiguous(c, t) : NULL, *r = x ? arr_new(c, x->dtype, &x->s) : NULL;
  arr_unref(t);
  return result(c, OP_cumsum, cpu_cumsum, &along, x, NULL, r);
}

array *arr_scan(ctx *c, int op, array *x, array *a, int axis, bool reverse, array **at) {
  WORK(c, op);
  array *dense = arr_contiguous(c, x), *second = dense && a ? arr_contiguous(c, a) : NULL;
  array *r = dense && (second || !a) ? arr_new(c, x->dtype, &x->s) : NULL;
  array *i = r && at ? arr_new(c, I64, &x->s) : NULL;
  const int64_t attr[] = {op, axis, reverse};
  if (at && !i) arr_unref(r), r = NULL;
  if (r && r->size &&
      !arr_call(c, op, cpu_scan, attr, 2, (const array *[]){dense, second}, 2, (array *[]){r, i}))
    arr_unref(r), arr_unref(i), r = i = NULL;
  arr_unref(dense);
  arr_unref(second);
  if (at) *at = i;
  return r;
}

array *arr_ranks(ctx *c, int op, array *a, int axis, bool descending, int64_t first,
                 int64_t count) {
  WORK(c, op);
  shape s = a->s;
  s.d[axis] = count;
  array *x = arr_contiguous(c, a), *r = x ? arr_new(c, I64, &s) : NULL;
  return result(c, op, cpu_ranks, (const int64_t[]){axis, descending, first}, x, NULL, r);
}

/* ---- products ------------------------------------------------------------------------------------------ */

/* As a product can read it. A CONST, and what is copied, become one matrix where all of the batch are the same: a
** number that a record does not know is broadcast there, and its products have the same bits. */
static array *operand(ctx *c, array *a, bool vector) {
  if (!arr_ready(c, a)) return NULL;
  if (a->state == READY && cpu_matmul_reads(&a->v, vector)) return arr_ref(a);
  shape one = a->s;
  bool same = true;
  for (int i = 0; i < one.n - 2; i++) {
    same = same && (a->state == CONST || one.d[i] == 1 || a->stride[i] == 0);
    one.d[i] = 1;
  }
  array *k = same ? arr_view(c, a, &one, a->stride, 0) : arr_ref(a);
  array *r = k ? arr_contiguous(c, k) : NULL;
  arr_unref(k);
  return r;
}

array *arr_matmul(ctx *c, int op, array *a, array *b) {
  WORK(c, op);
  int n = a->s.n;
  shape s = a->s;
  s.d[n - 1] = b->s.d[n - 1];
  array *r = arr_new(c, a->dtype, &s);
  if (!r || r->size == 0) return r;
  if (a->dtype == I64) {
    array *p, *q;
    if (!dense_pair(c, a, b, &p, &q)) return arr_unref(r), NULL;
    return result(c, op, cpu_matmul_whole, NULL, p, q, r);
  }
  array *x = operand(c, a, s.d[n - 2] == 1), *y = x ? operand(c, b, s.d[n - 1] == 1) : NULL;
  if (!y) arr_unref(r), r = NULL;
  return result(c, op, cpu_matmul, (const int64_t[]){op == OP_distance}, x, y, r);
}

array *arr_pull(ctx *c, array *w, array *x, array *y) {
  array *in[3] = {NULL};
  WORK(c, OP_pull);
  array *r = arr_new(c, F64, &x->s);
  if (!r || r->size == 0) return r;
  bool ok = (in[0] = operand(c, w, false)) && (in[1] = arr_contiguous(c, x)) &&
            (in[2] = arr_contiguous(c, y)) &&
            arr_call(c, OP_pull, cpu_pull, NULL, 3, (const array *const *)in, 1, &r);
  for (int i = 0; i < 3; i++) arr_unref(in[i]);
  if (!ok) arr_unref(r);
  return ok ? r : NULL;
}

/* ---- convolutions --------------------------------------------------------------------------------------- */

array *arr_convolve(ctx *c, int op, array *a, array *b, const shape *s, const int64_t *attr) {
  WORK(c, op);
  cpu_fn *fn = op == OP_convolve        ? cpu_conv
               : op == OP_convolve_data ? cpu_conv_data
                                        : cpu_conv_weight;
  array *x, *y;
  if (!dense_pair(c, a, b, &x, &y)) return NULL;
  return result(c, op, fn, attr, x, y, arr_new(c, a->dtype, s));
}

array *arr_columns(ctx *c, int op, array *a, const shape *s, const int64_t *attr) {
  WORK(c, op);
  cpu_fn *fn = op == OP_im2col ? cpu_im2col : op == OP_col2im ? cpu_col2im : cpu_fold;
  array *x = arr_contiguous(c, a), *r = x ? arr_new(c, a->dtype, s) : NULL;
  return result(c, op, fn, attr, x, NULL, r);
}

/* ---- sampling ------------------------------------------------------------------------------------------ */

array *arr_variates(ctx *c, int op, array *p) {
  WORK(c, op);
  array *x = arr_contiguous(c, p);
  array *r = x ? arr_new(c, op == OP_poisson ? I64 : F64, &p->s) : NULL;
  const int64_t attr[] = {(int64_t)c->seed, (int64_t)(r ? random_take(c, 2 * r->size) : 0)};
  return result(c, op, op == OP_poisson ? cpu_poisson : cpu_gamma, attr, x, NULL, r);
}

array *arr_randperm(ctx *c, int64_t n) {
  array *r = arr_new(c, I64, &(shape){1, {n}});
  if (r && c->arrays->tape) {
    const int64_t attr[] = {(int64_t)c->seed, (int64_t)random_take(c, n)};
    return result(c, OP_rand, tape_permutation, attr, NULL, NULL, r);
  }
  if (r) random_perm(c, n, r->p);
  return r;
}

array *arr_gamma_slope(ctx *c, array *x, array *p, int64_t order) {
  WORK(c, OP_gamma_slope);
  array *a, *b;
  if (!dense_pair(c, x, p, &a, &b)) return NULL;
  return result(c, OP_gamma_slope, cpu_gamma_slope, &order, a, b, arr_new(c, F64, &x->s));
}
