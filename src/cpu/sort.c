/* sort.c -- order along an axis: running sums and sorting.
**
** Rows do not know of each other, and a stable order is one alone: results cannot depend on threads.
*/
#include "cpu/cpu.h"

#include <string.h>

enum { PART = 1 << 15, SLOT = 1 << 11, COLS = 64, ROWS = 4, RUN = 12, FEW = 16 };

/* An array seen as (outer, n, inner) about the axis: outer * inner rows of n */
typedef struct {
  const void *from;
  void *to;
  dtype t;
  int64_t outer, n, inner;
  int64_t group;        /* running sums: rows in a part */
  bool descending;      /* sorting, down to here */
  int64_t first, count; /* what of the order is wanted */
  int64_t slots, row, width;
  struct item *x, *tmp;
} job;

static job about(const view *x, const view *r, int axis) {
  job j = {.from = x->p, .to = r->p, .t = x->dtype, .outer = 1, .n = x->s.d[axis], .inner = 1};
  for (int i = 0; i < axis; i++) j.outer *= x->s.d[i];
  for (int i = axis + 1; i < x->s.n; i++) j.inner *= x->s.d[i];
  return j;
}

/* ---- running sums --------------------------------------------------------------------------- */

/* Up to COLS neighbouring columns at once, or ROWS rows, one of which would wait for each of its additions;
** float32 is summed in double. */
#define CUMSUM(T, A)                                                                               \
  static void cumsum_##T(const job *j, int64_t at, int64_t cols) {                                 \
    const int64_t n = j->n;                                                                        \
    const T *x = (const T *)j->from + at;                                                          \
    T *y = (T *)j->to + at;                                                                        \
    A sum[COLS] = {0};                                                                             \
    if (j->inner == 1 && cols == ROWS)                                                             \
      for (int64_t i = 0; i < n; i++)                                                              \
        _Pragma("GCC unroll 4") for (int k = 0; k < ROWS; k++) y[k * n + i] =                      \
            (T)(sum[k] += x[k * n + i]);                                                           \
    else if (j->inner == 1)                                                                        \
      for (int64_t k = 0; k < cols; k++)                                                           \
        for (int64_t i = 0; i < n; i++) y[k * n + i] = (T)(sum[k] += x[k * n + i]);                \
    else                                                                                           \
      for (int64_t i = 0; i < j->n; i++, x += j->inner, y += j->inner)                             \
        _Pragma("omp simd") for (int64_t k = 0; k < cols; k++) y[k] = (T)(sum[k] += x[k]);         \
  }
CUMSUM(double, double)
CUMSUM(float, double)
CUMSUM(uint64_t, uint64_t)

static void cumsum_part(void *arg, int64_t part) {
  const job *j = arg;
  int64_t across = (j->inner + COLS - 1) / COLS, col = part % across * COLS;
  int64_t at = part / across * j->n * j->inner + col, cols = least(COLS, j->inner - col);
  if (j->inner == 1)
    at = part * j->group * j->n, cols = least(j->group, j->outer - part * j->group);
  if (j->t == F64) cumsum_double(j, at, cols);
  else if (j->t == F32) cumsum_float(j, at, cols);
  else cumsum_uint64_t(j, at, cols);
}

bool cpu_cumsum(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  job j = about(in[0], out[0], (int)attr[0]);
  int64_t parts = j.outer * ((j.inner + COLS - 1) / COLS);
  j.group = j.outer >= ROWS * c->threads ? ROWS : 1; /* few rows: each to a thread */
  if (j.inner == 1) parts = (j.outer + j.group - 1) / j.group;
  if (in[0]->size >= PART) par_for(c, parts, cumsum_part, &j);
  else
    for (int64_t i = 0; i < parts; i++) cumsum_part(&j, i);
  return true;
}

/* ---- sorting -------------------------------------------------------------------------------- */

/* Keys are unsigned and rise in the wanted order; nan counts as the largest. */
typedef struct item {
  uint64_t key;
  int64_t at;
} item;

