/* code.c -- machine code: a loop of vector instructions that keeps its values in registers.
**
** For x86-64 with AVX2: an instruction works on 32 bytes of numbers and rounds as the kernels' do, so the
** bits are theirs. What always holds here:
**   - a value is in a register, or has a place in memory, or both: where it came from, where it is stored,
**     or a spill slot on the stack that it is given when its register is wanted
**   - the loop begins each turn with nothing in registers; its last turn is a copy of it that reads and
**     writes under a mask
**   - code is found again by its instructions, and stays until its memory is nearly full; then all goes at
**     once, which is a new age
**   - the memory is mapped twice, to be written and to be run: no address is both
*/
#define _GNU_SOURCE
#include "cpu/emit.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROOM = 1 << 22, LISTS = 256 };

typedef struct known {
  struct known *next;
  code_fn *f;
  uint8_t t;
  int n;
  instr s[];
} known;

struct codes {
  char *write, *run; /* the same ROOM bytes; NULL: none to be had */
  size_t used;
  int64_t pieces;
  uint64_t age;
  pid_t owner; /* a child made by fork shares the memory, and must not write into it */
  known *list[LISTS];
};

/* ---- what is written ----------------------------------------------------------------------------- */

/* The function's registers: its arguments, the end of the block under way (STOP), where sums go (OUT), the
** next of their ways (WAY), and ANY, whose value nobody counts on. */
enum { AT = RDI, HERE = RSI, END = RDX, POOL = RCX, SEGMENT = R8, BLOCKS = R9, ANY = RAX };
enum { OUT = R13, STOP = R14, WAY = R15 };

static const uint8_t address[] = {R8,  R9,  R10,
                                  R11, RBX, R12}; /* hold addresses of at[] in the loop */
enum { ADDRESSES = sizeof address };
enum { VECTORS = 15, MASK = 15 };    /* ymm0..14 hold values */
enum { WAYS = VECTORS - FOLD_WAYS }; /* from here on the ways of a sum, in a turn through them */
enum { TURN = 32 }; /* instructions, at most, of a loop that is written as turns, too */
_Static_assert((FOLD_WAYS & (FOLD_WAYS - 1)) == 0, "ways go round by a mask");
_Static_assert(BODY_TEMP + BODY_LENGTH <= INSTRS && 2 * INSTRS < INT16_MAX,
               "instructions are int16");

typedef struct {
  emitter out;
  const instr *s;
  int n, now;          /* the instruction under way */
  bool wide;           /* of doubles */
  bool masked;         /* in the copy that is masked */
  bool turn;           /* in a turn through all ways of the sums */
  int way;             /* the one under way, and the vector from HERE on; 0 elsewhere */
  uint16_t pinned;     /* registers the instruction under way needs */
  int16_t in[VECTORS]; /* the instruction whose value it holds, -1: none */
  int16_t reg[INSTRS], slot[INSTRS]; /* of each instruction; -1: none */
  int16_t next[INSTRS];              /* who reads it next, from `now` on; n: nobody */
  int16_t link[INSTRS][3];           /* who reads operand j of it after it */
  bool busy[INSTRS];                 /* spill slots */
  int frame;                         /* of them */
  int nsum;                          /* whose ways come first on the stack */
  int16_t stream[ADDRESSES];         /* the index into at[] whose address each register holds */
  int nstream;
} writer;

static void move_if_greater(writer *e, int to, int from) {
  rex(&e->out, true, to, in_reg(from));
  byte(&e->out, 0x0f);
  byte(&e->out, 0x4f);
  operand(&e->out, to, in_reg(from));
}

static void prefetch(writer *e, bool write, place m) {
  rex(&e->out, false, 0, m);
  byte(&e->out, 0x0f);
  byte(&e->out, write ? 0x0d : 0x18); /* prefetchw, prefetcht0 */
  operand(&e->out, 1, m);
}

