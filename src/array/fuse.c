/* fuse.c -- late evaluation: expressions become short programs over tiles.
**
** An elementwise op on a large array makes a PENDING array and computes nothing. When somebody reads,
** arr_eval turns the expressions below the arrays asked for (roots) into one program: a list of values
** in the order of computation, each with an address for the current tile: leaf memory, output memory
** or scratch that stays in the L1 cache. Reductions are roots of the same pass. What always holds:
**   - operands of a PENDING elementwise array have its shape, or are CONST; none is a PENDING reduction
**   - an operand of a PENDING reduction is no PENDING reduction
**   - tiles, chunks and the order in which partial results meet depend on shapes alone, so that the
**     bits are the same for any number of threads
**   - plan, reserve all, run, commit: without memory nothing has changed
*/
#include "array/fuse.h"

#include <limits.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#include "array/kern.h"

enum {
  SMALL = TILE / 8, /* elements: up to here ops run when called */
  CHUNK = 32768,    /* elements one thread takes at a time, about */
  MAXNODES = 512,   /* distinct pending arrays of one expression */
  MAXBYTES = 6,     /* bytes an expression may keep alive, in units of its result */
  MAXVALUES = 4096  /* values of one program */
};

/* ---- the op table, as data ---------------------------------------------------------------------- */

static const uint8_t rule_of[NOP] = {
#define UNARY(name, rule, ...) [OP_##name] = rule,
#define BINARY(name, rule, ...) [OP_##name] = rule,
#define TERNARY(name, rule, ...) [OP_##name] = rule,
#define REDUCE(name, rule, ...) [OP_##name] = rule,
#include "array/ops.def"
};

static const uint8_t cost_of[NOP] = {
#define UNARY(name, rule, cost, ...) [OP_##name] = cost,
#define BINARY(name, rule, cost, ...) [OP_##name] = cost,
#define TERNARY(name, rule, cost, ...) [OP_##name] = cost,
#include "array/ops.def"
};

/* the op that folds two rows into one, by reduction; 0 for what is no reduction or has no such op */
static const uint8_t step_of[NOP] = {
#define REDUCE(name, rule, step, ...) [OP_##name] = step,
#include "array/ops.def"
};

static const bool is_reduction[NOP] = {
#define REDUCE(name, ...) [OP_##name] = true,
#include "array/ops.def"
};

int op_rule(int op) { return rule_of[op]; }

dtype op_result(int op, dtype t) {
  int rule = rule_of[op];
  return rule == COMPARE || rule == TEST || rule == LOGIC ? BOOL : t;
}

dtype reduce_dtype(int op, dtype t) { return op == OP_argmax || op == OP_argmin ? I64 : t; }

imm op_scalar(int op, dtype t, imm a, imm b, imm d) { return kern_get()->scalar[op][t](a, b, d); }

static dtype operand_dtype(int op, array *const *in) { return in[op == OP_where]->dtype; }

