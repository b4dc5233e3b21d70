/* code.h -- machine code for steps that are element-wise: what loop.c asks of code.c. */
#ifndef MG_CODE_H
#define MG_CODE_H

#include "cpu/kern.h"

/* What a step is that is no op: a number for each element at at[from], one for all at at[from], one of
** the pool; or a sum of in[0]: the last vector of each block (kern.h) goes to at[to], one after the other
** from byte `lanes` on */
enum { STEP_LOAD = NOP, STEP_NUMBER, STEP_POOL, STEP_FOLD };
enum { STEPS = 256 }; /* of one unit, at most */

/* A value of the loop: op over earlier steps. A comparison's is a mask, all bits or none, as wide as
** the numbers. */
typedef struct {
  uint8_t op;
  int16_t in[3]; /* steps, -1: none */
  int16_t from;  /* STEP_...: index into `at` or the pool */
  int16_t to;    /* at[to] gets it; -1: nobody outside the loop wants it */
  int32_t ahead; /* memory so many bytes after at[from], at[to] will be wanted; 0: none */
} step;

/* Elements at bytes begin..end-1 of each at[]; its numbers are those at byte `number`. Elements are
** computed each by itself and in order, so at[to] may be at[from] of a step that is not read later. */
typedef void code_fn(char *const *at, int64_t begin, int64_t end, const void *pool, int64_t number,
                     int64_t lanes);

enum { POOL_LINE = VECTOR };          /* bytes of a number in the pool, repeated */
enum { POOL_BEGIN = 8 };              /* numbers that code_pool puts there first */
void code_pool(char *pool, dtype t);

bool code_knows(int op);              /* can op, of floats and masks, be a step? */
bool code_open(ctx *c);               /* room for a program's units; false: this machine has none */
code_fn *code_of(ctx *c, dtype t, const step *s, int n); /* t: F64 or F32; NULL: no room, no memory */
void code_close(ctx *c);

#endif
