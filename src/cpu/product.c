/* product.c -- matrix products.
**
** The result is cut into tiles by the shape alone (where no bits hang on it, by the threads too), each
** computed by one thread from whole rows of a and whole columns of b: the number of threads cannot be
** seen. Vectors and small products are computed here, so that a first tiny product opens no library;
** the others, tile by tile, by OpenBLAS. Without it (or with lengths past its int) our own loop does
** them too. Which way is taken depends on shape and strides only.
*/
#define _GNU_SOURCE
#include "cpu/product.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
  LANES = 32,
  VECS = 4,
  DEEP = 64, /* of product.inc */
  /* multiplications: up to here OpenBLAS is not worth opening; a part for a thread; worth four tiles */
  BY_HAND = 1 << 15,
  PART = 1 << 18,
  LARGE = 1 << 19,
  SHORT = 1 << 8,  /* elements of a row that are read in one go, at least, */
  STRIP = 1 << 11, /* and at most where threads wait for some */
  AREA = 1 << 17   /* of a tile, where there are more than four: packing pays */
};

#define LEVELS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define T float
#include "cpu/product.inc"
#define T double
#include "cpu/product.inc"

/* ---- OpenBLAS, opened at first use ------------------------------------------------------------ */

typedef void sgemm_fn(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef void dgemm_fn(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a,
                      int lda, const double *b, int ldb, double beta, double *c, int ldc);
enum { ROWS = 101, PLAIN = 111, TRANSPOSED = 112 };

static sgemm_fn *sgemm;
static dgemm_fn *dgemm;
static void (*set_threads)(int);
static void *(*take_memory)(int);
static void (*give_memory)(void *);
static int (*omp_get)(void); /* of the OpenMP it runs on, if any: threads the caller may start */
static void (*omp_set)(int);

/* Debian's 0.3.21 takes processors younger than itself for the oldest and is ten times slower there:
** so it is told what to use, unless the user has. On AMD, too, SkylakeX is at least as fast as Zen. */
static void open_blas(void) {
  static const symbol symbols[] = {{"cblas_sgemm", &sgemm},
                                   {"cblas_dgemm", &dgemm},
                                   {"openblas_set_num_threads", &set_threads},
                                   {"blas_memory_alloc", &take_memory},
                                   {"blas_memory_free", &give_memory},
                                   {"omp_get_max_threads", &omp_get},
                                   {"omp_set_num_threads", &omp_set},
                                   {NULL, NULL}};
  static const char name[] = "OPENBLAS_CORETYPE";
  bool tell = !getenv(name) && cpu_level() > 2;
  if (tell) setenv(name, cpu_level() == 4 ? "SkylakeX" : "Haswell", 1);
  setenv("GOMP_SPINCOUNT", "10000", 0); /* as in threads.c: it may be first to bring libgomp */
  library_open("libopenblas.so.0", symbols);
  if (tell) unsetenv(name);
  int was = omp_get ? omp_get() : 1;
  if (set_threads) set_threads(1);
  if (omp_set) omp_set(was); /* which the line above has changed, too */
}

static bool is_room(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p != MAP_FAILED && munmap(p, bytes) == 0;
}

/* Each call takes one of its blocks of memory; where there is no address space for one it tries for ever.
** So it is opened where there is some, and no more calls are under way than have a block. */
enum { MB = 1 << 20, OPENED = 320, BLOCK = 128, MOST_BLOCKS = 64 };
static sem_t idle_blocks;

static bool have_blas(int threads) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static int blocks, tried;
  int calls = threads < MOST_BLOCKS ? threads : MOST_BLOCKS;
  pthread_mutex_lock(&lock);
  if (!tried && is_room((size_t)(OPENED + BLOCK) * MB)) {
    open_blas();
    sem_init(&idle_blocks, 0, 0);
  }
  bool have = sgemm && dgemm;
  if (have && calls > tried) {
    bool known = take_memory && give_memory;
    void *p[MOST_BLOCKS];
    int n = 0;
    for (; n < calls && (n == 0 || n < blocks || is_room((size_t)BLOCK * MB)); n++)
      p[n] = known ? take_memory(0) : NULL;
    for (int i = 0; i < n && known; i++) give_memory(p[i]);
    for (; blocks < n; blocks++) sem_post(&idle_blocks);
  }
  if (calls > tried) tried = calls;
  pthread_mutex_unlock(&lock);
  return have;
}

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
  bool blas;
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
    if (j->m == 1 && br == 1) dots_##T(n, k, b, bc, a, c);                                         \
    else if (j->m == 1) columns_##T(n, k, b, br, a, c);                                            \
    else if (j->n == 1 && ac == 1) dots_##T(m, k, a, ar, b, c);                                    \
    else if (j->n == 1) columns_##T(m, k, a, ac, b, c);                                            \
    else if (!j->blas) product_##T(m, n, k, a, ar, ac, b, br, bc, c, j->n, false);                 \
    else                                                                                           \
      gemm(ROWS, ac == 1 ? PLAIN : TRANSPOSED, bc == 1 ? PLAIN : TRANSPOSED, (int)m, (int)n,       \
           (int)k, 1, a, (int)(ac == 1 ? ar : ac), b, (int)(bc == 1 ? br : bc), 0, c, (int)j->n);  \
  }