static void fill(void *p, dtype t, imm k, int64_t n) {
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

/* ---- reading strided memory --------------------------------------------------------------------- */

typedef struct {
  int n;
  int64_t d[MAXDIM];
} space; /* the iteration space, axes merged where all leaves allow */

#define COPY_RUN(T)                                                                                \
  do {                                                                                             \
    T *restrict r = dst;                                                                           \
    const T *restrict s = src;                                                                     \
    if (stride == 0)                                                                               \
      for (int64_t i = 0; i < n; i++) r[i] = s[0];                                                 \
    else                                                                                           \
      for (int64_t i = 0; i < n; i++) r[i] = s[i * stride];                                        \
  } while (0)

static void copy_run(void *dst, const void *src, int64_t stride, int64_t n, int esz) {
  if (stride == 1) memcpy(dst, src, n * esz);
  else if (esz == 8) COPY_RUN(uint64_t);
  else if (esz == 4) COPY_RUN(uint32_t);
  else COPY_RUN(uint8_t);
}

/* Elements pos..pos+n-1 of base seen through the strides st: where they lie, if side by side and `buf`
** need not be filled, else copied to buf. */
static const char *fetch(const space *q, const int64_t *st, const char *base, int esz, int64_t pos,
                         int64_t n, char *buf, bool copy) {
  int64_t idx[MAXDIM], off = 0;
  for (int i = q->n - 1; i >= 0; i--) {
    idx[i] = pos % q->d[i];
    pos /= q->d[i];
    off += idx[i] * st[i];
  }
  int last = q->n - 1;
  if (last < 0 || (!copy && st[last] == 1 && idx[last] + n <= q->d[last])) {
    if (copy) memcpy(buf, base + off * esz, n * esz);
    return base + off * esz;
  }
  for (char *dst = buf;;) {
    int64_t run = q->d[last] - idx[last];
    if (run > n) run = n;
    copy_run(dst, base + off * esz, st[last], run, esz);
    if (!(n -= run)) return buf;
    dst += run * esz;
    off -= idx[last] * st[last];
    idx[last] = 0;
    int i = last - 1;
    for (; ++idx[i] == q->d[i]; i--) {
      off -= (q->d[i] - 1) * st[i];
      idx[i] = 0;
    }
    off += st[i];
  }
}

/* ---- small arrays: at once ------------------------------------------------------------------------ */

typedef union {
  char bytes[TILE];
  double align;
} tile __attribute__((aligned(64)));

/* n <= SMALL elements of a READY or CONST array, in place or in buf */
static const void *operand(const array *a, const shape *s, int64_t n, tile *buf) {
  if (a->state == CONST) return fill(buf, a->dtype, a->k, n), buf;
  if (arr_is_contiguous(a)) return arr_data(a);
  space q = {.n = s->n};
  memcpy(q.d, s->d, sizeof q.d);
  return fetch(&q, a->stride, arr_data(a), dtype_size[a->dtype], 0, n, buf->bytes, false);
}

static array *map_now(ctx *c, int op, int nin, array *const *in, const shape *s, dtype t,
                      dtype rt) {
  const void *p[3] = {NULL, NULL, NULL};
  tile buf[3];
  for (int i = 0; i < nin; i++)
    if (!arr_ready(c, in[i])) return NULL;
  array *r = arr_new(c, rt, s);
  if (!r || !r->size) return r;
  for (int i = 0; i < nin; i++) p[i] = operand(in[i], s, r->size, &buf[i]);
  const kernels *k = kern_get();
  (op == OP_to ? k->cast[t][rt] : k->map[op][t])(r->buf->p, p[0], p[1], p[2], r->size);
  return r;
}

/* (rows, n, inner) at x, dense, reduced to (rows, inner) at r */
static void reduce_block(int op, dtype t, int64_t rows, int64_t n, int64_t inner, const char *x,
                         char *r) {
  const kernels *k = kern_get();
  int esz = dtype_size[t];
  dtype rt = reduce_dtype(op, t);
  for (int64_t i = 0; i < rows; i++, x += n * inner * esz, r += inner * dtype_size[rt]) {
    if (inner == 1 || n == 0) { /* n == 0: every element is the start */
      acc s;
      acc_start(op, t, &s);
      if (n) k->fold[op][t](&s, x, n, 0);
      for (int64_t j = 0; j < inner; j++)
        imm_store(rt, r + j * dtype_size[rt], acc_result(op, t, &s, n));
    } else {
      memcpy(r, x, inner * esz);
      for (int64_t j = 1; j < n; j++)
        for (int64_t at = 0; at < inner; at += SMALL)
          k->map[step_of[op]][t](r + at * esz, r + at * esz, x + (j * inner + at) * esz, NULL,
                                 inner - at < SMALL ? inner - at : SMALL);
    }
  }
}

/* sums of n rows become means */
static void scale_down(dtype t, char *r, int64_t size, int64_t n) {
  tile k;
  fill(&k, t, (imm){.f = (double)n}, SMALL);
  for (int64_t at = 0; at < size; at += SMALL) {
    char *p = r + at * dtype_size[t];
    kern_get()->map[OP_div][t](p, p, &k, NULL, size - at < SMALL ? size - at : SMALL);
  }
}

/* ---- the program ------------------------------------------------------------------------------------ */

typedef struct {
  array *a;
  map_fn *f;     /* instruction; NULL: leaf, or random numbers */
  int32_t in[3]; /* values it reads, -1: none */
  int32_t last;  /* the last value that reads it, itself if none */
  int32_t root;  /* the root it is, -1: none */
  int32_t slot;  /* scratch tile, -1: none */
  uint8_t esz;
  bool strided;       /* leaf: fetched through st */
  bool needed;        /* some array that stays pending will need it again */
  const char *base;   /* READY leaf: first element; root: its output */
  int64_t st[MAXDIM]; /* strided leaf: strides over the space */
} value;

typedef struct {
  array *a;
  int32_t v; /* the value it is, or reduces */
  buffer *buf;
  array *from; /* the array whose buffer this is, NULL: fresh */
  acc *part;   /* reduction of rows in pieces: states[row * pieces + piece] */
  char *cols;  /* reduction of columns in pieces: (rows, pieces, inner) */
  buffer *partbuf;
  int32_t wide; /* reduction of columns: scratch tile that gathers several rows */
} root;

typedef struct {
  ctx *c;
  value *v;
  int nv, cap;
  root *r;
  int nr;
  int nslot;
  buffer *scratch; /* threads x nslot tiles */
  char *filled;    /* per thread: constants stand in its scratch */
  space q;
  int64_t size, rows, n, inner; /* the shape as (rows, n, inner); n, inner of the reductions */
  int64_t tile, align;     /* elements of a tile; tiles longer than `align` end at its multiples */
  int64_t rpc, nb, pieces; /* a chunk: rpc whole rows, or nb of a row's n */
  int64_t jw, jblocks;     /* ... of jw columns each, where inner is long */
} prog;

static _Atomic uint32_t epoch = 1;

/* Visit the pending arrays below `top` once each, operands first. visit gets every array, leaves too,
** when its operands are done. */
static bool postorder(array *top, uint32_t mark, bool (*visit)(void *, array *), void *arg) {
  struct {
    array *a;
    int next;
  } stack[MAXNODES * 3 + 8];
  int depth = 0;
  if (top->mark == mark) return true;
  top->mark = mark;
  top->uses = 0;
  stack[depth].a = top;
  stack[depth++].next = 0;
  while (depth) {
    array *a = stack[depth - 1].a;
    if (a->state == PENDING && stack[depth - 1].next < a->nin) {
      array *x = a->in[stack[depth - 1].next++];
      if (x->mark != mark) {
        x->mark = mark;
        x->uses = 0;
        stack[depth].a = x;
        stack[depth++].next = 0;
      }
      x->uses++;
    } else {
      if (!visit(arg, a)) return false;
      depth--;
    }
  }
  return true;
}

typedef struct {
  int nodes;
  size_t bytes;
} weight;

static bool weigh(void *arg, array *a) {
  weight *w = arg;
  if (a->state == PENDING) w->nodes++;
  else if (a->state == READY) {
    size_t dense = a->size * dtype_size[a->dtype];
    w->bytes += a->buf->bytes < dense ? a->buf->bytes : dense;
  }
  return true;
}

static bool add_value(void *arg, array *a) {
  prog *p = arg;
  if (p->nv == p->cap) {
    int cap = p->cap ? p->cap * 2 : 32;
    value *v = mg_alloc(p->c, cap * sizeof *v);
    if (!v) return false;
    if (p->nv) memcpy(v, p->v, p->nv * sizeof *v);
    mg_free(p->v);
    p->v = v;
    p->cap = cap;
  }
  a->val = p->nv;
  value *v = &p->v[p->nv++];
  *v = (value){.a = a,
               .in = {-1, -1, -1},
               .last = a->val,
               .root = -1,
               .slot = -1,
               .esz = dtype_size[a->dtype]};
  if (a->state == PENDING) {
    for (int i = 0; i < a->nin; i++) {
      v->in[i] = a->in[i]->val;
      p->v[v->in[i]].last = a->val;
    }
    const kernels *k = kern_get();
    if (a->op == OP_to) v->f = k->cast[a->in[0]->dtype][a->dtype];
    else if (a->op != OP_rand) v->f = k->map[a->op][operand_dtype(a->op, a->in)];
  } else if (a->state == READY) {
    v->base = arr_data(a);
    v->strided = !arr_is_contiguous(a);
  }
  return true;
}

static bool reduces(const array *a) { return a->state == PENDING && is_reduction[a->op]; }
static array *body_of(array *a) { return reduces(a) ? a->in[0] : a; }

/* Does another program have to evaluate b than the one that has root a? */
static bool together(const array *a, const array *b) {
  const array *x = body_of((array *)a), *y = body_of((array *)b);
  if (!shape_eq(&x->s, &y->s)) return false;
  return !reduces(a) || !reduces(b) || (a->n == b->n && a->inner == b->inner);
}

static bool add_root(prog *p, array *a, int32_t v) {
  root *r = mg_alloc(p->c, (p->nr + 1) * sizeof *r);
  if (!r) return false;
  if (p->nr) memcpy(r, p->r, p->nr * sizeof *r);
  mg_free(p->r);
  p->r = r;
  r[p->nr] = (root){.a = a, .v = v, .wide = -1};
  if (!reduces(a)) p->v[v].root = p->nr;
  p->nr++;
  return true;
}

/* Values held from outside: store what a gradient will read and is dear to compute again, and what was
** computed before: by and by the holder seems to be more than a box that is not collected yet. */
static bool plan_stores(prog *p) {
  bool lean = p->c->lean;
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    array *a = v->a;
    if (a->state != PENDING || v->root >= 0 || a->refs == a->uses) continue;
    bool dear = cost_of[a->op] == DEAR;
    if (lean ? !a->saved && a->passes > 1 : dear ? a->saved || a->passes : a->passes > 1) {
      if (!add_root(p, a, i)) return false;
    } else v->needed = true; /* stays pending: what is below may not be given away */
  }
  for (int i = p->nv - 1; i >= 0; i--)
    if (p->v[i].needed)
      for (int j = 0; j < 3; j++)
        if (p->v[i].in[j] >= 0 && p->v[p->v[i].in[j]].root < 0) p->v[p->v[i].in[j]].needed = true;
  return true;
}

