/* code.c -- machine code: element-wise steps as one loop that keeps its values in registers.
**
** For x86-64 with AVX2: each step is one instruction or a few, on 32 bytes of numbers, rounded by itself
** as in the kernels, so the bits are theirs. What always holds here:
**   - a value is in a register, or has a home in memory, or both; a home is where it came from, where
**     it is stored, or a place on the stack that it is given when its register is wanted
**   - the loop begins each turn with nothing in registers; its last turn is a copy of it that reads and
**     writes under a mask
**   - code is found again by its steps, and stays until its memory is nearly full; then all goes at once
**   - the memory is mapped twice, to be written and to be run: no address is both
*/
#define _GNU_SOURCE
#include "cpu/code.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROOM = 1 << 18, LISTS = 64 };

typedef struct known {
  struct known *next;
  code_fn *f;
  uint8_t t;
  int n;
  step s[];
} known;

struct codes {
  char *write, *run; /* the same ROOM bytes; NULL: none to be had */
  size_t used;
  pid_t owner; /* a child made by fork shares the memory, and must not */
  known *list[LISTS];
};

/* ---- instructions ------------------------------------------------------------------------------- */

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 };
enum { AT = RDI, HERE = RSI, POOL = RCX, ANY = RAX };
/* where lanes go; the last whole vector of the block; which way is next */
enum { OUT = 13, STOP, WAY };

static const uint8_t address[] = {8, 9, 10, 11, RBX, 12}; /* registers for addresses of at[] */
enum { ADDRESSES = sizeof address };
enum { VECTORS = 15, MASK = 15 }; /* ymm0..14 hold values */

/* An operand in memory, or the register `base` where !memory */
typedef struct {
  bool memory;
  int8_t base, index; /* index: added; 0: none */
  int32_t at;
} place;

typedef struct {
  uint8_t *p, *end;
  const step *s;
  int n, now;                                    /* the step under way */
  bool wide;                                     /* of doubles */
  bool tail;                                     /* in the copy that is masked */
  uint16_t pinned;                               /* registers the step under way needs */
  int16_t in[VECTORS];                           /* the step whose value it holds, -1: none */
  int16_t reg[STEPS], spill[STEPS], last[STEPS]; /* of each step; -1: none */
  bool busy[STEPS];                              /* places on the stack */
  int frame;                                     /* of them */
  int nfold;                                     /* whose ways come first on the stack */
  int16_t stream[ADDRESSES]; /* the index into at[] whose address each register holds */
  int nstream;
} emitter;

static void byte(emitter *e, int b) {
  if (e->p < e->end) *e->p++ = (uint8_t)b;
}

static void bytes(emitter *e, int n, const char *b) {
  for (int i = 0; i < n; i++) byte(e, b[i]);
}

static void word(emitter *e, int32_t v) {
  for (int i = 0; i < 4; i++) byte(e, v >> 8 * i & 255);
}

/* One of AVX: opcode `op` of map `map` with prefix `pp`; register, second register, last operand */
static void vex(emitter *e, int map, int pp, int op, int reg, int second, place m) {
  byte(e, 0xc4);
  byte(e, (reg < 8) << 7 | (m.index < 8) << 6 | (m.base < 8) << 5 | map);
  byte(e, (~second & 15) << 3 | 1 << 2 | pp);
  byte(e, op);
  int low = m.base & 7, mod = 3; /* how `at` is written: not, in 1 byte or 4; 3: a register */
  if (m.memory) mod = m.at == 0 && low != RBP ? 0 : m.at == (int8_t)m.at ? 1 : 2;
  bool sib = m.memory && (m.index || low == RSP);
  byte(e, mod << 6 | (reg & 7) << 3 | (sib ? RSP : low));
  if (sib) byte(e, (m.index ? m.index & 7 : RSP) << 3 | low);
  if (mod == 1) byte(e, m.at);
  if (mod == 2) word(e, m.at);
}

