/* forward.c -- ops that are not elementwise: forward and record. Their gradients stand in rules.c.
**
** What a gradient needs beyond values stands in the node's extra: s, the shape of the first input, and
**   reductions          p[0] axes (bit i: axis i)
**   permute             p[i] the axis that axis i was
**   slice               p[i] first, p[MAXDIM + i] step; slice_grad the same (s: of the small x)
**   cat, cumsum, index_select, index_add, gather, scatter_add          p[0] axis
** Axes are 0-based here, indices 1-based. Arguments are checked by the binding, but for what depends on
** several of them.
*/
#include <string.h>

#include "graph/internal.h"

/* r = op(in[0..n-1]) if it is recorded, with in[0]'s shape kept; *x is where parameters go, or NULL */
static node *made(graph *G, array *a, int op, int n, node *const *in, int saves, extra **x) {
  *x = NULL;
  node *r = node_array(G, a);
  if (!r || !is_float(r->dtype) || !recording(G, n, in)) return r;
  shape s;
  node_shape(in[0], &s);
  if (!node_extra(G, r)) return node_drop(G, r), NULL;
  if (!record(G, r, op, n, in, saves)) return NULL;
  r->x->s = s;
  *x = r->x;
  return r;
}

static bool usable(graph *G, int n, node *const *in) {
  for (int i = 0; i < n; i++)
    if (!in[i] || (in[i]->flags & DROPPED && !node_ready(G, in[i]))) return false;
  return true;
}

node *op_to(graph *G, node *x, dtype t) {
  if (!usable(G, 1, &x)) return NULL;
  if (x->dtype == t) return node_hold(x);
  extra *e;
  if (!x->a) {
    node *r = node_scalar(G, t, imm_cast(x->k, x->dtype, t));
    if (r && is_float(t) && recording(G, 1, &x) && !record(G, r, OP_to, 1, &x, 0)) r = NULL;
    return r;
  }
  return made(G, arr_cast(&G->c, x->a, t), OP_to, 1, &x, 0, &e);
}

node *op_identity(graph *G, node *x) {
  extra *e;
  return usable(G, 1, &x) ? made(G, node_as_array(G, x), OP_identity, 1, &x, 0, &e) : NULL;
}

node *op_rand(graph *G, dtype t, const shape *s) { return node_array(G, arr_random(&G->c, t, s)); }

node *like(graph *G, node *g, double v) {
  if (!g) return NULL;
  if (!g->a) return node_scalar(G, g->dtype, (imm){.f = v});
  return node_array(G, arr_const(&G->c, g->dtype, &g->a->s, (imm){.f = v}));
}

/* ---- reductions ------------------------------------------------------------------------------------- */

/* a with these axes moved to the end and made one */
static array *merge_axes(graph *G, array *a, uint32_t axes) {
  int perm[MAXDIM], kept = 0, n = 0;
  shape s = {0};
  int64_t merged = 1;
  for (int i = 0; i < a->s.n; i++)
    if (!(axes >> i & 1)) {
      perm[kept++] = i;
      s.d[s.n++] = a->s.d[i];
    }
  for (int i = 0; i < a->s.n; i++)
    if (axes >> i & 1) {
      perm[kept + n++] = i;
      merged *= a->s.d[i];
    }
  s.d[s.n++] = merged;
  array *moved = arr_permute(&G->c, a, perm);
  array *r = moved ? arr_reshape(&G->c, moved, &s) : NULL;
  arr_unref(moved);
  return r;
}

