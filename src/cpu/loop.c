/* loop.c -- which values of a program are computed together, in one loop of machine code.
**
** A loop is what is element-wise, of one dtype, and of one phase: no value of a loop waits for a call
** (a kernel, a fold) that waits for another of its values. What always holds here:
**   - the order of computation has the leaves first, then phase by phase the loops and the calls
**   - masks are never stored: who makes one and who reads it are of the same loop
**   - a loop that reads a number for all of a row, or adds up rows, is called for each row by itself
*/
#include <string.h>

#include "cpu/schedule.h"

enum {
  LONG = 64,  /* elements of a row that is worth a call */
  POWER = 64, /* the highest power that is multiplied out */
  CHAIN = 15  /* instructions that takes */
};

enum { F32_LOOP, F64_LOOP, CALLS, GROUPS }; /* of a phase, in their order */

static bool in_loop(const planner *p, int i) { return p->note[i].loop; }
static bool together(const planner *p, int i, int k) {
  const note *a = &p->note[i], *b = &p->note[k];
  return a->loop && b->loop && a->phase == b->phase && a->width == b->width;
}

static bool is_op(const pvalue *v) { return v->op != OP_NONE; }
static bool is_computed(const pvalue *v) { return is_op(v) || v->leaf == LEAF_RANDOM; }

/* Can value i be in a loop? Its operands have been asked before. */
static bool can_be_in_loop(planner *p, int i) {
  const pvalue *v = &p->v[i];
  if (!is_op(v) || v->per_row || v->in[0] < 0) return false;
  if (v->op == OP_broadcast_to && p->p->row < LONG) return false;
  uint8_t t = NDTYPE;
  for (int j = 2; j >= 0; j--) {
    if (v->in[j] < 0 || (v->power && j)) continue;
    const pvalue *x = &p->v[v->in[j]];
    bool mask = x->dtype == BOOL;
    uint8_t w = mask && in_loop(p, v->in[j]) ? p->note[v->in[j]].width : x->dtype;
    if (!is_float(w) || (t != NDTYPE && w != t)) return false;
    t = w;
  }
  if (v->dtype != BOOL && v->dtype != t) return false;
  p->note[i].width = t;
  return v->power || body_of(v->op);
}

/* How many instructions value i takes, with those that fetch its operands */
static int length_of(const planner *p, int i) {
  const pvalue *v = &p->v[i];
  if (v->power) return CHAIN + p->note[i].sums;
  const body *b = body_of(v->op);
  return b->n + b->nconst + 3 + p->note[i].sums;
}

static bool is_sum(int op) { return op == OP_sum || op == OP_mean; }
static bool of_numbers(const planner *p, int i) {
  return in_loop(p, i) && p->v[i].dtype == p->note[i].width;
}

/* Is value i a sum of rows of what a loop makes? It is made there, which need not be stored for it. */
static bool sums_in_loop(const planner *p, int i) {
  return is_sum(p->v[i].op) && p->p->row >= LONG && of_numbers(p, p->v[i].in[0]);
}

static bool ends_in_loop(const planner *p, int k) {
  const poutput *o = &p->o[k];
  const cut *c = &p->s->cut;
  return is_sum(o->op) && c->inner == 1 && c->n >= LONG && of_numbers(p, o->value);
}

/* What is in a loop follows the calls it reads; a call follows the loops, in the same phase. */
static void find_phases(planner *p, int16_t (*count)[2]) {
  memset(count, 0, (p->p->nvalue + 2) * sizeof *count);
  for (int i = 0; i < p->p->nvalue; i++) {
    const pvalue *v = &p->v[i];
    note *n = &p->note[i];
    n->loop = !n->barred && can_be_in_loop(p, i) && length_of(p, i) <= INSTRS;
    n->phase = 0;
    for (int j = 0; is_op(v) && j < 3; j++) {
      int x = v->in[j];
      if (x < 0) continue;
      bool later =
          n->loop && is_computed(&p->v[x]) && !(in_loop(p, x) && p->note[x].width == n->width);
      if (p->note[x].phase + later > n->phase) n->phase = p->note[x].phase + later;
    }
    if (!n->loop) continue;
    int needs = length_of(p, i);
    while (count[n->phase][n->width] + needs > INSTRS) n->phase++;
    count[n->phase][n->width] += needs;
  }
}

