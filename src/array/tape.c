/* tape.c -- launches recorded once, to be run again on other values.
**
** While a tape records, nothing is computed: arrays that come into being stand at addresses where there is no
** memory, none of which is given twice, and launch_work leaves a note of each launch here. A stretch of such
** addresses is a cell. What was there before and may be another the next time (a leaf) is recorded through an
** array of its form; all other memory that is read is held, as a constant. When the recording ends equal launches
** become one, those that nobody needs go, and cells that are neither leaves nor results get their places in one
** block by when they are in use. A replay writes addresses into the launches and runs them. What always holds:
**   - a cell is written once, or changed in place by calls that say so (`into`)
**   - leaves and constants are never written
**   - random numbers stand as far from the stream's position at the begin as they did when it was recorded
*/
#include <string.h>

#include "array/internal.h"

enum kind { TEMPORARY, LEAF, CONSTANT, RESULT };

typedef struct {
  uint64_t at; /* where it begins */
  size_t bytes;
  int64_t first; /* LEAF: how far its array's first element stands behind that */
  uint8_t kind, op;
  bool live;
  int leaf;               /* LEAF: which */
  int writes, begin, end; /* launches: the first that writes it, the last that reads or writes it */
  int same;               /* the cell that has the same values */
  size_t place;           /* in the block */
  buffer *held;           /* CONSTANT */
  int result;             /* RESULT: the first that stands in it */
} cell;

typedef struct {
  int cell; /* -1: nothing stands there */
  int64_t off;
  void **to; /* where a replay writes the address */
} place;

enum { CHECK = KERNEL + 1 };

typedef struct {
  launch l;
  uint8_t work; /* whom it was for */
  bool gone, into;
  int nin, nout, nattr, random; /* random: which attribute is the seed, -1; the counter follows */
  uint64_t hash;
  place *in, *out;
  view *v;               /* CALL: in, out */
  binding *leaf, *drawn; /* PROGRAM; with the random numbers of the replay under way */
  int nleaf;
  int64_t *attr, off; /* off: where a call's random numbers stand */
  imm want;           /* CHECK */
  int choice;
  void *memory, *pruned;
} noted;

typedef struct {
  array *a; /* its form; CONST, or of the same memory each time: the array itself */
  int cell;
  int64_t off;
  int over;   /* the leaf whose memory it takes over where it may, -1 */
  bool sinks; /* a Variable's new value */
} outcome;

/* An address that a replay writes: of the block, a leaf or a result, so many bytes behind it */
typedef struct {
  void **to;
  int64_t off;
  int of;
} patch;

struct tape {
  uint64_t next, counter, drawn;
  uint64_t skipped; /* of the stream, by what was not recorded: the first replay steps over it */
  struct {
    int64_t at;
    uint64_t n;
  } * skip;
  int nskip;
  cell *cell;
  noted **launch;
  outcome *result;
  int ncell, nlaunch, nresult, nleaf;
  size_t room[5];
  int *constant; /* which cells are constants */
  int nconstant;
  size_t block, apart, scratch; /* apart: were each cell in memory of its own */
  buffer *own;                  /* the block, where it is small */
  uint64_t kept;
  int threads;
  bool planned, each; /* each: schedules are looked up launch by launch */
  int unlike;
  patch *patch; /* those of the block, of leaves, of results */
  int in_block, in_leaves, in_results;
  void *bound;        /* the block whose addresses stand in the launches */
  buffer *now, **buf; /* of the replay under way: the block, by result */
};

#define BEGIN ((uint64_t)1 << 62)

bool arr_recorded(const array *a) { return a->state == READY && (uint64_t)a->p >= BEGIN; }

#define GROW(c, t, which, list, n)                                                                 \
  mg_grow(c, (void **)&(t)->list, &(t)->room[which], (n) * sizeof *(t)->list)

/* ---- recording: cells ------------------------------------------------------------------------------------ */

tape *tape_begin(ctx *c) {
  tape *t = mg_alloc(c, sizeof *t);
  if (!t) return NULL;
  memset(t, 0, sizeof *t);
  t->next = BEGIN;
  t->counter = c->counter;
  t->unlike = ALIKE;
  c->arrays->recorded = 0;
  return t;
}

void tape_on(ctx *c, tape *t) {
  c->arrays->tape = t;
  c->arrays->watched = t || c->arrays->profile || c->arrays->trace;
}

static cell *add_cell(ctx *c, tape *t, int kind) {
  if (!GROW(c, t, 0, cell, t->ncell + 1)) return NULL;
  cell *x = &t->cell[t->ncell];
  *x = (cell){.kind = kind, .begin = -1, .end = -1, .same = t->ncell};
  t->ncell++;
  return x;
}

void tape_released(void *p, void *arg) { (void)p, (void)arg; } /* there is no memory to give back */

static buffer *wrap(ctx *c, tape *t, size_t bytes) {
  buffer *b = buf_wrap(c, (void *)t->next, bytes, tape_released, NULL);
  cell *x = b ? add_cell(c, t, TEMPORARY) : NULL;
  if (b && !x) mg_free(b);
  if (!x) return NULL;
  x->at = t->next;
  x->bytes = bytes;
  t->next += (bytes + 127) / 64 * 64; /* no end is another's begin */
  return b;
}

buffer *tape_buffer(ctx *c, size_t bytes) { return wrap(c, c->arrays->tape, bytes); }

/* How far behind the first element of v its memory begins, and ends */
static void extent(const view *v, int64_t *before, int64_t *after) {
  *before = *after = 0;
  for (int i = 0; i < v->s.n; i++) {
    int64_t far = (v->s.d[i] - 1) * v->stride[i];
    if (v->size) *(far < 0 ? before : after) += far;
  }
  int64_t bytes = dtype_size[v->dtype];
  *before *= bytes;
  *after = v->size ? (*after + 1) * bytes : 0;
}

