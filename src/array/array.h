/* array.h -- n-d blocks of numbers, computed late.
**
** An array is READY (values in a buffer), CONST (one number everywhere, no buffer) or PENDING (an
** expression not computed yet: the array is the expression's node). Its values never change while
** anyone else can see it. Pending arrays hold their operands; evaluation turns them READY and lets go.
** Counts are not atomic: an array belongs to one ctx.
*/
#ifndef MG_ARRAY_H
#define MG_ARRAY_H

#include "base/op.h"

/* ---- arrays --------------------------------------------------------------------------------- */

enum state { PENDING, READY, CONST };

typedef struct array array;
struct array {
  int32_t refs;               /* everybody who holds it */
  int32_t saved;              /* of these, Functions whose vjp will read it */
  uint8_t dtype, state;
  uint8_t op, nin;            /* PENDING: elementwise, to, rand, a reduction; reshape and broadcast_to
                              ** of what has one element a row */
  uint8_t passes;             /* evaluations that computed it without storing it */
  bool per_row;               /* PENDING: it has one element for each of these rows, not for each of theirs */
  uint16_t nodes;             /* PENDING: upper bound of pending arrays below, itself included */
  int64_t row;                /* PENDING: length of the rows that reductions below fold; 0: there are none */
  array *in[3];               /* PENDING: operands */
  imm k;                      /* CONST: the number. RANDOM: the counter (the seed in `off`) */
  int64_t rows, n, inner;     /* a reduction: x seen as (rows, n, inner), n reduced away */
  buffer *buf;                /* READY */
  int64_t off;                /* READY: the first element, in elements */
  shape s;
  int64_t size;
  int64_t stride[MAXDIM];     /* READY: in elements; any sign; 0 where broadcast */
  uint32_t mark;              /* scratch of the plan being made */
  int32_t val;
  int32_t uses;
  array *next;                /* scratch of the iterative free; of the spare ones */
  ctx *home;                  /* the ctx it belongs to */
};

array *arr_new(ctx *c, dtype t, const shape *s);              /* READY, contiguous, not cleared */
array *arr_const(ctx *c, dtype t, const shape *s, imm k);
array *arr_scalar(ctx *c, dtype t, imm k);                    /* CONST, 0-d */
array *arr_random(ctx *c, dtype t, const shape *s);           /* uniform [0,1), from the stream; F64 F32 */
array *arr_iota(ctx *c, dtype t, int64_t n, imm first, imm step); /* first + i*step; READY */
static inline array *arr_ref(array *a) { a->refs++; return a; }
void arr_unref(array *a);                                     /* NULL is fine; frees iteratively */
void arr_empty(array *a);                                     /* READY and the caller's alone: the shape stays, a CONST */
void arr_close(ctx *c);                                       /* gives back what the ctx keeps for later */

/* READY and CONST arrays answer at once; PENDING ones are evaluated first. NULL or false: see ctx. */
bool arr_ready(ctx *c, array *a);                             /* make a READY or CONST */
array *arr_contiguous(ctx *c, array *a);                      /* a new reference: READY, dense, C order */
bool arr_is_contiguous(const array *a);                       /* READY and dense in C order */
void *arr_data(const array *a);                               /* READY: address of the first element */
bool arr_get(ctx *c, array *a, imm *v);                       /* the value of a size-1 array */

/* Elementwise, late: operands have shape s (CONST ones may have any shape). The operands' dtypes
** fit the op's rule already. One new reference. */
array *arr_map(ctx *c, int op, int nin, array *const *in, const shape *s);
array *arr_cast(ctx *c, array *a, dtype t);                   /* late; a itself where t is its dtype */
/* Reduce adjacent axes first..last (0-based, inclusive) of a; late. Axis kept as 1 where keepdims. */
array *arr_reduce(ctx *c, int op, array *a, int first, int last, bool keepdims);

/* Views: the same buffer seen otherwise (evaluates a, mostly). New references. */
array *arr_view(ctx *c, array *a, const shape *s, const int64_t *stride, int64_t off);
array *arr_reshape(ctx *c, array *a, const shape *s);         /* view where possible, else a copy */
array *arr_permute(ctx *c, array *a, const int *perm);        /* result axis i is axis perm[i] */
array *arr_broadcast(ctx *c, array *a, const shape *s);       /* a's shape fits s; late where a is a
                                                              ** pending number a row of s */
