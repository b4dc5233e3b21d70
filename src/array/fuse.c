/* fuse.c -- evaluation: pending expressions become one program, and its outputs values.
**
** Here, and on data alone, it is decided what goes into one program, what of it is stored and what will be
** computed again, and whose buffer an output may take over. Plan, reserve all, launch, commit: without
** memory nothing has changed. What always holds:
**   - operands of a PENDING elementwise array have its size, or are CONST
**   - a PENDING reduction is an operand only if it folds rows, and all below it that do fold rows of
**     its length: `row`, the last of a shape (.., row). What has `per_row` has one element for each row.
**     (But for tails: see lazy.c. They are computed when what they reduce has been.)
**   - values of one program have its size, or one element for each of its rows; the reductions that
**     end it reduce alike
*/
#include <string.h>

#include "array/internal.h"

/* ---- visits ---------------------------------------------------------------------------------------- */

uint64_t arr_mark(ctx *c) { return ++c->arrays->mark; }
void arr_set_mark(ctx *c, uint64_t mark) { c->arrays->mark = mark; }

/* The way back is linked through `next`, which only dead arrays use otherwise: no depth is too deep. */
bool arr_visit(array *top, uint64_t mark, bool (*visit)(void *, array *), void *arg) {
  if (top->mark == mark) return true;
  array *a = top;
  a->mark = mark;
  a->uses = 0;
  a->child = 0;
  a->next = NULL;
  while (a) {
    if (a->state == PENDING && a->child < a->nin) {
      array *x = a->in[a->child++];
      if (x->mark != mark) {
        x->mark = mark;
        x->uses = 0;
        x->child = 0;
        x->next = a;
        a = x;
      }
      x->uses++;
    } else {
      array *back = a->next;
      if (!visit(arg, a)) return false;
      a = back;
    }
  }
  return true;
}

/* ---- a program in the making ------------------------------------------------------------------------ */

typedef struct {
  array *a;
  bool
      needed; /* some array that stays pending will need it again: its buffer may not be given away */
  bool taken;     /* an output takes its buffer over */
  int32_t output; /* it is stored as this; -1 */
} fused;

typedef struct {
  array *a;
  array *from; /* whose buffer this is, NULL: fresh */
  buffer *buf;
  int64_t row; /* of a, while it is promised: see promise() */
  bool per_row;
} stored;

/* The lists of the evaluation under way, kept for the next */
typedef struct fuser {
  fused *f; /* by value */
  pvalue *v;
  stored *s; /* by output */
  poutput *o;
  space *q;
  binding *leaf;
  void **to;      /* by output */
  char *packed;   /* the program */
  size_t room[8]; /* of these, in bytes */
  int nv, no, nq, nleaf;
  int64_t size, row;
} fuser;

void fuse_close(ctx *c) {
  fuser *f = c->arrays->fuser;
  if (!f) return;
  void *lists[] = {f->f, f->v, f->s, f->o, f->q, f->leaf, f->to, f->packed};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) mg_free(lists[i]);
  mg_free(f);
  c->arrays->fuser = NULL;
}

#define GROW(f, c, which, list, n)                                                                 \
  mg_grow(c, (void **)&(f)->list, &(f)->room[which], (n) * sizeof *(f)->list)

static fuser *fuser_of(ctx *c) {
  fuser *f = c->arrays->fuser;
  if (!f) {
    if (!(f = c->arrays->fuser = mg_alloc(c, sizeof *f))) return NULL;
    memset(f, 0, sizeof *f);
  }
  f->nv = f->no = f->nq = f->nleaf = 0;
  return f;
}

/* The value that reads the same numbers the same way, q, for another array: they are fetched once. -1: there is
** none. While a tape records, these may be others' later. */
static int find_leaf(const ctx *c, const fuser *f, const array *a, const space *q) {
  if (c->arrays->tape) return -1;
  for (int i = f->nv - 2; i >= 0; i--) {
    const pvalue *v = &f->v[i];
    if (v->leaf == LEAF_INPUT && v->space >= 0 && v->dtype == a->dtype &&
        f->leaf[v->in[0]].p == a->p && memcmp(&f->q[v->space], q, sizeof *q) == 0)
      return i;
  }
  return -1;
}