array *tape_leaf(ctx *c, tape *t, const array *like, int *leaf) {
  int64_t before, after;
  array *a = arr_blank(c, like->dtype, &like->s, READY);
  if (!a) return NULL;
  if (like->state == READY) memcpy(a->stride, like->stride, sizeof a->stride);
  else view_make_dense(&a->v);
  extent(&a->v, &before, &after);
  if (!(a->buf = wrap(c, t, (size_t)(after - before)))) return arr_unref(a), NULL;
  cell *x = &t->cell[t->ncell - 1];
  x->kind = LEAF;
  x->first = -before;
  x->leaf = *leaf = t->nleaf++;
  a->p = (char *)a->buf->p - before;
  return a;
}

/* Memory that is read, and there already: it stays as it is */
bool tape_hold(ctx *c, const array *a) {
  tape *t = c->arrays->tape;
  if (a->state != READY || arr_recorded(a)) return true;
  for (int i = t->nconstant; i--;)
    if (t->cell[t->constant[i]].held == a->buf) return true;
  if (!GROW(c, t, 3, constant, t->nconstant + 1)) return false;
  cell *x = add_cell(c, t, CONSTANT);
  if (!x) return false;
  x->at = (uint64_t)a->buf->p;
  x->bytes = a->buf->bytes;
  buf_ref(x->held = a->buf);
  t->constant[t->nconstant++] = t->ncell - 1;
  return true;
}

/* The cell in which p stands; -1: none */
static int find(const tape *t, const void *p) {
  uint64_t at = (uint64_t)p;
  if (at < BEGIN) {
    for (int i = t->nconstant; i--;) {
      const cell *x = &t->cell[t->constant[i]];
      if (at >= x->at && at - x->at <= x->bytes) return t->constant[i];
    }
    return -1;
  }
  int low = 0, high = t->ncell - 1;
  while (low <= high) { /* constants stand among them: they are stepped over */
    int mid = (low + high) / 2, i = mid;
    while (i > low && t->cell[i].kind == CONSTANT) i--;
    if (t->cell[i].kind == CONSTANT) {
      low = mid + 1;
      continue;
    }
    const cell *x = &t->cell[i];
    if (at < x->at) high = i - 1;
    else if (at - x->at < (x->bytes + 127) / 64 * 64) return i;
    else low = mid + 1;
  }
  return -1;
}

static place place_of(const tape *t, const void *p) {
  place x = {.cell = find(t, p)};
  if (x.cell >= 0) x.off = (int64_t)((uint64_t)p - t->cell[x.cell].at);
  return x;
}

/* ---- recording: launches ------------------------------------------------------------------------------- */

/* What must be known of a call to make it again: how many attributes it has, which of them is the seed of
** random numbers, whether it changes what it gives in place. */
typedef struct {
  cpu_fn *fn;
  int8_t nattr, seed;
  bool into;
} call_form;

#define WORDS(type) (int8_t)(sizeof(type) / sizeof(int64_t))
static const call_form forms[] = {
    {cpu_copy, 0, -1, false},
    {cpu_zero, 0, -1, false},
    {tape_fill, 1, -1, false},
    {tape_permutation, 2, 0, false},
    {cpu_random, 2, 0, false},
    {cpu_matmul, 0, -1, false},
    {cpu_matmul_whole, 0, -1, false},
    {cpu_cumsum, 1, -1, false},
    {cpu_scan, 3, -1, false},
    {cpu_argsort, 2, -1, false},
    {cpu_set_slice, 2 * MAXDIM, -1, true},
    {cpu_add_slice, 2 * MAXDIM, -1, true},
    {cpu_first_bad, 1, -1, false},
    {cpu_take, 1, -1, false},
    {cpu_add_take, 1, -1, true},
    {cpu_put_rows, 1, -1, true},
    {cpu_gather, 1, -1, false},
    {cpu_add_gather, 1, -1, true},
    {cpu_put_gather, 1, -1, true},
    {cpu_search, 1, -1, false},
    {cpu_conv, 10, -1, false},
    {cpu_conv_data, 10, -1, false},
    {cpu_conv_weight, 10, -1, false},
    {cpu_im2col, 8, -1, false},
    {cpu_col2im, 8, -1, false},
    {cpu_fold, 2, -1, false},
    {cpu_max_pool, WORDS(pool), -1, false},
    {cpu_max_unpool, WORDS(pool), -1, false},
    {cpu_max_pick, WORDS(pool), -1, false},
    {cpu_avg_pool, WORDS(pool), -1, false},
    {cpu_avg_unpool, WORDS(pool), -1, false},
    {cpu_moments, WORDS(moments), -1, false},
    {cpu_cholesky, 0, -1, false},
    {cpu_cholesky_grad, 0, -1, false},
    {cpu_triangular_solve, 3, -1, false},
    {cpu_lu, 1, -1, false},
    {cpu_lu_solve, 1, -1, false},
    {cpu_lu_det, 1, -1, false},
    {cpu_cofactor, 0, -1, false},
    {cpu_qr, 0, -1, false},
    {cpu_eigh, 0, -1, false},
    {cpu_svd, 2, -1, false},
    {cpu_attention, WORDS(attention_attr), 3, false},
    {cpu_attention_grad, WORDS(attention_attr), 3, false},
    {cpu_recurrent, 2, -1, true},
    {cpu_recurrent_grad, 2, -1, false},
    {cpu_gamma, 2, 0, false},
    {cpu_poisson, 2, 0, false},
    {cpu_gamma_slope, 1, -1, false},
};

bool tape_fill(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  (void)c, (void)in;
  imm k;
  memcpy(&k, attr, sizeof k);
  imm_fill(out[0]->dtype, out[0]->p, k, out[0]->size);
  return true;
}

