/* array.h -- n-d blocks of numbers, computed lazily.
**
** An array is READY (a view of a buffer), CONST (one number everywhere, no buffer) or PENDING (an
** expression not computed yet: the array is the expression's node). Its values never change while
** anyone else can see it. Pending arrays hold their operands; evaluation turns them READY and lets go.
** Counts are not atomic: an array belongs to one ctx.
*/
#ifndef MG_ARRAY_H
#define MG_ARRAY_H

#include "cpu/cpu.h"

/* ---- arrays --------------------------------------------------------------------------------- */

enum state { PENDING, READY, CONST };

typedef struct array array;
struct array {
  int32_t refs;               /* everybody who holds it */
  int32_t saved;              /* of these, Functions whose vjp will read it */
  uint8_t state;
  uint8_t op, nin;            /* PENDING: elementwise, to, rand, a reduction; reshape and broadcast_to
                              ** of what has one element a row */
  uint8_t recomputes;         /* evaluations that computed it without storing it */
  bool per_row;               /* PENDING: it has one element for each of these rows, not for each of theirs */
  bool tail;                  /* PENDING: 0-d, made of 0-d ones, some of them reductions */
  uint8_t child;              /* scratch of a visit, as `next` */
  uint16_t nodes;             /* PENDING: upper bound of pending arrays below, itself included */
  int32_t val, uses;          /* scratch of the evaluation under way */
  int64_t row;                /* PENDING: length of the rows that reductions below fold; 0: there are none */
  array *in[3];               /* PENDING: operands */
  imm k;                      /* CONST: the number. RANDOM: the counter */
  union {
    struct { int64_t rows, n, inner; }; /* a reduction: x seen as (rows, n, inner), n reduced away */
    uint64_t seed;            /* RANDOM */
  };
  buffer *buf;                /* READY */
  uint64_t mark;              /* the last visit that came here */
  uint64_t again;             /* not 0: others with this number are the same value (graph/again.c) */
  array *next;                /* in the list of those to be freed, of the spare ones, on a visit's way */
  ctx *ctx;                   /* it belongs to */
  union {
    view v;                   /* READY: where the values are; else dtype, shape and size alone */
    struct { VIEW_FIELDS; };
  };
};

/* What hangs on a ctx for this floor */
typedef struct arrays {
  bool lean;                  /* recompute dear values instead of storing them */
  uint8_t op;                 /* whom the work under way is for, 0: nobody; see WORK */
  bool watched;               /* somebody counts or notes the launches: */
  struct profile *profile;
  struct trace *trace;
  array *spare;               /* freed ones, to be used again */
  int nspare;
  uint64_t mark;              /* of the latest visit */
  struct fuser *fuser;        /* fuse.c: lists that are used again */
  struct tape *tape;          /* which records; else NULL */
  int recorded;               /* arrays that were made pending since it began, about */
  uint64_t standing;          /* where the next may give its first array a place; 0: at the begin */
} arrays;

array *arr_new(ctx *c, dtype t, const shape *s);              /* READY, contiguous, not cleared */
array *arr_host(ctx *c, dtype t, const shape *s);             /* ... for the caller to fill in, while a tape records too */
array *arr_of_buffer(ctx *c, dtype t, const shape *s, buffer *b); /* READY, contiguous; takes b over; NULL passes on */
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
array *arr_values(ctx *c, array *a);                          /* ... for the caller to look into, while a tape records too */
bool arr_is_contiguous(const array *a);                       /* READY and dense in C order */
static inline void *arr_data(const array *a) { return a->p; } /* READY: address of the first element */
bool arr_get(ctx *c, array *a, imm *v);                       /* the value of a size-1 array */

/* The one rule of who may write into a buffer, or take it over: nobody but `holders` that the caller knows
** of holds the array, nobody else its buffer, and all of it is the array. */
void tape_released(void *p, void *arg);
static inline bool arr_sole(const array *a, int holders) {
  return a->state == READY && a->refs == holders && a->buf->refs == 1 && a->p == a->buf->p &&
         a->buf->release == (a->ctx->arrays->tape ? tape_released : NULL) && arr_is_contiguous(a);
}

/* Elementwise, lazy: operands have shape s (CONST ones may have any shape). The operands' dtypes
** fit the op's rule already. One new reference. */
array *arr_map(ctx *c, int op, int nin, array *const *in, const shape *s);
array *arr_cast(ctx *c, array *a, dtype t);                   /* lazy; a itself where t is its dtype */
/* Reduce adjacent axes first..last (0-based, inclusive) of a; lazy. Axis kept as 1 where keepdims. */
array *arr_reduce(ctx *c, int op, array *a, int first, int last, bool keepdims);

