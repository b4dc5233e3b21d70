/* fuse.c -- evaluation: pending expressions become one program, and its roots values.
**
** Plan, reserve all, run, commit: without memory nothing has changed. What always holds:
**   - operands of a PENDING elementwise array have its size, or are CONST
**   - a PENDING reduction is an operand only if it folds rows, and all below it that do fold rows of
**     its length: `row`, the last of a shape (.., row). What has `per_row` has one element for each row
**   - values of one program have p->size elements, or one for each of its rows; the reductions that
**     end it reduce alike
*/
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#include "array/program.h"

enum { MAXVALUES = 4096, MAXDEPTH = 2048 }; /* of one program; of one expression, see lazy.c */

uint32_t plan_mark(void) {
  static _Atomic uint32_t mark;
  return atomic_fetch_add(&mark, 1) + 1;
}

/* Visit the pending arrays below `top` once each, operands first. visit gets every array, leaves too,
** when its operands are done. */
bool plan_visit(array *top, uint32_t mark, bool (*visit)(void *, array *), void *arg) {
  struct {
    array *a;
    int next;
  } stack[MAXDEPTH];
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
               .called = true,
               .fold = -1,
               .per_row = p->row && a->size != p->size,
               .esz = dtype_size[a->dtype]};
  if (a->state == PENDING) {
    for (int i = 0; i < a->nin; i++) {
      value *x = &p->v[v->in[i] = a->in[i]->val];
      x->last = a->val;
    }
    const kernels *k = kern_get();
    if (a->op == OP_to || a->op == OP_reshape) v->f = k->cast[a->in[0]->dtype][a->dtype];
    else if (a->nin) v->f = k->map[a->op][operand_dtype(a->op, a->in)];
  } else if (a->state == READY) {
    v->base = arr_data(a);
    if ((v->strided = !arr_is_contiguous(a))) strided_space(&v->q, a);
  }
  return true;
}

static array *body_of(array *a) { return ends(a) ? a->in[0] : a; }

/* What programs with this root are like: their size, the rows they fold, how reductions end them */
typedef struct {
  int64_t size, row, n, inner;
} form;

static form form_of(array *a) {
  const array *x = body_of(a);
  form f = {x->per_row ? x->size * x->row : x->size, x->row, 0, 0};
  if (ends(a)) f.n = a->n, f.inner = a->inner;
  return f;
}

/* Where rows are folded, only what makes one row of all of them (of columns) can end the program. */
static bool possible(const form *f) {
  return !f->row || !f->n || (f->inner == f->row && f->n * f->row == f->size);
}

/* Make f the form of a program with g's root too, if there is one. */
static bool join(form *f, const form *g) {
  form both = {f->size, f->row ? f->row : g->row, f->n ? f->n : g->n, f->n ? f->inner : g->inner};
  if (f->size != g->size || (g->row && g->row != both.row)) return false;
  if (g->n && (g->n != both.n || g->inner != both.inner)) return false;
  if (!possible(&both)) return false;
  *f = both;
  return true;
}

static bool add_root(prog *p, array *a, int32_t v) {
  root *r = mg_alloc(p->c, (p->nr + 1) * sizeof *r);
  if (!r) return false;
  if (p->nr) memcpy(r, p->r, p->nr * sizeof *r);
  mg_free(p->r);
  p->r = r;
  r[p->nr] = (root){.a = a, .v = v, .fold = -1, .wide = -1};
  if (!ends(a)) p->v[v].root = p->nr;
  p->nr++;
  return true;
}

