/* cpu.h -- what the machine does for the floors above: programs and calls, on views.
**
** The machine knows no arrays. It is given programs with what their leaves and outputs are bound to, or
** calls of functions of one form. What results hang on - tiles, splits, the order
** in which partial results meet - comes from what is computed, its shapes and dtypes, never from the number
** of threads, which only says who does which part. What fails, for memory, has written nothing
** that counts.
*/
#ifndef MG_CPU_H
#define MG_CPU_H

#include "cpu/program.h"

/* ---- programs ---------------------------------------------------------------------------------- */

typedef struct schedule schedule;

/* How p is run here: made once, kept by the program. NULL: no memory. It lives until the next call, and for
** as long as cpu_kept gives the same. */
const schedule *cpu_schedule(ctx *c, const program *p);
uint64_t cpu_kept(ctx *c);
const program *cpu_program(const schedule *s);

/* May output `out` be written where input binding `leaf` lies, dense, of the same bytes? */
bool cpu_in_place(const schedule *s, int out, int leaf);

typedef struct {
  union {
    const void *p; /* LEAF_INPUT: the first element */
    uint64_t seed; /* LEAF_RANDOM */
  };
  imm k;           /* LEAF_NUMBER: it; LEAF_RANDOM: the counter, in i */
} binding;

size_t cpu_scratch(ctx *c, const schedule *s); /* bytes that a run takes beside its outputs */

/* Outputs are dense. scratch: so many bytes, aligned to 64; NULL: it takes its own. False: there is no memory
** for it, nothing is written. */
bool cpu_run(ctx *c, const schedule *s, const binding *leaf, void *const *out, void *scratch);

/* A program of single numbers without a schedule, op by op: for one that may be run once */
void cpu_run_number(const program *p, const binding *leaf, void *const *out);

/* The kernels for what is small: dense, up to SMALL elements, on this thread */
enum { SMALL = 512 };
typedef void map_fn(void *r, const void *a, const void *b, const void *d, int64_t n);
/* from: the dtype of the operands (where: of the last two); to: that of the result */
map_fn *cpu_kernel(int op, dtype from, dtype to);
imm cpu_scalar(int op, dtype t, imm a, imm b, imm d); /* the same bits for one number */
/* (rows, n, inner) at x, reduced to (rows, inner) at r */
void cpu_reduce(int op, dtype t, int64_t rows, int64_t n, int64_t inner, const char *x, char *r);
/* n elements of v from the first, at v.p if they lie so, else in buf */
const void *cpu_gather_small(const view *v, int64_t n, char *buf);

/* Columns of float32, and float32 that meet by index, are added up as floats so many at a time, these runs in
** double: 10^6 equal addends are right to 10^-6. */
enum { SUM_RUN = 32 };

/* ---- calls: what is not element-wise ------------------------------------------------------------ */

/* Operands and results are of the shapes and dtypes that the caller of the op above is told; axes count
** from 0; results are dense. `into`: results are changed in place. */
typedef bool cpu_fn(ctx *c, const int64_t *attr, const view *const *in, const view *const *out);

cpu_fn cpu_copy;         /* in: x, any strides; out: x */
cpu_fn cpu_zero;         /* out */
cpu_fn cpu_random;       /* out, F64 or F32; attr: seed, counter */
cpu_fn cpu_matmul;       /* attr: whether the result are distances (F64), sqrt of sums of squared differences; in: a, b,
                         ** read as cpu_matmul_reads says; out */
cpu_fn cpu_pull;         /* in: w, read so, x and y, dense, F64; out: sums over j of w[i, j] (x[i] - y[j]) */
cpu_fn cpu_matmul_whole; /* in: a, b of int64, dense; out */
cpu_fn cpu_cumsum;       /* attr: axis; in: x, F64 F32 I64, dense; out */
/* Running values by an op of scan.c; attr: op, axis, whether from the end; in: x, for some ops a; out: the values,
** and for those that choose one where it stands */
cpu_fn cpu_scan;
cpu_fn cpu_ranks;        /* attr: axis, descending, first; in: x, dense; out: int64 from 1, those from `first` on in
                         ** order, as many as it has room for; stable, nan the largest */