static uint64_t key_of(const job *j, int64_t i) {
  uint64_t key;
  const uint64_t sign = (uint64_t)1 << 63;
  if (is_float(j->t)) {
    double f = (j->t == F64 ? ((const double *)j->from)[i] : ((const float *)j->from)[i]) + 0.0;
    if (f != f) return j->descending ? 0 : UINT64_MAX;
    memcpy(&key, &f, sizeof key); /* + 0.0: -0 equals 0 */
    key = key & sign ? ~key : key | sign;
  } else {
    key = j->t == I64 ? ((const uint64_t *)j->from)[i] ^ sign : ((const uint8_t *)j->from)[i];
  }
  return j->descending ? ~key : key;
}

static inline bool before(const item *a, const item *b) {
  return a->key != b->key ? a->key < b->key : a->at < b->at;
}

/* Does a go behind b, which stands behind it? mixed: equal ones are not in the order of their places */
static inline bool behind(const item *a, const item *b, bool mixed) {
  return mixed ? before(b, a) : b->key < a->key;
}

INLINE void merge(const item *a, const item *amid, const item *end, item *out, bool mixed) {
  const item *b = amid;
  if (b < end && behind(b - 1, b, mixed)) /* else they are in order as they stand */
    while (a < amid && b < end) {
      bool right = behind(a, b, mixed);
      *out++ = *(right ? b : a);
      b += right;
      a += !right;
    }
  memcpy(out, a, (char *)amid - (char *)a);
  memcpy(out + (amid - a), b, (char *)end - (char *)b);
}

/* Sort x; tmp is of the same size. Which of the two the result stands in is returned. */
INLINE item *sort_by(item *x, item *tmp, int64_t n, bool mixed) {
  for (int64_t lo = 0; lo < n; lo += RUN)
    for (int64_t i = lo + 1; i < least(lo + RUN, n); i++) {
      item v = x[i];
      int64_t k = i;
      for (; k > lo && behind(&x[k - 1], &v, mixed); k--) x[k] = x[k - 1];
      x[k] = v;
    }
  for (int64_t w = RUN; w < n; w *= 2) {
    for (int64_t lo = 0; lo < n; lo += 2 * w)
      merge(x + lo, x + least(lo + w, n), x + least(lo + 2 * w, n), tmp + lo, mixed);
    item *t = x;
    x = tmp;
    tmp = t;
  }
  return x;
}

static item *sort(item *x, item *tmp, int64_t n) { return sort_by(x, tmp, n, false); }
static item *sort_mixed(item *x, item *tmp, int64_t n) { return sort_by(x, tmp, n, true); }

/* What is k-th in order to its place, what goes before it before it: quickselect, by medians of three. No two
** are equal. False: it would take long */
static bool bring(item *x, int64_t n, int64_t k) {
  int64_t lo = 0, hi = n - 1;
  for (int64_t most = 8 * n; lo < hi; most -= hi - lo) {
    if (most < 0) return false;
    item *a = x + lo, *b = x + lo + (hi - lo) / 2, *c = x + hi;
    const item v = before(a, b) ? *(before(b, c)   ? b
                                    : before(a, c) ? c
                                                   : a)
                                : *(before(a, c)   ? a
                                    : before(b, c) ? c
                                                   : b);
    int64_t i = lo, j = hi;
    while (i <= j) {
      while (before(&x[i], &v)) i++;
      while (before(&v, &x[j])) j--;
      if (i > j) break;
      item t = x[i];
      x[i++] = x[j];
      x[j--] = t;
    }
    if (k <= j) hi = j;
    else if (k >= i) lo = i;
    else break;
  }
  return true;
}

/* The first few of n in order, to the front of x */
static void bring_few(item *x, int64_t n, int64_t few) {
  for (int64_t i = 1; i < n; i++) {
    if (i >= few && x[i].key >= x[few - 1].key) continue;
    item v = x[i];
    int64_t k = least(i, few - 1);
    for (; k > 0 && x[k - 1].key > v.key; k--) x[k] = x[k - 1];
    x[k] = v;
  }
}

