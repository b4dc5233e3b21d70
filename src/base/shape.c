/* shape.c -- dtypes and shapes: their names, sizes and rules.
**
** A shape's size, in elements and in bytes of any dtype, and that of any of its axes together, fit an
** int64_t wherever shape_size is not -1.
*/
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const uint8_t dtype_size[NDTYPE] = {8, 4, 8, 1, 1};
const char *const dtype_name[NDTYPE] = {"float64", "float32", "int64", "uint8", "bool"};

int dtype_find(const char *name) {
  for (int t = 0; t < NDTYPE; t++)
    if (strcmp(name, dtype_name[t]) == 0) return t;
  return -1;
}

/* Toward 0, to the nearest end of the range outside it; nan becomes 0. */
static int64_t to_int(double f) {
  if (f != f) return 0;
  if (f >= 0x1p63) return INT64_MAX;
  if (f < -0x1p63) return INT64_MIN;
  return (int64_t)f;
}

imm imm_cast(imm v, dtype from, dtype to) {
  imm r;
  if (is_float(to)) {
    /* int64 to float32 rounds once, not by way of double */
    if (to == F32) r.f = is_float(from) ? (float)v.f : (float)v.i;
    else r.f = is_float(from) ? v.f : (double)v.i;
  } else if (to == BOOL) {
    r.i = is_float(from) ? v.f != 0 : v.i != 0;
  } else {
    r.i = is_float(from) ? to_int(v.f) : v.i;
    if (to == U8) r.i &= 255;
  }
  return r;
}

int64_t shape_size(const shape *s) {
  int64_t size = 1;
  bool empty = false;
  for (int i = 0; i < s->n; i++) {
    if (s->d[i] == 0) empty = true;
    else if (s->d[i] < 0 || __builtin_mul_overflow(size, s->d[i], &size)) return -1;
  }
  return size > INT64_MAX / 8 ? -1 : empty ? 0 : size;
}

bool shape_eq(const shape *a, const shape *b) {
  if (a->n != b->n) return false;
  for (int i = 0; i < a->n; i++)
    if (a->d[i] != b->d[i]) return false;
  return true;
}

bool shape_broadcast(const shape *a, const shape *b, shape *r) {
  shape s = {.n = a->n > b->n ? a->n : b->n};
  for (int i = 0; i < s.n; i++) { /* from the last axis on; a missing axis is 1 */
    int64_t x = i < a->n ? a->d[a->n - 1 - i] : 1, y = i < b->n ? b->d[b->n - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) return false;
    s.d[s.n - 1 - i] = x == 1 ? y : x;
  }
  *r = s;
  return true;
}

const char *shape_text(const shape *s, char buf[128]) {
  int at = snprintf(buf, 128, "(");
  for (int i = 0; i < s->n && at < 128; i++)
    at += snprintf(buf + at, 128 - at, i ? ", %lld" : "%lld", (long long)s->d[i]);
  if (at < 127) memcpy(buf + at, ")", 2);
  else memcpy(buf + 123, "...)", 5);
  return buf;
}