/* Merge axes that every strided leaf walks through evenly */
static void plan_space(prog *p, const shape *s) {
  int n = 0;
  int64_t *d = p->q.d;
  for (int i = 0; i < s->n; i++) {
    if (s->d[i] == 1) continue;
    bool merge = n > 0;
    for (int k = 0; k < p->nv && merge; k++)
      if (p->v[k].strided && p->v[k].st[n - 1] != p->v[k].a->stride[i] * s->d[i]) merge = false;
    if (merge) d[n - 1] *= s->d[i];
    else d[n++] = s->d[i];
    for (int k = 0; k < p->nv; k++)
      if (p->v[k].strided) p->v[k].st[n - 1] = p->v[k].a->stride[i];
  }
  p->q.n = n;
}

/* How the work is cut. Depends on the shape, the widest dtype and the reduction alone. */
static void plan_cut(prog *p, array *red) {
  int64_t widest = 1, short_row = 0;
  for (int i = 0; i < p->nv; i++) {
    if (p->v[i].esz > widest) widest = p->v[i].esz;
    if (p->v[i].strided && p->q.n) short_row = p->q.d[p->q.n - 1];
  }
  int64_t most = TILE / widest;
  p->rows = red ? red->rows : 1;
  p->n = red ? red->n : p->size;
  p->inner = red ? red->inner : 1;
  /* tiles end with the rows of the reduction, or of the strided leaves where rows are not tiny */
  p->align = red ? (p->inner == 1 ? p->n : p->inner) : short_row >= 128 ? short_row : most;
  int64_t whole = red && p->n * p->inner <= most ? p->n * p->inner : p->align;
  p->tile = whole <= most ? most / whole * whole : most;
  p->jw = p->inner;
  p->jblocks = 1;
  if (p->inner > most) { /* long columns: cut across, keep n in one piece unless it is long too */
    p->jw = p->inner < CHUNK ? p->inner : CHUNK;
    p->jblocks = (p->inner + p->jw - 1) / p->jw;
    p->nb = p->n <= 128 ? p->n : CHUNK / p->jw > 64 ? CHUNK / p->jw : 64;
    p->rpc = 1;
  } else {
    int64_t row = p->n * p->inner, unit = p->inner == 1 ? p->tile : 1; /* cut rows between tiles */
    p->nb = row <= CHUNK ? p->n : (CHUNK / p->inner + unit - 1) / unit * unit;
    p->rpc = row <= CHUNK ? CHUNK / row : 1;
  }
  p->pieces = (p->n + p->nb - 1) / p->nb;
}

