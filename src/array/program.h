/* program.h -- a fused expression as plain data: what lazy.c, fuse.c and run.c share.
**
** A program is a list of values in the order of computation, each with an address for the current
** tile: leaf memory, output memory or scratch that stays in the cache. Roots are the values that are
** stored, and the reductions fed by one, which end the program. A program may also fold its rows on the
** way and go on with the results: its tiles are whole rows then, and its values of two kinds, with one
** number for each element or one for each row. Tiles, chunks and the order in which partial results
** meet depend on shapes alone, so that the bits are the same for any number of threads.
*/
#ifndef MG_PROGRAM_H
#define MG_PROGRAM_H

#include "array/array.h"
#include "cpu/code.h"
#include "cpu/kern.h"

enum {
  SMALL = TILE / 8, /* elements: up to here ops run when called */
  CHUNK = 32768,    /* elements one thread takes at a time, about */
  ROW = 4096        /* elements of the longest row that is folded within its program */
};

typedef union { char bytes[TILE]; double number; } tile __attribute__((aligned(64)));

static inline bool reduces(const array *a) { return a->state == PENDING && op_reduces(a->op); }
/* A reduction that ends its program: nothing is fused onto it. The others fold rows. */
static inline bool ends(const array *a) { return reduces(a) && !a->row; }
static inline dtype operand_dtype(int op, array *const *in) { return in[op == OP_where]->dtype; }

/* Late: a, with one element a row, in another shape (OP_reshape) or spread along its rows
** (OP_broadcast_to). */
array *late_rows(ctx *c, int op, array *a, const shape *s);

/* ---- memory (array.c) -------------------------------------------------------------------------- */

array *arr_blank(ctx *c, dtype t, const shape *s, int state);  /* no buffer yet */
bool arr_fill_in(ctx *c, array *a);                            /* ... a dense one */
void arr_settle(array *a, buffer *b);
imm imm_load(dtype t, const void *p);
void imm_store(dtype t, void *p, imm v);
void imm_fill(dtype t, void *p, imm v, int64_t n);

/* ---- programs ---------------------------------------------------------------------------------- */

typedef struct { int n; int64_t d[MAXDIM], st[MAXDIM]; } space; /* a strided array's axes, merged where
                                                                ** they run on in each other */

typedef struct {
  array *a;
  map_fn *f;     /* instruction; NULL: leaf, or random numbers */
  int32_t in[3]; /* values it reads, -1: none */
  int32_t last;  /* the last value that reads it; itself if none */
  int32_t root;  /* the root it is, -1: none */
  int32_t slot;  /* scratch tile, -1: none */
  uint8_t esz;
  bool strided;       /* leaf: fetched through q */
  bool per_row;       /* one element a row of the program */
  bool inside;        /* of its unit alone: a register, no memory */
  bool called;        /* read by what is no step of a unit */
  bool number;        /* leaf: strided, one number a run of the units that read it */
  bool barred;        /* from being a step: a mask that is read elsewhere */
  int32_t unit;       /* which it is a step of, from 1; 0: none, a call of f */
  int32_t phase;      /* scratch of loop.c, as the two after */
  int32_t step;
  uint8_t lanes;      /* step: the dtype of the numbers it works on */
  int32_t sums;       /* ... how many sums of it there are */
  int32_t fold;       /* a sum of a step, made in its unit: the index into at of its lanes; -1: none */
  bool needed;        /* some array that stays pending will need it again */
  const char *base;   /* READY leaf: first element; root: its output */
  space q;            /* strided leaf */
} value;

/* What is done for each tile, in order. Values are many and large, and most need nothing. */
enum act { PLACE, FETCH, NUMBERS, COPY, UNIT, MAP, SPREAD, REDUCE, JOIN, RANDOM };
typedef struct {
  uint8_t kind, esz;
  bool per_row;
  int32_t i, in[3]; /* the value, its operands */
  map_fn *f;        /* MAP */
  const char *base; /* PLACE: of element 0 */
  const value *v;
} act;

typedef struct { /* values first..last, computed in one loop when the last one's turn comes */
  code_fn *f;
  int32_t first, last, pool;
  bool runs; /* it reads numbers: one run of them at a time */
} unit;

typedef struct {
  array *a;
  int32_t v; /* the value it is, or reduces where it ends the program */
  buffer *buf;
  array *from; /* the array whose buffer this is, NULL: fresh */
  acc *part;   /* reduction of rows in pieces: states[row * pieces + piece] */
  char *cols;  /* reduction of columns in pieces: (rows, pieces, inner) */
  buffer *partbuf;
  int32_t fold; /* reduction of rows: as that of a value */
  int32_t wide; /* reduction of columns: scratch tile that gathers several rows */
} root;

typedef struct {
  ctx *c;
  value *v;
  int nv, cap;
  root *r;
  int nr;
  unit *u;
  int nu;
  int nfold;       /* sums made in units: at[nv] and after are their lanes */
  char *pool;      /* numbers that the units' code reads, aligned */
  act *act;
  int nact;
  int nslot;       /* those of the lanes are the last */
  int64_t widest;  /* bytes of the widest dtype */
  size_t room;     /* bytes of a scratch tile */
  buffer *scratch; /* threads x nslot of them */
  char *filled;    /* per thread: constants stand in its scratch */
  int64_t row;                  /* values may fold rows of this length; 0: none does */
  int64_t size, rows, n, inner; /* the shape as (rows, n, inner); n, inner of the reductions that end it */
  int64_t tile, align;     /* elements of a tile; tiles longer than `align` end at its multiples */
  int64_t rpc, nb, pieces; /* a chunk: rpc whole rows, or nb of a row's n */
  int64_t jw, jblocks;     /* ... of jw columns each, where inner is long */
} prog;

/* fuse.c: visit the arrays below `top` once each, operands first; uses are counted on the way */
uint32_t plan_mark(void);
bool plan_visit(array *top, uint32_t mark, bool (*visit)(void *, array *), void *arg);

/* loop.c: gather what can be one loop, in an order that has it side by side. Values may change places. */
bool plan_units(prog *p);

/* profile.c: the work under way is this program; its buffers are there */
void profile_program(const prog *p);

/* run.c */
void prog_run(prog *p);                 /* all roots' buffers are filled */
/* Elements pos..pos+n-1 of base seen through q: where they lie, if side by side and no copy is asked
** for, else copied to buf. */
const char *strided_read(const space *q, const char *base, int esz, int64_t pos, int64_t n, char *buf,
                         bool copy);
void strided_space(space *q, const array *a); /* a is READY */
/* (rows, n, inner) at x, dense, reduced to (rows, inner) at r; a mean of columns is a sum yet: */
void reduce_block(int op, dtype t, int64_t rows, int64_t n, int64_t inner, const char *x, char *r);
void reduce_scale(dtype t, char *r, int64_t size, int64_t n);

#endif