node *op_reduce(graph *G, int op, node *x, uint32_t axes, bool keepdims) {
  if (!usable(G, 1, &x)) return NULL;
  node *y;
  dtype t;
  if (!op_inputs(G, op, 1, &x, &y, &t)) return NULL;
  shape s;
  node_shape(y, &s);
  axes &= (1u << s.n) - 1;
  array *a = node_as_array(G, y);
  bool index = op == OP_argmax || op == OP_argmin;
  uint32_t run = axes ? axes >> __builtin_ctz(axes) : 0;
  if (a && index && run & (run + 1)) { /* of axes apart: the position in them, in C order */
    array *b = merge_axes(G, a, axes), *d = NULL;
    arr_unref(a);
    a = b ? arr_reduce(&G->c, op, b, b->s.n - 1, b->s.n - 1, false) : NULL;
    arr_unref(b);
    shape full = {0};
    for (int i = 0; i < s.n; i++)
      if (keepdims || !(axes >> i & 1)) full.d[full.n++] = axes >> i & 1 ? 1 : s.d[i];
    d = a ? arr_reshape(&G->c, a, &full) : NULL;
    arr_unref(a);
    a = d;
  } else if (s.n == 0) { /* as if of one element */
    array *b = a ? arr_reduce(&G->c, op, a, 0, -1, false) : NULL;
    arr_unref(a);
    a = b;
  } else {
    for (int last = s.n - 1; last >= 0 && a; last--) { /* runs of adjacent axes, from the end */
      if (!(axes >> last & 1)) continue;
      int first = last;
      while (first > 0 && axes >> (first - 1) & 1) first--;
      array *b = arr_reduce(&G->c, op, a, first, last, keepdims);
      arr_unref(a);
      a = b;
      last = first;
    }
  }
  extra *e;
  node *r = made(G, a, op, 1, &y, op_saves[op][0], &e);
  if (e) e->p[0] = axes;
  node_drop(G, y);
  return r;
}

node *op_sum_to(graph *G, node *x, const shape *s) {
  if (!usable(G, 1, &x)) return NULL;
  shape t;
  node_shape(x, &t);
  if (shape_eq(s, &t)) return node_hold(x);
  int lead = t.n - s->n;
  uint32_t axes = 0;
  bool leading_only = true;
  for (int i = 0; i < t.n; i++) {
    if (i >= lead && s->d[i - lead] == t.d[i]) continue;
    axes |= 1u << i;
    if (i >= lead) leading_only = false;
  }
  node *r = op_reduce(G, OP_sum, x, axes, !leading_only);
  if (leading_only || lead == 0) return r;
  node *q = op_reshape(G, r, s);
  node_drop(G, r);
  return q;
}

/* ---- shapes ------------------------------------------------------------------------------------------- */

node *op_reshape(graph *G, node *x, const shape *s) {
  extra *e;
  if (!usable(G, 1, &x)) return NULL;
  array *a = node_as_array(G, x), *b = a ? arr_reshape(&G->c, a, s) : NULL;
  arr_unref(a);
  return made(G, b, OP_reshape, 1, &x, 0, &e);
}

node *op_permute(graph *G, node *x, const int *perm) {
  extra *e;
  if (!usable(G, 1, &x)) return NULL;
  array *a = node_as_array(G, x), *b = a ? arr_permute(&G->c, a, perm) : NULL;
  int n = a ? a->s.n : 0;
  arr_unref(a);
  node *r = made(G, b, OP_permute, 1, &x, 0, &e);
  for (int i = 0; e && i < n; i++) e->p[i] = perm[i];
  return r;
}

node *op_broadcast_to(graph *G, node *x, const shape *s) {
  extra *e;
  if (!usable(G, 1, &x)) return NULL;
  array *a = node_as_array(G, x), *b = a ? arr_broadcast(&G->c, a, s) : NULL;
  arr_unref(a);
  return made(G, b, OP_broadcast_to, 1, &x, 0, &e);
}

static void keep_slice(extra *e, const int64_t *first, const int64_t *step, int n) {
  for (int i = 0; e && i < n; i++) {
    e->p[i] = first[i];
    e->p[MAXDIM + i] = step[i];
  }
}

