/* recur.c -- a recurrent cell along a sequence, its gradient by the machine, and the same of ops.
**
** As in attend.c the machine's gradient is no op: where gradients are to be differentiated again, the steps
** are composed of ops, recorded, and backward goes on through these.
*/
#include <string.h>

#include "graph/internal.h"

enum { TANH, RELU, LSTM, GRU };
enum { XS, H0, C0, WI, WH, BI, BH, LENGTHS, NIN };

static int gates_of(int64_t cell) { return cell == LSTM ? 4 : cell == GRU ? 3 : 1; }

static bool fits(call *c, int64_t cell) {
  shape s[NIN] = {{0}};
  char text[NIN][128];
  for (int i = 0; i < NIN; i++) {
    if (c->in[i]) node_shape(c->in[i], &s[i]);
    shape_text(&s[i], text[i]);
  }
  int k = gates_of(cell);
  int64_t n = s[XS].d[1], h = s[H0].d[1];
  if (s[XS].n != 3 || s[H0].n != 2)
    return fail(&c->G->c, "recurrent: x %s and h %s: expected (T, N, I) and (N, H)", text[XS],
                text[H0]);
  shape want[NIN] = {[H0] = {2, {n, h}},     [C0] = {2, {n, h}},  [WI] = {2, {k * h, s[XS].d[2]}},
                     [WH] = {2, {k * h, h}}, [BI] = {1, {k * h}}, [BH] = {1, {k * h}},
                     [LENGTHS] = {1, {n}}};
  for (int i = H0; i < NIN; i++) {
    char what[128];
    if (c->in[i] && !shape_eq(&s[i], &want[i]))
      return fail(&c->G->c, "recurrent: input %d has shape %s, expected %s", i + 1, text[i],
                  shape_text(&want[i], what));
  }
  if (!c->in[C0] != (cell != LSTM)) return fail(&c->G->c, "recurrent: an LSTM alone has cells");
  return true;
}

/* x (T, N, I) by w (O, I): (T, N, O) */
static array *project(ctx *c, array *x, array *w) {
  shape s = x->s, rows = {2, {s.d[0] * s.d[1], s.d[2]}};
  array *flat = arr_reshape(c, x, &rows), *turned = arr_permute(c, w, (const int[]){1, 0});
  array *y = flat && turned ? arr_matmul(c, OP_matmul, flat, turned) : NULL;
  s.d[2] = w->s.d[0];
  array *r = y ? arr_reshape(c, y, &s) : NULL;
  arr_unref(flat);
  arr_unref(turned);
  arr_unref(y);
  return r;
}

/* The states after steps, of those at all times */
static array *after(ctx *c, array *a, bool reverse) {
  shape s = a->s;
  s.d[0]--;
  return arr_slice(c, a, &s, (const int64_t[]){!reverse, 0, 0}, (const int64_t[]){1, 1, 1});
}

bool forward_recurrent(call *c) {
  ATTRS(c, int64_t cell, reverse);
  graph *G = c->G;
  array *a[NIN] = {NULL}, *out[3];
  if (!fits(c, at.cell) || !promote(c, FLOAT, LENGTHS)) return false;
  for (int i = 0; i < NIN; i++)
    if (c->in[i] && !(a[i] = arg(c, i))) return false;
  array *gates = project(&G->c, a[XS], a[WI]);
  bool ok = gates &&
            arr_recurrent(&G->c, (const int64_t[]){at.cell, at.reverse},
                          (array *[]){a[H0], a[C0], a[WH], a[BI], a[BH], a[LENGTHS]}, gates, out);
  if (!ok) return arr_unref(gates), false;
  keep_array(c, gates); /* own: 0 gates, 1 states, then cells or what a GRU has of its own */
  keep_array(c, out[0]);
  if (at.cell >= LSTM) keep_array(c, out[at.cell == GRU ? 2 : 1]);
  return give(c, after(&G->c, out[0], at.reverse)) &&
         (at.cell != LSTM || give(c, after(&G->c, out[1], at.reverse)));
}

/* ---- of ops -------------------------------------------------------------------------------------------- */

/* Columns from..from + n - 1 */
static node *columns(vjp *v, node *x, int64_t from, int64_t n) {
  shape s;
  if (!x) return NULL;
  node_shape(x, &s);
  int64_t first[MAXDIM] = {0}, step[MAXDIM] = {1, 1, 1};
  first[s.n - 1] = from;
  s.d[s.n - 1] = n;
  return keep(v, op_slice(v->G, x, &s, first, step));
}

static node *turned(vjp *v, node *w) {
  return w ? keep(v, op_permute(v->G, w, (const int[]){1, 0})) : NULL;
}

