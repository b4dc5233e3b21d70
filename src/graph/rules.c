/* rules.c -- the gradient rules: the vjp columns of ops.def made functions, and those of shape ops, indexing,
** scans, products and samplers. Rules of ops with a file of their own stand beside their bodies.
**
** A rule is written with ops, so that with create_graph its result can be differentiated again. What
** it makes on the way is kept in the vjp and dropped together at the end; pointers here are borrowed.
** A rule is asked for one input at a time, and only for tracked ones.
*/
#include <math.h>
#include <string.h>

#include "graph/internal.h"

/* ---- what rules are given ----------------------------------------------------------------------------- */

void vjp_begin(vjp *v, graph *G, struct backward *b, node *f, bool create) {
  v->G = G;
  v->b = b;
  v->f = f;
  v->create = create;
  v->next = 0;
  v->begin = 0;
  v->nkept = 0;
  v->room = sizeof v->few / sizeof *v->few;
  v->kept = v->few;
  memset(v->shared, 0, sizeof v->shared);
}

node *keep_more(vjp *v, node *n) {
  if (!n) return NULL;
  node **more = mg_alloc(&v->G->c, 2 * v->room * sizeof *more);
  if (!more) return node_drop(v->G, n), NULL;
  memcpy(more, v->kept, v->nkept * sizeof *more);
  if (v->kept != v->few) mg_free(v->kept);
  v->kept = more;
  v->room *= 2;
  return v->kept[v->nkept++] = n;
}

void vjp_clear(vjp *v) {
  while (v->nkept) node_drop(v->G, v->kept[--v->nkept]);
}

void vjp_end(vjp *v) {
  vjp_clear(v);
  if (v->kept != v->few) mg_free(v->kept);
  for (size_t k = 0; k < sizeof v->shared / sizeof *v->shared; k++)
    if (v->shared[k]) node_drop(v->G, v->shared[k]);
}

node *share(vjp *v, int k, node *n) {
  if (n) v->shared[k] = node_hold(n);
  return n;
}

static node *changed(vjp *v, const char *what, int i) {
  fail(&v->G->c,
       "backward: %s %d of %s was given a new value since; create_graph needs the old one", what,
       i + 1, op_table[v->f->op].name);
  return NULL;
}

/* Operand i as it was when f was applied */
node *use(vjp *v, int i) {
  node *f = v->f, *n = *in_at(f, i);
  saved *sv = sv_at(f, i);
  array *was = NULL;
  int kind = kind_of(f, i);
  if (kind == SAVED_NUMBER) {
    v->number[i] = node_number(sv->k.f);
    if (f->dtype > F32) v->number[i] = node_integer(sv->k.i);
    return &v->number[i];
  }
  if (kind == SAVED_SCALAR) {
    if (!n->a && n->k.i == sv->k.i) return n;
  } else if (kind == SAVED_ARRAY) {
    bool dropped = n->flags & DROPPED;
    if (!dropped && again_same(n->a, sv->a)) return n;
    if (!(was = again_value(v->G, sv->a, n->a ? &n->a->s : &sv->a->s))) return NULL;
    if (dropped) {
      node_restore(n, was);
      arr_unref(was);
      return keep(v, node_hold(n)); /* and dropped again with its last handle */
    }
  } else
    return fail(&v->G->c, "backward: %s did not save operand %d", op_table[f->op].name, i + 1),
           NULL;
  if (v->create && node_tracked(n)) return arr_unref(was), changed(v, "operand", i);
  return keep(v, was ? node_array(v->G, was) : node_scalar(v->G, n->dtype, sv->k));
}

/* An output that is gone is made anew, of what was saved of it. */
node *result(vjp *v, int k) {
  graph *G = v->G;
  node *f = v->f, *n = f;
  if (!node_is_function(f)) {
    if (f->flags & SAVES_OUT) return f;
    return fail(&G->c, "backward: %s did not save its result", op_table[f->op].name), NULL;
  }
  output *o = &f->x->out[k];
  if (!o->a)
    return fail(&G->c, "backward: %s did not save result %d", op_table[f->op].name, k + 1), NULL;
  if (!(n = o->n)) {
    if ((n = keep(v, node_array(G, arr_ref(o->a)))) && v->create) output_set(f, k, n);
    return n;
  }
  if (n->flags & DROPPED) {
    node_restore(n, o->a);
    return keep(v, node_hold(n));
  }
  if (!n->a || n->a == o->a) return n;
  if (v->create) return changed(v, "result", k);
  return keep(v, node_array(G, arr_ref(o->a)));
}

