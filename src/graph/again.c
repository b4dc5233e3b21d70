/* again.c -- values that a gradient computes again instead of keeping them.
**
** A product reads x W of what an activation or a normalization gave, and its gradient reads the same value.
** Where the Function that gave it keeps all that it takes, or that is small, the product keeps the expression
** alone, and so does the Variable: the value goes, and is computed once more, to the same bits, when backward
** comes, or somebody looks. What is kept, what stands in its place, and what is stored of other expressions
** (is_stored in array/fuse.c) is all that decides what a step of training holds.
**
** A value and the expression kept for it have one number (array.again), by which they are known to be the same.
** The expression has the shape that it had before a reshape.
*/
#include <string.h>

#include "graph/internal.h"

/* Elements; a part of the value's bytes that is worth no thought */
enum { LARGE = 1 << 15, LITTLE = 16 };

/* Does n's Function compute its value element by element, from what it keeps? */
static bool is_elementwise(const node *n) {
  if (n->op == OP_NONE || n->op >= NOP || n->flags & (RELEASED | SAVES_OUT)) return false;
  return op_table[n->op].kind == 'e' || n->op == OP_standardize;
}

static node *expression_of(graph *G, node *f, size_t bytes, int deep);

/* Operand i of f, if it costs nothing to keep: a new handle; NULL: it would */
static node *operand(graph *G, node *f, int i, size_t bytes, int deep) {
  node *x = *in_at(f, i);
  const saved *sv = sv_at(f, i);
  int kind = kind_of(f, i);
  if (kind == SAVED_NUMBER) {
    node *k = node_scalar(G, f->dtype, sv->k);
    if (k) k->flags |= NUMBER;
    return k;
  }
  if (kind == SAVED_SCALAR) return node_scalar(G, x->dtype, sv->k);
  array *a = kind == SAVED_ARRAY ? sv->a : x && !(x->flags & DROPPED) ? x->a : NULL;
  bool little = a && (a->state == CONST || (a->state == READY && a->buf->bytes * LITTLE <= bytes));
  if (a && !a->again && (little || a->saved)) return node_array(G, arr_ref(a));
  return x && deep ? expression_of(G, x, bytes, deep - 1) : NULL;
}

/* What f gave, made again of what does not hold anything that is not held anyway: a new handle; NULL: it cannot be */
static node *expression_of(graph *G, node *f, size_t bytes, int deep) {
  enum { MOST = 8 };
  node *in[MOST] = {NULL}, *out[MAXOUT] = {NULL};
  int nin = node_nin(f), nout = 0;
  bool wide = f->op == OP_broadcast_to, ok = (wide || is_elementwise(f)) && nin <= MOST;
  for (int i = 0; i < nin && ok; i++)
    if (node_has_input(f, i)) ok = (in[i] = operand(G, f, i, bytes, deep));
  shape s;
  node_shape(f, &s);
  if (ok && wide) nout = (out[0] = op_broadcast_to(G, in[0], &s)) != NULL;
  else if (ok && op_table[f->op].kind == 'e')
    nout = (out[0] = apply(G, (int)f->op, nin, in)) != NULL;
  else if (ok) nout = op_apply(G, (int)f->op, nin, in, f->x->nat, f->x->at, out);
  for (int i = 0; i < nin && i < MOST; i++) node_drop(G, in[i]);
  return nout ? out[0] : NULL;
}

/* Its array, pending and like a; NULL: there is none */
static array *pending_like(graph *G, node *n, const array *a) {
  array *e = n ? n->a : NULL;
  bool fits = e && e->state == PENDING && e->dtype == a->dtype && shape_eq(&e->s, &a->s);
  e = fits ? arr_ref(e) : NULL;
  node_drop(G, n);
  return e;
}

void again_instead(graph *G, node *f, int i) {
  node *x = *in_at(f, i), *n = x;
  if (!x || kind_of(f, i) != SAVED_ARRAY || node_noted(G)) return;
  array *a = sv_at(f, i)->a;
  if (a->size < LARGE || a->state != READY || a->saved > 1) return;
  while (n->op == OP_reshape && n->in[0]) n = n->in[0];
  if (!is_elementwise(n) || !n->a || n->a->size != a->size || (n->a != a && n->a->saved)) return;
  enum { DEEP = 3 };
  int err = G->c.err; /* without memory the value is kept, and nobody is told */
  bool was = G->backprop;
  G->backprop = false;
  size_t bytes = a->size * dtype_size[a->dtype];
  array *e = pending_like(G, expression_of(G, n, bytes, DEEP), n->a);
  G->backprop = was;
  G->c.err = err;
  if (!e) return;
  if (!a->again) a->again = ++G->again;
  e->again = a->again;
  e->saved++;
  sv_at(f, i)->a = e;
  a->saved--;
  arr_unref(a);
  arr_unref(n->a); /* who looks at it again has it computed again */
  n->a = arr_ref(e);
}

bool again_same(const array *a, const array *kept) {
  return a == kept || (a && a->again && a->again == kept->again);
}

array *again_value(graph *G, array *kept, const shape *s) {
  return shape_eq(&kept->s, s) ? arr_ref(kept) : arr_reshape(&G->c, kept, s);
}
