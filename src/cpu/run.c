/* run.c -- running a program by its schedule: tiles, reductions, partial results.
**
** Chunks run on any thread in any order and write where nobody else does. A tile is computed act by act,
** then fed to the reductions that end the program. Partial results of a row meet at the end, in an order
** that only the cut knows: neighbours first, then pairs of pairs; columns of float32 one after the other, in
** double.
*/
#include <string.h>

#include "cpu/acc.h"
#include "cpu/schedule.h"

typedef union {
  char bytes[TILE];
  double number;
} small_tile __attribute__((aligned(64)));

/* ---- reading strided memory -------------------------------------------------------------------- */

#define COPY_SEGMENT(T)                                                                            \
  do {                                                                                             \
    T *restrict r = dst;                                                                           \
    const T *restrict s = src;                                                                     \
    for (int64_t i = 0; i < n; i++) r[i] = s[i * stride];                                          \
  } while (0)

/* n numbers side by side, each so many times */
static void repeat_each(void *dst, const void *src, int64_t n, int64_t times, int esz) {
  kern_get()->spread[esz == 8 ? I64 : esz == 4 ? F32 : U8](dst, src, n, times);
}

INLINE void copy_segment(void *dst, const void *src, int64_t stride, int64_t n, int esz) {
  if (stride == 1) memcpy(dst, src, n * esz);
  else if (stride == 0) repeat_each(dst, src, 1, n, esz);
  else if (esz == 8) COPY_SEGMENT(uint64_t);
  else if (esz == 4) COPY_SEGMENT(uint32_t);
  else COPY_SEGMENT(uint8_t);
}

/* n elements of rows that are all the same, x: copied once; then what was copied is, twice as many each time */
static void copy_row(char *dst, const char *x, int64_t stride, int64_t n, int64_t row, int esz) {
  int64_t have = least(row, n);
  copy_segment(dst, x, stride, have, esz);
  for (int64_t some; have < n; have += some) {
    some = least(have, n - have);
    memcpy(dst + have * esz, dst, some * esz);
  }
}

/* n elements of rows that are each one number, x the first, the others so far apart */
static void repeat_rows(char *dst, const char *x, int64_t apart, int64_t n, int64_t row, int esz) {
  small_tile side;
  for (int64_t rows; n >= row; n -= rows * row) {
    rows = least(n / row, SMALL);
    if (apart != 1) copy_segment(&side, x, apart, rows, esz);
    repeat_each(dst, apart == 1 ? x : side.bytes, rows, row, esz);
    dst += rows * row * esz;
    x += rows * apart * esz;
  }
  if (n) repeat_each(dst, x, 1, n, esz);
}

static void read_rows(const space *q, char *dst, const char *x, int64_t n, int esz) {
  if (q->st[0] == 0) copy_row(dst, x, q->st[1], n, q->d[1], esz);
  else repeat_rows(dst, x, q->st[0], n, q->d[1], esz);
}

/* Elements pos..pos+n-1 of base seen through q: where they lie, if side by side and `buf` need not be
** filled, else copied to buf. */
static const char *strided_read(const space *q, const char *base, int esz, int64_t pos, int64_t n,
                                char *buf, bool copy) {
  const int64_t *st = q->st;
  int64_t idx[MAXDIM] = {0}, off = 0;
  for (int i = (int)q->n - 1; i >= 0; i--) {
    idx[i] = pos % q->d[i];
    pos /= q->d[i];
    off += idx[i] * st[i];
  }
  int last = (int)q->n - 1;
  if (last < 0 || (!copy && st[last] == 1 && idx[last] + n <= q->d[last])) {
    if (copy) memcpy(buf, base + off * esz, n * esz);
    return base + off * esz;
  }
  bool rows = last == 1 && (st[0] == 0 || st[1] == 0); /* all the same, or each one number */
  for (char *dst = buf;;) {
    int64_t some = least(q->d[last] - idx[last], n);
    copy_segment(dst, base + off * esz, st[last], some, esz);
    if (!(n -= some)) return buf;
    dst += some * esz;
    off -= idx[last] * st[last];
    idx[last] = 0;
    if (rows) return read_rows(q, dst, base + (off + st[0]) * esz, n, esz), buf;
    int i = last - 1;
    for (; ++idx[i] == q->d[i]; i--) {
      off -= (q->d[i] - 1) * st[i];
      idx[i] = 0;
    }
    off += st[i];
  }
}

const void *cpu_gather_small(const view *v, int64_t n, char *buf) {
  space q;
  if (view_dense(v)) return v->p;
  view_space(v, &q);
  return strided_read(&q, v->p, dtype_size[v->dtype], 0, n, buf, false);
}

/* What is transposed in one go: whole lines of the cache both ways. At most LONG of a row are one part's. */
enum { DEEP = 32, SIDE = 16, LONG = CHUNK / DEEP };