/* Where those that are wanted stand in order, from the first on */
static const item *wanted(const job *j, item *x, item *tmp) {
  const int64_t n = j->n, first = j->first, count = j->count;
  if (count == 0) return x;
  if (first + count <= FEW) return bring_few(x, n, first + count), x + first;
  if (count > n / 2) return sort(x, tmp, n) + first;
  if (bring(x, n, first) && (count == 1 || bring(x + first, n - first, count - 1)))
    return sort_mixed(x + first, tmp, count);
  return sort_mixed(x, tmp, n) + first;
}

static int64_t row_start(const job *j, int64_t row) {
  return row / j->inner * j->n * j->inner + row % j->inner;
}

static void put_row(const job *j, int64_t row, const item *x) {
  int64_t *to = (int64_t *)j->to + row / j->inner * j->count * j->inner + row % j->inner;
  for (int64_t i = 0; i < j->count; i++) to[i * j->inner] = x[i].at + 1;
}

/* Short rows: every slots-th one, in scratch of its own. */
static void rows_part(void *arg, int64_t slot) {
  const job *j = arg;
  item *x = j->x + slot * j->n, *tmp = j->tmp + slot * j->n;
  for (int64_t row = slot; row < j->outer * j->inner; row += j->slots) {
    for (int64_t i = 0, at = row_start(j, row); i < j->n; i++, at += j->inner)
      x[i] = (item){key_of(j, at), i};
    put_row(j, row, wanted(j, x, tmp));
  }
}

/* A long row: sorted in blocks, which are then merged two by two. */
static void block_part(void *arg, int64_t block) {
  const job *j = arg;
  int64_t lo = block * PART, n = least(PART, j->n - lo), at = row_start(j, j->row);
  item *x = j->x + lo;
  for (int64_t i = 0; i < n; i++) x[i] = (item){key_of(j, at + (lo + i) * j->inner), lo + i};
  item *sorted = sort(x, j->tmp + lo, n);
  if (sorted != x) memcpy(x, sorted, n * sizeof *x);
}

static void merge_part(void *arg, int64_t k) {
  const job *j = arg;
  int64_t lo = 2 * k * j->width, mid = least(lo + j->width, j->n),
          end = least(mid + j->width, j->n);
  merge(j->x + lo, j->x + mid, j->x + end, j->tmp + lo, false);
}

static void sort_long(ctx *c, job *j) {
  par_for(c, (j->n + PART - 1) / PART, block_part, j);
  for (j->width = PART; j->width < j->n; j->width *= 2) {
    par_for(c, (j->n + 2 * j->width - 1) / (2 * j->width), merge_part, j);
    item *t = j->x;
    j->x = j->tmp;
    j->tmp = t;
  }
  put_row(j, j->row, j->x + j->first);
}

bool cpu_ranks(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  job j = about(in[0], out[0], (int)attr[0]);
  int64_t rows = j.outer * j.inner; /* scratch for about 4 PART, a slot of SLOT at least */
  j.descending = attr[1];
  j.first = attr[2];
  j.count = out[0]->s.d[attr[0]];
  const bool by_blocks = j.n > PART && j.count > j.n / 2;
  if (by_blocks) j.slots = 1;
  else if (j.n > PART) j.slots = least(rows, c->threads);
  else j.slots = least(rows, 1 + least(rows * j.n / SLOT, 4 * PART / j.n));
  buffer *b = buf_new(c, 2 * j.slots * j.n * sizeof(item));
  if (!b) return false;
  j.x = b->p;
  j.tmp = j.x + j.slots * j.n;
  if (!by_blocks) par_for(c, j.slots, rows_part, &j);
  else
    for (j.row = 0; j.row < rows; j.row++) sort_long(c, &j);
  buf_unref(b);
  return true;
}
