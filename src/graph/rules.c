/* rules.c -- the gradient rules: the vjp columns of ops.def made functions, and those of shape ops.
**
** A rule is written with ops, so that with create_graph its result can be differentiated again. What
** it makes on the way is kept in the vjp and dropped together at the end; pointers here are borrowed.
** A rule is asked for one input at a time, and only for tracked ones.
*/
#include <string.h>

#include "graph/internal.h"

static node *keep(vjp *v, node *n) {
  if (!n) return NULL;
  if (v->nkept == (int)(sizeof v->kept / sizeof *v->kept)) {
    node_drop(v->G, n);
    fail(&v->G->c, "backward: a gradient rule is too long");
    return NULL;
  }
  return v->kept[v->nkept++] = n;
}

void vjp_end(vjp *v) {
  while (v->nkept) node_drop(v->G, v->kept[--v->nkept]);
}

/* Operand i as it was when f was applied */
static node *use(vjp *v, int i) {
  node *f = v->f, *n = *in_at(f, i);
  saved *sv = sv_at(f, i);
  int kind = kind_of(f, i);
  if (kind == SAVED_NUMBER) {
    v->number[i] = node_number(sv->k.f);
    if (f->dtype > F32) v->number[i] = node_integer(sv->k.i);
    return &v->number[i];
  }
  if (kind == SAVED_SCALAR) {
    if (!n->a && n->k.i == sv->k.i) return n;
  } else if (kind == SAVED_ARRAY) {
    if (n->flags & DROPPED) {
      node_restore(n, sv->a);
      return keep(v, node_hold(n)); /* and dropped again with its last handle */
    }
    if (n->a == sv->a) return n;
  } else
    return fail(&v->G->c, "backward: %s did not save operand %d", op_table[f->op].name, i + 1),
           NULL;
  if (v->create && node_tracked(n)) {
    fail(&v->G->c,
         "backward: operand %d of %s was given a new value since; create_graph needs the old one",
         i + 1, op_table[f->op].name);
    return NULL;
  }
  return keep(v, kind == SAVED_SCALAR ? node_scalar(v->G, n->dtype, sv->k)
                                      : node_array(v->G, arr_ref(sv->a)));
}

/* ---- the language of the vjp column ------------------------------------------------------------------ */

#define U(op, a) keep(v, apply(v->G, OP_##op, 1, (node *[]){a}))
#define B(op, a, b) keep(v, apply(v->G, OP_##op, 2, (node *[]){a, b}))
#define T(op, a, b, c) keep(v, apply(v->G, OP_##op, 3, (node *[]){a, b, c}))
#define N(value) (&(node){.refs = 1, .handles = 1, .flags = NUMBER, .dtype = F64, .k.f = (value)})
#define Z keep(v, like(v->G, g, 0))
#define NONE refuse(v)

static node *refuse(vjp *v) {
  fail(&v->G->c, "%s: this operand has no gradient", op_table[v->f->op].name);
  return NULL;
}

/* A reduction's result, or its gradient, back in the shape of what was reduced */
static node *spread(vjp *v, node *g) {
  if (!g) return NULL;
  const extra *x = v->f->x;
  shape one = x->s, s;
  for (int i = 0; i < one.n; i++)
    if (x->p[0] >> i & 1) one.d[i] = 1;
  node_shape(g, &s);
  if (!shape_eq(&s, &one) && s.n) g = keep(v, op_reshape(v->G, g, &one));
  return g ? keep(v, op_broadcast_to(v->G, g, &x->s)) : NULL;
}

/* How many elements became one */
static double reduced(vjp *v) {
  double n = 1;
  for (int i = 0; i < v->f->x->s.n; i++)
    if (v->f->x->p[0] >> i & 1) n *= (double)v->f->x->s.d[i];
  return n;
}

/* max and min without an axis: equals share */
static node *extreme_grad(vjp *v, node *g, node *x, node *out) {
  node *hit = B(eq, x, spread(v, out));
  node *mask = hit ? keep(v, op_to(v->G, hit, x->dtype)) : NULL;
  node *count =
      mask ? keep(v, op_reduce(v->G, OP_sum, mask, (uint32_t)v->f->x->p[0], false)) : NULL;
  return B(mul, B(div, spread(v, g), spread(v, count)), mask);
}

