/* body.c -- the bodies of ops.def as instructions, read from their text.
**
** A body is a pure expression in a, b, d; the compiler makes the kernels of it, and this file what the
** loops of machine code are written from: one text, so that both do the same operations in the same order
** and give the same bits. What it cannot read, calls of functions above all, it leaves to the kernels.
*/
#include "cpu/code.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *const text[NOP] = {
#define UNARY(name, rule, cost, body, ...) [OP_##name] = #body,
#define BINARY(name, rule, cost, body, ...) [OP_##name] = #body,
#define TERNARY(name, rule, cost, body, ...) [OP_##name] = #body,
#include "ops.def"
};

typedef struct {
  const char *at;
  body *b;
  bool logic; /* masks in and out: true is all bits */
  bool failed;
} parser;

static int refuse(parser *p) { return p->failed = true, 0; }

static void blank(parser *p) {
  while (isspace((unsigned char)*p->at)) p->at++;
}

static bool accept(parser *p, const char *token) {
  blank(p);
  size_t n = strlen(token);
  if (strncmp(p->at, token, n) != 0) return false;
  p->at += n;
  return true;
}

static void expect(parser *p, const char *token) {
  if (!accept(p, token)) refuse(p);
}

static int constant(parser *p, int kind, double k) {
  body *b = p->b;
  for (int i = 0; i < b->nconst; i++)
    if (b->c[i].kind == kind && memcmp(&b->c[i].k, &k, sizeof k) == 0) return BODY_CONST + i;
  if (b->nconst == BODY_CONSTS) return refuse(p);
  b->c[b->nconst].kind = kind;
  b->c[b->nconst].k = k;
  return BODY_CONST + b->nconst++;
}

/* One that is there already is not made again. */
static int add(parser *p, int op, int how, int x, int y, int z) {
  body *b = p->b;
  const instr s = {.op = op, .how = how, .in = {x, y, z}, .from = -1, .to = -1};
  for (int i = 0; i < b->n; i++)
    if (memcmp(&b->s[i], &s, sizeof s) == 0) return BODY_TEMP + i;
  if (b->n == BODY_LENGTH) return refuse(p);
  b->s[b->n] = s;
  return BODY_TEMP + b->n++;
}

static int zero(parser *p) { return constant(p, C_NUMBER, 0); }

static int choice(parser *p, int mask, int yes, int no) {
  if (yes == zero(p)) return add(p, I_ANDNOT, 0, mask, no, -1);
  if (no == zero(p)) return add(p, I_AND, 0, mask, yes, -1);
  return add(p, I_BLEND, 0, mask, yes, no);
}

static int expression(parser *p, int level);

static int number(parser *p) {
  double sign = accept(p, "-") ? -1 : 1;
  if (accept(p, "LARGEST")) return constant(p, C_LARGEST, sign);
  char *end;
  double k = strtod(p->at, &end);
  if (end == p->at) return refuse(p);
  p->at = end;
  if (p->logic) return constant(p, k != 0 ? C_ONES : C_NUMBER, 0);
  return constant(p, C_NUMBER, sign * k);
}

static int call(parser *p, const char *name) {
  int x[3] = {-1, -1, -1}, n = 0;
  if (strcmp(name, "K") == 0) x[n++] = number(p);
  else do
      x[n++] = expression(p, 0);
    while (n < 3 && accept(p, ","));
  expect(p, ")");
  if (strcmp(name, "K") == 0) return x[0];
  if (strcmp(name, "SEL") == 0 && n == 3) return choice(p, x[0], x[1], x[2]);
  if (n != 1) return refuse(p);
  if (strcmp(name, "ABS") == 0) return add(p, I_AND, 0, x[0], constant(p, C_REST, 0), -1);
  if (strcmp(name, "SQRT") == 0) return add(p, I_SQRT, 0, x[0], -1, -1);
  if (strcmp(name, "FLOOR") == 0) return add(p, I_ROUND, DOWN, x[0], -1, -1);
  if (strcmp(name, "CEIL") == 0) return add(p, I_ROUND, UP, x[0], -1, -1);
  if (strcmp(name, "TRUNC") == 0) return add(p, I_ROUND, TOWARD_0, x[0], -1, -1);
  if (strcmp(name, "RINT") == 0) return add(p, I_ROUND, NEAREST, x[0], -1, -1);
  return refuse(p);
}

