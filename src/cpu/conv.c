/* conv.c -- convolutions: what is asked for as one plain form (window.h), how it is cut, and who runs it.
**
** All is cut by shapes alone: into bands of positions, chunks of channels, parts of the batch whose sums
** meet in order. A unit is one thread's work from begin to end, so that the number of threads cannot be
** seen. What a unit keeps beside the operands fits a processor's own cache, whatever the shape.
*/
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/window.h"

enum {
  COPY = 1 << 16,   /* bytes of the padded copy */
  CUT = 1 << 17,    /* of the rows that are multiplied with it: of a, or of g */
  UNITS = 8,        /* enough for four threads to end together */
  POSITIONS = 1024, /* of a band; */
  ADDED = 512,      /* of the weights' gradient, whose sums are kept so long, */
  FEW = 64,         /* not cut any further */
  ALONE = 256,      /* positions of an image that are worth a pass of their own */
  KEPT = 1 << 14,   /* bytes of a panel that stays in the first cache */
  SUMS = 1 << 22    /* elements of all sums that are made apart, where that is more than one set */
};

/* So much fuller vectors make up for a copy across the images. */
static const double TURN = 1.5;

static const windows *kernels(dtype t) { return &OF_LEVEL(mg_windows)->t[t]; }

static int64_t over(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- the plain form ------------------------------------------------------------------------------ */

/* An axis i of three; those that a view with fewer does not have are 1 long */
static int64_t length(const view *v, int i) {
  int k = i + v->s.n - 3;
  return k < 2 ? 1 : v->s.d[k];
}

typedef struct {
  int64_t stride[3], dilation[3], before[3], groups;
} how;

static how read_how(const int64_t *attr) {
  how h;
  memcpy(h.stride, attr, sizeof h.stride);
  memcpy(h.dilation, attr + 3, sizeof h.dilation);
  memcpy(h.before, attr + 6, sizeof h.before);
  h.groups = attr[9];
  return h;
}

/* x seen through a kernel: y[t] of x[t stride + k dilation - before] */
static void forward_axis(wide *w, const how *h, int i, int64_t in, int64_t out, int64_t k) {
  w->in = in;
  w->n = out;
  w->step = h->stride[i];
  w->ntap = w->kernel = k;
  w->k0 = 0;
  w->dk = 1;
  w->low = -h->before[i];
  w->tap0 = 0;
  w->dtap = h->dilation[i];
  w->span = most(k - 1, 0) * h->dilation[i];
}

static int64_t common(int64_t a, int64_t b) { /* divisor */
  while (b) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* The other way round: y[i] of those x[t] that have t stride + k dilation - before = i. Of i = stride j +
** phase these are x[j + (phase + before - k dilation) / stride], for every k where that divides. */
static void backward_axis(wide *w, const how *h, int i, int64_t phase, int64_t in, int64_t out,
                          int64_t kernel) {
  int64_t s = h->stride[i], d = h->dilation[i], k0 = 0, dk = s / common(s, d);
  while (k0 < kernel && k0 < s && (phase + h->before[i] - k0 * d) % s) k0++;
  bool none = k0 >= kernel || (phase + h->before[i] - k0 * d) % s;
  w->in = in;
  w->n = out > phase ? over(out - phase, s) : 0;
  w->step = 1;
  w->kernel = kernel;
  w->ntap = none ? 0 : over(kernel - k0, dk);
  w->k0 = k0;
  w->dk = dk;
  w->dtap = -(dk * d / s);
  w->span = most(w->ntap - 1, 0) * -w->dtap;
  w->tap0 = w->span;
  w->low = none ? 0 : (phase + h->before[i] - k0 * d) / s - w->span; /* it divides */
}

/* Elements of x and y that lie densely, (n, channels, ...) */
static void set_strides(window *q, const view *x, const view *y) {
  q->xc = q->yc = 1;
  for (int i = 2; i >= 0; i--) {
    q->w[i].xs = q->xc;
    q->w[i].ys = q->yc;
    q->xc *= length(x, i);
    q->yc *= length(y, i);
  }
  q->xg = q->xc * (x->s.d[1] / q->groups);
  q->yg = q->yc * (y->s.d[1] / q->groups);
  q->xi = q->xc * x->s.d[1];
  q->yi = q->yc * y->s.d[1];
}

/* Has it no window, just elements? */
static bool is_plain(const wide *w) {
  return w->ntap == 1 && w->kernel == 1 && w->step == 1 && w->low + w->tap0 == 0 && w->in == w->n;
}

/* Where one tap skips elements, they are not there; axes without a window that run on in each other are
** one; and where lines are short, the images are the line. */
static void simplify(window *q, int64_t lanes) {
  wide *w = q->w;
  for (int i = 0; i < 3; i++) {
    bool skips = w[i].ntap == 1 && w[i].low + w[i].tap0 == 0 && (w[i].n - 1) * w[i].step < w[i].in;
    if (!skips) continue;
    w[i].xs *= w[i].step;
    w[i].step = 1;
    w[i].in = w[i].n;
  }
  for (int i = 1; i >= 0 && is_plain(&w[2]) && is_plain(&w[i]); i--) {
    if (w[i].xs != w[2].xs * w[2].n || w[i].ys != w[2].ys * w[2].n) break;
    w[2].in = w[2].n *= w[i].n;
    w[i].in = w[i].n = 1;
  }
  double along = (double)w[2].n / (double)(over(w[2].n, lanes) * lanes);
  double across = (double)q->n / (double)(over(q->n, lanes) * lanes);
  if (w[0].in != 1 || !is_plain(&w[0]) || across < TURN * along) return;
  w[0] = w[1];
  w[1] = w[2];
  w[2] = (wide){.in = q->n, .n = q->n, .step = 1, .xs = q->xi, .ys = q->yi};
  w[2].ntap = w[2].kernel = w[2].dk = w[2].dtap = 1;
  q->n = 1;
  q->xi = q->yi = 0;
}

/* ---- the plan ------------------------------------------------------------------------------------ */

static void set_band(window *q, int i, int64_t n) {
  wide *w = &q->w[i];
  q->bands[i] = most(over(w->n, most(n, 1)), 1);
  q->band[i] = most(over(w->n, q->bands[i]), 1);
}

/* Bands of about so many positions; along w of whole vectors. False: sizes past what can be counted */
static bool plan_bands(window *q, int64_t lanes, int64_t positions) {
  wide *w = q->w;
  set_band(q, 2, q->xi ? positions : 2 * lanes); /* across the images not many at once */
  if (q->bands[2] > 1) {
    q->band[2] = over(q->band[2], lanes) * lanes;
    q->bands[2] = over(w[2].n, q->band[2]);
  }
  set_band(q, 1, positions / q->band[2]);
  set_band(q, 0, positions / (q->band[2] * q->band[1]));
  q->local[0] = (q->band[0] - 1) * w[0].step + w[0].span + 1;
  q->local[1] = (q->band[1] - 1) * w[1].step + w[1].span + 1;
  q->local[2] = over((over(q->band[2], lanes) * lanes - 1) * w[2].step + w[2].span + 1, w[2].step);
  q->row = q->local[2] * w[2].step;
  return !__builtin_mul_overflow(q->row, q->local[0], &q->plane) &&
         !__builtin_mul_overflow(q->plane, q->local[1], &q->plane) && q->plane < INT32_MAX;
}

static void plan_chunks(window *q, int64_t channels) {
  int64_t chunk = least(most(channels, 1), most(q->c, 1));
  q->chunks = over(most(q->c, 1), chunk);
  q->chunk = over(most(q->c, 1), q->chunks);
  q->chunks = over(most(q->c, 1), q->chunk);
}

/* Of so many channels, in the order of a itself, or in that of its panels */
static void fill_offsets(const window *q, int32_t *to, int64_t channels, bool panels) {
  const wide *w = q->w;
  int64_t before = panels ? 1 : channels, after = panels ? channels : 1;
  for (int64_t b = 0; b < before; b++)
    for (int64_t i = 0; i < w[0].ntap; i++)
      for (int64_t j = 0; j < w[1].ntap; j++)
        for (int64_t a = 0; a < after; a++)
          for (int64_t k = 0; k < w[2].ntap; k++) {
            int64_t u = w[2].tap0 + k * w[2].dtap, c = b + a;
            int64_t z = w[0].tap0 + i * w[0].dtap, y = w[1].tap0 + j * w[1].dtap;
            *to++ = (int32_t)(c * q->plane + (z * q->local[1] + y) * q->row +
                              u % w[2].step * q->local[2] + u / w[2].step);
          }
}

static int64_t aligned(int64_t bytes) { return (bytes + 63) & ~(int64_t)63; }

/* ---- running it ---------------------------------------------------------------------------------- */

typedef struct {
  const window *q;
  void (*unit)(const window *q, int64_t unit, char *scratch);
} job;

static void run_unit(void *arg, int64_t i) {
  const job *j = arg;
  j->unit(j->q, i, j->q->scratch + par_worker() * j->q->bytes);
}

/* `all` bytes at once, and q->bytes for each thread behind them; NULL: no memory */
static buffer *take(ctx *c, window *q, int64_t all, int64_t units) {
  int64_t threads = least(c->threads, units), bytes;
  if (__builtin_mul_overflow(threads, q->bytes, &bytes) ||
      __builtin_add_overflow(bytes, all, &bytes))
    return fail_memory(c, SIZE_MAX), NULL;
  buffer *b = buf_new(c, (size_t)bytes);
  if (b) q->scratch = (char *)b->p + all;
  return b;
}

static bool too_large(ctx *c) { return fail(c, "convolution: padded sizes are too large"); }

/* y from x and a */
static bool run(ctx *c, window *q) {
  const windows *k = kernels(q->t);
  int64_t size = dtype_size[q->t], positions = POSITIONS, units;
  q->taps = q->w[0].ntap * q->w[1].ntap * q->w[2].ntap;
  simplify(q, k->lanes);
  for (;; positions /= 2) {
    if (!plan_bands(q, k->lanes, positions)) return too_large(c);
    units = q->n * q->groups * q->bands[0] * q->bands[1] * q->bands[2];
    if (units >= UNITS || positions <= FEW) break;
  }
  int64_t panel = PANEL * most(q->taps, 1) * size;
  q->by_panel = least(COPY / (q->plane * size), q->c) * q->taps * q->m * size > CUT;
  plan_chunks(q, least(COPY / (q->plane * size), q->by_panel ? KEPT / panel : q->c));
  if (q->plane * q->chunk > INT32_MAX) return too_large(c);
  q->panels = over(q->m, PANEL);
  q->split = least(q->panels, over(UNITS, units));
  units *= q->split;
  int64_t packed = aligned(q->groups * q->m * q->c * q->taps * size);
  int64_t offs = aligned(q->chunk * q->taps * (int64_t)sizeof *q->off);
  q->pos_at = aligned(q->plane * q->chunk * size);
  q->bytes = q->pos_at +
             aligned(q->band[0] * q->band[1] * over(q->band[2], k->lanes) * (int64_t)sizeof(place));
  buffer *b = take(c, q, packed + 2 * offs, units);
  if (!b) return false;
  q->packed = b->p;
  q->off = (int32_t *)((char *)b->p + packed);
  q->last = (int32_t *)((char *)b->p + packed + offs);
  fill_offsets(q, q->off, q->chunk, true);
  fill_offsets(q, q->last, q->c - (q->chunks - 1) * q->chunk, true);
  k->pack(q);
  par_for(c, units, run_unit, &(job){q, k->unit});
  buf_unref(b);
  return true;
}

/* a from x and g, which is y */
static bool weigh(ctx *c, window *q) {
  const windows *k = kernels(q->t);
  int64_t size = dtype_size[q->t], lanes = k->lanes;
  q->taps = q->w[0].ntap * q->w[1].ntap * q->w[2].ntap;
  simplify(q, k->lanes);
  if (!plan_bands(q, lanes, ADDED)) return too_large(c);
  int64_t vectors = q->band[0] * q->band[1] * over(q->band[2], lanes);
  const wide *w = q->w; /* is a band of g one piece, of whole vectors? */
  bool one = w[2].ys == 1 && w[2].n % lanes == 0;
  one = one && (q->band[1] == 1 || (q->bands[2] == 1 && w[1].ys == w[2].n));
  one = one && (q->band[0] == 1 || (q->bands[2] * q->bands[1] == 1 && w[0].ys == w[2].n * w[1].n));
  q->direct = one && vectors * lanes >= ALONE;
  q->images = q->direct ? 1 : most(least(q->n, ADDED / (vectors * lanes)), 1);
  plan_chunks(q, 2 * COPY / (q->plane * size * q->images));
  if (q->chunk * q->images * q->plane > INT32_MAX) return too_large(c);
  vectors *= q->images;
  q->rows = least(most(2 * CUT / (vectors * lanes * size) / PANEL * PANEL, PANEL), q->m);
  if (q->direct) q->rows = q->m;
  q->blocks = over(q->n, q->images) * q->bands[0] * q->bands[1] * q->bands[2];
  int64_t apart = q->groups * q->chunks * over(q->m, q->rows);
  int64_t all = q->groups * q->ag;
  q->parts = least(least(over(UNITS, apart), q->blocks), most(SUMS / all, 1));
  int64_t sums = aligned(q->parts * all * size);
  int64_t offs = aligned(q->chunk * q->taps * (int64_t)sizeof *q->off);
  q->g_at = aligned(q->images * q->chunk * q->plane * size);
  q->pos_at = q->g_at + (q->direct ? 0 : aligned(q->rows * vectors * lanes * size));
  q->bytes = q->pos_at + aligned(vectors * (int64_t)sizeof *q->off);
  buffer *b = take(c, q, sums + offs, apart * q->parts);
  if (!b) return false;
  q->sums = b->p;
  q->off = (int32_t *)((char *)b->p + sums);
  fill_offsets(q, q->off, q->chunk, false);
  par_for(c, apart * q->parts, run_unit, &(job){q, k->weigh});
  k->sum(q);
  buf_unref(b);
  return true;
}

static window begin(const view *x, const view *w, const view *y, const how *h) {
  window q = {.t = x->dtype, .x = x->p, .y = y->p, .a = w->p};
  q.n = x->s.d[0];
  q.groups = h->groups;
  set_strides(&q, x, y);
  return q;
}

static bool is_empty(const view *x, const view *y) { return x->size == 0 || y->size == 0; }

/* Over the positions of y, by w: what a convolution and its gradient by w have in common */
static window forward(const view *x, const view *w, const view *y, const how *h) {
  window q = begin(x, w, y, h);
  q.m = y->s.d[1] / h->groups;
  q.c = w->s.d[1];
  for (int i = 0; i < 3; i++) forward_axis(&q.w[i], h, i, length(x, i), length(y, i), length(w, i));
  q.ac = length(w, 0) * length(w, 1) * length(w, 2);
  q.am = q.c * q.ac;
  q.ag = q.m * q.am;
  return q;
}

bool cpu_conv(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0], *w = in[1], *y = out[0];
  how h = read_how(attr);
  if (is_empty(x, w)) return cpu_zero(c, NULL, NULL, out);
  window q = forward(x, w, y, &h);
  return run(c, &q);
}

bool cpu_conv_data(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *g = in[0], *w = in[1], *x = out[0];
  how h = read_how(attr);
  if (is_empty(g, w)) return cpu_zero(c, NULL, NULL, out);
  int64_t each[3], phases = 1;
  for (int i = 0; i < 3; i++) phases *= each[i] = least(h.stride[i], length(x, i));
  for (int64_t phase = 0; phase < phases; phase++) {
    window q = begin(g, w, x, &h);
    int64_t at = phase, positions = 1;
    q.m = w->s.d[1];
    q.c = w->s.d[0] / h.groups;
    for (int i = 2; i >= 0; i--) {
      backward_axis(&q.w[i], &h, i, at % each[i], length(g, i), length(x, i), length(w, i));
      q.y = (char *)q.y + at % each[i] * q.w[i].ys * dtype_size[q.t];
      q.w[i].ys *= h.stride[i];
      positions *= q.w[i].n;
      at /= each[i];
    }
    q.am = length(w, 0) * length(w, 1) * length(w, 2);
    q.ac = q.m * q.am;
    q.ag = q.c * q.ac;
    if (positions && !run(c, &q)) return false;
  }
  return true;
}

bool cpu_conv_weight(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0], *g = in[1], *w = out[0];
  how h = read_how(attr);
  if (is_empty(x, g)) return cpu_zero(c, NULL, NULL, out);
  window q = forward(x, w, g, &h);
  return weigh(c, &q);
}