typedef struct {
  const view *from, *to;
  space q;
  int near; /* the axis along which `from` lies side by side, where that is not the last of several */
} copying;

static void copy_part(void *arg, int64_t i) {
  const copying *k = arg;
  int esz = dtype_size[k->to->dtype];
  int64_t pos = i * CHUNK, n = least(CHUNK, k->to->size - pos);
  strided_read(&k->q, k->from->p, esz, pos, n, (char *)k->to->p + pos * esz, true);
}

#define TRANSPOSE(T)                                                                               \
  do {                                                                                             \
    T side[DEEP][SIDE], *to = dst;                                                                 \
    const T *from = src;                                                                           \
    for (int64_t at = 0, m; at < n; at += m, from += m * far, to += m) {                           \
      m = least(SIDE, n - at);                                                                     \
      if (m == SIDE) {                                                                             \
        for (int64_t j = SIDE; j < least(2 * SIDE, n - at); j++)                                   \
          for (int64_t i = 0; i < rows; i += 64 / sizeof(T))                                       \
            __builtin_prefetch(&from[j * far + i]);                                                \
        for (int64_t i = 0; i < rows; i++)                                                         \
          for (int64_t j = 0; j < SIDE; j++) side[i][j] = from[j * far + i];                       \
        for (int64_t i = 0; i < rows; i++) memcpy(to + i * apart, side[i], sizeof side[i]);        \
      } else                                                                                       \
        for (int64_t i = 0; i < rows; i++)                                                         \
          for (int64_t j = 0; j < m; j++) to[i * apart + j] = from[j * far + i];                   \
    }                                                                                              \
  } while (0)

/* Rows of n elements, `apart` in dst; in src each stands beside the row before, its elements `far` apart */
static void transpose(void *dst, int64_t apart, const void *src, int64_t far, int64_t rows,
                      int64_t n, int esz) {
  if (esz == 8) TRANSPOSE(uint64_t);
  else if (esz == 4) TRANSPOSE(uint32_t);
  else TRANSPOSE(uint8_t);
}

/* Elements pos..end-1 seen through q, whose rows begin side by side: many rows at a time */
static void read_panel(const space *q, const char *base, int esz, int64_t pos, int64_t end,
                       char *to) {
  const int64_t *d = q->d, *st = q->st, last = q->n - 1, row = d[last];
  for (int64_t n; pos < end; pos += n, to += n * esz) {
    int64_t line = pos / row, rows = least((end - pos) / row, d[last - 1] - line % d[last - 1]),
            off = 0;
    if (pos % row || rows == 0) {
      n = least(row - pos % row, end - pos);
      strided_read(q, base, esz, pos, n, to, true);
      continue;
    }
    rows = least(rows, DEEP);
    n = rows * row;
    for (int64_t a = last - 1; a >= 0; line /= d[a--]) off += line % d[a] * st[a];
    transpose(to, row, base + off * esz, st[last], rows, row, esz);
  }
}

static int64_t deep_parts(int64_t n) { return (n + DEEP - 1) / DEEP; }
static int64_t long_parts(int64_t n) { return (n + LONG - 1) / LONG; }

/* DEEP rows along `near`: each line of memory is read once and written once, however far apart they are */
static void transpose_part(void *arg, int64_t i) {
  const copying *k = arg;
  const space *q = &k->q;
  int last = (int)q->n - 1, esz = dtype_size[k->to->dtype];
  int64_t pieces = long_parts(q->d[last]), begin = i % pieces * LONG,
          n = least(LONG, q->d[last] - begin);
  int64_t from = begin * q->st[last], to = begin, apart = 0, rows = 0, each = q->d[last];
  i /= pieces;
  for (int a = last - 1; a >= 0; each *= q->d[a--]) {
    int64_t count = a == k->near ? deep_parts(q->d[a]) : q->d[a], at = i % count;
    i /= count;
    if (a == k->near) at *= DEEP, rows = least(DEEP, q->d[a] - at), apart = each;
    from += at * q->st[a];
    to += at * each;
  }
  transpose((char *)k->to->p + to * esz, apart, (const char *)k->from->p + from * esz, q->st[last],
            rows, n, esz);
}

bool cpu_copy(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  copying k = {in[0], out[0], {0}, -1};
  const space *q = &k.q;
  int64_t size = out[0]->size;
  (void)attr;
  view_space(in[0], &k.q);
  int last = (int)q->n - 1;
  for (int a = 0; a < last; a++)
    if (q->st[a] == 1 && q->d[a] >= SIDE && q->st[last] > 1) k.near = a;
  if (view_dense(in[0])) memcpy(out[0]->p, in[0]->p, size * dtype_size[in[0]->dtype]);
  else if (!size || k.near < 0) par_for(c, (size + CHUNK - 1) / CHUNK, copy_part, &k);
  else {
    int64_t d = q->d[k.near], n = q->d[last];
    par_for(c, size / d / n * deep_parts(d) * long_parts(n), transpose_part, &k);
  }
  return true;
}

