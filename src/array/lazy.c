/* lazy.c -- elementwise ops and reductions as they are called: lazy, or at once where small.
**
** An op on a large array makes a PENDING array and computes nothing; see fuse.c. Expressions are kept
** small: not too many nodes, not too many bytes that live for them alone. Ops on one tile or less run
** when called, through the same kernels, and give the same bits. What is made of 0-d reductions that are
** pending stays so too (a tail): the sum of two losses is still one pass over what they reduce.
*/
#include <string.h>

#include "array/internal.h"

enum { MAXRECORDED = MAXVALUES }; /* nodes of an expression while a tape records */
enum { MAXBYTES = 6 };            /* bytes an expression may keep alive, in units of its result */

/* ---- small arrays: at once ------------------------------------------------------------------------ */

/* n <= SMALL elements of a READY or CONST array, in place or in buf */
static const void *operand(const array *a, int64_t n, tile *buf) {
  if (a->state == CONST) return imm_fill(a->dtype, buf, a->k, n), buf;
  return cpu_gather_small(&a->v, n, buf->bytes);
}

/* Operands are READY or CONST; of f */
static bool map_into(ctx *c, int op, map_fn *f, int nin, array *const *in, void *r, int64_t n) {
  tile buf[3];
  launch l = {.kind = KERNEL, .op = op};
  l.map = f;
  l.r = r;
  l.n = n;
  for (int i = 0; i < nin; i++) {
    if (!arr_readable(c, in[i])) return false;
    l.x[i] = operand(in[i], n, &buf[i]);
  }
  return launch_work(c, &l);
}

static array *map_now(ctx *c, int op, int nin, array *const *in, const shape *s, dtype t,
                      dtype rt) {
  WORK(c, op);
  array *r = arr_new(c, rt, s);
  if (!r || !r->size || map_into(c, op, cpu_kernel(op, t, rt), nin, in, r->p, r->size)) return r;
  return arr_unref(r), NULL;
}

/* ---- making pending arrays ------------------------------------------------------------------------------ */

typedef struct {
  int nodes;
  size_t bytes, largest;
} weight;

static bool weigh(void *arg, array *a) {
  weight *w = arg;
  if (a->state == PENDING) w->nodes++;
  else if (a->state == READY) {
    size_t dense = a->size * dtype_size[a->dtype];
    size_t held = a->buf->bytes < dense ? a->buf->bytes : dense;
    w->bytes += held;
    if (held > w->largest) w->largest = held;
  }
  return true;
}

static array *pend(ctx *c, int op, dtype t, const shape *s, int nin, array *const *in) {
  array *a = arr_blank(c, t, s, PENDING);
  if (!a) return NULL;
  a->op = op;
  int nodes = 1;
  for (int i = 0; i < nin; i++) {
    a->in[a->nin++] = arr_ref(in[i]);
    if (in[i]->state != PENDING) continue;
    nodes += in[i]->nodes;
    if (in[i]->row) a->row = in[i]->row, a->per_row = in[i]->per_row;
  }
  a->nodes = nodes > UINT16_MAX ? UINT16_MAX : nodes;
  return a;
}

/* While a tape records no bytes are kept, and one long program is better than two. As long as few arrays were
** made pending at all there is nothing to count. */
static bool bound_recorded(ctx *c, array *a) {
  enum { OFTEN = 64 };
  int made = c->arrays->recorded++;
  if (made < MAXRECORDED || made % OFTEN) return true;
  weight w = {0, 0, 0};
  arr_visit(a, arr_mark(c), weigh, &w);
  return w.nodes < MAXRECORDED - OFTEN || arr_ready(c, a);
}

