/* attention.c -- softmax(scale q k' + mask) v, and its gradient, in memory that grows as the lengths do.
**
** A block of queries meets the keys tile by tile. Of the weights only a tile exists: their sum and largest
** exponent run along (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135). What is kept
** is the log of the sum for each query, from which the gradient computes the weights again. Blocks and tiles
** are cut by the shapes alone, and what several of them add to is added in a fixed order, so that the number
** of threads cannot be seen.
*/
#include <math.h>
#include <string.h>

#include "cpu/product.h"

enum {
  WIDE = 128, /* queries of a block */
  LONG = 128, /* keys of a tile */
  LANES = 16,
  PARTS = 8 /* of the gradient, at least, where there are blocks enough */
};
enum { NO_MASK, KEEPS, ADDS };

typedef struct {
  const view *v;
  int64_t row;
} operand;

/* Of one head: its matrices */
typedef struct {
  const char *q, *k, *v, *mask, *g;
  char *out, *lse, *dq, *dk, *dv;
} head;

typedef struct attention {
  dtype t;
  int64_t batch, nq, nk, d, e, blocks, parts;
  operand q, k, v, g, out, dq, dk, dv;
  /* from one row of g to the next, of those that blocks begin with; 0: all rows are one */
  int64_t g_step;
  const view *mask, *lse;
  int kind;
  bool causal, masked;
  double scale, p;
  uint64_t seed, counter;
  map_fn *exp;
  tiles products;
  char *scratch, *sums; /* each thread's tiles; dk and dv of each part but the first */
  head at;
} attention;

#define T float
#include "cpu/attention.inc"
#define T double
#include "cpu/attention.inc"

/* ---- where what is --------------------------------------------------------------------------------- */

static operand operand_of(const view *v) {
  operand o = {v, 0};
  if (!v) return o;
  int64_t width = v->s.d[v->s.n - 1];
  o.row = v->s.d[v->s.n - 2] == 1 ? (width ? width : 1) : v->stride[v->s.n - 2];
  return o;
}

/* The matrix of head b */
static char *matrix(const view *v, int64_t b) {
  int64_t off = 0;
  if (!v) return NULL;
  for (int i = v->s.n - 3; i >= 0; i--) {
    if (v->s.d[i] != 1) off += b % v->s.d[i] * v->stride[i];
    b /= v->s.d[i];
  }
  return (char *)v->p + off * dtype_size[v->dtype];
}

static head head_of(const attention *t, int64_t b) {
  return (head){.q = matrix(t->q.v, b),
                .k = matrix(t->k.v, b),
                .v = matrix(t->v.v, b),
                .mask = matrix(t->mask, b),
                .g = matrix(t->g.v, b),
                .out = matrix(t->out.v, b),
                .lse = (char *)t->lse->p + b * t->nq * dtype_size[t->t],
                .dq = matrix(t->dq.v, b),
                .dk = matrix(t->dk.v, b),
                .dv = matrix(t->dv.v, b)};
}

static attention begin(ctx *c, const attention_attr *a, const view *const *in) {
  const view *q = in[0], *v = in[2];
  int n = q->s.n;
  attention t = {.t = q->dtype,
                 .batch = 1,
                 .nq = q->s.d[n - 2],
                 .d = q->s.d[n - 1],
                 .nk = v->s.d[n - 2],
                 .e = v->s.d[n - 1],
                 .q = operand_of(q),
                 .k = operand_of(in[1]),
                 .v = operand_of(v),
                 .mask = in[3],
                 .kind = !in[3]                 ? NO_MASK
                         : in[3]->dtype == BOOL ? KEEPS
                                                : ADDS,
                 .causal = a->causal,
                 .masked = a->causal || in[3],
                 .scale = a->scale,
                 .p = a->p,
                 .seed = (uint64_t)a->seed,
                 .counter = (uint64_t)a->counter,
                 .exp = cpu_kernel(OP_exp, q->dtype, q->dtype)};
  for (int i = 0; i < n - 2; i++) t.batch *= q->s.d[i];
  t.blocks = (t.nq + WIDE - 1) / WIDE;
  tiles_begin(c, &t.products, (int64_t)WIDE * LONG * (t.d > t.e ? t.d : t.e));
  return t;
}

static size_t tile_bytes(const attention *t) { return (size_t)WIDE * LONG * dtype_size[t->t]; }

/* ---- forward ---------------------------------------------------------------------------------------- */

/* Blocks from both ends in turn: causal, those at the end see more */
static int64_t block_of(int64_t i, int64_t n) { return i % 2 ? n - 1 - i / 2 : i / 2; }

static void forward_part(void *arg, int64_t i) {
  attention t = *(const attention *)arg;
  int64_t b = i / t.blocks, i0 = block_of(i % t.blocks, t.blocks) * WIDE,
          m = least(WIDE, t.nq - i0);
  void *s = t.scratch + par_worker() * tile_bytes(&t);
  t.at = head_of(&t, b);
  tiles_enter(&t.products);
  if (t.t == F32) attend_float(&t, b, i0, m, s);
  else attend_double(&t, b, i0, m, s);
  tiles_leave(&t.products);
}

