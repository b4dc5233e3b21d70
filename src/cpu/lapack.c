/* lapack.c -- linear algebra on batches of matrices, by LAPACK.
**
** Small factors and triangles are done here; what is LAPACK's is done by one serial call for each matrix,
** or for a fixed part of its right-hand sides; matrices and parts are dealt over the threads, so that the
** number of threads cannot be seen. Matrices lie by rows, and LAPACK is told of the transpose: the lower
** factor is its upper one, A = QR its L Q.
** Of several matrices that fail the first is named.
*/
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/op.h"
#include "cpu/blas.h"
#include "cpu/cpu.h"

enum {
  WORTH = 1 << 18, /* multiplications that make a part; */
  CALL = 1 << 13,  /* what the calls for a matrix take beside them */
  SMALL_SIDE = 16, /* up to here factors and triangles are done here */
  SIDES = 64,      /* right-hand sides that are solved together, at least */
  BLOCK = 48       /* of rows, where we cut a matrix */
};

typedef struct task task;
struct task {
  const view *const *in, *const *out;
  const int64_t *attr;
  int64_t m, n, k;      /* rows and columns of a matrix, right-hand sides or what else counts */
  int64_t units, group; /* matrices or their parts; of these, those that one thread does in a row */
  int64_t parts;        /* of a matrix */
  double each;          /* multiplications of a unit */
  size_t room;          /* bytes that a thread works in */
  void (*unit)(task *t, int64_t u, char *work);
  char *work;
  _Atomic uint64_t bad; /* the first unit that failed << 32 | LAPACK's info; ~0: none */
};

static void failed(task *t, int64_t unit, int info) {
  uint64_t mine = (uint64_t)unit << 32 | (uint32_t)info, was = atomic_load(&t->bad);
  while (mine < was && !atomic_compare_exchange_weak(&t->bad, &was, mine)) {
  }
}

static void task_part(void *arg, int64_t part) {
  task *t = arg;
  int64_t u = part * t->group, end = least(u + t->group, t->units);
  char *work = t->work + (size_t)par_worker() * t->room;
  blas_begin();
  for (; u < end; u++) t->unit(t, u, work);
  blas_end();
}

static int64_t matrices(const view *v, int last) {
  int64_t n = 1;
  for (int i = 0; i < v->s.n - last; i++) n *= v->s.d[i];
  return n;
}

/* Does all units; false: for want of memory, or of the library. */
static bool run(ctx *c, const char *name, task *t) {
  t->bad = ~(uint64_t)0;
  if (!t->parts) t->parts = 1;
  t->units *= t->parts;
  if (t->units == 0) return true;
  if (t->m > INT_MAX || t->n > INT_MAX || t->k > INT_MAX || t->units > INT_MAX)
    return fail(c, "%s: more than 2^31 - 1 rows, columns or matrices", name);
  if (!lapack_open(c->threads))
    return fail(
        c,
        "%s: needs LAPACK, which libopenblas.so.0 holds: it is not there, is without it, has "
        "integers of 64 bits, or found no memory at first",
        name);
  t->group = (int64_t)(WORTH / (t->each + CALL)) + 1;
  int64_t parts = (t->units + t->group - 1) / t->group;
  t->room = (t->room + 63) / 64 * 64;
  buffer *b = buf_new(c, t->room * least(parts, c->threads));
  if (!b) return false;
  t->work = b->p;
  int was = blas_alone();
  par_for(c, parts, task_part, t);
  blas_restore(was);
  buf_unref(b);
  return true;
}

/* "A (3, 3)" or "matrix 2 of A (4, 3, 3)": the one that failed */
static const char *which(const task *t, const char *name, const view *x, char text[192]) {
  char dims[128];
  shape_text(&x->s, dims);
  if (t->units == t->parts) print_text(text, 192, "%s %s", name, dims);
  else
    print_text(text, 192, "matrix %lld of %s %s", (long long)((t->bad >> 32) / t->parts + 1), name,
               dims);
  return text;
}

