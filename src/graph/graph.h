/* graph.h -- Variables, the Functions that made them, and their gradients.
**
** A node is both: the Variable (value, grad) and, where recorded, the Function that made it (op,
** inputs, saved values). Two kinds of reference keep it:
**   refs      everybody, inputs of Functions among them: the skeleton stays
**   handles   those who may look at the value: boxes, grads, C code (each holds a ref too). With the
**             last handle the value goes, unless the node's own gradient rule saved it; saved inputs
**             are held by the Function, not through the node.
** Functions returning node* give a new handle, or NULL with the reason in G->c; given a NULL operand
** they return NULL and change nothing, so that expressions need one check.
*/
#ifndef MG_GRAPH_H
#define MG_GRAPH_H

#include "array/array.h"
#include "moongrad.h"

enum {
  OP_FUNCTION = NOP,          /* a host (Lua) Function */
  OP_OUTPUT                   /* one of the outputs of in[0]; by set_creator, in[0] once more */
};

enum flag {                   /* node.flags */
  TRACKED = 1,                /* requires_grad: gradients flow here (a leaf) or through here */
  NUMBER = 2,                 /* a Lua number: never widens a dtype, never kept by a node */
  SAVES_OUT = 4,              /* the vjp reads the node's own value */
  RELEASED = 8,               /* a backward has used up what was saved */
  DROPPED = 16,               /* the value was let go: nobody had a handle */
  FROZEN = 32,                /* x.data: writing into it would be lost */
  ASSIGNED = 128,             /* a target of the assign under way, or of what the replay that begins tells apart */
  PART = 64,                  /* x[...] or x.T, not recorded: writing into it would not reach x */
  OUTSIDE = 256,              /* made while a recording paused: it was there before, as it were */
  UNREAL = 512,               /* made while a function was recorded by mg.compile: it has no value */
  REPLAYED = 1024,            /* the result of a replay: nothing of what it is made of is known */
  POINT = 2048,               /* where a transform differentiates */
  WEAK = 4096                 /* a number, to dtypes; see mg.dynamic */
};

typedef struct node node;

typedef union { array *a; imm k; } saved;
/* NUMBER: the operand was one, in[] is NULL. FLOWS beside them: the input was tracked when the op was
** applied; only then is saved what its gradient reads. */
enum { SAVED_NONE, SAVED_SCALAR, SAVED_NUMBER, SAVED_ARRAY = 8, FLOWS = 4 };

/* What an op is told beside its inputs, in the order of its signature, one after the other:
**   int, bool (0, 1), axis (0-based), choice (0-based), dtype    one i
**   axes (bit i: axis i, 0-based)                                one i
**   number                                                       one f
**   pair                                                         two i; -1, -2 ... for a choice in its place
**   ints, shape                                                  their count, then MAXDIM i
** What was left out and has no default: INT64_MIN, of a number nan. */
typedef union attr { int64_t i; double f; } attr;
typedef struct attrs { int n; attr v[40]; } attrs;

typedef struct output {       /* one of several results */
  node *n;                    /* held weakly; NULL where gone */
  array *a;                   /* its value, where the gradient reads it; NULL else */
  uint8_t dtype;
  shape s;
} output;

typedef struct extra {        /* what few nodes need */
  char *name;                 /* of the Variable, or of the host's Function; malloc'd by mg_alloc */
  char *line;                 /* Config.debug: "script.lua:12" */
  char *origin;               /* likewise, of a value that is not finite: why */
  int nin;                    /* all inputs; from the third on they stand here */
  node **in;
  saved *sv;
  uint8_t *kind;
  shape s;                    /* of the first input, for ops that are not elementwise */
  int nkept;                  /* arrays that only the gradient reads: the op's own */
  array **kept;
  int nout;                   /* not 0: this is a Function alone, its Variables are OP_OUTPUT nodes */
  output *out;
  int ref;                    /* OP_FUNCTION: the host's object, let go through G->release; 0: none */
  int nat;
  attr at[];
} extra;

struct node {
  int32_t refs, handles;
  uint32_t generation : 30;   /* of the Variable: 0 for leaves; of the Function: one less */
  uint32_t parts : 1;         /* its gradient may have more of them than there are readers: leaf_of in backward.c */
  uint32_t lent : 1;          /* a gradient that the host was given or gave: it may have boxes yet */
  uint32_t op : 8;            /* OP_NONE: no creator */
  uint32_t kind : 8;          /* how sv[0] (low four bits) and sv[1] are saved: see internal.h */
  uint32_t dtype : 3, flags : 13;
  array *a;                   /* the value, or NULL: the scalar in k (0-d); DROPPED: a CONST that keeps the shape */
  imm k;
  node *grad;
  union {
    struct slot *slot;        /* what the running backward knows of it */
    node *next;               /* in a list of node.c's, while none runs or the node is dead */
  };
  extra *x;                   /* NULL, mostly */
  uint64_t id;                /* creation number */
  node *in[2];                /* from here on only Functions touch it; NULL in all others */
  saved sv[2];
};