bool unused(const vjp *v, int k) {
  const output *o = &v->f->x->out[k];
  return !o->n || !backward_acc(v->b, o->n);
}

node *grad_of(vjp *v, int k) { return keep(v, output_grad(v->b, &v->f->x->out[k])); }

bool is_last_use(const vjp *v) { return !v->create && !v->G->recorder && backward_releases(v->b); }

node *own(vjp *v, int i) { return keep(v, node_array(v->G, arr_ref(v->f->x->kept[i]))); }

/* ---- the language of the vjp column: see internal.h --------------------------------------------------- */

/* Of numbers alone a number, which goes on widening nothing */
node *vjp_made(vjp *v, int op, int n, node *const *in) {
  int numbers = 0;
  while (numbers < n && in[numbers] && in[numbers]->flags & NUMBER) numbers++;
  if (numbers < n) return keep(v, apply(v->G, op, n, in));
  imm k[3] = {{0}, {0}, {0}};
  for (int i = 0; i < n; i++) k[i] = in[i]->k;
  dtype t = op_table[op].rule == LOGIC ? BOOL : F64;
  node *r = node_scalar(v->G, op_result(op, t), cpu_scalar(op, t, k[0], k[1], k[2]));
  if (r) r->flags |= NUMBER;
  return keep(v, r);
}

/* The same number everywhere, neither 0 nor infinite: nothing absorbs, or there is nothing to absorb */
static bool is_plain(const node *n) {
  bool array = n && n->a && n->a->state == CONST && !(n->flags & DROPPED);
  if (!array && !(n && n->flags & NUMBER)) return false;
  imm k = array ? n->a->k : n->k;
  return n->dtype > F32 ? k.i != 0 : isfinite(k.f) && k.f != 0;
}

/* Of b a record knows numbers alone; by another, a zero of a would have another sign there. */
node *vjp_absorbing(vjp *v, int plain, int op, node *a, node *b) {
  bool harmless = is_plain(a) || (b && b->flags & NUMBER && is_plain(b));
  return vjp_made(v, harmless ? plain : op, 2, (node *[]){a, b});
}

node *vjp_refuse(vjp *v) {
  fail(&v->G->c, "%s: this operand has no gradient", op_table[v->f->op].name);
  return NULL;
}

node *no_gradient(vjp *v, int i, node *g) { return (void)i, (void)g, vjp_refuse(v); }

/* A reduction's result, or its gradient, back in the shape of what was reduced */
static node *spread(vjp *v, node *g) {
  if (!g) return NULL;
  const extra *x = v->f->x;
  shape one = x->s, s;
  for (int i = 0; i < one.n; i++)
    if (x->at[0].i >> i & 1) one.d[i] = 1;
  node_shape(g, &s);
  if (!shape_eq(&s, &one) && s.n) g = keep(v, op_reshape(v->G, g, &one));
  return g ? keep(v, op_broadcast_to(v->G, g, &x->s)) : NULL;
}

/* How many elements became one */
static double reduced(vjp *v) {
  double n = 1;
  for (int i = 0; i < v->f->x->s.n; i++)
    if (v->f->x->at[0].i >> i & 1) n *= (double)v->f->x->s.d[i];
  return n;
}

/* max and min without an axis: equals share */
static node *extreme_grad(vjp *v, node *g, node *x, node *out) {
  node *hit = B(logical_or, B(eq, x, spread(v, out)), B(ne, x, x)); /* nan is all of the result */
  node *mask = hit ? keep(v, op_to(v->G, hit, x->dtype)) : NULL;
  node *count =
      mask ? keep(v, op_reduce(v->G, OP_sum, mask, (uint32_t)v->f->x->at[0].i, false)) : NULL;
  return T(where, hit, B(div, spread(v, g), spread(v, count)), N(0));
}

