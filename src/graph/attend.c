/* attend.c -- attention: the op, its gradient by the machine, and the same of ops.
**
** The machine's gradient is no op. Where gradients are to be differentiated again, or the mask has one, the
** result is composed of ops, recorded, and backward goes on through that.
*/
#include <math.h>
#include <string.h>

#include "graph/internal.h"

/* One rank, the same leading axes, and lengths that fit */
static bool fits(call *c) {
  shape s[4];
  char text[4][128];
  for (int i = 0; i < 4; i++) {
    if (!c->in[i]) continue;
    node_shape(c->in[i], &s[i]);
    shape_text(&s[i], text[i]);
  }
  int n = s[0].n;
  bool ok = n >= 2 && s[1].n == n && s[2].n == n && s[0].d[n - 1] == s[1].d[n - 1] &&
            s[1].d[n - 2] == s[2].d[n - 2];
  for (int i = 0; i < n - 2 && ok; i++) ok = s[0].d[i] == s[1].d[i] && s[0].d[i] == s[2].d[i];
  if (!ok)
    return fail(&c->G->c, "attention: q %s, k %s and v %s do not fit", text[0], text[1], text[2]);
  if (!c->in[3]) return true;
  shape want = s[0];
  want.d[n - 1] = s[1].d[n - 2];
  return shape_eq(&want, &s[3]) ||
         fail(&c->G->c, "attention: mask %s does not fit %s", text[3], shape_text(&want, text[0]));
}

bool forward_attention(call *c) {
  ATTRS(c, int64_t causal; double scale, p);
  graph *G = c->G;
  if (!fits(c) || !promote(c, FLOAT, 3)) return false;
  array *in[4], *out[2], *mask = NULL;
  for (int i = 0; i < 3; i++)
    if (!(in[i] = arg(c, i))) return false;
  if (c->in[3] && !(mask = arg(c, 3))) return false;
  attention_attr a = {.causal = at.causal, .scale = at.scale, .p = at.p};
  uint64_t counter = G->c.counter;
  if (at.p > 0) {
    int64_t width = in[1]->s.d[in[1]->s.n - 2], d = in[0]->s.d[in[0]->s.n - 1];
    a.seed = (int64_t)G->c.seed;
    a.counter = (int64_t)random_take(&G->c, d ? in[0]->size / d * width : 0);
  }
  in[3] = mask ? arr_cast(&G->c, mask, mask->dtype == BOOL ? BOOL : in[0]->dtype) : NULL;
  bool ok = (in[3] || !mask) && arr_attention(&G->c, &a, in, out);
  arr_unref(in[3]);
  if (!ok) {
    G->c.counter = counter; /* a second try shall draw the same */
    return false;
  }
  c->at = c->own;
  c->nat = sizeof a / sizeof *c->own;
  memcpy(c->own, &a, sizeof a);
  keep_array(c, out[1]);
  return give(c, out[0]);
}

/* ---- of ops ------------------------------------------------------------------------------------------ */

#define W(a, b, c) T(where, a, b, c)
#define R(op, a) keep(v, op_reduce(G, OP_##op, a, 1u << (n - 1), true))

static node *turned(vjp *v, node *x) {
  int perm[MAXDIM];
  shape s;
  if (!x) return NULL;
  node_shape(x, &s);
  for (int i = 0; i < s.n; i++) perm[i] = i;
  perm[s.n - 2] = s.n - 1;
  perm[s.n - 1] = s.n - 2;
  return keep(v, op_permute(v->G, x, perm));
}

static node *count_to(vjp *v, int64_t n, const shape *s) {
  imm one = {.i = 1};
  node *x = keep(v, node_array(v->G, arr_iota(&v->G->c, I64, n, one, one)));
  return keep(v, op_reshape(v->G, x, s));
}

/* true in *all: every element is finite, or is taken to be by what mg.compile records */
static bool all_finite(vjp *v, node *const *x, int n, bool *all) {
  graph *G = v->G;
  node *flag = NULL;
  for (int i = 0; i < n; i++) {
    node *one = keep(v, op_reduce(G, OP_all, U(isfinite, x[i]), UINT32_MAX, false));
    flag = i && one ? B(logical_and, flag, one) : one;
    if (!flag) break;
  }
  if (!flag) return false;
  if (flag->a && G->recorder) return recorder_choose(G, flag, all);
  imm k;
  if (!node_item(G, flag, &k)) return false;
  *all = k.i;
  return true;
}

static node *random_again(vjp *v, const attention_attr *a, const shape *s) {
  ctx *c = &v->G->c;
  uint64_t seed = c->seed, counter = c->counter;
  c->seed = (uint64_t)a->seed;
  c->counter = (uint64_t)a->counter;
  node *u = keep(v, node_array(v->G, arr_random(c, F32, s)));
  c->seed = seed;
  c->counter = counter;
  return u;
}

