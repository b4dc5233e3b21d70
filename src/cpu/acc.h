/* acc.h -- reductions' running states.
**
** A kernel folds a block of a row in lanes, and joins what it finds to the state of what stands before;
** inline, since where the op is a constant most of this is one instruction.
*/
#ifndef MG_ACC_H
#define MG_ACC_H

#include <math.h>

#include "base/op.h"

/* sum, mean, prod, max, min: v. argmax, argmin: value v, index w, from 0. all, any: v.i. Floats of both
** widths stand in .f (sums of up to 512 are made in lanes of the dtype, added up across tiles in
** double); others in .i. */
typedef struct {
  imm v, w;
} acc;

static inline void acc_start(int op, dtype t, acc *s) {
  double f = 0;
  int64_t i = 0;
  if (op == OP_max || op == OP_argmax) f = -INFINITY, i = INT64_MIN;
  if (op == OP_min || op == OP_argmin) f = INFINITY, i = INT64_MAX;
  if (op == OP_prod_fused || op == OP_all) f = 1, i = 1;
  if (is_float(t)) s->v.f = f;
  else s->v.i = i;
  s->w.i = -1; /* argmax, argmin: nothing seen yet */
}

/* Whether o goes before s as an extreme: the first nan is the most extreme of all. */
static inline bool beats(dtype t, bool down, imm o, imm s) {
  if (!is_float(t)) return down ? o.i < s.i : o.i > s.i;
  if (isnan(s.f) || isnan(o.f)) return !isnan(s.f);
  return down ? o.f < s.f : o.f > s.f;
}

/* s stands before o in the row */
static inline void acc_merge(int op, dtype t, acc *s, const acc *o) {
  const bool down = op == OP_min || op == OP_argmin;
  switch (op) {
    case OP_sum:
    case OP_mean:
      if (is_float(t)) s->v.f += o->v.f;
      else s->v.i = (int64_t)((uint64_t)s->v.i + (uint64_t)o->v.i);
      break;
    case OP_prod_fused:
      if (is_float(t)) s->v.f *= o->v.f;
      else s->v.i = (int64_t)((uint64_t)s->v.i * (uint64_t)o->v.i);
      break;
    case OP_max:
    case OP_min:
      if (beats(t, down, o->v, s->v)) s->v = o->v;
      break;
    case OP_argmax:
    case OP_argmin:
      if (o->w.i >= 0 && (s->w.i < 0 || beats(t, down, o->v, s->v))) *s = *o;
      break;
    case OP_all: s->v.i &= o->v.i; break;
    case OP_any: s->v.i |= o->v.i; break;
    default: break;
  }
}

/* n: elements folded; argmax counts from 1 */
static inline imm acc_result(int op, dtype t, const acc *s, int64_t n) {
  imm r = s->v;
  if (op == OP_argmax || op == OP_argmin) return (imm){.i = s->w.i + 1};
  if (op == OP_mean) r.f /= (double)n;
  if (t == F32) r.f = (float)r.f;
  return r;
}

#endif