bool cpu_zero(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  (void)c, (void)attr, (void)in;
  memset(out[0]->p, 0, out[0]->size * dtype_size[out[0]->dtype]);
  return true;
}

bool cpu_random(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  (void)c, (void)in;
  if (out[0]->dtype == F64) random_f64(attr[0], attr[1], 0, out[0]->size, out[0]->p);
  else random_f32(attr[0], attr[1], 0, out[0]->size, out[0]->p);
  return true;
}

/* ---- reductions of what lies dense ------------------------------------------------------------- */

map_fn *cpu_kernel(int op, dtype from, dtype to) {
  const kernels *k = kern_get();
  return op == OP_to || op == OP_reshape ? k->cast[from][to] : k->map[op][from];
}
imm cpu_scalar(int op, dtype t, imm a, imm b, imm d) { return op_scalar(op, t, a, b, d); }

/* r[i] += x[i] */
static void add_floats(double *r, const float *x, int64_t n) {
  const kernels *k = kern_get();
  double wide[SMALL];
  for (int64_t i = 0; i < n; i += SMALL) {
    int64_t some = least(n - i, SMALL);
    k->cast[F32][F64](wide, x + i, NULL, NULL, some);
    k->map[OP_add][F64](r + i, r + i, wide, NULL, some);
  }
}

/* The sums of columns of few elements, whose columns are long */
static void add_columns(int64_t n, int64_t inner, const float *x, float *r) {
  double sum[SMALL / SUM_RUN] = {0};
  for (int64_t i = 0; i < n; i++, x += inner)
    for (int64_t j = 0; j < inner; j++) sum[j] += x[j];
  for (int64_t j = 0; j < inner; j++) r[j] = (float)sum[j];
}

static void reduce_rows(int op, dtype t, int64_t rows, int64_t n, int64_t inner, const char *x,
                        char *r) {
  const kernels *k = kern_get();
  int esz = dtype_size[t];
  dtype rt = reduce_dtype(op, t);
  if (inner == 1 && n > 0 && n <= FOLD_BLOCK && rows > 1) {
    k->each[op][t](r, x, rows, n);
    return;
  }
  bool wide = t == F32 && (op == OP_sum || op == OP_mean) && n > SUM_RUN && n * inner <= SMALL;
  acc start;
  acc_start(op, t, &start);
  for (int64_t i = 0; i < rows; i++, x += n * inner * esz, r += inner * dtype_size[rt]) {
    if (inner == 1 || n == 0) { /* n == 0: every element is the start */
      acc s = start;
      if (n) k->fold[op][t](&s, x, n, 0);
      imm v = acc_result(op, t, &s, n);
      for (int64_t j = 0; j < inner; j++) imm_store(rt, r + j * dtype_size[rt], v);
    } else if (wide) {
      add_columns(n, inner, (const float *)x, (float *)r);
    } else {
      memcpy(r, x, inner * esz);
      k->rows[op_table[op].step][t](r, x + inner * esz, n - 1, inner);
    }
  }
}

/* sums of n rows become means */
static void divide(dtype t, char *r, int64_t size, int64_t n) {
  small_tile k;
  imm_fill(t, &k, (imm){.f = (double)n}, SMALL);
  for (int64_t at = 0; at < size; at += SMALL) {
    char *p = r + at * dtype_size[t];
    kern_get()->map[OP_div][t](p, p, &k, NULL, least(size - at, SMALL));
  }
}

void cpu_reduce(int op, dtype t, int64_t rows, int64_t n, int64_t inner, const char *x, char *r) {
  reduce_rows(op, t, rows, n, inner, x, r);
  if (op == OP_mean && inner > 1 && n) divide(reduce_dtype(op, t), r, rows * inner, n);
}

/* ---- one run, one chunk -------------------------------------------------------------------------- */

typedef struct {
  const schedule *s;
  const binding *leaf;
  void *const *out;
  char *scratch; /* by worker */
  size_t each;   /* bytes of it */
  char *filled;  /* by worker: its constants stand there */
  acc **part;    /* by output: reductions of rows in splits: states[row * splits + split] */
  char **cols;   /* ... of columns: (rows, splits, inner) */
} job;

typedef struct {
  int64_t begin, end;
} span;

typedef struct {
  const job *j;
  const schedule *s;
  char *scratch; /* this thread's tiles */
  char **at;     /* address of each value for the current tile */
  acc *state;    /* ROW_BY_TILES: the row under way, by output */
  int64_t *wide; /* COLS_GATHERED: elements in the wide tile, by output */
  span *panel;   /* what stands in them, by act */
  int64_t end;   /* of the elements that are computed in one go */
} run;

