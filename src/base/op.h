/* op.h -- the op table as data: what each floor asks of a row of ops.def by number.
**
** Kernels are made from the rows in src/cpu/kern.c, gradients in src/graph/rules.c, Lua functions in
** src/lua/ops.c; here stands what all of them share.
*/
#ifndef MG_OP_H
#define MG_OP_H

#include "base/base.h"

enum op {
  OP_NONE,
#define UNARY(name, ...) OP_##name,
#define BINARY(name, ...) OP_##name,
#define TERNARY(name, ...) OP_##name,
#define REDUCE(name, ...) OP_##name,
#define OTHER(name, ...) OP_##name,
#include "ops.def"
  NOP
};

/* dtype rules of elementwise ops */
enum rule {
  FLOAT,   /* float in, same out; others are cast to the default float */
  ARITH,   /* float or int64 in, same out; uint8 and bool are cast to int64 */
  COMPARE, /* as ARITH in, bool out */
  TEST,    /* as FLOAT in, bool out */
  LOGIC,   /* bool in and out; numbers are cast (true where not 0) */
  CHOOSE   /* first operand bool, the other two as ARITH */
};

enum cost { CHEAP, DEAR };

typedef struct {
  const char *name, *doc;
  char kind;     /* 'e'lementwise 'r'educe 'o'ther */
  uint8_t arity; /* 'e', 'r': operands */
  uint8_t rule, cost;
  uint8_t step;  /* 'r': the op that folds two rows into one; OP_NONE: there is none */
} op_info;

extern const op_info op_table[NOP];

static inline bool op_reduces(int op) { return op_table[op].kind == 'r'; }

/* The dtype an elementwise op on operands of dtype t gives; that of a reduction */
static inline dtype op_result(int op, dtype t) {
  int rule = op_table[op].rule;
  return rule == COMPARE || rule == TEST || rule == LOGIC ? BOOL : t;
}
static inline dtype reduce_dtype(int op, dtype t) {
  return op == OP_argmax || op == OP_argmin ? I64 : t;
}

#endif