static bool is_of_leaves(const planner *p, int i) {
  for (int j = 0; j < 3; j++)
    if (p->v[i].in[j] >= 0 && is_computed(&p->v[p->v[i].in[j]])) return false;
  return true;
}

/* What is made of leaves and read by later loops alone is made in the first of them: no tile is written and
** read for it. */
static void put_off(planner *p, int16_t (*count)[2]) {
  for (int i = 0; i < p->p->nvalue; i++) p->note[i].wanted = INT16_MAX;
  for (int k = 0; k < p->p->noutput; k++) p->note[p->o[k].value].wanted = 0;
  for (int i = p->p->nvalue - 1; i >= 0; i--) {
    note *n = &p->note[i];
    if (n->loop && n->wanted > n->phase && n->wanted < INT16_MAX && is_of_leaves(p, i)) {
      int needs = length_of(p, i);
      if (count[n->wanted][n->width] + needs <= INSTRS) {
        count[n->phase][n->width] -= needs;
        count[n->wanted][n->width] += needs;
        n->phase = n->wanted;
      }
    }
    for (int j = 0; is_op(&p->v[i]) && j < 3; j++) {
      int x = p->v[i].in[j];
      if (x < 0) continue;
      int16_t when = n->loop && p->note[x].width == n->width ? n->phase : 0;
      if (when < p->note[x].wanted) p->note[x].wanted = when;
    }
  }
}

/* Who reads each value: calls, or the instructions of its loop alone */
static void find_readers(planner *p) {
  for (int i = 0; i < p->p->nvalue; i++) {
    p->note[i].called = false;
    p->note[i].in_register = in_loop(p, i) && p->note[i].output < 0;
  }
  for (int i = 0; i < p->p->nvalue; i++) {
    if (!is_op(&p->v[i]) || sums_in_loop(p, i)) continue;
    for (int j = 0; j < 3; j++) {
      int x = p->v[i].in[j];
      if (x < 0) continue;
      p->note[x].called |= !in_loop(p, i);
      p->note[x].in_register &= together(p, x, i);
    }
  }
  for (int k = 0; k < p->p->noutput; k++) {
    note *n = &p->note[p->o[k].value];
    if (!p->o[k].op || ends_in_loop(p, k)) continue;
    n->called = true;
    n->in_register = false;
  }
}

/* Masks that are read elsewhere are not in loops after all. Were there any? */
static bool bar_masks(planner *p) {
  bool any = false;
  for (int i = 0; i < p->p->nvalue; i++) {
    note *n = &p->note[i];
    if (n->loop && p->v[i].dtype == BOOL && !n->in_register) n->barred = any = true;
  }
  return any;
}

static int group_of(const planner *p, int i) {
  const note *n = &p->note[i];
  if (!is_computed(&p->v[i])) return 0;
  return 1 + n->phase * GROUPS + (!n->loop ? CALLS : n->width == F32 ? F32_LOOP : F64_LOOP);
}

/* The order: by group, and in each as they are; loops are numbered */
static bool sort_values(planner *p) {
  int nv = p->p->nvalue, groups = 2;
  for (int i = 0; i < nv; i++)
    if (group_of(p, i) + 2 > groups) groups = group_of(p, i) + 2;
  int32_t *at = mg_alloc(p->c, groups * sizeof *at);
  if (!at) return false;
  memset(at, 0, groups * sizeof *at);
  for (int i = 0; i < nv; i++) at[group_of(p, i) + 1]++;
  for (int g = 1; g < groups; g++) at[g] += at[g - 1];
  for (int i = 0; i < nv; i++) p->order[at[group_of(p, i)]++] = i;
  mg_free(at);
  int loops = 0;
  for (int k = 0; k < nv; k++) {
    int i = p->order[k];
    bool more = k > 0 && together(p, p->order[k - 1], i);
    if (in_loop(p, i)) p->note[i].loop = more ? loops : ++loops;
  }
  p->s->nloop = loops;
  return true;
}