static place in_reg(int r) { return (place){.base = r}; }
static place in_pool(int i) { return (place){.memory = true, .base = POOL, .at = i * POOL_LINE}; }
static place on_stack(const emitter *e, int i) {
  return (place){.memory = true, .base = RSP, .at = (e->nfold * FOLD_WAYS + i) * VECTOR};
}
static place way_of(int fold, int index, int way) {
  return (place){
      .memory = true, .base = RSP, .index = index, .at = (fold * FOLD_WAYS + way) * VECTOR};
}

/* The numbers every pool begins with */
enum { POOL_ONES, POOL_ZEROS, POOL_SIGN, POOL_REST, POOL_ONE };

void code_pool(char *pool, dtype t) {
  uint64_t sign = t == F64 ? 1ull << 63 : 0x8000000080000000;
  uint64_t one = t == F64 ? 0x3ff0000000000000 : 0x3f8000003f800000;
  uint64_t k[POOL_BEGIN] = {~0ull, 0, sign, ~sign, one};
  for (int i = 0; i < POOL_BEGIN; i++)
    for (int j = 0; j < POOL_LINE; j += 8) memcpy(pool + i * POOL_LINE + j, &k[i], 8);
}

static void arith(emitter *e, int op, int r, int a, place b) { vex(e, 1, e->wide, op, r, a, b); }

/* Opcodes of map 1; the relations of CMP */
enum { SQRT = 0x51, AND = 0x54, ANDNOT, OR, XOR, ADD, MUL, SUB = 0x5c, DIV = 0x5e, CMP = 0xc2 };
enum { LT = 0x11, LE = 0x12, GE = 0x1d, GT = 0x1e, EQ = 0, NE = 4, UNORDERED = 3 };

static void compare(emitter *e, int how, int r, int a, place b) {
  arith(e, CMP, r, a, b);
  byte(e, how);
}

static void choose(emitter *e, int r, int mask, place yes, int no) {
  vex(e, 3, 1, 0x4a, r, no, yes);
  byte(e, mask << 4);
}

static void fetch(emitter *e, int r, place m) {
  if (m.index == HERE && e->tail) vex(e, 2, 1, 0x2c, r, MASK, m);
  else vex(e, 1, 0, 0x10, r, 0, m);
}

static void put(emitter *e, int r, place m) {
  if (m.index == HERE && e->tail) vex(e, 2, 1, 0x2e, r, MASK, m);
  else vex(e, 1, 0, 0x11, r, 0, m);
}

/* mov r, [at + 8 i] */
static void load_address(emitter *e, int r, int i) {
  byte(e, 0x48 | (r >= 8) << 2);
  byte(e, 0x8b);
  byte(e, 2 << 6 | (r & 7) << 3 | AT);
  word(e, 8 * i);
}

/* ---- registers ---------------------------------------------------------------------------------- */

static place stream(emitter *e, int at) {
  place m = {.memory = true, .base = ANY, .index = HERE};
  for (int i = 0; i < e->nstream; i++)
    if (e->stream[i] == at) return m.base = address[i], m;
  load_address(e, ANY, at);
  return m;
}

/* Where s is beside its register */
static bool has_home(const emitter *e, int s) {
  return e->s[s].op >= NOP || e->s[s].to >= 0 || e->spill[s] >= 0;
}

static place home(emitter *e, int s) {
  const step *t = &e->s[s];
  if (t->op == STEP_POOL) return in_pool(t->from);
  if (e->spill[s] >= 0) return on_stack(e, e->spill[s]);
  return stream(e, t->op == STEP_LOAD ? t->from : t->to);
}

static int next_use(const emitter *e, int s) {
  for (int i = e->now; i < e->n; i++)
    for (int j = 0; j < 3; j++)
      if (e->s[i].in[j] == s) return i;
  return e->n;
}

static int take_place(emitter *e) {
  int k = 0;
  while (e->busy[k]) k++;
  e->busy[k] = true;
  if (k >= e->frame) e->frame = k + 1;
  return k;
}