/* Of the extreme of x and y: all where one wins, half at a tie */
static node *extreme_share(vjp *v, node *g, node *beats, node *is_nan, node *x, node *y) {
  node *half = T(where, B(eq, x, y), B(mul, g, N(0.5)), N(0));
  return T(where, B(logical_or, beats, is_nan), g, half);
}

/* x / out, out being the length of x and others: 0 at 0, where x is infinite its sign */
static node *direction(vjp *v, node *x, node *out) {
  node *finite = B(div, x, T(where, B(eq, out, N(0)), N(1), out));
  return T(where, B(eq, U(abs, x), N(INFINITY)), U(sign, x), finite);
}

/* y x^(y - 1): by products where that is one of few; below 0 by x^y, which is nearer to 1 */
static node *pow_grad_x(vjp *v, node *g, node *x, node *y) {
  if (!y) return NULL;
  if (!(y->flags & NUMBER)) return P(g, B(_pow_slope, x, y));
  const double k = y->k.f;
  if (k == 0) return Z;
  if (k != floor(k) || fabs(k) > 64) return P(g, B(_pow_slope, x, y));
  if (k < 0) return Q(P(B(mul, g, N(k)), B(pow, x, y)), x);
  return P(B(mul, g, N(k)), B(pow, x, N(k - 1)));
}

/* x^y log(x), where 0^0 is flat, and 0^y of y > 1 in both again */
static node *pow_grad_y(vjp *v, node *g, node *x, node *y, node *out) {
  node *flat = B(logical_and, B(eq, x, N(0)), B(logical_or, B(eq, y, N(0)), B(gt, y, N(1))));
  return P(g, T(where, flat, N(0), P(out, U(log, x))));
}

/* log(y), where 0 log(y) is flat for y <= 0 */
static node *xlogy_slope(vjp *v, node *x, node *y) {
  return T(where, B(logical_and, B(eq, x, N(0)), B(le, y, N(0))), N(0), U(log, y));
}

/* Second derivatives of what is nearly linear; 0 far out, where x may be infinite */

static node *gelu_curve(vjp *v, node *x) { /* phi(x) (2 - x^2) */
  node *pdf = B(mul, B(_gauss, x, N(0.5)), N(0.39894228040143267794));
  return P(pdf, B(sub, N(2), U(square, x)));
}

static node *silu_curve(vjp *v, node *x) { /* s (1 - s) (2 + x (1 - 2 s)) */
  node *s = U(sigmoid, x), *r = U(sigmoid, U(neg, x));
  return P(B(mul, s, r), B(add, B(mul, x, B(sub, r, s)), N(2)));
}

static node *gelu_tanh_curve(vjp *v, node *x) { /* s (1 - s) (2 w' + x (w'' + w'^2 (1 - 2 s))) */
  const double k = 1.59576912160573071176, c = 0.044715;
  node *w1 = B(mul, B(add, B(mul, U(square, x), N(3 * c)), N(1)), N(k));
  node *w = B(mul, B(mul, B(add, B(mul, U(square, x), N(c)), N(1)), N(k)), x);
  node *s = U(sigmoid, w), *r = U(sigmoid, U(neg, w));
  node *in = B(add, B(mul, x, N(6 * k * c)), B(mul, U(square, w1), B(sub, r, s)));
  return P(B(mul, s, r), B(add, B(mul, w1, N(2)), B(mul, x, in)));
}

/* (1 - t^2) s (2 + x (1 - s - 2 s t)), s = sigmoid(x), t = tanh(softplus(x)) */
static node *mish_curve(vjp *v, node *x) { /* t = (1 - r^2) / (1 + r^2), r = 1 - s */
  node *s = U(sigmoid, x), *r = U(sigmoid, U(neg, x)), *d = B(add, U(square, r), N(1));
  node *t = B(div, B(mul, s, B(add, r, N(1))), d), *rest = B(div, B(mul, r, N(2)), d);
  node *in = B(sub, r, B(mul, B(mul, s, t), N(2)));
  return P(B(mul, U(square, rest), s), B(add, B(mul, x, in), N(2)));
}

