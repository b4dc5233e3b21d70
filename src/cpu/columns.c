/* columns.c -- windows laid out as columns, and added up again where they came from.
**
** Planes (an image's channel) and what stands before the axis do not know of each other, and each element
** is added to in the order of its windows, so that the number of threads cannot be seen.
*/
#include <string.h>

#include "cpu/cpu.h"

enum { PART = 1 << 14 }; /* elements of a part for a thread */

typedef struct {
  dtype t;
  const char *x; /* what is read */
  char *y;
  int64_t h, w, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow;
  int64_t planes, group;
} columns;

/* Of the positions along w those whose tap at `off` is inside */
static void inside(const columns *q, int64_t off, int64_t *lo, int64_t *hi) {
  *lo = off < 0 ? least((-off + q->sw - 1) / q->sw, q->ow) : 0;
  *hi = q->w > off ? least((q->w - off + q->sw - 1) / q->sw, q->ow) : 0;
  if (*hi < *lo) *hi = *lo;
}

#define COLUMNS(T)                                                                                 \
  static void spread_##T(const columns *q, const T *x, T *y) {                                     \
    for (int64_t i = 0; i < q->kh; i++)                                                            \
      for (int64_t j = 0; j < q->kw; j++) {                                                        \
        int64_t off = j * q->dw - q->pw, lo, hi;                                                   \
        inside(q, off, &lo, &hi);                                                                  \
        for (int64_t r = 0; r < q->oh; r++, y += q->ow) {                                          \
          int64_t at = r * q->sh + i * q->dh - q->ph, k = 0;                                       \
          const T *line = x + at * q->w + off;                                                     \
          if (at >= 0 && at < q->h) {                                                              \
            for (; k < lo; k++) y[k] = 0;                                                          \
            if (q->sw == 1 && hi > lo) memcpy(y + lo, line + lo, (hi - lo) * sizeof(T)), k = hi;   \
            for (; k < hi; k++) y[k] = line[k * q->sw];                                            \
          }                                                                                        \
          for (; k < q->ow; k++) y[k] = 0;                                                         \
        }                                                                                          \
      }                                                                                            \
  }                                                                                                \
  static void gather_##T(const columns *q, const T *x, T *y) {                                     \
    memset(y, 0, q->h * q->w * sizeof(T));                                                         \
    for (int64_t i = 0; i < q->kh; i++)                                                            \
      for (int64_t j = 0; j < q->kw; j++) {                                                        \
        int64_t off = j * q->dw - q->pw, lo, hi;                                                   \
        inside(q, off, &lo, &hi);                                                                  \
        for (int64_t r = 0; r < q->oh; r++, x += q->ow) {                                          \
          int64_t at = r * q->sh + i * q->dh - q->ph;                                              \
          T *line = y + at * q->w + off;                                                           \
          if (at < 0 || at >= q->h) continue;                                                      \
          if (q->sw == 1)                                                                          \
            for (int64_t k = lo; k < hi; k++) line[k] += x[k];                                     \
          else                                                                                     \
            for (int64_t k = lo; k < hi; k++) line[k * q->sw] += x[k];                             \
        }                                                                                          \
      }                                                                                            \
  }                                                                                                \
  static void spread_part_##T(void *arg, int64_t part) {                                           \
    const columns *q = arg;                                                                        \
    int64_t out = q->kh * q->kw * q->oh * q->ow, end = least((part + 1) * q->group, q->planes);    \
    for (int64_t p = part * q->group; p < end; p++)                                                \
      spread_##T(q, (const T *)q->x + p * q->h * q->w, (T *)q->y + p * out);                       \
  }                                                                                                \
  static void gather_part_##T(void *arg, int64_t part) {                                           \
    const columns *q = arg;                                                                        \
    int64_t out = q->kh * q->kw * q->oh * q->ow, end = least((part + 1) * q->group, q->planes);    \
    for (int64_t p = part * q->group; p < end; p++)                                                \
      gather_##T(q, (const T *)q->x + p * out, (T *)q->y + p * q->h * q->w);                       \
  }
COLUMNS(float)
COLUMNS(double)

static columns plan(const int64_t *attr, const view *x) {
  columns q = {.t = x->dtype,
               .h = x->s.d[2],
               .w = x->s.d[3],
               .kh = attr[0],
               .kw = attr[1],
               .sh = attr[2],
               .sw = attr[3],
               .ph = attr[4],
               .pw = attr[5],
               .dh = attr[6],
               .dw = attr[7],
               .planes = x->s.d[0] * x->s.d[1]};
  q.oh = (q.h + 2 * q.ph - q.dh * (q.kh - 1) - 1) / q.sh + 1;
  q.ow = (q.w + 2 * q.pw - q.dw * (q.kw - 1) - 1) / q.sw + 1;
  q.group = PART / (q.kh * q.kw * q.oh * q.ow) + 1;
  return q;
}

static int64_t parts(const columns *q) { return (q->planes + q->group - 1) / q->group; }

bool cpu_im2col(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  columns q = plan(attr, in[0]);
  q.x = in[0]->p;
  q.y = out[0]->p;
  par_for(c, parts(&q), q.t == F32 ? spread_part_float : spread_part_double, &q);
  return true;
}

bool cpu_col2im(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  columns q = plan(attr, out[0]);
  q.x = in[0]->p;
  q.y = out[0]->p;
  par_for(c, parts(&q), q.t == F32 ? gather_part_float : gather_part_double, &q);
  return true;
}

/* ---- windows of one axis ------------------------------------------------------------------------- */

typedef struct {
  dtype t;
  const void *x;
  void *y;
  int64_t outer, n, inner, windows, size, step, group;
} fold;

#define FOLD(T)                                                                                    \
  static void fold_##T(void *arg, int64_t part) {                                                  \
    const fold *q = arg;                                                                           \
    int64_t end = least((part + 1) * q->group, q->outer);                                          \
    const T *x = (const T *)q->x + part * q->group * q->windows * q->inner * q->size;              \
    for (int64_t o = part * q->group; o < end; o++) {                                              \
      T *y = (T *)q->y + o * q->n * q->inner;                                                      \
      memset(y, 0, q->n * q->inner * sizeof(T));                                                   \
      for (int64_t i = 0; i < q->windows; i++, y += q->step * q->inner)                            \
        for (int64_t k = 0; k < q->inner; k++)                                                     \
          for (int64_t j = 0; j < q->size; j++) y[j * q->inner + k] += *x++;                       \
    }                                                                                              \
  }
FOLD(float)
FOLD(double)

bool cpu_fold(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0], *y = out[0];
  int axis = (int)attr[0];
  fold q = {.t = y->dtype, .x = x->p, .y = y->p, .outer = 1, .n = y->s.d[axis], .inner = 1};
  for (int i = 0; i < axis; i++) q.outer *= y->s.d[i];
  for (int i = axis + 1; i < y->s.n; i++) q.inner *= y->s.d[i];
  q.windows = x->s.d[axis];
  q.size = x->s.d[x->s.n - 1];
  q.step = attr[1];
  q.group = PART / (q.windows * q.inner * q.size + 1) + 1;
  par_for(c, (q.outer + q.group - 1) / q.group, q.t == F32 ? fold_float : fold_double, &q);
  return true;
}
