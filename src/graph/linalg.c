/* linalg.c -- linear algebra: the bodies of its ops, and their gradients.
**
** A body gives matrices to LAPACK; a rule is made of products, triangles solved and factors that are known,
** so that it can be differentiated again. Where singular values or eigenvalues are as good as equal, the
** vectors are arbitrary within their space: what a loss says of that alone, which is rounding, counts as 0.
** References: Giles, Collected matrix derivative results, 2008; Murray, Differentiation of the Cholesky
** decomposition, 2016; Golub and Pereyra, 1973 (pinv); Walter and Lehmann, 2018 (qr).
*/
#include <float.h>
#include <string.h>

#include "graph/internal.h"

/* ---- shapes ------------------------------------------------------------------------------------------ */

/* Input i, called `what`, has matrices. */
static bool is_matrix(call *c, int i, const char *what, bool square, shape *s) {
  char text[128];
  node_shape(c->in[i], s);
  if (s->n >= 2 && (!square || s->d[s->n - 1] == s->d[s->n - 2])) return true;
  return fail(&c->G->c, "%s: %s has shape %s, expected %smatrices (..., %s)",
              op_table[c->op].name + (op_table[c->op].name[0] == '_'), what, shape_text(s, text),
              square ? "square " : "", square ? "n, n" : "m, n");
}

static shape batch_of(const shape *s) {
  shape b = *s;
  b.n -= 2;
  return b;
}

static shape with(const shape *batch, int n, int64_t rows, int64_t cols) {
  shape s = *batch;
  if (n > 0) s.d[s.n++] = rows;
  if (n > 1) s.d[s.n++] = cols;
  return s;
}

/* A x = b, as asked: b is a vector if it is 1-d, or has A's shape without the last axis. */
typedef struct {
  bool vector, plain; /* plain: nothing is to be broadcast or reshaped */
  shape batch, want;
} equations;

static bool is_system(call *c, int ia, int ib, equations *s) {
  shape a, b, bb;
  char ta[128], tb[128];
  if (!is_matrix(c, ia, "A", true, &a)) return false;
  node_shape(c->in[ib], &b);
  const char *name = op_table[c->op].name;
  shape ba = batch_of(&a), short_a = with(&ba, 1, a.d[a.n - 1], 0);
  s->vector = b.n == 1 || shape_eq(&b, &short_a);
  if (b.n == 0) return fail(&c->G->c, "%s: b has shape (), expected (..., n, k) or (n)", name);
  int64_t rows = b.d[b.n - (s->vector ? 1 : 2)], sides = s->vector ? 1 : b.d[b.n - 1];
  bb = b;
  bb.n -= s->vector ? 1 : 2;
  shape_text(&a, ta);
  shape_text(&b, tb);
  if (rows != a.d[a.n - 1])
    return fail(&c->G->c, "%s: A %s and b %s do not fit: %lld and %lld differ", name, ta, tb,
                (long long)a.d[a.n - 1], (long long)rows);
  if (!shape_broadcast(&ba, &bb, &s->batch))
    return fail(&c->G->c, "%s: A %s and b %s: the leading axes do not broadcast", name, ta, tb);
  s->plain = !s->vector && shape_eq(&ba, &s->batch) && shape_eq(&bb, &s->batch);
  s->want = with(&s->batch, s->vector ? 1 : 2, rows, sides);
  return true;
}

/* b as matrices of the common batch */
static node *sides_of(graph *G, node *b, const equations *s) {
  shape t;
  node_shape(b, &t);
  if (s->vector) t.d[t.n++] = 1;
  node *two = op_reshape(G, b, &t), *r = two ? with_batch(G, two, &s->batch) : NULL;
  return node_drop(G, two), r;
}

/* The solution in the shape that was asked for; takes x over. */
static node *as_wanted(graph *G, node *x, const equations *s) {
  node *r = s->vector ? op_reshape(G, x, &s->want) : x ? node_hold(x) : NULL;
  return node_drop(G, x), r;
}

/* ---- products ----------------------------------------------------------------------------------------- */

node *with_batch(graph *G, node *x, const shape *batch) {
  shape s, full = *batch;
  node_shape(x, &s);
  full.d[full.n++] = s.d[s.n - 2];
  full.d[full.n++] = s.d[s.n - 1];
  return shape_eq(&s, &full) ? node_hold(x) : op_broadcast_to(G, x, &full);
}

