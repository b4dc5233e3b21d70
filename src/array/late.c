/* late.c -- elementwise ops and reductions as they are called: late, or at once where small.
**
** An op on a large array makes a PENDING array and computes nothing; see plan.c. Expressions are kept
** small: not too many nodes, not too many bytes that live for them alone. Ops on one tile or less run
** when called, through the same kernels, and give the same bits.
*/
#include <string.h>

#include "array/program.h"

enum {
  MAXNODES = 512, /* distinct pending arrays of one expression */
  MAXBYTES = 6    /* bytes an expression may keep alive, in units of its result */
};

/* ---- the op table, as data ---------------------------------------------------------------------- */

const uint8_t op_rule[NOP] = {
#define UNARY(name, rule, ...) [OP_##name] = rule,
#define BINARY(name, rule, ...) [OP_##name] = rule,
#define TERNARY(name, rule, ...) [OP_##name] = rule,
#define REDUCE(name, rule, ...) [OP_##name] = rule,
#include "array/ops.def"
};

const uint8_t op_cost[NOP] = {
#define UNARY(name, rule, cost, ...) [OP_##name] = cost,
#define BINARY(name, rule, cost, ...) [OP_##name] = cost,
#define TERNARY(name, rule, cost, ...) [OP_##name] = cost,
#include "array/ops.def"
};

/* the op that folds two rows into one, by reduction; 0 for what is no reduction or has no such op */
const uint8_t op_step[NOP] = {
#define REDUCE(name, rule, step, ...) [OP_##name] = step,
#include "array/ops.def"
};

const bool op_reduces[NOP] = {
#define REDUCE(name, ...) [OP_##name] = true,
#include "array/ops.def"
};

dtype reduce_dtype(int op, dtype t) { return op == OP_argmax || op == OP_argmin ? I64 : t; }

/* ---- small arrays: at once ------------------------------------------------------------------------ */

/* n <= SMALL elements of a READY or CONST array, in place or in buf */
static const void *operand(const array *a, const shape *s, int64_t n, tile *buf) {
  if (a->state == CONST) return imm_fill(a->dtype, buf, a->k, n), buf;
  if (arr_is_contiguous(a)) return arr_data(a);
  space q = {.n = s->n};
  memcpy(q.d, s->d, sizeof q.d);
  return strided_read(&q, a->stride, arr_data(a), dtype_size[a->dtype], 0, n, buf->bytes, false);
}

static array *map_now(ctx *c, int op, int nin, array *const *in, const shape *s, dtype t,
                      dtype rt) {
  const void *p[3] = {NULL, NULL, NULL};
  tile buf[3];
  for (int i = 0; i < nin; i++)
    if (!arr_ready(c, in[i])) return NULL;
  array *r = arr_new(c, rt, s);
  if (!r || !r->size) return r;
  for (int i = 0; i < nin; i++) p[i] = operand(in[i], s, r->size, &buf[i]);
  const kernels *k = kern_get();
  (op == OP_to ? k->cast[t][rt] : k->map[op][t])(r->buf->p, p[0], p[1], p[2], r->size);
  return r;
}

/* ---- making pending arrays ------------------------------------------------------------------------------ */

typedef struct {
  int nodes;
  size_t bytes;
} weight;

static bool weigh(void *arg, array *a) {
  weight *w = arg;
  if (a->state == PENDING) w->nodes++;
  else if (a->state == READY) {
    size_t dense = a->size * dtype_size[a->dtype];
    w->bytes += a->buf->bytes < dense ? a->buf->bytes : dense;
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
    if (in[i]->state == PENDING) nodes += in[i]->nodes;
  }
  a->nodes = nodes > UINT16_MAX ? UINT16_MAX : nodes;
  return a;
}

/* Keep expressions small: not too many nodes, not too many bytes that live for them alone */
static bool bound(ctx *c, array *a) {
  if (a->nodes < MAXNODES && a->size < CHUNK && a->nodes % 16) return true;
  weight w = {0, 0};
  plan_visit(a, plan_mark(), weigh, &w);
  a->nodes = w.nodes;
  if (w.nodes < MAXNODES && w.bytes <= (size_t)a->size * dtype_size[a->dtype] * MAXBYTES)
    return true;
  return arr_ready(c, a);
}