/* Keep expressions small: not too many nodes, not too many bytes that live for them alone: for a tail, beside
** the largest of what it reduces. */
static bool bound(ctx *c, array *a) {
  int before = 0, often = a->tail ? 4 : 16; /* so many nodes more than when it was last looked at */
  for (int i = 0; i < a->nin; i++)
    if (a->in[i]->state == PENDING && a->in[i]->nodes > before) before = a->in[i]->nodes;
  if (a->nodes < MAXNODES && a->size < HEAVY && a->nodes / often == before / often) return true;
  if (c->arrays->tape && a->size < HEAVY) return bound_recorded(c, a);
  weight w = {0, 0, 0};
  arr_visit(a, arr_mark(c), weigh, &w);
  a->nodes = w.nodes;
  size_t bytes = (size_t)a->size * (a->per_row ? a->row : 1) * dtype_size[a->dtype];
  if (a->tail) bytes = w.largest;
  if (w.nodes < MAXNODES && w.bytes <= bytes * MAXBYTES) return true;
  return arr_ready(c, a);
}

static array *bounded(ctx *c, array *a) {
  if (a && !bound(c, a)) return arr_unref(a), NULL;
  return a;
}

/* What is fused folds rows of one length, and stands alike to them: operands that do not fit are
** computed first. */
static bool agree(ctx *c, int nin, array *const *in) {
  const array *first = NULL;
  for (int i = 0; i < nin; i++) {
    array *x = in[i];
    bool apart = first && x->row && (x->row != first->row || x->per_row != first->per_row);
    if (ends(x) || x->tail || apart) {
      if (!arr_ready(c, x)) return false;
    } else if (x->row) first = x;
  }
  return true;
}

/* Some values are there, and nothing is to be computed first */
static bool are_there(int nin, array *const *in) {
  bool some = false;
  for (int i = 0; i < nin; i++) {
    if (in[i]->state == PENDING) return false;
    some |= in[i]->state == READY;
  }
  return some;
}

/* Numbers spread along rows, all of them: an op on these is one on a number a row. */
static bool all_spread(int nin, array *const *in) {
  const array *first = NULL;
  for (int i = 0; i < nin; i++) {
    if (in[i]->state == CONST) continue;
    if (in[i]->state != PENDING || in[i]->op != OP_broadcast_to) return false;
    if (first && !shape_eq(&first->s, &in[i]->in[0]->s)) return false;
    first = in[i]->in[0];
  }
  return first;
}

static array *map_rows(ctx *c, int op, int nin, array *const *in, const shape *s) {
  array *x[3], *r;
  const shape *rows = s; /* all_spread: one is not CONST */
  for (int i = 0; i < nin; i++) {
    x[i] = in[i]->state == CONST ? in[i] : in[i]->in[0];
    if (x[i] != in[i]) rows = &x[i]->s;
  }
  if (!(r = arr_map(c, op, nin, x, rows))) return NULL;
  array *wide = arr_broadcast(c, r, s);
  arr_unref(r);
  return wide;
}

/* Do 0-d operands make a tail: is one pending? While a tape records, where all is pending, a reduction or a tail */
static bool hangs(ctx *c, int nin, array *const *in) {
  for (int i = 0; i < nin; i++)
    if (in[i]->state == PENDING && (!c->arrays->tape || in[i]->tail || in[i]->row || ends(in[i])))
      return true;
  return false;
}

/* Of 0-d operands, one at least pending */
static array *map_tail(ctx *c, int op, int nin, array *const *in, dtype rt) {
  array *r = pend(c, op, rt, &(shape){0}, nin, in);
  if (r) r->tail = true, r->row = 0, r->per_row = false; /* no part of what folds rows */
  return bounded(c, r);
}

array *arr_map(ctx *c, int op, int nin, array *const *in, const shape *s) {
  dtype t = operand_dtype(op, in), rt = op_result(op, t);
  bool constant = true;
  if (!c->arrays->tape && are_there(nin, in) && shape_size(s) <= SMALL)
    return map_now(c, op, nin, in, s, t, rt);
  if (s->n == 0 && hangs(c, nin, in)) return map_tail(c, op, nin, in, rt);
  if (!agree(c, nin, in)) return NULL;
  for (int i = 0; i < nin; i++) constant = constant && in[i]->state == CONST;
  if (constant) {
    imm k[3] = {{0}, {0}, {0}};
    for (int i = 0; i < nin; i++) k[i] = in[i]->k;
    return arr_const(c, rt, s, cpu_scalar(op, t, k[0], k[1], k[2]));
  }
  if (c->arrays->tape && shape_size(s) == 0) return arr_const(c, rt, s, (imm){0});
  if (all_spread(nin, in)) return map_rows(c, op, nin, in, s);
  return bounded(c, pend(c, op, rt, s, nin, in));
}