/* What is recorded is a product of two that are at least 2-d, of one dtype and with the same batch axes;
** others are made so. */
bool forward_matmul(call *c) {
  graph *G = c->G;
  const char *name = op_table[c->op].name;
  shape a, b;
  node_shape(c->in[0], &a);
  node_shape(c->in[1], &b);
  char ta[128], tb[128];
  shape_text(&a, ta);
  shape_text(&b, tb);
  if (a.n == 0 || b.n == 0)
    return fail(&G->c, "%s: %s and %s: a 0-d Variable has no rows", name, ta, tb);
  int64_t k = a.d[a.n - 1], l = b.d[b.n == 1 ? 0 : b.n - 2];
  if (k != l)
    return fail(&G->c, "%s: %s and %s do not align: %lld and %lld differ", name, ta, tb,
                (long long)k, (long long)l);
  shape ba = {.n = a.n > 2 ? a.n - 2 : 0}, bb = {.n = b.n > 2 ? b.n - 2 : 0}, batch;
  memcpy(ba.d, a.d, sizeof ba.d);
  memcpy(bb.d, b.d, sizeof bb.d);
  if (!shape_broadcast(&ba, &bb, &batch))
    return fail(&G->c, "%s: %s and %s: the leading axes do not broadcast", name, ta, tb);
  if (!promote(c, ARITH, 2)) return false;
  if (a.n > 1 && a.n == b.n && shape_eq(&ba, &bb)) {
    array *x = arg(c, 0), *y = arg(c, 1);
    return x && y && give(c, arr_matmul(&G->c, c->op, x, y));
  }
  node *p, *q;
  if (b.n <= 2 && a.n != 1) { /* rows of all batches against one matrix */
    int64_t rows = 1;
    for (int i = 0; i < a.n - 1; i++) rows *= a.d[i];
    p = a.n == 2 ? node_hold(c->in[0]) : op_reshape(G, c->in[0], &(shape){2, {rows, k}});
    q = b.n == 2 ? node_hold(c->in[1]) : op_reshape(G, c->in[1], &(shape){2, {k, 1}});
  } else {
    node *a2 = a.n > 1 ? node_hold(c->in[0]) : op_reshape(G, c->in[0], &(shape){2, {1, k}});
    node *b2 = b.n > 1 ? node_hold(c->in[1]) : op_reshape(G, c->in[1], &(shape){2, {k, 1}});
    p = a2 ? with_batch(G, a2, &batch) : NULL;
    q = b2 ? with_batch(G, b2, &batch) : NULL;
    node_drop(G, a2);
    node_drop(G, b2);
  }
  shape want = batch; /* of the result */
  if (a.n > 1) want.d[want.n++] = a.d[a.n - 2];
  if (b.n > 1) want.d[want.n++] = b.d[b.n - 1];
  node *wide = op_one(G, c->op, 2, (node *[]){p, q}, 0, NULL), *r = op_reshape(G, wide, &want);
  node_drop(G, p);
  node_drop(G, q);
  node_drop(G, wide);
  return give_node(c, r);
}

/* In float64: there the squares of float32 are exact, and none is out of range. */
bool forward_distance(call *c) {
  return c->in[0]->dtype == F64 && c->in[1]->dtype == F64
             ? forward_matmul(c)
             : fail(&c->G->c, "_distance: x and y must be float64");
}

bool forward_pull(call *c) {
  shape w, x, y;
  node_shape(c->in[0], &w);
  node_shape(c->in[1], &x);
  node_shape(c->in[2], &y);
  int n = w.n;
  shape rows = w, columns = w;
  if (n > 1 && x.n > 1 && y.n > 1) {
    rows.d[n - 1] = columns.d[n - 1] = x.d[x.n - 1];
    columns.d[n - 2] = w.d[n - 1];
  }
  if (n < 2 || !shape_eq(&rows, &x) || !shape_eq(&columns, &y) || c->in[0]->dtype != F64 ||
      c->in[1]->dtype != F64 || c->in[2]->dtype != F64)
    return fail(&c->G->c, "_pull: w (.., m, n), x (.., m, k) and y (.., n, k) must be float64");
  array *a[3];
  for (int i = 0; i < 3; i++)
    if (!(a[i] = arg(c, i))) return false;
  return give(c, arr_pull(&c->G->c, a[0], a[1], a[2]));
}

/* ---- constants ------------------------------------------------------------------------------------------ */