static bool add_leaf(ctx *c, fuser *f, const array *a, pvalue *v) {
  const bool strided = a->state == READY && !view_dense(&a->v);
  space q;
  v->leaf = a->state == CONST ? LEAF_NUMBER : a->state == READY ? LEAF_INPUT : LEAF_RANDOM;
  if (strided) {
    memset(&q, 0, sizeof q); /* programs are compared by their bytes */
    view_space(&a->v, &q);
    int same = find_leaf(c, f, a, &q);
    if (same >= 0) {
      v->in[0] = f->v[same].in[0];
      v->space = f->v[same].space;
      return true;
    }
  }
  if (!GROW(f, c, 5, leaf, f->nleaf + 1)) return false;
  binding *b = &f->leaf[f->nleaf];
  *b = (binding){.p = NULL, .k = a->k};
  v->in[0] = (int16_t)f->nleaf++;
  if (v->leaf == LEAF_RANDOM) b->seed = a->seed;
  if (v->leaf != LEAF_INPUT) return true;
  b->p = a->p;
  if (!arr_readable(c, a)) return false;
  if (__builtin_expect(c->arrays->tape != NULL, 0) && !tape_hold(c, a)) return false;
  if (!strided) return true;
  if (!GROW(f, c, 4, q, f->nq + 1)) return false;
  memcpy(&f->q[f->nq], &q, sizeof q);
  v->space = (int16_t)f->nq++;
  return true;
}

/* The exponent of a power that is multiplied out */
static int power_of(const array *a) {
  const array *n = a->in[1];
  bool whole = n->state == CONST && n->k.f >= -64 && n->k.f <= 64 && n->k.f == (int)n->k.f;
  return whole ? (int)n->k.f : 0;
}

typedef struct {
  ctx *c;
  fuser *f;
} adder;

static bool add_value(void *arg, array *a) {
  ctx *c = ((adder *)arg)->c;
  fuser *f = ((adder *)arg)->f;
  if (!GROW(f, c, 0, f, f->nv + 1) || !GROW(f, c, 1, v, f->nv + 1)) return false;
  a->val = f->nv;
  f->f[f->nv] = (fused){.a = a, .output = -1};
  pvalue *v = &f->v[f->nv++];
  *v = (pvalue){.dtype = a->dtype,
                .per_row = f->row && a->state != CONST && a->size != f->size,
                .in = {-1, -1, -1},
                .space = -1};
  if (a->state != PENDING || a->nin == 0) return add_leaf(c, f, a, v);
  v->op = a->op;
  if (a->op == OP_powi) v->power = (int16_t)power_of(a);
  for (int i = 0; i < a->nin; i++) v->in[i] = (int16_t)a->in[i]->val;
  return true;
}

static bool add_output(ctx *c, fuser *f, array *a, int value) {
  if (!GROW(f, c, 2, s, f->no + 1) || !GROW(f, c, 3, o, f->no + 1) || !GROW(f, c, 6, to, f->no + 1))
    return false;
  f->s[f->no] = (stored){.a = a};
  f->o[f->no] =
      (poutput){.value = (int16_t)value, .op = ends(a) ? a->op : OP_NONE, .dtype = a->dtype};
  if (!ends(a)) f->f[value].output = f->no;
  f->no++;
  return true;
}

/* ---- what is stored, and what is computed again ------------------------------------------------------ */

/* Is a value that is held from outside, and passed by a program, stored by it?
**
**                   a gradient will read it             nobody knows of one
**   DEAR            at once                             the second time it is computed
**   CHEAP           the fourth time                     the fourth time
**   either, lean    never                               the fourth time
**
** Not at once, since boxes in Lua outlive their use: most such holders are gone by the next evaluation. What
** a row was folded to is little beside the row, and what a tape records is not computed twice. What a gradient
** will read is told by the table's `saves` (graph/apply.c); how long an expression grows before it is
** evaluated unasked, by `bounded` (lazy.c). */
static bool is_stored(const arrays *k, const array *a, bool per_row) {
  bool dear = op_table[a->op].cost == DEAR;
  if (per_row || (k->tape && a->size <= SMALL)) return true;
  if (a->saved && (k->lean || dear)) return !k->lean;
  return a->recomputes >= (dear && !k->lean ? 1 : 3);
}

