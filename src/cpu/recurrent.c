/* recurrent.c -- RNN, LSTM and GRU along a sequence, and back.
**
** Elman, "Finding structure in time", 1990; Hochreiter and Schmidhuber, "Long short-term memory", 1997; Cho
** et al., arXiv 1406.1078, as cuDNN and PyTorch have it.
**
** A step is cut into blocks of rows and of columns of the state: each multiplies the whole old state by its
** columns of the weights and goes on to its part of the new one, so that threads meet once a step. The cut is
** by the shape alone. What a gate lets through takes the place of what came to it, for the way back.
*/
#include <string.h>

#include "cpu/product.h"

enum { TANH, RELU, LSTM, GRU };
enum {
  WIDE = 64,      /* columns of a block, */
  HIGH = 64,      /* and rows */
  ALONE = 1 << 14 /* multiplications of a step: up to here one thread does them */
};

typedef struct recurrent {
  dtype t;
  int cell, gates;
  bool reverse;
  int64_t steps, n, h;     /* (steps, n, gates h) */
  const void *w, *bi, *bh; /* (gates h, h), (gates h), likewise; the last two may be NULL */
  const int64_t *lengths;  /* may be NULL */
  void *g, *hn, *hs, *cs;  /* hn: GRU; cs: LSTM; hs and cs: (steps + 1, n, h) */
  const void *dy, *dcs;    /* either may be NULL */
  void *dg, *dn, *dh, *dc;
  map_fn *tanh, *sigmoid;
  tiles products;
  int64_t at, across; /* the step; blocks of columns */
} recurrent;

#define T float
#include "cpu/recurrent.inc"
#define T double
#include "cpu/recurrent.inc"

static recurrent begin(ctx *c, const int64_t *attr, const view *w, const view *g,
                       const view *lengths) {
  static const uint8_t gates[] = {[TANH] = 1, [RELU] = 1, [LSTM] = 4, [GRU] = 3};
  recurrent r = {.t = g->dtype,
                 .cell = (int)attr[0],
                 .gates = gates[attr[0]],
                 .reverse = attr[1],
                 .steps = g->s.d[0],
                 .n = g->s.d[1],
                 .h = w->s.d[1],
                 .w = w->p,
                 .lengths = lengths ? lengths->p : NULL,
                 .g = g->p,
                 .tanh = cpu_kernel(OP_tanh, g->dtype, g->dtype),
                 .sigmoid = cpu_kernel(OP_sigmoid, g->dtype, g->dtype)};
  r.across = (r.h + WIDE - 1) / WIDE;
  tiles_begin(c, &r.products, (int64_t)HIGH * WIDE * r.h * r.gates);
  return r;
}

static void *at(const view *v) { return v ? v->p : NULL; }

/* Block i of a step: whether there is one, and where */
typedef struct {
  int64_t n0, m, j0, n;
} block;

static block block_of(const recurrent *r, int64_t i) {
  block b = {.n0 = i / r->across * HIGH, .j0 = i % r->across * WIDE};
  b.m = least(HIGH, r->n - b.n0);
  b.n = least(WIDE, r->h - b.j0);
  return b;
}

static void each_block(ctx *c, recurrent *r, void (*part)(void *, int64_t)) {
  int64_t parts = (r->n + HIGH - 1) / HIGH * r->across;
  if (r->n * r->h * r->h * r->gates > ALONE) par_for(c, parts, part, r);
  else
    for (int64_t i = 0; i < parts; i++) part(r, i);
}

/* ---- forward ------------------------------------------------------------------------------------------ */

static void forward_part(void *arg, int64_t i) {
  const recurrent *r = arg;
  block b = block_of(r, i);
  tiles_enter(&r->products);
  if (r->t == F32) step_float(r, r->at, b.n0, b.m, b.j0, b.n);
  else step_double(r, r->at, b.n0, b.m, b.j0, b.n);
  tiles_leave(&r->products);
}

bool cpu_recurrent(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  recurrent r = begin(c, attr, in[2], out[0], in[5]);
  size_t state = (size_t)(r.n * r.h) * dtype_size[r.t];
  size_t first = r.reverse ? r.steps * state : 0;
  r.bi = at(in[3]);
  r.bh = at(in[4]);
  r.hs = at(out[1]);
  r.cs = at(out[2]);
  r.hn = at(out[3]);
  memcpy((char *)r.hs + first, in[0]->p, state);
  if (r.cs) memcpy((char *)r.cs + first, in[1]->p, state);
  for (int64_t t = 0; t < r.steps; t++) {
    r.at = r.reverse ? r.steps - 1 - t : t;
    each_block(c, &r, forward_part);
  }
  tiles_end(&r.products);
  return true;
}

/* ---- back ----------------------------------------------------------------------------------------------- */

/* What stands in `at` is the step to go back through; before it comes what the step after it sends here. */
static void backward_part(void *arg, int64_t i) {
  const recurrent *r = arg;
  block b = block_of(r, i);
  int64_t after = r->reverse ? r->at - 1 : r->at + 1;
  tiles_enter(&r->products);
  if (after >= 0 && after < r->steps) {
    if (r->t == F32) gather_back_float(r, after, b.n0, b.m, b.j0, b.n);
    else gather_back_double(r, after, b.n0, b.m, b.j0, b.n);
  }
  if (r->at >= 0 && r->at < r->steps) {
    if (r->t == F32) unstep_float(r, r->at, b.n0, b.m, b.j0, b.n);
    else unstep_double(r, r->at, b.n0, b.m, b.j0, b.n);
  }
  tiles_leave(&r->products);
}

bool cpu_recurrent_grad(ctx *c, const int64_t *attr, const view *const *in,
                        const view *const *out) {
  recurrent r = begin(c, attr, in[0], in[1], in[7]);
  size_t state = (size_t)(r.n * r.h) * dtype_size[r.t];
  r.hs = at(in[2]);
  r.cs = at(in[3]);
  r.hn = at(in[4]);
  r.dy = at(in[5]);
  r.dcs = at(in[6]);
  r.dg = at(out[0]);
  r.dh = at(out[1]);
  r.dc = at(out[2]);
  r.dn = at(out[3]);
  memset(r.dh, 0, state);
  if (r.dc) memset(r.dc, 0, state);
  for (int64_t t = r.steps; t >= 0; t--) { /* one more, for the state before all */
    r.at = r.reverse ? r.steps - t : t - 1;
    each_block(c, &r, backward_part);
  }
  tiles_end(&r.products);
  return true;
}