/* A register; what it holds that is wanted latest gives way. */
static int take(emitter *e) {
  int r = -1, latest = -1;
  for (int i = 0; i < VECTORS; i++) {
    if (e->pinned >> i & 1) continue;
    int use = e->in[i] < 0 ? STEPS + 1 : next_use(e, e->in[i]);
    if (use > latest) latest = use, r = i;
  }
  int s = e->in[r];
  if (s >= 0) {
    if (!has_home(e, s)) put(e, r, on_stack(e, e->spill[s] = take_place(e)));
    e->reg[s] = -1;
  }
  e->in[r] = -1;
  e->pinned |= 1 << r;
  return r;
}

static int hold(emitter *e, int s, int r) {
  e->in[r] = s;
  e->pinned |= 1 << r;
  return e->reg[s] = r;
}

/* Operand k of the step under way, in a register */
static int reg(emitter *e, int k) {
  int s = e->s[e->now].in[k];
  if (e->reg[s] >= 0) return hold(e, s, e->reg[s]);
  int r = take(e);
  fetch(e, r, home(e, s));
  return hold(e, s, r);
}

/* ... or where it is: nothing is gained by a register that is read once, unless under the mask */
static place anywhere(emitter *e, int k) {
  int s = e->s[e->now].in[k];
  bool still = e->s[s].op == STEP_POOL || e->spill[s] >= 0;
  if (e->reg[s] < 0 && (still || (!e->tail && e->last[s] == e->now))) return home(e, s);
  return in_reg(reg(e, k));
}

/* Registers of values that are not read after the step under way */
static void release(emitter *e) {
  for (int r = 0; r < VECTORS; r++) {
    int s = e->in[r];
    if (s >= 0 && e->last[s] <= e->now) e->in[r] = e->reg[s] = -1;
  }
}

/* ... and their places on the stack, once it is done: until then it may read them there */
static void release_places(emitter *e) {
  for (int j = 0; j < 3; j++) {
    int s = e->s[e->now].in[j];
    if (s >= 0 && e->last[s] == e->now && e->spill[s] >= 0 && e->s[s].op < NOP)
      e->busy[e->spill[s]] = false;
  }
}

/* ---- ops ----------------------------------------------------------------------------------------- */

/* How the step under way gets its value, in the register that is given back. Operands are in their
** registers before that is chosen, as it may be one of theirs; what needs several instructions writes it
** in the last. `code`, `more`: of its row in the table. */
typedef int make_fn(emitter *e, int code, int more);
#define RESULT (release(e), e->pinned = 0, r = take(e))

static int two(emitter *e, int code, int more) {
  int r, a = reg(e, 0);
  place m = anywhere(e, 1);
  (void)more;
  arith(e, code, RESULT, a, m);
  return r;
}

static int relation(emitter *e, int code, int more) {
  int r = two(e, CMP, more);
  byte(e, code);
  return r;
}

static int with_pool(emitter *e, int code, int more) {
  int r, a = reg(e, 0);
  arith(e, code, RESULT, a, in_pool(more));
  return r;
}

static int squared(emitter *e, int code, int more) {
  int r, a = reg(e, 0);
  (void)more;
  arith(e, code, RESULT, a, in_reg(a));
  return r;
}

static int root(emitter *e, int code, int more) {
  place m = anywhere(e, 0);
  int r;
  (void)more;
  arith(e, code, RESULT, 0, m);
  return r;
}

static int rounded(emitter *e, int code, int more) {
  place m = anywhere(e, 0);
  int r;
  (void)more;
  vex(e, 3, 1, 8 + e->wide, RESULT, 0, m);
  byte(e, code);
  return r;
}

static int reciprocal(emitter *e, int code, int more) {
  place m = anywhere(e, 0);
  int r, t = take(e);
  (void)more;
  fetch(e, t, in_pool(POOL_ONE));
  arith(e, code, RESULT, t, m);
  return r;
}