static bool find_stored(ctx *c, fuser *f) {
  for (int i = 0; i < f->nv; i++) {
    array *a = f->f[i].a;
    if (a->state != PENDING || f->f[i].output >= 0 || a->refs == a->uses) continue;
    if (!is_stored(c->arrays, a, f->v[i].per_row)) f->f[i].needed = true; /* stays pending */
    else if (!add_output(c, f, a, i)) return false;
  }
  for (int i = f->nv - 1; i >= 0; i--) {
    if (!f->f[i].needed || f->v[i].leaf) continue;
    for (int j = 0; j < 3; j++) {
      int x = f->v[i].in[j];
      if (x >= 0 && f->f[x].output < 0) f->f[x].needed = true;
    }
  }
  return true;
}

/* ---- memory ------------------------------------------------------------------------------------------- */

/* May output k take over the buffer of x, which `holders` beside the program hold? */
static bool may_take(const fuser *f, const schedule *s, int k, const array *x, int holders,
                     bool leaf) {
  const array *a = f->s[k].a;
  if (x->dtype != a->dtype || x->size != a->size) return false;
  if (!arr_sole(x, holders + (leaf ? x->uses : 0))) return false;
  return !leaf ||
         (!f->f[x->val].needed && !f->f[x->val].taken && cpu_in_place(s, k, f->v[x->val].in[0]));
}

static array *find_buffer(fuser *f, const schedule *s, int k, array *old, uint64_t mark) {
  if (f->s[k].a->ctx->arrays->tape) return NULL; /* the tape sees to that */
  if (old && old->state == READY && may_take(f, s, k, old, 1, old->mark == mark)) {
    bool twice = false;
    for (int i = 0; i < k; i++) twice |= f->s[i].from == old;
    if (!twice) return old;
  }
  for (int i = 0; i < f->nv; i++)
    if (f->v[i].leaf == LEAF_INPUT && may_take(f, s, k, f->f[i].a, 0, true)) return f->f[i].a;
  return NULL;
}

static bool reserve(ctx *c, fuser *f, const schedule *s, int n, array *const *olds, uint64_t mark) {
  for (int k = 0; k < f->no; k++) {
    stored *r = &f->s[k];
    if (!f->o[k].op) r->from = find_buffer(f, s, k, olds && k < n ? olds[k] : NULL, mark);
    if (r->from && r->from->mark == mark) f->f[r->from->val].taken = true;
    r->buf = r->from ? r->from->buf : arr_memory(c, r->a->size * dtype_size[r->a->dtype]);
    if (!r->buf) return false;
    f->to[k] = r->buf->p;
  }
  return true;
}

/* Outputs become READY; values that were computed but not stored remember it */
static void commit(fuser *f) {
  for (int i = 0; i < f->nv; i++) {
    array *a = f->f[i].a;
    if (a->state == PENDING && f->f[i].output < 0 && a->recomputes < UINT8_MAX) a->recomputes++;
    arr_ref(a); /* values may hold one another: all stay until all outputs are there */
  }
  for (int k = 0; k < f->no; k++) {
    array *from = f->s[k].from;
    if (from) from->buf = NULL, from->p = NULL;
  }
  for (int k = 0; k < f->no; k++) arr_adopt(f->s[k].a, f->s[k].buf);
  for (int i = 0; i < f->nv; i++) arr_unref(f->f[i].a);
}

/* ---- what goes into one program -------------------------------------------------------------------------- */

static array *reduced_of(array *a) { return ends(a) ? a->in[0] : a; }

/* What programs with this output are like: their size, the rows they fold, how reductions end them */
typedef struct {
  int64_t size, row, n, inner;
} form;

static form form_of(array *a) {
  const array *x = reduced_of(a);
  form f = {x->per_row ? x->size * x->row : x->size, x->row, 0, 0};
  if (ends(a)) f.n = a->n, f.inner = a->inner;
  return f;
}

/* Where rows are folded, only what makes one row of all of them (of columns) can end the program. */
static bool possible(const form *f) {
  return !f->row || !f->n || (f->inner == f->row && f->n * f->row == f->size);
}