/* Where matrix (or, of pivots and diagonals, vector) q of v begins, in elements from the first; of the last
** `last` axes none counts. Broadcast axes have stride 0. */
static int64_t offset_of(const view *v, int64_t q, int last) {
  int64_t off = 0;
  for (int i = v->s.n - 1 - last; i >= 0; i--) {
    off += q % v->s.d[i] * (v->s.d[i] == 1 ? 0 : v->stride[i]);
    q /= v->s.d[i];
  }
  return off;
}

/* A matrix that LAPACK reads where it lies: the transpose of one with this distance of rows, or itself */
typedef struct {
  bool turned; /* columns are dense: LAPACK sees the matrix itself */
  int ld;
} layout;

static layout layout_of(const view *v) {
  int64_t rows = v->s.d[v->s.n - 2], cols = v->s.d[v->s.n - 1];
  int64_t row = v->stride[v->s.n - 2], col = v->stride[v->s.n - 1];
  bool dense_rows = cols == 1 || col == 1;
  bool turned = !(dense_rows && (rows == 1 || row >= cols));
  int64_t ld = turned ? (cols == 1 ? rows : col) : (rows == 1 ? cols : row);
  return (layout){turned, (int)ld};
}

enum { NOT_FINITE = INT_MAX }; /* beside what LAPACK gives as info */

/* Of a triangle, as LAPACK is told: `upper` and `transpose` of the matrix as it is meant */
typedef struct {
  char uplo, trans, diag;
} triangle;

static triangle triangle_of(bool turned, bool upper, bool transpose, bool unit) {
  return (triangle){upper == turned ? 'U' : 'L', transpose == turned ? 'T' : 'N', unit ? 'U' : 'N'};
}

#define T float
#define GEMM blas_sgemm
#include "cpu/lapack.inc"
#define T double
#define GEMM blas_dgemm
#include "cpu/lapack.inc"

#define BY_DTYPE(f, v) ((v)->dtype == F32 ? f##_float : f##_double)

/* ---- triangles --------------------------------------------------------------------------------------- */

bool cpu_cholesky(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int64_t n = x->s.d[x->s.n - 1];
  task t = {in, out, attr, n, n, .units = matrices(x, 2), .each = (double)n * n * n / 6};
  char text[192];
  t.unit = BY_DTYPE(cholesky, x);
  if (!run(c, "cholesky", &t)) return false;
  return t.bad == ~(uint64_t)0 ||
         fail(c, "cholesky: %s is not positive definite: its leading minor %d is not above 0",
              which(&t, "x", x, text), (int)(uint32_t)t.bad);
}

bool cpu_cholesky_grad(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = out[0];
  int64_t n = x->s.d[x->s.n - 1];
  task t = {in, out, attr, n, n, .units = matrices(x, 2), .each = (double)n * n * n};
  t.room = 2 * BLOCK * BLOCK * dtype_size[x->dtype];
  t.unit = BY_DTYPE(cholesky_grad, x);
  return run(c, "cholesky", &t);
}

/* Right-hand sides in a part: as many parts as keep four threads busy, if there are so many matrices */
static void cut_sides(task *t) {
  int64_t parts = (t->k + SIDES - 1) / SIDES, enough = t->units ? (4 + t->units - 1) / t->units : 1;
  t->parts = parts < enough ? parts : enough;
  if (t->parts < 1) t->parts = 1;
  t->each = (double)t->n * t->n * t->k / (double)t->parts;
}

bool cpu_triangular_solve(ctx *c, const int64_t *attr, const view *const *in,
                          const view *const *out) {
  const view *y = out[0];
  int64_t n = y->s.d[y->s.n - 2], k = y->s.d[y->s.n - 1];
  task t = {in, out, attr, n, n, k, .units = matrices(y, 2)};
  char text[192];
  t.unit = BY_DTYPE(triangular, y);
  cut_sides(&t);
  if (!run(c, "triangular_solve", &t)) return false;
  int at = (int)(uint32_t)t.bad;
  return t.bad == ~(uint64_t)0 || fail(c, "triangular_solve: %s is singular: element (%d, %d) is 0",
                                       which(&t, "A", in[1], text), at, at);
}

/* ---- LU ------------------------------------------------------------------------------------------------ */

