/* loop.c -- which values of a program are computed together, in one loop of machine code.
**
** A unit is what is element-wise, of one dtype, and of one phase: no value of a unit waits for a call
** (a kernel, a fold) that waits for another of its values. What always holds here:
**   - values stand in the order of computation: the leaves, then phase by phase the units and the calls
**   - masks are never stored: who makes one and who reads it are of the same unit
**   - what a unit reads one number a row of is called run by run, each of them within a row
*/
#include <string.h>

#include "array/program.h"

enum {
  WORTH = 4 * SMALL, /* elements of a program that is worth it */
  LONG = 64,         /* elements of a row that is worth a run */
  POWER = 64         /* the highest power that is steps */
};

enum { F32_UNIT, F64_UNIT, CALLS, GROUPS }; /* of a phase, in their order */

static bool is_step(const value *v) { return v->unit; }
static bool together(const value *v, const value *w) {
  return is_step(v) && is_step(w) && v->phase == w->phase && v->lanes == w->lanes;
}

/* The exponent of a power that is a chain of products; 0: v is none */
static int power_of(const prog *p, const value *v) {
  if (v->a->state != PENDING || v->a->op != OP_powi) return 0;
  const array *n = p->v[v->in[1]].a;
  return n->state == CONST && n->k.f >= -POWER && n->k.f <= POWER && n->k.f == (int)n->k.f
             ? (int)n->k.f
             : 0;
}

/* Can v be a step? Its operands have been asked before. */
static bool can_be_step(const prog *p, value *v) {
  const array *a = v->a;
  if (a->state != PENDING || v->per_row || a->nin == 0) return false;
  if (a->op == OP_broadcast_to ? p->row < LONG : !code_knows(a->op) && !power_of(p, v))
    return false;
  v->lanes = NDTYPE;
  for (int i = a->nin - 1; i >= 0; i--) {
    const value *x = &p->v[v->in[i]];
    bool mask = x->a->dtype == BOOL;
    uint8_t t = mask && is_step(x) ? x->lanes : x->a->dtype;
    if (!is_float(t) || (v->lanes != NDTYPE && t != v->lanes)) return false;
    v->lanes = t;
  }
  return a->dtype == BOOL || a->dtype == v->lanes;
}

static bool is_sum(int op) { return op == OP_sum || op == OP_mean; }

/* Is v a sum of rows of a step? It is made where the step is, which need not be stored for it. */
static bool folds_step(const prog *p, const value *v) {
  if (v->a->state != PENDING || !is_sum(v->a->op) || p->row < LONG) return false;
  const value *x = &p->v[v->in[0]];
  return is_step(x) && x->a->dtype == x->lanes;
}

static bool ends_in_step(const prog *p, const root *r) {
  const value *x = &p->v[r->v];
  return ends(r->a) && is_sum(r->a->op) && p->inner == 1 && p->n >= LONG && is_step(x) &&
         x->a->dtype == x->lanes;
}

/* A step follows the calls it reads; a call follows the steps, in the same phase. */
static void find_phases(prog *p, int16_t (*count)[2]) {
  memset(count, 0, (p->nv + 2) * sizeof *count);
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    int needs = 1 + (power_of(p, v) ? 14 : v->a->nin) + v->sums; /* steps, sources among them */
    v->unit = !v->barred && needs <= STEPS && can_be_step(p, v);
    v->phase = 0;
    for (int j = 0; j < 3; j++) {
      if (v->in[j] < 0) continue;
      value *x = &p->v[v->in[j]];
      bool later = v->unit && x->a->state == PENDING && !(is_step(x) && x->lanes == v->lanes);
      if (x->phase + later > v->phase) v->phase = x->phase + later;
    }
    if (!v->unit) continue;
    while (count[v->phase][v->lanes] + needs > STEPS) v->phase++;
    count[v->phase][v->lanes] += needs;
  }
}

/* Who reads each value: calls, or the steps of its unit alone */
static void find_readers(prog *p) {
  for (int i = 0; i < p->nv; i++) {
    p->v[i].called = false;
    p->v[i].inside = is_step(&p->v[i]) && p->v[i].root < 0;
  }
  for (int i = 0; i < p->nv; i++)
    for (int j = 0; j < 3; j++) {
      if (p->v[i].in[j] < 0 || folds_step(p, &p->v[i])) continue;
      value *x = &p->v[p->v[i].in[j]];
      x->called = x->called || !is_step(&p->v[i]);
      x->inside = x->inside && together(x, &p->v[i]);
    }
  for (int i = 0; i < p->nr; i++) {
    value *x = &p->v[p->r[i].v];
    if (ends_in_step(p, &p->r[i])) continue;
    x->called = true;
    x->inside = false;
  }
}

