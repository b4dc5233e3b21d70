/* normalize.c -- groups of elements brought to mean 0 and variance 1.
**
** Axes first..last of x (1-based) tell groups apart; `per` neighbours along the last of them
** belong together. What is found of a group stands once for each of these places, in x's rank, so
** that it broadcasts. The result is lazy, made of x and of few numbers, and fuses with what
** follows; in its gradient these numbers are functions of x, and constants nowhere.
** */
#include <string.h>

#include "graph/internal.h"

typedef struct { /* as in the signatures */
  int64_t first, last, per, centred;
  double eps;
} groups;

static bool is_kept(const groups *a, int k) { return k + 1 >= a->first && k + 1 <= a->last; }

/* The shape of what is found of groups, and the machine's view of them */
static bool layout(const call *c, const groups *a, shape *s, moments *m) {
  shape x;
  node_shape(c->in[0], &x);
  *s = x;
  *m = (moments){
      .outer = 1, .n = 1, .inner = 1, .per = a->per, .centred = a->centred, .eps = a->eps};
  bool ok =
      a->first >= 1 && a->last < x.n + 1 && a->last >= a->first - 1 && a->per >= 1 && a->eps >= 0;
  for (int k = 0; k < x.n && ok; k++) {
    if (is_kept(a, k)) m->n *= x.d[k];
    else if (k + 1 < a->first) m->outer *= x.d[k];
    else m->inner *= x.d[k];
    if (!is_kept(a, k)) s->d[k] = 1;
  }
  int64_t last = ok && a->last >= a->first ? x.d[a->last - 1] : 1;
  char text[128];
  if (!ok || last % a->per || (a->per > 1 && m->outer != 1))
    return fail(&c->G->c, "%s: shape %s has no such groups", op_table[c->op].name,
                shape_text(&x, text));
  m->n /= a->per;
  m->inner *= a->per;
  return true;
}

bool forward_moments(call *c) {
  groups at;
  shape s;
  moments m;
  array *out[4];
  attrs_read(c->nat, c->at, &at, sizeof at);
  if (!layout(c, &at, &s, &m)) return false;
  array *x = arg(c, 0);
  if (!x || !arr_moments(&c->G->c, &m, x, &s, out)) return false;
  bool ok = true;
  for (int k = 0; k < 4; k++) ok = give(c, out[k]) && ok;
  return ok;
}

/* a op b, b being broadcast to s; a is let go. NULL passes on. */
static array *with(call *c, int op, array *a, array *b, const shape *s) {
  array *wide = a && b ? arr_broadcast(&c->G->c, b, s) : NULL;
  array *r = wide ? arr_map(&c->G->c, op, 2, (array *[]){a, wide}, s) : NULL;
  arr_unref(a);
  arr_unref(wide);
  return r;
}

/* Input i, one number for each group, in the shape of these; NULL: an error */
static array *by_group(call *c, int i, const shape *s) {
  array *a = arg(c, i);
  return a ? arr_reshape(&c->G->c, a, s) : NULL;
}

bool forward_standardize(call *c) {
  groups at;
  shape s, t, x;
  moments m;
  char text[128], other[128];
  attrs_read(c->nat, c->at, &at, sizeof at);
  if (!layout(c, &at, &s, &m)) return false;
  node_shape(c->in[0], &x);
  for (int i = 1; i < c->n; i++) {
    if (!c->in[i]) continue;
    node_shape(c->in[i], &t);
    bool fits = i < 4 ? shape_eq(&t, &s) : at.per == 1 && t.n == 1 && t.d[0] == m.n;
    if (!fits)
      return fail(&c->G->c, "standardize: %s does not fit groups %s", shape_text(&t, text),
                  shape_text(&s, other));
  }
  if (!promote(c, FLOAT, c->n)) return false;
  array *scale = arg(c, 3), *y = arg(c, 0);
  y = y && scale && arg(c, 1) && arg(c, 2) ? arr_ref(y) : NULL;
  scale = scale ? arr_ref(scale) : NULL;
  if (c->in[4]) {
    array *w = by_group(c, 4, &s);
    scale = with(c, OP_mul, scale, w, &s);
    arr_unref(w);
  }
  if (at.centred) y = with(c, OP_sub, with(c, OP_sub, y, c->a[1], &x), c->a[2], &x);
  y = with(c, OP_mul, y, scale, &x);
  arr_unref(scale);
  if (c->in[5]) {
    array *b = by_group(c, 5, &s);
    y = with(c, OP_add, y, b, &x);
    arr_unref(b);
  }
  return give(c, y);
}