/* Make f the form of a program with g's output too, if there is one. */
static bool join(form *f, const form *g) {
  form both = {f->size, f->row ? f->row : g->row, f->n ? f->n : g->n, f->n ? f->inner : g->inner};
  if (f->size != g->size || (g->row && g->row != both.row)) return false;
  if (g->n && (g->n != both.n || g->inner != both.inner)) return false;
  if (!possible(&both)) return false;
  *f = both;
  return true;
}

/* The program of form f with these outputs, and what else is worth storing */
static program *build(ctx *c, fuser *f, const form *m, int n, array *const *a, uint64_t mark) {
  f->size = m->size;
  f->row = m->row;
  for (int i = 0; i < n; i++) {
    array *x = reduced_of(a[i]);
    if (!arr_visit(x, mark, add_value, &(adder){c, f})) return NULL;
    if (x != a[i]) {
      x->uses++; /* the reduction holds it */
      a[i]->mark = mark;
    }
    if (!add_output(c, f, a[i], x->val)) return NULL;
  }
  if (!find_stored(c, f)) return NULL;
  size_t bytes =
      sizeof(program) + f->nq * sizeof *f->q + f->nv * sizeof *f->v + f->no * sizeof *f->o;
  if (!GROW(f, c, 7, packed, bytes)) return NULL;
  program *p = (program *)(void *)f->packed;
  *p = (program){.size = m->size,
                 .row = m->row,
                 .n = m->n,
                 .inner = m->inner,
                 .nvalue = f->nv,
                 .noutput = f->no,
                 .nspace = f->nq};
  if (f->nq) memcpy((void *)program_spaces(p), f->q, f->nq * sizeof *f->q);
  memcpy((void *)program_values(p), f->v, f->nv * sizeof *f->v);
  memcpy((void *)program_outputs(p), f->o, f->no * sizeof *f->o);
  program_seal(p);
  return p;
}

static void give_back(fuser *f) {
  for (int k = 0; k < f->no; k++)
    if (f->s[k].buf && !f->s[k].from) buf_unref(f->s[k].buf);
}

/* Plans it and takes the memory of its outputs. NULL: there is none. */
static const schedule *prepare(ctx *c, fuser *f, const form *m, int n, array *const *a,
                               array *const *olds) {
  uint64_t mark = arr_mark(c);
  program *p = build(c, f, m, n, a, mark);
  const schedule *s = p ? cpu_schedule(c, p) : NULL;
  if (s && reserve(c, f, s, n, olds, mark)) return s;
  give_back(f);
  return NULL;
}

static bool run(ctx *c, fuser *f, const schedule *s, void *scratch) {
  WORK(c, OP_NONE);
  launch l = {.kind = PROGRAM};
  l.p = s ? cpu_program(s) : (const program *)(const void *)f->packed;
  l.s = s;
  l.leaf = f->leaf;
  l.to = f->to;
  l.scratch = scratch;
  l.fresh = 0;
  for (int k = 0; k < f->no; k++)
    if (!f->s[k].from) l.fresh += f->s[k].a->size * dtype_size[f->s[k].a->dtype];
  if (!launch_work(c, &l)) return false;
  commit(f);
  return true;
}

static bool evaluate(ctx *c, const form *m, int n, array *const *a, array *const *olds) {
  WORK(c, OP_NONE);
  fuser *f = fuser_of(c);
  const schedule *s = NULL;
  if (f && c->arrays->tape) { /* planned when the record is complete */
    uint64_t mark = arr_mark(c);
    if (!build(c, f, m, n, a, mark) || !reserve(c, f, NULL, n, NULL, mark))
      return give_back(f), false;
  } else if (!f || !(s = prepare(c, f, m, n, a, olds))) return false;
  if (run(c, f, s, NULL)) return true;
  give_back(f);
  return false;
}

enum { GROUP = 64 };

static bool count_pending(void *arg, array *a) {
  *(int *)arg += a->state == PENDING;
  return true;
}

/* How many nodes x adds to those of this mark, about; while a tape records, exactly: they are many */
static int nodes_of(ctx *c, array *x, uint64_t mark) {
  int n = 0;
  if (!c->arrays->tape) return x->nodes;
  arr_visit(x, mark, count_pending, &n);
  return n;
}