typedef struct graph {
  ctx c;
  arrays arrays;              /* c.arrays */
  bool backprop, train, debug; /* Config; lean is arrays.lean */
  dtype dtype;                /* Config.dtype: F64 or F32 */
  node *free;
  struct slab *slabs;         /* where nodes stand */
  bool closed;                /* no more nodes are made */
  uint64_t ids;
  uint64_t again;             /* the latest array.again */
  int64_t live;               /* nodes alive */
  void (*release)(struct graph *G, int ref);
  void *host;
  struct backward *running;
  bool shuffled;              /* by set_creator: inputs may be younger, and of a higher generation */
  struct captures *captures;  /* where what is read is noted, or NULL */
  struct recorder *recorder;  /* of mg.compile, while it records; else NULL */
  bool outside;               /* it pauses */
  struct watch *watches;      /* leaves whose gradients processes have in common */
} graph;

void graph_init(graph *G);
void graph_close(graph *G);   /* gives the slabs back */

/* ---- nodes (node.c) --------------------------------------------------------------------------- */

node *node_scalar(graph *G, dtype t, imm k);
node *node_array(graph *G, array *a);                 /* takes a over; NULL passes on */
static inline node node_number(double v) {            /* on the C stack, for operands */
  return (node){.refs = 1, .handles = 1, .flags = NUMBER, .dtype = F64, .k.f = v};
}
static inline node node_integer(int64_t v) {
  return (node){.refs = 1, .handles = 1, .flags = NUMBER, .dtype = I64, .k.i = v};
}
node *node_hold(node *n);                             /* one more handle */
void node_drop(graph *G, node *n);                    /* one less; NULL is fine; frees iteratively */
node *node_ref(node *n);                              /* skeleton only */
void node_unref(graph *G, node *n);
bool node_shape(const node *n, shape *s);
static inline bool node_has_creator(const node *n) { return n->op != OP_NONE; }
/* A Function alone, with outputs that are not itself */
static inline bool node_is_function(const node *n) { return n->x && n->x->nout; }
static inline bool node_tracked(const node *n) { return n->flags & TRACKED; }
int node_nin(const node *n);                          /* inputs of the Function; numbers count */
bool node_has_input(const node *f, int i);            /* false: it was left out */
node *node_input(graph *G, node *f, int i);           /* new handle; a constant made for a number; the value back from what is saved */
bool node_ready(graph *G, node *n);                   /* value READY, CONST or scalar; error if DROPPED */
bool node_item(graph *G, node *n, imm *v);            /* of size 1 */
enum { UNFINITE_NONE, UNFINITE_INF, UNFINITE_NAN };
int node_unfinite(graph *G, node *n);                 /* the worst there is in n; NONE, and G->c.err: no memory to tell */
array *node_computed(graph *G, node *n);              /* new reference: READY or CONST, where it lies, also for scalars */
array *node_values(graph *G, node *n);                /* likewise READY and contiguous */
array *node_dense(graph *G, node *n);                 /* likewise, for launches: not to be looked into */
array *node_as_array(graph *G, node *n);              /* new reference, perhaps pending; scalars as CONST */
node *node_detach(graph *G, node *n);                 /* same value, untracked */
bool node_set_value(graph *G, node *n, array *a);     /* x.data = v; takes a over; shape and dtype fit */
void node_unchain(graph *G, node *n);                 /* forget the creator */
bool node_unchain_backward(graph *G, node *n);        /* ... and of all before it */
bool node_set_creator(graph *G, node *x, node *f);
node *node_alias(const graph *G, node *x); /* what by set_creator is one with x: gradients are for both; or NULL */
void node_set_grad(graph *G, node *n, node *g);       /* takes g's handle over; NULL clears */
node *node_grad(graph *G, node *n);                   /* borrowed, to be read; or NULL */
void recorder_grad(graph *G, node *n, bool write);
void recorder_tracked(graph *G, node *n);
void recorder_made(graph *G, node *n);                /* a new node */
bool recorder_knows(const graph *G, const node *n);   /* it was there before the recording began */
extra *node_extra(graph *G, node *n);                 /* made at first need */
bool node_assign(graph *G, int n, node *const *targets, node *const *values); /* shapes checked; dtypes cast */
bool node_eval(graph *G, int n, node *const *v);      /* compute what is pending, together */
/* All arrays that nodes keep, each with the node whose value it is, or was when a Function saved it;
** some perhaps twice. */
void graph_arrays(graph *G, void (*visit)(void *arg, const node *of, array *a), void *arg);

