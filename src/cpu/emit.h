/* emit.h -- x86-64 instructions as bytes: what code.c and scalar.c write functions with.
**
** What does not fit any more is dropped; who wrote it sees that by p == end.
*/
#ifndef MG_EMIT_H
#define MG_EMIT_H

#include <string.h>

#include "cpu/code.h"

typedef struct { uint8_t *p, *end; } emitter;

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

/* An operand in memory, or the register `base` where !memory */
typedef struct {
  bool memory;
  int8_t base, index; /* index: added; 0: none */
  int32_t at;
} place;

static inline place in_reg(int r) { return (place){.base = (int8_t)r}; }
static inline place at_base(int base, int32_t at) { return (place){true, (int8_t)base, 0, at}; }

static inline void byte(emitter *e, int b) {
  if (e->p < e->end) *e->p++ = (uint8_t)b;
}

static inline void word(emitter *e, int32_t v) {
  for (int i = 0; i < 4; i++) byte(e, v >> 8 * i & 255);
}

/* How an operand is written after the opcode: mod, reg and r/m, the index, the displacement */
static inline void operand(emitter *e, int reg, place m) {
  int low = m.base & 7, mod = 3; /* `at`: not written, in 1 byte or 4; 3: a register */
  if (m.memory) mod = m.at == 0 && low != RBP ? 0 : m.at == (int8_t)m.at ? 1 : 2;
  bool sib = m.memory && (m.index || low == RSP);
  byte(e, mod << 6 | (reg & 7) << 3 | (sib ? RSP : low));
  if (sib) byte(e, (m.index ? m.index & 7 : RSP) << 3 | low);
  if (mod == 1) byte(e, m.at);
  if (mod == 2) word(e, m.at);
}

/* ---- instructions of whole registers ------------------------------------------------------------- */

enum {
  INT_ADD = 0x01,
  INT_SUB_CARRY = 0x19,
  INT_SUB = 0x29,
  INT_XOR = 0x31,
  INT_CMP = 0x39,
  INT_STORE_BYTE = 0x88,
  INT_STORE = 0x89,
  INT_LOAD = 0x8b,
  INT_LEA = 0x8d
};

static inline void rex(emitter *e, bool wide, int reg, place m) {
  byte(e, 0x40 | wide << 3 | (reg >= 8) << 2 | (m.index >= 8) << 1 | (m.base >= 8));
}

static inline void int_op(emitter *e, int op, int reg, place m) { /* 64 bits wide */
  rex(e, true, reg, m);
  byte(e, op);
  operand(e, reg, m);
}

static inline void move(emitter *e, int to, int from) { int_op(e, INT_STORE, from, in_reg(to)); }
static inline void load(emitter *e, int to, place from) { int_op(e, INT_LOAD, to, from); }
static inline void lea(emitter *e, int to, place of) { int_op(e, INT_LEA, to, of); }
static inline void add_to(emitter *e, int to, int r) { int_op(e, INT_ADD, r, in_reg(to)); }
static inline void subtract(emitter *e, int from, int r) { int_op(e, INT_SUB, r, in_reg(from)); }
static inline void compare_regs(emitter *e, int a, int b) { int_op(e, INT_CMP, b, in_reg(a)); }

/* The group of opcode 0x81: by a number of 32 bits, which `digit` says */
enum { BY_ADD = 0, BY_AND = 4, BY_SUB = 5 };
static inline uint8_t *by_number(emitter *e, int digit, int r,
                                 int32_t k) { /* the number's end: to be patched */
  int_op(e, 0x81, digit, in_reg(r));
  word(e, k);
  return e->p;
}

static inline void negate(emitter *e, int r) { int_op(e, 0xf7, 3, in_reg(r)); }

static inline void push(emitter *e, int r) {
  if (r >= 8) byte(e, 0x41);
  byte(e, 0x50 + (r & 7));
}
static inline void pop(emitter *e, int r) {
  if (r >= 8) byte(e, 0x41);
  byte(e, 0x58 + (r & 7));
}

static inline void ret(emitter *e) { byte(e, 0xc3); }

/* ---- vector instructions -------------------------------------------------------------------------- */

/* The opcode maps, the prefixes, and opcodes of each map. SS and SD: of the lowest number alone */
enum { MAP_0F = 1, MAP_0F38, MAP_0F3A };
enum { PS, PD, SS, SD };
enum {
  V_LOAD = 0x10,
  V_STORE = 0x11,
  V_LOAD_HIGH = 0x16, /* the second double */
  V_EXTEND = 0x25,    /* MAP_0F38: ints to twice their width */
  V_MOVE = 0x28,
  V_SQRT = 0x51,
  V_AND = 0x54,
  V_ANDNOT,
  V_OR,
  V_XOR,
  V_ADD,
  V_MUL,
  V_CONVERT,
  V_SUB = 0x5c,
  V_DIV = 0x5e,
  V_FROM_INT = 0x6e,
  V_TO_INT = 0x7e,
  V_COMPARE = 0xc2
};
enum { V_BROADCAST_F32 = 0x18, V_BROADCAST_F64, V_MASKED_LOAD = 0x2c, V_MASKED_STORE = 0x2e };
enum {
  V_ROUND = 8, /* + wide */
  V_ROUND_ONE = 10,
  V_MIX_F32 = 12,
  V_MIX_F64,
  V_INSERT_HALF = 0x18,
  V_INSERT_F32 = 0x21,
  V_BLEND = 0x4a
};
enum { V_64 = 0x80 }; /* beside a prefix: the whole register is 64 bits wide */

/* One of AVX, of 32 bytes or 16: register, second register, last operand */
enum { OF_16, OF_32 };
static inline void avx(emitter *e, int length, int map, int prefix, int op, int reg, int second,
                       place m) {
  byte(e, 0xc4);
  byte(e, (reg < 8) << 7 | (m.index < 8) << 6 | (m.base < 8) << 5 | map);
  byte(e, (~second & 15) << 3 | length << 2 | prefix);
  byte(e, op);
  operand(e, reg, m);
}

static inline void zero_upper(emitter *e) { byte(e, 0xc5), byte(e, 0xf8), byte(e, 0x77); }

/* ---- where they are kept --------------------------------------------------------------------------- */

/* A function of another form, written from where begin says on; it is called at what end gives, NULL: it did
** not fit */
emitter codes_begin(codes *k);
void (*codes_end(codes *k, const emitter *e))(void);

#endif
