/* forward.c -- ops that are not elementwise: what a row's body is given, what becomes of its results,
** and the bodies of the ops that shape, index, sort and multiply. Their gradients stand in rules.c.
**
** A body has its arguments checked one by one, by the signature; what depends on several of them it
** checks itself. Axes are 0-based here, indices 1-based.
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

bool give(call *c, array *a) { return (c->out[c->nout++] = node_array(c->G, a)); }

bool give_node(call *c, node *n) {
  c->composed = true;
  return (c->out[c->nout++] = n);
}

bool keep_array(call *c, array *a) {
  if (a) c->kept[c->nkept++] = a;
  return a;
}

static bool give_if(call *c, bool ok, array *a) {
  if (ok) return give(c, a);
  arr_unref(a);
  return false;
}

static shape shape_of(const ints *d) {
  shape s = {.n = (int)d->n};
  memcpy(s.d, d->d, sizeof s.d);
  return s;
}

static bool usable(graph *G, int n, node *const *in) {
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
static bool record_call(call *c) {
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

node *op_rand(graph *G, dtype t, const shape *s) { return node_array(G, arr_random(&G->c, t, s)); }

bool forward_rand(call *c) {
  ATTRS(c, ints dims; int64_t t);
  shape s = shape_of(&at.dims);
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
  if (!x || !usable(G, 1, &x)) return NULL;
  call c = {.G = G, .op = op, .n = 1, .in = &x, .nat = 1};
  if (!promote(&c, op_table[op].rule, 1)) return NULL;
  shape s;
  node_shape(c.in[0], &s);
  axes &= (1u << s.n) - 1;
  c.at = &(attr){axes};
  array *a = node_as_array(G, c.in[0]);
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
  bool ok = give(&c, a) && record_call(&c);
  if (!ok) node_drop(G, c.out[0]);
  if (ok && (op == OP_max || op == OP_min) && x->dtype != c.out[0]->dtype) { /* bool, uint8 */
    node *wide = c.out[0];
    ok = (c.out[0] = op_to(G, wide, x->dtype));
    node_drop(G, wide);
  }
  node_drop(G, c.cast[0]);
  return ok ? c.out[0] : NULL;
}

bool forward_sum_to(call *c) {
  ATTRS(c, ints dims);
  graph *G = c->G;
  node *x = c->in[0];
  shape s = shape_of(&at.dims), t, both;
  char a[128], b[128];
  node_shape(x, &t);
  if (!shape_broadcast(&s, &t, &both) || !shape_eq(&both, &t))
    return fail(&G->c, "sum_to: %s does not broadcast to %s", shape_text(&s, b), shape_text(&t, a));
  if (shape_eq(&s, &t)) return give_node(c, node_hold(x));
  int lead = t.n - s.n;
  uint32_t axes = 0;
  bool leading_only = true;
  for (int i = 0; i < t.n; i++) {
    if (i >= lead && s.d[i - lead] == t.d[i]) continue;
    axes |= 1u << i;
    if (i >= lead) leading_only = false;
  }
  node *r = op_reduce(G, OP_sum, x, axes, !leading_only);
  if (leading_only || lead == 0) return give_node(c, r);
  node *q = op_reshape(G, r, &s);
  node_drop(G, r);
  return give_node(c, q);
}

/* ---- shapes ------------------------------------------------------------------------------------------- */

/* One dim may be -1: what is left over */
bool forward_reshape(call *c) {
  ATTRS(c, ints dims);
  shape s, to = shape_of(&at.dims);
  node_shape(c->in[0], &s);
  int64_t size = shape_size(&s), known = 1;
  int open = -1;
  bool fits = true;
  char a[128], b[128];
  for (int i = 0; i < to.n && fits; i++) {
    if (to.d[i] == -1 && open < 0) open = i;
    else fits = to.d[i] >= 0 && !__builtin_mul_overflow(known, to.d[i], &known);
  }
  if (open >= 0) fits = fits && known > 0 && size % known == 0;
  if (!fits)
    return fail(&c->G->c, "reshape: %s does not fit %s", shape_text(&to, b), shape_text(&s, a));
  if (open >= 0) to.d[open] = size / known;
  else if (known != size)
    return fail(&c->G->c, "reshape: %s has %lld elements, %s has %lld", shape_text(&s, a),
                (long long)size, shape_text(&to, b), (long long)known);
  c->nat = 0;
  array *x = arg(c, 0);
  return x && give(c, arr_reshape(&c->G->c, x, &to));
}

