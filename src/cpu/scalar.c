/* scalar.c -- programs of single numbers as scalars: instructions of one number each.
**
** Equal ones are made once, those that nobody reads are left out. What has a body of instructions (body.c) is
** these; other functions of floats are called, of one vector, as the kernels call them; what remains is left to
** kernels on one element. So the bits are the kernels'. A mask is 64 bits, all or none; where a byte is wanted
** it becomes one.
*/
#include "cpu/scalar.h"

#include <string.h>

enum { MOST = 1 << 17 }; /* scalars of one program */

/* One that is there already is not made again. */
static int32_t add(scalars *w, scalar s) {
  uint64_t a, b, h;
  memcpy(&a, &s, 8);
  memcpy(&b, &s.in[0], 8);
  h = (a * 0x9e3779b97f4a7c15u) ^ ((b + (uint32_t)s.in[2]) * 0xc2b2ae3d27d4eb4fu);
  for (int32_t k = (int32_t)(h >> 40) & (w->slots - 1);; k = (k + 1) & (w->slots - 1)) {
    int32_t i = w->table[k];
    if (i >= 0 && memcmp(&w->s[i], &s, sizeof s) == 0) return i;
    if (i >= 0) continue;
    w->s[w->n] = s;
    return w->table[k] = w->n++;
  }
}

static int32_t add_op(scalars *w, int op, int how, dtype t, int32_t a, int32_t b, int32_t d) {
  return add(w, (scalar){.op = op, .how = how, .dtype = t, .in = {a, b, d}});
}

static int32_t add_source(scalars *w, int op, dtype t, int x) {
  return add(w, (scalar){.op = op, .dtype = t, .x = x, .in = {-1, -1, -1}});
}

static int32_t add_constant(scalars *w, dtype t, struct constant c) {
  int i = 0;
  while (i < w->nconstant && !(w->constant[i].t == t && w->constant[i].c.kind == c.kind &&
                               memcmp(&w->constant[i].c.k, &c.k, sizeof c.k) == 0))
    i++;
  if (i == CONSTANTS) return w->failed = true, 0;
  if (i == w->nconstant) {
    w->constant[i].c = c;
    w->constant[i].t = t;
    w->nconstant++;
  }
  return add_source(w, N_CONSTANT, t, i);
}

static int32_t add_number(scalars *w, dtype t, double k) {
  return add_constant(w, t, (struct constant){C_NUMBER, k});
}

/* Value i as a number or a mask, and in memory */
static int32_t number_of(scalars *w, int i) {
  if (w->number[i] < 0) w->number[i] = add_op(w, N_MASK, 0, F64, w->byte[i], -1, -1);
  return w->number[i];
}
static int32_t memory_of(scalars *w, int i) {
  if (w->byte[i] < 0) w->byte[i] = add_op(w, N_BYTE, 0, BOOL, w->number[i], -1, -1);
  return w->byte[i];
}

/* As POWI does */
static int32_t add_power(scalars *w, dtype t, int32_t x, int n) {
  int32_t r = -1;
  for (unsigned e = n < 0 ? -n : n; e; e >>= 1) {
    if (e & 1) r = r < 0 ? x : add_op(w, I_MUL, 0, t, r, x, -1);
    if (e > 1) x = add_op(w, I_MUL, 0, t, x, x, -1);
  }
  return n < 0 ? add_op(w, I_DIV, 0, t, add_number(w, t, 1), r, -1) : r;
}

static int32_t add_body(scalars *w, dtype t, const body *b, const int32_t in[3]) {
  int32_t at[BODY_TEMP + BODY_LENGTH];
  for (int i = 0; i < 3; i++) at[i] = in[i];
  for (int i = 0; i < b->nconst; i++) at[BODY_CONST + i] = add_constant(w, t, b->c[i]);
  for (int i = 0; i < b->n; i++) {
    const instr *s = &b->s[i];
    int32_t x[3];
    for (int j = 0; j < 3; j++) x[j] = s->in[j] < 0 ? -1 : at[s->in[j]];
    at[BODY_TEMP + i] = s->op == I_COPY ? x[0] : add_op(w, s->op, s->how, t, x[0], x[1], x[2]);
  }
  return at[BODY_TEMP + b->n - 1];
}

static int32_t add_cast(scalars *w, dtype from, dtype to, int32_t x) {
  if (to == BOOL) {
    int32_t m = add_op(w, I_COMPARE, NE, from, x, add_number(w, from, 0), -1);
    return from == F32 ? add_op(w, N_EXTEND, 0, F64, m, -1, -1) : m;
  }
  if (from == BOOL) return add_op(w, I_AND, 0, to, x, add_number(w, to, 1), -1);
  return add_op(w, to == F32 ? N_NARROW : N_WIDEN, 0, to, x, -1, -1);
}