static int reciprocal_root(emitter *e, int code, int more) {
  place m = anywhere(e, 0);
  int r, t = take(e), u = take(e);
  arith(e, code, t, 0, m);
  fetch(e, u, in_pool(POOL_ONE));
  arith(e, more, RESULT, u, in_reg(t));
  return r;
}

static int relu(emitter *e, int code, int more) {
  int r, a = reg(e, 0), t = take(e);
  compare(e, code, t, a, in_pool(POOL_ZEROS));
  arith(e, more, RESULT, t, in_reg(a));
  return r;
}

static int leaky_relu(emitter *e, int code, int more) {
  int r, a = reg(e, 0);
  place m = anywhere(e, 1);
  int t = take(e), u = take(e);
  compare(e, code, t, a, in_pool(POOL_ZEROS));
  arith(e, more, u, a, m);
  choose(e, RESULT, t, in_reg(a), u);
  return r;
}

static int extreme(emitter *e, int code, int more) {
  int r, a = reg(e, 0), b = reg(e, 1), t = take(e), u = take(e);
  compare(e, code, t, a, in_reg(b));
  compare(e, more, u, a, in_reg(a));
  arith(e, OR, t, t, in_reg(u));
  choose(e, RESULT, t, in_reg(a), b);
  return r;
}

/* 0 where the first operand is 0, the product or quotient elsewhere */
static int absorbed(emitter *e, int code, int more) {
  int r, a = reg(e, 0);
  place m = anywhere(e, 1);
  int t = take(e), u = take(e);
  compare(e, more, t, a, in_pool(POOL_ZEROS));
  arith(e, code, u, a, m);
  arith(e, AND, RESULT, t, in_reg(u));
  return r;
}

static int clamp(emitter *e, int code, int more) {
  int r, a = reg(e, 0), b = reg(e, 1), t = take(e), u = take(e);
  compare(e, code, t, a, in_reg(b));
  choose(e, u, t, in_reg(b), a);
  b = reg(e, 2);
  compare(e, more, t, u, in_reg(b));
  choose(e, RESULT, t, in_reg(b), u);
  return r;
}

static int where(emitter *e, int code, int more) {
  int r, t = reg(e, 0), b = reg(e, 2);
  place m = anywhere(e, 1);
  (void)code, (void)more;
  choose(e, RESULT, t, m, b);
  return r;
}

static int copy(emitter *e, int code, int more) {
  place m = anywhere(e, 0);
  int r;
  (void)code, (void)more;
  fetch(e, RESULT, m);
  return r;
}

static const struct {
  make_fn *make;
  uint8_t code, more;
} table[NOP] = {
    [OP_add] = {two, ADD},
    [OP_sub] = {two, SUB},
    [OP_mul] = {two, MUL},
    [OP_div] = {two, DIV},
    [OP__mulz] = {absorbed, MUL, NE},
    [OP__divz] = {absorbed, DIV, NE},
    [OP_logical_and] = {two, AND},
    [OP_logical_or] = {two, OR},
    [OP_logical_xor] = {two, XOR},
    [OP_eq] = {relation, EQ},
    [OP_ne] = {relation, NE},
    [OP_lt] = {relation, LT},
    [OP_le] = {relation, LE},
    [OP_gt] = {relation, GT},
    [OP_ge] = {relation, GE},
    [OP_neg] = {with_pool, XOR, POOL_SIGN},
    [OP_abs] = {with_pool, AND, POOL_REST},
    [OP_logical_not] = {with_pool, XOR, POOL_ONES},
    [OP_square] = {squared, MUL},
    [OP_sqrt] = {root, SQRT},
    [OP_floor] = {rounded, 9},
    [OP_ceil] = {rounded, 10},
    [OP_round] = {rounded, 8},
    [OP_reciprocal] = {reciprocal, DIV},
    [OP_rsqrt] = {reciprocal_root, SQRT, DIV},
    [OP_relu] = {relu, LE, ANDNOT},
    [OP_leaky_relu] = {leaky_relu, GT, MUL},
    [OP_maximum] = {extreme, GT, UNORDERED},
    [OP_minimum] = {extreme, LT, UNORDERED},
    [OP_clamp] = {clamp, LT, GT},
    [OP_where] = {where},
    [OP_broadcast_to] = {copy},
};