/* A jump whose end is not known yet */
enum { JE = 0x84, JNE = 0x85, JL = 0x8c, JLE = 0x8e, JG = 0x8f };
static uint8_t *jump(writer *e, int how) {
  byte(&e->out, 0x0f);
  byte(&e->out, how);
  word(&e->out, 0);
  return e->out.p;
}
static void patch(writer *e, uint8_t *at, int32_t v) {
  if (e->out.p < e->out.end) memcpy(at - 4, &v, 4);
}
static void goes_to(writer *e, uint8_t *jump, const uint8_t *to) {
  patch(e, jump, (int32_t)(to - jump));
}
static void lands(writer *e, uint8_t *jump) { goes_to(e, jump, e->out.p); }

static void vex(writer *e, int map, int prefix, int op, int reg, int second, place m) {
  avx(&e->out, OF_32, map, prefix, op, reg, second, m);
}

static void arith(writer *e, int op, int r, int a, place b) {
  vex(e, MAP_0F, e->wide, op, r, a, b);
}

static void fetch(writer *e, int r, place m) {
  if (m.index == HERE && e->masked) vex(e, MAP_0F38, PD, V_MASKED_LOAD, r, MASK, m);
  else vex(e, MAP_0F, PS, V_LOAD, r, 0, m);
}

static void put(writer *e, int r, place m) {
  if (m.index == HERE && e->masked) vex(e, MAP_0F38, PD, V_MASKED_STORE, r, MASK, m);
  else vex(e, MAP_0F, PS, V_STORE, r, 0, m);
}

/* ---- places --------------------------------------------------------------------------------------- */

/* The pool begins with all bits and none: read from between them, they make a mask. */
enum { POOL_ONES, POOL_ZEROS, POOL_FIRST };

static place in_pool(int i) { return at_base(POOL, (POOL_FIRST + i) * POOL_LINE); }
static place on_stack(const writer *e, int i) {
  return at_base(RSP, (e->nsum * FOLD_WAYS + i) * VECTOR);
}
static place way_of(int sum, int index, int way) {
  return (place){true, RSP, index, (sum * FOLD_WAYS + way) * VECTOR};
}
static place at_entry(int i) { return at_base(AT, 8 * i); }

static place stream(writer *e, int at) {
  for (int i = 0; i < e->nstream; i++)
    if (e->stream[i] == at) return (place){true, address[i], HERE, e->way * VECTOR};
  load(&e->out, ANY, at_entry(at));
  return (place){true, ANY, HERE, e->way * VECTOR};
}

/* Where s is beside its register */
static bool has_place(const writer *e, int s) {
  return e->s[s].op < I_SOURCES || e->s[s].to >= 0 || e->slot[s] >= 0;
}

static place place_of(writer *e, int s) {
  const instr *t = &e->s[s];
  if (t->op == I_POOL) return in_pool(t->from);
  if (e->slot[s] >= 0) return on_stack(e, e->slot[s]);
  return stream(e, t->op == I_LOAD ? t->from : t->to);
}

static int take_slot(writer *e) {
  int k = 0;
  while (e->busy[k]) k++;
  e->busy[k] = true;
  if (k >= e->frame) e->frame = k + 1;
  return k;
}

/* ---- registers ------------------------------------------------------------------------------------ */

static bool is_operand(const writer *e, int s) {
  const int16_t *in = e->s[e->now].in;
  return s == in[0] || s == in[1] || s == in[2];
}

static bool ways_in_registers(const writer *e) { return e->turn && e->nsum == 1; }

/* A register; what it holds that is wanted latest gives way. */
static int take(writer *e) {
  int r = 0, latest = -1;
  for (int i = 0; i < (ways_in_registers(e) ? WAYS : VECTORS); i++) {
    if (e->pinned >> i & 1) continue;
    int s = e->in[i];
    int use = s < 0 ? INSTRS + 1 : is_operand(e, s) ? e->now : e->next[s];
    if (use > latest) latest = use, r = i;
  }
  int s = e->in[r];
  if (s >= 0) {
    if (!has_place(e, s)) put(e, r, on_stack(e, e->slot[s] = take_slot(e)));
    e->reg[s] = -1;
  }
  e->in[r] = -1;
  e->pinned |= 1 << r;
  return r;
}

