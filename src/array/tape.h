/* tape.h -- what the files of the tape share: what is recorded (tape.c), what becomes of it (layout.c), and how it
** runs again (replay.c).
*/
#ifndef MG_TAPE_H
#define MG_TAPE_H

#include "array/internal.h"

enum kind { TEMPORARY, LEAF, CONSTANT, RESULT };

typedef struct {
  uint64_t at; /* where it begins */
  size_t bytes;
  int64_t first; /* LEAF: how far its array's first element stands behind that */
  uint8_t kind, op;
  bool live;
  int leaf;               /* LEAF: which */
  int writes, begin, end; /* launches: the first that writes it, the last that reads or writes it */
  int same;               /* the cell that has the same values */
  size_t place;           /* in the block, from 1; 0: none yet */
  buffer *held;           /* CONSTANT */
  int result;             /* RESULT: the first that stands in it */
} cell;

typedef struct {
  int cell; /* -1: nothing stands there */
  int64_t off;
  void **to; /* where a replay writes the address */
} place;

enum { CHECK = KERNEL + 1 };

typedef struct {
  launch l;
  uint8_t work; /* whom it was for */
  bool gone, into;
  int nin, nout, nattr, random; /* random: which attribute is the seed, -1; the counter follows */
  uint64_t hash;
  place *in, *out;
  view *v;               /* CALL: in, out */
  binding *leaf, *drawn; /* PROGRAM; with the random numbers of the replay under way */
  int nleaf;
  int64_t *attr, off; /* off: where a call's random numbers stand */
  imm want;           /* CHECK */
  int choice;
  void *memory, *pruned;
} noted;

typedef struct {
  array *a; /* its form; CONST, or of the same memory each time: the array itself */
  int cell;
  int64_t off;
  int over;   /* the leaf whose memory it takes over where it may, -1 */
  bool sinks; /* a Variable's new value */
} outcome;

/* An address that a replay writes: of the block, a leaf or a result, so many bytes behind it */
typedef struct {
  void **to;
  int64_t off;
  int of;
} patch;

typedef struct {
  int64_t at; /* behind the begin of what is recorded */
  uint64_t n;
} skipped_part; /* of the stream of random numbers */

struct tape {
  uint64_t next, counter, drawn;
  uint64_t skipped; /* of the stream, by what was not recorded: the first replay steps over it */
  skipped_part *skip;
  int nskip;
  cell *cell;
  noted **launch;
  outcome *result;
  int ncell, nlaunch, nresult, nleaf;
  size_t room[5];
  int *constant; /* which cells are constants */
  int nconstant;
  size_t block, apart, scratch; /* apart: were each cell in memory of its own */
  buffer *own;                  /* the block, where it is small */
  uint64_t kept;
  int threads;
  bool looked, planned, each; /* each: schedules are looked up launch by launch */
  int unlike;
  patch *patch; /* those of the block, of leaves, of results */
  int in_block, in_leaves, in_results;
  void *bound;        /* the block whose addresses stand in the launches */
  buffer *now, **buf; /* of the replay under way: the block, by result */
};

#define GROW(c, t, which, list, n)                                                                 \
  mg_grow(c, (void **)&(t)->list, &(t)->room[which], (n) * sizeof *(t)->list)

place tape_place(const tape *t, const void *p); /* where p stands */

static inline size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64 + (bytes == 0) * 64; }

#endif