bool code_knows(int op) { return table[op].make; }

/* Ask for the memory that the next tiles read and write: what lies between two loops over a tile would
** otherwise wait for it. */
static void look_ahead(emitter *e) {
  for (int i = 0; i < e->n; i++) {
    const step *s = &e->s[i];
    if (!s->ahead) continue;
    place m = stream(e, s->op == STEP_LOAD ? s->from : s->to);
    byte(e, 0x40 | (m.base >= 8));
    byte(e, 0x0f);
    byte(e, s->to < 0 ? 0x18 : 0x0d);
    byte(e, 2 << 6 | 1 << 3 | RSP); /* prefetcht0, prefetchw [base + HERE + ahead] */
    byte(e, HERE << 3 | (m.base & 7));
    word(e, s->ahead);
  }
}

/* The step under way is a sum: one more vector to one of its ways; under the mask others are 0. */
static void add_way(emitter *e, int fold) {
  int a = reg(e, 0), t = take(e);
  if (e->tail) arith(e, AND, t, a, in_reg(MASK)), a = t;
  arith(e, ADD, t, a, way_of(fold, WAY, 0));
  put(e, t, way_of(fold, WAY, 0));
}

/* The ways of each sum together, and out */
static void join_ways(emitter *e) {
  int fold = 0;
  for (int i = 0; i < e->n; i++) {
    if (e->s[i].op != STEP_FOLD) continue;
    for (int w = 0; w < FOLD_WAYS / 2; w++) {
      fetch(e, w, way_of(fold, 0, w));
      arith(e, ADD, w, w, way_of(fold, 0, w + FOLD_WAYS / 2));
    }
    for (int half = FOLD_WAYS / 4; half; half /= 2)
      for (int w = 0; w < half; w++) arith(e, ADD, w, w, in_reg(w + half));
    place m = stream(e, e->s[i].to);
    m.index = OUT;
    vex(e, 1, 0, 0x11, 0, 0, m);
    fold++;
  }
}

static void body(emitter *e) {
  int fold = 0;
  memset(e->reg, -1, sizeof e->reg);
  memset(e->in, -1, sizeof e->in);
  for (e->now = 0; e->now < e->n; e->now++) {
    const step *s = &e->s[e->now];
    e->pinned = 0;
    if (s->op == STEP_FOLD) {
      add_way(e, fold++);
      release(e);
      release_places(e);
    }
    if (s->op >= NOP) continue;
    int r = table[s->op].make(e, table[s->op].code, table[s->op].more);
    hold(e, e->now, r);
    if (s->to >= 0) put(e, r, stream(e, s->to));
    release(e);
    release_places(e);
  }
}

/* ---- the function ------------------------------------------------------------------------------- */

static void add_stream(emitter *e, int at) {
  for (int i = 0; i < e->nstream; i++)
    if (e->stream[i] == at) return;
  if (e->nstream < ADDRESSES) e->stream[e->nstream++] = at;
}

/* A jump whose end is not known yet; 0: it goes there. */
static uint8_t *jump(emitter *e, int how) {
  byte(e, 0x0f);
  byte(e, how);
  word(e, 0);
  return e->p;
}

static void patch(emitter *e, uint8_t *at, int32_t v) {
  if (e->p < e->end) memcpy(at - 4, &v, 4);
}

static void lands(emitter *e, uint8_t *jump) { patch(e, jump, (int32_t)(e->p - jump)); }
static void goes_to(emitter *e, uint8_t *jump, const uint8_t *to) {
  patch(e, jump, (int32_t)(to - jump));
}

enum { JE = 0x84, JNE = 0x85, JL = 0x8c, JLE = 0x8e, JG = 0x8f };

