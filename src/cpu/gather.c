/* gather.c -- elements by position: joining, slices, gathers.
**
** All of it is computed at once. However work is cut into parts, every element of a result belongs to
** one part, and what is added into it is added in the order of the index: the number of threads
** cannot be seen. Positions come as the user wrote them, 1..n or -n..-1, and were checked.
*/
#include "array/array.h"

#include <string.h>

enum { PART = 1 << 15 }; /* elements in a part, roughly: about 10 us of work */

static inline int64_t position(int64_t i, int64_t n) { return i < 0 ? i + n : i - 1; }

/* a seen as (outer, n, inner) about an axis */
typedef struct {
  int64_t outer, n, inner;
} three;

static three about(const shape *s, int axis) {
  three t = {1, s->d[axis], 1};
  for (int i = 0; i < axis; i++) t.outer *= s->d[i];
  for (int i = axis + 1; i < s->n; i++) t.inner *= s->d[i];
  return t;
}

/* ---- runs of elements ----------------------------------------------------------------------- */

typedef void run_fn(void *d, int64_t step, const void *s, int64_t n); /* d[i * step] = or += s[i] */

#define PUT(T)                                                                                     \
  static void put_##T(void *d, int64_t step, const void *s, int64_t n) {                           \
    T *x = d;                                                                                      \
    const T *y = s;                                                                                \
    if (step == 1) memcpy(x, y, (size_t)n * sizeof(T));                                            \
    else                                                                                           \
      for (int64_t i = 0; i < n; i++) x[i * step] = y[i];                                          \
  }
#define ADD(T)                                                                                     \
  static void add_##T(void *d, int64_t step, const void *s, int64_t n) {                           \
    T *restrict x = d;                                                                             \
    const T *restrict y = s;                                                                       \
    if (step == 1) _Pragma("omp simd") for (int64_t i = 0; i < n; i++) x[i] += y[i];               \
    else                                                                                           \
      for (int64_t i = 0; i < n; i++) x[i * step] += y[i];                                         \
  }
// clang-format off
PUT(uint64_t) PUT(uint32_t) PUT(uint8_t)
ADD(double) ADD(float) ADD(uint64_t) /* int64 wraps around */
    // clang-format on

    static run_fn *const put[NDTYPE] = {put_uint64_t, put_uint32_t, put_uint64_t, put_uint8_t,
                                        put_uint8_t};
static run_fn *const add[NDTYPE] = {add_double, add_float, add_uint64_t};

static bool can_add(ctx *c, const array *a) {
  return add[a->dtype] || fail(c, "%s values cannot be added up in place", dtype_name[a->dtype]);
}

/* ---- slices --------------------------------------------------------------------------------- */

/* A dense src laid over dst: axes from the innermost, those that run on in each other joined */
typedef struct {
  char *dst;
  const char *src;
  run_fn *run;
  int n, bytes;
  int64_t size, dim[MAXDIM], step[MAXDIM];
} slice;

static void slice_part(void *arg, int64_t part) {
  const slice *s = arg;
  int64_t at = part * PART, end = least(at + PART, s->size), pos[MAXDIM], off = 0;
  for (int64_t i = 0, rest = at; i < s->n; i++) {
    pos[i] = rest % s->dim[i];
    rest /= s->dim[i];
    off += pos[i] * s->step[i];
  }
  while (at < end) {
    int64_t n = least(s->dim[0] - pos[0], end - at);
    s->run(s->dst + off * s->bytes, s->step[0], s->src + at * s->bytes, n);
    at += n;
    off -= pos[0] * s->step[0];
    pos[0] = 0;
    for (int i = 1; i < s->n; i++) {
      off += s->step[i];
      if (++pos[i] < s->dim[i]) break;
      off -= s->dim[i] * s->step[i];
      pos[i] = 0;
    }
  }
}

