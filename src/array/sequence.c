/* sequence.c -- arrays made ready for what the machine does along sequences: attention, recurrent cells.
*/
#include <limits.h>
#include <string.h>

#include "array/internal.h"

/* a as its rows can be read one by one: dense along the last axis, rows in order */
static array *rows_of(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  int n = a->s.n;
  int64_t rows = a->s.d[n - 2], width = a->s.d[n - 1], row = a->stride[n - 2];
  bool fits = a->state == READY && (width <= 1 || a->stride[n - 1] == 1) &&
              (rows <= 1 || (row >= width && row > 0 && row <= INT_MAX));
  return fits ? arr_ref(a) : arr_contiguous(c, a);
}

/* READY, with strides as they are; a CONST is one element, broadcast */
static array *spread_of(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  if (a->state == READY) return arr_ref(a);
  shape one = {.n = a->s.n};
  for (int i = 0; i < one.n; i++) one.d[i] = 1;
  array *k = arr_const(c, a->dtype, &one, a->k), *d = k ? arr_contiguous(c, k) : NULL;
  array *r = d ? arr_broadcast(c, d, &a->s) : NULL;
  arr_unref(k);
  arr_unref(d);
  return r;
}

/* Likewise as rows, which may be one over and over: at a stride of 0 */
static array *repeated_of(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  int n = a->s.n;
  bool number = true, row = a->state == READY && a->stride[n - 2] == 0 && a->stride[n - 1] == 1;
  for (int i = 0; i < n && a->state == READY; i++) number = number && a->stride[i] == 0;
  if (row) return arr_ref(a);
  if (!number || a->size == 0) return rows_of(c, a);
  shape one = {1, {a->s.d[n - 1]}};
  array *k = a->state == READY ? arr_view(c, a, &one, (const int64_t[]){0}, 0)
                               : arr_const(c, a->dtype, &one, a->k);
  array *d = k ? arr_contiguous(c, k) : NULL, *r = d ? arr_broadcast(c, d, &a->s) : NULL;
  arr_unref(k);
  arr_unref(d);
  return r;
}

/* A fresh array of shape s, whose axes but the last lie in memory in the order of x's */
static array *laid_as(ctx *c, const array *x, const shape *s) {
  int order[MAXDIM], back[MAXDIM];
  shape t = *s;
  for (int i = 0; i < s->n; i++) order[i] = i;
  for (int i = 1; i < s->n - 1; i++)
    for (int k = i; k > 0; k--) {
      int a = order[k - 1], b = order[k];
      if (s->d[a] == 1 || s->d[b] == 1 || x->stride[a] >= x->stride[b]) break;
      order[k - 1] = b;
      order[k] = a;
    }
  for (int i = 0; i < s->n; i++) {
    t.d[i] = s->d[order[i]];
    back[order[i]] = i;
  }
  array *d = arr_new(c, x->dtype, &t), *r = d ? arr_permute(c, d, back) : NULL;
  arr_unref(d);
  return r;
}

static shape with_last(const array *x, int64_t last) {
  shape s = x->s;
  s.d[s.n - 1] = last;
  return s;
}

bool arr_attention(ctx *c, const attention_attr *a, array *const in[4], array *out[2]) {
  WORK(c, OP_attention);
  array *x[4] = {NULL};
  bool ok = true;
  for (int i = 0; i < 3 && ok; i++) ok = (x[i] = rows_of(c, in[i]));
  if (ok && in[3]) ok = (x[3] = spread_of(c, in[3]));
  out[0] = out[1] = NULL;
  if (ok) {
    int n = in[0]->s.n;
    shape y = with_last(x[0], x[2]->s.d[n - 1]), rows = y;
    rows.n--;
    out[0] = laid_as(c, x[0], &y);
    out[1] = out[0] ? arr_new(c, x[0]->dtype, &rows) : NULL;
    ok =
        out[1] && (out[1]->size == 0 || arr_call(c, OP_attention, cpu_attention, (const int64_t *)a,
                                                 4, (const array *const *)x, 2, out));
  }
  if (!ok) arr_unref(out[0]), arr_unref(out[1]);
  for (int i = 0; i < 4; i++) arr_unref(x[i]);
  return ok;
}