bool tape_permutation(ctx *c, const int64_t *attr, const view *const *in, const view *const *out) {
  ctx at = *c;
  (void)in;
  at.seed = (uint64_t)attr[0];
  at.counter = (uint64_t)attr[1];
  random_perm(&at, out[0]->size, out[0]->p);
  return true;
}

static const call_form *form_of(cpu_fn *fn) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    if (forms[i].fn == fn) return &forms[i];
  return NULL;
}

/* How far a place of the stream is behind the begin, without what was skipped */
static int64_t behind(const tape *t, int64_t at) {
  int64_t off = (int64_t)((uint64_t)at - t->counter);
  for (int i = 0; i < t->nskip && off >= t->skip[i].at + (int64_t)t->skip[i].n; i++)
    off -= (int64_t)t->skip[i].n;
  return off;
}

static bool append(ctx *c, tape *t, noted *n) {
  if (!n) return false;
  if (!GROW(c, t, 1, launch, t->nlaunch + 1)) return mg_free(n), false;
  t->launch[t->nlaunch++] = n;
  return true;
}

/* Room for all that is noted of one launch, in one block */
static noted *blank(ctx *c, int nin, int nout, int nview, int nleaf, int nattr, size_t program) {
  size_t bytes = sizeof(noted) + (nin + nout) * sizeof(place) + nview * sizeof(view) +
                 nview * sizeof(view *) + 2 * nleaf * sizeof(binding) + nattr * sizeof(int64_t) +
                 nout * sizeof(void *) + program;
  noted *n = mg_alloc(c, bytes);
  if (!n) return NULL;
  memset(n, 0, bytes);
  n->nin = nin;
  n->nout = nout;
  n->nleaf = nleaf;
  n->nattr = nattr;
  n->random = -1;
  n->work = c->arrays->op;
  n->in = (place *)(n + 1);
  n->out = n->in + nin;
  n->v = (view *)(n->out + nout);
  n->leaf = (binding *)(n->v + nview);
  n->drawn = n->leaf + nleaf;
  n->attr = (int64_t *)(n->drawn + nleaf);
  n->memory = n->attr + nattr; /* of views' addresses, outputs' addresses, the program */
  return n;
}

static int count_leaves(const program *p) {
  const pvalue *v = program_values(p);
  int n = 0;
  for (int i = 0; i < p->nvalue; i++)
    if (v[i].leaf && v[i].in[0] >= n) n = v[i].in[0] + 1;
  return n;
}

static bool note_program(ctx *c, tape *t, const launch *l) {
  const program *p = l->p;
  const pvalue *v = program_values(p);
  int nleaf = count_leaves(p);
  noted *n = blank(c, nleaf, p->noutput, 0, nleaf, 0, (size_t)p->bytes);
  if (!n) return false;
  void **to = n->memory;
  n->l = *l;
  n->l.p = memcpy(to + p->noutput, p, (size_t)p->bytes);
  n->l.to = to;
  n->l.leaf = n->leaf;
  n->l.s = NULL;
  n->l.scratch = NULL;
  if (nleaf) memcpy(n->leaf, l->leaf, nleaf * sizeof *n->leaf);
  for (int i = 0; i < nleaf; i++) n->in[i].cell = -1;
  bool ok = true;
  for (int i = 0; i < p->nvalue; i++) {
    int k = v[i].in[0];
    if (v[i].leaf == LEAF_RANDOM) n->leaf[k].k.i = behind(t, n->leaf[k].k.i), n->random = 0;
    if (v[i].leaf != LEAF_INPUT) continue;
    n->in[k] = place_of(t, l->leaf[k].p);
    n->in[k].to = (void **)&n->leaf[k].p;
    ok = ok && n->in[k].cell >= 0;
  }
  for (int k = 0; k < p->noutput; k++) {
    n->out[k] = place_of(t, l->to[k]);
    n->out[k].to = &to[k];
    ok = ok && n->out[k].cell >= 0;
  }
  if (!ok)
    return mg_free(n), fail(c, "compile: a program reads or writes memory that is not known");
  return append(c, t, n);
}

static bool note_call(ctx *c, tape *t, const launch *l) {
  const call_form *f = form_of(l->fn);
  int op = c->arrays->op ? c->arrays->op : l->op;
  if (!f) return fail(c, "%s: cannot be recorded by mg.compile", op_table[op].name);
  noted *n = blank(c, l->nin, l->nout, l->nin + l->nout, 0, f->nattr, 0);
  if (!n) return false;
  const view **at = n->memory;
  n->l = *l;
  n->into = f->into;
  if (f->nattr) memcpy(n->attr, l->attr, f->nattr * sizeof *n->attr);
  if (f->seed >= 0) {
    double p = 1;
    if (f->seed == 3) p = ((const attention_attr *)l->attr)->p;
    n->random = p > 0 ? f->seed : -1;
    if (n->random >= 0) n->off = n->attr[f->seed + 1] = behind(t, n->attr[f->seed + 1]);
  }
  n->l.attr = n->attr;
  n->l.in = at;
  n->l.out = at + l->nin;
  bool ok = true;
  for (int i = 0; i < l->nin + l->nout; i++) {
    const view *v = i < l->nin ? l->in[i] : l->out[i - l->nin];
    place *x = i < l->nin ? &n->in[i] : &n->out[i - l->nin];
    x->cell = -1;
    if (!v) continue;
    n->v[i] = *v;
    at[i] = &n->v[i];
    *x = place_of(t, v->p);
    x->to = &n->v[i].p;
    ok = ok && x->cell >= 0 && (i < l->nin || (uint64_t)v->p >= BEGIN);
  }
  if (!ok)
    return mg_free(n), fail(c, "%s: memory that mg.compile does not know", op_table[op].name);
  return append(c, t, n);
}