static void set(array *a, int64_t i, double value) {
  if (a->dtype == F64) ((double *)arr_data(a))[i] = value;
  else if (a->dtype == F32) ((float *)arr_data(a))[i] = (float)value;
  else ((uint8_t *)arr_data(a))[i] = value != 0;
}

/* An (m, n) matrix of three numbers: below the diagonal, on it and above */
static node *pattern(graph *G, dtype t, int64_t m, int64_t n, double below, double on,
                     double above) {
  array *a = arr_host(&G->c, t, &(shape){2, {m, n}});
  for (int64_t i = 0; a && i < m; i++)
    for (int64_t j = 0; j < n; j++) set(a, i * n + j, j < i ? below : j == i ? on : above);
  return node_array(G, a);
}

static node *identity_of(graph *G, dtype t, const shape *batch, int64_t n) {
  node *one = pattern(G, t, n, n, 0, 1, 0), *r = one ? with_batch(G, one, batch) : NULL;
  return node_drop(G, one), r;
}

/* ---- LU: solve, inv, det ------------------------------------------------------------------------------- */

/* LU and pivots of x, as constants that broadcast to a batch */
static bool factors(graph *G, array *x, int refuses, const shape *batch, node **lu, node **pivots) {
  array *a, *p, *wide[2] = {NULL, NULL};
  int64_t n = x->s.d[x->s.n - 1];
  if (!arr_lu(&G->c, x, refuses, &a, &p)) return false;
  shape sa = with(batch, 2, n, n), sp = with(batch, 1, n, 0);
  wide[0] = arr_broadcast(&G->c, a, &sa);
  wide[1] = arr_broadcast(&G->c, p, &sp);
  arr_unref(a);
  arr_unref(p);
  *lu = node_array(G, wide[0]);
  *pivots = node_array(G, wide[1]);
  if (*lu && *pivots) return true;
  node_drop(G, *lu);
  node_drop(G, *pivots);
  return false;
}

static node *by_factors(graph *G, node *b, node *A, node *lu, node *pivots, bool transpose) {
  if (!b || !A || !lu || !pivots) return NULL;
  return op_one(G, OP_lu_solve, 4, (node *[]){b, A, lu, pivots}, 1, &(attr){transpose});
}

/* b NULL: the identity */
static node *solved(call *c, array *x, int refuses, const shape *batch, node *A, node *b) {
  graph *G = c->G;
  node *lu, *pivots, *r = NULL;
  WORK(&G->c, c->op);
  if (!x || !factors(G, x, refuses, batch, &lu, &pivots)) return NULL;
  int64_t n = x->s.d[x->s.n - 1];
  node *sides = b ? node_hold(b) : identity_of(G, x->dtype, batch, n);
  node *wide = with_batch(G, A, batch);
  r = by_factors(G, sides, wide, lu, pivots, false);
  node_drop(G, sides);
  node_drop(G, wide);
  node_drop(G, lu);
  node_drop(G, pivots);
  return r;
}

bool forward_solve(call *c) {
  graph *G = c->G;
  equations s;
  if (!is_system(c, 0, 1, &s) || !promote(c, FLOAT, 2)) return false;
  node *b = sides_of(G, c->in[1], &s);
  node *x = b ? solved(c, arg(c, 0), OF_SOLVE, &s.batch, c->in[0], b) : NULL;
  node_drop(G, b);
  return give_node(c, as_wanted(G, x, &s));
}

bool forward_inv(call *c) {
  shape s;
  if (!is_matrix(c, 0, "x", true, &s) || !promote(c, FLOAT, 1)) return false;
  shape batch = batch_of(&s);
  return give_node(c, solved(c, arg(c, 0), OF_INV, &batch, c->in[0], NULL));
}

bool forward_lu_solve(call *c) {
  ATTRS(c, int64_t transpose);
  graph *G = c->G;
  shape b, s, lu, pivots;
  node_shape(c->in[0], &b);
  if (!is_matrix(c, 1, "A", true, &s)) return false;
  node_shape(c->in[2], &lu);
  node_shape(c->in[3], &pivots);
  int64_t n = s.d[s.n - 1];
  shape batch = batch_of(&s), want = with(&batch, 1, n, 0);
  bool fits = shape_eq(&lu, &s) && shape_eq(&pivots, &want) && b.n == s.n && b.d[b.n - 2] == n;
  for (int i = 0; i < batch.n && fits; i++) fits = b.d[i] == s.d[i];
  if (!fits || c->in[2]->dtype != c->in[0]->dtype)
    return fail(&G->c, "lu_solve: b, A, lu and pivots do not fit each other");
  array *x = arg(c, 0), *a = arg(c, 2), *p = arg(c, 3);
  int64_t bad = x && a && p ? arr_check_index(&G->c, p, n) : -1;
  if (bad > 0) return fail(&G->c, "lu_solve: pivot %lld is not in 1..n", (long long)bad);
  return bad == 0 && give(c, arr_lu_solve(&G->c, x, a, p, at.transpose));
}