TILE_OF(float, sgemm)
TILE_OF(double, dgemm)

static void part(void *arg, int64_t p) {
  const job *j = arg;
  int64_t u = p * j->group, end = least(u + j->group, j->batch * j->tiles);
  while (j->blas && sem_wait(&idle_blocks) != 0) {
  } /* a signal */
  for (; u < end; u++) {
    int64_t q = u / j->tiles, i0 = u % j->tiles / j->across * j->tm, j0 = u % j->across * j->tn;
    int64_t m = least(j->tm, j->m - i0), n = least(j->tn, j->n - j0);
    const char *a = matrix(j, &j->a, q) + i0 * j->a.row * j->bytes;
    const char *b = matrix(j, &j->b, q) + j0 * j->b.col * j->bytes;
    char *c = j->c + (q * j->m * j->n + i0 * j->n + j0) * j->bytes;
    if (j->t == F32) tile_float(j, m, n, (const float *)a, (const float *)b, (float *)c);
    else tile_double(j, m, n, (const double *)a, (const double *)b, (double *)c);
  }
  if (j->blas) sem_post(&idle_blocks);
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
  double each = (double)j->m * j->n * j->k;
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
  } else if (each > BY_HAND) {
    j->blas = j->m <= most && j->n <= most && j->k <= most && j->a.row <= most &&
              j->a.col <= most && j->b.row <= most && j->b.col <= most && have_blas(threads);
    if (each * j->batch >= LARGE) cut(j);
  }
  j->across = (j->n + j->tn - 1) / j->tn;
  j->tiles = (j->m + j->tm - 1) / j->tm * j->across;
  j->group = (int64_t)(PART / ((double)j->tm * j->tn * j->k)) + 1;
}

/* ---- of tiles, for those who cut their work themselves ------------------------------------------- */

/* Told 1, OpenBLAS does not start threads from this one; inside par_for's it never does. */
void tiles_begin(ctx *c, tiles *t) {
  t->blas = have_blas(c->threads);
  t->was = t->blas && omp_get && omp_set ? omp_get() : 0;
  if (t->was) omp_set(1);
}
void tiles_end(tiles *t) {
  if (t->was) omp_set(t->was);
}

void tiles_enter(const tiles *t) {
  while (t->blas && sem_wait(&idle_blocks) != 0) {
  } /* a signal */
}
void tiles_leave(const tiles *t) {
  if (t->blas) sem_post(&idle_blocks);
}

#define PRODUCT_OF(T, gemm)                                                                        \
  void tiles_##T(const tiles *t, int64_t m, int64_t n, int64_t k, const T *a, int64_t ar,          \
                 int64_t ac, const T *b, int64_t br, int64_t bc, T *c, int64_t ldc, bool add) {    \
    if (!t->blas || m * n * k <= BY_HAND) product_##T(m, n, k, a, ar, ac, b, br, bc, c, ldc, add); \
    else                                                                                           \
      gemm(ROWS, ac == 1 ? PLAIN : TRANSPOSED, bc == 1 ? PLAIN : TRANSPOSED, (int)m, (int)n,       \
           (int)k, 1, a, (int)(ac == 1 ? ar : ac), b, (int)(bc == 1 ? br : bc), add, c, (int)ldc); \
  }
PRODUCT_OF(float, sgemm)
PRODUCT_OF(double, dgemm)

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
           .c = y->p,
           .s = &y->s,
           .m = y->s.d[r - 2],
           .n = y->s.d[r - 1],
           .k = in[0]->s.d[in[0]->s.n - 1],
           .batch = 1};
  (void)attr;
  for (int i = 0; i < r - 2; i++) j.batch *= y->s.d[i];
  if (j.k == 0) return memset(y->p, 0, y->size * j.bytes), true;
  fits(in[0], &j.a);
  fits(in[1], &j.b);
  fold(&j);
  plan(&j, c->threads);
  tiles t = {0};
  if (j.blas) tiles_begin(c, &t);
  par_for(c, (j.batch * j.tiles + j.group - 1) / j.group, part, &j);
  tiles_end(&t);
  return true;
}