array *arr_cast(ctx *c, array *a, dtype t) {
  if (a->dtype == t) return arr_ref(a);
  if (c->arrays->tape && a->size == 0) return arr_const(c, t, &a->s, (imm){0});
  if (a->s.n == 0 && hangs(c, 1, &a)) return map_tail(c, OP_to, 1, &a, t);
  if (!agree(c, 1, &a)) return NULL;
  if (a->state == CONST) return arr_const(c, t, &a->s, imm_cast(a->k, a->dtype, t));
  if (a->size <= SMALL && a->state == READY && !c->arrays->tape)
    return map_now(c, OP_to, 1, &a, &a->s, a->dtype, t);
  return bounded(c, pend(c, OP_to, t, &a->s, 1, &a));
}

array *lazy_rows(ctx *c, int op, array *a, const shape *s) {
  /* a reshape of a reshape is one, unless what the first reads has been stored since: such a value does not
  ** say any more that it stands one a row */
  bool twice = op == OP_reshape && a->op == OP_reshape && a->in[0]->state == PENDING;
  array *x = twice ? a->in[0] : a;
  array *r = pend(c, op, a->dtype, s, 1, &x);
  if (r) r->per_row = op == OP_reshape;
  return bounded(c, r);
}

array *arr_random(ctx *c, dtype t, const shape *s) {
  array *a = arr_blank(c, t, s, PENDING);
  if (!a) return NULL;
  a->op = OP_rand;
  a->nodes = 1;
  a->seed = c->seed;
  a->k.i = (int64_t)random_take(c, a->size);
  if (a->size > SMALL || c->arrays->tape) return a;
  WORK(c, OP_rand);
  if (!arr_fill_in(c, a)) {
    c->counter = (uint64_t)a->k.i; /* a second try shall draw the same */
    return arr_unref(a), NULL;
  }
  arr_call(c, OP_rand, cpu_random, (const int64_t[]){(int64_t)a->seed, a->k.i}, 0, NULL, 1, &a);
  return a;
}

/* A view with its axes as they lie in memory, for reading it is what takes time: x.T:sum(1) adds up
** rows of x. Axes first..last stay together, and neither they nor the others change places among
** themselves; else x itself. A new reference. */
static array *as_it_lies(ctx *c, int op, array *x, int *first, int *last) {
  int perm[MAXDIM], n = x->s.n, at = -1, kept = -1, begin = -1;
  if (x->state != READY || x->size <= SMALL || arr_is_contiguous(x)) return arr_ref(x);
  for (int i = 0; i < n; i++) {
    if (x->stride[i] <= 0 || x->s.d[i] == 1) return arr_ref(x);
    int k = i;
    for (; k > 0 && x->stride[perm[k - 1]] < x->stride[i]; k--) perm[k] = perm[k - 1];
    perm[k] = i;
  }
  for (int k = 0; k < n; k++) {
    bool folded = perm[k] >= *first && perm[k] <= *last;
    if (folded ? perm[k] != (at < 0 ? *first : at + 1) : perm[k] < kept) return arr_ref(x);
    if (!folded && at >= 0 && at < *last) return arr_ref(x);
    if (!folded) kept = perm[k];
    else if ((at = perm[k]) == *first) begin = k;
  }
  if (!op_table[op].step && begin + *last - *first != n - 1) return arr_ref(x);
  *last += begin - *first;
  *first = begin;
  return arr_permute(c, x, perm);
}