bool tape_note(ctx *c, const launch *l) {
  tape *t = c->arrays->tape;
  if (l->kind == PROGRAM) return note_program(c, t, l);
  if (l->kind == CALL) return note_call(c, t, l);
  return fail(c, "%s: cannot be recorded by mg.compile", op_table[l->op].name);
}

bool tape_skip(ctx *c, tape *t, uint64_t n) {
  if (!n) return true;
  if (!GROW(c, t, 4, skip, t->nskip + 1)) return false;
  t->skip[t->nskip].at = (int64_t)(c->counter - n - t->counter - t->skipped);
  t->skip[t->nskip++].n = n;
  t->skipped += n;
  return true;
}

uint64_t tape_skipped(const tape *t) { return t->skipped; }

bool tape_refuse(ctx *c) {
  return fail(c, "mg.compile: this needs a value, and there is none while a function is recorded");
}

bool tape_check(ctx *c, array *a, imm want, int choice) {
  tape *t = c->arrays->tape;
  if (!arr_ready(c, a)) return false;
  if (a->state == CONST || !arr_recorded(a)) {
    imm k = a->state == CONST ? a->k : imm_load(a->dtype, a->p);
    return k.i == want.i || tape_refuse(c);
  }
  noted *n = blank(c, 1, 0, 1, 0, 0, 0);
  if (!n) return false;
  n->l.kind = CHECK;
  n->v[0] = a->v;
  n->in[0] = place_of(t, a->p);
  n->in[0].to = &n->v[0].p;
  n->want = want;
  n->choice = choice;
  return append(c, t, n);
}

/* ---- the end: equal launches, and those that nobody needs ------------------------------------------------- */

static void mix(uint64_t *h, const void *p, size_t n) {
  const unsigned char *b = p;
  for (size_t i = 0; i < n; i++) *h = (*h ^ b[i]) * 0x100000001b3u;
}

static cell *cell_of(tape *t, const place *x) {
  return x->cell < 0 ? NULL : &t->cell[t->cell[x->cell].same];
}

static uint64_t hash_of(tape *t, const noted *n) {
  uint64_t h = 0xcbf29ce484222325u;
  if (n->l.kind == PROGRAM) mix(&h, &n->l.p->hash, sizeof n->l.p->hash);
  else mix(&h, &n->l.fn, sizeof n->l.fn);
  for (int i = 0; i < n->nin; i++) {
    int x = n->in[i].cell < 0 ? -1 : t->cell[n->in[i].cell].same;
    mix(&h, &x, sizeof x);
  }
  return h;
}

static bool same_view(const view *a, const view *b) {
  return a->dtype == b->dtype && shape_eq(&a->s, &b->s) &&
         memcmp(a->stride, b->stride, a->s.n * sizeof *a->stride) == 0;
}

static bool equal(tape *t, const noted *a, const noted *b) {
  if (a->l.kind != b->l.kind || a->nin != b->nin || a->nout != b->nout || a->work != b->work)
    return false;
  for (int i = 0; i < a->nin; i++)
    if (cell_of(t, &a->in[i]) != cell_of(t, &b->in[i]) || a->in[i].off != b->in[i].off)
      return false;
  if (a->l.kind == PROGRAM) {
    if (!program_equal(a->l.p, b->l.p)) return false;
    const pvalue *v = program_values(a->l.p);
    for (int i = 0; i < a->l.p->nvalue; i++)
      if ((v[i].leaf == LEAF_NUMBER || v[i].leaf == LEAF_RANDOM) &&
          a->leaf[v[i].in[0]].k.i != b->leaf[v[i].in[0]].k.i)
        return false;
    return true;
  }
  if (a->l.fn != b->l.fn || a->nattr != b->nattr) return false;
  if (a->nattr && memcmp(a->attr, b->attr, a->nattr * sizeof *a->attr) != 0) return false;
  for (int i = 0; i < a->nin + a->nout; i++)
    if (!a->l.in[i] != !b->l.in[i] || (a->l.in[i] && !same_view(&a->v[i], &b->v[i]))) return false;
  return true;
}

static bool mergeable(tape *t, const noted *n) {
  if (n->l.kind == CHECK || n->into) return false;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i].cell >= 0 && cell_of(t, &n->in[i])->writes > 1) return false;
  for (int k = 0; k < n->nout; k++)
    if (n->out[k].cell >= 0 && (t->cell[n->out[k].cell].writes > 1 || n->out[k].off)) return false;
  return true;
}

static void count_writes(tape *t) {
  for (int i = 0; i < t->nlaunch; i++)
    for (int k = 0; k < t->launch[i]->nout; k++) {
      int x = t->launch[i]->out[k].cell;
      if (x >= 0) t->cell[x].writes++;
    }
}

static bool merge(ctx *c, tape *t) {
  size_t size = 16;
  while (size < 2 * (size_t)t->nlaunch) size *= 2;
  int *table = mg_alloc(c, size * sizeof *table);
  if (!table) return false;
  memset(table, 0, size * sizeof *table);
  for (int i = 0; i < t->nlaunch; i++) {
    noted *n = t->launch[i], *other;
    if (!mergeable(t, n)) continue;
    n->hash = hash_of(t, n);
    size_t h = n->hash % size;
    for (; table[h]; h = (h + 1) % size) {
      other = t->launch[table[h] - 1];
      if (other->hash != n->hash || !equal(t, n, other)) continue;
      n->gone = true;
      for (int k = 0; k < n->nout; k++)
        if (n->out[k].cell >= 0) t->cell[n->out[k].cell].same = other->out[k].cell;
      break;
    }
    if (!n->gone) table[h] = i + 1;
  }
  mg_free(table);
  for (int i = 0; i < t->nlaunch; i++) {
    noted *n = t->launch[i];
    for (int k = 0; k < n->nin + n->nout; k++)
      if (n->in[k].cell >= 0) n->in[k].cell = t->cell[n->in[k].cell].same; /* out follows in */
  }
  for (int i = 0; i < t->nresult; i++)
    if (t->result[i].cell >= 0) t->result[i].cell = t->cell[t->result[i].cell].same;
  return true;
}