/* Views: the same buffer seen otherwise (evaluates a, mostly). New references. off in elements. */
array *arr_view(ctx *c, array *a, const shape *s, const int64_t *stride, int64_t off);
array *arr_reshape(ctx *c, array *a, const shape *s);         /* view where possible, else a copy */
array *arr_permute(ctx *c, array *a, const int *perm);        /* result axis i is axis perm[i] */
array *arr_broadcast(ctx *c, array *a, const shape *s);       /* a's shape fits s; lazy where a is a
                                                              ** pending number a row of s */
/* x[first : : step] of shape s, axis by axis; small results of big buffers are copied. */
array *arr_slice(ctx *c, array *a, const shape *s, const int64_t *first, const int64_t *step);

/* Several evaluations in one go: every a[i] becomes READY. olds[i], where not NULL, is an array
** whose buffer a[i] may take over if only the caller's one reference and a[i]'s own expression
** hold it (olds[i] is then left READY but must be dropped by the caller). All or nothing. */
bool arr_eval(ctx *c, int n, array *const *a, array *const *olds);

/* The program that a pending array would be computed by, as text, and the length it would take; -1: see ctx.
** Nothing is computed. */
int64_t arr_program_text(ctx *c, array *a, char *buf, int64_t room);

/* ---- what is not elementwise (computed at once; results READY) -------------------------------- */

array *arr_cat(ctx *c, int n, array *const *a, int axis);     /* same dtype; shapes fit (checked above) */
/* dst is READY, contiguous and the caller's alone: dst[first : : step] += src, in place */
bool arr_add_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src);
bool arr_set_slice(ctx *c, array *dst, const int64_t *first, const int64_t *step, array *src);
/* idx: int64, values 1..n or -n..-1, checked by arr_check_index */
int64_t arr_check_index(ctx *c, array *idx, int64_t n);       /* 1-based position of the first bad one, 0: none, -1: memory */
array *arr_take(ctx *c, array *a, int axis, array *idx);      /* idx 1-d: a's shape, axis replaced by #idx */
bool arr_add_take(ctx *c, array *dst, int axis, array *idx, array *src);   /* its adjoint, in place */
bool arr_put_rows(ctx *c, array *dst, int64_t n, array *idx, array *src);  /* of dst, seen as n rows, some are
                                                              ** replaced, in place */
array *arr_gather(ctx *c, array *a, int axis, array *idx);    /* idx of a's rank; r[..i..] = a[..idx[..i..]..] */
bool arr_add_gather(ctx *c, array *dst, int axis, array *idx, array *src);
bool arr_set_gather(ctx *c, array *dst, int axis, array *idx, array *src); /* where indices meet, the last */
array *arr_nonzero(ctx *c, array *mask);                      /* 1-d int64, 1-based, C order */
array *arr_places(ctx *c, array *mask);                       /* the same, (n, ndim): a place on each axis */
/* Before which of a sorted last axis each of v belongs, 1..n+1; right: behind its equals. sorted is 1-d or
** has v's leading axes. */
array *arr_search(ctx *c, array *sorted, array *v, bool right);
array *arr_cumsum(ctx *c, array *a, int axis);
/* y[i] from y[i - 1] and x[i], a[i] (a: NULL where op needs none) along an axis, or from its end; *at
** (NULL: not asked for): where the values stand. op: one of cpu/scan.c, that knows x's dtype */
array *arr_scan(ctx *c, int op, array *x, array *a, int axis, bool reverse, array **at);
/* int64, 1-based: what stands first .. first + count - 1 in order, stable, nan the largest */
array *arr_ranks(ctx *c, int op, array *a, int axis, bool descending, int64_t first, int64_t count);

/* Variates, one for each element of p, F64: by OP_gamma_log, OP_poisson. How the former's x moves with p, or,
** `order` times, the derivative of that by p. */
array *arr_variates(ctx *c, int op, array *p);
array *arr_randperm(ctx *c, int64_t n);                       /* 1..n in random order */
array *arr_gamma_slope(ctx *c, array *x, array *p, int64_t order);

/* (..., m, k) x (..., k, n): batch axes equal (broadcast views are fine); F64, F32 or I64; any strides. */
array *arr_matmul(ctx *c, int op, array *a, array *b); /* by OP_matmul, or, of F64, OP_distance */
/* Sums over j of w[i, j] (x[i] - y[j]): w (.., m, n), x (.., m, k), y (.., n, k), F64 */
array *arr_pull(ctx *c, array *w, array *x, array *y);

