/* forward.c -- ops that are not elementwise: what a row's body is given, what becomes of its results, how C
** calls them, and the Functions of the host. The bodies stand in the files beside; gradients in rules.c, or
** beside the body.
**
** A body has its arguments checked one by one, by the signature; what depends on several of them it
** checks itself. Axes are 0-based there, indices 1-based.
*/
#include <string.h>

#include "graph/internal.h"

/* ---- applying -------------------------------------------------------------------------------------- */

void attrs_read(int nat, const attr *from, void *to, size_t bytes) {
  size_t have = nat * sizeof *from;
  memset(to, 0, bytes);
  memcpy(to, from, have < bytes ? have : bytes);
}

array *arg(call *c, int i) {
  if (i >= MAXIN) return fail(&c->G->c, "%s: too many inputs", op_table[c->op].name), NULL;
  if (!c->a[i]) c->a[i] = node_as_array(c->G, c->in[i]);
  return c->a[i];
}

bool promote(call *c, int rule, int n) {
  dtype t;
  node *in[MAXIN], *cast[MAXIN];
  int m = 0, k = 0;
  for (int i = 0; i < n; i++)
    if (c->in[i]) in[m++] = c->in[i];
  if (!op_inputs(c->G, rule, m, in, cast, &t)) return false;
  for (int i = 0; i < c->n; i++) {
    node *x = c->in[i];
    c->cast[i] = !x ? NULL : i < n ? cast[k++] : node_hold(x);
  }
  c->in = c->cast;
  return true;
}

bool same_shapes(call *c, const char *who) {
  shape s, t;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  node_shape(c->in[1], &t);
  if (shape_eq(&s, &t)) return true;
  return fail(&c->G->c, "%s: shapes %s and %s differ", who, shape_text(&s, a), shape_text(&t, b));
}

bool give(call *c, array *a) { return (c->out[c->nout++] = node_array(c->G, a)); }

bool give_node(call *c, node *n) {
  c->composed = true;
  return (c->out[c->nout++] = n);
}

bool keep_array(call *c, array *a) {
  if (a) c->kept[c->nkept++] = a;
  return a;
}

bool give_if(call *c, bool ok, array *a) {
  if (ok) return give(c, a);
  arr_unref(a);
  return false;
}

shape dims_of(const ints *d) {
  shape s = {.n = (int)d->n};
  memcpy(s.d, d->d, sizeof s.d);
  return s;
}

bool usable(graph *G, int n, node *const *in) {
  for (int i = 0; i < n; i++) {
    if (!in[i]) continue;
    if (in[i]->flags & DROPPED && !node_ready(G, in[i])) return false;
    node_read(G, in[i]);
  }
  return true;
}

/* The extra of a Function made by op on in[0..n-1]; `kept` moves there */
static extra *extra_of(call *c, node *f) {
  graph *G = c->G;
  extra *x = node_extra_at(G, f, c->nat, c->at);
  if (!x) return NULL;
  node_shape(c->in[0], &x->s);
  if (c->nkept && !(x->kept = mg_alloc(&G->c, c->nkept * sizeof *x->kept))) return NULL;
  for (; x->nkept < c->nkept; x->nkept++) {
    array *a = x->kept[x->nkept] = c->kept[x->nkept];
    c->kept[x->nkept] = NULL;
    a->saved++;
  }
  return x;
}

/* One float among the results is the Function itself; several have one of their own. */
bool record_call(call *c) {
  graph *G = c->G;
  int floats = 0, first = 0;
  for (int k = c->nout; k--;)
    if (is_float(c->out[k]->dtype)) {
      floats++;
      first = k;
    }
  if (floats == 0 || !recording(G, c->n, c->in)) return true;
  uint32_t saves = saves_for(c->op, c->n, c->in);
  node *f = floats == 1 ? c->out[first] : node_new(G, F64);
  if (!f) return false;
  if (floats == 1) c->out[first] = NULL; /* until it is recorded */
  else saves &= OUT - 1;
  bool ok = extra_of(c, f) && (floats == 1 || outputs_new(G, f, c->nout));
  if (!ok) return node_drop(G, f), false;
  if (!record(G, f, c->op, c->n, c->in, saves)) return false;
  if (floats == 1) {
    c->out[first] = f;
    return true;
  }
  saves = saves_for(c->op, c->n, c->in);
  for (int k = 0; k < c->nout && ok; k++) {
    output_set(f, k, c->out[k]);
    if (saves & RESULT(k)) ok = (f->x->out[k].a = node_as_array(G, c->out[k]));
    if (f->x->out[k].a) f->x->out[k].a->saved++;
  }
  node_drop(G, f);
  return ok;
}

static forward_fn *const bodies[NOP] = {
#define OTHER(name, ...) [OP_##name] = forward_##name,
#include "ops.def"
};

int op_apply(graph *G, int op, int n, node *const *in, int nat, const attr *at, node *out[MAXOUT]) {
  if (!in || !usable(G, n, in)) return 0;
  call c = {.G = G, .op = op, .n = n, .in = in, .nat = nat, .at = at};
  bool ok = bodies[op](&c) && (c.composed || record_call(&c));
  for (int k = 0; k < c.nout; k++) {
    if (ok) out[k] = c.out[k];
    else node_drop(G, c.out[k]);
  }
  for (int k = 0; k < c.nkept; k++) arr_unref(c.kept[k]);
  for (int i = 0; i < n && i < MAXIN; i++) {
    arr_unref(c.a[i]);
    node_drop(G, c.cast[i]);
  }
  return ok ? c.nout : 0;
}

