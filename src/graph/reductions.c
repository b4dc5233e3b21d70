/* reductions.c -- reductions along axes, and sum_to, which undoes a broadcast.
**
** A row of the table that reduces has no body: op_reduce is that of all of them. Runs of adjacent axes are
** reduced from the last on; argmax along axes that lie apart has them merged first.
*/
#include <string.h>

#include "graph/internal.h"

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
  shape s = dims_of(&at.dims), t, both;
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
