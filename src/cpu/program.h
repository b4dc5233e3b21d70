/* program.h -- a fused expression as plain data.
**
** Values stand in the order of computation, operands first. A leaf is an input, a number or random numbers,
** and says which binding of a run it is; the others are made by an op of earlier values. Outputs are
** values that are stored, and the reductions that end the program. A program may also fold its rows on the
** way and go on with the results: `row` is their length then, and values have one element for each element
** of the shape, or (`per_row`) one for each of its rows. There are no addresses in it: equal programs are
** equal bytes, so that a program can be hashed, kept, and printed.
*/
#ifndef MG_PROGRAM_H
#define MG_PROGRAM_H

#include "base/op.h"

enum {
  MAXVALUES = 4096, /* of one program; pending arrays are gathered up to half of it (all of it while a tape records) */
  ROW = 4096        /* elements of the longest row that is folded within a program */
};

enum leaf { LEAF_NONE, LEAF_INPUT, LEAF_NUMBER, LEAF_RANDOM };

typedef struct {
  uint8_t op;      /* what makes it; OP_NONE: a leaf */
  uint8_t leaf;
  uint8_t dtype;
  uint8_t per_row; /* one element a row */
  int16_t in[3];   /* values; -1: none. A leaf: in[0] is its binding */
  int16_t space;   /* LEAF_INPUT: which of the program's spaces; -1: dense */
  int16_t power;   /* OP_powi: the exponent; 0: it is none that is multiplied out */
} pvalue;

typedef struct {
  int16_t value;
  uint8_t op;      /* the reduction of it that is stored; OP_NONE: the value itself */
  uint8_t dtype;   /* of what is stored */
} poutput;

typedef struct program {
  uint64_t hash;
  int64_t bytes;   /* of all of it */
  int64_t size;    /* elements of the shape */
  int64_t row;     /* length of the rows that values fold; 0: none does */
  int64_t n, inner; /* reductions at the end see the shape as (rows, n, inner), n reduced away; 0: there are none */
  int32_t nvalue, noutput, nspace, reserved;
  /* space[nspace], value[nvalue], output[noutput] follow */
} program;

/* Is it of single numbers? Such a one stores nothing before it has read all. */
static inline bool program_is_number(const program *p) {
  return p->size == 1 && !p->n && !p->row;
}
static inline const space *program_spaces(const program *p) { return (const space *)(p + 1); }
static inline const pvalue *program_values(const program *p) {
  return (const pvalue *)(program_spaces(p) + p->nspace);
}
static inline const poutput *program_outputs(const program *p) {
  return (const poutput *)(program_values(p) + p->nvalue);
}

void program_seal(program *p);                          /* complete: bytes and hash are set */
bool program_equal(const program *a, const program *b);
/* p with equal values once, to `to`, which is as large. Values that are stored stay: each is an output by
** itself. */
void program_merge(const program *p, program *to);
/* As text, one value a line, into buf; the length it would take */
int64_t program_text(const program *p, char *buf, int64_t room);

#endif
