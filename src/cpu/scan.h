/* scan.h -- running values along an axis. */
#ifndef MG_SCAN_H
#define MG_SCAN_H

#include "base/op.h"

/* x and y are dense and seen as (outer, n, inner) about the axis. */
typedef struct scan {
  int op;                     /* of ops.def: one of those in scan.c */
  dtype t;
  int64_t outer, n, inner;
  bool reverse;               /* from the end */
  const void *x, *a;          /* a: the second operand, where the op has one */
  void *y;
  int64_t *at;                /* where the value stands, from 1, for those that choose one */
} scan;

bool scan_known(int op, dtype t);
void scan_run(ctx *c, const scan *s);

#endif
