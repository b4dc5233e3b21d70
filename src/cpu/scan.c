/* scan.c -- running values along an axis: y[i] from y[i - 1] and x[i].
**
** Rows do not know of each other, so that the number of threads cannot be seen. Up to COLS neighbouring
** columns are scanned at once; float32 is computed in double.
*/
#include <math.h>

#include "cpu/cpu.h"

/* Operands and results seen as (outer, n, inner) about the axis */
typedef struct scan {
  int op;
  dtype t;
  int64_t outer, n, inner;
  bool reverse;
  const void *x, *a;
  void *y;
  int64_t *at;
} scan;

enum { PART = 1 << 15, COLS = 64 };

/* One part: cols columns from element `at` on. In step, i counts the steps and k the columns; S is what
** a column carries along. */
#define SCAN(name, T, S, first, step)                                                              \
  INLINE void name##_##T##_cols(const scan *s, int64_t at, int64_t cols) {                         \
    int64_t by = s->reverse ? -s->inner : s->inner,                                                \
            begin = s->reverse ? (s->n - 1) * s->inner : 0;                                        \
    const T *x = (const T *)s->x + at + begin, *a = (const T *)s->a + at + begin;                  \
    T *y = (T *)s->y + at + begin;                                                                 \
    S run[COLS];                                                                                   \
    for (int64_t k = 0; k < cols; k++) run[k] = first;                                             \
    for (int64_t i = 0; i < s->n; i++, x += by, y += by, a += by)                                  \
      for (int64_t k = 0; k < cols; k++) step;                                                     \
    (void)a;                                                                                       \
  }                                                                                                \
  static void name##_##T(const scan *s, int64_t at, int64_t cols) {                                \
    if (cols == 1) name##_##T##_cols(s, at, 1);                                                    \
    else name##_##T##_cols(s, at, cols);                                                           \
  }

#define PROD(T, S) SCAN(prod, T, S, 1, y[k] = (T)(run[k] *= x[k]))
/* Between i - 1 and i lies a[i], whichever way one goes. It is of gradients: 0 absorbs. */
#define LINEAR(T)                                                                                  \
  SCAN(linear, T, double, 0,                                                                       \
       y[k] = (T)(run[k] = x[k] + (run[k] != 0 ? run[k] * a[s->reverse ? k + s->inner : k] : 0)))

/* log(exp(x[0]) + ... + exp(x[i])): the largest, and the sum of the others' share of it */
typedef struct {
  double max, sum;
} shares;
static inline double add_share(shares *r, double x) {
  if (x > r->max) {
    r->sum = r->sum * exp(r->max - x) + 1;
    r->max = x;
  } else if (x == r->max) r->sum += x > -INFINITY;
  else r->sum += exp(x - r->max);
  return r->max + log(r->sum);
}
#define LOGSUMEXP(T)                                                                               \
  SCAN(logsumexp, T, shares, ((shares){-INFINITY, 0}), y[k] = (T)add_share(&run[k], x[k]))

/* The largest or smallest, and where it stands; of equals the last. nan wins. */
#define CHOOSE(name, T, worse)                                                                     \
  static void name##_##T(const scan *s, int64_t at, int64_t cols) {                                \
    for (int64_t k = at; k < at + cols; k++) {                                                     \
      const T *x = (const T *)s->x + k;                                                            \
      T *y = (T *)s->y + k, best = *x;                                                             \
      int64_t *place = s->at + k, found = 1;                                                       \
      for (int64_t i = 0; i < s->n; i++, x += s->inner, y += s->inner, place += s->inner) {        \
        T v = *x;                                                                                  \
        if (best == best ? !(v worse best) : v != v) best = v, found = i + 1;                      \
        *y = best;                                                                                 \
        *place = found;                                                                            \
      }                                                                                            \
    }                                                                                              \
  }
#define MAX(T) CHOOSE(max, T, <)
#define MIN(T) CHOOSE(min, T, >)

// clang-format off
PROD(double, double) PROD(float, double) PROD(uint64_t, uint64_t) /* int64 wraps around */
LINEAR(double) LINEAR(float)
LOGSUMEXP(double) LOGSUMEXP(float)
MAX(double) MAX(float) MAX(int64_t) MAX(uint8_t)
MIN(double) MIN(float) MIN(int64_t) MIN(uint8_t)

typedef void scan_fn(const scan *s, int64_t at, int64_t cols);
// clang-format on

static scan_fn *const scans[NOP][NDTYPE] = {
    [OP_cumprod] = {prod_double, prod_float, prod_uint64_t},
    [OP_linear_scan] = {linear_double, linear_float},
    [OP_logcumsumexp] = {logsumexp_double, logsumexp_float},
    [OP_cummax] = {max_double, max_float, max_int64_t, max_uint8_t, max_uint8_t},
    [OP_cummin] = {min_double, min_float, min_int64_t, min_uint8_t, min_uint8_t},
};

static void scan_part(void *arg, int64_t part) {
  const scan *s = arg;
  int64_t across = (s->inner + COLS - 1) / COLS, col = part % across * COLS;
  int64_t at = part / across * s->n * s->inner + col;
  scans[s->op][s->t](s, at, least(COLS, s->inner - col));
}

bool cpu_scan(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int axis = (int)attr[1];
  scan s = {.op = (int)attr[0],
            .t = x->dtype,
            .outer = 1,
            .n = x->s.d[axis],
            .inner = 1,
            .reverse = attr[2],
            .x = x->p,
            .a = in[1] ? in[1]->p : x->p,
            .y = out[0]->p,
            .at = out[1] ? out[1]->p : NULL};
  for (int k = 0; k < axis; k++) s.outer *= x->s.d[k];
  for (int k = axis + 1; k < x->s.n; k++) s.inner *= x->s.d[k];
  int64_t parts = s.outer * ((s.inner + COLS - 1) / COLS);
  if (x->size >= PART) par_for(c, parts, scan_part, &s);
  else
    for (int64_t i = 0; i < parts; i++) scan_part(&s, i);
  return true;
}