/* Scratch tiles: constants and strided leaves keep theirs, instructions share */
static bool plan_slots(prog *p) {
  int nfree = 0;
  int32_t *freed = mg_alloc(p->c, (p->nv + 1) * sizeof *freed);
  if (!freed) return false;
  for (int i = 0; i < p->nr; i++) {
    p->v[p->r[i].v].last = INT_MAX; /* reductions read it after the last instruction */
    if (reduces(p->r[i].a) && p->inner > 1) p->r[i].wide = p->nslot++;
  }
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    if (v->a->state != PENDING) {
      if (v->a->state == CONST || v->strided) v->slot = p->nslot++;
      continue;
    }
    for (int pass = 0; pass < 2;
         pass++) { /* the tile of an operand as wide may become the result's */
      for (int j = 0; j < 3; j++) {
        if (v->in[j] < 0) continue;
        value *x = &p->v[v->in[j]];
        bool again = (j > 0 && v->in[j] == v->in[0]) || (j > 1 && v->in[j] == v->in[1]);
        if (x->last == i && x->slot >= 0 && x->a->state == PENDING && !again &&
            (x->esz == v->esz) == (pass == 0))
          freed[nfree++] = x->slot;
      }
      if (pass == 0 && v->root < 0) v->slot = nfree ? freed[--nfree] : p->nslot++;
    }
  }
  mg_free(freed);
  return true;
}

/* Whose buffer a root may take over: it is dense, of the same bytes, nobody else's, and read for the
** last time before the root is written. */
static bool may_take(prog *p, const root *r, const array *x, int holders) {
  const array *a = r->a;
  if (x->state != READY || x->dtype != a->dtype || x->size != a->size || !arr_is_contiguous(x))
    return false;
  if (x->buf->refs != 1 || x->buf->release || x->off) return false;
  bool leaf = x->mark == a->mark;
  if (x->refs != (leaf ? x->uses : 0) + holders) return false;
  if (leaf && (p->v[x->val].needed || p->v[x->val].last > r->v)) return false;
  for (int i = 0; i < p->nr; i++)
    if (p->r[i].from == x) return false;
  return true;
}