/* Without the outputs that nobody reads, unless reductions would be cut otherwise */
static bool prune(ctx *c, tape *t, noted *n) {
  const program *p = n->l.p;
  int nv = p->nvalue, kept = 0, widest[2] = {0, 0}, values = 0;
  for (int k = 0; k < n->nout; k++) kept += t->cell[n->out[k].cell].live;
  if (kept == n->nout) return true;
  const pvalue *v = program_values(p);
  const poutput *o = program_outputs(p);
  int16_t *to = mg_alloc(c, (nv + 1) * sizeof *to);
  program *q = to ? mg_alloc(c, (size_t)p->bytes) : NULL;
  if (!q) return mg_free(to), false;
  memset(to, 0, (nv + 1) * sizeof *to);
  bool ends = false, folds = false;
  for (int k = 0; k < n->nout; k++)
    if (t->cell[n->out[k].cell].live) to[o[k].value] = 1, ends |= o[k].op != OP_NONE;
  for (int i = nv; i--;) {
    int wide = dtype_size[v[i].dtype];
    if (wide > widest[0]) widest[0] = wide;
    if (!to[i]) continue;
    if (wide > widest[1]) widest[1] = wide;
    folds |= v[i].per_row || (v[i].op && op_reduces(v[i].op));
    if (v[i].leaf == LEAF_NONE)
      for (int j = 0; j < 3; j++)
        if (v[i].in[j] >= 0) to[v[i].in[j]] = 1;
  }
  if ((p->n || p->row) && widest[0] != widest[1]) return mg_free(to), mg_free(q), true;
  memset(q, 0, (size_t)p->bytes);
  *q = *p;
  for (int i = 0; i < nv; i++)
    if (to[i]) to[i] = (int16_t)values++;
    else to[i] = -1;
  q->nvalue = values;
  q->noutput = kept;
  if (!ends) q->n = q->inner = 0;
  if (!folds) q->row = 0;
  if (p->nspace) memcpy((void *)program_spaces(q), program_spaces(p), p->nspace * sizeof(space));
  pvalue *w = (pvalue *)program_values(q);
  for (int i = 0; i < nv; i++) {
    if (to[i] < 0) continue;
    *w = v[i];
    for (int j = 0; v[i].leaf == LEAF_NONE && j < 3; j++)
      if (v[i].in[j] >= 0) w->in[j] = to[v[i].in[j]];
    w++;
  }
  poutput *u = (poutput *)program_outputs(q);
  int m = 0;
  for (int k = 0; k < n->nout; k++) {
    if (!t->cell[n->out[k].cell].live) continue;
    u[m] = o[k];
    u[m].value = to[o[k].value];
    n->out[m] = n->out[k];
    n->out[m].to = (void **)&n->l.to[m];
    m++;
  }
  n->nout = m;
  memset(to, 0, (nv + 1) * sizeof *to);
  for (int k = 0; k < values; k++) {
    const pvalue *x = program_values(q) + k;
    if (x->leaf == LEAF_INPUT) to[x->in[0]] = 1;
  }
  for (int i = 0; i < n->nin; i++)
    if (!to[i]) n->in[i].cell = -1; /* it is read no more */
  program_seal(q);
  mg_free(to);
  mg_free(n->pruned);
  n->l.p = n->pruned = q;
  return true;
}

static bool find_live(ctx *c, tape *t) {
  for (int i = 0; i < t->nresult; i++)
    if (t->result[i].cell >= 0) t->cell[t->result[i].cell].live = true;
  for (int i = t->nlaunch; i--;) {
    noted *n = t->launch[i];
    if (n->gone) continue;
    bool live = n->l.kind == CHECK;
    for (int k = 0; k < n->nout; k++) live |= n->out[k].cell >= 0 && t->cell[n->out[k].cell].live;
    n->gone = !live;
    if (!live) continue;
    if (n->l.kind == PROGRAM && !prune(c, t, n)) return false;
    for (int k = 0; k < n->nin + (n->l.kind == CALL ? n->nout : 0); k++)
      if (n->in[k].cell >= 0) t->cell[n->in[k].cell].live = true;
  }
  int m = 0;
  for (int i = 0; i < t->nlaunch; i++)
    if (!t->launch[i]->gone) t->launch[m++] = t->launch[i];
    else {
      mg_free(t->launch[i]->pruned);
      mg_free(t->launch[i]);
    }
  t->nlaunch = m;
  return true;
}

/* ---- places in the block ------------------------------------------------------------------------------------ */

typedef struct {
  size_t at, bytes;
} gap;

typedef struct {
  gap *g;
  int n;
  size_t end;
} gaps;

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64 + (bytes == 0) * 64; }

static size_t take(gaps *f, size_t bytes) {
  int best = -1;
  for (int i = 0; i < f->n; i++)
    if (f->g[i].bytes >= bytes && (best < 0 || f->g[i].bytes < f->g[best].bytes)) best = i;
  if (best >= 0) {
    size_t at = f->g[best].at;
    f->g[best].at += bytes;
    f->g[best].bytes -= bytes;
    if (!f->g[best].bytes) {
      memmove(&f->g[best], &f->g[best + 1], (f->n - best - 1) * sizeof *f->g);
      f->n--;
    }
    return at;
  }
  if (f->n &&
      f->g[f->n - 1].at + f->g[f->n - 1].bytes == f->end) { /* what is free at the end, and more */
    size_t at = f->g[--f->n].at;
    f->end = at + bytes;
    return at;
  }
  f->end += bytes;
  return f->end - bytes;
}

