/* scalar.h -- programs of single numbers: what scalar.c makes of one, order.c puts in order and straight.c writes. */
#ifndef MG_SCALAR_H
#define MG_SCALAR_H

#include "cpu/schedule.h"

/* What makes a scalar, beside the arithmetic of code.h. The first three are sources. */
enum {
  N_INPUT = I_BLEND + 1,    /* what binding x points to */
  N_NUMBER,                 /* what stands in binding x */
  N_CONSTANT,               /* line x of the pool */
  N_RANDOM,                 /* in its slot before the code runs */
  N_KEEP,                   /* a copy of an input */
  N_NARROW, N_WIDEN,        /* float64 to float32 and back */
  N_EXTEND,                 /* a mask of 32 bits to 64 */
  N_BYTE, N_MASK,           /* a mask to 0 or 1, a byte to a mask */
  N_CALL, N_KERNEL          /* op x of the table on vectors of dtype `from`, on memory */
};

typedef struct {
  uint8_t op, how, dtype, from; /* how: as in instr */
  int32_t x, in[3];
} scalar;
_Static_assert(sizeof(scalar) == 20, "scalars are compared by their bytes");

static inline bool is_source(const scalar *s) { return s->op >= N_INPUT && s->op <= N_CONSTANT; }

enum { CONSTANTS = 256 };

typedef struct {
  ctx *c;
  const program *p;
  scalar *s;                    /* operands first */
  int32_t n;
  bool *live;                   /* somebody reads it */
  int32_t *result;              /* of each output */
  struct { struct constant c; dtype t; } constant[CONSTANTS];
  int nconstant;
  int32_t *order, norder;       /* those that are computed */
  uint8_t *together;            /* by position: so many calls are one, of that and those after it */
  int32_t *number, *byte;       /* of each value: what it is as a number or mask, in memory; -1 */
  int32_t *table, slots;        /* of scalars by hash, and how large it is */
  bool failed;                  /* too much, or an op that cannot be done here */
} scalars;

bool scalars_order(scalars *w);                          /* false: no memory */
bool scalars_write(const scalars *x, codes *k, schedule *s); /* false: no memory (see the ctx), or no room */

#endif