/* in: q, k, v (..., T, S; D, E), mask or NULL; out: y, the log of the sums. The gradient: in also these two and
** that of y; out: dq, dk, dv. Dtypes and shapes as cpu.h has them; any strides. */
bool arr_attention(ctx *c, const attention_attr *a, array *const in[4], array *out[2]);
bool arr_attention_grad(ctx *c, const attention_attr *a, array *const in[7], array *out[3]);
/* op: convolve, convolve_data or convolve_weight; attr: what cpu_conv and its kin take; s: the result's */
array *arr_convolve(ctx *c, int op, array *a, array *b, const shape *s, const int64_t *attr);
/* im2col, col2im or the adjoint of unfold, likewise */
array *arr_columns(ctx *c, int op, array *a, const shape *s, const int64_t *attr);
/* Windows over the last two axes (cpu.h); s: the shape of the result, p fits both. *at (NULL: not asked for):
** the places of the largest */
array *arr_max_pool(ctx *c, const pool *p, array *x, const shape *s, array **at);
array *arr_by_place(ctx *c, int op, const pool *p, array *x, array *at, const shape *s); /* max_unpool, max_pick */
array *arr_average(ctx *c, int op, const pool *p, array *x, const shape *s); /* avg_pool, avg_unpool */

/* Of groups of x (cpu.h), each of shape s: mean, rest, variance, reciprocal deviation */
bool arr_moments(ctx *c, const moments *a, array *x, const shape *s, array *out[4]);

/* Linear algebra on (..., rows, columns), float; NULL or false also where a matrix will not do. Batch axes are
** equal (broadcast views are fine). */
array *arr_cholesky(ctx *c, array *x);                        /* the lower factor, of the lower triangle */
array *arr_cholesky_grad(ctx *c, array *L, array *g);         /* gradient of x, symmetric, from that of L */
array *arr_triangular_solve(ctx *c, array *b, array *A, bool upper, bool transpose, bool unit);
enum { MAY_BE_SINGULAR, OF_SOLVE, OF_INV };                   /* who refuses a singular matrix */
bool arr_lu(ctx *c, array *x, int refuses, array **lu, array **pivots);
array *arr_lu_solve(ctx *c, array *b, array *lu, array *pivots, bool transpose);
array *arr_cofactor(ctx *c, array *x);
bool arr_qr(ctx *c, array *x, array **q, array **r);          /* x is no wider than high */
bool arr_eigh(ctx *c, array *x, array **values, array **vectors);
bool arr_svd(ctx *c, int op, array *x, bool full, array **u, array **s, array **vh);
array *arr_lu_det(ctx *c, array *lu, array *pivots, array **log); /* log: instead sign and logarithm; NULL: no */

/* Shapes, and what may be NULL, as cpu.h has them. gates (T, N, K H) is the caller's alone, and changed. in: h, c, w,
** biases, lengths; out: states, cells, the GRU's; NULL where the cell has none. The gradient's in are w, gates, these
** three, gradients of states and cells, lengths; over: gates and the GRU's are the caller's alone, and become their
** gradients. */
bool arr_recurrent(ctx *c, const int64_t *attr, array *const in[6], array *gates, array *out[3]);
bool arr_recurrent_grad(ctx *c, const int64_t *attr, array *const in[8], bool over, array *out[4]);

/* A fresh contiguous array all of zeros; a fresh contiguous copy; both the caller's alone. */
array *arr_zeros(ctx *c, dtype t, const shape *s);
array *arr_copy(ctx *c, array *a);

/* The buffers that a keeps alive, or the expression it still is; some perhaps twice. */
void arr_buffers(array *a, void (*visit)(void *arg, buffer *b), void *arg);

void arr_set_mark(ctx *c, uint64_t mark);                     /* for tests: visits are counted from here */

/* ---- launches (launch.c): the one way down ------------------------------------------------------ */

enum launch_kind { PROGRAM, CALL, KERNEL };

typedef struct launch {
  uint8_t kind, op;           /* op: whom it is charged to, unless WORK says so; of a program: nobody */
  union {
    struct { const program *p; const schedule *s; const binding *leaf; void *const *to; void *scratch; int64_t fresh; };
    struct { cpu_fn *fn; const int64_t *attr; const view *const *in, *const *out; int nin, nout; };
    struct { map_fn *map; void *r; const void *x[3]; int64_t n; };
  };
} launch;

bool launch_watched(ctx *c, const launch *l);
static inline bool launch_run(ctx *c, const launch *l) {
  switch (l->kind) {
    case PROGRAM:
      if (l->s) return cpu_run(c, l->s, l->leaf, l->to, l->scratch);
      return cpu_run_number(l->p, l->leaf, l->to), true;
    case CALL: return l->fn(c, l->attr, l->in, l->out);
    default: return l->map(l->r, l->x[0], l->x[1], l->x[2], l->n), true;
  }
}
static inline bool launch_work(ctx *c, const launch *l) {
  if (__builtin_expect(c->arrays->watched, 0)) return launch_watched(c, l);
  return launch_run(c, l);
}