/* Values held from outside: store what a gradient will read and is dear to compute again, and what was
** computed before: by and by the holder seems to be more than a box that is not collected yet. What a
** row was folded to is little beside the row. */
static bool plan_stores(prog *p) {
  bool lean = p->c->lean;
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    array *a = v->a;
    if (a->state != PENDING || v->root >= 0 || a->refs == a->uses) continue;
    bool dear = op_table[a->op].cost == DEAR;
    if (v->per_row || (lean   ? !a->saved && a->passes > 1
                       : dear ? a->saved || a->passes
                              : a->passes > 1)) {
      if (!add_root(p, a, i)) return false;
    } else v->needed = true; /* stays pending: what is below may not be given away */
  }
  for (int i = p->nv - 1; i >= 0; i--)
    if (p->v[i].needed)
      for (int j = 0; j < 3; j++)
        if (p->v[i].in[j] >= 0 && p->v[p->v[i].in[j]].root < 0) p->v[p->v[i].in[j]].needed = true;
  return true;
}

/* ---- cutting, scratch ------------------------------------------------------------------------------ */

/* How the work is cut. Depends on the shape, the widest dtype and the reductions alone; n, inner: of
** those that end it, 0 if none does. A program that folds rows is cut as sums of columns are. */
static void plan_cut(prog *p, int64_t n, int64_t inner) {
  enum { SEVERAL = 8, PIECES = 32 };
  int64_t short_row = 0;
  p->widest = 1;
  bool plain = true;
  for (int i = 0; i < p->nv; i++) {
    plain = plain && p->v[i].a->state == READY && !p->v[i].strided;
    if (p->v[i].esz > p->widest) p->widest = p->v[i].esz;
    if (p->v[i].strided && p->v[i].q.n) short_row = p->v[i].q.d[p->v[i].q.n - 1];
  }
  bool red = n > 0 || p->row;
  p->n = n ? n : p->row ? p->size / p->row : p->size;
  p->inner = n ? inner : p->row ? p->row : 1;
  p->rows = p->size / (p->n * p->inner);
  int64_t most = p->inner > 1 ? SMALL : TILE / p->widest; /* partial columns: by shape alone */
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
  /* pieces of columns are as long as a row: few, as they are put together by one thread */
  int64_t shortest = (p->n + PIECES - 1) / PIECES;
  if (p->inner > 1 && p->nb < shortest) p->nb = shortest;
  if (p->row && !n) p->nb = (CHUNK + p->row - 1) / p->row;
  p->pieces = (p->n + p->nb - 1) / p->nb;
  bool long_rows = p->inner > most && p->inner <= ROW;
  if (long_rows) p->tile = p->inner;
  /* a line more: tiles that begin in the same cache set would drive each other out */
  p->room = (p->tile * p->widest + 127) / 64 * 64;
  if (long_rows && plain) /* nothing is computed: several rows at a time */
    p->tile *= p->n < SEVERAL ? SEVERAL / p->n * p->n : SEVERAL;
}

/* Scratch tiles: constants and strided leaves keep theirs, instructions share */
static bool plan_slots(prog *p) {
  int nfree = 0;
  int32_t *freed = mg_alloc(p->c, (p->nv + 1) * sizeof *freed);
  if (!freed) return false;
  for (int i = 0; i < p->nr; i++) {
    if (p->r[i].fold < 0) p->v[p->r[i].v].last = INT_MAX; /* read after the last instruction */
    if (ends(p->r[i].a) && p->inner > 1 && p->inner <= SMALL) p->r[i].wide = p->nslot++;
  }
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    if (v->a->state != PENDING) {
      if (v->strided || (v->a->state == CONST && v->called)) v->slot = p->nslot++;
      continue;
    }
    for (int pass = 0; pass < 2;
         pass++) { /* the tile of an operand as wide may become the result's */
      for (int j = 0; j < 3; j++) {
        if (v->in[j] < 0) continue;
        value *x = &p->v[v->in[j]];
        bool again = (j > 0 && v->in[j] == v->in[0]) || (j > 1 && v->in[j] == v->in[1]);
        if (x->last == i && x->slot >= 0 && x->a->state == PENDING && !again &&
            (x->esz == v->esz && x->per_row == v->per_row) == (pass == 0))
          freed[nfree++] = x->slot;
      }
      if (pass == 0 && v->root < 0 && !v->inside) v->slot = nfree ? freed[--nfree] : p->nslot++;
    }
  }
  p->nslot += p->nfold;
  mg_free(freed);
  return true;
}