/* ---- elementwise ops and reductions: one function for one operand ----------------------------------------- */

#define RULE(name, i, saves, rule)                                                                 \
  static node *name##_##i(vjp *v, node *g) {                                                       \
    enum { reads = saves };                                                                        \
    node *x = reads & X ? use(v, 0) : NULL;                                                        \
    node *y = reads & Y ? use(v, 1) : NULL;                                                        \
    node *d = reads & D ? use(v, 2) : NULL;                                                        \
    node *out = v->f;                                                                              \
    (void)x, (void)y, (void)d, (void)out, (void)g;                                                 \
    return rule;                                                                                   \
  }
#define UNARY(name, rule, cost, body, saves, vjp, doc) RULE(name, 0, saves, vjp)
#define BINARY(name, rule, cost, body, s1, v1, s2, v2, doc)                                        \
  RULE(name, 0, s1, v1) RULE(name, 1, s2, v2)
#define TERNARY(name, rule, cost, body, s1, v1, s2, v2, s3, v3, doc)                               \
  RULE(name, 0, s1, v1) RULE(name, 1, s2, v2) RULE(name, 2, s3, v3)
#define REDUCE(name, rule, step, saves, vjp, doc) RULE(name, 0, saves, vjp)
#include "ops.def"

static node *(*const rules[NOP][3])(vjp *v, node *g) = {
#define UNARY(name, ...) [OP_##name] = {name##_0},
#define BINARY(name, ...) [OP_##name] = {name##_0, name##_1},
#define TERNARY(name, ...) [OP_##name] = {name##_0, name##_1, name##_2},
#define REDUCE(name, ...) [OP_##name] = {name##_0},
#include "ops.def"
};

#define LIST(...)                                                                                  \
  { __VA_ARGS__ }
const uint32_t op_saves[NOP][MAXSAVES] = {
#define UNARY(name, rule, cost, body, saves, vjp, doc) [OP_##name] = {saves},
#define BINARY(name, rule, cost, body, s1, v1, s2, v2, doc) [OP_##name] = {s1, s2},
#define TERNARY(name, rule, cost, body, s1, v1, s2, v2, s3, v3, doc) [OP_##name] = {s1, s2, s3},
#define REDUCE(name, rule, step, saves, vjp, doc) [OP_##name] = {saves},
#define OTHER(name, signature, saves, vjp, doc) [OP_##name] = LIST saves,
#include "ops.def"
};

/* ---- the others --------------------------------------------------------------------------------------------- */

node *pass_on(vjp *v, int i, node *g) { return (void)v, (void)i, g; }
node *to_grad(vjp *v, int i, node *g) { return keep(v, op_to(v->G, g, v->f->in[i]->dtype)); }
node *reshape_grad(vjp *v, int i, node *g) {
  return (void)i, keep(v, op_reshape(v->G, g, &v->f->x->s));
}
node *broadcast_to_grad(vjp *v, int i, node *g) {
  return (void)i, keep(v, op_sum_to(v->G, g, &v->f->x->s));
}

node *permute_grad(vjp *v, int i, node *g) {
  (void)i;
  extra *x = v->f->x;
  int inverse[MAXDIM];
  for (int k = 0; k < x->nat; k++) inverse[x->at[k].i] = k;
  return keep(v, op_permute(v->G, g, inverse));
}

bool gives_parts(int op) {
  return op == OP_slice || op == OP_index_select || op == OP_gather || op == OP_cummax ||
         op == OP_cummin;
}

/* May the gradient of input 0 be added into the accumulator? */
static bool into_acc(const vjp *v) { return !v->create && !node_alias(v->G, v->f->in[0]); }

node *slice_grad(vjp *v, int i, node *g) {
  (void)i;
  extra *x = v->f->x;
  if (x->s.n == 0) return g; /* all of a number, which has no array to add in */
  const int64_t *first = &x->at[0].i, *step = &x->at[x->s.n].i;
  if (!into_acc(v)) return keep(v, op_part(v->G, OP_slice_grad, g, &x->s, first, step));
  WORK(&v->G->c, OP_slice_grad);
  array *dst = backward_own(v->b, v->f->in[0], &x->s), *src = dst ? node_as_array(v->G, g) : NULL;
  bool ok = src && arr_add_slice(&v->G->c, dst, first, step, src);
  arr_unref(src);
  return ok ? DONE : NULL;
}