/* Masks that are read elsewhere are no steps after all. Were there any? */
static bool bar_masks(prog *p) {
  bool any = false;
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    if (is_step(v) && v->a->dtype == BOOL && !v->inside) v->barred = any = true;
  }
  return any;
}

static bool find_units(prog *p) {
  int16_t(*count)[2] = mg_alloc(p->c, (p->nv + 2) * sizeof *count);
  if (!count) return false;
  for (int i = 0; i < p->nv; i++)
    if (p->v[i].a->state == PENDING && is_sum(p->v[i].a->op)) p->v[p->v[i].in[0]].sums++;
  for (int i = 0; i < p->nr; i++) p->v[p->r[i].v].sums++;
  do {
    find_phases(p, count);
    find_readers(p);
  } while (bar_masks(p));
  mg_free(count);
  return true;
}

static int group_of(const value *v) {
  if (v->a->state != PENDING) return 0;
  return 1 + v->phase * GROUPS + (!v->unit ? CALLS : v->lanes == F32 ? F32_UNIT : F64_UNIT);
}

/* Values by group, and in each as they were; units numbered */
static bool sort_values(prog *p) {
  int groups = 2;
  for (int i = 0; i < p->nv; i++)
    if (group_of(&p->v[i]) + 2 > groups) groups = group_of(&p->v[i]) + 2;
  value *v = mg_alloc(p->c, p->cap * sizeof *v);
  int32_t *at = v ? mg_alloc(p->c, (groups + p->nv) * sizeof *at) : NULL;
  if (!at) return mg_free(v), false;
  int32_t *to = at + groups;
  memset(at, 0, groups * sizeof *at);
  for (int i = 0; i < p->nv; i++) at[group_of(&p->v[i]) + 1]++;
  for (int g = 1; g < groups; g++) at[g] += at[g - 1];
  for (int i = 0; i < p->nv; i++) {
    to[i] = at[group_of(&p->v[i])]++;
    v[to[i]] = p->v[i];
  }
  for (int i = 0; i < p->nv; i++) {
    v[i].last = i;
    v[i].a->val = i;
    for (int j = 0; j < 3; j++)
      if (v[i].in[j] >= 0) v[v[i].in[j] = to[v[i].in[j]]].last = i;
  }
  for (int i = 0; i < p->nr; i++) p->r[i].v = to[p->r[i].v];
  mg_free(p->v);
  mg_free(at);
  p->v = v;
  p->nu = 0;
  for (int i = 0; i < p->nv; i++) {
    bool more = i > 0 && together(&v[i - 1], &v[i]);
    if (v[i].unit) v[i].unit = more ? p->nu : ++p->nu;
  }
  return true;
}

/* ---- the steps of a unit ------------------------------------------------------------------------- */

typedef struct {
  prog *p;
  unit *u;
  step s[STEPS];
  int n, npool;
} text;

static int add_step(text *t, int op, int a, int b, int d) {
  step *s = &t->s[t->n];
  s->op = op;
  s->in[0] = a, s->in[1] = b, s->in[2] = d;
  s->from = s->to = -1;
  return t->n++;
}

static void add_number(text *t, dtype lanes, double k) {
  char *to = t->p->pool + (t->u->pool + t->npool++) * POOL_LINE;
  double d[POOL_LINE / sizeof(double)];
  float f[POOL_LINE / sizeof(float)];
  for (int i = 0; i < POOL_LINE / (int)sizeof k; i++) d[i] = k, f[2 * i] = f[2 * i + 1] = (float)k;
  if (lanes == F64) memcpy(to, d, sizeof d);
  else memcpy(to, f, sizeof f);
}

/* The step that is value x, for unit u's step v */
static int source(text *t, const value *v, int x) {
  value *w = &t->p->v[x];
  if (together(v, w) || w->step >= 0) return w->step;
  bool number = v->a->op == OP_broadcast_to || w->number;
  if (w->a->state == CONST) {
    w->step = add_step(t, STEP_POOL, -1, -1, -1);
    t->s[w->step].from = t->npool;
    add_number(t, v->lanes, w->a->k.f);
  } else {
    w->step = add_step(t, number ? STEP_NUMBER : STEP_LOAD, -1, -1, -1);
    t->s[w->step].from = x;
    if (t->p->row && w->a->state == READY && !w->strided && !number)
      t->s[w->step].ahead = (int32_t)(t->p->tile * w->esz);
    if (number) {
      t->u->runs = true;
      if (w->last < t->u->last) w->last = t->u->last; /* every run reads it */
    }
  }
  return w->step;
}

