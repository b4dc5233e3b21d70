/* gather.c -- elements by position: joining, slices, gathers.
**
** All of it is computed at once. However work is cut into parts, every element of a result belongs to
** one part, and what is added into it is added in the order of the index: the number of threads
** cannot be seen. Where more than SUM_RUN float32 may meet in one element they are added up in double.
** Positions come as the user wrote them, 1..n or -n..-1, and were checked.
*/
#include "cpu/cpu.h"

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

static bool lay(ctx *c, const int64_t *attr, const view *src, const view *dst, run_fn *run) {
  const int64_t *first = attr, *step = attr + MAXDIM;
  slice s = {.src = src->p, .run = run, .bytes = dtype_size[dst->dtype], .size = src->size};
  int64_t stride = 1, off = 0;
  for (int i = dst->s.n - 1; i >= 0; i--) {
    int64_t d = src->s.d[i], by = stride * step[i];
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
  s.dst = (char *)dst->p + off * s.bytes;
  par_for(c, (s.size + PART - 1) / PART, slice_part, &s);
  return true;
}

bool cpu_add_slice(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return lay(c, attr, in[0], out[0], add[out[0]->dtype]);
}

bool cpu_set_slice(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return lay(c, attr, in[0], out[0], put[out[0]->dtype]);
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

bool cpu_first_bad(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  check k = {in[0]->p, in[0]->size, attr[0], false};
  par_for(c, (k.size + PART - 1) / PART, check_part, &k);
  *(int64_t *)out[0]->p = k.bad ? first_bad(k.index, 0, k.size, k.n) + 1 : 0;
  return true;
}

/* Rows of one element: n of them, by an index into k of them */
typedef void elements_fn(void *to, const void *from, const int64_t *index, int64_t n, int64_t k);

#define TAKE(name, T, to_at, from_at, how)                                                         \
  static void name##_##T(void *to, const void *from, const int64_t *index, int64_t n, int64_t k) { \
    T *restrict y = to;                                                                            \
    const T *restrict x = from;                                                                    \
    for (int64_t i = 0; i < n; i++) y[to_at] how x[from_at];                                       \
  }
#define AT position(index[i], k)
// clang-format off
TAKE(take, uint64_t, i, AT, =) TAKE(take, uint32_t, i, AT, =) TAKE(take, uint8_t, i, AT, =)
TAKE(add_take, double, AT, i, +=) TAKE(add_take, float, AT, i, +=) TAKE(add_take, uint64_t, AT, i, +=)
    // clang-format on

    static elements_fn *const take_elements[NDTYPE] = {take_uint64_t, take_uint32_t, take_uint64_t,
                                                       take_uint8_t, take_uint8_t};
static elements_fn *const add_elements[NDTYPE] = {add_take_double, add_take_float,
                                                  add_take_uint64_t};

typedef struct {
  char *to;
  const char *from;
  const int64_t *index;
  run_fn *run;
  three t;
  int64_t m, rows; /* length of the index; rows in a part */
  int bytes;
  elements_fn *elements;
  const int32_t *place; /* of a row in `sums`, -1: it has none; NULL: no row has */
  double *sums;         /* by worker, so many rows */
  int64_t nsum;
} take;

enum { AHEAD = 8 }; /* rows are fetched this far ahead: a row is anywhere in memory */

static void take_part(void *arg, int64_t part) {
  const take *k = arg;
  size_t row = (size_t)k->t.inner * k->bytes;
  int64_t r = part * k->rows, end = least(r + k->rows, k->t.outer * k->m);
  int64_t o = r / k->m, i = r % k->m;
  for (; r < end; o++, i = 0) {
    const int64_t stop = least(k->m, i + end - r), n = k->t.n;
    const char *x = k->from + o * n * row;
    char *y = k->to + r * row;
    r += stop - i;
    if (k->t.inner == 1) {
      k->elements(y, x, k->index + i, stop - i, n);
      continue;
    }
    for (; i < stop; i++, y += row) {
      if (i + AHEAD < k->m) __builtin_prefetch(x + position(k->index[i + AHEAD], n) * row);
      memcpy(y, x + position(k->index[i], n) * row, row);
    }
  }
}

bool cpu_take(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  take k = {.to = out[0]->p,
            .from = in[0]->p,
            .index = in[1]->p,
            .t = about(&in[0]->s, (int)attr[0]),
            .m = in[1]->size,
            .bytes = dtype_size[in[0]->dtype],
            .elements = take_elements[in[0]->dtype]};
  k.rows = PART / k.t.inner + 1;
  par_for(c, (k.t.outer * k.m + k.rows - 1) / k.rows, take_part, &k);
  return true;
}

static void add_wide(double *restrict x, const float *restrict y, int64_t n) {
  _Pragma("omp simd") for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

/* The rows in which many meet: into their sums, out of them */
static void move_sums(const take *k, float *to, double *sums, bool out) {
  int64_t inner = k->t.inner;
  for (int64_t i = 0; i < k->t.n; i++) {
    if (k->place[i] < 0) continue;
    float *x = to + i * inner;
    double *sum = sums + k->place[i] * inner;
    for (int64_t j = 0; j < inner; j++)
      if (out) x[j] = (float)sum[j];
      else sum[j] = x[j];
  }
}

/* One outer row: all that meets in an element is added here. Cutting it further gains nothing, one
** thread being as fast as the memory. */
static void add_take_part(void *arg, int64_t o) {
  const take *k = arg;
  int64_t n = k->t.n, row = k->t.inner * k->bytes;
  char *to = k->to + o * n * row;
  const char *from = k->from + o * k->m * row;
  double *sums = k->place ? k->sums + par_worker() * k->nsum * k->t.inner : NULL;
  if (k->t.inner == 1 && !k->place) {
    k->elements(to, from, k->index, k->m, n);
    return;
  }
  if (k->place) move_sums(k, (float *)(void *)to, sums, false);
  for (int64_t i = 0; i < k->m; i++) {
    int64_t at = position(k->index[i], n);
    if (i + AHEAD < k->m) __builtin_prefetch(to + position(k->index[i + AHEAD], n) * row, 1);
    if (k->place && k->place[at] >= 0)
      add_wide(sums + k->place[at] * k->t.inner, (const float *)(const void *)(from + i * row),
               k->t.inner);
    else k->run(to + at * row, 1, from + i * row, k->t.inner);
  }
  if (k->place) move_sums(k, (float *)(void *)to, sums, true);
}

/* Rows that get more than SUM_RUN are numbered, the others get -1. How many there are */
static int64_t find_many(const take *k, int32_t *place) {
  int64_t count = 0, n = k->t.n;
  memset(place, 0, n * sizeof *place);
  for (int64_t i = 0; i < k->m; i++) place[position(k->index[i], n)]++;
  for (int64_t i = 0; i < n; i++) place[i] = place[i] > SUM_RUN ? (int32_t)count++ : -1;
  return count;
}

bool cpu_add_take(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  take k = {.to = out[0]->p,
            .from = in[0]->p,
            .index = in[1]->p,
            .run = add[out[0]->dtype],
            .t = about(&out[0]->s, (int)attr[0]),
            .m = in[1]->size,
            .bytes = dtype_size[out[0]->dtype],
            .elements = add_elements[out[0]->dtype]};
  bool many = out[0]->dtype == F32 && k.m > SUM_RUN && k.m <= INT32_MAX;
  buffer *place = many ? buf_new(c, k.t.n * sizeof *k.place) : NULL, *sums = NULL;
  if (many && !place) return false;
  if (many && (k.nsum = find_many(&k, place->p))) {
    k.place = place->p;
    int64_t workers = least(c->threads, k.t.outer);
    sums = buf_new(c, workers * k.nsum * k.t.inner * sizeof *k.sums);
    if (!sums) return buf_unref(place), false;
    k.sums = sums->p;
  }
  if (in[0]->size >= PART) par_for(c, k.t.outer, add_take_part, &k);
  else
    for (int64_t o = 0; o < k.t.outer; o++) add_take_part(&k, o);
  if (place) buf_unref(place);
  if (sums) buf_unref(sums);
  return true;
}

/* In the order of the index: the last of those that meet stays. */
bool cpu_put_rows(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  (void)c;
  int64_t m = in[1]->size, n = attr[0];
  size_t row = in[0]->size / m * dtype_size[in[0]->dtype];
  const int64_t *index = in[1]->p;
  for (int64_t i = 0; i < m; i++)
    memcpy((char *)out[0]->p + position(index[i], n) * row, (char *)in[0]->p + i * row, row);
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
#define PLACE(T) PAIR(place, T, *x = d[j])
// clang-format off
GATHER(uint64_t) GATHER(uint32_t) GATHER(uint8_t)
SCATTER(double) SCATTER(float) SCATTER(uint64_t)
PLACE(uint64_t) PLACE(uint32_t) PLACE(uint8_t)
    // clang-format on

    static pair_fn *const gather[NDTYPE] = {gather_uint64_t, gather_uint32_t, gather_uint64_t,
                                            gather_uint8_t, gather_uint8_t};
static pair_fn *const scatter[NDTYPE] = {scatter_double, scatter_float, scatter_uint64_t};
static pair_fn *const place[NDTYPE] = {place_uint64_t, place_uint32_t, place_uint64_t,
                                       place_uint8_t, place_uint8_t};

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

/* base is dense; where it is `written`, elements that may meet in one place stay in one part. */
static void walk_all(ctx *c, pair_fn *fn, const view *base, const view *dense, const view *idx,
                     int axis, bool written) {
  int last = idx->s.n - 1;
  walk w = {.dense = dense->p,
            .base = base->p,
            .index = idx->p,
            .n = last,
            .fn = fn,
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
  if (written) {
    w.prows = (w.prows + meet - 1) / meet * meet;
    if (axis < last && w.prows >= w.rows && idx->size >= PART)
      w.pcols = (w.cols + c->threads - 1) / c->threads;
  }
  int64_t across = (w.cols + w.pcols - 1) / w.pcols, down = (w.rows + w.prows - 1) / w.prows;
  par_for(c, across * down, walk_part, &w);
}

/* A lane is what may meet: along the axis, for one position on the others but the last, of which it has some
** columns. It is added up in double. */
typedef struct {
  float *base;
  const float *dense;
  const int64_t *index;
  double *sums; /* by worker: n rows of `cols` */
  int lead;     /* axes of the index but its own and the last */
  int64_t dim[MAXDIM], of_index[MAXDIM], of_base[MAXDIM]; /* these, and their strides */
  bool last;                                              /* the axis is the last one */
  bool few;                          /* addends beside the places they may come to */
  int64_t n, length, cols, all_cols; /* along the axis: of base, of the index; in a lane, in all */
  int64_t step_index, step_base;     /* strides of the axis */
  int64_t lanes, each;               /* all, in a part */
} lanes;

/* What is done with a row of the index: `cols` for each row of a lane, or all of it along the axis (s == 0) */
typedef void lane_fn(double *sums, float *base, const float *x, const int64_t *at, int64_t count,
                     const lanes *w, int64_t s, int64_t cols);

#define LANE(name, does)                                                                           \
  static void name(double *sums, float *base, const float *x, const int64_t *at, int64_t count,    \
                   const lanes *w, int64_t s, int64_t cols) {                                      \
    (void)base, (void)x;                                                                           \
    const int64_t n = w->n, step = w->step_base;                                                   \
    for (int64_t j = 0; j < count; j++) {                                                          \
      const int64_t k = position(at[j], n);                                                        \
      double *sum = sums + k * cols + j * s;                                                       \
      float *to = base + k * step + j * s;                                                         \
      does;                                                                                        \
    }                                                                                              \
  }
// clang-format off
LANE(fetch_some, *sum = *to)
LANE(add_some, *sum += x[j]; (void)to)
LANE(store_some, *to = (float)*sum)
// clang-format on

static void along(const lanes *w, lane_fn *f, double *sums, float *base, int64_t from,
                  int64_t cols) {
  const float *x = w->dense + from;
  const int64_t *at = w->index + from;
  if (w->last) {
    f(sums, base, x, at, w->length, w, 0, 1);
    return;
  }
  for (int64_t i = 0; i < w->length; i++, x += w->step_index, at += w->step_index) {
    if (i + AHEAD < w->length)
      for (int64_t j = 0; j < cols; j += 8) {
        __builtin_prefetch(x + AHEAD * w->step_index + j);
        __builtin_prefetch(at + AHEAD * w->step_index + j);
      }
    f(sums, base, x, at, cols, w, 1, cols);
  }
}

/* All of a lane to the sums, or back */
static void move(const lanes *w, double *sums, float *base, int64_t cols, bool back) {
  int64_t rows = w->step_base == cols ? 1 : w->n, width = w->n * cols / rows;
  for (int64_t i = 0; i < rows; i++, sums += width, base += w->step_base)
    if (back)
      for (int64_t j = 0; j < width; j++) base[j] = (float)sums[j];
    else
      for (int64_t j = 0; j < width; j++) sums[j] = base[j];
}

static void add_lane(const lanes *w, int64_t lane) {
  int64_t across = (w->all_cols + w->cols - 1) / w->cols, first = lane % across * w->cols;
  int64_t cols = least(w->cols, w->all_cols - first), from = first, to = first;
  for (int64_t i = w->lead - 1, rest = lane / across; i >= 0; i--) {
    from += rest % w->dim[i] * w->of_index[i];
    to += rest % w->dim[i] * w->of_base[i];
    rest /= w->dim[i];
  }
  float *base = w->base + to;
  double *sums = w->sums + par_worker() * w->n * w->cols;
  if (w->few) along(w, fetch_some, sums, base, from, cols);
  else move(w, sums, base, cols, false);
  along(w, add_some, sums, base, from, cols);
  if (w->few) along(w, store_some, sums, base, from, cols);
  else move(w, sums, base, cols, true);
}

static void add_lanes(void *arg, int64_t part) {
  const lanes *w = arg;
  int64_t end = least((part + 1) * w->each, w->lanes);
  for (int64_t i = part * w->each; i < end; i++) add_lane(w, i);
}

static bool add_in_lanes(ctx *c, const view *base, const view *dense, const view *idx, int axis) {
  int last = idx->s.n - 1;
  lanes w = {.base = base->p,
             .dense = dense->p,
             .index = idx->p,
             .n = base->s.d[axis],
             .length = idx->s.d[axis],
             .all_cols = axis == last ? 1 : idx->s.d[last],
             .last = axis == last};
  int64_t of_index = 1, of_base = 1;
  for (int i = last; i >= 0; i--) {
    if (i == axis) w.step_index = of_index, w.step_base = of_base;
    of_index *= idx->s.d[i];
    of_base *= base->s.d[i];
  }
  w.lanes = idx->size / w.length / w.all_cols;
  for (int64_t i = 0; i <= last; i++) {
    if (i == axis || i == last) continue;
    int k = w.lead++;
    w.dim[k] = idx->s.d[i];
    w.of_index[k] = w.of_base[k] = 1;
    for (int64_t j = i + 1; j <= last; j++) {
      w.of_index[k] *= idx->s.d[j];
      w.of_base[k] *= base->s.d[j];
    }
  }
  w.few = w.length < w.n / 4;
  w.cols = least(w.all_cols, 2 * PART / w.n + 1);
  w.lanes *= (w.all_cols + w.cols - 1) / w.cols;
  w.each = PART / (w.length * w.cols) + 1;
  int64_t parts = (w.lanes + w.each - 1) / w.each;
  buffer *sums = buf_new(c, least(c->threads, parts) * w.n * w.cols * sizeof *w.sums);
  if (!sums) return false;
  w.sums = sums->p;
  par_for(c, parts, add_lanes, &w);
  buf_unref(sums);
  return true;
}

bool cpu_gather(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  walk_all(c, gather[in[0]->dtype], in[0], out[0], in[1], (int)attr[0], false);
  return true;
}

bool cpu_add_gather(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  if (out[0]->dtype == F32 && in[1]->s.d[attr[0]] > SUM_RUN)
    return add_in_lanes(c, out[0], in[0], in[1], (int)attr[0]);
  walk_all(c, scatter[out[0]->dtype], out[0], in[0], in[1], (int)attr[0], true);
  return true;
}

bool cpu_put_gather(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  walk_all(c, place[out[0]->dtype], out[0], in[0], in[1], (int)attr[0], true);
  return true;
}

/* ---- where a mask is true ----------------------------------------------------------------------- */

bool cpu_count_true(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const uint8_t *m = in[0]->p;
  int64_t count = 0;
  (void)c, (void)attr;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < in[0]->size; i++) count += m[i] != 0;
  *(int64_t *)out[0]->p = count;
  return true;
}

bool cpu_nonzero(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const uint8_t *m = in[0]->p;
  int64_t *to = out[0]->p, count = out[0]->size;
  (void)c, (void)attr;
  for (int64_t i = 0, n = 0; n < count; i++) { /* past the last true one nothing is written */
    to[n] = i + 1;
    n += m[i] != 0;
  }
  return true;
}