node *op_one(graph *G, int op, int n, node *const *in, int nat, const attr *at) {
  node *out[MAXOUT];
  for (int i = 0; i < n; i++)
    if (!in[i]) return NULL;
  int nout = op_apply(G, op, n, in, nat, at, out);
  for (int k = 1; k < nout; k++) node_drop(G, out[k]);
  return nout ? out[0] : NULL;
}

/* ---- values --------------------------------------------------------------------------------------- */

bool forward_to(call *c) {
  ATTRS(c, int64_t t);
  node *x = c->in[0];
  c->nat = 0;
  if (x->dtype == at.t) return give_node(c, node_hold(x));
  if (x->a) return give(c, arr_cast(&c->G->c, x->a, at.t));
  return (c->out[c->nout++] = node_scalar(c->G, at.t, imm_cast(x->k, x->dtype, at.t)));
}

node *op_to(graph *G, node *x, dtype t) {
  if (x && x->dtype == t && !(x->flags & DROPPED)) return node_hold(x);
  return op_one(G, OP_to, 1, &x, 1, &(attr){t});
}

bool forward_identity(call *c) { return give(c, node_as_array(c->G, c->in[0])); }

bool forward_rand(call *c) {
  ATTRS(c, ints dims; int64_t t);
  shape s = dims_of(&at.dims);
  dtype t = given(at.t) ? (dtype)at.t : c->G->dtype;
  if (!is_float(t))
    return fail(&c->G->c, "rand: dtype must be float64 or float32, not %s", dtype_name[t]);
  return give(c, arr_random(&c->G->c, t, &s));
}

node *like(graph *G, node *g, double v) {
  if (!g) return NULL;
  if (!g->a) return node_scalar(G, g->dtype, (imm){.f = v});
  return node_array(G, arr_const(&G->c, g->dtype, &g->a->s, (imm){.f = v}));
}

/* ---- called from C ---------------------------------------------------------------------------------------- */

static attr *put_ints(attr *at, int n, const int64_t *d, int64_t more) {
  memset(at, 0, (1 + MAXDIM) * sizeof *at);
  at[0].i = n;
  for (int i = 0; i < n; i++) at[i + 1].i = d[i] + more;
  return at + 1 + MAXDIM;
}

static node *by_shape(graph *G, int op, node *x, const shape *s) {
  attr at[1 + MAXDIM];
  put_ints(at, s->n, s->d, 0);
  return op_one(G, op, 1, &x, 1 + MAXDIM, at);
}

node *op_identity(graph *G, node *x) { return op_one(G, OP_identity, 1, &x, 0, NULL); }
node *op_reshape(graph *G, node *x, const shape *s) { return by_shape(G, OP_reshape, x, s); }
node *op_broadcast_to(graph *G, node *x, const shape *s) {
  return by_shape(G, OP_broadcast_to, x, s);
}
node *op_sum_to(graph *G, node *x, const shape *s) { return by_shape(G, OP_sum_to, x, s); }

node *op_permute(graph *G, node *x, const int *perm) {
  int64_t axes[MAXDIM];
  attr at[1 + MAXDIM];
  shape s = {0};
  if (x) node_shape(x, &s);
  for (int i = 0; i < s.n; i++) axes[i] = perm[i];
  put_ints(at, s.n, axes, 1);
  return op_one(G, OP_permute, 1, &x, 1 + MAXDIM, at);
}

node *op_part(graph *G, int op, node *x, const shape *s, const int64_t *first,
              const int64_t *step) {
  attr at[3 * (1 + MAXDIM)], *next = put_ints(at, s->n, s->d, 0);
  next = put_ints(next, s->n, first, 1);
  put_ints(next, s->n, step, 0);
  return op_one(G, op, 1, &x, 3 * (1 + MAXDIM), at);
}

node *op_slice(graph *G, node *x, const shape *s, const int64_t *first, const int64_t *step) {
  return op_part(G, OP_slice, x, s, first, step);
}

node *op_index_select(graph *G, node *x, int axis, node *idx) {
  return op_one(G, OP_index_select, 2, (node *[]){x, idx}, 1, &(attr){axis});
}

node *op_gather(graph *G, node *x, int axis, node *idx) {
  return op_one(G, OP_gather, 2, (node *[]){x, idx}, 1, &(attr){axis});
}

node *op_matmul(graph *G, node *x, node *y) {
  return op_one(G, OP_matmul, 2, (node *[]){x, y}, 0, NULL);
}

/* ---- host Functions ----------------------------------------------------------------------------------------- */

node *function_new(graph *G, int n, node *const *in, const char *name) {
  node *f = node_new(G, F64);
  extra *x = f ? node_extra(G, f) : NULL;
  char *copy = x ? mg_alloc(&G->c, strlen(name) + 1) : NULL;
  if (!copy) return node_drop(G, f), NULL;
  x->name = strcpy(copy, name);
  if (!record(G, f, OP_FUNCTION, n, in, 0)) return NULL;
  f->x->nin = n;
  return f;
}

bool outputs_new(graph *G, node *f, int nout) {
  output *out = mg_alloc(&G->c, nout * sizeof *out);
  if (!out) return false;
  memset(out, 0, nout * sizeof *out);
  f->x->out = out;
  f->x->nout = nout;
  return true;
}

void output_set(node *f, int k, node *y) {
  output *o = &f->x->out[k];
  node_shape(y, &o->s);
  o->dtype = y->dtype;
  if (!is_float(y->dtype)) return; /* has no gradient */
  y->in[0] = node_ref(f);
  y->kind = FLOWS;
  y->op = OP_OUTPUT;
  y->flags |= TRACKED;
  y->generation = f->generation;
  o->n = y;
}

node *function_output(graph *G, node *f, int index, int nout, node *value) {
  if (!f->x->nout && !outputs_new(G, f, nout)) return NULL;
  node *y = node_detach(G, value);
  if (y) output_set(f, index, y);
  return y;
}