/* permute, and transpose: reversed where no axes are given */
bool forward_permute(call *c) {
  ATTRS(c, ints axes);
  const char *name = op_table[c->op].name;
  shape s;
  char text[128];
  int perm[MAXDIM];
  uint32_t seen = 0;
  node_shape(c->in[0], &s);
  if (!given(at.axes.n)) {
    at.axes.n = s.n;
    for (int i = 0; i < s.n; i++) at.axes.d[i] = s.n - i;
  }
  if (at.axes.n != s.n)
    return fail(&c->G->c, "%s: %d axes given for shape %s", name, (int)at.axes.n,
                shape_text(&s, text));
  for (int i = 0; i < s.n; i++) {
    int64_t axis = at.axes.d[i], k = axis < 0 ? axis + s.n : axis - 1;
    if (k < 0 || k >= s.n)
      return fail(&c->G->c, "%s: axis %lld is out of range for shape %s", name, (long long)axis,
                  shape_text(&s, text));
    if (seen >> k & 1)
      return fail(&c->G->c, "%s: axis %lld is given twice", name, (long long)k + 1);
    seen |= 1u << k;
    c->own[i].i = perm[i] = (int)k;
  }
  c->at = c->own;
  c->nat = s.n;
  array *x = arg(c, 0);
  return x && give(c, arr_permute(&c->G->c, x, perm));
}

bool forward_transpose(call *c) { return forward_permute(c); }

bool forward_broadcast_to(call *c) {
  ATTRS(c, ints dims);
  shape s, to = shape_of(&at.dims), both;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  if (!shape_broadcast(&s, &to, &both) || !shape_eq(&both, &to))
    return fail(&c->G->c, "broadcast_to: %s does not broadcast to %s", shape_text(&s, a),
                shape_text(&to, b));
  c->nat = 0;
  array *x = arg(c, 0);
  return x && give(c, arr_broadcast(&c->G->c, x, &to));
}

/* dims, first and step of slice and slice_grad. Of these the node keeps first, from 0 on, and step; a
** step that is never taken is made 1: any would do, but for what it is multiplied with. */
static bool read_part(call *c, shape *dims, int64_t **first, int64_t **step) {
  ATTRS(c, ints dims, first, step);
  const char *name = op_table[c->op].name;
  shape s;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  *dims = shape_of(&at.dims);
  if (dims->n != s.n || at.first.n != s.n || at.step.n != s.n)
    return fail(&c->G->c, "%s: %d dims, %d firsts and %d steps for shape %s", name, dims->n,
                (int)at.first.n, (int)at.step.n, shape_text(&s, a));
  bool grows = c->op == OP_slice_grad;
  const shape *large = grows ? dims : &s, *small = grows ? &s : dims;
  c->at = c->own;
  c->nat = 2 * s.n;
  *first = &c->own[0].i;
  *step = &c->own[s.n].i;
  for (int i = 0; i < s.n; i++) {
    int64_t n = small->d[i], from = n > 0 ? at.first.d[i] : 1, by = n > 1 ? at.step.d[i] : 1, last;
    bool fits = n >= 0 && by != 0 && from >= 1 && !__builtin_mul_overflow(n - 1, by, &last) &&
                !__builtin_add_overflow(last, from, &last);
    if (!fits || (n > 0 && (from > large->d[i] || last < 1 || last > large->d[i])))
      return fail(&c->G->c, "%s: shape %s does not fit axis %d of %s", name, shape_text(small, a),
                  i + 1, shape_text(large, b));
    (*first)[i] = from - 1;
    (*step)[i] = by;
  }
  return true;
}

bool forward_slice(call *c) {
  shape dims;
  int64_t *first, *step;
  array *x = arg(c, 0);
  return x && read_part(c, &dims, &first, &step) &&
         give(c, arr_slice(&c->G->c, x, &dims, first, step));
}