static node *product(vjp *v, node *x, node *y) {
  return x && y ? keep(v, op_matmul(v->G, x, y)) : NULL;
}

static node *reshaped(vjp *v, node *x, shape s) {
  return x ? keep(v, op_reshape(v->G, x, &s)) : NULL;
}

static node *time_of(vjp *v, node *x, int64_t t, shape s) { /* x[t] */
  shape one = {3, {1, s.d[0], s.d[1]}};
  node *r =
      keep(v, op_slice(v->G, x, &one, (const int64_t[]){t, 0, 0}, (const int64_t[]){1, 1, 1}));
  return reshaped(v, r, s);
}

/* The next state from what comes in and what the old one sends; *c is a new cell */
static node *stepped(vjp *v, int64_t cell, node *in, node *own, node *h, node **c, int64_t n) {
  node *sum = B(add, in, own);
  if (cell == TANH) return U(tanh, sum);
  if (cell == RELU) return U(relu, sum);
  node *i = U(sigmoid, columns(v, sum, 0, n)), *f = U(sigmoid, columns(v, sum, n, n));
  if (cell == LSTM) {
    node *g = U(tanh, columns(v, sum, 2 * n, n)), *o = U(sigmoid, columns(v, sum, 3 * n, n));
    *c = B(add, B(mul, f, *c), B(mul, i, g));
    return B(mul, o, U(tanh, *c));
  }
  node *u = B(add, columns(v, in, 2 * n, n), B(mul, i, columns(v, own, 2 * n, n)));
  u = U(tanh, u);
  return B(add, u, B(mul, f, B(sub, h, u)));
}

static node *joined(vjp *v, int64_t n, node *const *list) {
  node *r = NULL;
  if (n < 1) return NULL;
  for (int64_t i = 0; i < n; i++)
    if (!list[i]) return NULL;
  return (r = keep(v, op_one(v->G, OP_cat, (int)n, list, 1, &(attr){0}))) ? r : NULL;
}

/* All states in `y`, an LSTM's cells in `cells`; steps there are */
static bool composed(vjp *v, int64_t cell, bool reverse, node *const *x, node **y, node **cells) {
  graph *G = v->G;
  shape s, st;
  node_shape(x[XS], &s);
  node_shape(x[H0], &st);
  int64_t steps = s.d[0], k = gates_of(cell), n = st.d[1];
  shape flat = {2, {steps * s.d[1], s.d[2]}}, wide = {3, {steps, s.d[1], k * n}};
  shape one = {2, {s.d[1], k * n}}, row = {3, {1, s.d[1], n}};
  node *in = product(v, reshaped(v, x[XS], flat), turned(v, x[WI])), *w = turned(v, x[WH]);
  if (x[BI]) in = B(add, in, x[BI]);
  in = reshaped(v, in, wide);
  node *h = x[H0], *c = x[C0], **hs = mg_alloc(&G->c, 2 * steps * sizeof *hs);
  if (!in || !w || !hs) return mg_free(hs), false;
  node **cs = hs + steps;
  for (int64_t i = 0; i < steps; i++) {
    int64_t t = reverse ? steps - 1 - i : i;
    node *own = product(v, h, w), *to = c, *next, *done = NULL;
    if (x[BH]) own = B(add, own, x[BH]);
    next = stepped(v, cell, time_of(v, in, t, one), own, h, &to, n);
    if (x[LENGTHS]) {
      node place = node_integer(t);
      done = reshaped(v, B(le, x[LENGTHS], &place), (shape){2, {s.d[1], 1}});
      next = T(where, done, h, next);
      if (cell == LSTM) to = T(where, done, c, to);
    }
    h = next;
    c = to;
    hs[t] = reshaped(v, h, row);
    if (cell == LSTM) cs[t] = reshaped(v, c, row);
    if (!h) break;
    if (i + 1 < steps) continue;
    *y = joined(v, steps, hs);
    *cells = cell == LSTM ? joined(v, steps, cs) : NULL;
  }
  mg_free(hs);
  return *y && (*cells || cell != LSTM);
}

/* ---- the gradient ----------------------------------------------------------------------------------------- */

/* The gradient of result k; NULL: nobody uses it. One result is the Function itself. */
static node *incoming(vjp *v, int k, node *g) {
  if (!node_is_function(v->f)) return k == 0 ? g : NULL;
  return unused(v, k) ? NULL : grad_of(v, k);
}

/* May the gradient take the place of what was kept for it? Nobody else has it, and it is the last one */
static bool taken_over(const vjp *v, int64_t cell) {
  array *const *kept = v->f->x->kept;
  return is_last_use(v) && arr_sole(kept[0], 1) && (cell != GRU || arr_sole(kept[2], 1));
}