static int power_steps(text *t, int x, int n) {
  int r = -1;
  for (unsigned e = n < 0 ? -n : n; e; e >>= 1) {
    if (e & 1) r = r < 0 ? x : add_step(t, OP_mul, r, x, -1);
    if (e > 1) x = add_step(t, OP_square, x, -1, -1);
  }
  if (n < 0) return add_step(t, OP_reciprocal, r, -1, -1);
  return n == 1 ? add_step(t, OP_broadcast_to, r, -1, -1) : r;
}

static void add_fold(text *t, int x, int32_t *at) {
  t->u->runs = true;
  *at = t->p->nv + t->p->nfold++;
  t->s[add_step(t, STEP_FOLD, x, -1, -1)].to = *at;
}

/* The sums of value i, whose step is x */
static void add_folds(text *t, int i, int x) {
  prog *p = t->p;
  for (int k = i + 1; k < p->nv; k++)
    if (p->v[k].in[0] == i && folds_step(p, &p->v[k])) add_fold(t, x, &p->v[k].fold);
  for (int k = 0; k < p->nr; k++)
    if (p->r[k].v == i && ends_in_step(p, &p->r[k])) add_fold(t, x, &p->r[k].fold);
}

static bool write_unit(prog *p, unit *u) {
  text t = {.p = p, .u = u, .npool = POOL_BEGIN};
  dtype lanes = p->v[u->first].lanes;
  memset(t.s, 0, sizeof t.s);
  for (int i = 0; i < p->nv; i++) p->v[i].step = -1;
  code_pool(p->pool + u->pool * POOL_LINE, lanes);
  for (int i = u->first; i <= u->last; i++) {
    value *v = &p->v[i];
    int in[3] = {-1, -1, -1}, power = power_of(p, v);
    for (int j = 0; j < (power ? 1 : v->a->nin); j++) in[j] = source(&t, v, v->in[j]);
    v->step = power ? power_steps(&t, in[0], power) : add_step(&t, v->a->op, in[0], in[1], in[2]);
    if (!v->inside) t.s[v->step].to = i;
    if (p->row && v->root >= 0) t.s[v->step].ahead = (int32_t)(p->tile * v->esz);
    add_folds(&t, i, v->step);
  }
  return (u->f = code_of(p->c, lanes, t.s, t.n));
}

/* Leaves that are the same along each run: a column beside a matrix */
static void find_numbers(prog *p) {
  if (p->align < LONG) return;
  for (int i = 0; i < p->nv; i++) {
    value *v = &p->v[i];
    const space *q = &v->q;
    v->number = v->strided && !v->called && v->root < 0 && q->n && q->st[q->n - 1] == 0 &&
                q->d[q->n - 1] % p->align == 0;
  }
}

bool plan_units(prog *p) {
  if (p->size < WORTH || !code_open(p->c)) return p->c->err == OK;
  if (!find_units(p) || !sort_values(p)) return false;
  if (!p->nu) return true;
  int numbers = p->nu * POOL_BEGIN;
  for (int i = 0; i < p->nv; i++) numbers += p->v[i].unit ? p->v[i].a->nin : 0;
  p->u = mg_alloc(p->c, p->nu * sizeof *p->u + (numbers + 1) * POOL_LINE);
  if (!p->u) return false;
  memset(p->u, 0, p->nu * sizeof *p->u);
  uintptr_t end = (uintptr_t)(p->u + p->nu);
  p->pool = (char *)((end + POOL_LINE - 1) / POOL_LINE * POOL_LINE);
  for (int i = p->nv - 1; i >= 0; i--) {
    if (!p->v[i].unit) continue;
    unit *u = &p->u[p->v[i].unit - 1];
    u->first = i;
    if (!u->last) u->last = i;
  }
  find_numbers(p);
  bool ok = true;
  int at = 0;
  for (int i = 0; i < p->nu && ok; i++) {
    unit *u = &p->u[i];
    u->pool = at;
    at += POOL_BEGIN;
    for (int j = u->first; j <= u->last; j++) at += p->v[j].a->nin;
    ok = write_unit(p, u);
  }
  if (ok || p->c->err != OK) return ok;
  for (int i = 0; i < p->nv; i++) { /* too much for the room there is: all are calls */
    value *v = &p->v[i];
    v->unit = 0;
    v->number = v->inside = false;
    v->called = true;
    v->fold = -1;
  }
  for (int i = 0; i < p->nr; i++) p->r[i].fold = -1;
  p->nfold = 0;
  return true;
}