/* dst[first : : step] = or += src, dense; attr: first[MAXDIM], step[MAXDIM]; in: src; into: dst, dense */
cpu_fn cpu_set_slice, cpu_add_slice;
/* Positions are int64, 1..n or -n..-1, dense and checked; all is dense. */
cpu_fn cpu_first_bad;    /* attr: n; in: positions; out: int64, where the first bad one stands, from 1; 0 */
cpu_fn cpu_take;         /* attr: axis; in: x, 1-d positions; out */
cpu_fn cpu_add_take;     /* its adjoint: attr: axis; in: src, positions; into: dst */
cpu_fn cpu_put_rows;     /* attr: n; in: src, positions; into: dst, seen as n rows */
cpu_fn cpu_gather;       /* attr: axis; in: x, positions of x's rank; out */
cpu_fn cpu_add_gather;   /* attr: axis; in: src, positions; into: dst */
cpu_fn cpu_put_gather;   /* likewise = in place of +=; where positions meet, the last */
cpu_fn cpu_search;       /* attr: whether behind equals; in: sorted along its last axis, nan last, 1-d or with the
                         ** leading axes of v, v; out: int64, the place from 1 before which v belongs */
cpu_fn cpu_unravel;      /* attr: rank, dims; in: positions from 1 in C order; out: (n, rank), from 1 on each axis */
cpu_fn cpu_count_true;   /* in: mask; out: int64 */
cpu_fn cpu_nonzero;      /* in: mask; out: positions from 1 of the true ones, 1-d */

/* Convolution: one to three axes behind images and channels; attr: of the last three axes stride[3], dilation[3],
** padding before the first element[3]; groups. Where x would be read outside it is 0. All is dense. */
cpu_fn cpu_conv;         /* in: x (n, c, ...), w (f, c / groups, ...); out: y (n, f, ...) */
cpu_fn cpu_conv_data;    /* its gradients: in: that of y, w; out: that of x */
cpu_fn cpu_conv_weight;  /* in: x, that of y; out: that of w */
cpu_fn cpu_im2col;       /* attr: kernel[2], stride[2], padding[2], dilation[2]; in: x (n, c, h, w); out: (n, c
                         ** kernel, positions) */
cpu_fn cpu_col2im;       /* its adjoint; in: columns; out: x */
cpu_fn cpu_fold;         /* attr: axis, step; in: windows of the axis, their elements last; out: their sums */

/* Pooling, interpolation, normalization */

/* Windows along one axis: n elements, `to` windows of k taps d apart, s apart from each other, the first
** beginning p before the first element. k = 0: `to` windows that share the axis out, s, p and d being 1, 0, 1. */
typedef struct pool_axis { int64_t n, to, k, s, p, d; } pool_axis;
/* Over the last two axes. count: averages count padding; divisor: they are divided by that, 0: by their taps */
typedef struct pool { pool_axis y, x; int64_t count, divisor; } pool;
enum { POOL_BYTE = 255 };                      /* a place among fewer taps fits a byte */
bool pool_fits_bytes(const pool *p);
/* attr: a pool; all dense, x and y F64 or F32; at: bytes or int64 of y's shape, the place of the largest among
** the taps of its window */
cpu_fn cpu_max_pool;     /* in: x; out: y, at or nothing */
cpu_fn cpu_max_unpool;   /* in: y, at; out: x, zeros with each of y added at its place */
cpu_fn cpu_max_pick;     /* in: x, at; out: y, what stands there */
cpu_fn cpu_avg_pool;     /* in: x; out: y */
cpu_fn cpu_avg_unpool;   /* its adjoint: in: y; out: x */

/* x, dense, F64 or F32, seen as (outer, n, inner): n groups. What is found of one is written `per` times. */
typedef struct moments { int64_t outer, n, inner, per, centred; double eps; } moments;
/* attr: moments; in: x; out: the rounded mean, what it leaves over, the variance by the number of elements,
** 1 / sqrt(it + eps); where not centred, of a mean taken for 0 */
cpu_fn cpu_moments;

