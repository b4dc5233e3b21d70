/* pooling.c -- windows over the last two axes: what is the largest or the average there, and their
** gradients.
**
** Taking the largest keeps where it stood; what sends gradients there and what reads there are
** each other's adjoint, as an average and its spreading are. How many windows there are was found
** above, in dims, the shape of the result; kernel {0, 0} shares an axis out among them.
** */
#include <string.h>

#include "graph/internal.h"

typedef struct { /* as in the signatures */
  ints dims;
  int64_t kernel[2], stride[2], padding[2], dilation[2];
} of_max;

typedef struct {
  ints dims;
  int64_t kernel[2], stride[2], padding[2], count, divisor;
} of_avg;

/* `to` windows over n elements. A tap that is not there is passed over below; what must hold is
** that nothing is too large to be computed with. */
static bool one_axis(pool_axis *a, int64_t n, int64_t to, int64_t k, int64_t s, int64_t p,
                     int64_t d) {
  int64_t start, width, end;
  if (n == 0 && to == 0) /* channels of one axis, and there are none: no window is looked at */
    return *a = (pool_axis){1, 1, 1, 1, 0, 1}, true;
  *a = (pool_axis){n, to, k, s, p, d};
  if (n < 1 || to < 1 || k < 0 || s < 1 || p < 0 || d < 1) return false;
  if (k == 0) return s == 1 && p == 0 && d == 1 && !__builtin_mul_overflow(n, to, &end);
  return !__builtin_mul_overflow(to - 1, s, &start) && !__builtin_mul_overflow(k - 1, d, &width) &&
         !__builtin_add_overflow(n, p, &end) && !__builtin_add_overflow(end, p, &end) &&
         start <= end && width - s <= end;
}

/* The pool that leads from x's shape to dims, or the other way, and the shape dims. */
static bool geometry(const call *c, const of_max *at, bool back, pool *p, shape *s) {
  shape x;
  char a[128], b[128];
  node_shape(c->in[0], &x);
  *s = (shape){.n = (int)at->dims.n};
  memcpy(s->d, at->dims.d, sizeof s->d);
  const shape *from = back ? s : &x, *to = back ? &x : s;
  int n = x.n;
  bool ok = n >= 2 && s->n == n;
  for (int i = 0; i < n - 2 && ok; i++) ok = s->d[i] == x.d[i];
  for (int i = n - 2; i < n && ok; i++) {
    int k = i - n + 2;
    ok = one_axis(k ? &p->x : &p->y, from->d[i], to->d[i], at->kernel[k], at->stride[k],
                  at->padding[k], at->dilation[k]);
  }
  return ok || fail(&c->G->c, "%s: no windows lead from shape %s to %s", op_table[c->op].name,
                    shape_text(&x, a), shape_text(s, b));
}

/* ---- the largest ----------------------------------------------------------------------------- */

bool forward_max_pool(call *c) {
  of_max at;
  pool p = {.count = 0};
  shape s;
  attrs_read(c->nat, c->at, &at, sizeof at);
  if (!geometry(c, &at, false, &p, &s)) return false;
  array *x = arg(c, 0), *place = NULL;
  bool kept = recording(c->G, c->n, c->in);
  array *r = x ? arr_max_pool(&c->G->c, &p, x, &s, kept ? &place : NULL) : NULL;
  keep_array(c, place);
  return give(c, r);
}

/* The same op, or its adjoint, on g by the same windows, with a result of shape s */
static node *by_place(vjp *v, int op, node *g, node *place, const shape *s) {
  extra *x = v->f->x;
  attr at[40];
  memcpy(at, x->at, x->nat * sizeof *at);
  at[0].i = s->n;
  memcpy(at + 1, s->d, sizeof s->d);
  return keep(v, op_one(v->G, op, 2, (node *[]){g, place}, x->nat, at));
}

node *max_pool_grad(vjp *v, int i, node *g) {
  return (void)i, by_place(v, OP_max_unpool, g, own(v, 0), &v->f->x->s);
}

static bool places(call *c, bool back) {
  of_max at;
  pool p = {.count = 0};
  shape s, q;
  node_shape(c->in[1], &q);
  attrs_read(c->nat, c->at, &at, sizeof at);
  if (!geometry(c, &at, back, &p, &s)) return false;
  shape of = s;
  if (back) node_shape(c->in[0], &of);
  if (!shape_eq(&of, &q))
    return fail(&c->G->c, "%s: the places are not those of a max_pool", op_table[c->op].name);
  array *x = arg(c, 0), *place = x ? arg(c, 1) : NULL;
  return place && give(c, arr_by_place(&c->G->c, c->op, &p, x, place, &s));
}

bool forward_max_unpool(call *c) { return places(c, true); }
bool forward_max_pick(call *c) { return places(c, false); }

node *max_unpool_grad(vjp *v, int i, node *g) {
  return (void)i, by_place(v, OP_max_pick, g, use(v, 1), &v->f->x->s);
}
node *max_pick_grad(vjp *v, int i, node *g) {
  return (void)i, by_place(v, OP_max_unpool, g, use(v, 1), &v->f->x->s);
}

/* ---- the average ----------------------------------------------------------------------------- */

static bool average(call *c, bool back) {
  of_avg at;
  pool p;
  shape s;
  attrs_read(c->nat, c->at, &at, sizeof at);
  of_max windows = {.dims = at.dims, .dilation = {1, 1}};
  memcpy(windows.kernel, at.kernel, sizeof at.kernel);
  memcpy(windows.stride, at.stride, sizeof at.stride);
  memcpy(windows.padding, at.padding, sizeof at.padding);
  if (!geometry(c, &windows, back, &p, &s)) return false;
  p.count = at.count;
  p.divisor = at.divisor;
  array *x = arg(c, 0);
  return x && give(c, arr_average(&c->G->c, c->op, &p, x, &s));
}

bool forward_avg_pool(call *c) { return average(c, false); }
bool forward_avg_unpool(call *c) { return average(c, true); }

static node *adjoint(vjp *v, int op, node *g) {
  extra *x = v->f->x;
  attr at[40];
  memcpy(at, x->at, x->nat * sizeof *at);
  at[0].i = x->s.n;
  memcpy(at + 1, x->s.d, sizeof x->s.d);
  return keep(v, op_one(v->G, op, 1, &g, x->nat, at));
}

node *avg_pool_grad(vjp *v, int i, node *g) { return (void)i, adjoint(v, OP_avg_unpool, g); }
node *avg_unpool_grad(vjp *v, int i, node *g) { return (void)i, adjoint(v, OP_avg_pool, g); }
