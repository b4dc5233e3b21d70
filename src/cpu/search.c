/* search.c -- places: of values in what is sorted, of elements on their axes. */
#include "cpu/cpu.h"

enum { PART = 1 << 12 };

/* Of the values, `each` go by the same n that are sorted, the next by the next n. */
typedef struct search {
  dtype t;
  int64_t n, each, size;
  bool right;
  const void *sorted, *v;
  int64_t *to;
} search;

/* How many of the sorted come before v; nan comes last. */
#define FIND(T)                                                                                    \
  static int64_t find_##T(const void *sorted, int64_t n, const void *values, int64_t i,            \
                          bool right) {                                                            \
    const T *x = sorted, v = ((const T *)values)[i];                                               \
    int64_t low = 0;                                                                               \
    while (n > 0) {                                                                                \
      int64_t half = n / 2;                                                                        \
      T u = x[low + half];                                                                         \
      bool before = right ? u <= v || v != v : u < v || (v != v && u == u);                        \
      low = before ? low + half + 1 : low;                                                         \
      n = before ? n - half - 1 : half;                                                            \
    }                                                                                              \
    return low;                                                                                    \
  }
// clang-format off
FIND(double) FIND(float) FIND(int64_t)
    // clang-format on

    static void search_part(void *arg, int64_t part) {
  const search *s = arg;
  int64_t end = least((part + 1) * PART, s->size);
  for (int64_t i = part * PART; i < end; i++) {
    int64_t from = i / s->each * s->n;
    if (s->t == F64)
      s->to[i] = 1 + find_double((const double *)s->sorted + from, s->n, s->v, i, s->right);
    else if (s->t == F32)
      s->to[i] = 1 + find_float((const float *)s->sorted + from, s->n, s->v, i, s->right);
    else s->to[i] = 1 + find_int64_t((const int64_t *)s->sorted + from, s->n, s->v, i, s->right);
  }
}

bool cpu_search(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const view *x = in[0], *v = in[1];
  search s = {.t = x->dtype,
              .n = x->s.d[x->s.n - 1],
              .each = x->s.n > 1 ? v->s.d[v->s.n - 1] : v->size,
              .size = v->size,
              .right = attr[0],
              .sorted = x->p,
              .v = v->p,
              .to = out[0]->p};
  par_for(c, (s.size + PART - 1) / PART, search_part, &s);
  return true;
}

typedef struct {
  const int64_t *at;
  int64_t n, *to;
  const shape *s;
} places;

static void places_part(void *arg, int64_t part) {
  const places *p = arg;
  int64_t end = least((part + 1) * PART, p->n);
  for (int64_t i = part * PART; i < end; i++)
    for (int64_t k = p->s->n - 1, rest = p->at[i] - 1; k >= 0; k--) {
      p->to[i * p->s->n + k] = rest % p->s->d[k] + 1;
      rest /= p->s->d[k];
    }
}

bool cpu_unravel(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  shape s = {.n = (int)attr[0]};
  for (int k = 0; k < s.n; k++) s.d[k] = attr[1 + k];
  places p = {in[0]->p, in[0]->size, out[0]->p, &s};
  par_for(c, (p.n + PART - 1) / PART, places_part, &p);
  return true;
}
