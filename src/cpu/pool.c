/* pool.c -- pooling: windows over the last two axes of x, the axes before being so many planes.
**
** A window's taps come in the order of memory. Of the largest the place among the window's taps is
** kept, from 0 and row by row: in a byte where that holds it. A gradient is added up plane by
** plane, so that the number of threads cannot be seen.
** */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

enum {
  PART = 1 << 15, /* elements that a part meets, roughly */
  COLS = 256,     /* windows of a row at once */
  FEW = 8,        /* windows in a row: from here on tap by tap */
  SMALL_WINDOW = 64,
  NOWHERE = POOL_BYTE /* no tap lies in x */
};

typedef double fours __attribute__((vector_size(32)));

typedef pool_axis axis;
typedef struct {
  int64_t first, end;
} span;

/* What holds of windows from..from + n - 1 of every row */
typedef struct {
  int64_t from, n;
  int64_t start[COLS], first[COLS], end[COLS]; /* as of taps() */
  double counted[COLS];
  span all, tap[SMALL_WINDOW]; /* together(), and windows() of each tap; by taps only */
  bool covered;                /* nothing is left besides `all` */
} columns;

/* A row of windows: the i-th of its plane */
typedef struct job job;
typedef void row_fn(const job *j, const columns *c, int64_t plane, int64_t i);
struct job {
  const pool *p;
  row_fn *fn;
  const void *x;
  void *y, *at;
  bool wide, taps; /* at: int64, not bytes; fn goes by taps */
  int size;        /* of an element */
  int64_t planes, some;
  int64_t down[POOL_BYTE + 1], right[POOL_BYTE + 1]; /* by bytes of `at`, from tap 0; -1: none */
};

enum { MAX, AVG, SPREAD, SCATTER, PICK };

/* Where tap 0 of window i lies */
INLINE int64_t start_of(const axis *a, int64_t i) {
  if (a->k) return i * a->s - a->p;
  return a->to == 1 ? 0 : i * a->n / a->to; /* adaptive */
}

/* The taps of window i that lie in x; tap 0 is element *start. */
INLINE span taps(const axis *a, int64_t i, int64_t *start) {
  *start = start_of(a, i);
  if (a->k == 0)
    return (span){0, a->to == 1 ? a->n : ((i + 1) * a->n + a->to - 1) / a->to - *start};
  span r = {*start < 0 ? (a->d - 1 - *start) / a->d : 0, a->k};
  if (*start + (a->k - 1) * a->d >= a->n)
    r.end = *start < a->n ? (a->n - *start + a->d - 1) / a->d : 0;
  if (r.end < r.first) r.end = r.first;
  return r;
}

/* Those of windows from..from + n - 1 whose tap t lies in x, counted from `from` */
INLINE span windows(const axis *a, int64_t t, int64_t from, int64_t n) {
  int64_t at = from * a->s - a->p + t * a->d;
  span r = {at < 0 ? (a->s - 1 - at) / a->s : 0, 0};
  if (at < a->n) r.end = least(n, (a->n - at + a->s - 1) / a->s);
  if (r.end < r.first) r.end = r.first;
  return r;
}

/* ... two or three taps of all of which do, being neighbours */
INLINE span together(const axis *a, int64_t from, int64_t n) {
  if (a->d != 1 || a->k < 2 || a->k > 3) return (span){0, 0};
  span r = windows(a, 0, from, n), last = windows(a, a->k - 1, from, n);
  r.end = least(r.end, last.end);
  if (r.first < last.first) r.first = last.first;
  return r.first < r.end ? r : (span){0, 0};
}

static int64_t widest(const axis *a) { return a->k ? a->k : (a->n + a->to - 1) / a->to + 1; }

/* How many elements window i counts: padding too, but for what rounding up put behind it */
INLINE int64_t counted(const pool *p, const axis *a, int64_t i) {
  int64_t start = start_of(a, i), first = start < 0 ? -start : 0, end;
  if (a->k == 0) return a->to == 1 ? a->n : ((i + 1) * a->n + a->to - 1) / a->to - start;
  if (p->count) return least(a->k, a->n + a->p - start);
  end = least(a->k, a->n - start);
  return end > first ? end - first : 0;
}

/* What windows of row i are divided by */
INLINE void divisors(const pool *p, const columns *c, int64_t i, double *by) {
  double rows = p->divisor ? 1 : (double)counted(p, &p->y, i);
  for (int64_t k = 0; k < c->n; k++) {
    double all = p->divisor ? (double)p->divisor : rows * c->counted[k];
    by[k] = all != 0 ? all : 1;
  }
}

