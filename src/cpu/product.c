/* product.c -- matrix products, and distances of all rows from all columns, which are computed like them.
**
** The result is cut into tiles by the shape alone (where no bits hang on it, by the threads too), each
** computed by one thread from whole rows of a and whole columns of b: the number of threads cannot be
** seen. Small tiles are multiply.c's, which is quicker there, and a first tiny product opens no library;
** large ones OpenBLAS's. Without it (or with lengths past its int) they are multiply.c's, too. Vectors have
** loops of their own. Which way is taken depends on shape and strides only. Distances, of float64 alone,
** are never BLAS's.
*/
#include <limits.h>
#include <math.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/multiply.h"
#include "cpu/product.h"

enum {
  /* multiplications: of a tile, so many are done here; a part for a thread; worth four tiles */
  BY_HAND = 1 << 22,
  PART = 1 << 18,
  LARGE = 1 << 19,
  SHORT = 1 << 8,  /* elements of a row that are read in one go, at least, */
  STRIP = 1 << 11, /* and at most where threads wait for some */
  PULLED = 192,    /* rows at a time that are pulled at */
  AREA = 1 << 17   /* of a tile, where there are more than four: packing pays */
};

#define T float
#include "cpu/product.inc"
#define T double
#include "cpu/product.inc"

static const multiply_kernels *kernels(void) { return OF_LEVEL(mg_multiply); }

/* ---- operands --------------------------------------------------------------------------------- */

typedef struct {
  const view *x;
  const char *p;
  int64_t row, col; /* strides of the last two axes, one of them 1: as BLAS reads it */
} side;

/* Strides that say nothing (of an axis of length 1) are made to fit. */
static bool fits(const view *x, side *s) {
  int64_t rows = x->s.d[x->s.n - 2], cols = x->s.d[x->s.n - 1];
  s->x = x;
  s->p = x->p;
  s->row = x->stride[x->s.n - 2];
  s->col = x->stride[x->s.n - 1];
  if (rows == 1) s->row = s->col == 1 ? cols : 1;
  if (cols == 1) s->col = s->row == 1 ? rows : 1;
  return (s->col == 1 && s->row >= cols) || (s->row == 1 && s->col >= rows);
}

/* A vector must be dense besides. */
bool cpu_matmul_reads(const view *v, bool vector) {
  int64_t dense = v->s.d[v->s.n - 2] == 1 ? v->stride[v->s.n - 1] : v->stride[v->s.n - 2];
  side s;
  return fits(v, &s) && !(vector && dense != 1);
}

/* ---- the product ------------------------------------------------------------------------------ */

typedef struct {
  dtype t;
  int bytes;
  bool blas, apart; /* apart: the result are distances */
  side a, b;
  char *c;
  const shape *s; /* of the result */
  int64_t m, n, k, batch;
  int64_t tm, tn, across, tiles, group; /* a tile; tiles in a row, in a product; in a part */
} job;

/* Where product q of the batch has its matrix in x */
static const char *matrix(const job *j, const side *x, int64_t q) {
  int64_t off = 0;
  for (int i = j->s->n - 3; i >= 0; i--) {
    if (x->x->s.d[i] != 1) off += q % j->s->d[i] * x->x->stride[i];
    q /= j->s->d[i];
  }
  return x->p + off * j->bytes;
}

#define TILE_OF(T, gemm)                                                                           \
  static void tile_##T(const job *j, int64_t m, int64_t n, const T *a, const T *b, T *c) {         \
    int64_t k = j->k, ar = j->a.row, ac = j->a.col, br = j->b.row, bc = j->b.col;                  \
    if (j->m == 1 && br == 1) kernels()->dots_##T(n, k, b, bc, a, c);                              \
    else if (j->m == 1) columns_##T(n, k, b, br, a, c);                                            \
    else if (j->n == 1 && ac == 1) kernels()->dots_##T(m, k, a, ar, b, c);                         \
    else if (j->n == 1) columns_##T(m, k, a, ac, b, c);                                            \
    else if (!j->blas) kernels()->of_##T(m, n, k, a, ar, ac, b, br, bc, c, j->n, false);           \
    else                                                                                           \
      gemm(ROWS, ac == 1 ? PLAIN : TRANSPOSED, bc == 1 ? PLAIN : TRANSPOSED, (int)m, (int)n,       \
           (int)k, 1, a, (int)(ac == 1 ? ar : ac), b, (int)(bc == 1 ? br : bc), 0, c, (int)j->n);  \
  }
TILE_OF(float, blas_sgemm)
TILE_OF(double, blas_dgemm)

/* A distance whose square is out of range, or 0 */
static double length(int64_t k, const double *a, int64_t ac, const double *b, int64_t br) {
  double top = 0, s = 0;
  int e;
  for (int64_t i = 0; i < k; i++) {
    double d = fabs(a[i * ac] - b[i * br]);
    if (!(d <= top)) top = d;
    if (isnan(d)) return d;
  }
  if (top == 0 || isinf(top)) return top;
  frexp(top, &e);
  for (int64_t i = 0; i < k; i++) {
    double d = ldexp(a[i * ac] - b[i * br], -e);
    s += d * d;
  }
  return ldexp(sqrt(s), e);
}