static int hold(writer *e, int s, int r) {
  e->in[r] = s;
  e->pinned |= 1 << r;
  return e->reg[s] = r;
}

/* Operand k of the instruction under way, in a register */
static int reg(writer *e, int k) {
  int s = e->s[e->now].in[k];
  if (e->reg[s] >= 0) return hold(e, s, e->reg[s]);
  int r = take(e);
  fetch(e, r, place_of(e, s));
  return hold(e, s, r);
}

static bool read_later(const writer *e, int s) { return e->next[s] < e->n; }

/* ... or where it is: nothing is gained by a register that is read once, unless under the mask */
static place anywhere(writer *e, int k) {
  int s = e->s[e->now].in[k];
  bool still = e->s[s].op == I_POOL || e->slot[s] >= 0;
  if (e->reg[s] < 0 && (still || (!e->masked && !read_later(e, s)))) return place_of(e, s);
  return in_reg(reg(e, k));
}

/* Who reads each value next, once instruction `now` has begun */
static void advance(writer *e) {
  for (int j = 0; j < 3; j++) {
    int s = e->s[e->now].in[j];
    if (s >= 0) e->next[s] = e->link[e->now][j];
  }
}

static void find_readers(writer *e) {
  for (int i = 0; i < e->n; i++) e->next[i] = (int16_t)e->n;
  for (int i = e->n - 1; i >= 0; i--) {
    for (int j = 0; j < 3; j++)
      if (e->s[i].in[j] >= 0) e->link[i][j] = e->next[e->s[i].in[j]];
    for (int j = 0; j < 3; j++)
      if (e->s[i].in[j] >= 0) e->next[e->s[i].in[j]] = (int16_t)i;
  }
}

/* Registers of values that are not read after the instruction under way */
static void release(writer *e) {
  for (int r = 0; r < VECTORS; r++) {
    int s = e->in[r];
    if (s >= 0 && !read_later(e, s)) e->in[r] = e->reg[s] = -1;
  }
}

/* ... and their spill slots, once it is done: until then it may read them there */
static void release_slots(writer *e) {
  for (int j = 0; j < 3; j++) {
    int s = e->s[e->now].in[j];
    if (s >= 0 && !read_later(e, s) && e->slot[s] >= 0 && e->s[s].op >= I_SOURCES)
      e->busy[e->slot[s]] = false;
  }
}

/* The register of the result: operands have theirs before it is chosen, as it may be one of them. */
static int result(writer *e) {
  release(e);
  e->pinned = 0;
  return take(e);
}

/* ---- the loop -------------------------------------------------------------------------------------- */

static const uint8_t opcode[] = {[I_ADD] = V_ADD, [I_SUB] = V_SUB, [I_MUL] = V_MUL,
                                 [I_DIV] = V_DIV, [I_AND] = V_AND, [I_ANDNOT] = V_ANDNOT,
                                 [I_OR] = V_OR,   [I_XOR] = V_XOR, [I_COMPARE] = V_COMPARE};

