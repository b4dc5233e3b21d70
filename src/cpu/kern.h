/* kern.h -- the kernels: one op over one tile.
**
** Made from ops.def, once per dtype and instruction level; kern_get() gives the level this machine has.
** Within a level the same number in gives the same bits out, whatever its place in a tile, and for
** one number alone (`scalar`).
*/
#ifndef MG_KERN_H
#define MG_KERN_H

#include "cpu/acc.h"

enum { TILE = 4096 };         /* bytes of the widest value of a tile, where bits hang on its length */

/* A fold joins its running state block by block: a tile but a row's last holds some whole ones, whatever
** else its program computes. A block's vectors go to its ways in turn, ways meet in pairs (v[i], v[i +
** half]), and so do the lanes of the last: at every level the same bits. */
enum { FOLD_BLOCK = TILE / 8, FOLD_WAYS = 8, VECTOR = 32 }; /* elements; vectors of so many bytes */
enum { SHORT = FOLD_WAYS * VECTOR / 8 }; /* elements of rows that are folded side by side, at most */

/* r[i] = op(a[i], b[i], d[i]), 0 <= i < n; any alignment; r may be an operand whose elements are not
** narrower, not overlap otherwise. Operands an op does not have are not read. */
typedef void map_fn(void *r, const void *a, const void *b, const void *d, int64_t n);

typedef void spread_fn(void *r, const void *x, int64_t n, int64_t times); /* each x[i] so many times */
typedef void fold_fn(acc *s, const void *x, int64_t n, int64_t first); /* x[0] is element `first` of its row */

/* inner elements at r, and so many rows of as many at x: r = op(r, row), one after the other */
typedef void rows_fn(void *r, const void *x, int64_t rows, int64_t inner);

/* One vector in registers, of which the caller looks at some numbers: operands in the first three, the result
** in the first. */
typedef void vector_fn(void);

typedef struct {
  map_fn *map[NOP][NDTYPE];   /* by the operands' dtype (where: by that of b and d) */
  map_fn *cast[NDTYPE][NDTYPE]; /* [from][to]; b, d unused */
  fold_fn *fold[NOP][NDTYPE];
  rows_fn *each[NOP][NDTYPE]; /* (rows, n) to the result of each row, 0 < n <= FOLD_BLOCK; as by fold */
  rows_fn *rows[NOP][NDTYPE];           /* by the op that folds two rows into one */
  spread_fn *spread[NDTYPE];
  imm (*scalar[NOP][NDTYPE])(imm a, imm b, imm d); /* single numbers: see kern_numbers() */
  vector_fn *vector[NOP][NDTYPE];       /* ... by vectors of VECTOR bytes: what is DEAR, of floats */
} kernels;

EXTERN_LEVELS(kernels, mg_kernels);
extern const kernels *kern_chosen;      /* by cpu_level(), when the library was loaded */
static inline const kernels *kern_get(void) { return __atomic_load_n(&kern_chosen, __ATOMIC_RELAXED); }

/* Level v4 has none of single numbers: those of v3 give the same bits, and wider vectors would make all that
** follows them slower for a while. */
extern const kernels *kern_of_numbers;
static inline const kernels *kern_numbers(void) {
  return __atomic_load_n(&kern_of_numbers, __ATOMIC_RELAXED);
}

/* One number through an op, in dtype t: the same bits. */
static inline imm op_scalar(int op, dtype t, imm a, imm b, imm d) {
  return kern_numbers()->scalar[op][t](a, b, d);
}

#endif
