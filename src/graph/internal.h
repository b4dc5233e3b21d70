/* internal.h -- what the files of the graph share among themselves. */
#ifndef MG_INSIDE_H
#define MG_INSIDE_H

#include "graph/graph.h"

enum { X = 1, Y = 2, D = 4, OUT = 8 }; /* the saves column of ops.def */

/* Inputs and what is saved of them, wherever they stand */
static inline node **in_at(node *f, int i) { return i < 2 ? &f->in[i] : &f->x->in[i - 2]; }
static inline saved *sv_at(node *f, int i) { return i < 2 ? &f->sv[i] : &f->x->sv[i - 2]; }
/* How many of them there may be; some may be NULL */
static inline int slots(const node *f) { return f->x && f->x->nin > 2 ? f->x->nin : 2; }
static inline int kind_bits(const node *f, int i) {
  return i < 2 ? f->kind >> 4 * i & 15 : f->x->kind[i - 2];
}
static inline int kind_of(const node *f, int i) { return kind_bits(f, i) & ~FLOWS; }
static inline bool flows(const node *f, int i) { return kind_bits(f, i) & FLOWS; }

node *node_new(graph *G, dtype t);                         /* a scalar, to be set */
/* Make r the output of op on in[0..n-1], keeping the values of `saves`. False: r is dropped. */
bool record(graph *G, node *r, int op, int n, node *const *in, int saves);
bool recording(const graph *G, int n, node *const *in);   /* does an op on these make a creator? */
void node_restore(node *n, array *a);                     /* the value that n let go of */
void node_release(graph *G, node *f);                     /* let go of what f saved; the skeleton stays */
node *like(graph *G, node *g, double v);                  /* a constant of g's shape and dtype */

bool op_inputs(graph *G, int op, int n, node *const *in, node **out, dtype *t); /* cast to the op's dtype */

/* ---- the gradient of one Function (rules.c), called by backward.c ---------------------------------- */

typedef struct vjp {
  graph *G;
  node *f;
  struct backward *b;
  bool create;              /* gradients are recorded */
  int nkept;
  node *kept[64];           /* handles to drop when the rule is done */
  node number[3];           /* operands that were numbers */
} vjp;

#define DONE ((node *)1)    /* added to the accumulator already */

extern const uint8_t op_saves[NOP][3];                    /* what the gradient of each input reads */
node *vjp_run(vjp *v, int i, node *g);                    /* borrowed from `kept`; NULL: error */
void vjp_end(vjp *v);

/* An array that is the accumulator of f's input i alone: add in place. NULL: error. */
array *backward_own(struct backward *b, node *x, const shape *s);

#endif
