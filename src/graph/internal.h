/* internal.h -- what the files of the graph share among themselves. */
#ifndef MG_INSIDE_H
#define MG_INSIDE_H

#include "graph/graph.h"

/* The saves column of ops.def: inputs in bits 0 to 15, results from 16 on. */
enum { X = 1, Y = 2, D = 4, OUT = 1 << 16 };
#define IN(i) (1u << (i))
enum { RECURRENT = 255 };   /* every input of that row */
#define RESULT(k) ((uint32_t)OUT << (k))

/* Inputs and what is saved of them, wherever they stand */
static inline node **in_at(node *f, int i) { return i < 2 ? &f->in[i] : &f->x->in[i - 2]; }
static inline saved *sv_at(node *f, int i) { return i < 2 ? &f->sv[i] : &f->x->sv[i - 2]; }
/* How many of them there may be; some may be NULL */
static inline int slots(const node *f) { return f->x && f->x->nin > 2 ? f->x->nin : 2; }
static inline int kind_bits(const node *f, int i) {
  return i < 2 ? f->kind >> 4 * i & 15 : f->x->kind[i - 2];
}
static inline int kind_of(const node *f, int i) { return kind_bits(f, i) & ~FLOWS; }
static inline void set_kind(node *f, int i, int kind) {
  if (i < 2) f->kind = (f->kind & ~(15 << 4 * i)) | kind << 4 * i;
  else f->x->kind[i - 2] = kind;
}
static inline bool flows(const node *f, int i) { return kind_bits(f, i) & FLOWS; }

node *node_new(graph *G, dtype t);                         /* a scalar, to be set */
extra *node_extra_at(graph *G, node *n, int nat, const attr *at); /* of a node that has none yet */
/* Make r the output of op on in[0..n-1], keeping the values of `saves`. False: r is dropped. */
bool record(graph *G, node *r, int op, int n, node *const *in, uint32_t saves);
bool recording(const graph *G, int n, node *const *in);   /* does an op on these make a creator? */
uint32_t saves_for(int op, int n, node *const *in);        /* what the gradients of the tracked ones read */
bool outputs_new(graph *G, node *f, int nout);             /* room for them */
void output_set(node *f, int k, node *y);                  /* y, untracked, is f's output k; not if no float */
void again_instead(graph *G, node *f, int i);              /* what f saved of input i becomes an expression, if it can */
bool again_same(const array *a, const array *saved);       /* are they one value? */
array *again_value(graph *G, array *saved, const shape *s); /* new reference: that value in shape s; NULL: an error */
void node_restore(node *n, array *a);                     /* the value that n let go of */
void node_release(graph *G, node *f);                     /* let go of what f saved; the skeleton stays */
void node_lose_kept(node *f, int i);                      /* array i that the op kept goes: f counts as released */
node *like(graph *G, node *g, double v);                  /* a constant of g's shape and dtype */

/* Cast to the dtype that a rule of op.h gives for all of them together */
bool op_inputs(graph *G, int rule, int n, node *const *in, node **out, dtype *t);

/* ---- ops that are not elementwise: the bodies of ops.def's OTHER rows -------------------------------- */

/* One being applied. A body reads inputs and attributes and gives its results: arrays it has computed,
** which are then recorded for its gradient, or nodes made by other ops, which are so already. */
enum { MAXKEPT = 4 };
typedef struct call {
  graph *G;
  int op, n, nat, nout, nkept;
  bool composed;
  node *const *in;            /* NULL: left out */
  const attr *at;             /* kept for the gradient; a body may put fewer in their place */
  node *out[MAXOUT];
  array *kept[MAXKEPT];
  node *cast[MAXIN];          /* ours, to be dropped at the end; likewise */
  array *a[MAXIN];
  attr own[2 * MAXDIM];       /* room for attributes that the body makes */
} call;

typedef bool forward_fn(call *c);

array *arg(call *c, int i);                               /* input i, which was given; borrowed; NULL: an error */
bool promote(call *c, int rule, int n);                   /* the first n inputs as one dtype, see op_inputs */
bool same_shapes(call *c, const char *who);               /* have the first two inputs the same? Else an error */
bool give(call *c, array *a);                             /* a result, taken over; NULL passes on */
bool give_if(call *c, bool ok, array *a);                 /* a, or nothing of it; likewise */
bool give_node(call *c, node *n);                         /* of a composition; likewise */
bool keep_array(call *c, array *a);                       /* for the gradient: rules find it by own(); likewise */

node *with_batch(graph *G, node *x, const shape *batch);  /* broadcast to these and its last two axes */

/* int64_t axis; double p; ... as one struct `at`: the attributes in the signature's order. */
#define ATTRS(of, ...)                                                                             \
  struct {                                                                                         \
    __VA_ARGS__;                                                                                   \
  } at;                                                                                            \
  attrs_read((of)->nat, (of)->at, &at, sizeof at)
typedef struct { int64_t n, d[MAXDIM]; } ints;            /* one of ints or shape */
void attrs_read(int nat, const attr *from, void *to, size_t bytes);
shape dims_of(const ints *d);
bool usable(graph *G, int n, node *const *in);            /* none was freed; else an error */
bool record_call(call *c);                                /* what the body gave, for its gradient */
static inline bool given(int64_t i) { return i != INT64_MIN; }

