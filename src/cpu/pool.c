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

typedef struct rows rows;
typedef struct job {
  const pool *p;
  const rows *fn;
  const void *x;
  void *y, *at;
  bool wide; /* at: int64, not bytes */
  int what;  /* of fn */
  int64_t planes, some;
  int64_t down[POOL_BYTE + 1], right[POOL_BYTE + 1]; /* by bytes of `at`, from tap 0; -1: none */
} job;

enum { MAX, AVG, SPREAD, SCATTER = 0, PICK };
struct rows {
  void (*by_taps[3])(const job *j, int64_t row, int64_t from, int64_t n);
  void (*by_window[3])(const job *j, int64_t row, int64_t k);
  void (*by_place[2])(const job *j, int64_t row);
};

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

/* What window (i, k) is divided by, for k = from..from + n - 1 */
INLINE void divisors(const pool *p, int64_t i, int64_t from, int64_t n, double *by) {
  int64_t rows = p->divisor ? 1 : counted(p, &p->y, i);
  for (int64_t k = 0; k < n; k++) {
    int64_t all = p->divisor ? p->divisor : rows * counted(p, &p->x, from + k);
    by[k] = all ? (double)all : 1;
  }
}

static double divisor(const pool *p, int64_t i, int64_t k) {
  double by;
  divisors(p, i, k, 1, &by);
  return by;
}

/* The element of its plane that the kept place of window k stands for; -1: none */
INLINE int64_t element_of(const job *j, int64_t row, int64_t k) {
  const axis *v = &j->p->y, *h = &j->p->x;
  int64_t o = row * h->to + k, y, x, a, b;
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
  y = start_of(v, row % v->to) + a;
  x = start_of(h, k) + b;
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

static void some_rows(const job *j, int64_t row, int64_t end) {
  int64_t n = j->p->x.to;
  bool taps = j->p->x.k && n >= FEW && area(j->p) <= SMALL_WINDOW;
  for (; row < end; row++)
    if (taps)
      for (int64_t k = 0; k < n; k += COLS) j->fn->by_taps[j->what](j, row, k, least(COLS, n - k));
    else
      for (int64_t k = 0; k < n; k++) j->fn->by_window[j->what](j, row, k);
}

static void rows_part(void *arg, int64_t part) {
  const job *j = arg;
  some_rows(j, part * j->some, least((part + 1) * j->some, j->planes * j->p->y.to));
}

static void planes_part(void *arg, int64_t part) {
  const job *j = arg;
  int64_t to = j->p->y.to, n = j->p->y.n * j->p->x.n * (j->fn == &rows_float ? 4 : 8);
  for (int64_t k = part * j->some; k < least((part + 1) * j->some, j->planes); k++) {
    memset((char *)j->y + k * n, 0, n);
    if (j->at)
      for (int64_t row = k * to; row < (k + 1) * to; row++) j->fn->by_place[SCATTER](j, row);
    else some_rows(j, k * to, (k + 1) * to);
  }
}

static void pick_part(void *arg, int64_t part) {
  const job *j = arg;
  int64_t end = least((part + 1) * j->some, j->planes * j->p->y.to);
  for (int64_t row = part * j->some; row < end; row++) j->fn->by_place[PICK](j, row);
}

/* x and y: of T; units of `cost` elements each */
static bool pool_all(ctx *c, const int64_t *attr, const view *x, const view *y, const view *at,
                     int what, void body(void *, int64_t), bool by_plane) {
  const pool *p = (const pool *)attr;
  job j = {.p = p,
           .fn = x->dtype == F32 ? &rows_float : &rows_double,
           .x = x->p,
           .y = y->p,
           .at = at ? at->p : NULL,
           .wide = at && at->dtype == I64,
           .what = what};
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
  par_for(c, (units + j.some - 1) / j.some, body, &j);
  return true;
}

bool cpu_max_pool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], out[1], MAX, rows_part, false);
}
bool cpu_avg_pool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], NULL, AVG, rows_part, false);
}
bool cpu_avg_unpool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], NULL, SPREAD, planes_part, true);
}
bool cpu_max_unpool(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], in[1], SCATTER, planes_part, true);
}
bool cpu_max_pick(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return pool_all(c, attr, in[0], out[0], in[1], PICK, pick_part, false);
}