/* Leaves that are the same along each row: a column beside a matrix */
static void find_numbers(planner *p) {
  int64_t align = p->s->cut.align;
  if (align < LONG) return;
  for (int i = 0; i < p->p->nvalue; i++) {
    note *n = &p->note[i];
    if (p->v[i].leaf != LEAF_INPUT || p->v[i].space < 0 || n->called || n->output >= 0) continue;
    const space *q = &p->q[p->v[i].space];
    n->per_segment = q->n && q->st[q->n - 1] == 0 && q->d[q->n - 1] % align == 0;
  }
}

bool loops_find(planner *p) {
  int16_t(*count)[2] = mg_alloc(p->c, (p->p->nvalue + 2) * sizeof *count);
  if (!count) return false;
  for (int i = 0; i < p->p->nvalue; i++)
    if (is_sum(p->v[i].op)) p->note[p->v[i].in[0]].sums++;
  for (int k = 0; k < p->p->noutput; k++)
    if (is_sum(p->o[k].op)) p->note[p->o[k].value].sums++;
  do {
    find_phases(p, count);
    put_off(p, count);
    find_readers(p);
  } while (bar_masks(p));
  mg_free(count);
  if (!sort_values(p)) return false;
  if (p->s->nloop) find_numbers(p);
  return true;
}

/* ---- the instructions of a loop --------------------------------------------------------------------- */

typedef struct {
  planner *p;
  loop *l;
  dtype t;
  instr s[INSTRS];
  int n;
  struct {
    struct constant c;
    int16_t instr;
  } known[INSTRS];
  int nknown;
} text;

static int add(text *t, int op, int how, int a, int b, int d) {
  t->s[t->n] = (instr){.op = op, .how = how, .in = {a, b, d}, .from = -1, .to = -1};
  return t->n++;
}

static int add_pool(text *t) { /* the next line */
  int s = add(t, I_POOL, 0, -1, -1, -1);
  t->s[s].from = t->p->npool - t->l->pool - 2;
  t->p->npool++;
  return s;
}

static int add_constant(text *t, struct constant c) {
  for (int i = 0; i < t->nknown; i++)
    if (t->known[i].c.kind == c.kind && memcmp(&t->known[i].c.k, &c.k, sizeof c.k) == 0)
      return t->known[i].instr;
  pool_line(t->p->s->pool + t->p->npool * POOL_LINE, t->t, c);
  t->known[t->nknown].c = c;
  return t->known[t->nknown++].instr = add_pool(t);
}

/* The instruction that is value x, for value i of this loop */
static int source(text *t, int i, int x) {
  planner *p = t->p;
  note *n = &p->note[x];
  const pvalue *v = &p->v[x];
  if (together(p, i, x) || n->instr >= 0) return n->instr;
  bool number = p->v[i].op == OP_broadcast_to || n->per_segment;
  if (v->leaf == LEAF_NUMBER) {
    p->s->number[p->s->nnumber++] = (pool_number){p->npool, v->in[0], t->t};
    return n->instr = add_pool(t);
  }
  n->instr = add(t, number ? I_SPREAD : I_LOAD, 0, -1, -1, -1);
  t->s[n->instr].from = x;
  if (p->p->row && v->leaf == LEAF_INPUT && v->space < 0 && !number)
    t->s[n->instr].ahead = (int32_t)(p->s->cut.tile * dtype_size[v->dtype]);
  if (number) t->l->segments = true;
  return n->instr;
}

