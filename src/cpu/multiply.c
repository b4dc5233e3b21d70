/* multiply.c -- matrix products for tiles that are not large, and distances, of one instruction level.
**
** Compiled once for each x86-64 level, as window.c is, products and sums contracted where the level can.
** multiply.inc makes those of one dtype.
*/
#include <math.h>
#include <string.h>

#include "cpu/multiply.h"
#if !defined PLAIN_C
#include <immintrin.h>
#endif

/* Bytes of a vector; rows of the largest tiles of one and of two vectors. GET: the first n elements at p, the
** others 0, by a mask made once. */
#if defined __AVX512F__
enum { VB = 64, TALL = 8, WIDE = 12 };
#define MASK_float __mmask16
#define MASK_double __mmask8
#define MASK_OF(T, n) ((MASK(T))((1u << (n)) - 1))
#define GET_float(p, m) ((vec_float)_mm512_maskz_loadu_ps(m, p))
#define GET_double(p, m) ((vec_double)_mm512_maskz_loadu_pd(m, p))
#elif defined __AVX2__
enum { VB = 32, TALL = 8, WIDE = 6 };
static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
#define MASK_float __m256i
#define MASK_double __m256i
#define MASK_OF(T, n) _mm256_loadu_si256((const void *)((const char *)ones + VB - (n) * sizeof(T)))
#define GET_float(p, m) ((vec_float)_mm256_maskload_ps(p, m))
#define GET_double(p, m) ((vec_double)_mm256_maskload_pd(p, m))
#else
enum { VB = 16, TALL = 8, WIDE = 6 };
#define MASK_float int64_t
#define MASK_double int64_t
#define MASK_OF(T, n) (n)
#define GET_float(p, m) some_float(p, m)
#define GET_double(p, m) some_double(p, m)
#endif

enum {
  DEEP = 256,        /* of a run of additions */
  BLOCK = 192 << 10, /* bytes of a, so deep */
  LINES = 4,         /* vectors of a row at a time */
  FEW = 32,          /* rows that are not worth a copy of b, */
  NEAR = 1 << 13     /* nor is a b that stays in the first cache, so many elements */
};

#define NAME__(a, b) a##_##b
#define NAME_(a, b) NAME__(a, b)
#define NAME(a) NAME_(a, T)
#define MASK_(T) MASK_##T
#define MASK(T) MASK_(T)
#define GET NAME(GET)
#define FIRST NAME(FIRST)
#define SECOND NAME(SECOND)

/* Of two vectors of four, element by element in turn: the lower halves, the upper ones; for double those of
** even places, of odd ones, which is one instruction */
#define FIRST_float                                                                                \
  { 0, 4, 1, 5 }
#define SECOND_float                                                                               \
  { 2, 6, 3, 7 }
#define FIRST_double                                                                               \
  { 0, 4, 2, 6 }
#define SECOND_double                                                                              \
  { 1, 5, 3, 7 }

#define T float
#define INT int32_t
#include "cpu/multiply.inc"
#undef T
#undef INT
#define T double
#define INT int64_t
#include "cpu/multiply.inc"

/* ---- distances ------------------------------------------------------------------------------------ */

static void apart_tall(int64_t rows, ARGS) { tall_double(true, rows, GIVEN); }
static void apart_wide(int64_t rows, ARGS) { wide_double(true, rows, GIVEN); }
static void apart(SIDES) {
  static const tiles_double tiles = {apart_tall, apart_wide};
  runs_double(&tiles, SIDES_GIVEN);
}

enum { LANES = VB / sizeof(double) };

/* n squares become their roots. Were all of them in range? */
static bool roots(int64_t n, double *c) {
  int64_t out[LANES] = {0}, i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) {
      c[i + l] = sqrt(c[i + l]);
      out[l] |= !IS_DISTANCE(c[i + l]);
    }
  for (; i < n; i++) {
    c[i] = sqrt(c[i]);
    out[0] |= !IS_DISTANCE(c[i]);
  }
  for (int l = 1; l < LANES; l++) out[0] |= out[l];
  return !out[0];
}

/* Rows of w, x and c; the last of vecs vectors, from x, y and c on, has so many elements */
INLINE void pull_tile(int rows, int vecs, int64_t some, int64_t n, int64_t k, const double *w,
                      const double *x, const double *y, double *c, bool add) {
  MASK_double mask = MASK_OF(double, some);
  vec_double s[8], from[8], to[2];
#pragma GCC unroll 8
  for (int i = 0; i < rows * vecs; i++) {
    const int64_t at = i / vecs * k + i % vecs * LANES;
    const bool whole = i % vecs < vecs - 1;
    from[i] = whole ? (vec_double) * (const at_double *)(x + at) : GET_double(x + at, mask);
    s[i] = (vec_double){0};
    if (add) s[i] = whole ? (vec_double) * (const at_double *)(c + at) : GET_double(c + at, mask);
  }
  for (; n > 0; n--, w += rows, y += k) {
    if (vecs == 2) to[0] = *(const at_double *)y;
    to[vecs - 1] = GET_double(y + (vecs - 1) * LANES, mask);
#pragma GCC unroll 8
    for (int i = 0; i < rows * vecs; i++) s[i] += w[i / vecs] * (from[i] - to[i % vecs]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows * vecs; i++) {
    double *at = c + i / vecs * k + i % vecs * LANES;
    if (i % vecs < vecs - 1 || some == LANES) *(at_double *)at = s[i];
    else put_double(at, s[i], some);
  }
}

#define PULL_ROWS(rows)                                                                            \
  case rows:                                                                                       \
    if (cols > LANES) pull_tile(rows, 2, cols - LANES, n, k, w, x, y, c, add);                     \
    else pull_tile(rows, 1, cols, n, k, w, x, y, c, add);                                          \
    break;
static void pull_rows(int64_t rows, int64_t cols, int64_t n, int64_t k, const double *w,
                      const double *x, const double *y, double *c, bool add) {
  switch (rows) { PULL_ROWS(1) PULL_ROWS(2) PULL_ROWS(3) PULL_ROWS(4) }
}

/* So many columns of w at a time that two vectors of each row of y stay in the first cache, so many rows of w, copied
** tile by tile, that they stay in the second */
static void pull(int64_t m, int64_t n, int64_t k, const double *w, int64_t wrs, int64_t wcs,
                 const double *x, const double *y, double *c) {
  enum { TILE = 4, RUN = DEEP / 2, HIGH = BLOCK / RUN / sizeof(double) / TILE * TILE };
  double own[HIGH * RUN];
  bool add = false;
  for (int64_t run; n > 0; n -= run, w += run * wcs, y += run * k, add = true) {
    run = least(n, RUN);
    for (int64_t i = 0, high; i < m; i += high) {
      high = least(m - i, HIGH);
      double *to = own;
      for (int64_t t = i, rows; t < i + high; t += rows) {
        rows = least(i + high - t, TILE);
        for (int64_t q = 0; q < run; q++)
          for (int64_t r = 0; r < rows; r++) *to++ = w[(t + r) * wrs + q * wcs];
      }
      for (int64_t j = 0; j < k; j += 2 * LANES)
        for (int64_t t = i, rows; t < i + high; t += rows) {
          rows = least(i + high - t, TILE);
          pull_rows(rows, least(2 * LANES, k - j), run, k, own + (t - i) * run, x + t * k + j,
                    y + j, c + t * k + j, add);
        }
    }
  }
}

const multiply_kernels NAME_(mg_multiply, ISA) = {
    multiply_float, multiply_double, dots_float, dots_double, apart, roots, pull};