node *op_slice(graph *G, node *x, const shape *s, const int64_t *first, const int64_t *step) {
  extra *e;
  if (!usable(G, 1, &x)) return NULL;
  array *a = node_as_array(G, x), *b = a ? arr_slice(&G->c, a, s, first, step) : NULL;
  arr_unref(a);
  node *r = made(G, b, OP_slice, 1, &x, 0, &e);
  keep_slice(e, first, step, s->n);
  return r;
}

node *op_slice_grad(graph *G, node *x, const shape *full, const int64_t *first,
                    const int64_t *step) {
  WORK(&G->c, OP_slice_grad);
  extra *e;
  if (!usable(G, 1, &x)) return NULL;
  array *a = node_as_array(G, x), *b = a ? arr_zeros(&G->c, x->dtype, full) : NULL;
  if (b && !arr_set_slice(&G->c, b, first, step, a)) {
    arr_unref(b);
    b = NULL;
  }
  arr_unref(a);
  node *r = made(G, b, OP_slice_grad, 1, &x, 0, &e);
  keep_slice(e, first, step, full->n);
  return r;
}

node *op_cat(graph *G, int n, node *const *xs, int axis) {
  if (!usable(G, n, xs)) return NULL;
  array **a = mg_alloc(&G->c, n * sizeof *a); /* there can be a million */
  int made_in = 0;
  for (; a && made_in < n; made_in++)
    if (!(a[made_in] = node_as_array(G, xs[made_in]))) break;
  array *b = made_in == n ? arr_cat(&G->c, n, a, axis) : NULL;
  for (int i = 0; i < made_in; i++) arr_unref(a[i]);
  mg_free(a);
  extra *e;
  node *r = made(G, b, OP_cat, n, xs, 0, &e);
  if (e) {
    e->p[0] = axis;
    for (int i = 0; i < n; i++) sv_at(r, i)->k.i = xs[i]->a->s.d[axis];
  }
  return r;
}

/* ---- indexing ------------------------------------------------------------------------------------------ */

static bool indices_ok(graph *G, const char *name, array *idx, int64_t n) {
  int64_t bad = arr_check_index(&G->c, idx, n);
  if (bad <= 0) return bad == 0;
  imm v = {0};
  array *flat = arr_reshape(&G->c, idx, &(shape){1, {idx->size}});
  array *one =
      flat ? arr_slice(&G->c, flat, &(shape){1, {1}}, (int64_t[]){bad - 1}, (int64_t[]){1}) : NULL;
  if (one) arr_get(&G->c, one, &v);
  arr_unref(flat);
  arr_unref(one);
  return fail(&G->c, "%s: index %lld at position %lld is not in 1..%lld", name, (long long)v.i,
              (long long)bad, (long long)n);
}

node *op_index_select(graph *G, node *x, int axis, node *idx) {
  node *in[2] = {x, idx};
  if (!usable(G, 2, in)) return NULL;
  extra *e;
  array *a = node_as_array(G, x), *i = node_as_array(G, idx), *b = NULL;
  if (a && i && indices_ok(G, "index_select", i, a->s.d[axis])) b = arr_take(&G->c, a, axis, i);
  arr_unref(a);
  arr_unref(i);
  node *r = made(G, b, OP_index_select, 2, in, Y, &e);
  if (e) e->p[0] = axis;
  return r;
}

typedef bool adder(ctx *c, array *dst, int axis, array *idx, array *src);

static node *add_at(graph *G, int op, adder *add, node *x, int axis, node *idx, node *src) {
  node *in[3] = {x, idx, src};
  WORK(&G->c, op);
  if (!usable(G, 3, in)) return NULL;
  extra *e;
  array *a = node_as_array(G, x), *i = node_as_array(G, idx), *s = node_as_array(G, src), *b = NULL;
  if (a && i && s && indices_ok(G, op_table[op].name, i, a->s.d[axis])) {
    b = arr_copy(&G->c, a);
    if (b && !add(&G->c, b, axis, i, s)) {
      arr_unref(b);
      b = NULL;
    }
  }
  arr_unref(a);
  arr_unref(i);
  arr_unref(s);
  node *r = made(G, b, op, 3, in, Y, &e);
  if (e) e->p[0] = axis;
  return r;
}

