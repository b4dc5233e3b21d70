/* scan.c -- running values along an axis: y[i] from y[i - 1] and x[i].
**
** Rows do not know of each other, so that the number of threads cannot be seen. Up to COLS neighbouring
** columns are scanned at once; float32 is computed in double.
*/
#include "cpu/scan.h"

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
/* Between i - 1 and i lies a[i], whichever way one goes. */
#define LINEAR(T)                                                                                  \
  SCAN(linear, T, double, 0,                                                                       \
       y[k] = (T)(run[k] = x[k] + (i ? run[k] * a[s->reverse ? k + s->inner : k] : 0)))

// clang-format off
PROD(double, double) PROD(float, double) PROD(uint64_t, uint64_t) /* int64 wraps around */
LINEAR(double) LINEAR(float)

typedef void scan_fn(const scan *s, int64_t at, int64_t cols);
// clang-format on

static scan_fn *const scans[NOP][NDTYPE] = {
    [OP_cumprod] = {prod_double, prod_float, prod_uint64_t},
    [OP_linear_scan] = {linear_double, linear_float},
};

bool scan_known(int op, dtype t) { return scans[op][t]; }

static void scan_part(void *arg, int64_t part) {
  const scan *s = arg;
  int64_t across = (s->inner + COLS - 1) / COLS, col = part % across * COLS;
  int64_t at = part / across * s->n * s->inner + col;
  scans[s->op][s->t](s, at, least(COLS, s->inner - col));
}

void scan_run(ctx *c, const scan *s) {
  int64_t size = s->outer * s->n * s->inner;
  int64_t parts = size > 0 ? s->outer * ((s->inner + COLS - 1) / COLS) : 0;
  if (size >= PART) par_for(c, parts, scan_part, (void *)s);
  else
    for (int64_t i = 0; i < parts; i++) scan_part((void *)s, i);
}
