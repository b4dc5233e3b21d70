/* sample.c -- random variates that may take any number of draws, and how gamma variates move with their shape.
**
** Element i of a call draws from the blocks of number counter + i, a plane of its own, step by step: whoever
** computes it, and however often it is rejected, its numbers are the same. Everything is dense and F64.
*/
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/special.h"

enum { PART = 256 };

typedef struct {
  uint64_t seed, block;
  uint32_t step;
} draws;

enum { PLANE, BOOST_PLANE };

static void draw(draws *s, uint32_t w[4]) {
  random_block(s->seed, s->block, 1 + s->step++, PLANE, w);
}

/* Between 0 and 1, neither of them: of two words, of one */
static double unit(const uint32_t *w) {
  return ((double)((w[0] | (uint64_t)w[1] << 32) >> 12) + 0.5) * 0x1p-52;
}
static double unit32(uint32_t w) { return (w + 0.5) * 0x1p-32; }

/* The logarithm of a gamma variate (Marsaglia and Tsang 2000): of shape k + 1 times u^(1 / k) where k < 1 */
static double gamma_log(double k, draws *s) {
  double boost = 0;
  uint32_t w[4];
  if (!(k > 0) || isinf(k)) return NAN;
  if (k < 1) {
    random_block(s->seed, s->block, 1, BOOST_PLANE, w);
    boost = log(unit(w)) / fmax(k, 0x1p-1000); /* finite, so that ratios of two are numbers */
    k += 1;
  }
  const double d = k - 1 / 3.0, c = 1 / (3 * sqrt(d));
  for (;;) {
    draw(s, w);
    const double z = sqrt(-2 * log(unit(w))) * cos(6.28318530717958647693 * unit32(w[2]));
    const double t = c * z;
    if (t <= -1) continue;
    /* z^2 / 2 + d (1 - (1 + t)^3 + 3 log(1 + t)), whose first terms cancel */
    const double l = log1p(t);
    const double most = fabs(t) < 1e-3 ? d * t * t * t * t * (0.6 * t - 0.75)
                                       : d * (3 * l - t * (3 + t * (3 + t)) + 4.5 * t * t);
    if (log(unit32(w[3])) < most) return log(d) + 3 * l + boost;
  }
}

/* The logarithm of a Poisson probability */
static double poisson_log(double k, double rate) {
  if (k < 16) {
    double r = k * log(rate) - rate;
    for (int i = 2; i <= k; i++) r -= log(i);
    return r;
  }
  const double t = (k - rate) / rate;
  const double h = fabs(t) < 1e-3 ? t * t * (0.5 - t * (1 / 6.0 - t * (1 / 12.0 - t / 20)))
                                  : (1 + t) * log1p(t) - t;
  return -rate * h - 0.5 * log(6.28318530717958647693 * k) - (1 - 1 / (30 * k * k)) / (12 * k);
}

/* Few: by adding up probabilities. Many: transformed rejection (Hoermann 1993, "PTRS") */
static int64_t poisson(double rate, draws *s) {
  uint32_t w[4];
  if (rate < 12) {
    double p = exp(-rate), sum = p;
    int64_t k = 0;
    draw(s, w);
    for (const double u = unit(w); u > sum && k < 400; sum += p) p *= rate / (double)++k;
    return k;
  }
  const double b = 0.931 + 2.53 * sqrt(rate), a = -0.059 + 0.02483 * b;
  const double scale = 1.1239 + 1.1328 / (b - 3.4), quick = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    draw(s, w);
    const double u = unit(w) - 0.5, v = unit(w + 2), us = 0.5 - fabs(u);
    const double k = floor((2 * a / us + b) * u + rate + 0.43);
    if (us >= 0.07 && v <= quick) return (int64_t)k;
    if (k < 0 || (us < 0.013 && v > us)) continue;
    if (log(v * scale / (a / (us * us) + b)) <= poisson_log(k, rate)) return (int64_t)k;
  }
}

typedef struct {
  const int64_t *attr;
  const double *x, *k;
  double *y;
  int64_t *count, n;
} work;

static draws draws_of(const work *w, int64_t i) {
  return (draws){(uint64_t)w->attr[0], (uint64_t)w->attr[1] + (uint64_t)i, 0};
}

static void gamma_part(void *arg, int64_t part) {
  const work *w = arg;
  for (int64_t i = part * PART; i < least((part + 1) * PART, w->n); i++) {
    draws s = draws_of(w, i);
    w->y[i] = gamma_log(w->k[i], &s);
  }
}

static void poisson_part(void *arg, int64_t part) {
  const work *w = arg;
  for (int64_t i = part * PART; i < least((part + 1) * PART, w->n); i++) {
    draws s = draws_of(w, i);
    w->count[i] = poisson(w->k[i], &s);
  }
}

static void slope_part(void *arg, int64_t part) {
  const work *w = arg;
  for (int64_t i = part * PART; i < least((part + 1) * PART, w->n); i++)
    w->y[i] = special_gamma_slope(w->x[i], w->k[i], (int)w->attr[0]);
}

static bool in_parts(ctx *c, void (*part)(void *, int64_t), work w) {
  par_for(c, (w.n + PART - 1) / PART, part, &w);
  return true;
}

bool cpu_gamma(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return in_parts(c, gamma_part, (work){attr, NULL, in[0]->p, out[0]->p, NULL, out[0]->size});
}

bool cpu_poisson(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return in_parts(c, poisson_part, (work){attr, NULL, in[0]->p, NULL, out[0]->p, out[0]->size});
}

bool cpu_gamma_slope(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  return in_parts(c, slope_part, (work){attr, in[0]->p, in[1]->p, out[0]->p, NULL, out[0]->size});
}