static void give(gaps *f, size_t at, size_t bytes) {
  int i = 0;
  while (i < f->n && f->g[i].at < at) i++;
  bool left = i > 0 && f->g[i - 1].at + f->g[i - 1].bytes == at;
  bool right = i < f->n && at + bytes == f->g[i].at;
  if (left && right) {
    f->g[i - 1].bytes += bytes + f->g[i].bytes;
    memmove(&f->g[i], &f->g[i + 1], (f->n - i - 1) * sizeof *f->g);
    f->n--;
  } else if (left) f->g[i - 1].bytes += bytes;
  else if (right) f->g[i].at = at, f->g[i].bytes += bytes;
  else {
    memmove(&f->g[i + 1], &f->g[i], (f->n - i) * sizeof *f->g);
    f->g[i] = (gap){at, bytes};
    f->n++;
  }
}

/* Output k of the program is written over an input that is needed no more; NULL: over none */
static cell *over(ctx *c, tape *t, noted *n, int at, int k) {
  const schedule *s = cpu_schedule(c, n->l.p);
  cell *x = cell_of(t, &n->out[k]);
  if (!s) return c->err = OK, NULL;
  for (int i = 0; i < n->nin; i++) {
    cell *y = cell_of(t, &n->in[i]);
    if (!y || y->kind != TEMPORARY || y->end != at || y->bytes != x->bytes || n->in[i].off)
      continue;
    int often = 0;
    for (int j = 0; j < n->nin; j++) often += n->in[j].cell == n->in[i].cell;
    if (often == 1 && cpu_in_place(s, k, i)) return y;
  }
  return NULL;
}

static bool lay_out(ctx *c, tape *t) {
  for (int i = 0; i < t->nlaunch; i++) {
    noted *n = t->launch[i];
    for (int k = 0; k < n->nin + n->nout; k++) {
      cell *x = cell_of(t, &n->in[k]);
      if (!x) continue;
      if (k >= n->nin && x->begin < 0) x->begin = i;
      x->end = i;
    }
  }
  gaps f = {mg_alloc(c, (t->ncell + 1) * sizeof *f.g), 0, 0};
  if (!f.g) return false;
  for (int i = 0; i < t->nlaunch; i++) {
    noted *n = t->launch[i];
    for (int k = 0; k < n->nout; k++) {
      cell *x = cell_of(t, &n->out[k]);
      if (!x || x->kind != TEMPORARY || x->begin != i || x->place) continue;
      cell *y = n->l.kind == PROGRAM ? over(c, t, n, i, k) : NULL;
      t->apart += rounded(x->bytes);
      x->place = y ? y->place : take(&f, rounded(x->bytes)) + 1; /* from 1; 0: none yet */
      if (y) y->end = -1;                                        /* its place is passed on */
    }
    for (int k = 0; k < n->nin + n->nout; k++) {
      cell *x = cell_of(t, &n->in[k]);
      if (!x || x->kind != TEMPORARY || x->end != i || !x->place) continue;
      give(&f, x->place - 1, rounded(x->bytes));
      x->end = -1;
    }
  }
  mg_free(f.g);
  t->block = f.end;
  return true;
}

static bool note_results(ctx *c, tape *t, int n, array *const *out, const bool *sinks) {
  if (!GROW(c, t, 2, result, n + 1)) return false;
  for (int i = 0; i < n; i++) {
    array *a = out[i];
    outcome *r = &t->result[i];
    *r = (outcome){.a = arr_ref(a), .cell = -1, .over = -1, .sinks = sinks[i]};
    t->nresult++;
    if (!arr_recorded(a)) continue;
    place x = place_of(t, a->p);
    r->cell = x.cell;
    r->off = x.off;
    t->cell[x.cell].op = a->buf->op;
  }
  return true;
}

static void mark_results(tape *t) {
  for (int i = 0; i < t->nresult; i++) {
    int x = t->result[i].cell;
    if (x < 0 || t->cell[x].kind != TEMPORARY) continue;
    t->cell[x].kind = RESULT;
    t->cell[x].result = i;
  }
}

/* Does n only give what nobody reads here, some of it a Variable's new value? */
static bool is_last(const tape *t, const noted *n, const int *reads) {
  bool sinks = false;
  if (n->l.kind != PROGRAM) return false;
  for (int k = 0; k < n->nout; k++) {
    if (reads[n->out[k].cell]) return false;
    const cell *x = &t->cell[n->out[k].cell];
    sinks |= x->kind == RESULT && t->result[x->result].sinks;
  }
  return sinks;
}

/* Programs that give Variables new values come last: then old ones are read no more, and nothing fails after. */
static bool sink(ctx *c, tape *t) {
  int *reads = mg_alloc(c, (t->ncell + 1) * sizeof *reads);
  noted **last = reads ? mg_alloc(c, (t->nlaunch + 1) * sizeof *last) : NULL;
  if (!last) return mg_free(reads), false;
  memset(reads, 0, (t->ncell + 1) * sizeof *reads);
  for (int i = 0; i < t->nlaunch; i++)
    for (int k = 0; k < t->launch[i]->nin; k++)
      if (t->launch[i]->in[k].cell >= 0) reads[t->launch[i]->in[k].cell]++;
  int m = 0, n = 0;
  for (int i = 0; i < t->nlaunch; i++)
    if (is_last(t, t->launch[i], reads)) last[n++] = t->launch[i];
    else t->launch[m++] = t->launch[i];
  if (n) memcpy(t->launch + m, last, n * sizeof *last);
  mg_free(last);
  mg_free(reads);
  return true;
}

enum { SMALL_BLOCK = 1 << 16 };

