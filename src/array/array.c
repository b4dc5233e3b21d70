/* array.c -- arrays: making, holding, viewing and reading them.
**
** A READY array points into a buffer by offset and strides (in elements); views share buffers. A CONST
** array is one number in any shape and costs no memory. What computes is in lazy.c, fuse.c and run.c.
*/
#include <string.h>

#include "array/program.h"

#ifdef __SANITIZE_ADDRESS__ /* which shall see a use after the last unref */
enum { SPARES = 0 };
#else
enum { SPARES = 256 };
#endif

static void dense_strides(array *a) {
  int64_t step = 1;
  for (int i = a->s.n - 1; i >= 0; i--) {
    a->stride[i] = step;
    step *= a->s.d[i];
  }
}

array *arr_blank(ctx *c, dtype t, const shape *s, int state) {
  int64_t size = shape_size(s);
  if (size < 0) return fail(c, "an array of this shape is too large"), NULL;
  array *a = c->spare;
  if (!a) a = mg_alloc(c, sizeof *a);
  else if (mem_refuse()) a = (fail_memory(c, sizeof *a), NULL);
  else {
    c->spare = a->next;
    c->nspare--;
  }
  if (!a) return NULL;
  memset(a, 0, offsetof(array, s));
  memset((char *)a + offsetof(array, stride), 0, sizeof *a - offsetof(array, stride));
  a->refs = 1;
  a->dtype = t;
  a->state = state;
  a->s = *s;
  a->size = size;
  a->home = c;
  return a;
}

/* An array without operands or a buffer: to the spare ones of its ctx, which are few */
static void put_away(array *a) {
  ctx *c = a->home;
  if (c->nspare == SPARES) return mg_free(a);
  a->next = c->spare;
  c->spare = a;
  c->nspare++;
}

void arr_close(ctx *c) {
  while (c->spare) {
    array *a = c->spare;
    c->spare = a->next;
    mg_free(a);
  }
  c->nspare = SPARES; /* whoever comes later is freed */
  code_close(c);
}

bool arr_fill_in(ctx *c, array *a) {
  int64_t bytes = a->size * dtype_size[a->dtype];
  if (!(a->buf = buf_new(c, bytes))) return false;
  a->buf->op = c->op;
  const work *w = c->profile ? c->profile->top : NULL;
  if (w && w->row) w->row->bytes += bytes;
  a->off = 0;
  a->state = READY;
  dense_strides(a);
  return true;
}

array *arr_new(ctx *c, dtype t, const shape *s) {
  array *a = arr_blank(c, t, s, READY);
  if (a && !arr_fill_in(c, a)) return put_away(a), NULL;
  return a;
}

array *arr_const(ctx *c, dtype t, const shape *s, imm k) {
  array *a = arr_blank(c, t, s, CONST);
  if (a) a->k = k;
  return a;
}

array *arr_scalar(ctx *c, dtype t, imm k) { return arr_const(c, t, &(shape){0}, k); }

/* Take a buffer over (fuse.c's commit): a becomes READY and dense, its operands go. */
void arr_settle(array *a, buffer *b) {
  array *in[3] = {a->in[0], a->in[1], a->in[2]};
  memset(a->in, 0, sizeof a->in);
  a->nin = 0;
  a->row = 0;
  a->per_row = false;
  a->buf = b;
  b->op = a->op;
  a->off = 0;
  a->state = READY;
  dense_strides(a);
  for (int i = 0; i < 3; i++) arr_unref(in[i]);
}

void arr_unref(array *a) {
  array *todo = NULL;
  for (;;) {
    if (a && --a->refs == 0) {
      a->next = todo;
      todo = a;
    }
    if (!todo) return;
    /* let go of one operand of the first dead array; the array itself after its last */
    array *dead = todo;
    if (dead->nin) {
      a = dead->in[--dead->nin];
    } else {
      todo = dead->next;
      if (dead->buf) buf_unref(dead->buf);
      put_away(dead);
      a = NULL;
    }
  }
}

void arr_empty(array *a) {
  buf_unref(a->buf);
  a->buf = NULL;
  a->state = CONST;
  a->k = (imm){0};
}

void *arr_data(const array *a) { return (char *)a->buf->p + a->off * dtype_size[a->dtype]; }