/* Evaluates what can be one program with the first array that is pending, and so on. Tails are left. */
static bool eval_programs(ctx *c, int n, array *const *a) {
  array *group[GROUP];
  for (int first = 0;;) {
    int m = 0, left = 0, nodes = 0, more, most = c->arrays->tape ? MAXVALUES : MAXVALUES / 2;
    uint64_t mark = c->arrays->tape ? arr_mark(c) : 0;
    form f = {0};
    while (first < n && (a[first]->state != PENDING || a[first]->tail)) first++;
    for (int i = first; i < n && !(m == GROUP && left); i++) {
      array *x = a[i];
      if (x->state != PENDING || x->tail) continue;
      form g = form_of(x);
      if (!possible(&g)) { /* what it reduces first */
        left++;
        x = x->in[0];
        g = form_of(x);
      }
      bool twice = false;
      for (int k = 0; k < m; k++) twice |= group[k] == x;
      if (twice) continue;
      more = m < GROUP ? nodes_of(c, x, mark) : 0;
      if (m && (m == GROUP || nodes + more > most || !join(&f, &g))) {
        left++;
        continue;
      }
      if (!m) f = g;
      nodes += more;
      group[m++] = x;
    }
    if (m == 0) return true;
    if (!evaluate(c, &f, m, group, NULL)) return false;
    if (!left) return true;
  }
}

/* ---- taking the place of old values ---------------------------------------------------------------------- */

static bool no_visit(void *arg, array *a) { return (void)arg, (void)a, true; }

/* Is x part of what has this mark, or made of some of it a few ops ago? */
static bool related(const array *x, uint64_t mark, int ops) {
  if (x->mark == mark) return true;
  for (int i = 0; i < x->nin && ops; i++)
    if (related(x->in[i], mark, ops - 1)) return true;
  return false;
}

/* The first of a[*from..n-1] that is pending and not done, with some of the few after it that have to do
** with it: values of one program, m of them. They are done then; how many. */
static int next_group(ctx *c, int *from, int n, array *const *a, array *const *olds, bool *done,
                      form *f, array **group, array **old, int *m) {
  enum { FEW = 16 };
  int taken = 0, nodes = 0, first = *from;
  uint64_t mark = arr_mark(c);
  *m = 0;
  while (first < n && (done[first] || a[first]->state != PENDING)) first++;
  for (int i = first; i < n && i < first + FEW; i++) {
    array *x = a[i];
    bool twice = false;
    if (done[i] || x->state != PENDING) continue;
    for (int k = 0; k < *m; k++) twice |= group[k] == x;
    form g = form_of(x);
    if (*m && !twice && (!related(x, mark, 4) || nodes + x->nodes > MAXVALUES / 2 || !join(f, &g)))
      continue;
    done[i] = true;
    taken++;
    if (twice) continue;
    if (!*m) *f = g;
    arr_visit(x, mark, no_visit, NULL);
    nodes += x->nodes;
    old[*m] = olds[i];
    group[(*m)++] = x;
  }
  *from = first;
  return taken;
}

/* What ends no program is computed before. How many are left, -1: error. */
static int eval_parts(ctx *c, int n, array *const *a) {
  int left = 0;
  for (int i = 0; i < n; i++) {
    array *x = a[i];
    if (x->state != PENDING) continue;
    if (x->tail && !arr_ready(c, x)) return -1;
    if (x->state != PENDING) continue;
    form g = form_of(x);
    if (!possible(&g) && !arr_ready(c, x->in[0])) return -1;
    left++;
  }
  return left;
}

/* A program that waits for others to be planned: what running it takes, in one block. It holds its arrays:
** others may store some meanwhile, which lets go of what these were made of; and none may take the buffer of
** one. Its outputs are promised: they look READY, in the memory they will have, so that programs planned
** after it read them there and do not compute them again, from what it may have written over by then. */
typedef struct plan {
  fuser f;
  const schedule *s;
  bool ran;
  struct plan *next;
} plan;