static int write_power(text *t, int x, int n) {
  int r = -1;
  for (unsigned e = n < 0 ? -n : n; e; e >>= 1) {
    if (e & 1) r = r < 0 ? x : add(t, I_MUL, 0, r, x, -1);
    if (e > 1) x = add(t, I_MUL, 0, x, x, -1);
  }
  if (n < 0) return add(t, I_DIV, 0, add_constant(t, (struct constant){C_NUMBER, 1}), r, -1);
  return n == 1 ? add(t, I_COPY, 0, r, -1, -1) : r;
}

/* In a body's numbering: operands, constants, what was made */
static int write_body(text *t, const body *b, const int in[3]) {
  int at[BODY_TEMP + BODY_LENGTH];
  for (int i = 0; i < 3; i++) at[i] = in[i];
  for (int i = 0; i < b->nconst; i++) at[BODY_CONST + i] = add_constant(t, b->c[i]);
  for (int i = 0; i < b->n; i++) {
    const instr *s = &b->s[i];
    int x[3];
    for (int j = 0; j < 3; j++) x[j] = s->in[j] < 0 ? -1 : at[s->in[j]];
    at[BODY_TEMP + i] = add(t, s->op, s->how, x[0], x[1], x[2]);
  }
  return at[BODY_TEMP + b->n - 1];
}

static int16_t add_sum(text *t, int x) {
  schedule *s = t->p->s;
  int16_t entry = (int16_t)(s->nvalue + s->nblocks++);
  t->l->segments = true;
  t->s[add(t, I_SUM, 0, x, -1, -1)].to = entry;
  return entry;
}

/* The sums of value i, whose instruction is x */
static void add_sums(text *t, int i, int x) {
  planner *p = t->p;
  if (!p->note[i].sums) return;
  for (int k = i + 1; k < p->p->nvalue; k++)
    if (is_op(&p->v[k]) && p->v[k].in[0] == i && sums_in_loop(p, k))
      p->note[k].blocks = add_sum(t, x);
  for (int k = 0; k < p->p->noutput; k++)
    if (p->o[k].value == i && ends_in_loop(p, k)) p->output_blocks[k] = add_sum(t, x);
}

static void write_value(text *t, int i) {
  planner *p = t->p;
  const pvalue *v = &p->v[i];
  note *n = &p->note[i];
  int in[3] = {-1, -1, -1};
  for (int j = 0; j < (v->power ? 1 : 3) && v->in[j] >= 0; j++) in[j] = source(t, i, v->in[j]);
  n->instr = v->power ? write_power(t, in[0], v->power) : write_body(t, body_of(v->op), in);
  if (!n->in_register) {
    t->s[n->instr].to = (int16_t)i;
    if (p->p->row && n->output >= 0)
      t->s[n->instr].ahead = (int32_t)(p->s->cut.tile * dtype_size[v->dtype]);
  }
  add_sums(t, i, n->instr);
}

bool loops_write(planner *p) {
  schedule *s = p->s;
  text t;
  int nv = p->p->nvalue;
  for (int k = 0; k < nv;) {
    int i = p->order[k], id = p->note[i].loop;
    if (!id) {
      k++;
      continue;
    }
    t.p = p, t.l = &s->loop[id - 1], t.t = p->note[i].width, t.n = t.nknown = 0;
    *t.l = (loop){.pool = p->npool, .esz = dtype_size[t.t]};
    pool_line(s->pool + p->npool * POOL_LINE, t.t, (struct constant){C_ONES, 0});
    pool_line(s->pool + (p->npool + 1) * POOL_LINE, t.t, (struct constant){C_NUMBER, 0});
    p->npool += 2;
    for (int j = 0; j < nv; j++) p->note[j].instr = -1;
    for (; k < nv && p->note[p->order[k]].loop == id; k++) write_value(&t, p->order[k]);
    if (!(t.l->f = codes_find(p->c, p->codes, t.t, t.s, t.n))) return false;
  }
  return true;
}

int loops_most_pool(const planner *p) {
  int lines = 2 * p->s->nloop;
  for (int i = 0; i < p->p->nvalue; i++)
    if (in_loop(p, i)) lines += length_of(p, i);
  return lines;
}