bool arr_attention_grad(ctx *c, const attention_attr *a, array *const in[7], array *out[3]) {
  WORK(c, OP_attention);
  array *x[7] = {NULL};
  bool ok = true;
  for (int i = 0; i < 7 && ok; i++)
    if (in[i])
      ok = (x[i] = i == 3 || i == 5 ? spread_of(c, in[i])
                   : i == 6         ? repeated_of(c, in[i])
                                    : rows_of(c, in[i]));
  out[0] = out[1] = out[2] = NULL;
  for (int i = 0; i < 3 && ok; i++) ok = (out[i] = laid_as(c, x[i], &x[i]->s));
  ok = ok && arr_call(c, OP_attention, cpu_attention_grad, (const int64_t *)a, 7,
                      (const array *const *)x, 3, out);
  if (!ok)
    for (int i = 0; i < 3; i++) arr_unref(out[i]);
  for (int i = 0; i < 7; i++) arr_unref(x[i]);
  return ok;
}

/* ---- recurrent cells ---------------------------------------------------------------------------------- */

enum { LSTM = 2, GRU = 3 };

/* Each dense, where there is one */
static bool all_dense(ctx *c, int n, array *const *in, array **x) {
  for (int i = 0; i < n; i++)
    if (in[i] && !(x[i] = arr_contiguous(c, in[i]))) return false;
  return true;
}

static void drop(int n, array **x) {
  for (int i = 0; i < n; i++) arr_unref(x[i]), x[i] = NULL;
}

bool arr_recurrent(ctx *c, const int64_t *attr, array *const in[6], array *gates, array *out[3]) {
  WORK(c, OP_recurrent);
  array *x[6] = {NULL}, *to[4] = {gates};
  bool ok = all_dense(c, 6, in, x);
  shape s = gates->s;
  for (int i = 0; i < 3; i++) out[i] = NULL;
  if (ok) {
    s.d[2] = x[0]->s.d[1];
    if (attr[0] == GRU) ok = (out[2] = arr_new(c, gates->dtype, &s));
    s.d[0]++;
    ok = ok && (out[0] = arr_new(c, gates->dtype, &s));
    if (ok && attr[0] == LSTM) ok = (out[1] = arr_new(c, gates->dtype, &s));
  }
  for (int i = 0; i < 3; i++) to[i + 1] = out[i];
  ok = ok && arr_call(c, OP_recurrent, cpu_recurrent, attr, 6, (const array *const *)x, 4, to);
  if (!ok) drop(3, out);
  drop(6, x);
  return ok;
}

bool arr_recurrent_grad(ctx *c, const int64_t *attr, array *const in[8], bool over, array *out[4]) {
  WORK(c, OP_recurrent);
  array *x[8] = {NULL};
  bool ok = all_dense(c, 8, in, x);
  for (int i = 0; i < 4; i++) out[i] = NULL;
  if (ok) {
    shape s = x[1]->s, state = {2, {s.d[1], x[0]->s.d[1]}};
    out[0] = over ? arr_ref(x[1]) : arr_new(c, x[1]->dtype, &s);
    ok = out[0] && (out[1] = arr_new(c, x[1]->dtype, &state));
    if (ok && attr[0] == LSTM) ok = (out[2] = arr_new(c, x[1]->dtype, &state));
    s.d[2] = state.d[1];
    if (ok && attr[0] == GRU) ok = (out[3] = over ? arr_ref(x[4]) : arr_new(c, x[1]->dtype, &s));
  }
  ok =
      ok && arr_call(c, OP_recurrent, cpu_recurrent_grad, attr, 8, (const array *const *)x, 4, out);
  if (!ok) drop(4, out);
  drop(8, x);
  return ok;
}