/* What a replay has to write where, for good where it is the same each time */
static bool list_patches(ctx *c, tape *t) {
  int n = 0;
  for (int i = 0; i < t->nlaunch; i++) n += t->launch[i]->nin + t->launch[i]->nout;
  if (!(t->patch = mg_alloc(c, (n + 1) * sizeof *t->patch)) ||
      !(t->buf = mg_alloc(c, (t->nresult + 1) * sizeof *t->buf)))
    return false;
  patch *to = t->patch;
  static const uint8_t kinds[] = {TEMPORARY, LEAF, RESULT, CONSTANT};
  int *counts[] = {&t->in_block, &t->in_leaves, &t->in_results};
  for (int k = 0; k < 4; k++) {
    patch *first = to;
    for (int i = 0; i < t->nlaunch; i++)
      for (int j = 0; j < t->launch[i]->nin + t->launch[i]->nout; j++) {
        const place *x = &t->launch[i]->in[j];
        if (x->cell < 0 || t->cell[x->cell].kind != kinds[k]) continue;
        const cell *y = &t->cell[x->cell];
        if (k == 0) *to++ = (patch){x->to, (int64_t)y->place - 1 + x->off, 0};
        else if (k == 1) *to++ = (patch){x->to, x->off - y->first, y->leaf};
        else if (k == 2) *to++ = (patch){x->to, x->off, y->result};
        else *x->to = (void *)(y->at + (uint64_t)x->off);
      }
    if (k < 3) *counts[k] = (int)(to - first);
  }
  return true;
}

bool tape_end(ctx *c, tape *t, int n, array *const *out, const bool *sinks) {
  if (!arr_eval(c, n, out, NULL)) return false;
  tape_on(c, NULL);
  t->drawn = c->counter - t->counter - t->skipped;
  if (!note_results(c, t, n, out, sinks)) return false;
  count_writes(t);
  if (!merge(c, t) || !find_live(c, t)) return false;
  mark_results(t);
  return sink(c, t) && lay_out(c, t) && list_patches(c, t);
}

/* Nothing fails from launch i on: there are programs alone, whose scratch is there */
static bool safe_from(const tape *t, int i) {
  for (; i < t->nlaunch; i++)
    if (t->launch[i]->l.kind != PROGRAM) return false;
  return true;
}

void tape_over(ctx *c, tape *t, int result, int leaf) {
  outcome *r = &t->result[result];
  cell *to = r->cell < 0 ? NULL : &t->cell[r->cell], *from = NULL;
  if (!to || to->kind != RESULT || r->off || !view_dense(&r->a->v)) return;
  for (int i = 0; i < t->nresult; i++)
    if (i != result && (t->result[i].cell == r->cell || t->result[i].over == leaf)) return;
  for (int i = 0; i < t->ncell && !from; i++)
    if (t->cell[i].kind == LEAF && t->cell[i].leaf == leaf) from = &t->cell[i];
  if (!from || from->first || from->bytes != to->bytes || to->writes != 1) return;
  for (int i = 0; i < t->nresult; i++)
    if (t->result[i].cell == from - t->cell) return;
  int at = to->begin, k = 0, in = -1;
  if (from->end > at || !safe_from(t, at)) return;
  noted *n = t->launch[at];
  while (&t->cell[n->out[k].cell] != to) k++;
  for (int i = 0; i < n->nin; i++) {
    if (n->in[i].cell != from - t->cell) continue;
    if (in >= 0 || n->in[i].off) return;
    in = i;
  }
  const schedule *s = in < 0 ? NULL : cpu_schedule(c, n->l.p);
  if (in >= 0 && !s) c->err = OK;
  if (in < 0 || (s && cpu_in_place(s, k, in))) r->over = leaf;
}

void tape_free(tape *t) {
  if (!t) return;
  for (int i = 0; i < t->nlaunch; i++) {
    mg_free(t->launch[i]->pruned);
    mg_free(t->launch[i]);
  }
  for (int i = 0; i < t->nresult; i++) arr_unref(t->result[i].a);
  for (int i = 0; i < t->nconstant; i++) buf_unref(t->cell[t->constant[i]].held);
  if (t->own) buf_unref(t->own);
  mg_free(t->launch);
  mg_free(t->cell);
  mg_free(t->result);
  mg_free(t->constant);
  mg_free(t->skip);
  mg_free(t->patch);
  mg_free(t->buf);
  mg_free(t);
}

/* ---- replaying -------------------------------------------------------------------------------------------- */

/* Schedules, and scratch for any of them, for as long as they are kept */
static bool look_up(ctx *c, tape *t) {
  size_t scratch = 0;
  for (int turn = 0; turn < 2; turn++) {
    uint64_t kept = cpu_kept(c);
    for (int i = 0; i < t->nlaunch; i++) {
      noted *n = t->launch[i];
      if (n->l.kind != PROGRAM) continue;
      if (!(n->l.s = cpu_schedule(c, n->l.p))) return false;
      size_t bytes = cpu_scratch(c, n->l.s);
      if (bytes > scratch) scratch = bytes;
    }
    t->each = cpu_kept(c) != kept;
    t->kept = kept;
    if (!t->each) break;
  }
  t->threads = c->threads;
  t->planned = true;
  scratch = rounded(scratch);
  if (scratch > t->scratch && t->own) buf_unref(t->own), t->own = NULL;
  if (scratch > t->scratch) t->scratch = scratch;
  return true;
}

static void drop_buffers(tape *t, int n) {
  while (n--)
    if (t->buf[n]) buf_unref(t->buf[n]);
  buf_unref(t->now);
  t->now = NULL;
}