static plan *keep_plan(ctx *c, const fuser *f, const schedule *s) {
  size_t values = f->nv * sizeof *f->f, outputs = f->no * sizeof *f->s,
         leaves = f->nleaf * sizeof *f->leaf, to = f->no * sizeof *f->to;
  plan *p = mg_alloc(c, sizeof *p + values + outputs + leaves + to);
  if (!p) return NULL;
  char *at = (char *)(p + 1);
  *p = (plan){.f = {.nv = f->nv, .no = f->no}, .s = s};
  p->f.f = memcpy(at, f->f, values);
  p->f.s = memcpy(at += values, f->s, outputs);
  p->f.leaf = memcpy(at += outputs, f->leaf, leaves);
  p->f.to = memcpy(at + leaves, f->to, to);
  for (int i = 0; i < f->nv; i++) arr_ref(f->f[i].a);
  return p;
}

static void promise(plan *p) {
  for (int k = 0; k < p->f.no; k++) {
    stored *s = &p->f.s[k];
    s->row = s->a->row;
    s->per_row = s->a->per_row;
    s->a->row = 0;
    s->a->per_row = false;
    s->a->state = READY;
    s->a->buf = s->buf;
    s->a->p = s->buf->p;
    view_make_dense(&s->a->v);
  }
}

static void take_back(plan *p) {
  for (int k = 0; k < p->f.no; k++) {
    stored *s = &p->f.s[k];
    s->a->row = s->row;
    s->a->per_row = s->per_row;
    s->a->state = PENDING;
    s->a->buf = NULL;
    s->a->p = NULL;
  }
}

static void drop_plans(plan *all) {
  for (plan *p = all; p; p = p->next)
    if (!p->ran) take_back(p);
  for (plan *p = all, *next; p; p = next) {
    next = p->next;
    if (!p->ran) give_back(&p->f);
    for (int i = 0; i < p->f.nv; i++) arr_unref(p->f.f[i].a);
    mg_free(p);
  }
}

/* All of a[0..n-1] that is pending, program by program. Gives scratch for any of them; NULL: no memory. */
static buffer *plan_all(ctx *c, int n, array *const *a, array *const *olds, bool *done,
                        plan **all) {
  array *group[GROUP], *old[GROUP];
  size_t scratch = 0;
  form f;
  int m, from = 0;
  memset(done, 0, n);
  while (next_group(c, &from, n, a, olds, done, &f, group, old, &m)) {
    fuser *w = fuser_of(c);
    const schedule *s = w ? prepare(c, w, &f, m, group, old) : NULL;
    if (!s) return NULL;
    if (!(*all = keep_plan(c, w, s))) return give_back(w), NULL;
    promise(*all);
    if (cpu_scratch(c, s) > scratch) scratch = cpu_scratch(c, s);
    all = &(*all)->next;
  }
  return buf_new(c, scratch);
}

/* With the first program that takes a buffer over, values are lost: so all programs are planned before,
** and all memory is taken; nothing fails after. */
static bool eval_over(ctx *c, int n, array *const *a, array *const *olds) {
  array *group[GROUP], *old[GROUP];
  form f;
  int m, from = 0, left = eval_parts(c, n, a);
  if (left <= 0) return left == 0;
  bool *done = mg_alloc(c, n), ok = done;
  if (!ok) return false;
  memset(done, 0, n);
  if (next_group(c, &from, n, a, olds, done, &f, group, old, &m) == left)
    ok = evaluate(c, &f, m, group, old);
  else {
    plan *all = NULL;
    uint64_t kept = cpu_kept(c);
    buffer *scratch = plan_all(c, n, a, olds, done, &all);
    bool there = cpu_kept(c) == kept;
    for (plan *p = scratch && there ? all : NULL; p; p = p->next)
      p->ran = run(c, &p->f, p->s, scratch->p);
    drop_plans(all);
    if (scratch) buf_unref(scratch);
    ok = scratch &&
         (there || eval_programs(c, n, a)); /* more than are kept: in memory of their own */
  }
  mg_free(done);
  return ok;
}

/* ---- tails ------------------------------------------------------------------------------------------------- */

typedef struct {
  array **a;
  int n, room;
  uint64_t mark;
  bool compute; /* the reductions are there: the second visit */
  ctx *c;
} tails;