/* One instruction: its value is then in the register given back. */
static int write_one(writer *e, const instr *s) {
  int r, a, b;
  place m;
  switch (s->op) {
    case I_COPY:
      m = anywhere(e, 0);
      fetch(e, r = result(e), m);
      return r;
    case I_SQRT:
      m = anywhere(e, 0);
      arith(e, V_SQRT, r = result(e), 0, m);
      return r;
    case I_ROUND:
      m = anywhere(e, 0);
      vex(e, MAP_0F3A, PD, V_ROUND + e->wide, r = result(e), 0, m);
      byte(&e->out, s->how);
      return r;
    case I_BLEND:
      a = reg(e, 0);
      b = reg(e, 2);
      m = anywhere(e, 1);
      vex(e, MAP_0F3A, PD, V_BLEND, r = result(e), b, m);
      byte(&e->out, a << 4);
      return r;
    default:
      a = reg(e, 0);
      m = anywhere(e, 1);
      arith(e, opcode[s->op], r = result(e), a, m);
      if (s->op == I_COMPARE) byte(&e->out, s->how);
      return r;
  }
}

/* One more vector to one of a sum's ways; under the mask the others are 0. */
static void write_sum(writer *e, int sum) {
  int a = reg(e, 0);
  if (ways_in_registers(e)) {
    arith(e, V_ADD, WAYS + e->way, a, in_reg(WAYS + e->way));
    return;
  }
  int t = take(e);
  place way = way_of(sum, e->turn ? 0 : WAY, e->way);
  if (e->masked) arith(e, V_AND, t, a, in_reg(MASK)), a = t;
  arith(e, V_ADD, t, a, way);
  put(e, t, way);
}

static void write_body(writer *e) {
  int sum = 0;
  memset(e->reg, -1, sizeof e->reg);
  memset(e->in, -1, sizeof e->in);
  for (int i = 0; i < e->n; i++)
    if (e->s[i].op != I_SPREAD) e->slot[i] = -1;
  find_readers(e);
  for (e->now = 0; e->now < e->n; e->now++) {
    const instr *s = &e->s[e->now];
    if (s->op < I_SOURCES) continue;
    e->pinned = 0;
    advance(e);
    if (s->op == I_SUM) write_sum(e, sum++);
    else {
      int r = write_one(e, s);
      hold(e, e->now, r);
      if (s->to >= 0) put(e, r, stream(e, s->to));
    }
    release(e);
    release_slots(e);
  }
}

/* The ways of each sum together, and out */
static void join_ways(writer *e) {
  int sum = 0;
  for (int i = 0; i < e->n; i++) {
    if (e->s[i].op != I_SUM) continue;
    for (int w = 0; w < FOLD_WAYS / 2; w++) {
      fetch(e, w, way_of(sum, 0, w));
      arith(e, V_ADD, w, w, way_of(sum, 0, w + FOLD_WAYS / 2));
    }
    for (int half = FOLD_WAYS / 4; half; half /= 2)
      for (int w = 0; w < half; w++) arith(e, V_ADD, w, w, in_reg(w + half));
    place m = stream(e, e->s[i].to);
    m.index = OUT;
    put(e, 0, m);
    sum++;
  }
}

/* Ask for the memory that the next tiles read and write: what lies between two loops over a tile would
** otherwise wait for it. */
static void look_ahead(writer *e) {
  for (int i = 0; i < e->n; i++) {
    const instr *s = &e->s[i];
    if (!s->ahead) continue;
    place m = stream(e, s->op == I_LOAD ? s->from : s->to);
    m.at += s->ahead;
    prefetch(e, s->to >= 0, m);
  }
}

/* Turns through all ways of the sums, while there are as many vectors before STOP + 32: no way is read soon
** after it was written, and those of a single sum are in registers meanwhile */
static void write_turns(writer *e) {
  const place last = at_base(HERE, (FOLD_WAYS - 1) * VECTOR);
  lea(&e->out, ANY, last);
  compare_regs(&e->out, ANY, STOP);
  uint8_t *none = jump(e, JG);
  e->turn = true;
  for (int w = 0; ways_in_registers(e) && w < FOLD_WAYS; w++) fetch(e, WAYS + w, way_of(0, 0, w));
  const uint8_t *top = e->out.p;
  for (; e->way < FOLD_WAYS; e->way++) {
    if (e->way % 2 == 0) look_ahead(e);
    write_body(e);
  }
  e->way = 0;
  by_number(&e->out, BY_ADD, HERE, FOLD_WAYS * VECTOR);
  lea(&e->out, ANY, last);
  compare_regs(&e->out, ANY, STOP);
  goes_to(e, jump(e, JLE), top);
  for (int w = 0; ways_in_registers(e) && w < FOLD_WAYS; w++) put(e, WAYS + w, way_of(0, 0, w));
  e->turn = false;
  lands(e, none);
}