bool arr_is_contiguous(const array *a) {
  if (a->state != READY) return false;
  int64_t step = 1;
  for (int i = a->s.n - 1; i >= 0; i--) {
    if (a->s.d[i] != 1 && a->stride[i] != step) return a->size == 0;
    step *= a->s.d[i];
  }
  return true;
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

bool arr_get(ctx *c, array *a, imm *v) {
  if (!arr_ready(c, a)) return false;
  *v = a->state == CONST ? a->k : imm_load(a->dtype, arr_data(a));
  return true;
}

array *arr_contiguous(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  return arr_is_contiguous(a) ? arr_ref(a) : arr_copy(c, a);
}

array *arr_zeros(ctx *c, dtype t, const shape *s) {
  array *a = arr_new(c, t, s);
  if (a) memset(a->buf->p, 0, a->size * dtype_size[t]);
  return a;
}

array *arr_iota(ctx *c, dtype t, int64_t n, imm first, imm step) {
  array *a = arr_new(c, t, &(shape){1, {n}});
  if (!a) return NULL;
  for (int64_t i = 0; i < n; i++) {
    if (t == F64) ((double *)a->buf->p)[i] = first.f + i * step.f;
    else if (t == F32) ((float *)a->buf->p)[i] = (float)(first.f + i * step.f);
    else {
      imm v = {.i = (int64_t)((uint64_t)first.i + (uint64_t)i * (uint64_t)step.i)};
      imm_store(t, (char *)a->buf->p + i * dtype_size[t], imm_cast(v, I64, t));
    }
  }
  return a;
}

/* ---- views -------------------------------------------------------------------------------------- */

array *arr_view(ctx *c, array *a, const shape *s, const int64_t *stride, int64_t off) {
  if (!arr_ready(c, a)) return NULL;
  if (a->state == CONST) return arr_const(c, a->dtype, s, a->k);
  array *r = arr_blank(c, a->dtype, s, READY);
  if (!r) return NULL;
  buf_ref(r->buf = a->buf);
  r->off = a->off + off;
  memcpy(r->stride, stride, s->n * sizeof *stride);
  return r;
}

array *arr_reshape(ctx *c, array *a, const shape *s) {
  if (a->per_row) return late_rows(c, OP_reshape, a, s);
  if (!arr_ready(c, a)) return NULL;
  if (a->state == CONST) return arr_const(c, a->dtype, s, a->k);
  array *dense;
  if (arr_is_contiguous(a)) dense = arr_ref(a);
  else {
    WORK(c, OP_reshape);
    dense = arr_copy(c, a);
  }
  if (!dense) return NULL;
  array *r = arr_view(c, dense, s, dense->stride, 0);
  if (r) dense_strides(r);
  arr_unref(dense);
  return r;
}

array *arr_permute(ctx *c, array *a, const int *perm) {
  if (!arr_ready(c, a)) return NULL;
  shape s = {.n = a->s.n};
  int64_t stride[MAXDIM];
  for (int i = 0; i < s.n; i++) {
    s.d[i] = a->s.d[perm[i]];
    stride[i] = a->stride[perm[i]];
  }
  return arr_view(c, a, &s, stride, 0);
}

/* Does a, a number for each row, become a number for all of each row? */
static bool spreads(const array *a, const shape *s) {
  int64_t along = 1;
  int lead = s->n - a->s.n;
  bool same = true;
  for (int i = 0; i < s->n; i++) {
    int64_t d = i < lead ? 1 : a->s.d[i - lead];
    same = same && d == s->d[i];
    if (!same && d != 1) return false;
    if (!same) along *= s->d[i];
  }
  return a->per_row && along == a->row;
}

array *arr_broadcast(ctx *c, array *a, const shape *s) {
  if (spreads(a, s)) return late_rows(c, OP_broadcast_to, a, s);
  if (!arr_ready(c, a)) return NULL;
  int64_t stride[MAXDIM];
  int lead = s->n - a->s.n;
  for (int i = 0; i < s->n; i++)
    stride[i] = i < lead || a->s.d[i - lead] == 1 ? 0 : a->stride[i - lead];
  return arr_view(c, a, s, stride, 0);
}

array *arr_slice(ctx *c, array *a, const shape *s, const int64_t *first, const int64_t *step) {
  if (!arr_ready(c, a)) return NULL;
  int64_t stride[MAXDIM], off = 0;
  for (int i = 0; i < s->n; i++) {
    stride[i] = a->stride[i] * step[i];
    off += a->stride[i] * first[i];
  }
  array *r = arr_view(c, a, s, stride, shape_size(s) ? off : 0);
  if (!r || r->state == CONST) return r;
  size_t bytes = r->size * dtype_size[r->dtype];
  if (bytes <= 4096 && bytes * 16 <= r->buf->bytes) { /* do not let a few bytes keep a big buffer */
    WORK(c, OP_slice);
    array *copy = arr_copy(c, r);
    arr_unref(r);
    r = copy;
  }
  return r;
}
