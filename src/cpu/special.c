/* special.c -- functions that are computed number by number: the inverse of erf, digamma and its kin. */
#include "cpu/special.h"

#include <math.h>

static const long double pi = 3.14159265358979323846264338327950288L;

/* Winitzki's approximation, then three steps of Halley's; near 1 by erfc, of 1 - |x|, which is exact. */
double special_erfinv(double x) {
  const long double y = fabsl(x), rest = 1 - y, slope = 1.12837916709551257389615890312154517L;
  if (!(y < 1)) return y == 1 ? copysign(INFINITY, x) : NAN;
  if (y < 0x1p-30L) return (double)(x / slope);
  const long double l = logl(rest * (1 + y)), m = 2 / (pi * 0.147L) + l / 2;
  long double z = y < 0x1p-8L ? y / slope : sqrtl(sqrtl(m * m - l / 0.147L) - m);
  for (int i = 0; i < 3; i++) {
    const long double off = y < 0.5L ? erfl(z) - y : rest - erfcl(z);
    const long double u = off / (slope * expl(-z * z));
    z -= u / (1 + z * u);
  }
  return copysign((double)z, x);
}

/* B(2k), the numbers of Bernoulli */
static const long double bernoulli[] = {1 / 6.0L,         -1 / 30.0L,      1 / 42.0L,
                                        -1 / 30.0L,       5 / 66.0L,       -691 / 2730.0L,
                                        7 / 6.0L,         -3617 / 510.0L,  43867 / 798.0L,
                                        -174611 / 330.0L, 854513 / 138.0L, -236364091 / 2730.0L};
enum { TERMS = sizeof bernoulli / sizeof *bernoulli };

/* By the recurrence up to where the asymptotic series is exact */
static long double digamma(long double x) {
  long double sum = 0;
  for (; x < 16; x++) sum -= 1 / x;
  const long double w = 1 / (x * x);
  long double series = 0;
  for (int k = TERMS; k > 0; k--) series = (series + bernoulli[k - 1] / (2 * k)) * w;
  return sum + logl(x) - 0.5L / x - series;
}

/* Of 1 <= x <= 2: by its distance from the root, which is no double, and a quotient of polynomials of
** x - 3/2 */
static long double digamma_near(long double x) {
  static const double root = 0x1.762d86356be3fp+0, root_low = 0x1.b86a722197829p-54;
  static const double p[] = {-0.04894412396816712,  -0.50545336381805848,  -0.51819491963824833,
                             -0.19799173035425149,  -0.033080829617209586, -0.00227682174529244,
                             -4.6227581390953308e-5};
  static const double q[] = {1.0,
                             1.6718236205395554,
                             1.0319333676352625,
                             0.29781190365581109,
                             0.041378314480827153,
                             0.0025031842360786879,
                             4.664959078686044e-5};
  const long double away = (x - root) - root_low;
  const double t = (double)x - 1.5;
  double over = p[6], under = q[6];
  for (int i = 5; i >= 0; i--) over = over * t + p[i], under = under * t + q[i];
  return away + away * (over / under);
}

/* Of x >= 10: what the first term left out adds is less than a rounding. */
static double digamma_far(double x) {
  const double w = 1 / (x * x);
  double series = 0;
  for (int k = 9; k > 0; k--) series = (series + (double)bernoulli[k - 1] / (2 * k)) * w;
  return log(x) - (0.5 / x + series);
}

double special_digamma(double x) {
  if (x == 0) return copysign(INFINITY, -x);
  if (x >= 10) return isinf(x) ? x : digamma_far(x);
  if (x > 0) {
    long double y = x, over = 0, under = 1; /* the sum of 1 / y over the steps to 1 <= y <= 2 */
    if (x < 1) return (double)(digamma_near(y + 1) - 1 / y);
    for (; y > 2; under *= y) y -= 1, over = over * y + under;
    return (double)(digamma_near(y) + over / under);
  }
  const long double part = x - rintl(x);
  if (!(fabsl(part) > 0)) return NAN;
  return (double)(digamma(1 - (long double)x) - pi / tanl(pi * part));
}

