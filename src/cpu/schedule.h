/* schedule.h -- how a program is run here: what schedule.c plans, loop.c finds loops for, and run.c does. */
#ifndef MG_SCHEDULE_H
#define MG_SCHEDULE_H

#include "cpu/code.h"
#include "cpu/cpu.h"

enum { CHUNK = 32768 }; /* elements one thread takes at a time, about */
_Static_assert(4 * MAXVALUES <= INT16_MAX, "values, and the sums of their blocks, are counted in 16 bits");
_Static_assert(CHUNK % FOLD_BLOCK == 0 && TILE % (8 * FOLD_BLOCK) == 0, "splits end with blocks");

/* ---- how the work is cut ------------------------------------------------------------------------- */

/* What one thread takes at a time */
enum chunk_kind {
  WHOLE_ROWS,    /* of (n, inner), several */
  SPLIT_OF_ROW,  /* some of the n of one row, with all of inner */
  BLOCK_OF_COLS  /* some of the n of one row, and of each some of inner */
};

/* What a tile is to the reductions that end the program. The bits hang on it, so it hangs on the program
** alone: its shape and its widest dtype. */
enum fold_kind {
  NO_FOLD,
  ROWS_IN_TILE,  /* inner == 1: a tile holds whole rows, each reduced there and then */
  ROW_BY_TILES,  /* inner == 1: a row is longer; its state is carried from tile to tile */
  COLS_IN_TILE,  /* a tile holds whole (n, inner), each reduced there and then */
  COLS_GATHERED, /* a tile holds some short rows: they are added up as they stand, put together at the end */
  COLS_BY_ROWS,  /* a tile holds some long rows: added to the result one by one */
  COLS_BY_PARTS  /* a tile is a part of one row: added to its part of the result */
};

typedef struct {
  int64_t rows, n, inner;       /* the shape; without a reduction at its end n is all, or what rows there are */
  int64_t whole;                /* n * inner */
  int64_t tile;                 /* elements computed at a time */
  int64_t align;                /* tiles that are shorter than it end at its multiples */
  enum chunk_kind kind;
  int64_t rows_per_chunk, n_per_split, splits, cols_per_block, col_blocks, chunks;
  enum fold_kind fold;
  int64_t widest;               /* bytes of the widest dtype */
  size_t room;                  /* bytes of a scratch tile */
} cut;

/* ---- what is done for each tile, in order --------------------------------------------------------- */

enum act_kind {
  PLACE_INPUT, PLACE_OUTPUT,    /* where the tile lies in an input, an output */
  FETCH,                        /* a strided input, to scratch if it must */
  ONE_A_SEGMENT,                /* of a strided input that is the same along each row */
  RUN_LOOP, RUN_KERNEL,
  SPREAD,                       /* one element a row, repeated along the rows */
  REDUCE_ROWS, JOIN_ROWS,       /* rows folded here; that were added up in a loop */
  FILL_RANDOM
};

typedef struct {
  uint8_t kind, esz, op, dtype;
  bool per_row;
  int16_t i, in[3];             /* which entries of at[]: the value's, its operands' */
  int16_t slot;                 /* scratch tile */
  int16_t bound;                /* binding or output */
  int16_t extra;                /* RUN_LOOP: the loop. JOIN_ROWS: that of at[] with the sums of blocks */
  map_fn *f;                    /* RUN_KERNEL */
  const space *q;
  int64_t panel;                /* FETCH: where in a thread's scratch a CHUNK is read to at once; -1 */
} act;

/* Values that are computed in one loop of machine code, when the last one's turn comes */
typedef struct {
  code_fn *f;
  int32_t pool;                 /* its first line */
  uint8_t esz;
  bool segments;                /* it is called for each row or part of one: it reads numbers for all of it, or
                                ** adds up */
} loop;

typedef struct {
  int16_t value, blocks;        /* entries of at[]; blocks: -1, or where a loop left the sums of its blocks */
  int16_t wide;                 /* COLS_GATHERED: scratch tile */
  uint8_t op;                   /* OP_NONE: stored as it is made */
  uint8_t from, dtype;          /* of the value, of what is stored */
  bool floats;                  /* sums of columns of float32 */
  int64_t sums;                 /* those of runs: where in a thread's scratch; -1: a run is all there is */
} output;

typedef struct { int16_t entry, slot, bound; uint8_t dtype; } constant_tile; /* a LEAF_NUMBER that kernels read */
typedef struct { int32_t line; int16_t bound; uint8_t dtype; } pool_number;  /* ... that loops read */

/* A program of single numbers as one function (scalar.c), and the random numbers that its block of memory has
** where it begins */
typedef void scalar_fn(const binding *leaf, void *const *out, char *block);
typedef struct { int32_t at; int16_t bound; uint8_t dtype; } drawn;

struct schedule {
  schedule *next;               /* of its hash */
  uint64_t age;                 /* of its machine code */
  scalar_fn *scalar;            /* NULL: tiles, acts */
  int32_t block;                /* bytes it takes */
  int ndrawn;
  drawn *drawn;
  cut cut;
  int nvalue, nblocks;          /* entries of at[]: values, then sums of blocks */
  int nslot;                    /* scratch tiles; those of the sums of blocks are the last */
  size_t each;                  /* bytes of a thread's scratch: the tiles, sums of runs */
  int nact, nloop, noutput, nconst, nnumber;
  act *act;
  loop *loop;
  output *output;
  constant_tile *constant;
  pool_number *number;
  char *pool;                   /* numbers are filled in for each run */
  int16_t *slot;                /* of each value, -1: none */
  int32_t *last;                /* position of the last that reads it, its own if none */
  int32_t *position;            /* of each value in the order of computation */
  void *memory, *pool_memory;   /* where the arrays and the pool stand */
  const program *asked;         /* the program it is made for */
  program p;                    /* ... with equal values once; its values follow */
};

/* ---- planning (loop.c fills in what it finds) ------------------------------------------------------- */

typedef struct {
  int16_t loop;                 /* from 1; 0: a call of a kernel, or no op */
  int16_t phase;
  int16_t wanted;               /* the earliest phase whose loop reads it; 0: others do, too */
  int16_t output;               /* it is stored as this; -1 */
  int16_t sums;                 /* how many sums of it there are */
  int16_t blocks;               /* it is a sum of rows, made in a loop: the entry with those of blocks; -1 */
  int16_t instr;                /* within the loop being written */
  uint8_t width;                /* dtype of the numbers its loop works on */
  bool in_register;             /* of its loop alone: no memory */
  bool called;                  /* read by what is no instruction of a loop */
  bool per_segment;             /* a strided leaf, the same along each row, that only loops read */
  bool barred;                  /* from loops: a mask that is read elsewhere */
} note;

typedef struct planner {
  ctx *c;
  schedule *s;
  const program *p;
  const pvalue *v;
  const poutput *o;
  const space *q;
  codes *codes;                 /* NULL: kernels do all */
  note *note;
  int32_t *order;               /* the values in the order of computation */
  int16_t *output_blocks;
  int npool;                    /* lines */
} planner;

/* Which values are loops; the order has each side by side. False: no memory. */
bool loops_find(planner *p);
/* Writes their code. False: no memory (see the ctx), or no room: plan without. */
bool loops_write(planner *p);
/* More lines of the pool than the loops found will need */
int loops_most_pool(const planner *p);

/* The code of a program of single numbers. False: no memory (see the ctx), or no room: plan without. */
bool scalar_plan(ctx *c, codes *k, schedule *s);

void cpu_count_run(ctx *c, const schedule *s);

#endif