static bool lay(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src,
                run_fn *run) {
  if (src->size == 0) return true;
  array *x = arr_contiguous(c, src);
  if (!x) return false;
  slice s = {.src = arr_data(x), .run = run, .bytes = dtype_size[dst->dtype], .size = x->size};
  int64_t stride = 1, off = 0;
  for (int i = dst->s.n - 1; i >= 0; i--) {
    int64_t d = x->s.d[i], by = stride * step[i];
    off += stride * first[i];
    stride *= dst->s.d[i];
    if (d == 1) continue;
    if (s.n && by == s.dim[s.n - 1] * s.step[s.n - 1]) {
      s.dim[s.n - 1] *= d;
    } else {
      s.dim[s.n] = d;
      s.step[s.n++] = by;
    }
  }
  if (s.n == 0) s.n = 1, s.dim[0] = 1, s.step[0] = 1;
  s.dst = (char *)arr_data(dst) + off * s.bytes;
  par_for(c, (s.size + PART - 1) / PART, slice_part, &s);
  arr_unref(x);
  return true;
}

/* dst and src are of one rank; first counts from 0 */
bool arr_add_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src) {
  return can_add(c, dst) && lay(c, dst, first, step, src, add[dst->dtype]);
}

bool arr_set_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src) {
  return lay(c, dst, first, step, src, put[dst->dtype]);
}

array *arr_cat(ctx *c, int n, array *const *a, int axis) {
  WORK(c, OP_cat);
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  shape s = a[0]->s;
  for (int k = 1; k < n; k++)
    if (__builtin_add_overflow(s.d[axis], a[k]->s.d[axis], &s.d[axis]))
      return fail(c, "cat: more than an axis can have"), NULL;
  for (int i = 0; i < MAXDIM; i++) step[i] = 1;
  array *r = arr_new(c, a[0]->dtype, &s);
  for (int k = 0; r && k < n; k++) {
    if (!arr_set_slice(c, r, first, step, a[k])) {
      arr_unref(r);
      return NULL;
    }
    first[axis] += a[k]->s.d[axis];
  }
  return r;
}

/* ---- along an axis, by a 1-d index ------------------------------------------------------------ */

typedef struct {
  const int64_t *index;
  int64_t size, n;
  bool bad;
} check;

/* The first one from i on that is no position in 1..n or -n..-1, or end */
static int64_t first_bad(const int64_t *v, int64_t i, int64_t end, int64_t n) {
  while (i < end && (v[i] > 0 ? v[i] <= n : v[i] < 0 && v[i] >= -n)) i++;
  return i;
}

static void check_part(void *arg, int64_t part) {
  check *k = arg;
  int64_t end = least((part + 1) * PART, k->size);
  if (first_bad(k->index, part * PART, end, k->n) < end)
    __atomic_store_n(&k->bad, true, __ATOMIC_RELAXED);
}

int64_t arr_check_index(ctx *c, array *idx, int64_t n) {
  array *x = arr_contiguous(c, idx);
  if (!x) return -1;
  check k = {arr_data(x), x->size, n, false};
  par_for(c, (x->size + PART - 1) / PART, check_part, &k);
  int64_t bad = k.bad ? first_bad(k.index, 0, k.size, n) + 1 : 0;
  arr_unref(x);
  return bad;
}

/* Both operands dense; the index is the second. */
static bool dense_pair(ctx *c, array *a, array *b, array **x, array **y) {
  *x = arr_contiguous(c, a);
  *y = *x ? arr_contiguous(c, b) : NULL;
  if (!*y) arr_unref(*x);
  return *y;
}

typedef struct {
  char *to;
  const char *from;
  const int64_t *index;
  run_fn *run;
  three t;
  int64_t m, rows; /* length of the index; rows in a part */
  int bytes;
} take;

enum { AHEAD = 8 }; /* rows are fetched this far ahead: a row is anywhere in memory */

static void take_part(void *arg, int64_t part) {
  const take *k = arg;
  size_t row = (size_t)k->t.inner * k->bytes;
  int64_t r = part * k->rows, end = least(r + k->rows, k->t.outer * k->m);
  for (; r < end; r++) {
    int64_t o = r / k->m, i = r % k->m;
    const char *x = k->from + o * k->t.n * row;
    char *y = k->to + r * row;
    if (i + AHEAD < k->m) __builtin_prefetch(x + position(k->index[i + AHEAD], k->t.n) * row);
    x += position(k->index[i], k->t.n) * row;
    if (row == 8) memcpy(y, x, 8);
    else if (row == 4) memcpy(y, x, 4);
    else memcpy(y, x, row);
  }
}