node *slice_grad_grad(vjp *v, int i, node *g) {
  (void)i;
  extra *x = v->f->x;
  return keep(v, op_slice(v->G, g, &x->s, &x->at[0].i, &x->at[x->s.n].i));
}

node *cat_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis);
  shape part = {0};
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  for (int k = 0; k < MAXDIM; k++) step[k] = 1;
  for (; v->next <= i; v->next++) {
    node_shape(*in_at(v->f, v->next), &part);
    first[at.axis] = v->begin;
    v->begin += part.d[at.axis];
  }
  return keep(v, op_slice(v->G, g, &part, first, step));
}

/* Add g where indices point: into the accumulator, or as an op on zeros */
static node *put(vjp *v, node *g, node *idx, int op,
                 bool (*add)(ctx *, array *, int, array *, array *)) {
  ATTRS(v->f->x, int64_t axis);
  const shape *s = &v->f->x->s;
  if (!idx) return NULL;
  if (!into_acc(v)) {
    node *zero = keep(v, node_array(v->G, arr_const(&v->G->c, g->dtype, s, (imm){0})));
    return keep(v, op_one(v->G, op, 3, (node *[]){zero, idx, g}, 1, &(attr){at.axis}));
  }
  WORK(&v->G->c, op);
  array *dst = backward_own(v->b, v->f->in[0], s), *src = dst ? node_as_array(v->G, g) : NULL;
  array *index = src ? node_as_array(v->G, idx) : NULL;
  bool ok = index && add(&v->G->c, dst, (int)at.axis, index, src);
  arr_unref(src);
  arr_unref(index);
  return ok ? DONE : NULL;
}

node *index_select_grad(vjp *v, int i, node *g) {
  return (void)i, put(v, g, use(v, 1), OP_index_add, arr_add_take);
}
node *gather_grad(vjp *v, int i, node *g) {
  return (void)i, put(v, g, use(v, 1), OP_scatter_add, arr_add_gather);
}

node *index_add_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis);
  return i == 0 ? g : keep(v, op_index_select(v->G, g, (int)at.axis, use(v, 1)));
}

node *scatter_add_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis);
  return i == 0 ? g : keep(v, op_gather(v->G, g, (int)at.axis, use(v, 1)));
}

/* That of src is what stands where it was put, but for what was put there again: the last to come knows
** itself by its number. */
node *scatter_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis);
  graph *G = v->G;
  attr along = {at.axis};
  node *idx = use(v, 1);
  if (!idx) return NULL;
  if (i == 0) {
    node *zero = keep(v, node_scalar(G, g->dtype, (imm){0}));
    return keep(v, op_one(G, OP_scatter, 3, (node *[]){g, idx, zero}, 1, &along));
  }
  shape s;
  int64_t size = (node_shape(idx, &s), shape_size(&s));
  const imm one = {.i = 1};
  node *line = keep(v, node_array(G, arr_iota(&G->c, I64, size, one, one)));
  node *number = keep(v, op_reshape(G, line, &s));
  node *none = keep(v, node_array(G, arr_const(&G->c, I64, &v->f->x->s, (imm){0})));
  node *last = keep(v, op_one(G, OP_scatter, 3, (node *[]){none, idx, number}, 1, &along));
  last = keep(v, op_gather(G, last, (int)at.axis, idx));
  return T(where, B(eq, last, number), keep(v, op_gather(G, g, (int)at.axis, idx)), N(0));
}

node *vjp_flipped(vjp *v, node *n, int axis) {
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  shape s;
  if (!n) return NULL;
  node_shape(n, &s);
  for (int k = 0; k < MAXDIM; k++) step[k] = 1;
  first[axis] = s.d[axis] - 1;
  step[axis] = -1;
  return keep(v, op_slice(v->G, n, &s, first, step));
}