static node *minus_product(vjp *v, node *a, node *b) { /* - a b' */
  return U(neg, keep(v, op_matmul(v->G, a, vjp_swapped(v, b))));
}

node *lu_solve_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t transpose);
  node *gb = v->shared[0];
  if (i > 1) return NONE;
  if (!gb)
    gb = share(v, 0, keep(v, by_factors(v->G, g, use(v, 1), use(v, 2), use(v, 3), !at.transpose)));
  if (i == 0) return gb;
  return at.transpose ? minus_product(v, result(v, 0), gb) : minus_product(v, gb, result(v, 0));
}

/* Keeps the factors */
static array *det_of(call *c, array **log) {
  graph *G = c->G;
  shape s;
  array *lu, *pivots, *r = NULL;
  if (!is_matrix(c, 0, "x", true, &s) || !promote(c, FLOAT, 1)) return NULL;
  WORK(&G->c, c->op);
  array *x = arg(c, 0);
  if (!x || !arr_lu(&G->c, x, MAY_BE_SINGULAR, &lu, &pivots)) return NULL;
  r = arr_lu_det(&G->c, lu, pivots, log);
  if (log && r) {
    keep_array(c, lu);
    keep_array(c, pivots);
  } else {
    arr_unref(lu);
    arr_unref(pivots);
  }
  return r;
}

bool forward_det(call *c) { return give(c, det_of(c, NULL)); }

bool forward_slogdet(call *c) {
  array *log = NULL, *sign = det_of(c, &log);
  if (!sign) return false;
  bool ok = give(c, sign);
  return give(c, log) && ok;
}

/* g, one number for each matrix, with two axes of length 1 */
static node *per_matrix(vjp *v, node *g) {
  shape s = {0};
  if (!g) return NULL;
  node_shape(g, &s);
  s = with(&s, 2, 1, 1);
  return keep(v, op_reshape(v->G, g, &s));
}

node *det_grad(vjp *v, int i, node *g) {
  node *x = use(v, i);
  return P(per_matrix(v, g), x ? keep(v, op_one(v->G, OP_cofactor, 1, &x, 0, NULL)) : NULL);
}

node *slogdet_grad(vjp *v, int i, node *g) {
  graph *G = v->G;
  const shape *s = &v->f->x->s;
  shape batch = batch_of(s);
  node *x = use(v, i);
  (void)g;
  if (!x) return NULL;
  node *one = keep(v, identity_of(G, x->dtype, &batch, s->d[s->n - 1]));
  node *turned = keep(v, by_factors(G, one, x, own(v, 0), own(v, 1), true));
  return P(per_matrix(v, grad_of(v, 1)), turned);
}

bool forward_cofactor(call *c) {
  shape s;
  if (!is_matrix(c, 0, "x", true, &s) || !promote(c, FLOAT, 1)) return false;
  array *x = arg(c, 0);
  return x && give(c, arr_cofactor(&c->G->c, x));
}

static node *mm(vjp *v, node *a, node *b) { return keep(v, op_matmul(v->G, a, b)); }

static bool several(vjp *v, int op, node *x, int nat, const attr *at, int want, node **out) {
  node *all[MAXOUT];
  if (!x || op_apply(v->G, op, 1, &x, nat, at, all) != want) return false;
  bool ok = true;
  for (int k = 0; k < want; k++) ok = (out[k] = keep(v, all[k])) && ok;
  return ok;
}

/* One axis more, before the last or behind it */
static node *as_row(vjp *v, node *n, bool column) {
  shape s;
  if (!n) return NULL;
  node_shape(n, &s);
  int64_t len = s.d[s.n - 1];
  s.n--;
  s = column ? with(&s, 2, len, 1) : with(&s, 2, 1, len);
  return keep(v, op_reshape(v->G, n, &s));
}

