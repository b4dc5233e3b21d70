/* sampling.c -- random variates: the bodies of their ops. */
#include "graph/internal.h"

static bool variates(call *c) {
  array *p = arg(c, 0);
  return p && give(c, arr_variates(&c->G->c, c->op, p));
}

bool forward_gamma_log(call *c) { return variates(c); }
bool forward_poisson(call *c) { return variates(c); }

bool forward_gamma_slope(call *c) {
  ATTRS(c, int64_t order);
  if (!same_shapes(c, "gamma_slope")) return false;
  array *x = arg(c, 0), *k = arg(c, 1);
  return x && k && give(c, arr_gamma_slope(&c->G->c, x, k, at.order));
}