node *cumsum_grad(vjp *v, int i, node *g) { /* the running sum from the other end */
  (void)i;
  ATTRS(v->f->x, int64_t axis);
  node *r = vjp_flipped(v, g, (int)at.axis);
  r = keep(v, op_one(v->G, OP_cumsum, 1, &r, 1, &(attr){at.axis}));
  return vjp_flipped(v, r, (int)at.axis);
}

/* n moved by one along an axis, away from its begin, where `first` comes in */
node *vjp_shifted(vjp *v, node *n, int axis, double first) {
  int64_t from[MAXDIM] = {0}, step[MAXDIM];
  shape s;
  if (!n) return NULL;
  node_shape(n, &s);
  if (s.d[axis] == 0) return n;
  for (int k = 0; k < MAXDIM; k++) step[k] = 1;
  s.d[axis]--;
  node *rest = keep(v, op_slice(v->G, n, &s, from, step));
  s.d[axis] = 1;
  node *begin = keep(v, node_array(v->G, arr_const(&v->G->c, n->dtype, &s, (imm){.f = first})));
  return keep(v, op_one(v->G, OP_cat, 2, (node *[]){begin, rest}, 1, &(attr){axis}));
}

static node *linear_scan(vjp *v, node *x, node *a, int64_t axis, bool reverse) {
  return keep(v, op_one(v->G, OP_linear_scan, 2, (node *[]){x, a}, 2, (attr[]){{axis}, {reverse}}));
}

node *linear_scan_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis, reverse);
  node *gx = v->shared[0];
  if (!gx) gx = share(v, 0, linear_scan(v, g, use(v, 1), at.axis, !at.reverse));
  if (i == 0) return gx;
  node *y = result(v, 0);
  if (at.reverse) return B(_mulb, vjp_shifted(v, gx, (int)at.axis, 0), y);
  return B(_mulb, gx, vjp_shifted(v, y, (int)at.axis, 0));
}

node *chosen_grad(vjp *v, int i, node *g) {
  return (void)i, put(v, g, own(v, 0), OP_scatter_add, arr_add_gather);
}

/* exp(x[i] - y[i]) times g[i] + exp(y[i] - y[i + 1]) (g[i + 1] + ...): no exponent is above 0. Where both
** are infinite they are one. Both are taken less the largest x, lest y is rounded by units of that. */
node *logcumsumexp_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis);
  graph *G = v->G;
  const int axis = (int)at.axis;
  node *x = use(v, i);
  shape s;
  if (!x) return NULL;
  node_shape(x, &s);
  if (shape_size(&s) == 0) return g;
  array *values = node_as_array(G, x);
  node *top = values ? keep(v, node_array(G, values)) : NULL; /* a constant to gradients */
  top = top ? keep(v, op_reduce(G, OP_max, top, 1u << axis, true)) : NULL;
  x = B(sub, x, T(where, U(isfinite, top), top, N(0)));
  node *y = x ? keep(v, op_one(G, OP_logcumsumexp, 1, &x, 1, &(attr){axis})) : NULL;
  node *before = vjp_shifted(v, y, axis, -INFINITY);
  node *step = U(exp, T(where, B(eq, before, y), N(0), B(sub, before, y)));
  node *share = U(exp, T(where, B(eq, x, y), N(0), B(sub, x, y)));
  return P(linear_scan(v, g, step, axis, true), share);
}

/* What comes before x[i] times g[i] + x[i + 1] (g[i + 1] + x[i + 2] (g[i + 2] + ...)): no division */
node *cumprod_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t axis);
  node *after = linear_scan(v, g, use(v, i), at.axis, true);
  return P(after, vjp_shifted(v, result(v, 0), (int)at.axis, 1));
}

node *vjp_swapped(vjp *v, node *n) { /* last two axes */
  if (!n) return NULL;
  int perm[MAXDIM], k = n->a->s.n;
  for (int i = 0; i < k; i++) perm[i] = i;
  perm[k - 2] = k - 1;
  perm[k - 1] = k - 2;
  return keep(v, op_permute(v->G, n, perm));
}