/* Along the last axis, the product of all other elements */
static node *others_product(vjp *v, node *x) {
  shape s;
  if (!x) return NULL;
  node_shape(x, &s);
  int axis = s.n - 1;
  attr along = {axis};
  node *back = vjp_flipped(v, x, axis);
  node *before = keep(v, op_one(v->G, OP_cumprod, 1, &x, 1, &along));
  node *after = keep(v, op_one(v->G, OP_cumprod, 1, &back, 1, &along));
  after = vjp_flipped(v, vjp_shifted(v, after, axis, 1), axis);
  return B(mul, vjp_shifted(v, before, axis, 1), after);
}

static node *det_of_constant(vjp *v, node *x) {
  node *k = x ? keep(v, node_detach(v->G, x)) : NULL;
  return k ? U(round, keep(v, op_one(v->G, OP_det, 1, &k, 0, NULL))) : NULL;
}

/* The second derivative of det: with x = U diag(s) Vh and G = U' g Vh', the elements of U' .. Vh' are
** sum over j of P[i][j] G[j][j] on the diagonal and - P[i][j] G[j][i] beside it, P the product of all singular
** values but two. */
node *cofactor_grad(vjp *v, int i, node *g) {
  graph *G = v->G;
  node *x = use(v, i), *f[3];
  const shape *s = &v->f->x->s;
  int64_t n = s->d[s->n - 1];
  if (n == 0) return Z;
  if (!several(v, OP_svd, x, 1, &(attr){0}, 3, f)) return NULL;
  node *sign = B(mul, det_of_constant(v, f[0]), det_of_constant(v, f[2])); /* 1 or -1 */
  node *inner = mm(v, mm(v, vjp_swapped(v, f[0]), g), vjp_swapped(v, f[2]));
  node *on = keep(v, pattern(G, BOOL, n, n, 0, 1, 0));
  node *rest = T(where, on, N(1), as_row(v, f[1], false));
  node *P_ = T(where, on, N(0), others_product(v, rest));
  node *diagonal = T(where, on, inner, N(0));
  node *trace = diagonal ? keep(v, op_reduce(G, OP_sum, diagonal, 1u << (s->n - 2), true)) : NULL;
  node *sums = B(mul, P_, trace);
  sums = sums ? keep(v, op_reduce(G, OP_sum, sums, 1u << (s->n - 1), true)) : NULL;
  node *middle = T(where, on, sums, U(neg, B(mul, P_, vjp_swapped(v, inner))));
  return B(mul, mm(v, mm(v, f[0], middle), f[2]), per_matrix(v, sign));
}

/* ---- triangles ------------------------------------------------------------------------------------------ */

static node *triangle_solved(vjp *v, node *b, node *A, bool upper, bool transpose, bool unit) {
  attr at[] = {{upper}, {transpose}, {unit}};
  return keep(v, op_one(v->G, OP_triangular_solve, 2, (node *[]){b, A}, 3, at));
}

bool forward_triangular_solve(call *c) {
  ATTRS(c, int64_t upper, transpose, unit);
  graph *G = c->G;
  equations s;
  if (!is_system(c, 1, 0, &s) || !promote(c, FLOAT, 2)) return false;
  if (s.plain) {
    array *b = arg(c, 0), *A = arg(c, 1);
    return b && A && give(c, arr_triangular_solve(&G->c, b, A, at.upper, at.transpose, at.unit));
  }
  node *b = sides_of(G, c->in[0], &s), *A = b ? with_batch(G, c->in[1], &s.batch) : NULL;
  node *x = op_one(G, OP_triangular_solve, 2, (node *[]){b, A}, c->nat, c->at);
  node_drop(G, b);
  node_drop(G, A);
  return give_node(c, as_wanted(G, x, &s));
}

node *triangular_solve_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t upper, transpose, unit);
  node *gb = v->shared[0], *x;
  if (!gb) gb = share(v, 0, triangle_solved(v, g, use(v, 1), at.upper, !at.transpose, at.unit));
  if (i == 0 || !gb || !(x = result(v, 0))) return gb;
  int64_t n = x->a->s.d[x->a->s.n - 2];
  node *read = keep(v, pattern(v->G, BOOL, n, n, !at.upper, !at.unit, at.upper));
  return T(where, read, at.transpose ? minus_product(v, x, gb) : minus_product(v, gb, x), N(0));
}

bool forward_cholesky(call *c) {
  shape s;
  if (!is_matrix(c, 0, "x", true, &s) || !promote(c, FLOAT, 1)) return false;
  array *x = arg(c, 0);
  return x && give(c, arr_cholesky(&c->G->c, x));
}

