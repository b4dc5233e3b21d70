/* special.h -- functions that are computed number by number, in long double: what they cancel they can spare. */
#ifndef MG_SPECIAL_H
#define MG_SPECIAL_H

double special_erfinv(double x);
double special_digamma(double x);
double special_polygamma(int n, double x); /* the n-th derivative of digamma, n >= 1 */

/* The logarithm x of a gamma variate of shape k moves with k so that as many lie below it as before: its
** derivative by k, and, `order` times, the derivative of that by k where x stays. */
enum { GAMMA_ORDERS = 4 };
double special_gamma_slope(double x, double k, int order); /* 0 <= order < GAMMA_ORDERS */

#endif