static node *pow_grad_x(vjp *v, node *g, node *x, node *y) {
  if (!y) return NULL;
  if (y->flags & NUMBER)
    return y->k.f == 0 ? Z : B(mul, B(mul, g, N(y->k.f)), B(pow, x, N(y->k.f - 1)));
  node *zero = B(eq, y, N(0)); /* x^0 is flat, at 0 too */
  return B(mul, g, B(mul, y, B(pow, x, T(where, zero, N(1), B(sub, y, N(1))))));
}

static node *pow_grad_y(vjp *v, node *g, node *x, node *y, node *out) {
  (void)y;
  node *zero = B(eq, x, N(0));
  return B(mul, g, B(mul, out, U(log, T(where, zero, N(1), x))));
}

/* d/dx x Phi(x) = Phi(x) + x phi(x) */
static node *gelu_grad(vjp *v, node *g, node *x) {
  node *cdf = B(mul, B(add, U(erf, B(mul, x, N(0.70710678118654752440))), N(1)), N(0.5));
  node *pdf = B(mul, U(exp, B(mul, U(square, x), N(-0.5))), N(0.39894228040143267794));
  return B(mul, g, B(add, cdf, B(mul, x, pdf)));
}

static node *gelu_tanh_grad(vjp *v, node *g, node *x) {
  const double k = 0.79788456080286535588, c = 0.044715;
  node *x2 = U(square, x);
  node *t = U(tanh, B(mul, B(mul, x, N(k)), B(add, B(mul, x2, N(c)), N(1))));
  node *du = B(mul, B(add, B(mul, x2, N(3 * c)), N(1)), N(k));
  node *slope = B(mul, B(mul, x, B(sub, N(1), U(square, t))), du);
  return B(mul, g, B(mul, B(add, B(add, t, N(1)), slope), N(0.5)));
}

static node *silu_grad(vjp *v, node *g, node *x) {
  node *s = U(sigmoid, x);
  return B(mul, g, B(mul, s, B(add, B(mul, x, B(sub, N(1), s)), N(1))));
}