static void tile_apart(const job *j, int64_t m, int64_t n, const double *a, const double *b,
                       double *c) {
  kernels()->apart(m, n, j->k, a, j->a.row, j->a.col, b, j->b.row, j->b.col, c, j->n, false);
  for (int64_t i = 0; i < m; i++, a += j->a.row, c += j->n) {
    if (kernels()->roots(n, c)) continue;
    for (int64_t l = 0; l < n; l++)
      if (!IS_DISTANCE(c[l])) c[l] = length(j->k, a, j->a.col, b + l * j->b.col, j->b.row);
  }
}

static void part(void *arg, int64_t p) {
  const job *j = arg;
  int64_t u = p * j->group, end = least(u + j->group, j->batch * j->tiles);
  if (j->blas) blas_begin();
  for (; u < end; u++) {
    int64_t q = u / j->tiles, i0 = u % j->tiles / j->across * j->tm, j0 = u % j->across * j->tn;
    int64_t m = least(j->tm, j->m - i0), n = least(j->tn, j->n - j0);
    const char *a = matrix(j, &j->a, q) + i0 * j->a.row * j->bytes;
    const char *b = matrix(j, &j->b, q) + j0 * j->b.col * j->bytes;
    char *c = j->c + (q * j->m * j->n + i0 * j->n + j0) * j->bytes;
    if (j->apart) tile_apart(j, m, n, (const double *)a, (const double *)b, (double *)c);
    else if (j->t == F32) tile_float(j, m, n, (const float *)a, (const float *)b, (float *)c);
    else tile_double(j, m, n, (const double *)a, (const double *)b, (double *)c);
  }
  if (j->blas) blas_end();
}

/* Many rows against one matrix are one product: (.., m, k) by a broadcast (k, n) */
static void fold(job *j) {
  int64_t step = j->a.row * j->m;
  if (j->a.col != 1) return;
  for (int i = j->s->n - 3; i >= 0; i--) {
    int64_t d = j->s->d[i];
    if (d == 1) continue;
    if (j->b.x->s.d[i] != 1 && j->b.x->stride[i] != 0) return;
    if (j->a.x->s.d[i] == 1 || j->a.x->stride[i] != step) return;
    step *= d;
  }
  j->m *= j->batch;
  j->batch = 1;
}

/* Halve the longer side until there are enough tiles for all of the batch to keep four threads busy,
** more where they stay large. Lengths are multiples of 16, for the kernels. */
static void cut(job *j) {
  int64_t down = 1, across = 1, want = j->m * j->n / AREA;
  if (want > 64) want = 64;
  if (want < 4) want = 4;
  want = (want + j->batch - 1) / j->batch;
  while (down * across < want && (j->tm >= 32 || j->tn >= 32))
    if (j->tm > j->tn) j->tm = ((j->m + 2 * down - 1) / (2 * down) + 15) / 16 * 16, down *= 2;
    else j->tn = ((j->n + 2 * across - 1) / (2 * across) + 15) / 16 * 16, across *= 2;
}

static void plan(job *j, int threads) {
  const int64_t most = INT_MAX;
  const double each = (double)j->m * j->n * j->k;
  j->tm = j->m;
  j->tn = j->n;
  if (j->m == 1 || j->n == 1) {
    bool dense = j->m == 1 ? j->b.row == 1 : j->a.col == 1;
    int64_t len = (PART / j->k + 64) / 64 * 64;
    if (!dense) { /* pieces of rows, each element by itself: the longer, the quicker */
      int64_t share = (j->m * j->n / threads + 64) / 64 * 64;
      int64_t piece = share < SHORT ? SHORT : least(share, STRIP);
      if (len < piece) len = piece;
    }
    if (j->m == 1) j->tn = least(j->n, len);
    else j->tm = least(j->m, len);
  } else {
    if (each * j->batch >= LARGE) cut(j);
    j->blas = !j->apart && (double)j->tm * j->tn * j->k > BY_HAND && j->m <= most && j->n <= most &&
              j->k <= most && j->a.row <= most && j->a.col <= most && j->b.row <= most &&
              j->b.col <= most && blas_open(threads);
  }
  j->across = (j->n + j->tn - 1) / j->tn;
  j->tiles = (j->m + j->tm - 1) / j->tm * j->across;
  j->group = (int64_t)(PART / ((double)j->tm * j->tn * j->k)) + 1;
}

/* ---- of tiles, for those who cut their work themselves ------------------------------------------- */

void tiles_begin(ctx *c, tiles *t, int64_t largest) {
  t->blas = largest > BY_HAND && blas_open(c->threads);
  t->was = t->blas ? blas_alone() : 0;
}
void tiles_end(tiles *t) { blas_restore(t->was); }