array *arr_map(ctx *c, int op, int nin, array *const *in, const shape *s) {
  dtype t = operand_dtype(op, in), rt = op_result(op, t);
  bool constant = true;
  for (int i = 0; i < nin; i++) {
    if (reduces(in[i]) && !arr_ready(c, in[i])) return NULL;
    constant = constant && in[i]->state == CONST;
  }
  if (constant && op != OP_to) {
    imm k[3] = {{0}, {0}, {0}};
    for (int i = 0; i < nin; i++) k[i] = in[i]->k;
    return arr_const(c, rt, s, op_scalar(op, t, k[0], k[1], k[2]));
  }
  if (shape_size(s) <= SMALL) return map_now(c, op, nin, in, s, t, rt);
  array *a = pend(c, op, rt, s, nin, in);
  if (a && !bound(c, a)) return arr_unref(a), NULL;
  return a;
}

array *arr_cast(ctx *c, array *a, dtype t) {
  if (a->dtype == t) return arr_ref(a);
  if (reduces(a) && !arr_ready(c, a)) return NULL;
  if (a->state == CONST) return arr_const(c, t, &a->s, imm_cast(a->k, a->dtype, t));
  if (a->size <= SMALL) return map_now(c, OP_to, 1, &a, &a->s, a->dtype, t);
  array *r = pend(c, OP_to, t, &a->s, 1, &a);
  if (r && !bound(c, r)) return arr_unref(r), NULL;
  return r;
}

array *arr_random(ctx *c, dtype t, const shape *s) {
  array *a = arr_blank(c, t, s, PENDING);
  if (!a) return NULL;
  a->op = OP_rand;
  a->nodes = 1;
  a->off = (int64_t)c->seed;
  a->k.i = (int64_t)random_take(c, a->size);
  if (a->size > SMALL) return a;
  uint64_t at = a->k.i;
  if (!arr_fill_in(c, a)) return arr_unref(a), NULL;
  if (t == F64) random_f64(c->seed, at, 0, a->size, a->buf->p);
  else random_f32(c->seed, at, 0, a->size, a->buf->p);
  return a;
}

array *arr_reduce(ctx *c, int op, array *x, int first, int last, bool keepdims) {
  int64_t rows = 1, n = 1, inner = 1;
  shape s = {0};
  for (int i = 0; i < x->s.n; i++) {
    int64_t d = x->s.d[i];
    if (i < first) rows *= d;
    else if (i > last) inner *= d;
    else n *= d;
    if (i < first || i > last) s.d[s.n++] = d;
    else if (keepdims) s.d[s.n++] = 1;
  }
  if (reduces(x) && !arr_ready(c, x)) return NULL;
  dtype rt = reduce_dtype(op, x->dtype);
  bool index = op == OP_argmax || op == OP_argmin;
  if (n == 1 && !index && op != OP_logsumexp) return arr_reshape(c, x, &s); /* nothing to fold */
  if (inner > 1 && n > 0 && !op_step[op]) { /* folds rows only: bring the axes to the end */
    int perm[MAXDIM], k = 0;
    shape back = s;
    for (int i = 0; i < x->s.n; i++)
      if (i < first || i > last) perm[k++] = i;
    for (int i = first; i <= last; i++) perm[k++] = i;
    array *y = arr_permute(c, x, perm);
    array *r = y ? arr_reduce(c, op, y, x->s.n - (last - first) - 1, x->s.n - 1, false) : NULL;
    array *shaped = r ? arr_reshape(c, r, &back) : NULL;
    arr_unref(y);
    arr_unref(r);
    return shaped;
  }
  if (x->size <= SMALL) {
    if (!arr_ready(c, x)) return NULL;
    array *r = arr_new(c, rt, &s);
    if (!r) return NULL;
    tile buf;
    reduce_block(op, x->dtype, rows, n, inner, x->size ? operand(x, &x->s, x->size, &buf) : NULL,
                 r->buf->p);
    if (op == OP_mean && inner > 1 && n) reduce_scale(r->dtype, r->buf->p, r->size, n);
    return r;
  }
  array *r = pend(c, op, rt, &s, 1, &x);
  if (!r) return NULL;
  r->rows = rows;
  r->n = n;
  r->inner = inner;
  return r;
}