/* The sum of (x + k)^-s over k >= 0 (Euler and Maclaurin) */
static long double zeta(int s, long double x) {
  long double sum = 0;
  for (const long double far = 16 + s; x < far; x++) sum += powl(x, -s);
  long double term = powl(x, -s), rise = s / 2.0L;
  sum += term * (x / (s - 1) + 0.5L);
  for (int k = 1; k <= TERMS; k++) {
    term /= x;
    sum += bernoulli[k - 1] * rise * term;
    rise *= (long double)(s + 2 * k - 1) * (s + 2 * k) / ((2 * k + 1) * (2 * k + 2));
    term /= x;
  }
  return sum;
}

double special_polygamma(int n, double x) {
  enum { MOST = 64 };
  const long double sign = n % 2 ? 1 : -1;
  if (n < 1 || n > MOST || x != x) return NAN;
  if (isinf(x)) return x > 0 ? -sign * 0.0 : NAN;
  if (x > 0) return (double)(sign * tgammal(n + 1) * zeta(n + 1, x));
  const long double part = x - rintl(x);
  if (!(fabsl(part) > 0)) return n % 2 ? INFINITY : NAN;
  /* reflected: the n-th derivative of cot is a polynomial of cot */
  long double p[MOST + 3] = {0, 1}, q[MOST + 3], c = 1 / tanl(pi * part), cot = 0, scale = pi;
  for (int i = 0; i < n; i++, scale *= pi) {
    for (int k = 0; k < MOST + 3; k++) q[k] = 0;
    for (int k = 1; k <= i + 1; k++) q[k - 1] -= k * p[k], q[k + 1] -= k * p[k];
    for (int k = 0; k < MOST + 3; k++) p[k] = q[k];
  }
  for (int k = n + 1; k >= 0; k--) cot = cot * c + p[k];
  return (double)(-tgammal(n + 1) * zeta(n + 1, 1 - (long double)x) - scale * cot);
}

/* ---- implicit derivatives of gamma variates ---------------------------------------------------- */

/* Coefficients of a power series in what is added to k, so many of them */
enum { MOSTTERMS = GAMMA_ORDERS + 2 };
typedef struct {
  int n;
  long double c[MOSTTERMS];
} taylor;

static taylor number(int n, long double v, long double step) {
  taylor r = {n, {v}};
  if (n > 1) r.c[1] = step;
  return r;
}

static taylor sum(taylor a, taylor b, long double scale) { /* a + scale b */
  for (int i = 0; i < a.n; i++) a.c[i] += scale * b.c[i];
  return a;
}

static taylor times(taylor a, taylor b) {
  taylor r = {a.n, {0}};
  for (int i = 0; i < a.n; i++)
    for (int j = 0; j + i < a.n; j++) r.c[i + j] += a.c[i] * b.c[j];
  return r;
}

static taylor inverse(taylor a) {
  taylor r = {a.n, {1 / a.c[0]}};
  for (int i = 1; i < a.n; i++) {
    for (int j = 1; j <= i; j++) r.c[i] -= a.c[j] * r.c[i - j];
    r.c[i] *= r.c[0];
  }
  return r;
}

static taylor root(long double k, int n) {
  taylor r = {n, {sqrtl(k)}};
  for (int i = 1; i < n; i++) r.c[i] = r.c[i - 1] * (1.5L - i) / (i * k);
  return r;
}

static taylor derivative(taylor a) { /* its last coefficient is unknown */
  for (int i = 1; i < a.n; i++) a.c[i - 1] = i * a.c[i];
  return a;
}

static taylor digamma_at(long double k, int n) {
  taylor r = {n, {digamma(k)}};
  for (int i = 1; i < n; i++) r.c[i] = (i % 2 ? 1 : -1) * zeta(i + 1, k);
  return r;
}