node *op_index_add(graph *G, node *x, int axis, node *idx, node *src) {
  return add_at(G, OP_index_add, arr_add_take, x, axis, idx, src);
}

node *op_scatter_add(graph *G, node *x, int axis, node *idx, node *src) {
  return add_at(G, OP_scatter_add, arr_add_gather, x, axis, idx, src);
}

node *op_gather(graph *G, node *x, int axis, node *idx) {
  node *in[2] = {x, idx};
  if (!usable(G, 2, in)) return NULL;
  extra *e;
  array *a = node_as_array(G, x), *i = node_as_array(G, idx), *b = NULL;
  if (a && i && indices_ok(G, "gather", i, a->s.d[axis])) b = arr_gather(&G->c, a, axis, i);
  arr_unref(a);
  arr_unref(i);
  node *r = made(G, b, OP_gather, 2, in, Y, &e);
  if (e) e->p[0] = axis;
  return r;
}

node *op_cumsum(graph *G, node *x, int axis) {
  extra *e;
  if (!usable(G, 1, &x)) return NULL;
  node *y;
  dtype t;
  if (!op_inputs(G, OP_sum, 1, &x, &y, &t)) return NULL;
  array *a = node_as_array(G, y), *b = a ? arr_cumsum(&G->c, a, axis) : NULL;
  arr_unref(a);
  node *r = made(G, b, OP_cumsum, 1, &y, 0, &e);
  if (e) e->p[0] = axis;
  node_drop(G, y);
  return r;
}

node *op_argsort(graph *G, node *x, int axis, bool descending) {
  if (!usable(G, 1, &x)) return NULL;
  array *a = node_as_array(G, x), *b = a ? arr_argsort(&G->c, a, axis, descending) : NULL;
  arr_unref(a);
  return node_array(G, b);
}

node *op_nonzero(graph *G, node *mask) {
  if (!usable(G, 1, &mask)) return NULL;
  array *a = node_as_array(G, mask), *b = a ? arr_nonzero(&G->c, a) : NULL;
  arr_unref(a);
  return node_array(G, b);
}

/* ---- products ------------------------------------------------------------------------------------------- */

/* Both at least 2-d, same dtype, batch axes equal */
static node *product(graph *G, node *x, node *y) {
  node *in[2] = {x, y};
  extra *e;
  array *a = node_as_array(G, x), *b = node_as_array(G, y);
  array *r = a && b ? arr_matmul(&G->c, a, b) : NULL;
  arr_unref(a);
  arr_unref(b);
  int saves = (node_tracked(x) ? Y : 0) | (node_tracked(y) ? X : 0);
  return made(G, r, OP_matmul, 2, in, saves, &e);
}

static node *widen(graph *G, node *x, const shape *batch) { /* to batch + its last two axes */
  shape s, full = *batch;
  node_shape(x, &s);
  full.d[full.n++] = s.d[s.n - 2];
  full.d[full.n++] = s.d[s.n - 1];
  return shape_eq(&s, &full) ? node_hold(x) : op_broadcast_to(G, x, &full);
}