static char *tile_of(const run *t, int slot) { return t->scratch + (size_t)slot * t->s->cut.room; }
static double *sums_of(const run *t, const output *o) {
  return (double *)(void *)(t->scratch + o->sums);
}

/* One number of an input for each segment of the tile */
static char *numbers_of(run *t, const act *a, int64_t first, int64_t count) {
  char *to = tile_of(t, a->slot), *base = (char *)t->j->leaf[a->bound].p;
  int64_t align = t->s->cut.align, next;
  if (a->q->n == 2 && a->q->d[1] == align && a->q->st[0] == 1) /* they stand side by side */
    return base + first / align * a->esz;
  for (int64_t pos = first; pos < first + count; pos = next, to += a->esz) {
    strided_read(a->q, base, a->esz, pos, 1, to, true);
    next = (pos / align + 1) * align;
  }
  return tile_of(t, a->slot);
}

static int64_t blocks_of(int64_t n) { return (n + FOLD_BLOCK - 1) / FOLD_BLOCK; }

static void run_loop(run *t, const loop *l, int64_t first, int64_t count) {
  const char *pool = t->s->pool + l->pool * POOL_LINE;
  int64_t align = t->s->cut.align, segment = 0, blocks = 0;
  int64_t step = l->segments ? align - first % align : count;
  for (int64_t at = 0; at < count; at += step, step = align, segment += l->esz) {
    int64_t end = least(at + step, count);
    l->f(t->at, at * l->esz, end * l->esz, pool, segment, blocks);
    blocks += blocks_of(end - at) * VECTOR;
  }
}

/* n elements that a loop has added up: the sums of each block, in order, to the state. Gives what
** follows them. */
static const char *join_blocks(int op, dtype t, acc *s, const char *blocks, int64_t n) {
  for (int64_t k = blocks_of(n); k > 0; k--, blocks += VECTOR) {
    acc o = {.v.f = 0};
    if (t == F64) {
      double v[4];
      memcpy(v, blocks, sizeof v);
      o.v.f = (v[0] + v[2]) + (v[1] + v[3]);
    } else {
      float v[8];
      memcpy(v, blocks, sizeof v);
      o.v.f = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
    }
    acc_merge(op, t, s, &o);
  }
  return blocks;
}

/* Whole rows, each to its result */
static void join_rows(int op, dtype t, int64_t rows, int64_t n, const char *blocks, char *r) {
  for (; rows > 0; rows--, r += dtype_size[t]) {
    acc s;
    acc_start(op, t, &s);
    blocks = join_blocks(op, t, &s, blocks, n);
    imm_store(t, r, acc_result(op, t, &s, n));
  }
}

static const char *from_panel(const run *t, const act *a, const char *base, int64_t pos,
                              int64_t n) {
  char *panel = t->scratch + a->panel;
  span *p = &t->panel[a - t->s->act];
  if (pos < p->begin || pos + n > p->end) {
    *p = (span){pos, least(pos + CHUNK, t->end)};
    read_panel(a->q, base, a->esz, p->begin, p->end, panel);
  }
  return panel + (pos - p->begin) * a->esz;
}

static void compute(run *t, int64_t first, int64_t count) {
  const schedule *s = t->s;
  int64_t row = s->p.row, row_pos = row ? first / row : 0, row_n = row ? count / row : 0;
  char **at = t->at;
  for (const act *a = s->act, *end = a + s->nact; a < end; a++) {
    int64_t pos = a->per_row ? row_pos : first, n = a->per_row ? row_n : count;
    const binding *b = a->bound >= 0 && a->kind != PLACE_OUTPUT ? &t->j->leaf[a->bound] : NULL;
    char *dst = at[a->i];
    const char *x[3];
    for (int j = 0; j < 3; j++) x[j] = a->in[j] < 0 ? NULL : at[a->in[j]];
    switch (a->kind) {
      case PLACE_INPUT: at[a->i] = (char *)b->p + pos * a->esz; break;
      case PLACE_OUTPUT: at[a->i] = (char *)t->j->out[a->bound] + pos * a->esz; break;
      case FETCH:
        at[a->i] = a->panel < 0 ? (char *)strided_read(a->q, b->p, a->esz, pos, n,
                                                       tile_of(t, a->slot), false)
                                : (char *)from_panel(t, a, b->p, pos, n);
        break;
      case ONE_A_SEGMENT: at[a->i] = numbers_of(t, a, first, count); break;
      case RUN_LOOP: run_loop(t, &s->loop[a->extra], first, count); break;
      case RUN_KERNEL: a->f(dst, x[0], x[1], x[2], n); break;
      case SPREAD: kern_get()->spread[a->dtype](dst, x[0], row_n, row); break;
      case REDUCE_ROWS: reduce_rows(a->op, a->dtype, n, row, 1, x[0], dst); break;
      case JOIN_ROWS: join_rows(a->op, a->dtype, n, row, at[a->extra], dst); break;
      case FILL_RANDOM:
        if (a->dtype == F64) random_f64(b->seed, b->k.i, pos, n, (double *)dst);
        else random_f32(b->seed, b->k.i, pos, n, (float *)dst);
        break;
    }
  }
}