/* The loop over one block, which ends before STOP + 32, and what is left of the last one under the mask */
static void write_block(writer *e) {
  if (e->nsum && e->n <= TURN) write_turns(e);
  compare_regs(&e->out, HERE, STOP);
  uint8_t *none = jump(e, JG), *top = e->out.p;
  look_ahead(e);
  write_body(e);
  if (e->nsum) {
    by_number(&e->out, BY_ADD, WAY, VECTOR);
    by_number(&e->out, BY_AND, WAY, FOLD_WAYS * VECTOR - 1);
  }
  by_number(&e->out, BY_ADD, HERE, VECTOR);
  compare_regs(&e->out, HERE, STOP);
  goes_to(e, jump(e, JLE), top);
  lands(e, none);
  compare_regs(&e->out, STOP, END);
  uint8_t *more = jump(e, JNE);
  by_number(&e->out, BY_ADD, STOP, VECTOR);
  subtract(&e->out, STOP, HERE);
  uint8_t *even = jump(e, JE);
  negate(&e->out, STOP); /* as many bytes before the zeros as are left: the mask */
  fetch(e, MASK, (place){true, POOL, STOP, POOL_ZEROS * POOL_LINE});
  e->masked = true;
  write_body(e);
  e->masked = false;
  by_number(&e->out, BY_ADD, HERE, VECTOR);
  lands(e, more);
  lands(e, even);
}

/* ---- the function ---------------------------------------------------------------------------------- */

static void add_stream(writer *e, int at) {
  for (int i = 0; i < e->nstream; i++)
    if (e->stream[i] == at) return;
  if (e->nstream < ADDRESSES) e->stream[e->nstream++] = at;
}

/* Numbers for all: to the stack, where they stay */
static void load_numbers(writer *e) {
  for (int i = 0; i < e->n; i++) {
    if (e->s[i].op != I_SPREAD) continue;
    load(&e->out, ANY, at_entry(e->s[i].from));
    add_to(&e->out, ANY, SEGMENT);
    vex(e, MAP_0F38, PD, e->wide ? V_BROADCAST_F64 : V_BROADCAST_F32, 0, 0, at_base(ANY, 0));
    put(e, 0, on_stack(e, e->slot[i] = take_slot(e)));
  }
}

static void write_function(writer *e) {
  static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15};
  memset(e->slot, -1, sizeof e->slot);
  for (int i = 0; i < e->n; i++) {
    const instr *s = &e->s[i];
    if (s->op == I_LOAD) add_stream(e, s->from);
    if (s->to >= 0) add_stream(e, s->to);
    e->nsum += s->op == I_SUM;
  }
  for (int i = 0; i < 6; i++) push(&e->out, saved[i]);
  move(&e->out, RBP, RSP);
  uint8_t *frame = by_number(&e->out, BY_SUB, RSP, 0);
  by_number(&e->out, BY_AND, RSP, -VECTOR);
  load_numbers(e);
  move(&e->out, OUT, BLOCKS);
  for (int i = 0; i < e->nstream; i++) load(&e->out, address[i], at_entry(e->stream[i]));
  by_number(&e->out, BY_SUB, END, VECTOR);
  if (!e->nsum) {
    move(&e->out, STOP, END); /* all is one block */
    write_block(e);
  } else {
    const uint8_t *block = e->out.p;
    vex(e, MAP_0F, PS, V_XOR, 0, 0, in_reg(0));
    for (int i = 0; i < e->nsum * FOLD_WAYS; i++) put(e, 0, way_of(0, 0, i));
    int_op(&e->out, INT_XOR, WAY, in_reg(WAY));
    lea(&e->out, STOP, at_base(HERE, FOLD_BLOCK * (e->wide ? 8 : 4) - VECTOR));
    compare_regs(&e->out, STOP, END);
    move_if_greater(e, STOP, END);
    write_block(e);
    join_ways(e);
    by_number(&e->out, BY_ADD, OUT, VECTOR);
    lea(&e->out, STOP, at_base(END, VECTOR));
    compare_regs(&e->out, HERE, STOP);
    goes_to(e, jump(e, JL), block);
  }
  move(&e->out, RSP, RBP);
  for (int i = 5; i >= 0; i--) pop(&e->out, saved[i]);
  zero_upper(&e->out);
  ret(&e->out);
  patch(e, frame, (e->nsum * FOLD_WAYS + e->frame) * VECTOR);
}