/* What stands in a masked place is not seen, be it nan: it is replaced beforehand, and who sees it becomes
** nan. */
static node *composed(vjp *v, const attention_attr *a, node *q, node *k, node *x, node *mask) {
  graph *G = v->G;
  shape s, sk;
  bool finite = true;
  node *keeps = NULL, *bad = NULL, *wild = NULL;
  if (!q || !k || !x) return NULL;
  node_shape(q, &s);
  node_shape(k, &sk);
  int n = s.n;
  s.d[n - 1] = sk.d[n - 2];
  if (mask) keeps = mask->dtype == BOOL ? mask : B(ne, mask, N(-INFINITY));
  if (mask && !keeps) return NULL;
  if (a->causal) {
    node *lower = B(ge, count_to(v, s.d[n - 2], &(shape){2, {s.d[n - 2], 1}}),
                    count_to(v, s.d[n - 1], &(shape){1, {s.d[n - 1]}}));
    keeps = keeps ? B(logical_and, keeps, lower) : lower;
    if (!keeps) return NULL;
  }
  if (keeps && !all_finite(v, (node *[]){q, k, x}, 3, &finite)) return NULL;
  if (!finite) {
    node *fq = R(all, U(isfinite, q)), *fk = R(all, U(isfinite, k)), *fx = U(isfinite, x);
    bad = U(logical_not, B(logical_and, fq, turned(v, fk)));
    bad = B(logical_and, bad, keeps);
    q = W(fq, q, N(0));
    k = W(fk, k, N(0));
    x = W(fx, x, N(0));
    node *times = keep(v, op_to(G, keep(v, op_broadcast_to(G, keeps, &s)), F64));
    node *other = U(logical_not, fx);
    other = other ? keep(v, op_to(G, other, F64)) : NULL;
    wild = B(gt, times && other ? keep(v, op_matmul(G, times, other)) : NULL, N(0));
    if (!bad || !wild) return NULL;
  }
  node *score = q && k ? B(mul, keep(v, op_matmul(G, q, turned(v, k))), N(a->scale)) : NULL;
  if (mask && mask->dtype != BOOL)
    score = B(add, score, mask->dtype == q->dtype ? mask : keep(v, op_to(G, mask, q->dtype)));
  if (bad) score = W(bad, N(NAN), score);
  if (keeps) score = W(keeps, score, N(-INFINITY));
  if (!score) return NULL;
  node *top = R(max, keep(v, node_detach(G, score)));
  top = W(B(eq, top, N(-INFINITY)), N(0), top);
  node *e = U(exp, B(sub, score, top)), *sum = R(sum, e);
  node *w = B(div, e, W(B(eq, sum, N(0)), N(1), sum));
  if (a->p > 0)
    w = W(B(ge, random_again(v, a, &s), N(a->p)), B(mul, w, N(a->p < 1 ? 1 / (1 - a->p) : 0)),
          N(0));
  node *y = w && x ? keep(v, op_matmul(G, w, x)) : NULL;
  if (wild) y = W(wild, N(NAN), y);
  if (keeps) y = W(R(any, keep(v, op_broadcast_to(G, keeps, &s))), y, N(0));
  return y;
}

node *attention_grad(vjp *v, int i, node *g) {
  graph *G = v->G;
  attention_attr a;
  attrs_read(v->f->x->nat, v->f->x->at, &a, sizeof a);
  node *x[7] = {use(v, 0), use(v, 1), use(v, 2), node_has_input(v->f, 3) ? use(v, 3) : NULL};
  shape s;
  if (!x[0] || !x[1] || !x[2] || (node_has_input(v->f, 3) && !x[3])) return NULL;
  node_shape(x[1], &s);
  bool again = v->create || (x[3] && flows(v->f, 3));
  if (again && s.d[s.n - 2] > 0) {
    if (v->shared[0]) return DONE;
    bool was = G->backprop;
    G->backprop = true;
    node *y = share(v, 0, composed(v, &a, x[0], x[1], x[2], x[3]));
    G->backprop = was;
    return y && backward_splice(v->b, y, g) ? DONE : NULL;
  }
  if (!v->shared[0]) {
    x[4] = result(v, 0);
    x[5] = own(v, 0);
    x[6] = g;
    array *in[7] = {NULL}, *out[3];
    bool ok = x[4] && x[5];
    for (int k = 0; k < 7 && ok; k++)
      if (x[k]) {
        array *b = in[k] = node_as_array(G, x[k]);
        if (b && k == 3 && b->dtype != BOOL) {
          in[k] = arr_cast(&G->c, b, x[0]->dtype);
          arr_unref(b);
        }
        ok = in[k];
      }
    ok = ok && arr_attention_grad(&G->c, &a, in, out);
    for (int k = 0; k < 7; k++) arr_unref(in[k]);
    if (!ok) return NULL;
    for (int k = 0; k < 3; k++) ok = (v->shared[k] = node_array(G, out[k])) && ok;
    if (!ok) return NULL;
  }
  return v->shared[i];
}
