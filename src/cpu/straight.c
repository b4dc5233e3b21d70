/* straight.c -- the machine code of scalars: straight on, values in registers.
**
** What always holds:
**   - a scalar is in a register, or has a place in memory, or both: a source is where it is, the others get a
**     slot of the block when their register is wanted
**   - calls change all registers: what is read later has a place by then
**   - outputs are stored when all is computed: each may be where an input is
*/
#include "cpu/emit.h"
#include "cpu/scalar.h"

_Static_assert(sizeof(binding) == 16 && offsetof(binding, k) == 8, "bindings are read by code");

enum {
  NOBODY = INT32_MAX,
  LARGEST = 1 << 18
}; /* LARGEST: bytes of a block, which is on the stack */

/* The function's registers. BLOCK, LEAF, OUT and POOL point BIAS bytes behind the beginning: more is in reach
** of short instructions. */
enum { BLOCK = RBX, LEAF = R12, OUT = R13, POOL = R14, ANY = RAX, TO = RCX, BIAS = 128 };
enum { REGISTERS = 16 };
enum { ONES = 64 }; /* bytes the pool begins with: a vector of 1 for each dtype */

typedef struct {
  emitter out;
  const scalars *x;
  const scalar *s; /* x's */
  int32_t n;
  const int32_t *order;
  int32_t norder;
  int32_t *next; /* position of who reads it next; norder: it is stored; NOBODY */
  int32_t *link; /* by position, three: who reads the operand after it */
  int32_t *slot; /* where in the block, -1 */
  int8_t *reg;
  int32_t in[REGISTERS]; /* what each register holds, -1 */
  uint16_t pinned;
  int32_t now, frame; /* the position under way; bytes of the block */
  int32_t *free_slot, nfree;
} writer;

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
  call_address(w, kern_numbers()->vector[s->x][s->dtype]);
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
  call_address(w, kern_numbers()->vector[s->x][s->dtype]);
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
  int n = s->op == N_CALL ? w->x->together[w->now] : 1;
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
  for (int k = 0; k < w->x->p->noutput; k++) {
    int32_t s = w->x->result[k];
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
  for (int i = -2; i < w->x->nconstant; i++) {
    dtype t = i < -1 ? F64 : i < 0 ? F32 : w->x->constant[i].t;
    pool_line(line, t, i < 0 ? (struct constant){C_NUMBER, 1} : w->x->constant[i].c);
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
  for (int k = 0; k < w->x->p->noutput; k++) w->next[w->x->result[k]] = w->norder;
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
    if (w->s[i].op != N_RANDOM || !w->x->live[i]) continue;
    w->slot[i] = take_slot(w);
    s->drawn[s->ndrawn++] = (drawn){w->slot[i], (int16_t)w->s[i].x, w->s[i].dtype};
  }
}

bool scalars_write(const scalars *x, codes *k, schedule *s) {
  writer all = {.x = x, .s = x->s, .n = x->n, .order = x->order, .norder = x->norder}, *w = &all;
  size_t n = w->n, m = w->norder;
  int32_t *lists = mg_alloc(w->x->c, (3 * n + 3 * m) * sizeof *lists + n);
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
  if (w->frame > LARGEST) return false;
  char *at = (char *)(void *)codes_end(k, &w->out);
  s->scalar = at ? (scalar_fn *)(void *)(at + ONES + 16 * w->x->nconstant) : NULL;
  s->block = w->frame;
  return at;
}