/* attr: whether a singular matrix is an error, of solve or inv */
bool cpu_lu(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  static const char *const names[] = {NULL, "solve", "inv"};
  const view *x = in[0];
  int64_t n = x->s.d[x->s.n - 1];
  const char *name = names[attr[0]];
  task t = {in, out, attr, n, n, .units = matrices(x, 2), .each = (double)n * n * n / 3};
  char text[192];
  t.room = n * sizeof(int);
  t.unit = BY_DTYPE(lu, x);
  if (!run(c, name ? name : "det", &t)) return false;
  return t.bad == ~(uint64_t)0 || !name ||
         fail(c, "%s: %s is singular: pivot %d of its LU factors is 0", name,
              which(&t, name[0] == 's' ? "A" : "x", x, text), (int)(uint32_t)t.bad);
}

bool cpu_lu_solve(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *y = out[0];
  int64_t n = y->s.d[y->s.n - 2], k = y->s.d[y->s.n - 1];
  task t = {in, out, attr, n, n, k, .units = matrices(y, 2)};
  t.room = n * sizeof(int);
  t.unit = BY_DTYPE(lu_solve, y);
  cut_sides(&t);
  t.each *= 2;
  return run(c, "solve", &t);
}

bool cpu_lu_det(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int64_t count = matrices(x, 2), n = x->s.d[x->s.n - 1];
  (void)c;
  for (int64_t q = 0; q < count; q++)
    if (x->dtype == F32) det_float(in, out, attr[0], n, q);
    else det_double(in, out, attr[0], n, q);
  return true;
}

bool cpu_cofactor(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int64_t n = x->s.d[x->s.n - 1], square = n * n;
  task t = {in, out, attr, n, n, .units = matrices(x, 2), .each = (double)n * square};
  int most = BY_DTYPE(svd_room, x)(n, n, "A");
  t.k = most;
  t.room = (size_t)(4 * square + n + most) * dtype_size[x->dtype] + 8 * n * sizeof(int);
  t.unit = BY_DTYPE(cofactor, x);
  return most && run(c, "det", &t);
}

/* ---- orthogonal factors ---------------------------------------------------------------------------------- */

bool cpu_qr(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int64_t m = x->s.d[x->s.n - 2], n = x->s.d[x->s.n - 1];
  task t = {in, out, attr, m, n, 64 * n, .units = matrices(x, 2), .each = 2.0 * m * n * n};
  t.room = (size_t)(n + t.k) * dtype_size[x->dtype];
  t.unit = BY_DTYPE(qr, x);
  return run(c, "qr", &t);
}

/* What iterates might not end with nan or infinities. */
static bool refused(ctx *c, const char *name, const task *t) {
  char text[192];
  int info = (int)(uint32_t)t->bad;
  if (t->bad == ~(uint64_t)0) return true;
  which(t, "x", t->in[0], text);
  if (info == NOT_FINITE) return fail(c, "%s: %s holds nan or infinities", name, text);
  return fail(c, "%s: no convergence for %s", name, text);
}

bool cpu_eigh(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int64_t n = x->s.d[x->s.n - 1];
  task t = {in, out, attr, n, n, .units = matrices(x, 2), .each = 4.0 * n * n * n};
  t.k = 2 * n * n + 6 * n + 1 + 64 * n; /* what dsyevd asks for, and blocks */
  t.room = (size_t)t.k * dtype_size[x->dtype] + (5 * n + 3) * sizeof(int);
  t.unit = BY_DTYPE(eigh, x);
  return run(c, "eigh", &t) && refused(c, "eigh", &t);
}

bool cpu_svd(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0];
  int64_t m = x->s.d[x->s.n - 2], n = x->s.d[x->s.n - 1], least_ = m < n ? m : n;
  task t = {in, out, attr, m, n, .units = matrices(x, 2), .each = 8.0 * m * n * least_};
  int most = BY_DTYPE(svd_room, x)(n, m, attr[0] ? "A" : "S");
  t.k = most;
  t.room = (size_t)(m * n + most) * dtype_size[x->dtype] + 8 * least_ * sizeof(int);
  t.unit = BY_DTYPE(svd, x);
  const char *name = op_table[attr[1]].name;
  return run(c, name, &t) && refused(c, name, &t);
}