static void add_leaf(scalars *w, int i, const pvalue *v) {
  int32_t s = add_source(w,
                         v->leaf == LEAF_INPUT    ? N_INPUT
                         : v->leaf == LEAF_NUMBER ? N_NUMBER
                                                  : N_RANDOM,
                         v->leaf == LEAF_NUMBER && v->dtype == F32 ? F64 : v->dtype, v->in[0]);
  if (v->leaf == LEAF_NUMBER && v->dtype == F32) s = add_op(w, N_NARROW, 0, F32, s, -1, -1);
  w->byte[i] = s;
  w->number[i] = v->dtype == BOOL ? -1 : s;
}

static void add_value(scalars *w, int i) {
  const pvalue *all = program_values(w->p), *v = &all[i];
  if (v->leaf) {
    add_leaf(w, i, v);
    return;
  }
  const dtype t = all[v->in[v->op == OP_where]].dtype;
  const bool cast = v->op == OP_to && t != v->dtype, floats = is_float(t);
  const int rule = op_table[v->op].rule;
  const body *b = body_of(v->op);
  if (v->op == OP_reshape || v->op == OP_broadcast_to || (v->op == OP_to && !cast)) {
    w->number[i] = w->number[v->in[0]];
    w->byte[i] = w->byte[v->in[0]];
    return;
  }
  int32_t r = -1, in[3] = {-1, -1, -1};
  bool whole = cast && t != I64 && t != U8 && v->dtype != I64 && v->dtype != U8;
  bool logic = t == BOOL && b && (rule == LOGIC || rule == CHOOSE);
  bool called = floats && !b && !v->power && kern_numbers()->vector[v->op][t];
  bool inside = whole || logic || called || (floats && !cast && (b || v->power));
  for (int j = 0; j < 3 && v->in[j] >= 0; j++)
    in[j] = inside ? number_of(w, v->in[j]) : memory_of(w, v->in[j]);
  if (whole) r = add_cast(w, t, v->dtype, in[0]);
  else if (called)
    r = add(w, (scalar){.op = N_CALL, .dtype = t, .x = v->op, .in = {in[0], in[1], in[2]}});
  else if (v->power) r = add_power(w, t, in[0], v->power);
  else if (inside) {
    r = add_body(w, logic ? F64 : t, b, in);
    if (v->dtype == BOOL && t == F32) r = add_op(w, N_EXTEND, 0, F64, r, -1, -1);
  } else {
    w->failed |= !cpu_kernel(v->op, t, v->dtype);
    r = add(
        w,
        (scalar){
            .op = N_KERNEL, .dtype = v->dtype, .from = t, .x = v->op, .in = {in[0], in[1], in[2]}});
  }
  w->number[i] = inside || v->dtype != BOOL ? r : -1;
  w->byte[i] = inside && v->dtype == BOOL ? -1 : r;
}

static void add_outputs(scalars *w) {
  const poutput *o = program_outputs(w->p);
  for (int k = 0; k < w->p->noutput; k++) {
    int32_t s = memory_of(w, o[k].value);
    if (w->s[s].op == N_INPUT) s = add_op(w, N_KEEP, 0, w->s[s].dtype, s, -1, -1);
    w->result[k] = s;
    w->live[s] = true;
  }
  for (int32_t i = w->n - 1; i >= 0; i--)
    for (int j = 0; j < 3 && w->live[i]; j++)
      if (w->s[i].in[j] >= 0) w->live[w->s[i].in[j]] = true;
}

/* More scalars than the program will be */
static int32_t most_scalars(const program *p) {
  enum { CHAIN = 16 };
  const pvalue *v = program_values(p);
  int32_t most = p->noutput + 8;
  for (int i = 0; i < p->nvalue; i++) {
    const body *b = v[i].op ? body_of(v[i].op) : NULL;
    most += 4 + (v[i].power ? CHAIN : b ? b->n + b->nconst : 1);
  }
  return most;
}

bool scalar_plan(ctx *c, codes *k, schedule *s) {
  const program *p = &s->p;
  int32_t most = most_scalars(p), slots = 1024;
  if (most > MOST) return false;
  while (slots < 2 * most) slots *= 2;
  size_t ints = (size_t)slots + 2 * p->nvalue + p->noutput + most;
  scalars *w = mg_alloc(c, sizeof *w + ints * sizeof(int32_t) + most * (sizeof(scalar) + 2));
  if (!w) return false;
  memset(w, 0, sizeof *w);
  w->c = c, w->p = p, w->slots = slots;
  w->table = (int32_t *)(w + 1);
  w->number = w->table + slots, w->byte = w->number + p->nvalue;
  w->result = w->byte + p->nvalue, w->order = w->result + p->noutput;
  w->s = (scalar *)(w->order + most);
  w->live = (bool *)(w->s + most), w->together = (uint8_t *)(w->live + most);
  memset(w->table, -1, slots * sizeof *w->table);
  memset(w->live, 0, 2 * most);
  for (int i = 0; i < p->nvalue; i++) add_value(w, i);
  add_outputs(w);
  bool ok = !w->failed && scalars_order(w) && scalars_write(w, k, s);
  mg_free(w);
  return ok;
}
