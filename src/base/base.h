/* base.h -- the ground floor: errors, dtypes and shapes, buffers of memory, threads, random bits.
**
** Nothing here knows of arrays, graphs or Lua. No function here aborts, prints or jumps: what fails
** says so in the caller's `ctx` and returns NULL or false. Process-wide are the buffer layer, the
** errand's queue (both locked) and what is found out once (the processor's level, libraries); all else hangs on
** a `ctx`, one per Lua state.
*/
#ifndef MG_BASE_H
#define MG_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- errors ------------------------------------------------------------------------------- */

enum { OK, E_VALUE, E_MEMORY };

typedef struct ctx {
  int err;                    /* OK, or what failed first; the text stands in `msg` */
  char msg[480];
  int threads;                /* threads an evaluation may use, at least 1 */
  uint64_t seed, counter;     /* the random stream: Philox key and next block */
  struct cpu *cpu;            /* what the machine keeps: schedules, machine code (cpu/schedule.c) */
  struct arrays *arrays;      /* what the arrays keep (array/array.c) */
} ctx;

/* Record an error (the first one stays) and return false; fail_memory likewise. */
bool fail(ctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool fail_memory(ctx *c, size_t bytes);

/* snprintf, and what stands between the other two on this thread, with a point in numbers whatever
** the locale. */
int print_text(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int vprint_text(char *buf, size_t size, const char *fmt, va_list ap);
void *point_begin(void);
void point_end(void *was);

/* ---- dtypes and shapes -------------------------------------------------------------------- */

typedef enum { F64, F32, I64, U8, BOOL, NDTYPE } dtype;
enum { MAXDIM = 8 };

typedef union { double f; int64_t i; } imm; /* one number: floats in f, the other dtypes in i */

extern const uint8_t dtype_size[NDTYPE];
extern const char *const dtype_name[NDTYPE];
static inline bool is_float(dtype t) { return t <= F32; }
int dtype_find(const char *name);             /* -1 where there is none of that name */
imm imm_cast(imm v, dtype from, dtype to);    /* as x:to does: toward 0; int64 saturates, uint8 is modulo 256 */

typedef struct { int n; int64_t d[MAXDIM]; } shape;

int64_t shape_size(const shape *s);                     /* product; -1 on overflow */
bool shape_eq(const shape *a, const shape *b);
bool shape_broadcast(const shape *a, const shape *b, shape *r);   /* NumPy's rule; false: they do not fit */
const char *shape_text(const shape *s, char buf[128]);  /* "(2, 3)", "()" */

/* ---- views -------------------------------------------------------------------------------- */

/* A block of values where it lies. Strides are in elements, of any sign, 0 where it is broadcast; those of
** axes of length 1 say nothing. */
#define VIEW_FIELDS                                                                                \
  void *p;                    /* the first element */                                              \
  int64_t size;               /* elements */                                                       \
  uint8_t dtype;                                                                                   \
  shape s;                                                                                         \
  int64_t stride[MAXDIM]
typedef struct view { VIEW_FIELDS; } view;

bool view_dense(const view *v);               /* contiguous, in C order */
void view_make_dense(view *v);                /* its strides: those of C order */

/* Axes as they lie in memory: those of length 1 left out, merged where they run on in each other */
typedef struct space { int64_t n, d[MAXDIM], st[MAXDIM]; } space;
void view_space(const view *v, space *q);

imm imm_load(dtype t, const void *p);
void imm_store(dtype t, void *p, imm v);
void imm_fill(dtype t, void *p, imm v, int64_t n);

/* ---- libraries ---------------------------------------------------------------------------- */

typedef struct symbol { const char *name; void *at; } symbol; /* at: address of the pointer that gets it */

/* Opens a shared library that stays open (NULL: all that the program is linked with), and fetches symbols up to
** one without a name; NULL if it is not there. Symbols that are missing are NULL. */
void *library_open(const char *file, const symbol *symbols);

/* ---- buffers ------------------------------------------------------------------------------ */

/* Bytes with a reference count. Ours come 64-aligned from a cache; others' carry a release. */
typedef struct buffer {
  int32_t refs;               /* atomic */
  uint8_t op;                 /* whose result it holds, 0: nobody's; kept by arrays */
  size_t bytes;               /* usable bytes, at least what was asked for */
  void *p;
  void (*release)(void *p, void *arg);   /* NULL: ours */
  union {
    struct buffer *next;      /* ours: in a free list */
    void *arg;
  };
} buffer;

typedef struct { size_t live, peak, cached, limit; uint64_t total; } memstat; /* bytes; total ever given */

buffer *buf_new(ctx *c, size_t bytes);        /* not cleared; NULL and E_MEMORY past the limit */
/* release(p, arg) frees p at the last unref; where wrapping fails, p is still the caller's. */
buffer *buf_wrap(ctx *c, void *p, size_t bytes, void (*release)(void *p, void *arg), void *arg);
void buf_ref(buffer *b);
void buf_unref(buffer *b);
size_t buf_live(const buffer *b);             /* its share of memstat.live */
void mem_stat(memstat *m);
void mem_reset_peak(void);
void mem_limit(size_t bytes);                 /* 0: none */
void mem_trim(void);                          /* give all cached bytes back */
uint64_t mem_total(void);                     /* memstat.total alone: cheap, for collector pacing */

/* Small blocks of the graph's own: malloc that can be made to fail. Every allocation of the core,
** buffers too, passes here: after `mem_fail_at(n, times)` the n-th one from now fails, and those after it,
** so many in all (n = 0: none). */
void *mg_alloc(ctx *c, size_t bytes);         /* not cleared; NULL and E_MEMORY */
void mg_free(void *p);
bool mg_grow(ctx *c, void **list, size_t *room, size_t bytes); /* to `bytes` or more; it moves */
void mem_fail_at(int64_t n, int64_t times);
bool mem_refuse(void);                        /* counts one allocation; true: let it fail */

/* ---- threads ------------------------------------------------------------------------------ */

/* Run body(arg, i) for 0 <= i < n on at most c->threads threads, in any order. */
void par_for(ctx *c, int64_t n, void (*body)(void *arg, int64_t i), void *arg);
int par_worker(void);                         /* in a body: which of the threads this is, from 0 */

/* ---- one thread beside the others (errand.c) ------------------------------------------------------ */

typedef struct errand {
  void (*body)(struct errand *t);
  struct errand *next;
  int state;
  unsigned forks;             /* how many there had been when it was begun */
} errand;

bool errand_begin(errand *t, void (*body)(errand *t)); /* false: there is no thread, and nothing begins */
void errand_end(errand *t);                       /* it has been done, there or here */
void errand_drop(errand *t);                      /* it is not touched any more, done or not */

/* ---- the processor ------------------------------------------------------------------------------- */

enum { MAX_THREADS = 4096 };
bool is_room(size_t bytes);                   /* would the system give so many now? */
void stack_grow(void);                        /* once, before the first kernel runs */
int threads_default(void);                    /* OMP_NUM_THREADS, or as many as there are processors for us */
/* Kernels are compiled for the x86-64 levels v2, v3 and v4; elsewhere, or where PLAIN_C is defined, once, in
** plain C. EACH_LEVEL: before a function, which is then compiled for each. */
#if defined __x86_64__ && !defined PLAIN_C
#define EACH_LEVEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define EXTERN_LEVELS(type, name) extern const type name##_v2, name##_v3, name##_v4
#define OF_LEVEL(name)                                                                             \
  (cpu_level() >= 4 ? &name##_v4 : cpu_level() == 3 ? &name##_v3 : &name##_v2)
#else
#undef PLAIN_C
#define PLAIN_C 1
#define EACH_LEVEL
#define EXTERN_LEVELS(type, name) extern const type name##_plain
#define OF_LEVEL(name) (&name##_plain)
#endif
int cpu_level(void);                          /* x86-64 level: 1 (which is too low), 2, 3 or 4, no higher than
                                              ** MOONGRAD_LEVEL in the environment; of plain C 2 */

/* ---- random bits: Philox 4x32-10 (Salmon et al. 2011), by Random123 ------------------------ */

/* Numbers first..first+n-1 of the stream that begins at block `counter`: uniform in [0, 1), multiples
** of 2^-24 (float, one word each) or 2^-53 (double, two words each). Any split gives the same numbers. */
void random_f32(uint64_t seed, uint64_t counter, int64_t first, int64_t n, float *out);
void random_f64(uint64_t seed, uint64_t counter, int64_t first, int64_t n, double *out);
/* Take n numbers from the stream: where they begin. */
uint64_t random_take(ctx *c, int64_t n);
/* Block `block` of the stream in other planes, which numbers in a row do not come to: words 2 and 3 of what
** Philox counts, 0 there. */
void random_block(uint64_t seed, uint64_t block, uint32_t step, uint32_t plane, uint32_t out[4]);
/* A permutation of 1..n */
void random_perm(ctx *c, int64_t n, int64_t *out);

#endif