/* The element of its plane that the kept place of window k, o-th of all, stands for; -1: none */
INLINE int64_t element_of(const job *j, const columns *c, int64_t y0, int64_t o, int64_t k) {
  const axis *v = &j->p->y, *h = &j->p->x;
  int64_t y, x, a, b;
  if (j->wide) {
    int64_t at = ((const int64_t *)j->at)[o], width = widest(h);
    if (at < 0 || at >= widest(v) * width) return -1;
    a = at / width * v->d;
    b = at % width * h->d;
  } else {
    uint8_t at = ((const uint8_t *)j->at)[o];
    a = j->down[at];
    b = j->right[at];
    if (a < 0) return -1;
  }
  y = y0 + a;
  x = c->start[k] + b;
  return y < 0 || y >= v->n || x < 0 || x >= h->n ? -1 : y * h->n + x;
}

#define T float
#define PLACE int32_t
#include "cpu/pool.inc"
#define T double
#define PLACE int64_t
#include "cpu/pool.inc"

/* ---- all rows -------------------------------------------------------------------------------- */

bool pool_fits_bytes(const pool *p) { return widest(&p->y) * widest(&p->x) <= POOL_BYTE; }

static int64_t area(const pool *p) { return widest(&p->y) * widest(&p->x); }

static void settle(columns *c, const job *j, int64_t from) {
  const axis *h = &j->p->x;
  c->from = from;
  c->n = least(COLS, h->to - from);
  for (int64_t k = 0; k < c->n; k++) {
    span t = taps(h, from + k, c->start + k);
    c->first[k] = t.first;
    c->end[k] = t.end;
    c->counted[k] = (double)counted(j->p, h, from + k);
  }
  if (!j->taps) return;
  c->all = together(h, from, c->n);
  c->covered = true;
  for (int64_t b = 0; b < h->k; b++) {
    c->tap[b] = windows(h, b, from, c->n);
    if (c->tap[b].first < c->all.first || c->tap[b].end > c->all.end) c->covered = false;
  }
}

static void some_rows(const job *j, int64_t row, int64_t end) {
  columns c;
  const int64_t to = j->p->y.to;
  for (int64_t from = 0; from < j->p->x.to; from += COLS) {
    int64_t plane = row / to, i = row % to;
    settle(&c, j, from);
    for (int64_t r = row; r < end; r++) {
      j->fn(j, &c, plane, i);
      if (++i == to) i = 0, plane++;
    }
  }
}

static void rows_part(void *arg, int64_t part) {
  const job *j = arg;
  some_rows(j, part * j->some, least((part + 1) * j->some, j->planes * j->p->y.to));
}

static void planes_part(void *arg, int64_t part) {
  const job *j = arg;
  int64_t to = j->p->y.to, n = j->p->y.n * j->p->x.n * j->size;
  int64_t from = part * j->some, end = least(from + j->some, j->planes);
  memset((char *)j->y + from * n, 0, (end - from) * n);
  const axis *h = &j->p->x; /* what windows share is added to row by row */
  int64_t step = h->to > COLS && (h->k == 0 || (h->k - 1) * h->d >= h->s) ? 1 : (end - from) * to;
  for (int64_t row = from * to; row < end * to; row += step) some_rows(j, row, row + step);
}

/* x and y: of T; units of `cost` elements each */
static bool pool_all(ctx *c, const int64_t *attr, const view *x, const view *y, const view *at,
                     int what) {
  const pool *p = (const pool *)attr;
  bool by_plane = what == SPREAD || what == SCATTER;
  job j = {.p = p,
           .x = x->p,
           .y = y->p,
           .at = at ? at->p : NULL,
           .wide = at && at->dtype == I64,
           .taps = p->x.k && p->x.to >= FEW && area(p) <= SMALL_WINDOW && what <= SPREAD,
           .size = x->dtype == F32 ? sizeof(float) : sizeof(double)};
  j.fn = (x->dtype == F32 ? rows_float : rows_double)[what][j.taps];
  if (at && !j.wide)
    for (int64_t k = 0; k <= POOL_BYTE; k++) {
      int64_t width = widest(&p->x), down = k / width;
      j.down[k] = down < widest(&p->y) ? down * p->y.d : -1;
      j.right[k] = k % width * p->x.d;
    }
  const view *large = by_plane ? y : x;
  j.planes = large->size / (p->y.n * p->x.n);
  int64_t units = by_plane ? j.planes : j.planes * p->y.to;
  int64_t cost = (large->size + (by_plane ? x : y)->size * least(area(p), SMALL_WINDOW)) / units;
  j.some = PART / (cost + 1) + 1;
  par_for(c, (units + j.some - 1) / j.some, by_plane ? planes_part : rows_part, &j);
  return true;
}

bool cpu_max_pool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], out[1], MAX);
}
bool cpu_avg_pool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], NULL, AVG);
}
bool cpu_avg_unpool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], NULL, SPREAD);
}
bool cpu_max_unpool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], in[1], SCATTER);
}
bool cpu_max_pick(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], in[1], PICK);
}