/* 1 + x / (k + 1) + x^2 / ((k + 1) (k + 2)) + ..., which is k / (x p) times the distribution function,
** p being the density */
static taylor lower(long double x, long double k, int n) {
  taylor s = number(n, 1, 0), term = s;
  do {
    k += 1;
    const taylor step = sum(number(n, 0, 0), inverse(number(n, k, 1)), x); /* x / k: x may be 0 */
    term = times(term, step);
    s = sum(s, term, 1);
  } while (term.c[0] > s.c[0] * 1e-22L || x > k / 2);
  return s;
}

/* What lies above, divided by x p: the continued fraction, by the method of Lentz */
static taylor upper(long double x, long double k, int n) {
  taylor b = number(n, x + 1 - k, -1), d = inverse(b), c = b, h = d;
  for (int i = 1; i < 100000; i++) {
    const taylor a = number(n, i * (k - i), i);
    b.c[0] += 2;
    d = inverse(sum(b, times(a, d), 1));
    c = i == 1 ? b : sum(b, times(a, inverse(c)), 1);
    const taylor by = times(c, d);
    long double off = 0, scale = 1;
    for (int j = 0; j < n; j++, scale *= k) off += fabsl(by.c[j] - (j == 0)) * scale;
    h = times(h, by);
    if (off < 1e-18L) break;
  }
  return h;
}

/* Of large k: x as a series in the normal quantile z and 1 / sqrt(k) (Goldberg and Levine 1946); its
** derivative by k where z stays, and that by z where k does. */
static taylor quantile(taylor z, long double k, taylor *by_k, long double *by_z) {
  static const long double scale[] = {1, 1, 3, 36, -810, 38880, 204120, -146966400};
  static const long double c[][8] = {{1},
                                     {0, 1},
                                     {-1, 0, 1},
                                     {0, -7, 0, 1},
                                     {-16, 0, 7, 0, 3},
                                     {0, -433, 0, 256, 0, 9},
                                     {1472, 0, -923, 0, -243, 0, 12},
                                     {0, -289717, 0, -289517, 0, 4353, 0, 3753}};
  const taylor once = inverse(number(z.n, k, 1)), half = inverse(root(k, z.n));
  taylor x = number(z.n, 0, 0), power = number(z.n, k, 1);
  *by_k = x;
  *by_z = 0;
  for (int i = 0; i < 8; i++, power = times(power, half)) {
    taylor f = number(z.n, 0, 0);
    long double g = 0;
    for (int j = 7; j >= 0; j--) {
      g = g * z.c[0] + f.c[0];
      f = times(f, z);
      f.c[0] += c[i][j];
    }
    f = times(f, power);
    *by_z += g * power.c[0] / scale[i];
    x = sum(x, f, 1 / scale[i]);
    *by_k = sum(*by_k, times(f, once), (1 - i / 2.0L) / scale[i]);
  }
  return x;
}

static taylor slope_of_large(long double x, long double k, int n) {
  taylor z = number(n, (x - k) / sqrtl(k), -1 / sqrtl(k)), by_k;
  long double by_z;
  for (int i = 0; i < 8 + n; i++) {
    const taylor off = sum(quantile(z, k, &by_k, &by_z), number(n, x, 0), -1);
    z = sum(z, off, -1 / by_z);
  }
  quantile(z, k, &by_k, &by_z);
  return times(by_k, number(n, 1 / x, 0));
}

double special_gamma_slope(double log_x, double shape, int order) {
  enum { LARGE = 4000 };
  const long double l = log_x, k = shape, x = expl(l);
  const int n = order + 2;
  taylor r;
  if (!(shape > 0) || isinf(shape) || isnan(log_x)) return NAN;
  if (k >= LARGE) r = slope_of_large(x, k, n);
  else if (x <= k + 1) {
    const taylor off = sum(number(n, l, 0), digamma_at(k + 1, n), -1), s = lower(x, k, n);
    r = times(sum(times(off, s), derivative(s), 1), inverse(number(n, -k, -1)));
  } else {
    const taylor off = sum(number(n, l, 0), digamma_at(k, n), -1), u = upper(x, k, n);
    r = sum(times(off, u), derivative(u), 1);
  }
  for (int i = 2; i <= order; i++) r.c[order] *= i;
  return (double)r.c[order];
}