/* Where no bits hang on it, tiles are as long as the scratch that stays in the cache allows. */
static void plan_tile(prog *p) {
  enum { CACHED = 4 * TILE };
  if (p->inner > 1 || p->row) return;
  int64_t most = p->tile < p->n && p->n < CHUNK ? p->n : CHUNK;
  int nslot = p->nslot - p->nfold; /* lanes are few: less than a byte for each element */
  while (p->tile * 2 <= most && p->tile * 2 * p->widest * nslot <= CACHED) p->tile *= 2;
  p->room = (p->tile * (nslot ? p->widest : 1) + 127) / 64 * 64;
}

static int act_of(const prog *p, const value *v, int i) {
  const array *a = v->a;
  if (a->state != PENDING)
    return v->root >= 0 ? COPY : v->number ? NUMBERS : v->strided ? FETCH : PLACE;
  if (v->unit) return p->u[v->unit - 1].last == i ? UNIT : PLACE;
  if (v->f) return MAP;
  if (v->fold >= 0) return JOIN;
  return a->op == OP_broadcast_to ? SPREAD : op_reduces(a->op) ? REDUCE : RANDOM;
}

/* What to do for each tile; roots have their memory. */
static bool plan_acts(prog *p) {
  if (!(p->act = mg_alloc(p->c, 2 * p->nv * sizeof *p->act))) return false;
  for (int i = 0; i < p->nv; i++) {
    const value *v = &p->v[i];
    act d = {.kind = act_of(p, v, i),
             .esz = v->esz,
             .per_row = v->per_row,
             .i = i,
             .in = {v->in[0], v->in[1], v->in[2]},
             .f = v->f,
             .base = v->base,
             .v = v};
    if (d.kind == PLACE && !v->base) continue; /* a constant, or within its unit */
    if (v->a->state == PENDING && v->root >= 0 && d.kind != PLACE) {
      p->act[p->nact] = d;
      p->act[p->nact++].kind = PLACE;
    }
    p->act[p->nact++] = d;
  }
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

static bool reserve(prog *p, int n, array *const *olds) { /* olds[i]: of the n roots asked for */
  for (int i = 0; i < p->nr; i++) {
    root *r = &p->r[i];
    array *a = r->a;
    if (!ends(a) && a->state == PENDING) {
      array *old = olds && i < n ? olds[i] : NULL;
      if (old && may_take(p, r, old, 1)) r->from = old;
      for (int k = 0; k < p->nv && !r->from; k++)
        if (p->v[k].a->state == READY && may_take(p, r, p->v[k].a, 0)) r->from = p->v[k].a;
    }
    if (r->from) r->buf = r->from->buf;
    else if (!(r->buf = buf_new(p->c, a->size * dtype_size[a->dtype]))) return false;
    if (!ends(a)) p->v[r->v].base = r->buf->p;
    else if (p->pieces > 1) {
      size_t each = p->inner == 1 ? sizeof(acc) : (size_t)p->inner * dtype_size[a->dtype];
      if (!(r->partbuf = buf_new(p->c, p->rows * p->pieces * each))) return false;
      if (p->inner == 1) r->part = r->partbuf->p;
      else r->cols = r->partbuf->p;
    }
  }
  int threads = p->c->threads;
  p->scratch = buf_new(p->c, (size_t)threads * p->nslot * p->room);
  p->filled = mg_alloc(p->c, threads);
  if (!p->scratch || !p->filled) return false;
  memset(p->filled, 0, threads);
  return true;
}

static void discard(prog *p) {
  for (int i = 0; i < p->nr; i++) {
    if (p->r[i].buf && !p->r[i].from) buf_unref(p->r[i].buf);
    if (p->r[i].partbuf) buf_unref(p->r[i].partbuf);
  }
  if (p->scratch) buf_unref(p->scratch);
  mg_free(p->filled);
  mg_free(p->u);
  mg_free(p->act);
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
  for (int i = 0; i < p->nr; i++)
    if (p->r[i].from) p->r[i].from->buf = NULL;
  for (int i = 0; i < p->nr; i++) {
    root *r = &p->r[i];
    if (r->a->state == PENDING) arr_settle(r->a, r->buf);
    r->buf = NULL;
  }
  for (int i = 0; i < p->nv; i++) arr_unref(p->v[i].a);
}

/* One program of form f, that of the roots a[0..n-1] */
static bool evaluate(ctx *c, const form *f, int n, array *const *a, array *const *olds) {
  WORK(c, OP_NONE);
  prog p = {.c = c, .size = f->size, .row = f->row};
  uint32_t mark = plan_mark();
  bool ok = true;
  for (int i = 0; i < n && ok; i++) {
    array *x = body_of(a[i]);
    ok = plan_visit(x, mark, add_value, &p);
    if (x != a[i]) {
      x->uses++; /* the reduction holds it */
      a[i]->mark = mark;
    }
    ok = ok && add_root(&p, a[i], x->val);
  }
  ok = ok && plan_stores(&p);
  if (ok) {
    plan_cut(&p, f->n, f->inner);
    ok = plan_units(&p) && plan_slots(&p);
  }
  if (ok) {
    plan_tile(&p);
    ok = reserve(&p, n, olds) && plan_acts(&p);
  }
  if (ok) {
    if (c->profile) profile_program(&p);
    prog_run(&p);
    commit(&p);
  }
  discard(&p);
  return ok;
}

bool arr_eval(ctx *c, int n, array *const *a, array *const *olds) {
  array *group[64], *old[64];
  for (;;) { /* the first one pending, and what can go with it */
    int m = 0, left = 0, nodes = 0;
    form f = {0};
    for (int i = 0; i < n; i++) {
      array *x = a[i];
      if (x->state != PENDING) continue;
      form g = form_of(x);
      if (!possible(&g)) { /* what it reduces first */
        left++;
        x = x->in[0];
        g = form_of(x);
      }
      bool twice = false;
      for (int k = 0; k < m; k++) twice |= group[k] == x;
      if (twice) continue;
      if (m && (m == 64 || nodes + x->nodes > MAXVALUES || !join(&f, &g))) {
        left++;
        continue;
      }
      if (!m) f = g;
      nodes += x->nodes;
      old[m] = olds && x == a[i] ? olds[i] : NULL;
      group[m++] = x;
    }
    if (m == 0) return true;
    if (!evaluate(c, &f, m, group, left ? NULL : old)) return false;
    if (!left) return true;
  }
}

bool arr_ready(ctx *c, array *a) { return a->state != PENDING || arr_eval(c, 1, &a, NULL); }

array *arr_copy(ctx *c, array *a) {
  if (!arr_ready(c, a)) return NULL;
  array *r = arr_new(c, a->dtype, &a->s);
  if (!r || !r->size) return r;
  int esz = dtype_size[a->dtype];
  if (a->state == CONST) imm_fill(a->dtype, r->buf->p, a->k, a->size);
  else if (arr_is_contiguous(a)) memcpy(r->buf->p, arr_data(a), a->size * esz);
  else { /* a program of one leaf that is its own root */ prog p = {.c = c, .size = a->size};
    bool ok = add_value(&p, a) && add_root(&p, a, 0);
    if (ok) {
      plan_cut(&p, 0, 0);
      p.v[0].base = r->buf->p;
      p.filled = mg_alloc(c, c->threads);
      p.scratch = buf_new(c, (size_t)c->threads * TILE);
      ok = p.filled && p.scratch && plan_acts(&p);
    }
    if (ok) prog_run(&p);
    discard(&p);
    if (!ok) return arr_unref(r), NULL;
  }
  return r;
}
