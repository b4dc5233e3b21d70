/* run.c -- running a program: tiles, reductions, partial results.
**
** A chunk is some whole rows of the reduction, a piece of one row, or a block of its columns; chunks
** run on any thread in any order and write where nobody else does. Partial results of a row meet
** pairwise in a fixed order at the end. Where a program folds rows itself, tiles are whole rows.
*/
#include <string.h>

#include "array/program.h"

/* ---- reading strided memory -------------------------------------------------------------------- */

#define COPY_RUN(T)                                                                                \
  do {                                                                                             \
    T *restrict r = dst;                                                                           \
    const T *restrict s = src;                                                                     \
    for (int64_t i = 0; i < n; i++) r[i] = s[i * stride];                                          \
  } while (0)

static void copy_run(void *dst, const void *src, int64_t stride, int64_t n, int esz) {
  if (stride == 1) memcpy(dst, src, n * esz);
  else if (stride == 0) kern_get()->spread[esz == 8 ? I64 : esz == 4 ? F32 : U8](dst, src, 1, n);
  else if (esz == 8) COPY_RUN(uint64_t);
  else if (esz == 4) COPY_RUN(uint32_t);
  else COPY_RUN(uint8_t);
}

void strided_space(space *q, const array *a) {
  int n = 0;
  for (int i = 0; i < a->s.n; i++) {
    if (a->s.d[i] == 1) continue;
    if (n > 0 && q->st[n - 1] == a->stride[i] * a->s.d[i]) q->d[n - 1] *= a->s.d[i];
    else q->d[n++] = a->s.d[i];
    q->st[n - 1] = a->stride[i];
  }
  q->n = n;
}