array *arr_take(ctx *c, array *a, int axis, array *idx) {
  WORK(c, OP_index_select);
  take k = {.t = about(&a->s, axis), .m = idx->size, .bytes = dtype_size[a->dtype]};
  shape s = a->s;
  s.d[axis] = k.m;
  array *x, *i, *r;
  if (!dense_pair(c, a, idx, &x, &i)) return NULL;
  if ((r = arr_new(c, a->dtype, &s)) && r->size) {
    k.to = arr_data(r), k.from = arr_data(x), k.index = arr_data(i);
    k.rows = PART / k.t.inner + 1;
    par_for(c, (k.t.outer * k.m + k.rows - 1) / k.rows, take_part, &k);
  }
  arr_unref(x);
  arr_unref(i);
  return r;
}

/* One outer row: all that meets in an element is added here. Cutting it further gains nothing, one
** thread being as fast as the memory. */
static void add_take_part(void *arg, int64_t o) {
  const take *k = arg;
  int64_t n = k->t.n, row = k->t.inner * k->bytes;
  char *to = k->to + o * n * row;
  const char *from = k->from + o * k->m * row;
  for (int64_t i = 0; i < k->m; i++) {
    if (i + AHEAD < k->m) __builtin_prefetch(to + position(k->index[i + AHEAD], n) * row, 1);
    k->run(to + position(k->index[i], n) * row, 1, from + i * row, k->t.inner);
  }
}

bool arr_add_take(ctx *c, array *dst, int axis, array *idx, array *src) {
  take k = {.run = add[dst->dtype],
            .t = about(&dst->s, axis),
            .m = idx->size,
            .bytes = dtype_size[dst->dtype]};
  array *x, *i;
  if (!can_add(c, dst) || !dense_pair(c, src, idx, &x, &i)) return false;
  if (x->size) {
    k.to = arr_data(dst), k.from = arr_data(x), k.index = arr_data(i);
    if (x->size >= PART) par_for(c, k.t.outer, add_take_part, &k);
    else
      for (int64_t o = 0; o < k.t.outer; o++) add_take_part(&k, o);
  }
  arr_unref(x);
  arr_unref(i);
  return true;
}

/* ---- by an index for every element -------------------------------------------------------------- */

/* For a row of the index: dense[j] and base[j * s + position(index[j]) * sa] belong together. */
typedef void pair_fn(void *dense, void *base, const int64_t *index, int64_t cols, int64_t s,
                     int64_t sa, int64_t n);

#define PAIR(name, T, to_or_add)                                                                   \
  static void name##_##T(void *dense, void *base, const int64_t *index, int64_t cols, int64_t s,   \
                         int64_t sa, int64_t n) {                                                  \
    T *d = dense, *b = base;                                                                       \
    for (int64_t j = 0; j < cols; j++) {                                                           \
      T *x = b + j * s + position(index[j], n) * sa;                                               \
      to_or_add;                                                                                   \
    }                                                                                              \
  }
#define GATHER(T) PAIR(gather, T, d[j] = *x)
#define SCATTER(T) PAIR(scatter, T, *x += d[j])
// clang-format off
GATHER(uint64_t) GATHER(uint32_t) GATHER(uint8_t)
SCATTER(double) SCATTER(float) SCATTER(uint64_t)
    // clang-format on

    static pair_fn *const gather[NDTYPE] = {gather_uint64_t, gather_uint32_t, gather_uint64_t,
                                            gather_uint8_t, gather_uint8_t};
static pair_fn *const scatter[NDTYPE] = {scatter_double, scatter_float, scatter_uint64_t};

/* A part is some rows of the index by some of its columns. */
typedef struct {
  char *dense, *base;
  const int64_t *index;
  pair_fn *fn;
  int bytes, n; /* of the leading axes of the index */
  int64_t dim[MAXDIM],
      stride[MAXDIM]; /* these axes, with the strides of base; 0 for the axis itself */
  int64_t len, s, sa; /* the axis in base; strides of base: last axis, the axis */
  int64_t rows, cols, prows, pcols; /* all, in a part */
} walk;

