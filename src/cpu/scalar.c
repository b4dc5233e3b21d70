/* scalar.c -- machine code for programs of single numbers: straight on, values in registers.
**
** A program becomes scalars: instructions of one number each, equal ones once, those nobody reads left out.
** What has a body of instructions (body.c) is these; other functions of floats are called, of one vector, as
** the kernels call them, independent ones of the same op together in its lanes; what remains is left to
** kernels on one element. So the bits are the kernels'. What always holds:
**   - a scalar is in a register, or has a place in memory, or both: a source is where it is, the others get a
**     slot of the block when their register is wanted
**   - calls change all registers: what is read later has a place by then
**   - masks are 64 bits, all or none; where bytes are wanted they become one, in a slot
**   - outputs are stored when all is computed: each may be where an input is
*/
#include "cpu/emit.h"
#include "cpu/schedule.h"

/* What makes a scalar, beside the arithmetic of code.h. The first are sources. */
enum {
  N_INPUT = I_BLEND + 1, /* what binding x points to */
  N_NUMBER,              /* what stands in binding x */
  N_CONSTANT,            /* line x of the pool */
  N_RANDOM,              /* in its slot before the code runs */
  N_KEEP,                /* a copy of an input */
  N_NARROW,
  N_WIDEN,  /* float64 to float32 and back */
  N_EXTEND, /* a mask of 32 bits to 64 */
  N_BYTE,
  N_MASK, /* a mask to 0 or 1, a byte to a mask */
  N_CALL,
  N_KERNEL /* op x of the table on vectors of dtype `from`, on memory */
};

typedef struct {
  uint8_t op, how, dtype, from; /* how: as in instr */
  int32_t x, in[3];
} scalar;
_Static_assert(sizeof(scalar) == 20, "scalars are compared by their bytes");
_Static_assert(sizeof(binding) == 16 && offsetof(binding, k) == 8, "bindings are read by code");

enum { CONSTANTS = 256, NOBODY = INT32_MAX };
enum { MOST = 1 << 17 }; /* scalars of one program */

/* The function's registers. BLOCK, LEAF, OUT and POOL point BIAS bytes behind the beginning: more is in reach
** of short instructions. */
enum { BLOCK = RBX, LEAF = R12, OUT = R13, POOL = R14, ANY = RAX, TO = RCX, BIAS = 128 };
enum { REGISTERS = 16 };
enum { ONES = 64 }; /* bytes the pool begins with: a vector of 1 for each dtype */

typedef struct {
  emitter out;
  ctx *c;
  const program *p;
  scalar *s;
  int32_t n, *table, slots; /* table: of scalars by hash, as many slots */
  int32_t *number, *byte;   /* of each value: what it is as a number or mask, in memory; -1 */
  int32_t *result;          /* of each output */
  struct {
    struct constant c;
    dtype t;
  } constant[CONSTANTS];
  int nconstant;
  bool failed; /* too much, or an op that cannot be done here */
  /* the order */
  int32_t *order, norder;
  uint8_t *together; /* at a position: so many calls are one, of that and those after it */
  /* by scalar */
  bool *live;
  int32_t *next; /* position of who reads it next; norder: it is stored; NOBODY */
  int32_t *link; /* by position, three: who reads the operand after it */
  int32_t *slot; /* where in the block, -1 */
  int8_t *reg;
  int32_t in[REGISTERS]; /* what each register holds, -1 */
  uint16_t pinned;
  int32_t now, frame;
  int32_t *free_slot, nfree;
} writer;

/* ---- the program as scalars ------------------------------------------------------------------------- */

static bool is_source(const scalar *s) { return s->op >= N_INPUT && s->op <= N_CONSTANT; }