static array *fold(ctx *c, int op, array *x, int first, int last, const shape *s);

array *arr_reduce(ctx *c, int op, array *x, int first, int last, bool keepdims) {
  shape s = {0};
  for (int i = 0; i < x->s.n; i++)
    if (i < first || i > last) s.d[s.n++] = x->s.d[i];
    else if (keepdims) s.d[s.n++] = 1;
  array *y = first > last ? arr_ref(x) : as_it_lies(c, op, x, &first, &last);
  array *r = y ? fold(c, op, y, first, last, &s) : NULL;
  arr_unref(y);
  return r;
}

/* x, of few elements, as (rows, n, inner) */
static bool call_reduce(ctx *c, const int64_t *attr, const view *const *in,
                        const view *const *out) {
  tile buf;
  (void)c;
  const void *x = in[0]->size ? cpu_gather_small(in[0], in[0]->size, buf.bytes) : NULL;
  cpu_reduce((int)attr[0], in[0]->dtype, attr[1], attr[2], attr[3], x, out[0]->p);
  return true;
}

static array *fold_now(ctx *c, int op, array *x, int64_t rows, int64_t n, int64_t inner,
                       const shape *s, dtype rt) {
  WORK(c, op);
  array *r = arr_new(c, rt, s), *y = x->state == CONST && r ? arr_copy(c, x) : arr_ref(x);
  const int64_t attr[] = {op, rows, n, inner};
  bool ok =
      r && y && (!r->size || arr_call(c, op, call_reduce, attr, 1, (const array *[]){y}, 1, &r));
  if (!ok) arr_unref(r), r = NULL;
  arr_unref(y);
  return r;
}

/* Of nothing: what there is comes from no element */
static array *fold_nothing(ctx *c, int op, dtype t, const shape *s) {
  imm k;
  dtype rt = reduce_dtype(op, t);
  cpu_reduce(op, t, 1, 0, 1, NULL, (char *)&k);
  return arr_const(c, rt, s, imm_load(rt, &k));
}

static array *fold(ctx *c, int op, array *x, int first, int last, const shape *s) {
  int64_t rows = 1, n = 1, inner = 1;
  for (int i = 0; i < first; i++) rows *= x->s.d[i];
  for (int i = first; i <= last; i++) n *= x->s.d[i];
  for (int i = last + 1; i < x->s.n; i++) inner *= x->s.d[i];
  if ((ends(x) || x->tail) && !arr_ready(c, x)) return NULL;
  dtype rt = reduce_dtype(op, x->dtype);
  bool index = op == OP_argmax || op == OP_argmin;
  if (n == 1 && !index) return arr_reshape(c, x, s); /* nothing to fold */
  if (c->arrays->tape && x->size == 0) return fold_nothing(c, op, x->dtype, s);
  if (inner > 1 && n > 0 && !op_table[op].step) { /* folds rows only: bring the axes to the end */
    int perm[MAXDIM], k = 0;
    for (int i = 0; i < x->s.n; i++)
      if (i < first || i > last) perm[k++] = i;
    for (int i = first; i <= last; i++) perm[k++] = i;
    array *y = arr_permute(c, x, perm);
    array *r = y ? arr_reduce(c, op, y, x->s.n - (last - first) - 1, x->s.n - 1, false) : NULL;
    array *shaped = r ? arr_reshape(c, r, s) : NULL;
    arr_unref(y);
    arr_unref(r);
    return shaped;
  }
  if (x->size <= SMALL && x->state != PENDING && !c->arrays->tape)
    return fold_now(c, op, x, rows, n, inner, s, rt);
  array *r = pend(c, op, rt, s, 1, &x);
  if (!r) return NULL;
  bool fits = !x->row || (x->row == n && !x->per_row);
  r->rows = rows;
  r->n = n;
  r->inner = inner;
  r->per_row = inner == 1 && n > 1 && n <= ROW && fits;
  r->row = r->per_row ? n : 0;
  return r->row ? bounded(c, r) : r;
}