static void walk_part(void *arg, int64_t part) {
  const walk *w = arg;
  int64_t across = (w->cols + w->pcols - 1) / w->pcols;
  int64_t r = part / across * w->prows, end = least(r + w->prows, w->rows);
  int64_t j = part % across * w->pcols, cols = least(w->pcols, w->cols - j);
  int64_t pos[MAXDIM], off = j * w->s;
  for (int64_t i = w->n - 1, rest = r; i >= 0; i--) {
    pos[i] = rest % w->dim[i];
    rest /= w->dim[i];
    off += pos[i] * w->stride[i];
  }
  for (; r < end; r++) {
    int64_t at = r * w->cols + j;
    w->fn(w->dense + at * w->bytes, w->base + off * w->bytes, w->index + at, cols, w->s, w->sa,
          w->len);
    for (int i = w->n - 1; i >= 0; i--) {
      off += w->stride[i];
      if (++pos[i] < w->dim[i]) break;
      off -= w->dim[i] * w->stride[i];
      pos[i] = 0;
    }
  }
}

/* base is dense; where `adds`, elements that may meet in one place stay in one part. */
static void walk_all(ctx *c, const array *base, array *dense, array *idx, int axis, bool adds) {
  int last = idx->s.n - 1;
  walk w = {.dense = arr_data(dense),
            .base = arr_data(base),
            .index = arr_data(idx),
            .n = last,
            .fn = (adds ? scatter : gather)[base->dtype],
            .bytes = dtype_size[base->dtype],
            .len = base->s.d[axis],
            .cols = idx->s.d[last],
            .rows = idx->size / idx->s.d[last]};
  int64_t stride = 1, meet = 1; /* rows that may meet */
  for (int i = last; i >= 0; i--) {
    if (i == axis) w.sa = stride;
    if (i < last) w.dim[i] = idx->s.d[i], w.stride[i] = i == axis ? 0 : stride;
    else w.s = i == axis ? 0 : stride;
    if (i < last && i >= axis) meet *= idx->s.d[i];
    stride *= base->s.d[i];
  }
  w.pcols = w.cols;
  w.prows = PART / w.cols + 1;
  if (adds) {
    w.prows = (w.prows + meet - 1) / meet * meet;
    if (axis < last && w.prows >= w.rows && idx->size >= PART)
      w.pcols = (w.cols + c->threads - 1) / c->threads;
  }
  int64_t across = (w.cols + w.pcols - 1) / w.pcols, down = (w.rows + w.prows - 1) / w.prows;
  par_for(c, across * down, walk_part, &w);
}

array *arr_gather(ctx *c, array *a, int axis, array *idx) {
  WORK(c, OP_gather);
  array *x, *i, *r;
  if (!dense_pair(c, a, idx, &x, &i)) return NULL;
  if ((r = arr_new(c, a->dtype, &idx->s)) && r->size) walk_all(c, x, r, i, axis, false);
  arr_unref(x);
  arr_unref(i);
  return r;
}

bool arr_add_gather(ctx *c, array *dst, int axis, array *idx, array *src) {
  array *x, *i;
  if (!can_add(c, dst) || !dense_pair(c, src, idx, &x, &i)) return false;
  if (i->size) walk_all(c, dst, x, i, axis, true);
  arr_unref(x);
  arr_unref(i);
  return true;
}

/* ---- where a mask is true ----------------------------------------------------------------------- */

array *arr_nonzero(ctx *c, array *mask) {
  array *x = arr_contiguous(c, mask);
  if (!x) return NULL;
  const uint8_t *m = arr_data(x);
  shape s = {.n = 1};
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < x->size; i++) count += m[i] != 0;
  s.d[0] = count;
  array *r = arr_new(c, I64, &s);
  if (r) {
    int64_t *out = arr_data(r);
    for (int64_t i = 0, n = 0; n < count; i++) { /* past the last true one nothing is written */
      out[n] = i + 1;
      n += m[i] != 0;
    }
  }
  arr_unref(x);
  return r;
}