/* ---- tiles to the reductions at the end -------------------------------------------------------------- */

/* Elements pos..pos+n-1 of a span begin..end-1. `opens`, `closes`: they begin, end what is folded together
** here; `turn`: so many pieces of that stand before. */
typedef struct {
  int64_t pos, n, begin, end, turn;
  bool opens, closes;
} piece;

static void rows_in_tile(run *t, int k, const piece *q) {
  const output *o = &t->s->output[k];
  int64_t n = t->s->cut.n;
  char *r = (char *)t->j->out[k] + q->pos / n * dtype_size[o->dtype];
  if (o->blocks >= 0) join_rows(o->op, o->from, q->n / n, n, t->at[o->blocks], r);
  else reduce_rows(o->op, o->from, q->n / n, n, 1, t->at[o->value], r);
}

static void row_by_tiles(run *t, int k, const piece *q) {
  const output *o = &t->s->output[k];
  const cut *c = &t->s->cut;
  int64_t row = q->pos / c->n, at = q->pos % c->n;
  acc *s = &t->state[k];
  if (at == 0 || q->pos == q->begin) acc_start(o->op, o->from, s);
  if (o->blocks >= 0) join_blocks(o->op, o->from, s, t->at[o->blocks], q->n);
  else kern_get()->fold[o->op][o->from](s, t->at[o->value], q->n, at);
  if (c->splits > 1) {
    if (q->pos + q->n == q->end) t->j->part[k][row * c->splits + at / c->n_per_split] = *s;
  } else if (at + q->n == c->n)
    imm_store(o->dtype, (char *)t->j->out[k] + row * dtype_size[o->dtype],
              acc_result(o->op, o->from, s, c->n));
}

static void cols_in_tile(run *t, int k, const piece *q) {
  const output *o = &t->s->output[k];
  const cut *c = &t->s->cut;
  char *r = (char *)t->j->out[k] + q->pos / c->whole * c->inner * dtype_size[o->dtype];
  reduce_rows(o->op, o->from, q->n / c->whole, c->n, c->inner, t->at[o->value], r);
}

/* Where the results of the split of columns go that the piece belongs to */
static char *cols_of(const run *t, int k, int64_t pos) {
  const cut *c = &t->s->cut;
  int64_t row = pos / c->whole, split = pos % c->whole / c->inner / c->n_per_split;
  int64_t at = c->splits > 1 ? row * c->splits + split : row;
  char *base = c->splits > 1 ? t->j->cols[k] : t->j->out[k];
  return base + at * c->inner * dtype_size[t->s->output[k].dtype];
}

/* A run of floats is complete, n of them at x: they are added to the sums at `to`. `first`, `last`: of those
** that are folded together; after the last the sums are at x. */
static void end_run(double *to, float *x, int64_t n, bool first, bool last) {
  if (first) kern_get()->cast[F32][F64](to, x, NULL, NULL, n);
  else add_floats(to, x, n);
  if (last) kern_get()->cast[F64][F32](x, to, NULL, NULL, n);
}

/* The rows of its split that stand before the piece */
static int64_t rows_before(const cut *c, int64_t pos) {
  return pos % c->whole / c->inner % c->n_per_split;
}

static void cols_by_parts(run *t, int k, const piece *q) {
  const output *o = &t->s->output[k];
  const cut *c = &t->s->cut;
  int esz = dtype_size[o->dtype];
  int64_t col = q->pos % c->inner, row = rows_before(c, q->pos);
  char *dst = cols_of(t, k, q->pos) + col * esz;
  if (q->opens || (o->sums >= 0 && row % SUM_RUN == 0)) memcpy(dst, t->at[o->value], q->n * esz);
  else kern_get()->map[op_table[o->op].step][o->dtype](dst, dst, t->at[o->value], NULL, q->n);
  if (o->sums >= 0 && (q->closes || row % SUM_RUN == SUM_RUN - 1))
    end_run(sums_of(t, o) + col % c->cols_per_block, (float *)(void *)dst, q->n, row < SUM_RUN,
            q->closes);
}