/* What it takes: the block, and buffers of the results */
static bool reserve(ctx *c, tape *t, const tape_leaf_at *leaf) {
  if (t->own) buf_ref(t->now = t->own);
  else if (!(t->now = buf_new(c, t->block + t->scratch))) return false;
  if (!t->own && t->block + t->scratch <= SMALL_BLOCK) buf_ref(t->own = t->now);
  for (int i = 0; i < t->nresult; i++) {
    const outcome *r = &t->result[i];
    buffer **b = &t->buf[i];
    *b = NULL;
    if (r->cell < 0 || t->cell[r->cell].kind != RESULT) continue;
    if (r->over >= 0 && leaf[r->over].take && !t->each) continue;
    int first = t->cell[r->cell].result;
    if (first < i) buf_ref(*b = t->buf[first]);
    else if (!(*b = buf_new(c, t->cell[r->cell].bytes))) return drop_buffers(t, i), false;
    (*b)->op = t->cell[r->cell].op;
  }
  return true;
}

static void bind(tape *t, const tape_leaf_at *leaf) {
  const patch *x = t->patch, *end = x + t->in_block;
  char *block = t->now->p;
  if (t->bound == block) x = end;
  for (; x < end; x++) *x->to = block + x->off;
  t->bound = block;
  for (end += t->in_leaves; x < end; x++) *x->to = (char *)leaf[x->of].p + x->off;
  for (end += t->in_results; x < end; x++) {
    const buffer *b = t->buf[x->of];
    *x->to = (b ? (char *)b->p : (char *)leaf[t->result[x->of].over].p) + x->off;
  }
}

/* Where numbers stand now that stood so far behind the begin of what was recorded */
static uint64_t stream_at(const ctx *c, const tape *t, int64_t off) {
  uint64_t at = c->counter + (uint64_t)off;
  for (int i = 0; i < t->nskip; i++)
    if (t->skip[i].at <= off) at += t->skip[i].n;
  return at;
}

static void draw(const ctx *c, const tape *t, noted *n, binding *leaf) {
  if (n->l.kind == CALL) {
    n->attr[n->random] = (int64_t)c->seed;
    n->attr[n->random + 1] = (int64_t)stream_at(c, t, n->off);
    return;
  }
  const pvalue *v = program_values(n->l.p);
  memcpy(leaf, n->leaf, n->nleaf * sizeof *leaf);
  for (int k = 0; k < n->l.p->nvalue; k++)
    if (v[k].leaf == LEAF_RANDOM) {
      binding *b = &leaf[v[k].in[0]];
      b->seed = c->seed;
      b->k.i = (int64_t)stream_at(c, t, b->k.i);
    }
}

static bool run(ctx *c, tape *t, void *scratch) {
  for (int i = 0; i < t->nlaunch; i++) {
    noted *n = t->launch[i];
    launch l = n->l;
    if (l.kind == CHECK) {
      imm k = imm_load(n->v[0].dtype, n->v[0].p);
      if (k.i != n->want.i) return t->unlike = n->choice, false;
      continue;
    }
    if (n->random >= 0) {
      draw(c, t, n, n->drawn);
      if (l.kind == PROGRAM) l.leaf = n->drawn;
    }
    if (l.kind == PROGRAM) {
      if (t->each && !(l.s = cpu_schedule(c, l.p))) return false;
      l.scratch = t->each ? NULL : scratch;
    }
    bool ok;
    {
      WORK(c, n->work);
      ok = launch_work(c, &l);
    }
    if (!ok) return false;
  }
  return true;
}

static array *array_of(ctx *c, const outcome *r, buffer *b, int64_t first) {
  array *a = arr_blank(c, r->a->dtype, &r->a->s, READY);
  if (!a) return NULL;
  memcpy(a->stride, r->a->stride, sizeof a->stride);
  buf_ref(a->buf = b);
  a->p = (char *)b->p + first;
  return a;
}

static array *result_array(ctx *c, const tape *t, int i, const tape_leaf_at *leaf) {
  const outcome *r = &t->result[i];
  const cell *x = r->cell < 0 ? NULL : &t->cell[r->cell];
  if (!x || x->kind == CONSTANT) return arr_ref(r->a);
  if (x->kind == RESULT) return array_of(c, r, t->buf[i], r->off);
  const tape_leaf_at *l = &leaf[x->leaf];
  if (!l->a) return arr_const(c, r->a->dtype, &r->a->s, imm_load(r->a->dtype, l->p));
  return array_of(c, r, l->a->buf, (char *)l->p + r->off - x->first - (char *)l->a->buf->p);
}

bool tape_reserve(ctx *c, tape *t, const tape_leaf_at *leaf, array **out) {
  t->unlike = ALIKE;
  if ((!t->planned || t->kept != cpu_kept(c) || t->threads != c->threads) && !look_up(c, t))
    return false;
  if (!reserve(c, t, leaf)) return false;
  for (int i = 0; i < t->nresult; i++) {
    const outcome *r = &t->result[i];
    bool in_place = r->cell >= 0 && t->cell[r->cell].kind == RESULT && !t->buf[i];
    out[i] = in_place ? NULL : result_array(c, t, i, leaf);
    if (out[i] || in_place) continue;
    while (i--) arr_unref(out[i]);
    return drop_buffers(t, t->nresult), false;
  }
  return true;
}

bool tape_run(ctx *c, tape *t, const tape_leaf_at *leaf) {
  trace *watching = c->arrays->trace;
  bind(t, leaf);
  if (watching) trace_block(watching, t->now->p, t->block, t->apart);
  bool ok = run(c, t, (char *)t->now->p + t->block);
  if (watching) trace_block(watching, NULL, 0, 0);
  tape_cancel(t);
  if (!ok) return false;
  c->counter += t->drawn + t->skipped;
  t->skipped = 0;
  t->nskip = 0;
  return true;
}

void tape_cancel(tape *t) { drop_buffers(t, t->nresult); }

int tape_unlike(const tape *t) { return t->unlike; }
size_t tape_block(const tape *t) { return t->block; }