/* d/dx x t = t + x (1 - t^2) sigmoid(x), t = tanh(softplus(x)) */
static node *mish_grad(vjp *v, node *g, node *x) {
  node *t = U(tanh, U(softplus, x));
  node *slope = B(mul, B(mul, x, U(sigmoid, x)), B(sub, N(1), U(square, t)));
  return B(mul, g, B(add, t, slope));
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

const uint8_t op_saves[NOP][3] = {
#define UNARY(name, rule, cost, body, saves, vjp, doc) [OP_##name] = {saves},
#define BINARY(name, rule, cost, body, s1, v1, s2, v2, doc) [OP_##name] = {s1, s2},
#define TERNARY(name, rule, cost, body, s1, v1, s2, v2, s3, v3, doc) [OP_##name] = {s1, s2, s3},
#define REDUCE(name, rule, step, saves, vjp, doc) [OP_##name] = {saves},
#include "ops.def"
};

/* ---- shape ops ---------------------------------------------------------------------------------------------- */

static node *vjp_to(vjp *v, int i, node *g) { return keep(v, op_to(v->G, g, v->f->in[i]->dtype)); }
static node *vjp_identity(vjp *v, int i, node *g) { return (void)v, (void)i, g; }
static node *vjp_reshape(vjp *v, int i, node *g) {
  return (void)i, keep(v, op_reshape(v->G, g, &v->f->x->s));
}
static node *vjp_broadcast_to(vjp *v, int i, node *g) {
  return (void)i, keep(v, op_sum_to(v->G, g, &v->f->x->s));
}

static node *vjp_permute(vjp *v, int i, node *g) {
  (void)i;
  int inverse[MAXDIM];
  for (int k = 0; k < v->f->x->s.n; k++) inverse[v->f->x->p[k]] = k;
  return keep(v, op_permute(v->G, g, inverse));
}

static node *vjp_slice(vjp *v, int i, node *g) {
  (void)i;
  extra *x = v->f->x;
  if (x->s.n == 0) return g; /* all of a number, which has no array to add in */
  if (v->create) return keep(v, op_slice_grad(v->G, g, &x->s, x->p, x->p + MAXDIM));
  WORK(&v->G->c, OP_slice_grad);
  array *dst = backward_own(v->b, v->f->in[0], &x->s), *src = dst ? node_as_array(v->G, g) : NULL;
  bool ok = src && arr_add_slice(&v->G->c, dst, x->p, x->p + MAXDIM, src);
  arr_unref(src);
  return ok ? DONE : NULL;
}

static node *vjp_slice_grad(vjp *v, int i, node *g) {
  (void)i;
  extra *x = v->f->x;
  return keep(v, op_slice(v->G, g, &x->s, x->p, x->p + MAXDIM));
}

static node *vjp_cat(vjp *v, int i, node *g) {
  extra *x = v->f->x;
  int axis = (int)x->p[0];
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  for (int k = 0; k < MAXDIM; k++) step[k] = 1;
  for (int k = 0; k < i; k++) first[axis] += sv_at(v->f, k)->k.i;
  shape s = x->s;
  s.d[axis] = sv_at(v->f, i)->k.i;
  return keep(v, op_slice(v->G, g, &s, first, step));
}

/* Add g where indices point: into the accumulator, or as an op on zeros */
static node *put(vjp *v, node *g, bool (*add)(ctx *, array *, int, array *, array *),
                 node *(*op)(graph *, node *, int, node *, node *)) {
  extra *x = v->f->x;
  node *idx = use(v, 1);
  if (!idx) return NULL;
  if (v->create) {
    node *zero = keep(v, node_array(v->G, arr_const(&v->G->c, g->dtype, &x->s, (imm){0})));
    return zero ? keep(v, op(v->G, zero, (int)x->p[0], idx, g)) : NULL;
  }
  WORK(&v->G->c, v->f->op == OP_gather ? OP_scatter_add : OP_index_add);
  array *dst = backward_own(v->b, v->f->in[0], &x->s), *src = dst ? node_as_array(v->G, g) : NULL;
  array *at = src ? node_as_array(v->G, idx) : NULL;
  bool ok = at && add(&v->G->c, dst, (int)x->p[0], at, src);
  arr_unref(src);
  arr_unref(at);
  return ok ? DONE : NULL;
}

static node *vjp_index_select(vjp *v, int i, node *g) {
  return (void)i, put(v, g, arr_add_take, op_index_add);
}
static node *vjp_gather(vjp *v, int i, node *g) {
  return (void)i, put(v, g, arr_add_gather, op_scatter_add);
}

static node *vjp_index_add(vjp *v, int i, node *g) {
  if (i == 0) return g;
  node *idx = use(v, 1);
  return idx ? keep(v, op_index_select(v->G, g, (int)v->f->x->p[0], idx)) : NULL;
}

static node *vjp_scatter_add(vjp *v, int i, node *g) {
  if (i == 0) return g;
  node *idx = use(v, 1);
  return idx ? keep(v, op_gather(v->G, g, (int)v->f->x->p[0], idx)) : NULL;
}

static node *vjp_cumsum(vjp *v, int i, node *g) { /* the running sum from the other end */
  (void)i;
  int axis = (int)v->f->x->p[0];
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  for (int k = 0; k < MAXDIM; k++) step[k] = 1;
  first[axis] = v->f->x->s.d[axis] - 1;
  step[axis] = -1;
  node *r = keep(v, op_slice(v->G, g, &v->f->x->s, first, step));
  r = r ? keep(v, op_cumsum(v->G, r, axis)) : NULL;
  return r ? keep(v, op_slice(v->G, r, &v->f->x->s, first, step)) : NULL;
}

static node *swapped(vjp *v, node *n) { /* last two axes */
  if (!n) return NULL;
  int perm[MAXDIM], k = n->a->s.n;
  for (int i = 0; i < k; i++) perm[i] = i;
  perm[k - 2] = k - 1;
  perm[k - 1] = k - 2;
  return keep(v, op_permute(v->G, n, perm));
}

static node *vjp_matmul(vjp *v, int i, node *g) {
  node *other = swapped(v, use(v, 1 - i));
  if (!other) return NULL;
  return keep(v, i == 0 ? op_matmul(v->G, g, other) : op_matmul(v->G, other, g));
}

static node *vjp_rand(vjp *v, int i, node *g) { return (void)i, (void)g, refuse(v); }
#define vjp_sum_to vjp_rand  /* made of sum and reshape */
#define vjp_argsort vjp_rand /* gives integers */

static node *(*const shape_rules[NOP])(vjp *v, int i, node *g) = {
#define OTHER(name, doc) [OP_##name] = vjp_##name,
#include "ops.def"
};

node *vjp_run(vjp *v, int i, node *g) {
  int op = v->f->op;
  return shape_rules[op] ? shape_rules[op](v, i, g) : rules[op][i](v, g);
}