/* One number; it is counted by WORK alone. */
imm launch_scalar_watched(ctx *c, int op, dtype t, imm a, imm b, imm d);
static inline imm launch_scalar(ctx *c, int op, dtype t, imm a, imm b, imm d) {
  if (__builtin_expect(c->arrays->watched, 0)) return launch_scalar_watched(c, op, t, a, b, d);
  return cpu_scalar(op, t, a, b, d);
}

/* WORK(c, op): to the end of the block c works for `op`: what is launched meanwhile is one call of it, and
** arrays filled are its results. An evaluation works for nobody: it is charged to its programs. */
typedef struct { ctx *c; uint8_t was; } work;
#define WORK(of, for_op)                                                                           \
  work work_ __attribute__((cleanup(work_end))) = {(of), (of)->arrays->op};                        \
  work_.c->arrays->op = (for_op)
void work_count(ctx *c);
static inline void work_end(work *w) {
  if (__builtin_expect(w->c->arrays->watched, 0) && w->c->arrays->op != w->was) work_count(w->c);
  w->c->arrays->op = w->was;
}

/* ---- launches recorded, to be run again (tape.h) -------------------------------------------------- */

typedef struct tape tape;

tape *tape_begin(ctx *c);
void tape_on(ctx *c, tape *t);                /* from now on it records all launches, which compute nothing; NULL: no more */
/* READY: what stands for `like` (READY or CONST) while it is recorded, its layout that of `like`. *leaf: its number */
array *tape_leaf(ctx *c, tape *t, const array *like, int *leaf);
#define BEGIN ((uint64_t)1 << 62)             /* where addresses without memory begin */
static inline bool arr_recorded(const array *a) { /* READY, without values: there are some in a replay */
  return a->state == READY && (uint64_t)a->p >= BEGIN;
}
bool tape_same(ctx *c, array *a, imm *k);     /* is a, 0-d, k in each replay? */
/* A replay in which a, 0-d, has another value is none; choice: by which tape_unlike tells such checks apart */
bool tape_check(ctx *c, array *a, imm want, int choice);
enum { ALIKE = -2, NO_CHOICE = -1 };
bool tape_skip(ctx *c, tape *t, uint64_t n);  /* n of the stream were drawn meanwhile, and not recorded */
void tape_unskip(tape *t, uint64_t counter); /* the stream is set back to there: what was skipped since, was not */
uint64_t tape_skipped(const tape *t);
bool tape_refuse(ctx *c);                     /* fails: a value is needed */
/* Computes what is pending of out, which a replay will give, and records no more. sinks: what of it may take the
** memory of leaves over. */
bool tape_end(ctx *c, tape *t, int n, array *const *out, const bool *sinks);
void tape_free(tape *t);

/* A leaf of a replay: its array, which has the layout that was recorded; or p alone, for a number. take: its memory
** may be taken over by the result that was said to. */
typedef struct { array *a; const void *p; bool take; } tape_leaf_at;
/* Such a result: what was recorded allows for it, perhaps. */
void tape_over(ctx *c, tape *t, int result, int leaf);
/* All that a replay needs is taken: its results come as new references, without values, NULL where the memory of a
** leaf is taken over. Then it is run, which allocates no more than calls do for themselves, or cancelled. Once
** memory has been taken over it does not fail. False: an error, or `unlike`: a value is not what was recorded */
bool tape_reserve(ctx *c, tape *t, const tape_leaf_at *leaf, array **out);
bool tape_run(ctx *c, tape *t, const tape_leaf_at *leaf);
void tape_cancel(tape *t);
int tape_unlike(const tape *t);               /* the check that failed in the last replay, ALIKE: none */

/* ---- who does the work, and when ----------------------------------------------------------------- */

typedef struct profile_row {
  uint8_t op[8];              /* the ops of a program in order, each once, the first few */
  int nop;                    /* how many instructions it has; 0: the row is of one op */
  int64_t calls, ns, bytes;   /* bytes: of arrays that got new memory */
} profile_row;

enum { PROGRAMS = 256 };      /* told apart; the others share the row after */

typedef struct profile {
  int n;                      /* programs */
  profile_row op[NOP], program[PROGRAMS + 1];
} profile;

int64_t profile_now(void);                                    /* ns */

/* The launches as text, one a line */
typedef struct trace {
  char *text;                 /* by malloc */
  size_t len, room;
  int64_t count;
  const void **met;           /* by malloc: addresses, in order; they are numbered */
  int nmet, room_met;
  const char *block;          /* of the replay under way, or NULL: addresses in it are offsets */
  size_t block_bytes;
  bool lost;                  /* no memory: the rest is missing */
} trace;

/* Who watches from now on; NULL: nobody */
void launch_watch(ctx *c, profile *p, trace *t);
void trace_free(trace *t);
/* What a replay is about to run in, and how many bytes would be without it */
void trace_block(trace *t, const void *block, size_t bytes, size_t apart);

#endif