/* Linear algebra: LAPACK, on batches: (..., rows, columns). Batch axes are equal; results are dense, and so are
** pivots. Where nothing else is said, operands have any strides. False, too: a matrix that will not do. */
cpu_fn cpu_cholesky;         /* in: x, of which the lower triangle counts; out: the lower factor */
cpu_fn cpu_cholesky_grad;    /* in: L, dense, gradient of L; out: that of x, symmetric */
cpu_fn cpu_triangular_solve; /* attr: upper, transpose, unitriangular; in: b, A as cpu_matmul_reads says; out */
cpu_fn cpu_lu;               /* attr: who refuses a singular matrix: 0 nobody, 1 solve, 2 inv; in: x; out: LU, pivots */
cpu_fn cpu_lu_solve;         /* attr: transpose; in: b, LU, pivots (broadcast, perhaps); out */
cpu_fn cpu_lu_det;           /* attr: logarithm; in: LU, pivots; out: the determinant, or its sign and log |it| */
cpu_fn cpu_cofactor;         /* in: x; out: what each element is multiplied with in the determinant */
cpu_fn cpu_qr;               /* in: x, no wider than high; out: Q, R */
cpu_fn cpu_eigh;             /* in: x, of which the lower triangle counts; out: values, vectors in rows */
cpu_fn cpu_svd;              /* attr: full, op (named in errors); in: x; out: U, S, Vh */

/* Attention and recurrent cells */

/* All of one rank, with the same leading axes; dense along the last, rows no closer than they are long. mask may
** be NULL: BOOL, or of q's dtype, (..., T, S), any strides. p: dropped weights are where the stream that begins
** at counter, element (head, i, j) its number, is below p. */
typedef struct attention_attr { int64_t causal; double scale, p; int64_t seed, counter; } attention_attr;
cpu_fn cpu_attention;      /* attr: attention_attr; in: q, k, v, mask; out: y (..., T, E), lse (..., T) dense */
cpu_fn cpu_attention_grad; /* in: q, k, v, mask, y, lse, g (..., T, E), whose rows may be one; out: dq, dk, dv */
/* All dense. attr: cell (0 tanh, 1 relu, 2 LSTM, 3 GRU), whether from the end. Steps past lengths leave the state
** as it is. in: h, c (N, H), w (K H, H), two biases (K H), lengths (N); c: LSTM, biases and lengths may be NULL;
** into: what the inputs send to the gates (T, N, K H), which becomes what the gates let through; out: states
** (T + 1, N, H), h and c among them; what a GRU's state sends to its third gate (T, N, H). */
cpu_fn cpu_recurrent;
/* in: w, gates, states, cells, the GRU's, gradients of all states and of all cells (T, N, H), lengths; any but
** the first three may be NULL; out: that of what comes to the gates, of h, of c, of the GRU's */
cpu_fn cpu_recurrent_grad;

/* Sampling. All is dense, F64 but for counts; an element takes one block of the stream. */
cpu_fn cpu_gamma;        /* attr: seed, counter; in: shapes; out: logarithms of gamma variates; nan of none */
cpu_fn cpu_poisson;      /* attr: seed, counter; in: rates; out: int64 */
cpu_fn cpu_gamma_slope;  /* attr: order (special.h); in: logarithms, shapes; out: derivatives by the shape */

/* Can a product read it where it lies? Else it wants a dense copy. `vector`: the result has one row (a) or
** one column (b). */
bool cpu_matmul_reads(const view *v, bool vector);

/* ---- the machine itself ------------------------------------------------------------------------- */

void cpu_close(ctx *c);                        /* gives back what it keeps for c */

typedef struct {
  bool on;                                     /* machine code may be used, and can be made here */
  int64_t pieces, bytes;                       /* written and kept */
  int64_t runs;                                /* programs run that had some */
  int64_t schedules, planned, found;           /* kept; made; found again */
} cpu_stats;

void cpu_code_off(ctx *c, bool off);           /* kernels do all; forgets what was planned */
void cpu_stat(ctx *c, cpu_stats *s);
const void *cpu_code_bytes(ctx *c, size_t *n); /* all machine code kept; NULL: none */

#endif
