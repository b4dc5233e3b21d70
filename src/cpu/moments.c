/* moments.c -- mean and variance of groups of elements, for what is normalized by them.
**
** Two passes in double over a group, which is in the cache the second time: what the rounded mean
** leaves over is found by the second and taken off the variance, so that a large mean costs no
** digits. Squares that leave the range of double are computed again of scaled elements. Of float32
** one pass is tried first, which knows from a few elements where the mean lies, about, and sums up
** to BLOCK elements in float32; where its result might have lost digits it does not count. A group
** is summed up by one thread in one order. Short rows are turned into columns, many at a time.
*/
#include <math.h>

#include "cpu/cpu.h"

enum { PART = 1 << 15, COLS = 64, BLOCK = 256, QUICK = 16, LOOKS = 16, FEW = 32 };
#define SMALLEST 0x1p-900
#define LARGEST 0x1p1000

typedef double fours __attribute__((vector_size(32)));
typedef struct {
  double sum, squares;
} sums;
typedef struct {
  const moments *a;
  const void *x;
  void *mean, *rest, *var, *rstd;
  dtype t;
  bool columns, rows; /* groups are columns; rows of fewer than FEW elements */
  int64_t some;
  int64_t look[LOOKS]; /* places in a group that tell where its mean lies, about */
} job;

static bool quick_group(const job *j, int64_t group);
#define T float
#include "cpu/moments.inc"
#define T double
#include "cpu/moments.inc"

typedef float eights __attribute__((vector_size(32), aligned(4), may_alias));

EACH_LEVEL static void add_blocks(const float *x, int64_t n, float shift, sums *r) {
  const eights k = {shift, shift, shift, shift, shift, shift, shift, shift};
  int64_t i = 0;
  while (i + 16 <= n) {
    eights s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};
    for (int64_t end = least(n - 16, i + BLOCK - 16); i <= end; i += 16) {
      eights a = *(const eights *)(x + i) - k, b = *(const eights *)(x + i + 8) - k;
      s0 += a;
      s1 += b;
      q0 += a * a;
      q1 += b * b;
    }
    s0 += s1;
    q0 += q1;
    r->sum += ((s0[0] + s0[4]) + (s0[2] + s0[6])) + ((s0[1] + s0[5]) + (s0[3] + s0[7]));
    r->squares += ((q0[0] + q0[4]) + (q0[2] + q0[6])) + ((q0[1] + q0[5]) + (q0[3] + q0[7]));
  }
  for (; i < n; i++) {
    double d = (double)x[i] - shift;
    r->sum += d;
    r->squares += d * d;
  }
}

/* False: it is not known whether digits were lost */
static bool quick_group(const job *j, int64_t group) {
  const moments *a = j->a;
  const float *x = (const float *)j->x + group * a->inner;
  const int64_t row = a->n * a->inner;
  double count = (double)(a->outer * a->inner), near = 0;
  sums s = {0, 0};
  if (a->inner < QUICK) return false;
  if (a->centred)
    for (int i = 0; i < LOOKS; i++) near += x[j->look[i]];
  float shift = (float)(near / LOOKS);
  for (int64_t o = 0; o < a->outer; o++, x += row) add_blocks(x, a->inner, shift, &s);
  double off = a->centred ? s.sum / count : 0, all = s.squares / count, var = all - off * off;
  if (!(all > 0x1p-90 && all < 0x1p90 && off * off < 0.5 * all)) return false;
  float mean = (float)(shift + off);
  store_float(j, group, mean, a->centred ? shift + off - mean : 0, var, 1 / sqrt(var + a->eps));
  return true;
}

static void part(void *arg, int64_t i) {
  const job *j = arg;
  int64_t from = i * j->some, n = least(j->some, j->a->n - from);
  if (j->t == F32) groups_float(j, from, n);
  else groups_double(j, from, n);
}

bool cpu_moments(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  const moments *a = (const moments *)attr;
  job j = {a,     in[0]->p, out[0]->p, out[1]->p, out[2]->p, out[3]->p, in[0]->dtype,
           false, false,    COLS,      {0}};
  for (int64_t i = 0, end = LOOKS - 1; i < LOOKS; i++)
    j.look[i] = i * (a->outer - 1) / end * a->n * a->inner + i * (a->inner - 1) / end;
  j.columns = a->inner == 1 && a->outer > 1 && a->per == 1;
  j.rows = a->outer == 1 && a->inner < FEW;
  if (!j.columns) j.some = PART / (a->outer * a->inner + 1) + 1;
  par_for(c, (a->n + j.some - 1) / j.some, part, &j);
  return true;
}
