/* special.h -- functions that are computed number by number, in long double: what they cancel they can spare. */
#ifndef MG_SPECIAL_H
#define MG_SPECIAL_H

double special_erfinv(double x);
double special_digamma(double x);
double special_polygamma(int n, double x); /* the n-th derivative of digamma, n >= 1 */

#endif
