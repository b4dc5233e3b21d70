/* tape.c -- launches recorded, to be run again on other values.
**
** While a tape records, nothing is computed: arrays that come into being stand at addresses where there is no
** memory, none of which is given twice, by another tape either, and launch_work leaves a note of each launch
** here. A stretch of such addresses is a cell. What was there before and may be another the next time (a leaf)
** is recorded through an array of its form; all other memory that is read is held, as a constant. What always
** holds:
**   - a cell is written once, or changed in place by calls that say so (`into`)
**   - leaves and constants are never written
**   - random numbers stand as far from the stream's position at the begin as they did when it was recorded
*/
#include <string.h>

#include "array/tape.h"

/* ---- cells --------------------------------------------------------------------------------------------- */

tape *tape_begin(ctx *c) {
  tape *t = mg_alloc(c, sizeof *t);
  if (!t) return NULL;
  memset(t, 0, sizeof *t);
  uint64_t next = c->arrays->standing;
  t->next = next < BEGIN || next >= 2 * BEGIN ? BEGIN : next;
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
  c->arrays->standing = t->next;
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

place tape_place(const tape *t, const void *p) {
  place x = {.cell = find(t, p)};
  if (x.cell >= 0) x.off = (int64_t)((uint64_t)p - t->cell[x.cell].at);
  return x;
}

/* ---- launches ------------------------------------------------------------------------------------------ */

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
    {cpu_matmul, 1, -1, false},
    {cpu_pull, 0, -1, false},
    {cpu_matmul_whole, 0, -1, false},
    {cpu_cumsum, 1, -1, false},
    {cpu_scan, 3, -1, false},
    {cpu_ranks, 3, -1, false},
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
    n->in[k] = tape_place(t, l->leaf[k].p);
    n->in[k].to = (void **)&n->leaf[k].p;
    ok = ok && n->in[k].cell >= 0;
  }
  for (int k = 0; k < p->noutput; k++) {
    n->out[k] = tape_place(t, l->to[k]);
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
    *x = tape_place(t, v->p);
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

void tape_unskip(tape *t, uint64_t counter) {
  int64_t begin = (int64_t)(counter - t->counter);
  for (skipped_part *x; t->nskip; t->skipped -= x->n, t->nskip--) {
    x = &t->skip[t->nskip - 1];
    if (x->at + (int64_t)(t->skipped - x->n) < begin) break;
  }
}

bool tape_skip(ctx *c, tape *t, uint64_t n) {
  if (!n) return true;
  if (!GROW(c, t, 4, skip, t->nskip + 1)) return false;
  int64_t begin = (int64_t)(c->counter - n - t->counter);
  tape_unskip(t, c->counter - n); /* parts of this one */
  t->skip[t->nskip].at = begin - (int64_t)t->skipped;
  t->skip[t->nskip++].n = n;
  t->skipped += n;
  return true;
}

uint64_t tape_skipped(const tape *t) { return t->skipped; }

bool tape_refuse(ctx *c) {
  return fail(c, "mg.compile: this needs a value, and there is none while a function is recorded");
}

bool tape_same(ctx *c, array *a, imm *k) {
  if (!arr_ready(c, a) || arr_recorded(a)) return false;
  *k = a->state == CONST ? a->k : imm_load(a->dtype, a->p);
  return true;
}

bool tape_check(ctx *c, array *a, imm want, int choice) {
  tape *t = c->arrays->tape;
  imm k;
  if (!arr_ready(c, a)) return false;
  if (tape_same(c, a, &k)) return k.i == want.i || tape_refuse(c);
  noted *n = blank(c, 1, 0, 1, 0, 0, 0);
  if (!n) return false;
  n->l.kind = CHECK;
  n->v[0] = a->v;
  n->in[0] = tape_place(t, a->p);
  if (n->in[0].cell < 0) return mg_free(n), tape_refuse(c);
  n->in[0].to = &n->v[0].p;
  n->want = want;
  n->choice = choice;
  return append(c, t, n);
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
