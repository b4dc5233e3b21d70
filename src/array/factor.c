/* factor.c -- linear algebra: arrays made ready for LAPACK, and its results.
**
** Operands that are copied into a result may lie anyhow; factors lie as LAPACK reads them. All results of
** a call are there, or none is.
*/
#include "array/internal.h"

/* Lets go of the operands, some of which may be NULL: then nothing is computed. */
static bool factor(ctx *c, int op, cpu_fn *fn, const int64_t *attr, int nin, array **in, int nout,
                   array **out) {
  bool ok = true, empty = true;
  for (int i = 0; i < nin; i++) ok = ok && in[i];
  for (int i = 0; i < nout; i++) {
    ok = ok && out[i];
    empty = empty && !(out[i] && out[i]->size);
  }
  ok = ok && (empty || arr_call(c, op, fn, attr, nin, (const array *const *)in, nout, out));
  for (int i = 0; i < nin; i++) arr_unref(in[i]);
  for (int i = 0; i < nout && !ok; i++) arr_unref(out[i]), out[i] = NULL;
  return ok;
}

/* With values that lie somewhere, in any order; a new reference */
static array *lying(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  return a->state == CONST ? arr_contiguous(c, a) : arr_ref(a);
}

static array *readable(ctx *c, array *a) {
  array *x = lying(c, a);
  if (!x || cpu_matmul_reads(&x->v, false)) return x;
  array *dense = arr_contiguous(c, x);
  return arr_unref(x), dense;
}

/* Of x's batch axes and these */
static array *fresh(ctx *c, const array *x, dtype t, int more, int64_t m, int64_t n) {
  shape s = x->s;
  s.n += more - 2;
  if (more > 0) s.d[s.n - more] = m;
  if (more > 1) s.d[s.n - 1] = n;
  return arr_new(c, t, &s);
}

static int64_t last_dim(const array *x) { return x->s.d[x->s.n - 1]; }

array *arr_cholesky(ctx *c, array *x) {
  WORK(c, OP_cholesky);
  array *r = arr_new(c, x->dtype, &x->s), *in = lying(c, x);
  return factor(c, OP_cholesky, cpu_cholesky, NULL, 1, &in, 1, &r) ? r : NULL;
}

array *arr_cholesky_grad(ctx *c, array *L, array *g) {
  WORK(c, OP_cholesky);
  array *r = arr_new(c, L->dtype, &L->s), *in[] = {arr_contiguous(c, L), lying(c, g)};
  return factor(c, OP_cholesky, cpu_cholesky_grad, NULL, 2, in, 1, &r) ? r : NULL;
}

array *arr_triangular_solve(ctx *c, array *b, array *A, bool upper, bool transpose, bool unit) {
  WORK(c, OP_triangular_solve);
  const int64_t attr[] = {upper, transpose, unit};
  array *r = arr_new(c, b->dtype, &b->s), *in[] = {lying(c, b), readable(c, A)};
  return factor(c, OP_triangular_solve, cpu_triangular_solve, attr, 2, in, 1, &r) ? r : NULL;
}

bool arr_lu(ctx *c, array *x, int refuses, array **lu, array **pivots) {
  array *in = lying(c, x);
  array *out[] = {arr_new(c, x->dtype, &x->s), fresh(c, x, I64, 1, last_dim(x), 0)};
  bool ok = factor(c, OP_lu_solve, cpu_lu, (const int64_t[]){refuses}, 1, &in, 2, out);
  *lu = out[0];
  *pivots = out[1];
  return ok;
}

array *arr_lu_solve(ctx *c, array *b, array *lu, array *pivots, bool transpose) {
  array *r = arr_new(c, b->dtype, &b->s);
  array *in[] = {lying(c, b), readable(c, lu), lying(c, pivots)};
  return factor(c, OP_lu_solve, cpu_lu_solve, (const int64_t[]){transpose}, 3, in, 1, &r) ? r
                                                                                          : NULL;
}

array *arr_lu_det(ctx *c, array *lu, array *pivots, array **log) {
  array *in[] = {lying(c, lu), lying(c, pivots)};
  array *out[] = {fresh(c, lu, lu->dtype, 0, 0, 0), log ? fresh(c, lu, lu->dtype, 0, 0, 0) : NULL};
  const int64_t attr = log != NULL;
  bool ok = factor(c, OP_det, cpu_lu_det, &attr, 2, in, log ? 2 : 1, out);
  if (log) *log = out[1];
  return ok ? out[0] : NULL;
}

array *arr_cofactor(ctx *c, array *x) {
  WORK(c, OP_cofactor);
  array *r = arr_new(c, x->dtype, &x->s), *in = lying(c, x);
  return factor(c, OP_cofactor, cpu_cofactor, NULL, 1, &in, 1, &r) ? r : NULL;
}

bool arr_qr(ctx *c, array *x, array **q, array **r) {
  WORK(c, OP_qr);
  int64_t n = last_dim(x);
  array *in = lying(c, x), *out[] = {arr_new(c, x->dtype, &x->s), fresh(c, x, x->dtype, 2, n, n)};
  bool ok = factor(c, OP_qr, cpu_qr, NULL, 1, &in, 2, out);
  *q = out[0];
  *r = out[1];
  return ok;
}

bool arr_eigh(ctx *c, array *x, array **values, array **vectors) {
  WORK(c, OP_eigh);
  int last = x->s.n - 1, perm[MAXDIM];
  array *in = lying(c, x);
  array *out[] = {fresh(c, x, x->dtype, 1, last_dim(x), 0), arr_new(c, x->dtype, &x->s)};
  if (!factor(c, OP_eigh, cpu_eigh, NULL, 1, &in, 2, out)) return false;
  for (int i = 0; i < x->s.n; i++) perm[i] = i;
  perm[last] = last - 1;
  perm[last - 1] = last;
  *vectors = arr_permute(c, out[1], perm);
  arr_unref(out[1]);
  *values = out[0];
  if (!*vectors) arr_unref(*values);
  return *vectors;
}

bool arr_svd(ctx *c, int op, array *x, bool full, array **u, array **s, array **vh) {
  WORK(c, op);
  int64_t m = x->s.d[x->s.n - 2], n = last_dim(x), k = least(m, n), attr[] = {full, op};
  array *in = lying(c, x);
  array *out[] = {fresh(c, x, x->dtype, 2, m, full ? m : k), fresh(c, x, x->dtype, 1, k, 0),
                  fresh(c, x, x->dtype, 2, full ? n : k, n)};
  bool ok = factor(c, op, cpu_svd, attr, 1, &in, 3, out);
  *u = out[0];
  *s = out[1];
  *vh = out[2];
  return ok;
}