/* DONE: backward has gone on through a composition. Else shared are the gradients of what comes to the gates, of
** h and of c, and what reached the GRU's third gate. */
static node *walk(vjp *v, node *g) {
  ATTRS(v->f->x, int64_t cell, reverse);
  graph *G = v->G;
  node *x[NIN], *gy = incoming(v, 0, g), *gc = at.cell == LSTM ? incoming(v, 1, g) : NULL;
  for (int i = 0; i < NIN; i++) {
    bool there = node_has_input(v->f, i);
    x[i] = there ? use(v, i) : NULL;
    if (there && !x[i]) return NULL;
  }
  shape s;
  node_shape(x[XS], &s);
  if (v->create && s.d[0] > 0) {
    node *y = NULL, *cells = NULL;
    bool was = G->backprop;
    G->backprop = true;
    bool ok = composed(v, at.cell, at.reverse, x, &y, &cells);
    G->backprop = was;
    if (ok && gy) ok = backward_splice(v->b, y, gy);
    if (ok && gc) ok = backward_splice(v->b, cells, gc);
    share(v, 0, ok ? y : NULL);
    return ok ? DONE : NULL;
  }
  array *in[8] = {NULL}, *out[4];
  bool ok = true, over = taken_over(v, at.cell);
  node *from[8] = {[0] = x[WH], [5] = gy, [6] = gc, [7] = x[LENGTHS]};
  array **kept = v->f->x->kept;
  in[1] = arr_ref(kept[0]);
  in[2] = arr_ref(kept[1]);
  if (at.cell >= LSTM) in[at.cell == GRU ? 4 : 3] = arr_ref(kept[2]);
  for (int i = 0; i < 8 && ok; i++)
    if (from[i]) ok = (in[i] = node_as_array(G, from[i]));
  ok = ok && arr_recurrent_grad(&G->c, (const int64_t[]){at.cell, at.reverse}, in, over, out);
  for (int i = 0; i < 8; i++) arr_unref(in[i]);
  if (ok && over) node_lose_kept(v->f, 0);
  if (ok && is_last_use(v) && at.cell >= LSTM) node_lose_kept(v->f, 2);
  if (!ok) return NULL;
  for (int i = 0; i < 4; i++)
    if (out[i]) ok = (v->shared[i] = node_array(G, out[i])) && ok;
  return ok ? v->shared[0] : NULL;
}

/* Of what the states send to the gates, rows of all steps */
static node *sent(vjp *v, int64_t cell, shape rows) {
  node *d = v->shared[0];
  if (cell != GRU) return reshaped(v, d, rows);
  shape s;
  node_shape(d, &s);
  node *both[] = {columns(v, d, 0, s.d[2] / 3 * 2), v->shared[3]};
  if (!both[0]) return NULL;
  return reshaped(v, keep(v, op_one(v->G, OP_cat, 2, both, 1, &(attr){2})), rows);
}

node *recurrent_grad(vjp *v, int i, node *g) {
  ATTRS(v->f->x, int64_t cell, reverse);
  graph *G = v->G;
  if (v->create && v->shared[0] && v->f->x->s.d[0] > 0) return DONE;
  if (!v->shared[0]) {
    node *r = walk(v, g);
    if (!r || r == DONE) return r;
  }
  node *d = v->shared[0];
  shape s, state;
  node_shape(d, &s);
  shape rows = {2, {s.d[0] * s.d[1], s.d[2]}};
  if (i == H0) return v->shared[1];
  if (i == C0) return v->shared[2];
  if (i == XS) return reshaped(v, product(v, reshaped(v, d, rows), use(v, WI)), v->f->x->s);
  if (i == BI) return keep(v, op_reduce(G, OP_sum, reshaped(v, d, rows), 1, false));
  if (i == BH) return keep(v, op_reduce(G, OP_sum, sent(v, at.cell, rows), 1, false));
  if (i == WI) {
    shape in = {2, {rows.d[0], v->f->x->s.d[2]}};
    return product(v, turned(v, reshaped(v, d, rows)), reshaped(v, use(v, XS), in));
  }
  array *a = v->f->x->kept[1]; /* WH: by the states before */
  state = a->s;
  state.d[0]--;
  array *b =
      arr_slice(&G->c, a, &state, (const int64_t[]){at.reverse, 0, 0}, (const int64_t[]){1, 1, 1});
  node *before = reshaped(v, keep(v, node_array(G, b)), (shape){2, {rows.d[0], state.d[2]}});
  return product(v, turned(v, sent(v, at.cell, rows)), before);
}