static bool reserve(prog *p, array *const *olds) {
  for (int i = 0; i < p->nr; i++) {
    root *r = &p->r[i];
    array *a = r->a;
    if (!reduces(a) && a->state == PENDING) {
      array *old = olds ? olds[i] : NULL;
      if (old && may_take(p, r, old, 1)) r->from = old;
      for (int k = 0; k < p->nv && !r->from; k++)
        if (p->v[k].a->state == READY && may_take(p, r, p->v[k].a, 0)) r->from = p->v[k].a;
    }
    if (r->from) r->buf = r->from->buf;
    else if (!(r->buf = buf_new(p->c, a->size * dtype_size[a->dtype]))) return false;
    if (!reduces(a)) p->v[r->v].base = r->buf->p;
    else if (p->pieces > 1) {
      size_t each = p->inner == 1 ? sizeof(acc) : (size_t)p->inner * dtype_size[a->dtype];
      if (!(r->partbuf = buf_new(p->c, p->rows * p->pieces * each))) return false;
      if (p->inner == 1) r->part = r->partbuf->p;
      else r->cols = r->partbuf->p;
    }
  }
  int threads = p->c->threads;
  p->scratch = buf_new(p->c, (size_t)threads * (p->nslot + 1) * TILE);
  p->filled = mg_alloc(p->c, threads);
  if (!p->scratch || !p->filled) return false;
  memset(p->filled, 0, threads);
  return true;
}

/* ---- running it --------------------------------------------------------------------------------------- */

typedef struct {
  prog *p;
  char *scratch; /* this thread's tiles */
  char **at;     /* address of each value for the current tile */
  acc *state;    /* rows: the row under way, by root */
  int64_t *wide; /* columns: elements gathered in the wide tile, by root */
} run;

static char *tile_of(run *t, int slot) { return t->scratch + (size_t)slot * TILE; }

static void compute(run *t, int64_t pos, int64_t n) {
  prog *p = t->p;
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    array *a = v->a;
    if (a->state == PENDING) {
      char *dst = v->root >= 0 ? (char *)v->base + pos * v->esz : t->at[i];
      if (v->f)
        v->f(dst, v->in[0] < 0 ? NULL : t->at[v->in[0]], v->in[1] < 0 ? NULL : t->at[v->in[1]],
             v->in[2] < 0 ? NULL : t->at[v->in[2]], n);
      else if (a->dtype == F64) random_f64(a->off, a->k.i, pos, n, (double *)dst);
      else random_f32(a->off, a->k.i, pos, n, (float *)dst);
      t->at[i] = dst;
    } else if (v->root >= 0) { /* a leaf to be copied */
      fetch(&p->q, v->st, arr_data(a), v->esz, pos, n, (char *)v->base + pos * v->esz, true);
    } else if (v->strided) {
      t->at[i] = (char *)fetch(&p->q, v->st, v->base, v->esz, pos, n, tile_of(t, v->slot), false);
    } else if (a->state == READY) t->at[i] = (char *)v->base + pos * v->esz;
  }
}

/* Rows (inner == 1): the tile holds whole rows, or a part of one; `piece` ends at `end`. */
static void feed_rows(run *t, int i, const char *x, int64_t pos, int64_t n, int64_t begin,
                      int64_t end) {
  prog *p = t->p;
  root *r = &p->r[i];
  dtype st = p->v[r->v].a->dtype, rt = r->a->dtype;
  char *out = r->buf->p;
  if (p->n <= p->tile) {
    reduce_block(r->a->op, st, n / p->n, p->n, 1, x, out + pos / p->n * dtype_size[rt]);
    return;
  }
  int64_t row = pos / p->n, at = pos % p->n;
  acc *s = &t->state[i];
  if (at == 0 || pos == begin) acc_start(r->a->op, st, s);
  kern_get()->fold[r->a->op][st](s, x, n, at);
  if (r->part) {
    if (pos + n == end) r->part[row * p->pieces + at / p->nb] = *s;
  } else if (at + n == p->n)
    imm_store(rt, out + row * dtype_size[rt], acc_result(r->a->op, st, s, p->n));
}

/* Columns: add the tile to the row of partial results it belongs to. */
static void feed_columns(run *t, int i, const char *x, int64_t pos, int64_t n, bool first,
                         bool last) {
  prog *p = t->p;
  root *r = &p->r[i];
  int esz = dtype_size[r->a->dtype];
  map_fn *step = kern_get()->map[step_of[r->a->op]][r->a->dtype];
  int64_t whole = p->n * p->inner;
  if (whole <= p->tile && n % whole == 0) { /* several results in one tile */
    reduce_block(r->a->op, r->a->dtype, n / whole, p->n, p->inner, x,
                 (char *)r->buf->p + pos / whole * p->inner * esz);
    return;
  }
  int64_t row = pos / whole, at = pos % whole, piece = at / p->inner / p->nb;
  char *dst = r->cols ? r->cols + (row * p->pieces + piece) * p->inner * esz
                      : (char *)r->buf->p + row * p->inner * esz;
  if (p->inner > p->tile) { /* a part of one row */
    dst += at % p->inner * esz;
    if (first) memcpy(dst, x, n * esz);
    else step(dst, dst, x, NULL, n);
    return;
  }
  char *wide = tile_of(t, r->wide);
  if (first) {
    memcpy(wide, x, n * esz);
    t->wide[i] = n / p->inner;
  } else step(wide, wide, x, NULL, n);
  if (!last) return;
  int64_t k = t->wide[i];
  for (; k > 1; k -= k / 2) {
    int64_t half = k / 2;
    step(wide, wide, wide + (k - half) * p->inner * esz, NULL, half * p->inner);
  }
  memcpy(dst, wide, p->inner * esz);
}