void tiles_enter(const tiles *t) {
  if (t->blas) blas_begin();
}
void tiles_leave(const tiles *t) {
  if (t->blas) blas_end();
}

#define PRODUCT_OF(T, gemm)                                                                        \
  void tiles_##T(const tiles *t, int64_t m, int64_t n, int64_t k, const T *a, int64_t ar,          \
                 int64_t ac, const T *b, int64_t br, int64_t bc, T *c, int64_t ldc, bool add) {    \
    if (!t->blas || m * n * k <= BY_HAND)                                                          \
      kernels()->of_##T(m, n, k, a, ar, ac, b, br, bc, c, ldc, add);                               \
    else                                                                                           \
      gemm(ROWS, ac == 1 ? PLAIN : TRANSPOSED, bc == 1 ? PLAIN : TRANSPOSED, (int)m, (int)n,       \
           (int)k, 1, a, (int)(ac == 1 ? ar : ac), b, (int)(bc == 1 ? br : bc), add, c, (int)ldc); \
  }
PRODUCT_OF(float, blas_sgemm)
PRODUCT_OF(double, blas_dgemm)

/* ---- whole numbers: both dense, sums wrap around --------------------------------------------------- */

typedef struct {
  const uint64_t *a, *b;
  uint64_t *c;
  int64_t rows, m, n, k, group; /* rows of all matrices; of one; in a part */
} whole;

static void whole_part(void *arg, int64_t part) {
  const whole *w = arg;
  int64_t r = part * w->group, end = least(r + w->group, w->rows);
  for (; r < end; r++) {
    const uint64_t *a = w->a + r * w->k, *b = w->b + r / w->m * w->k * w->n;
    uint64_t *c = w->c + r * w->n;
    memset(c, 0, w->n * sizeof *c);
    for (int64_t i = 0; i < w->k; i++, b += w->n)
      for (int64_t j = 0; j < w->n; j++) c[j] += a[i] * b[j];
  }
}

bool cpu_matmul_whole(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *y = out[0];
  int r = y->s.n;
  whole w = {in[0]->p, in[1]->p, y->p, .m = y->s.d[r - 2], .n = y->s.d[r - 1]};
  (void)attr;
  w.k = in[0]->s.d[r - 1];
  w.rows = y->size / w.n;
  w.group = (int64_t)(PART / ((double)w.n * w.k + 1)) + 1;
  par_for(c, (w.rows + w.group - 1) / w.group, whole_part, &w);
  return true;
}

/* ---- floats ------------------------------------------------------------------------------------------ */

bool cpu_matmul(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *y = out[0];
  int r = y->s.n;
  job j = {.t = y->dtype,
           .bytes = dtype_size[y->dtype],
           .apart = attr[0],
           .c = y->p,
           .s = &y->s,
           .m = y->s.d[r - 2],
           .n = y->s.d[r - 1],
           .k = in[0]->s.d[in[0]->s.n - 1],
           .batch = 1};
  for (int i = 0; i < r - 2; i++) j.batch *= y->s.d[i];
  if (j.k == 0) return memset(y->p, 0, y->size * j.bytes), true;
  fits(in[0], &j.a);
  fits(in[1], &j.b);
  fold(&j);
  plan(&j, c->threads);
  int was = j.blas ? blas_alone() : 0;
  par_for(c, (j.batch * j.tiles + j.group - 1) / j.group, part, &j);
  blas_restore(was);
  return true;
}

/* ---- what distances pull at ------------------------------------------------------------------------- */

typedef struct {
  job w;
  const double *x, *y;
  double *c;
} pulling;

static void pull_part(void *arg, int64_t p) {
  const pulling *j = arg;
  const job *w = &j->w;
  int64_t q = p / w->tiles, i = p % w->tiles * w->tm, row = q * w->m + i;
  const double *of = (const double *)matrix(w, &w->a, q) + i * w->a.row;
  kernels()->pull(least(w->tm, w->m - i), w->n, w->k, of, w->a.row, w->a.col, j->x + row * w->k,
                  j->y + q * w->n * w->k, j->c + row * w->k);
}

bool cpu_pull(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *y = in[2], *r = out[0];
  int n = r->s.n;
  pulling j = {{.bytes = sizeof(double),
                .s = &r->s,
                .m = r->s.d[n - 2],
                .n = y->s.d[n - 2],
                .k = r->s.d[n - 1]},
               in[1]->p,
               y->p,
               r->p};
  job *w = &j.w;
  (void)attr;
  if (w->n == 0) return memset(r->p, 0, r->size * sizeof(double)), true;
  fits(in[0], &w->a);
  /* no less than what pays for a thread; a block of the kernel's, where all threads find some */
  const int64_t share = r->size / w->k / (2 * c->threads),
                pays = (int64_t)(PART / ((double)w->n * w->k + 1));
  w->tm = (share < pays ? pays : least(share, PULLED)) / 4 * 4 + 4;
  w->tiles = (w->m + w->tm - 1) / w->tm;
  par_for(c, r->size / (w->m * w->k) * w->tiles, pull_part, &j);
  return true;
}