/* ---- what is known ------------------------------------------------------------------------------ */

static void forget(codes *k) {
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
  k->pieces = 0;
  k->age++;
}

static char *map(int file, int how) {
  void *p = mmap(NULL, ROOM, how, MAP_SHARED, file, 0);
  return p == MAP_FAILED ? NULL : p;
}

static void map_room(codes *k) {
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

codes *codes_new(ctx *c) {
  codes *k = mg_alloc(c, sizeof *k);
  if (!k) return NULL;
  memset(k, 0, sizeof *k);
  if (cpu_level() >= 3) map_room(k);
  return k;
}

void codes_free(codes *k) {
  if (!k) return;
  forget(k);
  mg_free(k);
}

bool codes_ready(codes *k) {
  if (k->write && (k->owner != getpid() || k->used > ROOM / 2)) {
    /* unmapped and mapped anew, so that no processor runs what it has read before */
    forget(k);
    map_room(k);
  }
  return k->write;
}

uint64_t codes_age(const codes *k) { return k->age; }

const void *codes_bytes(const codes *k, size_t *used, int64_t *pieces) {
  *used = k->used;
  *pieces = k->pieces;
  return k->run;
}

static uint32_t hash_of(dtype t, const instr *s, int n) {
  uint64_t h = t;
  for (int i = 0; i < n; i++) {
    uint64_t w[2];
    _Static_assert(sizeof w == sizeof *s, "an instruction has no gaps");
    memcpy(w, &s[i], sizeof w);
    h = (h ^ w[0]) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ w[1]) * 0x9e3779b97f4a7c15u;
    h ^= h >> 31;
  }
  return (uint32_t)(h >> 32);
}

emitter codes_begin(codes *k) {
  return (emitter){(uint8_t *)k->write + k->used, (uint8_t *)k->write + ROOM};
}

void (*codes_end(codes *k, const emitter *e))(void) {
  if (e->p >= e->end) return NULL;
  void *f = k->run + k->used;
  k->used = (e->p - (uint8_t *)k->write + 63) / 64 * 64;
  k->pieces++;
  return (void (*)(void))f;
}

code_fn *codes_find(ctx *c, codes *k, dtype t, const instr *s, int n) {
  known **list = &k->list[hash_of(t, s, n) % LISTS], *e;
  for (e = *list; e; e = e->next)
    if (e->t == t && e->n == n && memcmp(e->s, s, n * sizeof *s) == 0) return e->f;
  if (!(e = mg_alloc(c, sizeof *e + n * sizeof *s))) return NULL;
  writer w = {.out = codes_begin(k), .s = s, .n = n, .wide = t == F64};
  write_function(&w);
  if (!(e->f = (code_fn *)codes_end(k, &w.out))) return mg_free(e), NULL;
  e->t = t;
  e->n = n;
  memcpy(e->s, s, n * sizeof *s);
  e->next = *list;
  *list = e;
  return e->f;
}