/* Elements begin..end-1, all in one row of the reduction, or whole rows. `first`, `last`: of the
** rows that are folded together here. */
static void run_span(run *t, int64_t begin, int64_t end, bool first, bool last) {
  prog *p = t->p;
  int64_t whole = p->n * p->inner;
  bool fits = whole <= p->tile; /* a tile may hold several rows of a reduction */
  for (int64_t pos = begin, n; pos < end; pos += n) {
    n = end - pos;
    if (n > p->tile) n = p->tile;
    if (p->align > p->tile && n > p->align - pos % p->align) n = p->align - pos % p->align;
    if (!fits && n > whole - pos % whole) n = whole - pos % whole;
    compute(t, pos, n);
    for (int i = 0; i < p->nr; i++) {
      root *r = &p->r[i];
      if (!reduces(r->a)) continue;
      const char *x = t->at[r->v];
      bool head = first && (pos == begin || pos % whole == 0 || p->inner > p->tile);
      bool tail = last && (pos + n == end || (pos + n) % whole == 0);
      if (p->inner == 1) feed_rows(t, i, x, pos, n, begin, end);
      else feed_columns(t, i, x, pos, n, head, tail);
    }
  }
}

static int64_t chunks(const prog *p) {
  if (p->jblocks > 1 || p->pieces > 1 || p->rpc == 1) return p->rows * p->pieces * p->jblocks;
  return (p->rows + p->rpc - 1) / p->rpc;
}

static void run_chunk(void *arg, int64_t i) {
  prog *p = arg;
  int worker = omp_get_thread_num();
  char *at[p->nv];
  acc state[p->nr];
  int64_t wide[p->nr];
  run t = {p, (char *)p->scratch->p + (size_t)worker * (p->nslot + 1) * TILE, at, state, wide};
  for (int k = 0; k < p->nv; k++) {
    value *v = &p->v[k];
    at[k] = v->slot >= 0 ? tile_of(&t, v->slot) : NULL;
    if (v->a->state == CONST && v->root < 0 && !p->filled[worker])
      fill(at[k], v->a->dtype, v->a->k, TILE / v->esz);
  }
  p->filled[worker] = 1;
  int64_t whole = p->n * p->inner;
  if (p->rpc > 1 || (p->pieces == 1 && p->jblocks == 1 && p->inner <= p->tile)) { /* whole rows */
    int64_t lo = i * p->rpc, hi = lo + p->rpc < p->rows ? lo + p->rpc : p->rows;
    run_span(&t, lo * whole, hi * whole, true, true);
    return;
  }
  int64_t jb = i % p->jblocks, piece = i / p->jblocks % p->pieces, row = i / p->jblocks / p->pieces;
  int64_t n0 = piece * p->nb, n1 = n0 + p->nb < p->n ? n0 + p->nb : p->n;
  if (p->inner <= p->tile) { /* a piece of one row */
    run_span(&t, row * whole + n0 * p->inner, row * whole + n1 * p->inner, true, true);
    return;
  }
  int64_t j0 = jb * p->jw,
          j1 = j0 + p->jw < p->inner ? j0 + p->jw : p->inner; /* a block of columns */
  for (int64_t k = n0; k < n1; k++)
    run_span(&t, row * whole + k * p->inner + j0, row * whole + k * p->inner + j1, k == n0,
             k == n1 - 1);
}

/* Partial results meet pairwise, neighbours first */
static void combine(prog *p, root *r) {
  dtype t = p->v[r->v].a->dtype;
  int op = r->a->op, esz = dtype_size[r->a->dtype];
  char *out = r->buf->p;
  for (int64_t row = 0; row < p->rows && p->pieces > 1; row++) {
    for (int64_t gap = 1; gap < p->pieces; gap *= 2)
      for (int64_t i = 0; i + gap < p->pieces; i += 2 * gap) {
        if (r->part) {
          acc *s = r->part + row * p->pieces + i;
          acc_merge(op, t, s, s + gap);
          continue;
        }
        char *s = r->cols + (row * p->pieces + i) * p->inner * esz;
        for (int64_t j = 0; j < p->inner; j += SMALL)
          kern_get()->map[step_of[op]][t](s + j * esz, s + j * esz, s + (gap * p->inner + j) * esz,
                                          NULL, p->inner - j < SMALL ? p->inner - j : SMALL);
      }
    if (r->part)
      imm_store(r->a->dtype, out + row * esz, acc_result(op, t, r->part + row * p->pieces, p->n));
    else
      memcpy(out + row * p->inner * esz, r->cols + row * p->pieces * p->inner * esz,
             p->inner * esz);
  }
  if (op == OP_mean && p->inner > 1) scale_down(t, out, r->a->size, p->n);
}