/* ---- ops (apply.c, forward.c); they broadcast, promote, compute (late) and record ---------------- */

node *apply(graph *G, int op, int n, node *const *in);               /* elementwise */
node *op_reduce(graph *G, int op, node *x, uint32_t axes, bool keepdims); /* axes: bit i = axis i (0-based) */

/* The others: in[i] is NULL where an input is left out; the results go into out. Their number, 0:
** an error. op_one gives the first alone. */
enum { MAXIN = 8, MAXOUT = 8 }; /* more inputs only in lists, whose bodies do without arg and promote */
int op_apply(graph *G, int op, int n, node *const *in, int nat, const attr *at, node *out[MAXOUT]);
node *op_one(graph *G, int op, int n, node *const *in, int nat, const attr *at);

/* Of these, what C calls often */
node *op_to(graph *G, node *x, dtype t);
node *op_identity(graph *G, node *x);
node *op_reshape(graph *G, node *x, const shape *s);
node *op_permute(graph *G, node *x, const int *perm);
node *op_broadcast_to(graph *G, node *x, const shape *s);
node *op_sum_to(graph *G, node *x, const shape *s);
node *op_slice(graph *G, node *x, const shape *s, const int64_t *first, const int64_t *step); /* 0-based first; s keeps every axis */
node *op_index_select(graph *G, node *x, int axis, node *idx);
node *op_gather(graph *G, node *x, int axis, node *idx);
node *op_matmul(graph *G, node *x, node *y);

node *op_nonzero(graph *G, node *mask);                               /* 1-d int64, not recorded */

/* A host Function: records node f with inputs; its outputs are made of untracked nodes' values. */
node *function_new(graph *G, int n, node *const *in, const char *name); /* OP_FUNCTION, or NULL */
node *function_output(graph *G, node *f, int index, int nout, node *value);      /* OP_OUTPUT Variable */

/* ---- where nodes stand (nodemap.c) ----------------------------------------------------------------- */

typedef struct {
  struct spot *v;
  int n, cap;
} nodemap;

int nodemap_get(const nodemap *m, const node *n);                /* the place of n in a list; -1: none */
bool nodemap_put(ctx *c, nodemap *m, const node *n, int place);  /* of one that has none. False: no memory */
void nodemap_free(nodemap *m);

/* ---- what a function reads (capture.c) ------------------------------------------------------------ */

typedef struct {
  node *n;                    /* a handle */
  array *a;                   /* its value when it was first read or written: a reference, or NULL and */
  imm k;
  bool tracked;
} captured;

typedef struct captures {
  uint64_t since;             /* creation number: younger nodes do not count */
  int n;
  size_t room;
  captured *v;
  nodemap places;             /* in v */
  bool failed;                /* there was no memory to note all */
  bool derived;               /* gradients were taken meanwhile */
  bool grown;                 /* a layer got its parameters meanwhile, and the stream was here then: */
  uint64_t counter;
} captures;

/* The place of n, noted with this value unless it was before; -1: does not count. */
int captures_note(graph *G, captures *c, node *n, array *a, imm k);
static inline bool node_noted(const graph *G) { return G->captures || G->recorder; }
void recorder_read(graph *G, node *n);
static inline void node_read(graph *G, node *n) { /* n's value is about to be read or written */
  if (__builtin_expect(G->recorder != NULL, 0)) recorder_read(G, n); /* what is noted stands for its value */
  if (__builtin_expect(G->captures != NULL, 0)) captures_note(G, G->captures, n, n->a, n->k);
}
void captures_grow(graph *G, captures *c); /* what was just made counts as there before */
void captures_end(graph *G, captures *c);
node *checkpoint_new(graph *G, captures *c, const char *name); /* OP_FUNCTION of all of them */
/* f's inputs get the values that f saved; `now` keeps what they are, until captures_restore. */
bool captures_recall(graph *G, node *f, captures *now);
void captures_restore(graph *G, captures *now);
/* Does one of the ys, recorded after `again`, lead to what is neither one of f's inputs nor a leaf made after `first`
** and before f? NULL does not; -1: no memory */
int captures_missed(graph *G, node *f, uint64_t first, uint64_t again, int n, node *const *y);
/* Is y made of more than what c has, element by element? False: an error */
bool captures_computed(graph *G, const captures *c, const node *y, bool *yes);
typedef struct { double sum, squares; } sample;
bool captures_sample(graph *G, node *y, sample *of);  /* of y, floats. False: an error */
/* Are they of the same n values, but for rounding? */
bool captures_like(dtype t, int64_t n, const sample *a, const sample *b);

/* ---- what a recorded function reads and changes (recorder.c) ---------------------------------------- */

typedef struct recorder recorder;
typedef struct replay replay;