/* The loop over one block, and what is left of the last one under the mask */
static void loop(emitter *e) {
  bytes(e, 3, "\x4c\x39\xf6"); /* cmp rsi, r14 */
  uint8_t *none = jump(e, JG), *top = e->p;
  look_ahead(e);
  body(e);
  if (e->nfold)
    bytes(e, 11, "\x41\x83\xc7\x20\x41\x81\xe7\xe0\0\0\0"); /* add r15d, 32; and r15d, 224 */
  bytes(e, 4, "\x48\x83\xc6\x20");                          /* add rsi, 32 */
  bytes(e, 3, "\x4c\x39\xf6");                              /* cmp rsi, r14 */
  goes_to(e, jump(e, JLE), top);
  lands(e, none);
  bytes(e, 3, "\x49\x39\xd6"); /* cmp r14, rdx */
  uint8_t *more = jump(e, JNE);
  bytes(e, 4, "\x49\x83\xc6\x20"); /* add r14, 32 */
  bytes(e, 3, "\x49\x29\xf6");     /* sub r14, rsi */
  uint8_t *even = jump(e, JE);
  bytes(e, 3, "\x49\xf7\xde"); /* neg r14; the mask: POOL_ONES and POOL_ZEROS seen from there */
  fetch(e, MASK, (place){.memory = true, .base = POOL, .index = STOP, .at = VECTOR});
  e->tail = true;
  for (int i = 0; i < e->n; i++)
    if (e->s[i].op != STEP_NUMBER) e->spill[i] = -1;
  body(e);
  e->tail = false;
  bytes(e, 4, "\x48\x83\xc6\x20"); /* add rsi, 32 */
  lands(e, more);
  lands(e, even);
}