static void discard(prog *p) {
  for (int i = 0; i < p->nr; i++) {
    if (p->r[i].buf && !p->r[i].from) buf_unref(p->r[i].buf);
    if (p->r[i].partbuf) buf_unref(p->r[i].partbuf);
  }
  if (p->scratch) buf_unref(p->scratch);
  mg_free(p->filled);
  mg_free(p->v);
  mg_free(p->r);
}

/* Roots become READY; values that were computed but not stored remember it */
static void commit(prog *p) {
  for (int i = 0; i < p->nv; i++) {
    array *a = p->v[i].a;
    if (a->state == PENDING && p->v[i].root < 0 && a->passes < UINT8_MAX) a->passes++;
    arr_ref(a); /* values may hold one another: all stay until all roots are settled */
  }
  for (int i = 0; i < p->nr; i++) {
    root *r = &p->r[i];
    if (reduces(r->a)) combine(p, r);
    if (r->from) r->from->buf = NULL;
  }
  for (int i = 0; i < p->nr; i++) {
    root *r = &p->r[i];
    if (r->a->state == PENDING) arr_settle(r->a, r->buf);
    r->buf = NULL;
  }
  for (int i = 0; i < p->nv; i++) arr_unref(p->v[i].a);
}

/* One program: the roots a[0..n-1] fit together; those marked done are skipped. */
static bool evaluate(ctx *c, int n, array *const *a, array *const *olds) {
  prog p = {.c = c};
  uint32_t mark = atomic_fetch_add(&epoch, 1);
  array *red = NULL;
  bool ok = true;
  for (int i = 0; i < n && ok; i++) {
    array *x = body_of(a[i]);
    ok = postorder(x, mark, add_value, &p);
    if (x != a[i]) {
      x->uses++; /* the reduction holds it */
      a[i]->mark = mark;
      red = a[i];
    }
    ok = ok && add_root(&p, a[i], x->val);
  }
  ok = ok && plan_stores(&p);
  if (ok) {
    array *x = p.v[p.nv - 1].a;
    p.size = x->size;
    plan_space(&p, &body_of(a[0])->s);
    p.size = body_of(a[0])->size;
    plan_cut(&p, red);
    ok = plan_slots(&p) && reserve(&p, olds);
  }
  if (ok) {
    par_for(c, chunks(&p), run_chunk, &p);
    commit(&p);
  }
  discard(&p);
  return ok;
}

bool arr_eval(ctx *c, int n, array *const *a, array *const *olds) {
  array *group[64], *old[64];
  for (;;) { /* the first one pending, and what can go with it */
    int m = 0, left = 0, nodes = 0;
    for (int i = 0; i < n; i++) {
      if (a[i]->state != PENDING) continue;
      bool twice = false;
      for (int k = 0; k < m; k++) twice |= group[k] == a[i];
      if (twice) continue;
      if (m && (m == 64 || nodes + a[i]->nodes > MAXVALUES || !together(group[0], a[i]))) {
        left++;
        continue;
      }
      bool fits = true;
      for (int k = 0; k < m; k++) fits = fits && together(group[k], a[i]);
      if (!fits) {
        left++;
        continue;
      }
      nodes += a[i]->nodes;
      old[m] = olds ? olds[i] : NULL;
      group[m++] = a[i];
    }
    if (m == 0) return true;
    if (!evaluate(c, m, group, left ? NULL : old)) return false;
    if (!left) return true;
  }
}

bool arr_ready(ctx *c, array *a) { return a->state != PENDING || arr_eval(c, 1, &a, NULL); }

array *arr_copy(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  array *r = arr_new(c, a->dtype, &a->s);
  if (!r || !r->size) return r;
  int esz = dtype_size[a->dtype];
  if (a->state == CONST) fill(r->buf->p, a->dtype, a->k, a->size);
  else if (arr_is_contiguous(a)) memcpy(r->buf->p, arr_data(a), a->size * esz);
  else { /* a program of one leaf that is its own root */ prog p = {.c = c, .size = a->size};
    bool ok = add_value(&p, a) && add_root(&p, a, 0);
    if (ok) {
      plan_space(&p, &a->s);
      plan_cut(&p, NULL);
      p.v[0].base = r->buf->p;
      p.filled = mg_alloc(c, c->threads);
      p.scratch = buf_new(c, (size_t)c->threads * TILE);
      ok = p.filled && p.scratch;
    }
    if (ok) par_for(c, chunks(&p), run_chunk, &p);
    discard(&p);
    if (!ok) return arr_unref(r), NULL;
  }
  return r;
}

/* ---- making pending arrays ------------------------------------------------------------------------------ */

static array *pend(ctx *c, int op, dtype t, const shape *s, int nin, array *const *in) {
  array *a = arr_blank(c, t, s, PENDING);
  if (!a) return NULL;
  a->op = op;
  int nodes = 1;
  for (int i = 0; i < nin; i++) {
    a->in[a->nin++] = arr_ref(in[i]);
    if (in[i]->state == PENDING) nodes += in[i]->nodes;
  }
  a->nodes = nodes > UINT16_MAX ? UINT16_MAX : nodes;
  return a;
}