/* Elements pos..pos+n-1 of base seen through q: where they lie, if side by side and `buf` need not be
** filled, else copied to buf. */
const char *strided_read(const space *q, const char *base, int esz, int64_t pos, int64_t n,
                         char *buf, bool copy) {
  const int64_t *st = q->st;
  int64_t idx[MAXDIM] = {0}, off = 0;
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

/* ---- reductions of what lies dense ------------------------------------------------------------- */

/* (rows, n, inner) at x, dense, reduced to (rows, inner) at r */
void reduce_block(int op, dtype t, int64_t rows, int64_t n, int64_t inner, const char *x, char *r) {
  const kernels *k = kern_get();
  int esz = dtype_size[t];
  dtype rt = reduce_dtype(op, t);
  acc start;
  acc_start(op, t, &start);
  for (int64_t i = 0; i < rows; i++, x += n * inner * esz, r += inner * dtype_size[rt]) {
    if (inner == 1 || n == 0) { /* n == 0: every element is the start */
      acc s = start;
      if (n) k->fold[op][t](&s, x, n, 0);
      imm v = acc_result(op, t, &s, n);
      for (int64_t j = 0; j < inner; j++) imm_store(rt, r + j * dtype_size[rt], v);
    } else {
      memcpy(r, x, inner * esz);
      k->rows[op_table[op].step][t](r, x + inner * esz, n - 1, inner);
    }
  }
}

/* sums of n rows become means */
void reduce_scale(dtype t, char *r, int64_t size, int64_t n) {
  tile k;
  imm_fill(t, &k, (imm){.f = (double)n}, SMALL);
  for (int64_t at = 0; at < size; at += SMALL) {
    char *p = r + at * dtype_size[t];
    kern_get()->map[OP_div][t](p, p, &k, NULL, size - at < SMALL ? size - at : SMALL);
  }
}

/* ---- one tile, one chunk ----------------------------------------------------------------------- */

typedef struct {
  prog *p;
  char *scratch; /* this thread's tiles */
  char **at;     /* address of each value for the current tile */
  acc *state;    /* rows: the row under way, by root */
  int64_t *wide; /* columns: elements gathered in the wide tile, by root */
} run;

static char *tile_of(run *t, int slot) { return t->scratch + (size_t)slot * t->p->room; }

/* One number of a leaf for each run of the tile */
static char *numbers_of(run *t, const value *v, int64_t first, int64_t count) {
  char *to = tile_of(t, v->slot);
  int64_t align = t->p->align, next;
  for (int64_t pos = first; pos < first + count; pos = next, to += v->esz) {
    strided_read(&v->q, v->base, v->esz, pos, 1, to, true);
    next = (pos / align + 1) * align;
  }
  return tile_of(t, v->slot);
}

static int64_t blocks_of(int64_t n) { return (n + FOLD_BLOCK - 1) / FOLD_BLOCK; }

static void run_unit(run *t, const unit *u, int64_t first, int64_t count) {
  prog *p = t->p;
  const char *pool = p->pool + u->pool * POOL_LINE;
  int esz = dtype_size[p->v[u->first].lanes];
  int64_t step = u->runs ? p->align - first % p->align : count, number = 0, lanes = 0;
  for (int64_t at = 0; at < count; at += step, step = p->align, number += esz) {
    int64_t end = at + step < count ? at + step : count;
    u->f(t->at, at * esz, end * esz, pool, number, lanes);
    lanes += blocks_of(end - at) * VECTOR;
  }
}

/* n elements that a unit has added up: the lanes of each block, in order, to the state. Gives what
** follows them. */
static const char *join_lanes(int op, dtype t, acc *s, const char *lanes, int64_t n) {
  for (int64_t k = blocks_of(n); k > 0; k--, lanes += VECTOR) {
    acc o = {.v.f = 0};
    if (t == F64) {
      double v[4];
      memcpy(v, lanes, sizeof v);
      o.v.f = (v[0] + v[2]) + (v[1] + v[3]);
    } else {
      float v[8];
      memcpy(v, lanes, sizeof v);
      o.v.f = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
    }
    acc_merge(op, t, s, &o);
  }
  return lanes;
}

/* Whole rows, each to its result */
static void join_rows(int op, dtype t, int64_t rows, int64_t n, const char *lanes, char *r) {
  for (; rows > 0; rows--, r += dtype_size[t]) {
    acc s;
    acc_start(op, t, &s);
    lanes = join_lanes(op, t, &s, lanes, n);
    imm_store(t, r, acc_result(op, t, &s, n));
  }
}

static void compute(run *t, int64_t first, int64_t count) {
  prog *p = t->p;
  int64_t row = p->row, row_pos = row ? first / row : 0, row_n = row ? count / row : 0;
  char **at = t->at;
  for (const act *d = p->act, *end = d + p->nact; d < end; d++) {
    int64_t pos = d->per_row ? row_pos : first, n = d->per_row ? row_n : count;
    const value *v = d->v;
    char *dst = at[d->i];
    const char *x[3];
    for (int j = 0; j < 3; j++) x[j] = d->in[j] < 0 ? NULL : at[d->in[j]];
    switch (d->kind) {
      case PLACE: at[d->i] = (char *)d->base + pos * d->esz; break;
      case FETCH:
        at[d->i] = (char *)strided_read(&v->q, v->base, d->esz, pos, n, tile_of(t, v->slot), false);
        break;
      case NUMBERS: at[d->i] = numbers_of(t, v, first, count); break;
      case COPY:
        strided_read(&v->q, arr_data(v->a), d->esz, pos, n, (char *)v->base + pos * d->esz, true);
        break;
      case UNIT: run_unit(t, &p->u[v->unit - 1], first, count); break;
      case MAP: d->f(dst, x[0], x[1], x[2], n); break;
      case SPREAD: kern_get()->spread[v->a->dtype](dst, x[0], row_n, row); break;
      case REDUCE: reduce_block(v->a->op, v->a->in[0]->dtype, n, row, 1, x[0], dst); break;
      case JOIN: join_rows(v->a->op, v->a->dtype, n, row, at[v->fold], dst); break;
      case RANDOM:
        if (v->a->dtype == F64) random_f64(v->a->off, v->a->k.i, pos, n, (double *)dst);
        else random_f32(v->a->off, v->a->k.i, pos, n, (float *)dst);
        break;
    }
  }
}

/* Rows (inner == 1): the tile holds whole rows, or a part of one; `piece` ends at `end`. */
static void feed_rows(run *t, int i, const char *x, int64_t pos, int64_t n, int64_t begin,
                      int64_t end) {
  prog *p = t->p;
  root *r = &p->r[i];
  dtype st = p->v[r->v].a->dtype, rt = r->a->dtype;
  char *out = r->buf->p;
  const char *lanes = r->fold >= 0 ? t->at[r->fold] : NULL;
  if (p->n <= p->tile && lanes) {
    join_rows(r->a->op, st, n / p->n, p->n, lanes, out + pos / p->n * dtype_size[rt]);
    return;
  }
  if (p->n <= p->tile) {
    reduce_block(r->a->op, st, n / p->n, p->n, 1, x, out + pos / p->n * dtype_size[rt]);
    return;
  }
  int64_t row = pos / p->n, at = pos % p->n;
  acc *s = &t->state[i];
  if (at == 0 || pos == begin) acc_start(r->a->op, st, s);
  if (lanes) join_lanes(r->a->op, st, s, lanes, n);
  else kern_get()->fold[r->a->op][st](s, x, n, at);
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
  map_fn *step = kern_get()->map[op_table[r->a->op].step][r->a->dtype];
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
  if (p->inner > SMALL) { /* row by row */
    rows_fn *rows = kern_get()->rows[op_table[r->a->op].step][r->a->dtype];
    if (first) memcpy(dst, x, p->inner * esz);
    rows(dst, x + (first ? p->inner * esz : 0), n / p->inner - first, p->inner);
    return;
  }
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
      if (!ends(r->a)) continue;
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
  int worker = par_worker();
  char *at[p->nv + p->nfold];
  acc state[p->nr];
  int64_t wide[p->nr];
  run t = {p, (char *)p->scratch->p + (size_t)worker * p->nslot * p->room, at, state, wide};
  for (int k = 0; k < p->nv; k++) {
    value *v = &p->v[k];
    at[k] = v->slot >= 0 ? tile_of(&t, v->slot) : NULL;
    if (v->a->state == CONST && v->slot >= 0 && !p->filled[worker])
      imm_fill(v->a->dtype, at[k], v->a->k, p->room / v->esz);
  }
  for (int k = 0; k < p->nfold; k++) at[p->nv + k] = tile_of(&t, p->nslot - p->nfold + k);
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
          kern_get()->map[op_table[op].step][t](s + j * esz, s + j * esz,
                                                s + (gap * p->inner + j) * esz, NULL,
                                                p->inner - j < SMALL ? p->inner - j : SMALL);
      }
    if (r->part)
      imm_store(r->a->dtype, out + row * esz, acc_result(op, t, r->part + row * p->pieces, p->n));
    else
      memcpy(out + row * p->inner * esz, r->cols + row * p->pieces * p->inner * esz,
             p->inner * esz);
  }
  if (op == OP_mean && p->inner > 1) reduce_scale(t, out, r->a->size, p->n);
}

void prog_run(prog *p) {
  par_for(p->c, chunks(p), run_chunk, p);
  for (int i = 0; i < p->nr; i++)
    if (ends(p->r[i].a)) combine(p, &p->r[i]);
}