/* Of S = L' g the lower triangle with half the diagonal; then L'^-1 S L^-1, made symmetric. Where it is not to be
** differentiated, a sixth of the multiplications does. */
node *cholesky_grad(vjp *v, int i, node *g) {
  (void)i;
  graph *G = v->G;
  node *L = result(v, 0);
  if (!L) return NULL;
  if (!v->create) {
    array *a = node_as_array(G, g), *r = a ? arr_cholesky_grad(&G->c, L->a, a) : NULL;
    arr_unref(a);
    return keep(v, node_array(G, r));
  }
  int64_t n = L->a->s.d[L->a->s.n - 1];
  node *lower = keep(v, pattern(G, BOOL, n, n, 1, 1, 0));
  node *half = keep(v, pattern(G, L->dtype, n, n, 1, 0.5, 0));
  node *S = P(half, mm(v, vjp_swapped(v, L), T(where, lower, g, N(0))));
  S = triangle_solved(v, S, L, false, true, false);
  S = triangle_solved(v, vjp_swapped(v, S), L, false, true, false);
  return B(mul, B(add, S, vjp_swapped(v, S)), N(0.5));
}

/* ---- orthogonal factors ------------------------------------------------------------------------------------ */

static node *columns(graph *G, node *x, int64_t first, int64_t count) {
  int64_t from[MAXDIM] = {0}, step[MAXDIM];
  shape s;
  node_shape(x, &s);
  for (int k = 0; k < MAXDIM; k++) step[k] = 1;
  from[s.n - 1] = first;
  s.d[s.n - 1] = count;
  return op_slice(G, x, &s, from, step);
}

static node *swap_axes(graph *G, node *x) {
  int perm[MAXDIM];
  shape s;
  if (!x) return NULL;
  node_shape(x, &s);
  for (int i = 0; i < s.n; i++) perm[i] = i;
  perm[s.n - 1] = s.n - 2;
  perm[s.n - 2] = s.n - 1;
  return op_permute(G, x, perm);
}

/* Wider than high: x = (a b), a square; Q R = a, and R goes on with Q' b. */
static bool wide_qr(call *c, const shape *s) {
  graph *G = c->G;
  int64_t m = s->d[s->n - 2], n = s->d[s->n - 1];
  node *a = columns(G, c->in[0], 0, m), *b = columns(G, c->in[0], m, n - m), *f[MAXOUT];
  int made = a && b ? op_apply(G, OP_qr, 1, &a, 0, NULL, f) : 0;
  node *turned = made ? swap_axes(G, f[0]) : NULL, *more = op_matmul(G, turned, b);
  node *r = more ? op_one(G, OP_cat, 2, (node *[]){f[1], more}, 1, &(attr){s->n - 1}) : NULL;
  bool ok = r && give_node(c, node_hold(f[0]));
  if (ok) give_node(c, r);
  for (int k = 0; k < made; k++) node_drop(G, f[k]);
  node_drop(G, a);
  node_drop(G, b);
  node_drop(G, turned);
  node_drop(G, more);
  return ok;
}

bool forward_qr(call *c) {
  shape s;
  array *q, *r;
  if (!is_matrix(c, 0, "x", false, &s) || !promote(c, FLOAT, 1)) return false;
  if (s.d[s.n - 1] > s.d[s.n - 2]) return wide_qr(c, &s);
  array *x = arg(c, 0);
  if (!x || !arr_qr(&c->G->c, x, &q, &r)) return false;
  bool ok = give(c, q);
  return give(c, r) && ok;
}

/* (gQ + Q sym(R gR' - gQ' Q)) R'^-1, sym: the lower triangle, mirrored */
node *qr_grad(vjp *v, int i, node *g) {
  (void)i, (void)g;
  graph *G = v->G;
  node *q = result(v, 0), *r = result(v, 1), *gq = grad_of(v, 0), *gr = grad_of(v, 1);
  if (!r) return NULL;
  int64_t n = r->a->s.d[r->a->s.n - 1];
  node *m = B(sub, mm(v, r, vjp_swapped(v, gr)), mm(v, vjp_swapped(v, gq), q));
  node *lower = keep(v, pattern(G, BOOL, n, n, 1, 1, 0));
  m = T(where, lower, m, vjp_swapped(v, m));
  node *w = B(add, gq, mm(v, q, m));
  return vjp_swapped(v, triangle_solved(v, vjp_swapped(v, w), r, true, false, false));
}