static int primary(parser *p) {
  char name[16];
  int n = 0;
  blank(p);
  if (accept(p, "(")) {
    int x = expression(p, 0);
    expect(p, ")");
    return x;
  }
  if (accept(p, "-")) return add(p, I_XOR, 0, primary(p), constant(p, C_SIGN, 0), -1);
  if (accept(p, "~")) return add(p, I_XOR, 0, primary(p), constant(p, C_ONES, 0), -1);
  while (n < 15 && (isalnum((unsigned char)*p->at) || *p->at == '_')) name[n++] = *p->at++;
  name[n] = 0;
  if (accept(p, "(")) return call(p, name);
  if (strcmp(name, "a") == 0) return 0;
  if (strcmp(name, "b") == 0) return 1;
  if (strcmp(name, "d") == 0) return 2;
  return refuse(p);
}

/* C's binary operators, those of one level in a row; a longer token stands before its beginning */
static const struct {
  const char *token;
  uint8_t level, op, how;
} operators[] = {{"|", 0, I_OR, 0},        {"^", 1, I_XOR, 0},       {"&", 2, I_AND, 0},
                 {"==", 3, I_COMPARE, EQ}, {"!=", 3, I_COMPARE, NE}, {"<=", 4, I_COMPARE, LE},
                 {">=", 4, I_COMPARE, GE}, {"<", 4, I_COMPARE, LT},  {">", 4, I_COMPARE, GT},
                 {"+", 5, I_ADD, 0},       {"-", 5, I_SUB, 0},       {"*", 6, I_MUL, 0},
                 {"/", 6, I_DIV, 0}};
enum { LEVELS = 7, OPERATORS = sizeof operators / sizeof *operators };

static int expression(parser *p, int level) {
  if (level == LEVELS) return primary(p);
  int x = expression(p, level + 1);
  for (int i = 0; i < OPERATORS && !p->failed; i++) {
    if (operators[i].level != level || !accept(p, operators[i].token)) continue;
    x = add(p, operators[i].op, operators[i].how, x, expression(p, level + 1), -1);
    i = -1;
  }
  return x;
}

static bool read_body(int op, body *b) {
  int rule = op_table[op].rule;
  parser p = {text[op], b, rule == LOGIC, false};
  if (op == OP_broadcast_to) return add(&p, I_COPY, 0, 0, -1, -1);
  if (!text[op]) return false;
  int r = expression(&p, 0);
  blank(&p);
  /* what is an operand itself has nothing to compute */
  return !p.failed && !*p.at && r == BODY_TEMP + b->n - 1;
}

static body bodies[NOP];
static bool known[NOP];

static void read_all(void) {
  void *was = point_begin(); /* numbers have a point in any locale */
  for (int op = 1; op < NOP; op++) known[op] = read_body(op, &bodies[op]);
  point_end(was);
}

const body *body_of(int op) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, read_all);
  return known[op] ? &bodies[op] : NULL;
}

void pool_line(char *line, dtype t, struct constant c) {
  static const uint64_t wide[] = {
      [C_ONES] = ~0ull, [C_SIGN] = 1ull << 63, [C_REST] = ~(1ull << 63)};
  static const uint32_t narrow[] = {[C_ONES] = ~0u, [C_SIGN] = 1u << 31, [C_REST] = ~(1u << 31)};
  double d = c.k;
  if (c.kind == C_LARGEST) d *= t == F64 ? 0x1.fffffffffffffp1023 : 0x1.fffffep127;
  float f = (float)d;
  const void *one;
  if (c.kind == C_NUMBER || c.kind == C_LARGEST) one = t == F64 ? (const void *)&d : &f;
  else one = t == F64 ? (const void *)&wide[c.kind] : &narrow[c.kind];
  for (int i = 0; i < POOL_LINE; i += dtype_size[t]) memcpy(line + i, one, dtype_size[t]);
}