recorder *recorder_begin(graph *G);           /* from now on nothing is computed */
/* New handle: what f is given in its place. itself: the Variable, which the record is for then */
node *recorder_argument(graph *G, node *of, bool itself);
/* Which arguments f reads otherwise, too, from `from` on, -1: none. Such a record will not do: they are to be given
** as they are. */
int recorder_met(const recorder *r, int from);
node *recorder_number(graph *G, int *index);  /* new handle: a number that is asked for before each replay */
void recorder_pause(graph *G, recorder *r);   /* what is done until recorder_resume is done, and not recorded */
void recorder_resume(graph *G, recorder *r);
void recorder_skip(graph *G, uint64_t from);   /* what was drawn from there on is not drawn at replays */
void recorder_set_back(graph *G, uint64_t to); /* the stream: what was skipped since is nobody's */
uint64_t recorder_serial(const graph *G);      /* another for each */
/* Which way a record goes where there are two, by the bits of `script`, of which there are n; then all are true. */
void recorder_script(graph *G, uint64_t script, int n);
/* Is x true? *yes: what it is taken for; a replay in which it is not so ends as REPLAY_BRANCH,
** by this choice. */
bool recorder_choose(graph *G, node *x, bool *yes);
int recorder_choices(const recorder *r, uint64_t *script);
bool recorder_truth(graph *G, node *x);       /* a replay in which x, of size 1, is not true is none */
/* Everything is as it was before; f gave these. NULL: an error. */
replay *recorder_end(graph *G, recorder *r, int n, node *const *results);
void recorder_abort(graph *G, recorder *r);   /* likewise, and nothing was recorded */

enum replayed { REPLAY_FAILED, REPLAY_DONE, REPLAY_BRANCH, REPLAY_STALE };
/* Of arguments like those that were recorded. BRANCH: values go another way than was recorded, which is to be
** recorded too, or f called instead; STALE: what f captures is of another form, it is to be recorded again. The
** results are new handles. */
enum replayed replay_run(graph *G, replay *p, node *const *arguments, const double *numbers, node **results);
int replay_choice(const replay *p);           /* of the last run that ended as BRANCH: the choice, from 0, or NO_CHOICE */
bool replay_takes(const replay *p, int i, const node *n); /* has argument i the form of n? */
/* None of the arguments is another, nor one of the Variables that the function captures without its being so in
** the record; and nothing that is written is read by another name, as the grad of a Variable. */
bool replay_apart(const replay *p, node *const *arguments);
void replay_free(graph *G, replay *p);
/* What was made later loses values and graph: `made`, places that it had, some perhaps twice; n < 0: look for all */
void graph_forget(graph *G, uint64_t since, int64_t n, node *const *made);

/* ---- backward (backward.c) ---------------------------------------------------------------------- */

typedef struct backward backward;
typedef struct { bool retain_grad, create_graph, retain_graph; } backward_opts;

/* Of the sum of ys times what comes in: gys, where NULL (all, or one) ones; a y with a creator and a
** grad starts from that. xs NULL: for .grad of leaves; else gradients are kept for these nodes alone,
** nothing is walked that does not lead to them, and .grad is left as it is. Untracked ys add nothing. */
backward *backward_new(graph *G, int ny, node *const *ys, node *const *gys, int nx,
                       node *const *xs, backward_opts o);
bool backward_reaches(const backward *b, int i); /* do the ys depend on xs[i]? */
bool backward_links(const backward *b);          /* ... or on what is tracked and none of the xs? */
void backward_create_graph(backward *b, bool on); /* before the first step */
/* Runs until done (0), until a host Function f must run (1), or an error (-1). */
int backward_next(backward *b, node **f);
node *backward_gy(backward *b, int i);                /* new handle: gradient of f's output i; zeros where unused */
bool backward_wants(const backward *b, int i);        /* is a gradient for f's input i of any use? */
bool backward_accept(backward *b, int i, node *gx);
bool backward_splice(backward *b, node *y, node *gy); /* go on through y with gradient gy */
bool backward_finish(backward *b);                    /* commit */
const node *backward_at(const backward *b);           /* the Function under way, or where it failed; NULL: none */
node *backward_target(backward *b, int i);            /* new handle, after finish; only of those reached */
void backward_free(backward *b);                      /* at any time; drops all that was not committed */

/* ---- gradients that processes have in common (buckets.c) --------------------------------------------- */

typedef struct watch watch;
/* Of these leaves, each watched but once; count: leaves in each bucket, all of one dtype. r is its own. */
watch *watch_new(graph *G, int n, node *const *leaf, int nbuckets, const int *count,
                 moongrad_reducer *r);
void watch_free(watch *w);                            /* while a backward runs: when that is over */
int watch_buckets(const watch *w);
const int *watch_order(const watch *w, int *n);       /* leaves in the order in which they were final, n of them */

#endif