static void function(emitter *e) {
  memset(e->spill, -1, sizeof e->spill);
  for (int i = 0; i < e->n; i++) {
    const step *s = &e->s[i];
    e->last[i] = i;
    for (int j = 0; j < 3; j++)
      if (s->in[j] >= 0) e->last[s->in[j]] = i;
    if (s->op == STEP_LOAD) add_stream(e, s->from);
    if (s->to >= 0) add_stream(e, s->to);
    e->nfold += s->op == STEP_FOLD;
  }
  /* push rbx, rbp, r12, r13, r14, r15; mov rbp, rsp; sub rsp, ...; and rsp, -32 */
  bytes(e, 10, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57");
  bytes(e, 6, "\x48\x89\xe5\x48\x81\xec");
  word(e, 0);
  uint8_t *frame = e->p;
  bytes(e, 4, "\x48\x83\xe4\xe0");
  for (int i = 0; i < e->n; i++) { /* numbers to the stack, where they stay */
    if (e->s[i].op != STEP_NUMBER) continue;
    load_address(e, ANY, e->s[i].from);
    bytes(e, 3, "\x4c\x01\xc0"); /* add rax, r8 */
    vex(e, 2, 1, e->wide ? 0x19 : 0x18, 0, 0, (place){.memory = true, .base = ANY});
    put(e, 0, on_stack(e, e->spill[i] = take_place(e)));
  }
  bytes(e, 3, "\x4d\x89\xcd"); /* mov r13, r9 */
  for (int i = 0; i < e->nstream; i++) load_address(e, address[i], e->stream[i]);
  bytes(e, 4, "\x48\x83\xea\x20"); /* sub rdx, 32 */
  if (!e->nfold) {
    bytes(e, 3, "\x49\x89\xd6"); /* mov r14, rdx: all is one block */
    loop(e);
  } else {
    const uint8_t *block = e->p;
    vex(e, 1, 0, XOR, 0, 0, in_reg(0));
    for (int i = 0; i < e->nfold * FOLD_WAYS; i++) put(e, 0, way_of(0, 0, i));
    bytes(e, 6, "\x45\x31\xff\x4c\x8d\xb6"); /* xor r15d, r15d; lea r14, [rsi + ...] */
    word(e, FOLD_BLOCK * (e->wide ? 8 : 4) - VECTOR);
    bytes(e, 7, "\x49\x39\xd6\x4c\x0f\x4f\xf2"); /* cmp r14, rdx; cmovg r14, rdx */
    loop(e);
    join_ways(e);
    bytes(e, 4, "\x49\x83\xc5\x20");             /* add r13, 32 */
    bytes(e, 7, "\x4c\x8d\x72\x20\x4c\x39\xf6"); /* lea r14, [rdx + 32]; cmp rsi, r14 */
    goes_to(e, jump(e, JL), block);
  }
  /* mov rsp, rbp; pop all; vzeroupper; ret */
  bytes(e, 13, "\x48\x89\xec\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b");
  bytes(e, 4, "\xc5\xf8\x77\xc3");
  patch(e, frame, (e->nfold * FOLD_WAYS + e->frame) * VECTOR);
}

/* ---- what is known ------------------------------------------------------------------------------ */

static void forget(struct codes *k) {
  for (int i = 0; i < LISTS; i++)
    while (k->list[i]) {
      known *e = k->list[i];
      k->list[i] = e->next;
      mg_free(e);
    }
  if (k->write) munmap(k->write, ROOM);
  if (k->run) munmap(k->run, ROOM);
  k->write = k->run = NULL;
  k->used = 0;
}

static char *map(int file, int how) {
  void *p = mmap(NULL, ROOM, how, MAP_SHARED, file, 0);
  return p == MAP_FAILED ? NULL : p;
}

static void map_room(struct codes *k) {
  struct rlimit most; /* past which ftruncate would end the process */
  if (getrlimit(RLIMIT_FSIZE, &most) != 0 || most.rlim_cur < ROOM) return;
  int file = memfd_create("moongrad", MFD_CLOEXEC);
  if (file < 0) return;
  if (ftruncate(file, ROOM) == 0) {
    k->write = map(file, PROT_READ | PROT_WRITE);
    k->run = map(file, PROT_READ | PROT_EXEC);
  }
  close(file);
  if (!k->write || !k->run) forget(k);
  k->owner = getpid();
}

bool code_open(ctx *c) {
  struct codes *k = c->code;
  if (!k) {
    if (cpu_level() < 3 || !(k = mg_alloc(c, sizeof *k))) return false;
    memset(k, 0, sizeof *k);
    map_room(c->code = k);
  } else if (k->write && (k->owner != getpid() || k->used > ROOM / 2)) {
    /* unmapped and mapped anew, so that no processor runs what it has read before */
    forget(k);
    map_room(k);
  }
  return k->write;
}

code_fn *code_of(ctx *c, dtype t, const step *s, int n) {
  struct codes *k = c->code;
  uint32_t hash = t;
  for (size_t i = 0; i < n * sizeof *s / sizeof(uint16_t); i++)
    hash = (hash ^ ((const uint16_t *)s)[i]) * 0x9e3779b1u, hash ^= hash >> 15;
  known **list = &k->list[hash % LISTS], *e;
  for (e = *list; e; e = e->next)
    if (e->t == t && e->n == n && memcmp(e->s, s, n * sizeof *s) == 0) return e->f;
  if (!(e = mg_alloc(c, sizeof *e + n * sizeof *s))) return NULL;
  emitter m = {.p = (uint8_t *)k->write + k->used,
               .end = (uint8_t *)k->write + ROOM,
               .s = s,
               .n = n,
               .wide = t == F64};
  function(&m);
  if (m.p >= m.end) return mg_free(e), NULL;
  e->f = (code_fn *)(void *)(k->run + k->used);
  k->used = (m.p - (uint8_t *)k->write + 63) / 64 * 64;
  e->t = t;
  e->n = n;
  memcpy(e->s, s, n * sizeof *s);
  e->next = *list;
  *list = e;
  return e->f;
}

void code_close(ctx *c) {
  if (!c->code) return;
  forget(c->code);
  mg_free(c->code);
  c->code = NULL;
}