/* The largest |element| of each matrix, or of each vector */
static node *scale_of(vjp *v, node *x, int axes) {
  shape s;
  if (!x) return NULL;
  node_shape(x, &s);
  uint32_t last = 1u << (s.n - 1), both = last | (axes > 1 ? last >> 1 : 0);
  return keep(v, op_reduce(v->G, OP_max, U(abs, x), both, true));
}

/* num / den, elements of matrices. Where den is as good as 0 beside `of` and num nothing but rounding beside
** `in`: 0. */
static node *quotient(vjp *v, node *num, node *den, node *in, node *of, int64_t n) {
  if (!num) return NULL;
  double eps = num->dtype == F32 ? FLT_EPSILON : DBL_EPSILON;
  node *flat = B(le, U(abs, den), B(mul, of, N((double)(n + 4) * eps)));
  node *noise = B(le, U(abs, num), B(mul, in, N(4096 * eps)));
  return T(where, B(logical_and, flat, noise), N(0), Q(num, den));
}

bool forward_eigh(call *c) {
  shape s;
  array *values, *vectors;
  if (!is_matrix(c, 0, "x", true, &s) || !promote(c, FLOAT, 1)) return false;
  array *x = arg(c, 0);
  if (!x || !arr_eigh(&c->G->c, x, &values, &vectors)) return false;
  bool ok = give(c, values);
  return give(c, vectors) && ok;
}

/* V (diag(gl) + K / gaps) V', K the antisymmetric part of V' gV; gaps[i][j] = l[j] - l[i] */
node *eigh_grad(vjp *v, int i, node *g) {
  (void)i;
  graph *G = v->G;
  node *V = result(v, 1), *gl = as_row(v, grad_of(v, 0), false);
  const shape *s = &v->f->x->s;
  int64_t n = s->d[s->n - 1];
  if (!V) return NULL;
  if (n == 0) return keep(v, like(G, V, 0));
  if (unused(v, 1)) return mm(v, P(gl, V), vjp_swapped(v, V));
  node *l = result(v, 0), *gV = grad_of(v, 1), *K = mm(v, vjp_swapped(v, V), gV);
  K = B(mul, B(sub, K, vjp_swapped(v, K)), N(0.5));
  node *gaps = B(sub, as_row(v, l, false), as_row(v, l, true));
  node *on = keep(v, pattern(G, BOOL, n, n, 0, 1, 0));
  K = quotient(v, K, gaps, scale_of(v, gV, 2), scale_of(v, as_row(v, l, false), 1), n);
  return (void)g, mm(v, mm(v, V, T(where, on, gl, K)), vjp_swapped(v, V));
}

bool forward_svd(call *c) {
  ATTRS(c, int64_t full);
  shape s;
  array *f[3];
  if (!is_matrix(c, 0, "x", false, &s) || !promote(c, FLOAT, 1)) return false;
  array *x = arg(c, 0);
  if (!x || !arr_svd(&c->G->c, OP_svd, x, at.full, &f[0], &f[1], &f[2])) return false;
  bool ok = true;
  for (int k = 0; k < 3; k++) ok = give(c, f[k]) && ok;
  return ok;
}