/* Of a column and a row it is their outer product, which what comes next computes where it needs it. */
node *matmul_grad(vjp *v, int i, node *g) {
  node *other = vjp_swapped(v, use(v, 1 - i));
  shape s;
  node_shape(g, &s);
  if (s.d[s.n - 1 - i] == 1) return B(mul, g, other);
  return keep(v, i == 0 ? op_matmul(v->G, g, other) : op_matmul(v->G, other, g));
}

static node *pull(vjp *v, node *w, node *x, node *y) {
  return w && x && y ? keep(v, op_one(v->G, OP_pull, 3, (node *[]){w, x, y}, 0, NULL)) : NULL;
}

/* Sums of g (x - y) / distance. Points that are equal (or at a distance of hardly more than the least number) do not
** pull, nor does what is infinitely far: it counts as 0, so that the difference is a number. */
node *distance_grad(vjp *v, int i, node *g) {
  node *in[2], *far = T(where, B(le, result(v, 0), N(0x1p-1000)), N(INFINITY), result(v, 0));
  node *w = Q(g, far);
  for (int k = 0; k < 2; k++) in[k] = T(where, U(isfinite, use(v, k)), use(v, k), N(0));
  in[1] = vjp_swapped(v, in[1]);
  return i == 0 ? pull(v, w, in[0], in[1])
                : vjp_swapped(v, pull(v, vjp_swapped(v, w), in[1], in[0]));
}

/* n with an axis of length 1 more, `behind` the others */
static node *with_axis(vjp *v, node *n, int behind) {
  if (!n) return NULL;
  shape s;
  node_shape(n, &s);
  for (int i = s.n++; i > s.n - 1 - behind; i--) s.d[i] = s.d[i - 1];
  s.d[s.n - 1 - behind] = 1;
  return keep(v, op_reshape(v->G, n, &s));
}

node *pull_grad(vjp *v, int i, node *g) {
  if (i == 0) { /* sums of g (x - y), of (.., m, n, k) the last axis */
    int last = v->f->x->s.n;
    node *a = with_axis(v, g, 1), *x = with_axis(v, use(v, 1), 1), *y = with_axis(v, use(v, 2), 2);
    node *each = P(a, B(sub, x, y));
    return each ? keep(v, op_reduce(v->G, OP_sum, each, 1u << last, false)) : NULL;
  }
  node *w = use(v, 0);
  if (i == 2) {
    node *turned = vjp_swapped(v, w);
    return turned ? U(neg, keep(v, op_matmul(v->G, turned, g))) : NULL;
  }
  return w ? P(g, keep(v, op_reduce(v->G, OP_sum, w, 1u << (v->f->x->s.n - 1), true))) : NULL;
}

static node *gamma_slope(vjp *v, node *x, node *k, int64_t order) {
  return keep(v, op_one(v->G, OP_gamma_slope, 2, (node *[]){x, k}, 1, &(attr){order}));
}

node *gamma_log_grad(vjp *v, int i, node *g) {
  return P(g, gamma_slope(v, result(v, 0), use(v, i), 0));
}

/* exp(x) times the density being the derivative of the distribution function by x, that of the slope by x is
** digamma(k) - x - slope (k - exp(x)), whose derivatives by k those of higher order follow. */
node *gamma_slope_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t order);
  node *x = use(v, 0), *k = use(v, 1);
  if (i == 1) return at.order < 3 ? P(g, gamma_slope(v, x, k, at.order + 1)) : no_gradient(v, i, g);
  node *r = B(mul, result(v, 0), B(sub, k, U(exp, x)));
  if (at.order == 0) return P(g, B(sub, B(sub, U(digamma, k), x), r));
  r = B(add, r, B(mul, gamma_slope(v, x, k, at.order - 1), N((double)at.order)));
  return P(g, B(sub, B(_polygamma, k, N((double)at.order)), r));
}

static vjp_fn *const other_rules[NOP] = {
#define OTHER(name, signature, saves, vjp, doc) [OP_##name] = vjp,
#include "ops.def"
};

node *vjp_run(vjp *v, int i, node *g) {
  int op = v->f->op;
  return other_rules[op] ? other_rules[op](v, i, g) : rules[op][i](v, g);
}
