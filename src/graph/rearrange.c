/* rearrange.c -- the bodies of ops that give elements other places by arithmetic alone: reshape, permute,
** broadcast, slices, cat. All but cat and copies that a reshape needs are views.
*/
#include <string.h>

#include "graph/internal.h"

/* One dim may be -1: what is left over */
bool forward_reshape(call *c) {
  ATTRS(c, ints dims);
  shape s, to = dims_of(&at.dims);
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
    return fail(&c->G->c, "%s: %d axes given for shape %s%s", name, (int)at.axes.n,
                shape_text(&s, text), at.axes.n == 2 ? "; swapaxes exchanges two" : "");
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

/* Two axes are elsewhere those to be exchanged: here they would be left as they are. */
bool forward_transpose(call *c) {
  ATTRS(c, ints axes);
  shape s;
  char text[128];
  node_shape(c->in[0], &s);
  int64_t first = given(at.axes.n) && at.axes.n == 2 && s.n == 2 ? at.axes.d[0] : 0;
  if ((first == 1 || first == -2) && (at.axes.d[1] == 2 || at.axes.d[1] == -1))
    return fail(&c->G->c,
                "transpose: axes %lld, %lld in this order leave shape %s as it is; swapaxes "
                "exchanges two",
                (long long)first, (long long)at.axes.d[1], shape_text(&s, text));
  return forward_permute(c);
}

bool forward_broadcast_to(call *c) {
  ATTRS(c, ints dims);
  shape s, to = dims_of(&at.dims), both;
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
  *dims = dims_of(&at.dims);
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
