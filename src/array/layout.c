/* layout.c -- what becomes of a tape when the recording ends.
**
** Equal launches become one, those that nobody needs go, and outputs that nobody reads. Cells that are neither
** leaves nor results get their places in one block by when they are in use. Programs that give Variables new
** values come last. Then all is listed that a replay has to write.
*/
#include <string.h>

#include "array/tape.h"

/* ---- equal launches, and those that nobody needs ------------------------------------------------------- */

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

/* ---- places in the block ------------------------------------------------------------------------------- */

typedef struct {
  size_t at, bytes;
} gap;

typedef struct {
  gap *g;
  int n;
  size_t end;
} gaps;

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

/* May output k of the program be written over input i? */
static bool in_place(ctx *c, const program *p, int k, int i) {
  if (program_is_number(p)) return true; /* it is planned when it is run again */
  const schedule *s = cpu_schedule(c, p);
  if (!s) return c->err = OK, false;
  return cpu_in_place(s, k, i);
}

/* Output k of the program is written over an input that is needed no more; NULL: over none */
static cell *over(ctx *c, tape *t, noted *n, int at, int k) {
  cell *x = cell_of(t, &n->out[k]);
  for (int i = 0; i < n->nin; i++) {
    cell *y = cell_of(t, &n->in[i]);
    if (!y || y->kind != TEMPORARY || y->end != at || y->bytes != x->bytes || n->in[i].off)
      continue;
    int often = 0;
    for (int j = 0; j < n->nin; j++) often += n->in[j].cell == n->in[i].cell;
    if (often == 1 && in_place(c, n->l.p, k, i)) return y;
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
    place x = tape_place(t, a->p);
    if (x.cell < 0) return tape_refuse(c);
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
  if (in < 0 || in_place(c, n->l.p, k, in)) r->over = leaf;
}