bool forward_slice_grad(call *c) {
  WORK(&c->G->c, OP_slice_grad);
  shape dims;
  int64_t *first, *step;
  array *x = arg(c, 0), *r = NULL;
  if (!x || !read_part(c, &dims, &first, &step)) return false;
  r = arr_zeros(&c->G->c, x->dtype, &dims);
  return give_if(c, r && arr_set_slice(&c->G->c, r, first, step, x), r);
}

/* Of one dtype: the widest float, or one they all have, or int64 */
static dtype common_dtype(node *const *in, int n) {
  dtype t = in[0]->dtype;
  for (int i = 1; i < n; i++) {
    dtype u = in[i]->dtype;
    if (u == t) continue;
    if (is_float(t) && is_float(u)) t = F64;
    else if (!is_float(t)) t = is_float(u) ? u : I64;
  }
  return t;
}

/* There can be a million of them. Those of another dtype are cast first, by an op of their own. */
bool forward_cat(call *c) {
  ATTRS(c, int64_t axis);
  graph *G = c->G;
  shape s, u;
  char text[128], other[128];
  if (c->n == 0) return fail(&G->c, "cat: of no Variables");
  node_shape(c->in[0], &s);
  if (s.n == 0) return fail(&G->c, "cat: 0-d Variables have no axis; mg.stack makes one");
  dtype t = common_dtype(c->in, c->n);
  int casts = 0;
  for (int i = 0; i < c->n; i++) {
    node_shape(c->in[i], &u);
    bool fits = u.n == s.n;
    for (int k = 0; k < s.n && fits; k++) fits = k == at.axis || u.d[k] == s.d[k];
    if (!fits)
      return fail(&G->c, "cat: input %d has shape %s, input 1 %s; only axis %d may differ", i + 1,
                  shape_text(&u, text), shape_text(&s, other), (int)at.axis + 1);
    casts += c->in[i]->dtype != t;
  }
  array **a = casts ? NULL : mg_alloc(&G->c, c->n * sizeof *a);
  node **in = casts ? mg_alloc(&G->c, c->n * sizeof *in) : NULL;
  int made = 0;
  bool ok = false;
  if (in) {
    while (made < c->n && (in[made] = op_to(G, c->in[made], t))) made++;
    if (made == c->n) ok = give_node(c, op_one(G, OP_cat, made, in, c->nat, c->at));
    while (made) node_drop(G, in[--made]);
  } else if (a) {
    while (made < c->n && (a[made] = node_as_array(G, c->in[made]))) made++;
    if (made == c->n) ok = give(c, arr_cat(&G->c, made, a, (int)at.axis));
    while (made) arr_unref(a[--made]);
  }
  mg_free(a);
  mg_free(in);
  return ok;
}

/* ---- indexing ------------------------------------------------------------------------------------------ */

/* A 0-d input has one element, which may be called axis 1: the op on it as 1-d, and back */
static bool as_line(call *c) {
  graph *G = c->G;
  node *in[MAXIN], *out[MAXOUT];
  int made = 0, nout = 0;
  while (made < c->n && (in[made] = op_reshape(G, c->in[made], &(shape){1, {1}}))) made++;
  if (made == c->n) nout = op_apply(G, c->op, made, in, c->nat, c->at, out);
  while (made) node_drop(G, in[--made]);
  bool ok = nout > 0;
  for (int k = 0; k < nout; k++) {
    ok = give_node(c, op_reshape(G, out[k], &(shape){0})) && ok;
    node_drop(G, out[k]);
  }
  return ok;
}

static bool all_points(const call *c) {
  shape s;
  for (int i = 0; i < c->n; i++)
    if (node_shape(c->in[i], &s), s.n > 0) return false;
  return true;
}