static void cols_by_rows(run *t, int k, const piece *q) {
  const output *o = &t->s->output[k];
  const cut *c = &t->s->cut;
  rows_fn *step = kern_get()->rows[op_table[o->op].step][o->dtype];
  int64_t bytes = c->inner * dtype_size[o->dtype], rows = q->n / c->inner;
  int64_t row = o->sums >= 0 ? rows_before(c, q->pos) : 0;
  char *dst = cols_of(t, k, q->pos);
  const char *x = t->at[o->value];
  bool opens = q->opens;
  for (int64_t some; rows > 0; rows -= some, row += some, x += some * bytes) {
    some = o->sums >= 0 ? least(rows, SUM_RUN - row % SUM_RUN) : rows;
    opens |= o->sums >= 0 && row % SUM_RUN == 0;
    if (opens) memcpy(dst, x, bytes);
    step(dst, x + (opens ? bytes : 0), some - opens, c->inner);
    opens = false;
    bool last = q->closes && some == rows;
    if (o->sums >= 0 && (last || (row + some) % SUM_RUN == 0))
      end_run(sums_of(t, o), (float *)(void *)dst, c->inner, row < SUM_RUN, last);
  }
}

/* Rows that stand side by side become one: pairs of them, then pairs of pairs */
static void join_side_by_side(map_fn *step, int esz, char *x, int64_t rows, int64_t inner) {
  for (; rows > 1; rows -= rows / 2) {
    int64_t half = rows / 2;
    step(x, x, x + (rows - half) * inner * esz, NULL, half * inner);
  }
}

static void cols_gathered(run *t, int k, const piece *q) {
  const output *o = &t->s->output[k];
  const cut *c = &t->s->cut;
  const kernels *kern = kern_get();
  int esz = dtype_size[o->dtype], step = op_table[o->op].step;
  char *wide = tile_of(t, o->wide);
  const char *x = t->at[o->value];
  bool again = o->sums >= 0 && q->turn % SUM_RUN == 0;
  if (q->opens) t->wide[k] = q->n / c->inner;
  if (q->opens || again) {
    memcpy(wide, x, q->n * esz);
    if (again) memset(wide + q->n * esz, 0, (c->tile - q->n) * esz);
  } else kern->map[step][o->dtype](wide, wide, x, NULL, q->n);
  if (o->sums >= 0 && (q->closes || q->turn % SUM_RUN == SUM_RUN - 1)) {
    double *sums = sums_of(t, o);
    end_run(sums, (float *)(void *)wide, t->wide[k] * c->inner, q->turn < SUM_RUN, false);
    if (q->closes) {
      join_side_by_side(kern->map[step][F64], sizeof *sums, (char *)sums, t->wide[k], c->inner);
      kern->cast[F64][F32](wide, sums, NULL, NULL, c->inner);
    }
  } else if (q->closes)
    join_side_by_side(kern->map[step][o->dtype], esz, wide, t->wide[k], c->inner);
  if (q->closes) memcpy(cols_of(t, k, q->pos), wide, c->inner * esz);
}

static void feed(run *t, const piece *q) {
  static void (*const how[])(run *, int, const piece *) = {
      [ROWS_IN_TILE] = rows_in_tile, [ROW_BY_TILES] = row_by_tiles,
      [COLS_IN_TILE] = cols_in_tile, [COLS_GATHERED] = cols_gathered,
      [COLS_BY_ROWS] = cols_by_rows, [COLS_BY_PARTS] = cols_by_parts};
  for (int k = 0; k < t->s->noutput; k++)
    if (t->s->output[k].op) how[t->s->cut.fold](t, k, q);
}

/* Elements begin..end-1, all in one row of the reduction, or whole rows. `first`, `last`: of the
** rows that are folded together here. */
static void run_span(run *t, int64_t begin, int64_t end, bool first, bool last) {
  const cut *c = &t->s->cut;
  bool within = c->whole > c->tile; /* a tile stays in one row of the reduction */
  int64_t at = within ? begin % c->whole : 0, turn = 0;
  t->end = end;
  for (int64_t pos = begin, n; pos < end; pos += n) {
    n = least(end - pos, c->tile);
    if (c->align > c->tile) n = least(n, c->align - pos % c->align);
    if (within) n = least(n, c->whole - at);
    compute(t, pos, n);
    if (c->fold == NO_FOLD) continue;
    bool opens = pos == begin || at == 0 || c->fold == COLS_BY_PARTS;
    at = within && at + n < c->whole ? at + n : 0;
    bool closes = pos + n == end || at == 0 || c->fold == COLS_BY_PARTS;
    feed(t, &(piece){pos, n, begin, end, turn, first && opens, last && closes});
    turn = at ? turn + 1 : 0;
  }
}

