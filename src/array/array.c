/* array.c -- arrays: making, holding, viewing and reading them.
**
** A READY array is a view of a buffer; views share buffers. A CONST array is one number in any shape and
** costs no memory. What is computed is in lazy.c, fuse.c and calls.c.
*/
#include <string.h>

#include "array/internal.h"

#ifdef __SANITIZE_ADDRESS__ /* which shall see a use after the last unref */
enum { SPARES = 0 };
#else
enum { SPARES = 256 };
#endif

array *arr_blank(ctx *c, dtype t, const shape *s, int state) {
  int64_t size = shape_size(s);
  if (size < 0) return fail(c, "an array of this shape is too large"), NULL;
  arrays *k = c->arrays;
  array *a = k->spare;
  if (!a) a = mg_alloc(c, sizeof *a);
  else if (mem_refuse()) a = (fail_memory(c, sizeof *a), NULL);
  else {
    k->spare = a->next;
    k->nspare--;
  }
  if (!a) return NULL;
  memset(a, 0, offsetof(array, s));
  memset(a->stride, 0, sizeof a->stride);
  a->refs = 1;
  a->dtype = t;
  a->state = state;
  a->s = *s;
  a->size = size;
  a->ctx = c;
  return a;
}

/* An array without operands or a buffer: to the spare ones of its ctx, which are few */
static void recycle(array *a) {
  arrays *k = a->ctx->arrays;
  if (k->nspare == SPARES) return mg_free(a);
  a->next = k->spare;
  k->spare = a;
  k->nspare++;
}

void arr_close(ctx *c) {
  arrays *k = c->arrays;
  while (k->spare) {
    array *a = k->spare;
    k->spare = a->next;
    mg_free(a);
  }
  k->nspare = SPARES; /* whoever comes later is freed */
  fuse_close(c);
  cpu_close(c);
}

static void take_buffer(array *a, buffer *b) {
  a->buf = b;
  a->p = b->p;
  a->state = READY;
  view_make_dense(&a->v);
}

bool arr_fill_in(ctx *c, array *a) {
  int64_t bytes = a->size * dtype_size[a->dtype];
  buffer *b = arr_memory(c, bytes);
  if (!b) return false;
  arrays *k = c->arrays;
  b->op = k->op;
  if (__builtin_expect(k->profile && k->op, 0)) k->profile->op[k->op].bytes += bytes;
  take_buffer(a, b);
  return true;
}

array *arr_new(ctx *c, dtype t, const shape *s) {
  array *a = arr_blank(c, t, s, READY);
  if (a && !arr_fill_in(c, a)) return recycle(a), NULL;
  return a;
}

array *arr_of_buffer(ctx *c, dtype t, const shape *s, buffer *b) {
  array *a = b ? arr_blank(c, t, s, READY) : NULL;
  if (a) take_buffer(a, b);
  else if (b) buf_unref(b);
  return a;
}

array *arr_const(ctx *c, dtype t, const shape *s, imm k) {
  array *a = arr_blank(c, t, s, CONST);
  if (a) a->k = k;
  return a;
}

array *arr_scalar(ctx *c, dtype t, imm k) { return arr_const(c, t, &(shape){0}, k); }

void arr_adopt(array *a, buffer *b) {
  array *in[3] = {a->in[0], a->in[1], a->in[2]};
  memset(a->in, 0, sizeof a->in);
  a->nin = 0;
  a->row = 0;
  a->per_row = a->tail = false;
  b->op = a->op;
  take_buffer(a, b);
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
      recycle(dead);
      a = NULL;
    }
  }
}

void arr_empty(array *a) {
  buf_unref(a->buf);
  a->buf = NULL;
  a->p = NULL;
  a->state = CONST;
  a->k = (imm){0};
}

bool arr_is_contiguous(const array *a) { return a->state == READY && view_dense(&a->v); }

bool arr_get(ctx *c, array *a, imm *v) {
  if (!arr_ready(c, a)) return false;
  if (arr_recorded(a)) return tape_refuse(c);
  *v = a->state == CONST ? a->k : imm_load(a->dtype, a->p);
  return true;
}

array *arr_contiguous(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  return arr_is_contiguous(a) ? arr_ref(a) : arr_copy(c, a);
}
array *arr_host(ctx *c, dtype t, const shape *s) {
  struct tape *tape = c->arrays->tape;
  c->arrays->tape = NULL;
  array *a = arr_new(c, t, s);
  c->arrays->tape = tape;
  return a;
}

array *arr_values(ctx *c, array *a) {
  struct tape *tape = c->arrays->tape;
  c->arrays->tape = NULL;
  array *r = arr_contiguous(c, a);
  c->arrays->tape = tape;
  return r;
}

array *arr_iota(ctx *c, dtype t, int64_t n, imm first, imm step) {
  array *a = arr_host(c, t, &(shape){1, {n}});
  if (!a) return NULL;
  for (int64_t i = 0; i < n; i++) {
    if (t == F64) ((double *)a->buf->p)[i] = first.f + i * step.f;
    else if (t == F32) ((float *)a->buf->p)[i] = (float)(first.f + i * step.f);
    else {
      const int64_t v = (int64_t)((uint64_t)first.i + (uint64_t)i * (uint64_t)step.i);
      if (t == I64) ((int64_t *)a->buf->p)[i] = v;
      else imm_store(t, (char *)a->buf->p + i * dtype_size[t], imm_cast((imm){.i = v}, I64, t));
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
  r->p = (char *)a->p + off * dtype_size[a->dtype];
  memcpy(r->stride, stride, s->n * sizeof *stride);
  return r;
}

/* The strides by which a, which is not empty, is one of shape s; false: only a copy is */
static bool divides(const array *a, const shape *s, int64_t *stride) {
  space q;
  view_space(&a->v, &q);
  int k = q.n - 1;
  int64_t left = q.d[k], step = q.st[k];
  for (int i = s->n - 1; i >= 0; i--) {
    if (s->d[i] > 1 && left == 1 && k > 0) left = q.d[--k], step = q.st[k];
    stride[i] = step;
    if (left % s->d[i]) return false;
    left /= s->d[i];
    step *= s->d[i];
  }
  return true;
}

/* Is a, not dense, read as quickly as a copy of it is made? If it is large and dense along rows */
static bool stays_view(const array *a, const shape *s, int64_t *stride) {
  enum { RUN = 16 };
  int last = a->s.n - 1;
  return a->size >= HEAVY && a->stride[last] == 1 && a->s.d[last] >= RUN && divides(a, s, stride);
}

array *arr_reshape(ctx *c, array *a, const shape *s) {
  int64_t stride[MAXDIM];
  if (a->per_row) return lazy_rows(c, OP_reshape, a, s);
  if (!arr_ready(c, a)) return NULL;
  if (a->state == CONST) return arr_const(c, a->dtype, s, a->k);
  array *dense;
  if (arr_is_contiguous(a)) dense = arr_ref(a);
  else if (stays_view(a, s, stride)) return arr_view(c, a, s, stride, 0);
  else {
    WORK(c, OP_reshape);
    dense = arr_copy(c, a);
  }
  if (!dense) return NULL;
  array *r = arr_view(c, dense, s, dense->stride, 0);
  if (r) view_make_dense(&r->v);
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
  if (spreads(a, s)) return lazy_rows(c, OP_broadcast_to, a, s);
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