bool cpu_attention(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  attention t = begin(c, (const attention_attr *)attr, in);
  buffer *b = buf_new(c, c->threads * tile_bytes(&t));
  if (b) {
    t.scratch = b->p;
    t.out = operand_of(out[0]);
    t.lse = out[1];
    par_for(c, t.batch * t.blocks, forward_part, &t);
    buf_unref(b);
  }
  tiles_end(&t.products);
  return b;
}

/* ---- its gradient ------------------------------------------------------------------------------------- */

/* Where part p of head b adds up */
static char *sums_of(const attention *t, int64_t b, int64_t p) {
  return t->sums + (b * (t->parts - 1) + p - 1) * t->nk * (t->d + t->e) * dtype_size[t->t];
}

static void clear(char *p, int64_t rows, int64_t row, int64_t n, int bytes) {
  for (int64_t i = 0; i < rows; i++) memset(p + i * row * bytes, 0, (size_t)n * bytes);
}

/* Of each thread: two tiles, and a block of g where all its rows are one */
static size_t own_bytes(const attention *t) {
  return 2 * tile_bytes(t) + (t->g_step ? 0 : (size_t)(WIDE * t->e) * dtype_size[t->t]);
}

static void backward_part(void *arg, int64_t i) {
  attention t = *(const attention *)arg;
  int64_t b = i / t.parts, p = i % t.parts, dk_row = t.dk.row, dv_row = t.dv.row;
  char *s = t.scratch + par_worker() * own_bytes(&t), *d = s + tile_bytes(&t);
  int bytes = dtype_size[t.t];
  t.at = head_of(&t, b);
  if (!t.g_step) {
    char *g = d + tile_bytes(&t);
    for (int64_t k = 0; k < least(WIDE, t.nq); k++)
      memcpy(g + k * t.e * bytes, t.at.g, (size_t)(t.e * bytes));
    t.at.g = g;
    t.g.row = t.e;
  }
  char *dk = t.at.dk, *dv = t.at.dv;
  if (p) {
    dk = sums_of(&t, b, p);
    dv = dk + t.nk * t.d * bytes;
    dk_row = t.d;
    dv_row = t.e;
  }
  clear(dk, t.nk, dk_row, t.d, bytes);
  clear(dv, t.nk, dv_row, t.e, bytes);
  tiles_enter(&t.products);
  for (int64_t k = p; k < t.blocks; k += t.parts) {
    int64_t i0 = k * WIDE, m = least(WIDE, t.nq - i0);
    if (t.t == F32)
      unattend_float(&t, b, i0, m, (float *)s, (float *)d, (float *)dk, dk_row, (float *)dv,
                     dv_row);
    else
      unattend_double(&t, b, i0, m, (double *)s, (double *)d, (double *)dk, dk_row, (double *)dv,
                      dv_row);
  }
  tiles_leave(&t.products);
}

static void add_rows(const attention *t, char *to, int64_t row, const char *from, int64_t n) {
  int bytes = dtype_size[t->t];
  for (int64_t i = 0; i < t->nk; i++, to += row * bytes, from += n * bytes)
    if (t->t == F32) plus_float((float *)to, (const float *)from, n);
    else plus_double((double *)to, (const double *)from, n);
}

static void add_parts(void *arg, int64_t b) {
  const attention *t = arg;
  char *dk = matrix(t->dk.v, b), *dv = matrix(t->dv.v, b);
  for (int64_t p = 1; p < t->parts; p++) {
    const char *from = sums_of(t, b, p);
    add_rows(t, dk, t->dk.row, from, t->d);
    add_rows(t, dv, t->dv.row, from + t->nk * t->d * dtype_size[t->t], t->e);
  }
}

bool cpu_attention_grad(ctx *c, const int64_t *attr, const view *const *in,
                        const view *const *out) {
  attention t = begin(c, (const attention_attr *)attr, in);
  t.out = operand_of(in[4]);
  t.lse = in[5];
  t.g = operand_of(in[6]);
  t.g_step = t.g.row;
  t.dq = operand_of(out[0]);
  t.dk = operand_of(out[1]);
  t.dv = operand_of(out[2]);
  int64_t want = t.batch ? (PARTS + t.batch - 1) / t.batch : 1;
  t.parts = want < t.blocks ? want : t.blocks;
  if (t.parts < 1) t.parts = 1;
  size_t own = c->threads * own_bytes(&t),
         sums = (size_t)(t.batch * (t.parts - 1) * t.nk * (t.d + t.e)) * dtype_size[t.t];
  buffer *b = buf_new(c, own + sums);
  if (b) {
    t.scratch = b->p;
    t.sums = t.scratch + own;
    par_for(c, t.batch * t.parts, backward_part, &t);
    if (t.parts > 1) par_for(c, t.batch, add_parts, &t);
    buf_unref(b);
  }
  tiles_end(&t.products);
  return b;
}
