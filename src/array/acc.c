/* acc.c -- reductions' running states, and the kernels of this machine. */
#include <math.h>
#include "array/kern.h"

const kernels *kern_chosen;

__attribute__((constructor)) static void choose(void) {
  const int level = cpu_level();
  kern_chosen = level >= 4 ? &mg_kernels_v4 : level == 3 ? &mg_kernels_v3 : &mg_kernels_v2;
}

void acc_start(int op, dtype t, acc *s) {
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
static bool beats(dtype t, bool down, imm o, imm s) {
  if (!is_float(t)) return down ? o.i < s.i : o.i > s.i;
  if (isnan(s.f) || isnan(o.f)) return !isnan(s.f);
  return down ? o.f < s.f : o.f > s.f;
}

void acc_merge(int op, dtype t, acc *s, const acc *o) {
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

imm acc_result(int op, dtype t, const acc *s, int64_t n) {
  imm r = s->v;
  if (op == OP_argmax || op == OP_argmin) return (imm){.i = s->w.i + 1};
  if (op == OP_mean) r.f /= (double)n;
  if (t == F32) r.f = (float)r.f;
  return r;
}