static void run_chunk(void *arg, int64_t i) {
  const job *j = arg;
  const schedule *s = j->s;
  const cut *c = &s->cut;
  int worker = par_worker();
  char *at[s->nvalue + s->nblocks + 1];
  acc state[s->noutput];
  int64_t wide[s->noutput];
  span panel[s->nact + 1];
  run t = {j, s, j->scratch + (size_t)worker * j->each, at, state, wide, panel, 0};
  memset(panel, 0, sizeof panel);
  for (int k = 0; k < s->nvalue; k++) at[k] = s->slot[k] >= 0 ? tile_of(&t, s->slot[k]) : NULL;
  for (int k = 0; k < s->nblocks; k++) at[s->nvalue + k] = tile_of(&t, s->nslot - s->nblocks + k);
  for (int k = 0; k < s->nconst && !j->filled[worker]; k++) {
    const constant_tile *n = &s->constant[k];
    imm_fill(n->dtype, at[n->entry], j->leaf[n->bound].k, c->room / dtype_size[n->dtype]);
  }
  j->filled[worker] = 1;
  if (c->kind == WHOLE_ROWS) {
    int64_t lo = i * c->rows_per_chunk, hi = least(lo + c->rows_per_chunk, c->rows);
    run_span(&t, lo * c->whole, hi * c->whole, true, true);
    return;
  }
  int64_t block = i % c->col_blocks, split = i / c->col_blocks % c->splits;
  int64_t row = i / c->col_blocks / c->splits * c->whole;
  int64_t n0 = split * c->n_per_split, n1 = least(n0 + c->n_per_split, c->n);
  if (c->kind == SPLIT_OF_ROW) {
    run_span(&t, row + n0 * c->inner, row + n1 * c->inner, true, true);
    return;
  }
  int64_t j0 = block * c->cols_per_block, j1 = least(j0 + c->cols_per_block, c->inner);
  for (int64_t k = n0; k < n1; k++)
    run_span(&t, row + k * c->inner + j0, row + k * c->inner + j1, k == n0, k == n1 - 1);
}

/* ---- the run ------------------------------------------------------------------------------------------- */

/* Sums of columns of float32: the splits' meet in double, one after the other */
static void combine_floats(const cut *c, const char *part, char *out) {
  double sum[SMALL];
  for (int64_t x = 0; x < c->inner; x += SMALL) {
    int64_t n = least(c->inner - x, SMALL);
    memset(sum, 0, sizeof sum);
    for (int64_t i = 0; i < c->splits; i++)
      add_floats(sum, (const float *)(const void *)part + i * c->inner + x, n);
    kern_get()->cast[F64][F32]((float *)(void *)out + x, sum, NULL, NULL, n);
  }
}

/* Other partial results pairwise, neighbours first */
static void combine_cols(const cut *c, const output *o, char *part, char *out) {
  int esz = dtype_size[o->dtype];
  int64_t bytes = c->inner * esz;
  map_fn *step = kern_get()->map[op_table[o->op].step][o->from];
  for (int64_t gap = 1; gap < c->splits; gap *= 2)
    for (int64_t i = 0; i + gap < c->splits; i += 2 * gap) {
      char *s = part + i * bytes;
      for (int64_t x = 0; x < c->inner; x += SMALL)
        step(s + x * esz, s + x * esz, s + gap * bytes + x * esz, NULL, least(c->inner - x, SMALL));
    }
  memcpy(out, part, bytes);
}

static void combine_states(const cut *c, const output *o, acc *part, char *out) {
  for (int64_t gap = 1; gap < c->splits; gap *= 2)
    for (int64_t i = 0; i + gap < c->splits; i += 2 * gap)
      acc_merge(o->op, o->from, &part[i], &part[i + gap]);
  imm_store(o->dtype, out, acc_result(o->op, o->from, part, c->n));
}

static void combine(const job *j, int k) {
  const cut *c = &j->s->cut;
  const output *o = &j->s->output[k];
  int64_t bytes = c->inner * dtype_size[o->dtype];
  char *out = j->out[k];
  for (int64_t row = 0; row < c->rows && c->splits > 1; row++) {
    char *to = out + row * bytes, *part = j->cols[k] + row * c->splits * bytes;
    if (c->inner == 1) combine_states(c, o, j->part[k] + row * c->splits, to);
    else if (o->floats) combine_floats(c, part, to);
    else combine_cols(c, o, part, to);
  }
  if (o->op == OP_mean && c->inner > 1) divide(o->dtype, out, c->rows * c->inner, c->n);
}

/* Scratch for the threads that run, and for partial results: one block */
static int workers_of(const ctx *c, const schedule *s) {
  return (int)least(c->threads, s->cut.chunks);
}

/* With a byte for each worker: are its constants filled in? */
static size_t tiles_of(const schedule *s, int workers) {
  return ((size_t)workers * (s->each + 1) + 63) / 64 * 64;
}