/* ---- the gradient of one Function (rules.c), called by backward.c ---------------------------------- */

typedef struct vjp {
  graph *G;
  node *f;
  struct backward *b;
  bool create;              /* gradients are recorded */
  int nkept, room;
  node **kept;              /* handles to drop when the rule is done */
  node *few[64];            /* where they stand while they are few */
  node *shared[4];          /* what the rules of f's inputs have in common: see share */
  node number[3];           /* operands that were numbers */
  int next;                 /* of cat: the input after those met, and where it begins */
  int64_t begin;
} vjp;

#define DONE ((node *)1)    /* added to the accumulator already */

/* The gradient of f's input i. g: that of its only result; of several, each by grad_of. */
typedef node *vjp_fn(vjp *v, int i, node *g);

enum { MAXSAVES = 8 };
extern const uint32_t op_saves[NOP][MAXSAVES];            /* what the gradient of each input reads */
void vjp_begin(vjp *v, graph *G, struct backward *b, node *f, bool create); /* by inputs in order */
node *vjp_run(vjp *v, int i, node *g);                    /* borrowed from `kept`; NULL: error */
void vjp_clear(vjp *v);                                   /* after each rule */
void vjp_end(vjp *v);

node *keep_more(vjp *v, node *n);
static inline node *keep(vjp *v, node *n) {               /* n until the rule is done; NULL passes on */
  if (!n || v->nkept == v->room) return keep_more(v, n);
  return v->kept[v->nkept++] = n;
}
node *use(vjp *v, int i);                                 /* input i as it was, if the saves column says so */
node *result(vjp *v, int k);                              /* result k, likewise */
node *grad_of(vjp *v, int k);                             /* gradient of result k; zeros where it is unused */
bool unused(const vjp *v, int k);
node *share(vjp *v, int k, node *n);                      /* n becomes v->shared[k], for f's next inputs */
bool is_last_use(const vjp *v);                           /* f is released when all its rules are done */
node *own(vjp *v, int i);                                 /* what keep_array kept as number i, a constant */

/* The language of ops.def's vjp column: U, B and T apply ops, P and Q are products and quotients in which a
** 0 in front absorbs, N is a number, Z are zeros, NONE refuses. */
node *vjp_made(vjp *v, int op, int n, node *const *in);
node *vjp_absorbing(vjp *v, int plain, int op, node *a, node *b);
node *vjp_refuse(vjp *v);
#define U(op, a) vjp_made(v, OP_##op, 1, (node *[]){a})
#define B(op, a, b) vjp_made(v, OP_##op, 2, (node *[]){a, b})
#define T(op, a, b, c) vjp_made(v, OP_##op, 3, (node *[]){a, b, c})
#define P(a, b) vjp_absorbing(v, OP_mul, OP__mulz, a, b)
#define Q(a, b) vjp_absorbing(v, OP_div, OP__divz, a, b)
#define N(value) (&(node){.refs = 1, .handles = 1, .flags = NUMBER, .dtype = F64, .k.f = (value)})
#define Z keep(v, like(v->G, g, 0))
#define NONE vjp_refuse(v)

node *vjp_shifted(vjp *v, node *n, int axis, double first); /* by one along an axis, away from its begin */
node *vjp_flipped(vjp *v, node *n, int axis);
node *vjp_swapped(vjp *v, node *n);                        /* the last two axes */

node *op_part(graph *G, int op, node *x, const shape *s, const int64_t *first, const int64_t *step); /* op: slice, slice_grad */

bool backward_releases(const struct backward *b);
node *backward_acc(const struct backward *b, const node *n); /* its gradient so far, borrowed; or NULL */
node *output_grad(const struct backward *b, const output *o); /* new handle; zeros where there is none */
/* An array that is the accumulator of f's input i alone: add in place. NULL: error. */
array *backward_own(struct backward *b, node *x, const shape *s);
bool gives_parts(int op);                                  /* does its gradient add so, piece by piece? */

/* ---- leaves whose gradients processes have in common: backward.c tells buckets.c ----------------------- */

typedef struct packing packing;
struct watch {
  graph *G;
  watch *next;                /* in G->watches */
  struct backward *b;         /* the one that it is told of, or NULL */
  watch *also;                /* told of the same one */
  int first;                  /* place of its first leaf among all that b tells of */
  int n;
  node **leaf;
  bool *final;                /* of each: its gradient is */
  packing *p;
};

/* False: an error. After begin, end comes in any case. */
bool watch_begin(watch *w);
bool watch_final(watch *w, int i);
void watch_step(watch *w);                                 /* between Functions */
bool watch_finish(watch *w);                               /* before b commits */
void watch_end(watch *w);
node *backward_take(struct backward *b, node *leaf);       /* its gradient, now the caller's; NULL: there is none */
bool backward_put(struct backward *b, node *leaf, node *g); /* takes g over */

#define OTHER(name, signature, saves, vjp, doc)                                                    \
  forward_fn forward_##name;                                                                       \
  vjp_fn vjp;
#include "ops.def"

#endif
