/* op.c -- the op table. */
#include "base/op.h"

const op_info op_table[NOP] = {
#define UNARY(name, rule, cost, body, saves, vjp, doc)                                             \
  [OP_##name] = {#name, doc, 'e', 1, rule, cost, OP_NONE},
#define BINARY(name, rule, cost, body, s1, v1, s2, v2, doc)                                        \
  [OP_##name] = {#name, doc, 'e', 2, rule, cost, OP_NONE},
#define TERNARY(name, rule, cost, body, s1, v1, s2, v2, s3, v3, doc)                               \
  [OP_##name] = {#name, doc, 'e', 3, rule, cost, OP_NONE},
#define REDUCE(name, rule, step, saves, vjp, doc)                                                  \
  [OP_##name] = {#name, doc, 'r', 1, rule, DEAR, step},
#define OTHER(name, signature, saves, vjp, doc)                                                    \
  [OP_##name] = {#name, signature "\n" doc, 'o', 0, 0, 0, OP_NONE},
#include "ops.def"
};
