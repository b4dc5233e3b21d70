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

double special_digamma(double x) {
  if (x == 0) return copysign(INFINITY, -x);
  if (x > 0) return isinf(x) ? x : (double)digamma(x);
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