node *op_matmul(graph *G, node *x, node *y) {
  node *in[2] = {x, y}, *c[2];
  if (!usable(G, 2, in)) return NULL;
  dtype t;
  shape a, b;
  node_shape(x, &a);
  node_shape(y, &b);
  char ta[128], tb[128];
  shape_text(&a, ta);
  shape_text(&b, tb);
  if (a.n == 0 || b.n == 0)
    return fail(&G->c, "matmul: %s and %s: a 0-d Variable has no rows", ta, tb), NULL;
  int64_t k = a.d[a.n - 1], l = b.d[b.n == 1 ? 0 : b.n - 2];
  if (k != l)
    return fail(&G->c, "matmul: %s and %s do not align: %lld and %lld differ", ta, tb, (long long)k,
                (long long)l),
           NULL;
  shape ba = {.n = a.n > 2 ? a.n - 2 : 0}, bb = {.n = b.n > 2 ? b.n - 2 : 0}, batch;
  memcpy(ba.d, a.d, sizeof ba.d);
  memcpy(bb.d, b.d, sizeof bb.d);
  if (!shape_broadcast(&ba, &bb, &batch))
    return fail(&G->c, "matmul: %s and %s: the leading axes do not broadcast", ta, tb), NULL;
  if (!op_inputs(G, OP_div, 2, in, c, &t)) return NULL; /* floats of one dtype */
  shape want = batch;                                   /* of the result */
  if (a.n > 1) want.d[want.n++] = a.d[a.n - 2];
  if (b.n > 1) want.d[want.n++] = b.d[b.n - 1];
  node *p, *q, *r;
  if (b.n <= 2 && a.n != 1) { /* rows of all batches against one matrix */
    int64_t rows = 1;
    for (int i = 0; i < a.n - 1; i++) rows *= a.d[i];
    p = a.n == 2 ? node_hold(c[0]) : op_reshape(G, c[0], &(shape){2, {rows, k}});
    q = b.n == 2 ? node_hold(c[1]) : op_reshape(G, c[1], &(shape){2, {k, 1}});
  } else {
    node *a2 = a.n > 1 ? node_hold(c[0]) : op_reshape(G, c[0], &(shape){2, {1, k}});
    node *b2 = b.n > 1 ? node_hold(c[1]) : op_reshape(G, c[1], &(shape){2, {k, 1}});
    p = a2 ? widen(G, a2, &batch) : NULL;
    q = b2 ? widen(G, b2, &batch) : NULL;
    node_drop(G, a2);
    node_drop(G, b2);
  }
  r = p && q ? product(G, p, q) : NULL;
  node_drop(G, p);
  node_drop(G, q);
  node_drop(G, c[0]);
  node_drop(G, c[1]);
  shape got;
  if (!r) return NULL;
  node_shape(r, &got);
  if (shape_eq(&got, &want)) return r;
  q = op_reshape(G, r, &want);
  node_drop(G, r);
  return q;
}

/* ---- host Functions ----------------------------------------------------------------------------------------- */

node *function_new(graph *G, int n, node *const *in, uint32_t met, const char *name) {
  node *f = node_new(G, F64);
  extra *x = f ? node_extra(G, f) : NULL;
  char *copy = x ? mg_alloc(&G->c, strlen(name) + 1) : NULL;
  if (!copy) return node_drop(G, f), NULL;
  x->name = strcpy(copy, name);
  if (!record(G, f, OP_FUNCTION, n, in, 0)) return NULL;
  f->x->nin = n;
  if (f->generation <= met) f->generation = met + 1;
  return f;
}

node *function_output(graph *G, node *f, int index, int nout, node *value) {
  extra *x = f->x;
  if (!x->nout) {
    node **out = mg_alloc(&G->c, nout * sizeof *out);
    shape *outs = mg_alloc(&G->c, nout * sizeof *outs);
    uint8_t *outt = mg_alloc(&G->c, nout);
    if (!out || !outs || !outt) return mg_free(out), mg_free(outs), mg_free(outt), NULL;
    memset(out, 0, nout * sizeof *out);
    memset(outs, 0, nout * sizeof *outs);
    memset(outt, F64, nout);
    x->out = out;
    x->outs = outs;
    x->outt = outt;
    x->nout = nout;
  }
  node *y = node_detach(G, value);
  if (!y) return NULL;
  node_shape(y, &x->outs[index]);
  x->outt[index] = y->dtype;
  if (!is_float(y->dtype)) return y; /* has no gradient */
  y->in[0] = node_ref(f);
  y->sv[1].k.i = index;
  y->kind = FLOWS;
  y->op = OP_OUTPUT;
  y->flags |= TRACKED;
  y->generation = f->generation;
  x->out[index] = y;
  return y;
}