/* ---- the gradient ---------------------------------------------------------------------------- */

/* The sum of n in each group, in all its places; of two at once (n[1] may be NULL), so that x is
** passed once for both. They are evaluated only where they would be one by one otherwise. */
static bool totals(vjp *v, const groups *a, node *n[2]) {
  graph *G = v->G;
  const int rank = v->f->x->s.n, many = n[1] ? 2 : 1;
  uint32_t all = (1u << rank) - 1, kept = 0;
  for (int k = 0; k < rank; k++)
    if (is_kept(a, k)) kept |= 1u << k;
  uint32_t before = (1u << (a->first - 1)) - 1, behind = all & ~kept & ~before;
  for (int i = 0; i < many; i++)
    if (behind && !(n[i] = keep(v, op_reduce(G, OP_sum, n[i], behind, true)))) return false;
  if ((before || a->per > 1) && !node_eval(G, many, n)) return false;
  for (int i = 0; i < many; i++) {
    shape s, pairs = {2, {1, a->per}};
    if (before && !(n[i] = keep(v, op_reduce(G, OP_sum, n[i], before, true)))) return false;
    if (a->per == 1) continue;
    node_shape(n[i], &s);
    pairs.d[0] = shape_size(&s) / a->per;
    node *r = keep(v, op_reshape(G, n[i], &pairs));
    r = r ? keep(v, op_reduce(G, OP_sum, r, 2, true)) : NULL;
    r = keep(v, op_broadcast_to(G, r, &pairs));
    if (!(n[i] = keep(v, op_reshape(G, r, &s)))) return false;
  }
  return true;
}

static node *total(vjp *v, const groups *a, node *n) {
  node *one[2] = {n, NULL};
  return n && totals(v, a, one) ? one[0] : NULL;
}

static double count(vjp *v, const groups *a) {
  double n = (double)a->per;
  for (int k = 0; k < v->f->x->s.n; k++)
    if (!is_kept(a, k)) n *= (double)v->f->x->s.d[k];
  return n;
}

/* The standardized x and the factor it got, which to a gradient that is differentiated again are
** functions of x */
static node *standard(vjp *v, const groups *a, node **rstd) {
  node *x = use(v, 0);
  if (!x) return NULL;
  if (!v->create) {
    *rstd = use(v, 3);
    if (a->centred) x = B(sub, B(sub, x, use(v, 1)), use(v, 2));
    return B(mul, x, *rstd);
  }
  node *wide = keep(v, op_to(v->G, x, F64)), *n = N(count(v, a));
  /* A mean of doubles is rounded; that of what is left has the rest. */
  int times = !a->centred ? 0 : x->dtype == F64 ? 2 : 1;
  while (times-- > 0) wide = B(sub, wide, B(div, total(v, a, wide), n));
  node *r = U(rsqrt, B(add, B(div, total(v, a, U(square, wide)), n), N(a->eps)));
  *rstd = keep(v, op_to(v->G, r, x->dtype));
  return keep(v, op_to(v->G, B(mul, wide, r), x->dtype));
}

/* shared: the sums of g, and of g times the standardized x, in each group; the latter itself; its
** factor */
node *standardize_grad(vjp *v, int i, node *g) {
  groups at;
  attrs_read(v->f->x->nat, v->f->x->at, &at, sizeof at);
  node **shared = v->shared, *n = N(count(v, &at)), *w;
  shape s;
  if (i >= 1 && i <= 3) return NONE;
  if (i != 5 && !shared[1]) {
    node *rstd = NULL, *x = share(v, 2, standard(v, &at, &rstd));
    node *sums[2] = {g, P(g, x)};
    if (!sums[1] || !totals(v, &at, sums)) return NULL;
    for (int k = 0; k < 2; k++) share(v, k, sums[k]);
    share(v, 3, rstd);
  }
  if (i == 5 && !shared[0]) share(v, 0, total(v, &at, g));
  if (i >= 4) {
    node_shape(*in_at(v->f, i), &s);
    return keep(v, op_reshape(v->G, shared[5 - i], &s));
  }
  node *scale = shared[3];
  if (node_has_input(v->f, 4)) {
    if (!(w = use(v, 4))) return NULL;
    node_shape(scale, &s);
    scale = B(mul, scale, keep(v, op_reshape(v->G, w, &s)));
  }
  if (at.centred) g = B(sub, g, B(div, shared[0], n));
  return P(B(sub, g, P(B(div, shared[1], n), shared[2])), scale);
}
