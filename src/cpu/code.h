/* code.h -- machine code for loops that are element-wise: what loop.c asks of body.c and code.c. */
#ifndef MG_CODE_H
#define MG_CODE_H

#include "cpu/kern.h"

/* ---- instructions -------------------------------------------------------------------------------- */

/* What a vector instruction does with earlier results. Those below I_SOURCES are sources: a number for each
** element at at[from], one for all at at[from], one of the pool. SUM adds up in[0]: the last vector of each
** block (kern.h) goes to at[to], one after the other from byte `blocks` on. */
enum instr_op {
  I_LOAD, I_SPREAD, I_POOL, I_SOURCES,
  I_SUM = I_SOURCES,
  I_COPY, I_ADD, I_SUB, I_MUL, I_DIV, I_SQRT, I_ROUND,
  I_AND, I_ANDNOT, I_OR, I_XOR, /* ANDNOT: not in[0], and in[1] */
  I_COMPARE,                    /* gives a mask, all bits or none, as wide as the numbers */
  I_BLEND                       /* mask in[0], in[1] where it is set, in[2] elsewhere */
};
enum { LT = 0x11, LE = 0x12, GE = 0x1d, GT = 0x1e, EQ = 0, NE = 4 }; /* how to compare */
enum { NEAREST = 8, DOWN, UP, TOWARD_0 };                                     /* how to round */

enum { INSTRS = 256 };          /* of one loop, at most */

typedef struct {
  uint8_t op, how;
  int16_t in[3]; /* instructions, -1: none */
  int16_t from;  /* sources: index into at[] or the pool */
  int16_t to;    /* at[to] gets it; -1: nobody outside the loop wants it */
  int32_t ahead; /* memory so many bytes after at[from], at[to] will be wanted; 0: none */
} instr;

/* ---- bodies (body.c) ------------------------------------------------------------------------------ */

/* The body of an op in ops.def as instructions; in[]: operands 0..2, from BODY_CONST on constants, from
** BODY_TEMP on earlier instructions of the body. None: it calls a function, and is left to the kernels. */
enum { BODY_CONST = 8, BODY_TEMP = 64, BODY_LENGTH = 16, BODY_CONSTS = 8 };
typedef struct {
  int n, nconst;
  instr s[BODY_LENGTH];
  struct constant { uint8_t kind; double k; } c[BODY_CONSTS];
} body;
enum { C_NUMBER, C_ONES, C_SIGN, C_REST, C_LARGEST }; /* all bits, the sign's, all but the sign's */

const body *body_of(int op);          /* NULL: none */

/* ---- machine code (code.c) ------------------------------------------------------------------------ */

/* Elements at bytes begin..end-1 of each at[]; its numbers for all are those at byte `segment`. Elements are
** computed each by itself and in order, so at[to] may be at[from] of what is not read later. */
typedef void code_fn(char *const *at, int64_t begin, int64_t end, const void *pool, int64_t segment,
                     int64_t blocks);

enum { POOL_LINE = VECTOR };          /* bytes of a number in the pool, repeated */
void pool_line(char *line, dtype t, struct constant c);

typedef struct codes codes;
codes *codes_new(ctx *c);             /* NULL: no memory */
void codes_free(codes *k);
bool codes_ready(codes *k);           /* is there room to write? Else nothing is written here */
code_fn *codes_find(ctx *c, codes *k, dtype t, const instr *s, int n); /* NULL: no room, no memory */
uint64_t codes_age(const codes *k);   /* code got at another age is gone */
const void *codes_bytes(const codes *k, size_t *used, int64_t *pieces);

#endif