/* For (x, axis, index [, src]). A line is a 1-d index along the axis; else there is an index for every
** element, of x's rank, no larger than x beside the axis. src has the shape that reading x so gives. */
static bool check_index(call *c, int axis, bool line) {
  graph *G = c->G;
  const char *name = op_table[c->op].name;
  shape s, k, src;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  node_shape(c->in[1], &k);
  if (axis >= s.n)
    return fail(&G->c, "%s: axis %d is out of range for shape %s", name, axis + 1,
                shape_text(&s, a));
  if (c->in[1]->dtype != I64)
    return fail(&G->c, "%s: the index is %s, expected int64", name, dtype_name[c->in[1]->dtype]);
  bool fits = k.n == (line ? 1 : s.n);
  for (int i = 0; i < s.n && !line && fits; i++) fits = i == axis || k.d[i] <= s.d[i];
  if (!fits)
    return fail(&G->c, "%s: an index of shape %s does not fit axis %d of shape %s", name,
                shape_text(&k, a), axis + 1, shape_text(&s, b));
  if (c->n > 2) {
    shape want = line ? s : k;
    if (line) want.d[axis] = k.d[0];
    node_shape(c->in[2], &src);
    if (!shape_eq(&src, &want))
      return fail(&G->c, "%s: src has shape %s, expected %s", name, shape_text(&src, a),
                  shape_text(&want, b));
  }
  array *idx = arg(c, 1);
  int64_t n = s.d[axis], bad = idx ? arr_check_index(&G->c, idx, n) : -1;
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

static bool read_at(call *c, bool line, array *read(ctx *, array *, int, array *)) {
  ATTRS(c, int64_t axis);
  if (!line && all_points(c)) return as_line(c);
  if (!check_index(c, (int)at.axis, line)) return false;
  array *x = arg(c, 0);
  return x && give(c, read(&c->G->c, x, (int)at.axis, arg(c, 1)));
}

bool forward_index_select(call *c) { return read_at(c, true, arr_take); }
bool forward_gather(call *c) { return read_at(c, false, arr_gather); }

/* x with src at the index */
static bool put_at(call *c, bool line, bool put(ctx *, array *, int, array *, array *)) {
  ATTRS(c, int64_t axis);
  graph *G = c->G;
  WORK(&G->c, c->op);
  if (!line && all_points(c)) return as_line(c);
  if (!check_index(c, (int)at.axis, line)) return false;
  if (c->in[2]->dtype != c->in[0]->dtype) { /* src as x */
    node *src = op_to(G, c->in[2], c->in[0]->dtype);
    node *in[] = {c->in[0], c->in[1], src};
    bool ok = give_node(c, op_one(G, c->op, 3, in, c->nat, c->at));
    return node_drop(G, src), ok;
  }
  array *x = arg(c, 0), *src = arg(c, 2), *r = x && src ? arr_copy(&G->c, x) : NULL;
  return give_if(c, r && put(&G->c, r, (int)at.axis, arg(c, 1), src), r);
}

bool forward_index_add(call *c) { return put_at(c, true, arr_add_take); }
bool forward_scatter_add(call *c) { return put_at(c, false, arr_add_gather); }

bool forward_scatter(call *c) {
  graph *G = c->G;
  shape k, s;
  node_shape(c->in[1], &k);
  node_shape(c->in[2], &s);
  if (s.n > 0 || k.n == 0) return put_at(c, false, arr_set_gather);
  node *src = op_broadcast_to(G, c->in[2], &k);
  node *in[] = {c->in[0], c->in[1], src};
  bool ok = give_node(c, op_one(G, OP_scatter, 3, in, c->nat, c->at));
  return node_drop(G, src), ok;
}

bool forward_nonzero(call *c) {
  graph *G = c->G;
  WORK(&G->c, OP_nonzero);
  array *x = arg(c, 0), *mask = x ? arr_cast(&G->c, x, BOOL) : NULL;
  array *r = mask ? arr_places(&G->c, mask) : NULL;
  arr_unref(mask);
  return give(c, r);
}

bool forward_searchsorted(call *c) {
  ATTRS(c, int64_t right);
  shape s, v;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  node_shape(c->in[1], &v);
  bool fits = s.n == 1 || (s.n > 1 && s.n == v.n);
  for (int i = 0; i < s.n - 1 && fits; i++) fits = s.d[i] == v.d[i];
  if (!fits)
    return fail(&c->G->c,
                "searchsorted: sorted %s does not fit v %s: 1-d, or but for the last axis as v",
                shape_text(&s, a), shape_text(&v, b));
  if (!promote(c, ARITH, 2)) return false;
  array *x = arg(c, 0), *y = arg(c, 1);
  return x && y && give(c, arr_search(&c->G->c, x, y, at.right));
}

/* ---- along an axis --------------------------------------------------------------------------------------- */

bool forward_cumsum(call *c) {
  ATTRS(c, int64_t axis);
  if (all_points(c)) return as_line(c);
  array *x = promote(c, ARITH, 1) ? arg(c, 0) : NULL;
  return x && give(c, arr_cumsum(&c->G->c, x, (int)at.axis));
}

static bool scan_by(call *c, int rule) {
  ATTRS(c, int64_t axis);
  if (all_points(c)) return as_line(c);
  array *x = promote(c, rule, 1) ? arg(c, 0) : NULL;
  return x && give(c, arr_scan(&c->G->c, c->op, x, NULL, (int)at.axis, false, NULL));
}

bool forward_cumprod(call *c) { return scan_by(c, ARITH); }
bool forward_logcumsumexp(call *c) { return scan_by(c, FLOAT); }

static bool choose(call *c) { /* values, and places, which the gradient goes by */
  ATTRS(c, int64_t axis);
  if (all_points(c)) return as_line(c);
  array *x = arg(c, 0), *places;
  array *r = x ? arr_scan(&c->G->c, c->op, x, NULL, (int)at.axis, false, &places) : NULL;
  if (!r) return false;
  keep_array(c, arr_ref(places));
  bool ok = give(c, r);
  return give(c, places) && ok;
}

bool forward_cummax(call *c) { return choose(c); }
bool forward_cummin(call *c) { return choose(c); }

/* Between i - 1 and i lies a[i] whichever way one goes, so that the transpose is the other way. */
bool forward_linear_scan(call *c) {
  ATTRS(c, int64_t axis, reverse);
  shape s, t;
  char text[128], other[128];
  node_shape(c->in[0], &s);
  node_shape(c->in[1], &t);
  if (!shape_eq(&s, &t))
    return fail(&c->G->c, "linear_scan: shapes %s and %s differ", shape_text(&s, text),
                shape_text(&t, other));
  if (all_points(c)) return as_line(c);
  if (!promote(c, FLOAT, 2)) return false;
  array *x = arg(c, 0), *a = arg(c, 1);
  return x && a &&
         give(c, arr_scan(&c->G->c, OP_linear_scan, x, a, (int)at.axis, at.reverse, NULL));
}

bool forward_argsort(call *c) {
  ATTRS(c, int64_t axis, descending);
  if (all_points(c)) return as_line(c);
  array *x = arg(c, 0);
  return x && give(c, arr_argsort(&c->G->c, x, (int)at.axis, at.descending));
}

node *op_nonzero(graph *G, node *mask) {
  if (!usable(G, 1, &mask)) return NULL;
  array *a = node_as_array(G, mask), *b = a ? arr_nonzero(&G->c, a) : NULL;
  arr_unref(a);
  return node_array(G, b);
}

/* ---- products ------------------------------------------------------------------------------------------- */

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
  shape a, b;
  node_shape(c->in[0], &a);
  node_shape(c->in[1], &b);
  char ta[128], tb[128];
  shape_text(&a, ta);
  shape_text(&b, tb);
  if (a.n == 0 || b.n == 0)
    return fail(&G->c, "matmul: %s and %s: a 0-d Variable has no rows", ta, tb);
  int64_t k = a.d[a.n - 1], l = b.d[b.n == 1 ? 0 : b.n - 2];
  if (k != l)
    return fail(&G->c, "matmul: %s and %s do not align: %lld and %lld differ", ta, tb, (long long)k,
                (long long)l);
  shape ba = {.n = a.n > 2 ? a.n - 2 : 0}, bb = {.n = b.n > 2 ? b.n - 2 : 0}, batch;
  memcpy(ba.d, a.d, sizeof ba.d);
  memcpy(bb.d, b.d, sizeof bb.d);
  if (!shape_broadcast(&ba, &bb, &batch))
    return fail(&G->c, "matmul: %s and %s: the leading axes do not broadcast", ta, tb);
  if (!promote(c, ARITH, 2)) return false;
  if (a.n > 1 && a.n == b.n && shape_eq(&ba, &bb)) {
    array *x = arg(c, 0), *y = arg(c, 1);
    return x && y && give(c, arr_matmul(&G->c, x, y));
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
  node *wide = op_matmul(G, p, q), *r = op_reshape(G, wide, &want);
  node_drop(G, p);
  node_drop(G, q);
  node_drop(G, wide);
  return give_node(c, r);
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