/* x[first : : step] of shape s, axis by axis; small results of big buffers are copied. */
array *arr_slice(ctx *c, array *a, const shape *s, const int64_t *first, const int64_t *step);

/* Several evaluations in one go: every a[i] becomes READY. olds[i], where not NULL, is an array
** whose buffer a[i] may take over if only the caller's one reference and a[i]'s own expression
** hold it (olds[i] is then left READY but must be dropped by the caller). All or nothing. */
bool arr_eval(ctx *c, int n, array *const *a, array *const *olds);

/* ---- what is not elementwise (computed at once; results READY) -------------------------------- */

array *arr_cat(ctx *c, int n, array *const *a, int axis);     /* same dtype; shapes fit (checked above) */
/* dst is READY, contiguous and the caller's alone: dst[first : : step] += src, in place */
bool arr_add_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src);
bool arr_set_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src);
/* idx: int64, values 1..n or -n..-1, checked by arr_check_index */
int64_t arr_check_index(ctx *c, array *idx, int64_t n);       /* 1-based position of the first bad one, 0: none, -1: memory */
array *arr_take(ctx *c, array *a, int axis, array *idx);      /* idx 1-d: a's shape, axis replaced by #idx */
bool arr_add_take(ctx *c, array *dst, int axis, array *idx, array *src);   /* its adjoint, in place */
array *arr_gather(ctx *c, array *a, int axis, array *idx);    /* idx of a's rank; r[..i..] = a[..idx[..i..]..] */
bool arr_add_gather(ctx *c, array *dst, int axis, array *idx, array *src);
array *arr_nonzero(ctx *c, array *mask);                      /* 1-d int64, 1-based, C order */
array *arr_cumsum(ctx *c, array *a, int axis);
/* y[i] from y[i - 1] and x[i], a[i] (a: NULL where op needs none) along an axis, or from its end; *at
** (NULL: not asked for): where the values stand. op: one of cpu/scan.c, that knows x's dtype */
array *arr_scan(ctx *c, int op, array *x, array *a, int axis, bool reverse, array **at);
array *arr_argsort(ctx *c, array *a, int axis, bool descending);  /* int64, 1-based, stable, nan last */

/* (..., m, k) x (..., k, n): batch axes equal (broadcast views are fine); F64 or F32; any strides. */
array *arr_matmul(ctx *c, array *a, array *b);

/* ---- who does the work (profile.c) -------------------------------------------------------------- */

/* WORK(c, op): to the end of the block c works for `op`: arrays filled meanwhile are its results, and
** the time goes to it, but for what other work inside takes. Calls that compute nothing yet, and views,
** do no work. An evaluation works for nobody until profile_program has said what it computes. */
typedef struct work {
  ctx *c;
  uint8_t was;                /* c->op */
  struct profile_row *row;    /* what it is charged to, NULL: nothing */
  struct work *outer;
  int64_t began, inner;       /* ns; inner: in other work */
} work;

#define WORK(of, for_op)                                                                           \
  work work_ __attribute__((cleanup(work_end))) = {.c = (of), .was = (of)->op};                    \
  work_begin(&work_, for_op)

typedef struct profile_row {
  uint8_t op[8];              /* the ops of a program in order, each once, the first few */
  int nop;                    /* how many instructions it has; 0: the row is of one op */
  int64_t calls, ns, bytes;   /* ns: of its own; bytes: of arrays that got new memory */
} profile_row;

enum { PROGRAMS = 256 };      /* told apart; the others share the row after */

typedef struct profile {
  work *top;
  int n;                      /* programs */
  profile_row op[NOP], program[PROGRAMS + 1];
} profile;

void profile_begin(work *w);
void profile_end(work *w);
int64_t profile_now(void);                                    /* ns */

static inline void work_begin(work *w, int op) {
  w->c->op = op;
  if (__builtin_expect(w->c->profile != NULL, 0)) profile_begin(w);
}
static inline void work_end(work *w) {
  if (__builtin_expect(w->c->profile != NULL, 0)) profile_end(w);
  w->c->op = w->was;
}

/* The buffers that a keeps alive, or the expression it still is; some perhaps twice. */
void arr_buffers(array *a, void (*visit)(void *arg, buffer *b), void *arg);

/* A fresh contiguous array all of zeros; a fresh contiguous copy; both the caller's alone. */
array *arr_zeros(ctx *c, dtype t, const shape *s);
array *arr_copy(ctx *c, array *a);

#endif
