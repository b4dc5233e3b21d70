/* internal.h -- what the files of the array floor share among themselves. */
#ifndef MG_ARRAY_INTERNAL_H
#define MG_ARRAY_INTERNAL_H

#include "array/array.h"

enum {
  HEAVY = 32768,    /* elements: from here on memory counts more than nodes */
  MAXNODES = 512    /* distinct pending arrays of one expression */
};

typedef union { char bytes[SMALL * 8]; double number; } tile __attribute__((aligned(64)));

static inline bool reduces(const array *a) { return a->state == PENDING && op_reduces(a->op); }
/* A reduction that ends its program: nothing is fused onto it. The others fold rows. */
static inline bool ends(const array *a) { return reduces(a) && !a->row; }
static inline dtype operand_dtype(int op, array *const *in) { return in[op == OP_where]->dtype; }

array *arr_blank(ctx *c, dtype t, const shape *s, int state);  /* no buffer yet */
bool arr_fill_in(ctx *c, array *a);                            /* ... a dense one */
void arr_adopt(array *a, buffer *b);                           /* PENDING: it is computed, and stands in b */

/* a, with one element a row, in another shape (OP_reshape) or spread along its rows (OP_broadcast_to) */
array *lazy_rows(ctx *c, int op, array *a, const shape *s);

/* Visit the pending arrays below `top` once each, operands first. visit gets every array, leaves too,
** when its operands are done; uses are counted on the way. */
uint64_t arr_mark(ctx *c);
bool arr_visit(array *top, uint64_t mark, bool (*visit)(void *, array *), void *arg);

/* A call of the machine on arrays that are READY and as fn wants them; some may be NULL. At most so many. */
enum { MAXCALLIN = 8, MAXCALLOUT = 4 };
bool arr_call(ctx *c, int op, cpu_fn *fn, const int64_t *attr, int nin, const array *const *in,
              int nout, array *const *out);

void fuse_close(ctx *c);

/* While a tape records (tape.c): where nothing stands, and what is launched is noted */
buffer *tape_buffer(ctx *c, size_t bytes);
bool tape_note(ctx *c, const launch *l);
bool tape_hold(ctx *c, const array *a);        /* a will be read: a constant of the record, unless it was recorded */
cpu_fn tape_permutation;                       /* attr: seed, counter; out: int64 */
cpu_fn tape_fill;                              /* attr: a number; out */

/* Can a, READY or CONST, be read now? What stands for values while a tape records may be met when none does:
** by a finalizer while it pauses, or later where one put it. */
static inline bool arr_readable(ctx *c, const array *a) {
  return __builtin_expect(!arr_recorded(a), 1) || c->arrays->tape || tape_refuse(c);
}

static inline buffer *arr_memory(ctx *c, size_t bytes) {
  return __builtin_expect(c->arrays->tape != NULL, 0) ? tape_buffer(c, bytes) : buf_new(c, bytes);
}

#endif
