/* view.c -- views: blocks of values where they lie, and single numbers in and out of them. */
#include <string.h>

#include "base/base.h"

void view_make_dense(view *v) {
  int64_t step = 1;
  for (int i = v->s.n - 1; i >= 0; i--) {
    v->stride[i] = step;
    step *= v->s.d[i];
  }
}

bool view_dense(const view *v) {
  int64_t step = 1;
  for (int i = v->s.n - 1; i >= 0; i--) {
    if (v->s.d[i] != 1 && v->stride[i] != step) return v->size == 0;
    step *= v->s.d[i];
  }
  return true;
}

void view_space(const view *v, space *q) {
  int n = 0;
  for (int i = 0; i < v->s.n; i++) {
    if (v->s.d[i] == 1) continue;
    if (n > 0 && q->st[n - 1] == v->stride[i] * v->s.d[i]) q->d[n - 1] *= v->s.d[i];
    else q->d[n++] = v->s.d[i];
    q->st[n - 1] = v->stride[i];
  }
  q->n = n;
}

imm imm_load(dtype t, const void *p) {
  imm v = {0};
  switch (t) {
    case F64: v.f = *(const double *)p; break;
    case F32: v.f = *(const float *)p; break;
    case I64: v.i = *(const int64_t *)p; break;
    default: v.i = *(const uint8_t *)p; break;
  }
  return v;
}

void imm_store(dtype t, void *p, imm v) {
  switch (t) {
    case F64: *(double *)p = v.f; break;
    case F32: *(float *)p = (float)v.f; break;
    case I64: *(int64_t *)p = v.i; break;
    default: *(uint8_t *)p = (uint8_t)v.i; break;
  }
}

void imm_fill(dtype t, void *p, imm k, int64_t n) {
  switch (t) {
    case F64:
      for (int64_t i = 0; i < n; i++) ((double *)p)[i] = k.f;
      break;
    case F32:
      for (int64_t i = 0; i < n; i++) ((float *)p)[i] = (float)k.f;
      break;
    case I64:
      for (int64_t i = 0; i < n; i++) ((int64_t *)p)[i] = k.i;
      break;
    default: memset(p, (int)k.i, n); break;
  }
}