static size_t partial(const schedule *s) { /* results of each reduction */
  size_t most = s->cut.inner == 1 ? sizeof(acc) : (size_t)s->cut.inner * 8;
  return s->cut.splits > 1 ? ((size_t)s->cut.rows * s->cut.splits * most + 63) / 64 * 64 : 0;
}

size_t cpu_scratch(ctx *c, const schedule *s) {
  if (program_is_number(s->asked)) return 0;
  size_t bytes = tiles_of(s, workers_of(c, s));
  for (int k = 0; k < s->noutput; k++)
    if (s->output[k].op) bytes += partial(s);
  return bytes;
}

static void cut_up(job *j, int workers) {
  const schedule *s = j->s;
  size_t parts = partial(s);
  j->filled = j->scratch + (size_t)workers * j->each;
  memset(j->filled, 0, workers);
  char *at = j->scratch + tiles_of(s, workers);
  for (int k = 0; k < s->noutput; k++) {
    j->part[k] = (acc *)(void *)at;
    j->cols[k] = at;
    if (s->output[k].op) at += parts;
  }
}

/* The numbers that loops read: a line of each */
static void fill_pool(const schedule *s, const binding *leaf) {
  for (int i = 0; i < s->nnumber; i++) {
    const pool_number *n = &s->number[i];
    const double k = leaf[n->bound].k.f;
    void *line = s->pool + n->line * POOL_LINE;
    if (n->dtype == F64)
      for (int l = 0; l < POOL_LINE / 8; l++) ((double *)line)[l] = k;
    else
      for (int l = 0; l < POOL_LINE / 4; l++) ((float *)line)[l] = (float)k;
  }
}

static void run_scalar(const schedule *s, const binding *leaf, void *const *out) {
  char block[s->block + 1];
  for (int i = 0; i < s->ndrawn; i++) {
    const drawn *d = &s->drawn[i];
    const binding *b = &leaf[d->bound];
    if (d->dtype == F64) random_f64(b->seed, b->k.i, 0, 1, (double *)(void *)(block + d->at));
    else random_f32(b->seed, b->k.i, 0, 1, (float *)(void *)(block + d->at));
  }
  s->scalar(leaf, out, block);
}

static imm leaf_number(const pvalue *v, const binding *b) {
  imm k = b->k;
  if (v->leaf == LEAF_INPUT) return imm_load(v->dtype, b->p);
  if (v->leaf == LEAF_NUMBER) return v->dtype == F32 ? imm_cast(k, F64, F32) : k;
  if (v->dtype == F64) return random_f64(b->seed, b->k.i, 0, 1, &k.f), k;
  float r;
  random_f32(b->seed, b->k.i, 0, 1, &r);
  return (imm){.f = r};
}

void cpu_run_number(const program *p, const binding *leaf, void *const *out) {
  const pvalue *v = program_values(p);
  const poutput *o = program_outputs(p);
  imm k[p->nvalue + 1];
  for (int i = 0; i < p->nvalue; i++, v++) {
    const int16_t *in = v->in;
    if (v->leaf) {
      k[i] = leaf_number(v, &leaf[in[0]]);
      continue;
    }
    imm x[3] = {{0}, {0}, {0}};
    dtype from = program_values(p)[in[v->op == OP_where]].dtype;
    for (int j = 0; j < 3 && in[j] >= 0; j++) x[j] = k[in[j]];
    if (v->op == OP_to) k[i] = imm_cast(x[0], from, v->dtype);
    else if (v->op == OP_reshape || v->op == OP_broadcast_to) k[i] = x[0];
    else k[i] = cpu_scalar(v->op, from, x[0], x[1], x[2]);
  }
  for (int i = 0; i < p->noutput; i++) imm_store(o[i].dtype, out[i], k[o[i].value]);
}

bool cpu_run(ctx *c, const schedule *s, const binding *leaf, void *const *out, void *scratch) {
  if (!s->scalar && program_is_number(s->asked)) return cpu_run_number(s->asked, leaf, out), true;
  if (s->scalar) {
    cpu_count_run(c, s);
    run_scalar(s, leaf, out);
    return true;
  }
  acc *part[s->noutput];
  char *cols[s->noutput];
  job j = {.s = s, .leaf = leaf, .out = out, .part = part, .cols = cols, .scratch = scratch};
  int workers = workers_of(c, s);
  j.each = s->each;
  buffer *own = scratch ? NULL : buf_new(c, cpu_scratch(c, s));
  if (!scratch && !own) return false;
  if (own) j.scratch = own->p;
  cut_up(&j, workers);
  fill_pool(s, leaf);
  cpu_count_run(c, s);
  par_for(c, s->cut.chunks, run_chunk, &j);
  for (int k = 0; k < s->noutput; k++)
    if (s->output[k].op) combine(&j, k);
  if (own) buf_unref(own);
  return true;
}