/* The pending reductions below tail t: into the list, some perhaps twice; or t itself is computed. */
static bool visit_tail(void *arg, array *t) {
  tails *w = arg;
  if (t->state != PENDING || !t->tail) return true;
  if (w->compute && w->c->arrays->tape) return t->tail = false, true; /* a program of one number */
  if (w->compute) {
    WORK(w->c, t->op);
    array *r = arr_blank(w->c, t->dtype, &t->s, READY);
    launch l = {.kind = KERNEL, .op = t->op};
    imm k[3];
    if (!r || !arr_fill_in(w->c, r)) return arr_unref(r), false;
    l.map = cpu_kernel(t->op, operand_dtype(t->op, t->in), t->dtype);
    for (int i = 0; i < t->nin; i++) {
      array *x = t->in[i];
      if (x->state == CONST) imm_store(x->dtype, &k[i], x->k);
      l.x[i] = x->state == CONST ? (void *)&k[i] : x->p;
      if (!arr_readable(w->c, x)) return arr_unref(r), false;
    }
    l.r = r->p;
    l.n = 1;
    if (!launch_work(w->c, &l)) return arr_unref(r), false;
    buf_ref(r->buf);
    arr_adopt(t, r->buf);
    arr_unref(r);
    return true;
  }
  for (int i = 0; i < t->nin; i++) {
    array *x = t->in[i];
    if (x->state != PENDING || x->tail) continue;
    if (w->n == w->room) {
      size_t room = w->room * sizeof *w->a;
      if (!mg_grow(w->c, (void **)&w->a, &room, room + sizeof *w->a)) return false;
      w->room = (int)(room / sizeof *w->a);
    }
    w->a[w->n++] = x;
  }
  return true;
}

static bool has_tails(int n, array *const *a) {
  for (int i = 0; i < n; i++)
    if (a[i]->state == PENDING && a[i]->tail) return true;
  return false;
}

bool arr_eval(ctx *c, int n, array *const *a, array *const *olds) {
  if (olds) return eval_over(c, n, a, olds);
  if (!has_tails(n, a)) return eval_programs(c, n, a);
  tails w = {.c = c, .mark = arr_mark(c)};
  bool ok = true;
  for (int i = 0; i < n && ok; i++)
    if (a[i]->state == PENDING && a[i]->tail) ok = arr_visit(a[i], w.mark, visit_tail, &w);
  int found = w.n;
  array **all = ok ? mg_alloc(c, (n + found + 1) * sizeof *all) : NULL;
  ok = all;
  if (ok) { /* what was asked for, and what its tails reduce: in one go where it can be */
    for (int i = 0; i < n + found; i++) all[i] = i < n ? a[i] : w.a[i - n];
    ok = eval_programs(c, n + found, all);
  }
  w.mark = arr_mark(c);
  w.compute = true;
  for (int i = 0; i < n && ok; i++)
    if (a[i]->state == PENDING) ok = arr_visit(a[i], w.mark, visit_tail, &w);
  if (c->arrays->tape) ok = ok && eval_programs(c, n, a);
  mg_free(all);
  mg_free(w.a);
  return ok;
}

bool arr_ready(ctx *c, array *a) { return a->state != PENDING || arr_eval(c, 1, &a, NULL); }

/* ---- looking ------------------------------------------------------------------------------------------------ */

int64_t arr_program_text(ctx *c, array *a, char *buf, int64_t room) {
  if (a->state != PENDING || a->tail) return 0;
  form m = form_of(a);
  if (!possible(&m)) a = a->in[0], m = form_of(a);
  fuser *f = fuser_of(c);
  program *p = f ? build(c, f, &m, 1, &a, arr_mark(c)) : NULL;
  return p ? program_text(p, buf, room) : -1;
}

typedef struct {
  void (*visit)(void *arg, buffer *b);
  void *arg;
} visitor;

static bool visit_ready(void *arg, array *a) {
  const visitor *v = arg;
  if (a->state == READY) v->visit(v->arg, a->buf);
  return true;
}

void arr_buffers(array *a, void (*visit)(void *arg, buffer *b), void *arg) {
  arr_visit(a, arr_mark(a->ctx), visit_ready, &(visitor){visit, arg});
}