/* U (diag(gS) + skew(U' gU + V' gV) / 2 (s[j] - s[i]) + skew(U' gU - V' gV) / 2 (s[j] + s[i])) Vh, where
** skew(X) = X - X'; and what of gU, gVh lies outside the spaces of U, Vh. */
node *svd_grad(vjp *v, int i, node *g) {
  (void)i, (void)g;
  ATTRS(v->f->x, int64_t full);
  graph *G = v->G;
  node *u = result(v, 0), *S = result(v, 1), *vh = result(v, 2);
  const shape *xs = &v->f->x->s;
  int64_t m = xs->d[xs->n - 2], n = xs->d[xs->n - 1], k = least(m, n);
  bool plain = unused(v, 0) && unused(v, 2);
  if (!u || !S || !vh) return NULL;
  if (k == 0) return keep(v, node_array(G, arr_const(&G->c, S->dtype, xs, (imm){0})));
  if (at.full && !plain)
    return fail(&G->c, "svd: U and Vh have no gradient with full_matrices = true"), NULL;
  if (at.full) {
    u = keep(v, columns(G, u, 0, k));
    vh = vjp_swapped(v, keep(v, columns(G, vjp_swapped(v, vh), 0, k)));
  }
  node *row = as_row(v, S, false), *column = as_row(v, S, true);
  node *gs = as_row(v, grad_of(v, 1), false);
  if (plain) return mm(v, P(gs, u), vh);
  node *gu = grad_of(v, 0), *gv = grad_of(v, 2);
  node *Ku = mm(v, vjp_swapped(v, u), gu), *Kv = mm(v, vh, vjp_swapped(v, gv));
  node *a = B(sub, Ku, vjp_swapped(v, Ku)), *b = B(sub, Kv, vjp_swapped(v, Kv));
  node *in = B(maximum, scale_of(v, gu, 2), scale_of(v, gv, 2)), *of = scale_of(v, row, 1);
  node *minus = quotient(v, B(mul, B(add, a, b), N(0.5)), B(sub, row, column), in, of, k);
  node *plus = quotient(v, B(mul, B(sub, a, b), N(0.5)), B(add, row, column), in, of, k);
  node *on = keep(v, pattern(G, BOOL, k, k, 0, 1, 0));
  node *r = mm(v, mm(v, u, T(where, on, gs, B(add, minus, plus))), vh);
  if (m > k) r = B(add, r, mm(v, quotient(v, B(sub, gu, mm(v, u, Ku)), row, in, of, k), vh));
  if (n > k) {
    node *rest = B(sub, gv, mm(v, vjp_swapped(v, Kv), vh));
    r = B(add, r, mm(v, u, quotient(v, rest, column, in, of, k)));
  }
  return r;
}

/* ---- pinv ----------------------------------------------------------------------------------------------------- */

/* V diag(1 / s, 0 where s is as good as 0) U' */
bool forward_pinv(call *c) {
  ATTRS(c, double rtol);
  graph *G = c->G;
  shape s;
  array *f[3], *r = NULL;
  if (!is_matrix(c, 0, "x", false, &s) || !promote(c, FLOAT, 1)) return false;
  WORK(&G->c, OP_pinv);
  int64_t m = s.d[s.n - 2], n = s.d[s.n - 1];
  shape batch = batch_of(&s), turned = with(&batch, 2, n, m);
  array *x = arg(c, 0);
  c->nat = 0;
  if (!x) return false;
  if (x->size == 0) return give(c, arr_const(&G->c, x->dtype, &turned, (imm){0}));
  double eps = x->dtype == F32 ? FLT_EPSILON : DBL_EPSILON;
  double rtol = at.rtol == at.rtol ? at.rtol : (double)(m > n ? m : n) * eps;
  if (!arr_svd(&G->c, OP_pinv, x, false, &f[0], &f[1], &f[2])) return false;
  vjp keeper, *v = &keeper;
  vjp_begin(v, G, NULL, NULL, false);
  node *u = keep(v, node_array(G, f[0])), *S = keep(v, node_array(G, f[1]));
  node *vh = keep(v, node_array(G, f[2]));
  if (u && S && vh) {
    node *row = as_row(v, S, false);
    node *cut = B(mul, scale_of(v, row, 1), N(rtol));
    node *inverse = T(where, B(gt, row, cut), U(reciprocal, row), N(0));
    node *p = mm(v, B(mul, vjp_swapped(v, vh), inverse), vjp_swapped(v, u));
    if (p) r = node_as_array(G, p);
  }
  vjp_end(v);
  return give(c, r);
}

/* Golub and Pereyra's; the one of two forms that has the smaller products */
node *pinv_grad(vjp *v, int i, node *g) {
  node *A = use(v, i), *p = result(v, 0), *t = vjp_swapped(v, g), *pt = vjp_swapped(v, p);
  const shape *s = &v->f->x->s;
  if (!A || !p) return NULL;
  if (s->d[s->n - 2] <= s->d[s->n - 1]) {
    node *K = mm(v, t, p), *Kpt = mm(v, K, pt);
    node *r = B(sub, Kpt, vjp_swapped(v, mm(v, p, K)));
    r = B(sub, r, mm(v, mm(v, A, p), Kpt));
    return B(add, r, mm(v, mm(v, pt, p), B(sub, t, mm(v, K, A))));
  }
  node *K = mm(v, p, t), *ptK = mm(v, pt, K);
  node *r = B(sub, ptK, vjp_swapped(v, mm(v, K, p)));
  r = B(sub, r, mm(v, ptK, mm(v, p, A)));
  return B(add, r, mm(v, B(sub, t, mm(v, A, K)), mm(v, p, pt)));
}