/* One that is there already is not made again. */
static int32_t add(writer *w, scalar s) {
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

static int32_t add_op(writer *w, int op, int how, dtype t, int32_t a, int32_t b, int32_t d) {
  return add(w, (scalar){.op = op, .how = how, .dtype = t, .in = {a, b, d}});
}

static int32_t add_source(writer *w, int op, dtype t, int x) {
  return add(w, (scalar){.op = op, .dtype = t, .x = x, .in = {-1, -1, -1}});
}

static int32_t add_constant(writer *w, dtype t, struct constant c) {
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

static int32_t add_number(writer *w, dtype t, double k) {
  return add_constant(w, t, (struct constant){C_NUMBER, k});
}

/* Value i as a number or a mask, and in memory */
static int32_t number_of(writer *w, int i) {
  if (w->number[i] < 0) w->number[i] = add_op(w, N_MASK, 0, F64, w->byte[i], -1, -1);
  return w->number[i];
}
static int32_t memory_of(writer *w, int i) {
  if (w->byte[i] < 0) w->byte[i] = add_op(w, N_BYTE, 0, BOOL, w->number[i], -1, -1);
  return w->byte[i];
}

/* As POWI does */
static int32_t add_power(writer *w, dtype t, int32_t x, int n) {
  int32_t r = -1;
  for (unsigned e = n < 0 ? -n : n; e; e >>= 1) {
    if (e & 1) r = r < 0 ? x : add_op(w, I_MUL, 0, t, r, x, -1);
    if (e > 1) x = add_op(w, I_MUL, 0, t, x, x, -1);
  }
  return n < 0 ? add_op(w, I_DIV, 0, t, add_number(w, t, 1), r, -1) : r;
}

static int32_t add_body(writer *w, dtype t, const body *b, const int32_t in[3]) {
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

static int32_t add_cast(writer *w, dtype from, dtype to, int32_t x) {
  if (to == BOOL) {
    int32_t m = add_op(w, I_COMPARE, NE, from, x, add_number(w, from, 0), -1);
    return from == F32 ? add_op(w, N_EXTEND, 0, F64, m, -1, -1) : m;
  }
  if (from == BOOL) return add_op(w, I_AND, 0, to, x, add_number(w, to, 1), -1);
  return add_op(w, to == F32 ? N_NARROW : N_WIDEN, 0, to, x, -1, -1);
}

static void add_leaf(writer *w, int i, const pvalue *v) {
  int32_t s = add_source(w,
                         v->leaf == LEAF_INPUT    ? N_INPUT
                         : v->leaf == LEAF_NUMBER ? N_NUMBER
                                                  : N_RANDOM,
                         v->leaf == LEAF_NUMBER && v->dtype == F32 ? F64 : v->dtype, v->in[0]);
  if (v->leaf == LEAF_NUMBER && v->dtype == F32) s = add_op(w, N_NARROW, 0, F32, s, -1, -1);
  w->byte[i] = s;
  w->number[i] = v->dtype == BOOL ? -1 : s;
}

static void add_value(writer *w, int i) {
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
  bool called = floats && !b && !v->power && kern_get()->vector[v->op][t];
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

static void add_outputs(writer *w) {
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

/* ---- the order ------------------------------------------------------------------------------------------ */

/* Calls are put in order first, as many together as there are lanes where so many can be made, else those first
** that most has to wait for; what is no call is computed when one needs it. */

typedef struct {
  int32_t *waits;  /* by scalar: operands that are not there yet */
  int32_t *height; /* ... how long what follows it takes */
  int32_t *user;   /* who reads scalar i: user[begin[i]] ... user[begin[i + 1] - 1] */
  int32_t *begin;
  int32_t *group; /* calls: in which; others: before which they are wanted */
  int32_t *ready, nready, *stack;
  int32_t *call, ncall, ngroup;
  int16_t waiting[NOP][2]; /* calls that are ready, by op and dtype */
} orderer;

static int lanes_of(const scalar *s) { return s->x == OP__polygamma ? 1 : s->dtype == F64 ? 4 : 8; }

static int cost_of(const scalar *s) {
  return s->op == N_CALL || s->op == N_KERNEL ? 80 : s->op == I_DIV || s->op == I_SQRT ? 14 : 4;
}

static bool is_computed(const writer *w, int32_t i) {
  return i >= 0 && w->live[i] && !is_source(&w->s[i]);
}

static void find_users(const writer *w, orderer *o) {
  for (int32_t i = w->n - 1; i >= 0; i--) {
    if (!is_computed(w, i)) continue;
    o->height[i] += cost_of(&w->s[i]);
    for (int j = 0; j < 3; j++) {
      int32_t x = w->s[i].in[j];
      if (!is_computed(w, x)) continue;
      if (o->height[x] < o->height[i]) o->height[x] = o->height[i];
      o->waits[i]++;
      o->begin[x + 1]++;
    }
  }
  for (int32_t i = 0; i <= w->n; i++) o->begin[i + 1] += o->begin[i];
  for (int32_t i = w->n - 1; i >= 0; i--)
    for (int j = 0; j < 3 && is_computed(w, i); j++)
      if (is_computed(w, w->s[i].in[j])) o->user[--o->begin[w->s[i].in[j] + 1]] = i;
  /* now begin[i + 1] is where i's users begin: those of i end where those of i + 1 do so */
}

static void now_there(const writer *w, orderer *o, int32_t i) {
  int32_t n = 0;
  o->stack[n++] = i;
  while (n) {
    i = o->stack[--n];
    for (int32_t k = o->begin[i + 1]; k < o->begin[i + 2]; k++) {
      int32_t u = o->user[k];
      if (--o->waits[u]) continue;
      if (w->s[u].op == N_CALL) {
        o->ready[o->nready++] = u;
        o->waiting[w->s[u].x][w->s[u].dtype]++;
      } else o->stack[n++] = u;
    }
  }
}

/* Of those that are ready: one of as many as fill a vector, or the highest */
static int32_t best_call(const writer *w, const orderer *o) {
  int32_t best = -1;
  for (int32_t k = o->nready - 1; k >= 0; k--) {
    int32_t i = o->ready[k];
    const scalar *s = &w->s[i];
    if (o->waiting[s->x][s->dtype] >= lanes_of(s) && lanes_of(s) > 1) return i;
    if (best < 0 || o->height[i] > o->height[best]) best = i;
  }
  return best;
}

static void take_group(writer *w, orderer *o) {
  const scalar *b = &w->s[best_call(w, o)];
  int32_t taken[8], n = 0;
  while (n < lanes_of(b)) {
    int32_t at = -1;
    for (int32_t k = o->nready - 1; k >= 0; k--) {
      int32_t i = o->ready[k];
      if (w->s[i].x != b->x || w->s[i].dtype != b->dtype) continue;
      if (at < 0 || o->height[i] > o->height[o->ready[at]]) at = k;
    }
    if (at < 0) break;
    taken[n++] = o->ready[at];
    o->ready[at] = o->ready[--o->nready];
    o->waiting[b->x][b->dtype]--;
  }
  for (int32_t k = 0; k < n; k++) {
    o->group[taken[k]] = o->ngroup;
    o->call[o->ncall++] = taken[k];
  }
  for (int32_t k = 0; k < n; k++) now_there(w, o, taken[k]);
  o->ngroup++;
}

static void group_calls(writer *w, orderer *o) {
  for (int32_t i = 0; i < w->n; i++) {
    if (!is_computed(w, i) || o->waits[i]) continue;
    o->waits[i] = -1; /* from here on: it waits for nothing */
  }
  for (int32_t i = 0; i < w->n; i++) {
    if (o->waits[i] != -1) continue;
    if (w->s[i].op == N_CALL) {
      o->ready[o->nready++] = i;
      o->waiting[w->s[i].x][w->s[i].dtype]++;
    } else now_there(w, o, i);
  }
  while (o->nready) take_group(w, o);
}

static void put_in_order(writer *w, orderer *o) {
  int32_t *at = o->stack; /* by group: where it goes on */
  for (int32_t i = 0; i < w->n; i++)
    if (w->s[i].op != N_CALL) o->group[i] = o->ngroup;
  for (int32_t i = w->n - 1; i >= 0; i--)
    for (int j = 0; j < 3 && is_computed(w, i); j++) {
      int32_t x = w->s[i].in[j];
      if (x >= 0 && w->s[x].op != N_CALL && o->group[x] > o->group[i]) o->group[x] = o->group[i];
    }
  memset(at, 0, (o->ngroup + 2) * sizeof *at);
  for (int32_t i = 0; i < w->n; i++)
    if (is_computed(w, i)) at[o->group[i] + 1]++;
  for (int32_t g = 0; g <= o->ngroup; g++) at[g + 1] += at[g];
  w->norder = at[o->ngroup + 1];
  for (int32_t i = 0; i < w->n; i++)
    if (is_computed(w, i) && w->s[i].op != N_CALL) w->order[at[o->group[i]]++] = i;
  for (int32_t k = 0, first = 0; k < o->ncall; k++) {
    int32_t i = o->call[k], g = o->group[i];
    if (k == 0 || o->group[o->call[k - 1]] != g) first = at[g];
    w->order[at[g]++] = i;
    w->together[first] = at[g] - first;
  }
}

static bool find_order(writer *w) {
  size_t n = w->n + 2, bytes = sizeof(orderer) + (5 * n + 3 * n + 3 * n) * sizeof(int32_t);
  orderer *o = mg_alloc(w->c, bytes);
  if (!o) return false;
  memset(o, 0, bytes);
  int32_t *at = (int32_t *)(o + 1);
  o->waits = at, o->height = at + n, o->begin = at + 2 * n, o->group = at + 3 * n + 1;
  o->ready = at + 4 * n + 1, o->stack = at + 5 * n + 1, o->call = at + 7 * n;
  o->user = at + 8 * n;
  find_users(w, o);
  group_calls(w, o);
  put_in_order(w, o);
  mg_free(o);
  return true;
}

/* ---- places ---------------------------------------------------------------------------------------------- */

static place in_block(int32_t at) { return at_base(BLOCK, at - BIAS); }

static bool has_place(const writer *w, int32_t s) { return is_source(&w->s[s]) || w->slot[s] >= 0; }

static place place_of(writer *w, int32_t s) {
  const scalar *a = &w->s[s];
  if (w->slot[s] >= 0) return in_block(w->slot[s]);
  if (a->op == N_CONSTANT) return at_base(POOL, ONES + 16 * a->x - BIAS);
  if (a->op == N_NUMBER) return at_base(LEAF, 16 * a->x + 8 - BIAS);
  load(&w->out, ANY, at_base(LEAF, 16 * a->x - BIAS));
  return at_base(ANY, 0);
}

static int32_t take_slot(writer *w) {
  if (w->nfree) return w->free_slot[--w->nfree];
  w->frame += 8;
  return w->frame - 8;
}

/* ---- vector instructions on one number ------------------------------------------------------------------- */

static void fetch(writer *w, dtype t, int r, place m) {
  avx(&w->out, OF_16, MAP_0F, t == F32 ? SS : SD, V_LOAD, r, 0, m);
}
static void put(writer *w, dtype t, int r, place m) {
  avx(&w->out, OF_16, MAP_0F, t == F32 ? SS : SD, V_STORE, r, 0, m);
}

/* A float or a mask lies in so many bytes of a register. */
static dtype kind_of(const scalar *s) { return s->dtype == F32 ? F32 : F64; }

static bool read_later(const writer *w, int32_t s) { return w->next[s] != NOBODY; }

static bool is_operand(const writer *w, int32_t s) {
  const int32_t *in = w->s[w->order[w->now]].in;
  return s == in[0] || s == in[1] || s == in[2];
}

static void spill(writer *w, int32_t s) {
  if (!has_place(w, s)) put(w, kind_of(&w->s[s]), w->reg[s], in_block(w->slot[s] = take_slot(w)));
}

/* A register; what it holds that is wanted latest gives way. */
static int take(writer *w) {
  int r = -1;
  int64_t latest = -1;
  for (int i = 0; i < REGISTERS; i++) {
    if (w->pinned >> i & 1) continue;
    int32_t s = w->in[i];
    int64_t use = s < 0 ? NOBODY + 1ll : is_operand(w, s) ? w->now : w->next[s];
    if (use > latest) latest = use, r = i;
  }
  int32_t s = w->in[r];
  if (s >= 0) {
    spill(w, s);
    w->reg[s] = -1;
  }
  w->in[r] = -1;
  w->pinned |= 1 << r;
  return r;
}

static int hold(writer *w, int32_t s, int r) {
  w->in[r] = s;
  w->pinned |= 1 << r;
  return w->reg[s] = (int8_t)r;
}

/* Operand k of the scalar under way, in a register */
static int reg(writer *w, int k) {
  int32_t s = w->s[w->order[w->now]].in[k];
  if (w->reg[s] >= 0) return hold(w, s, w->reg[s]);
  int r = take(w);
  fetch(w, kind_of(&w->s[s]), r, place_of(w, s));
  return hold(w, s, r);
}

/* ... or where it is: nothing is gained by a register that is read once. whole: 16 bytes are read. */
static place anywhere(writer *w, int k, bool whole) {
  int32_t s = w->s[w->order[w->now]].in[k];
  bool constant = w->s[s].op == N_CONSTANT;
  if (w->reg[s] < 0 && (constant || (!whole && has_place(w, s) && !read_later(w, s))))
    return place_of(w, s);
  return in_reg(reg(w, k));
}

/* Who reads each operand next, once the scalar at `now` has begun */
static void advance(writer *w, int32_t now) {
  for (int j = 0; j < 3; j++) {
    int32_t s = w->s[w->order[now]].in[j];
    if (s >= 0) w->next[s] = w->link[3 * now + j];
  }
}

/* Registers of what is not read after the scalar under way; it may have one of them. */
static int result(writer *w) {
  w->pinned = 0;
  for (int r = 0; r < REGISTERS; r++) {
    int32_t s = w->in[r];
    if (s < 0) continue;
    if (!read_later(w, s)) w->in[r] = w->reg[s] = -1;
    else if (is_operand(w, s)) w->pinned |= 1 << r;
  }
  return take(w);
}

/* Slots of operands that are not read any more */
static void release(writer *w, int32_t at) {
  const scalar *s = &w->s[w->order[at]];
  for (int j = 0; j < 3; j++) {
    int32_t x = s->in[j];
    if (x < 0 || read_later(w, x)) continue;
    if (w->reg[x] >= 0) w->in[w->reg[x]] = -1, w->reg[x] = -1;
    bool shared = w->s[x].op == N_CALL && w->s[x].dtype == F32; /* eight in one piece */
    if (w->slot[x] >= 0 && !shared) w->free_slot[w->nfree++] = w->slot[x];
    w->slot[x] = -1;
  }
}

/* Before a call: what is read later has a place, and nothing is in a register any more. */
static void forget_registers(writer *w) {
  for (int r = 0; r < REGISTERS; r++) {
    int32_t s = w->in[r];
    if (s < 0) continue;
    w->in[r] = w->reg[s] = -1;
  }
}
static void spill_all(writer *w) {
  for (int r = 0; r < REGISTERS; r++)
    if (w->in[r] >= 0 && read_later(w, w->in[r])) spill(w, w->in[r]);
}

static void call_address(writer *w, void (*f)(void)) {
  uint64_t at = (uint64_t)(uintptr_t)f;
  byte(&w->out, 0x48), byte(&w->out, 0xb8); /* mov rax, */
  word(&w->out, (int32_t)(uint32_t)at);
  word(&w->out, (int32_t)(uint32_t)(at >> 32));
  byte(&w->out, 0xff), byte(&w->out, 0xd0); /* call rax */
}

/* ---- calls ------------------------------------------------------------------------------------------------- */

/* The number in register `from`, 1 in the other lanes */
static void alone(writer *w, dtype t, int to, int from) {
  avx(&w->out, OF_32, MAP_0F3A, PD, t == F32 ? V_MIX_F32 : V_MIX_F64, to, from,
      at_base(POOL, (t == F32 ? 32 : 0) - BIAS));
  byte(&w->out, t == F32 ? 0xfe : 0xe);
}

static void call_one(writer *w, const scalar *s) {
  int arity = op_table[s->x].arity, from[3];
  spill_all(w);
  for (int j = 0; j < arity; j++) from[j] = w->reg[s->in[j]];
  for (int j = 0, spare = REGISTERS - 1; j < arity; j++) { /* none where another will be */
    if (from[j] < 0 || from[j] >= arity || from[j] == j) continue;
    while (spare == from[0] || (arity > 1 && spare == from[1]) || (arity > 2 && spare == from[2]))
      spare--;
    avx(&w->out, OF_16, MAP_0F, PS, V_MOVE, spare, 0, in_reg(from[j]));
    from[j] = spare;
  }
  for (int j = 0; j < arity; j++) {
    if (from[j] < 0) fetch(w, s->dtype, j, place_of(w, s->in[j]));
    alone(w, s->dtype, j, from[j] < 0 ? j : from[j]);
  }
  forget_registers(w);
  call_address(w, kern_get()->vector[s->x][s->dtype]);
  hold(w, w->order[w->now], 0);
}

/* Operand j of n calls, in the lanes of register j; those that are left are the last's */
static void gather_lanes(writer *w, int32_t first, int n, int j) {
  const scalar *s = &w->s[w->order[first]];
  int half = s->dtype == F32 ? 4 : 2;
  for (int l = 0; l < 2 * half; l++) {
    int r = l < half ? j : REGISTERS - 1, k = l < n ? l : n - 1;
    place m = place_of(w, w->s[w->order[first + k]].in[j]);
    if (l % half == 0) fetch(w, s->dtype, r, m);
    else if (s->dtype == F64) avx(&w->out, OF_16, MAP_0F, PD, V_LOAD_HIGH, r, r, m);
    else {
      avx(&w->out, OF_16, MAP_0F3A, PD, V_INSERT_F32, r, r, m);
      byte(&w->out, l % half << 4);
    }
  }
  avx(&w->out, OF_32, MAP_0F3A, PD, V_INSERT_HALF, j, j, in_reg(REGISTERS - 1));
  byte(&w->out, 1);
}

static void call_group(writer *w, int32_t first, int n) {
  const scalar *s = &w->s[w->order[first]];
  int arity = op_table[s->x].arity, size = dtype_size[s->dtype];
  for (int k = 0; k < n; k++)
    for (int j = 0; j < arity; j++) {
      int32_t x = w->s[w->order[first + k]].in[j];
      if (w->reg[x] >= 0) spill(w, x);
    }
  spill_all(w);
  forget_registers(w);
  for (int j = 0; j < arity; j++) gather_lanes(w, first, n, j);
  call_address(w, kern_get()->vector[s->x][s->dtype]);
  avx(&w->out, OF_32, MAP_0F, PS, V_STORE, 0, 0, in_block(w->frame));
  for (int k = 0; k < n; k++) w->slot[w->order[first + k]] = w->frame + k * size;
  w->frame += VECTOR;
  hold(w, w->order[first], 0);
}

static void call_kernel(writer *w, const scalar *s) {
  static const uint8_t argument[] = {RSI, RDX, RCX};
  for (int j = 0; j < 3; j++)
    if (s->in[j] >= 0 && w->reg[s->in[j]] >= 0) spill(w, s->in[j]);
  spill_all(w);
  forget_registers(w);
  zero_upper(&w->out);
  for (int j = 0; j < 3; j++) {
    if (s->in[j] < 0) continue;
    const scalar *x = &w->s[s->in[j]];
    if (x->op == N_INPUT) load(&w->out, argument[j], at_base(LEAF, 16 * x->x - BIAS));
    else lea(&w->out, argument[j], place_of(w, s->in[j]));
  }
  w->slot[w->order[w->now]] = take_slot(w);
  lea(&w->out, RDI, in_block(w->slot[w->order[w->now]]));
  byte(&w->out, 0x41), byte(&w->out, 0xb8), word(&w->out, 1); /* mov r8d, 1 */
  call_address(w, (void (*)(void))cpu_kernel(s->x, s->from, s->dtype));
}

/* ---- one scalar --------------------------------------------------------------------------------------------- */

static void int32_op(writer *w, int op, int reg, place m) {
  rex(&w->out, false, reg, m);
  byte(&w->out, op);
  operand(&w->out, reg, m);
}

static void load_byte(writer *w, int reg, place m) { /* the rest is 0 */
  rex(&w->out, false, reg, m);
  byte(&w->out, 0x0f), byte(&w->out, 0xb6);
  operand(&w->out, reg, m);
}

static void store_byte(writer *w, int32_t s) { /* ANY's lowest, to its slot */
  int32_op(w, INT_STORE, ANY, in_block(w->slot[s] = take_slot(w)));
}

/* To the register that is given; -1: it is in its slot */
static int write_one(writer *w, int32_t i) {
  static const uint8_t opcode[] = {
      [I_ADD] = V_ADD,   [I_SUB] = V_SUB,        [I_MUL] = V_MUL,       [I_DIV] = V_DIV,
      [I_SQRT] = V_SQRT, [I_AND] = V_AND,        [I_ANDNOT] = V_ANDNOT, [I_OR] = V_OR,
      [I_XOR] = V_XOR,   [I_COMPARE] = V_COMPARE};
  const scalar *s = &w->s[i];
  bool narrow = s->dtype == F32;
  int a, b, r;
  place m;
  switch (s->op) {
    case N_KEEP:
      if (!is_float(s->dtype) && s->dtype != I64) {
        load_byte(w, ANY, place_of(w, s->in[0]));
        return store_byte(w, i), -1;
      }
      fetch(w, kind_of(s), r = result(w), place_of(w, s->in[0]));
      return r;
    case N_NARROW:
    case N_WIDEN:
      a = reg(w, 0);
      avx(&w->out, OF_16, MAP_0F, narrow ? SD : SS, V_CONVERT, r = result(w), a, in_reg(a));
      return r;
    case N_EXTEND:
      a = reg(w, 0);
      avx(&w->out, OF_16, MAP_0F38, PD, V_EXTEND, r = result(w), 0, in_reg(a));
      return r;
    case N_BYTE:
      avx(&w->out, OF_16, MAP_0F, PD, V_TO_INT, reg(w, 0), 0, in_reg(ANY));
      byte(&w->out, 0x83), byte(&w->out, 0xe0), byte(&w->out, 1); /* and eax, 1 */
      return store_byte(w, i), -1;
    case N_MASK:
      load_byte(w, ANY, place_of(w, s->in[0]));
      negate(&w->out, ANY);
      int_op(&w->out, INT_SUB_CARRY, ANY, in_reg(ANY)); /* 0, or all bits if that was not 0 */
      avx(&w->out, OF_16, MAP_0F, PD | V_64, V_FROM_INT, r = result(w), 0, in_reg(ANY));
      return r;
    case I_SQRT:
      a = reg(w, 0);
      avx(&w->out, OF_16, MAP_0F, narrow ? SS : SD, V_SQRT, r = result(w), a, in_reg(a));
      return r;
    case I_ROUND:
      a = reg(w, 0);
      avx(&w->out, OF_16, MAP_0F3A, PD, V_ROUND_ONE + !narrow, r = result(w), a, in_reg(a));
      byte(&w->out, s->how);
      return r;
    case I_BLEND:
      a = reg(w, 0);
      b = reg(w, 2);
      m = anywhere(w, 1, true);
      avx(&w->out, OF_16, MAP_0F3A, PD, V_BLEND, r = result(w), b, m);
      byte(&w->out, a << 4);
      return r;
    case I_AND:
    case I_ANDNOT:
    case I_OR:
    case I_XOR:
      a = reg(w, 0);
      m = anywhere(w, 1, true);
      avx(&w->out, OF_16, MAP_0F, PS, opcode[s->op], r = result(w), a, m);
      return r;
    default:
      a = reg(w, 0);
      m = anywhere(w, 1, false);
      avx(&w->out, OF_16, MAP_0F, narrow ? SS : SD, opcode[s->op], r = result(w), a, m);
      if (s->op == I_COMPARE) byte(&w->out, s->how);
      return r;
  }
}

/* The scalar at `now`, or the calls that are one. How many. */
static int write_some(writer *w) {
  int32_t i = w->order[w->now];
  const scalar *s = &w->s[i];
  int n = s->op == N_CALL ? w->together[w->now] : 1;
  w->pinned = 0;
  for (int k = 0; k < n; k++) advance(w, w->now + k);
  if (n > 1) call_group(w, w->now, n);
  else if (s->op == N_CALL) call_one(w, s);
  else if (s->op == N_KERNEL) call_kernel(w, s);
  else if (s->op != N_RANDOM) {
    int r = write_one(w, i);
    if (r >= 0) hold(w, i, r);
  }
  for (int k = 0; k < n; k++) release(w, w->now + k);
  return n;
}

static void store_outputs(writer *w) {
  for (int k = 0; k < w->p->noutput; k++) {
    int32_t s = w->result[k];
    dtype t = w->s[s].dtype;
    place to = at_base(TO, 0);
    load(&w->out, TO, at_base(OUT, 8 * k - BIAS));
    if (w->reg[s] >= 0) put(w, kind_of(&w->s[s]), w->reg[s], to);
    else if (dtype_size[t] == 8) {
      load(&w->out, ANY, place_of(w, s));
      int_op(&w->out, INT_STORE, ANY, to);
    } else if (dtype_size[t] == 4) {
      int32_op(w, INT_LOAD, ANY, place_of(w, s));
      int32_op(w, INT_STORE, ANY, to);
    } else {
      load_byte(w, ANY, place_of(w, s));
      int32_op(w, INT_STORE_BYTE, ANY, to);
    }
  }
}

/* ---- the function --------------------------------------------------------------------------------------------- */

static void write_pool(writer *w) {
  char line[POOL_LINE];
  for (int i = -2; i < w->nconstant; i++) {
    dtype t = i < -1 ? F64 : i < 0 ? F32 : w->constant[i].t;
    pool_line(line, t, i < 0 ? (struct constant){C_NUMBER, 1} : w->constant[i].c);
    for (int k = 0; k < (i < 0 ? 32 : 16); k++) byte(&w->out, line[k]);
  }
}

static void write_function(writer *w) {
  static const uint8_t saved[] = {RBP, RBX, R12, R13, R14}; /* rbp: the stack is even by it */
  const uint8_t *pool = w->out.p;
  write_pool(w);
  for (int i = 0; i < 5; i++) push(&w->out, saved[i]);
  lea(&w->out, LEAF, at_base(RDI, BIAS));
  lea(&w->out, OUT, at_base(RSI, BIAS));
  lea(&w->out, BLOCK, at_base(RDX, BIAS));
  byte(&w->out, 0x4c), byte(&w->out, 0x8d), byte(&w->out, 0x35); /* lea r14, [rip + ...] */
  word(&w->out, (int32_t)(pool + BIAS - (w->out.p + 4)));
  for (w->now = 0; w->now < w->norder;) w->now += write_some(w);
  store_outputs(w);
  for (int i = 4; i >= 0; i--) pop(&w->out, saved[i]);
  zero_upper(&w->out);
  ret(&w->out);
}

static void find_readers(writer *w) {
  for (int32_t i = 0; i < w->n; i++) w->next[i] = NOBODY, w->slot[i] = -1, w->reg[i] = -1;
  for (int k = 0; k < w->p->noutput; k++) w->next[w->result[k]] = w->norder;
  for (int32_t k = w->norder - 1; k >= 0; k--) {
    const int32_t *in = w->s[w->order[k]].in;
    for (int j = 0; j < 3; j++)
      if (in[j] >= 0) w->link[3 * k + j] = w->next[in[j]];
    for (int j = 0; j < 3; j++)
      if (in[j] >= 0) w->next[in[j]] = k;
  }
}

/* Random numbers lie first in the block. */
static void place_random(writer *w, schedule *s) {
  for (int32_t i = 0; i < w->n; i++) {
    if (w->s[i].op != N_RANDOM || !w->live[i]) continue;
    w->slot[i] = take_slot(w);
    s->drawn[s->ndrawn++] = (drawn){w->slot[i], (int16_t)w->s[i].x, w->s[i].dtype};
  }
}

static bool write_all(writer *w, codes *k, schedule *s) {
  size_t n = w->n, m = w->norder;
  int32_t *lists = mg_alloc(w->c, (3 * n + 3 * m) * sizeof *lists + n);
  if (!lists) return false;
  w->next = lists, w->slot = lists + n, w->free_slot = lists + 2 * n;
  w->link = lists + 3 * n;
  w->reg = (int8_t *)(lists + 3 * n + 3 * m);
  memset(w->in, -1, sizeof w->in);
  find_readers(w);
  place_random(w, s);
  w->out = codes_begin(k);
  write_function(w);
  mg_free(lists);
  char *at = (char *)(void *)codes_end(k, &w->out);
  s->scalar = at ? (scalar_fn *)(void *)(at + ONES + 16 * w->nconstant) : NULL;
  s->block = w->frame;
  return at;
}

bool scalar_plan(ctx *c, codes *k, schedule *s) {
  const program *p = &s->p;
  int32_t most = most_scalars(p), slots = 1024;
  if (most > MOST) return false;
  while (slots < 2 * most) slots *= 2;
  size_t ints = (size_t)slots + 2 * p->nvalue + p->noutput + most;
  writer *w = mg_alloc(c, sizeof *w + ints * sizeof(int32_t) + most * (sizeof(scalar) + 2));
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
  bool ok = !w->failed && find_order(w) && write_all(w, k, s);
  mg_free(w);
  return ok;
}