/* Keep expressions small: not too many nodes, not too many bytes that live for them alone */
static bool bound(ctx *c, array *a) {
  if (a->nodes < MAXNODES && a->size < CHUNK && a->nodes % 16) return true;
  weight w = {0, 0};
  postorder(a, atomic_fetch_add(&epoch, 1), weigh, &w);
  a->nodes = w.nodes;
  if (w.nodes < MAXNODES && w.bytes <= (size_t)a->size * dtype_size[a->dtype] * MAXBYTES)
    return true;
  return arr_ready(c, a);
}

array *arr_map(ctx *c, int op, int nin, array *const *in, const shape *s) {
  dtype t = operand_dtype(op, in), rt = op_result(op, t);
  bool constant = true;
  for (int i = 0; i < nin; i++) {
    if (reduces(in[i]) && !arr_ready(c, in[i])) return NULL;
    constant = constant && in[i]->state == CONST;
  }
  if (constant && op != OP_to) {
    imm k[3] = {{0}, {0}, {0}};
    for (int i = 0; i < nin; i++) k[i] = in[i]->k;
    return arr_const(c, rt, s, op_scalar(op, t, k[0], k[1], k[2]));
  }
  if (shape_size(s) <= SMALL) return map_now(c, op, nin, in, s, t, rt);
  array *a = pend(c, op, rt, s, nin, in);
  if (a && !bound(c, a)) return arr_unref(a), NULL;
  return a;
}

array *arr_cast(ctx *c, array *a, dtype t) {
  if (a->dtype == t) return arr_ref(a);
  if (reduces(a) && !arr_ready(c, a)) return NULL;
  if (a->state == CONST) return arr_const(c, t, &a->s, imm_cast(a->k, a->dtype, t));
  if (a->size <= SMALL) return map_now(c, OP_to, 1, &a, &a->s, a->dtype, t);
  array *r = pend(c, OP_to, t, &a->s, 1, &a);
  if (r && !bound(c, r)) return arr_unref(r), NULL;
  return r;
}

array *arr_random(ctx *c, dtype t, const shape *s) {
  array *a = arr_blank(c, t, s, PENDING);
  if (!a) return NULL;
  a->op = OP_rand;
  a->nodes = 1;
  a->off = (int64_t)c->seed;
  a->k.i = (int64_t)random_take(c, a->size);
  if (a->size > SMALL) return a;
  uint64_t at = a->k.i;
  if (!arr_fill_in(c, a)) return arr_unref(a), NULL;
  if (t == F64) random_f64(c->seed, at, 0, a->size, a->buf->p);
  else random_f32(c->seed, at, 0, a->size, a->buf->p);
  return a;
}

array *arr_reduce(ctx *c, int op, array *x, int first, int last, bool keepdims) {
  int64_t rows = 1, n = 1, inner = 1;
  shape s = {0};
  for (int i = 0; i < x->s.n; i++) {
    int64_t d = x->s.d[i];
    if (i < first) rows *= d;
    else if (i > last) inner *= d;
    else n *= d;
    if (i < first || i > last) s.d[s.n++] = d;
    else if (keepdims) s.d[s.n++] = 1;
  }
  if (reduces(x) && !arr_ready(c, x)) return NULL;
  dtype rt = reduce_dtype(op, x->dtype);
  bool index = op == OP_argmax || op == OP_argmin;
  if (n == 1 && !index && op != OP_logsumexp) return arr_reshape(c, x, &s); /* nothing to fold */
  if (inner > 1 && n > 0 && !step_of[op]) { /* folds rows only: bring the axes to the end */
    int perm[MAXDIM], k = 0;
    shape back = s;
    for (int i = 0; i < x->s.n; i++)
      if (i < first || i > last) perm[k++] = i;
    for (int i = first; i <= last; i++) perm[k++] = i;
    array *y = arr_permute(c, x, perm);
    array *r = y ? arr_reduce(c, op, y, x->s.n - (last - first) - 1, x->s.n - 1, false) : NULL;
    array *shaped = r ? arr_reshape(c, r, &back) : NULL;
    arr_unref(y);
    arr_unref(r);
    return shaped;
  }
  if (x->size <= SMALL) {
    if (!arr_ready(c, x)) return NULL;
    array *r = arr_new(c, rt, &s);
    if (!r) return NULL;
    tile buf;
    reduce_block(op, x->dtype, rows, n, inner, x->size ? operand(x, &x->s, x->size, &buf) : NULL,
                 r->buf->p);
    if (op == OP_mean && inner > 1 && n) scale_down(r->dtype, r->buf->p, r->size, n);
    return r;
  }
  array *r = pend(c, op, rt, &s, 1, &x);
  if (!r) return NULL;
  r->rows = rows;
  r->n = n;
  r->inner = inner;
  return r;
}
