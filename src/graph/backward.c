/* backward.c -- gradients, from a result back to the leaves.
**
** Functions are taken from a heap, highest generation first, ties youngest first, each once. Every
** node that got a gradient or stands in the heap is on the list of touched ones, with a ref; its
** accumulator lives in node.acc. Nobody's grad changes before backward_finish, which computes all of
** them in one evaluation and then only swaps pointers. A backward begun while another runs (in a
** Function of the host's) parks the outer one's accumulators.
*/
#include <string.h>

#include "cpu/kern.h"
#include "graph/internal.h"

typedef struct {
  node *n, *acc;
  uint8_t flags;
} parked;

struct backward {
  graph *G;
  node *root;
  backward_opts o;
  bool backprop; /* Config.enable_backprop, to be restored */
  node **heap;
  int nheap, heapcap;
  node **touched;
  int ntouched, touchedcap;
  int ntargets, ninner; /* ninner: targets that have a creator */
  node **targets, **results;
  node *f;  /* the host Function under way */
  node *at; /* the last Function met; NULL after all of them */
  vjp v;
  backward *outer;
  parked *park;
  int nparked;
};

enum { MARKS = QUEUED | OWN_ACC };

static bool grow(ctx *c, node ***list, int n, int *cap) {
  if (n < *cap) return true;
  int more = *cap ? *cap * 2 : 64;
  node **p = mg_alloc(c, more * sizeof *p);
  if (!p) return false;
  if (n) memcpy(p, *list, n * sizeof *p);
  mg_free(*list);
  *list = p;
  *cap = more;
  return true;
}

static bool touch(backward *b, node *n) {
  if (!grow(&b->G->c, &b->touched, b->ntouched, &b->touchedcap)) return false;
  b->touched[b->ntouched++] = node_ref(n);
  return true;
}

static bool before(const node *a, const node *b) {
  return a->generation != b->generation ? a->generation > b->generation : a->id > b->id;
}

static bool push(backward *b, node *n) {
  if (n->flags & QUEUED) return true;
  if (!grow(&b->G->c, &b->heap, b->nheap, &b->heapcap)) return false;
  int i = b->nheap++;
  for (; i > 0 && before(n, b->heap[(i - 1) / 2]); i = (i - 1) / 2)
    b->heap[i] = b->heap[(i - 1) / 2];
  b->heap[i] = n;
  n->flags |= QUEUED;
  return true;
}

static node *pop(backward *b) {
  node *top = b->heap[0], *n = b->heap[--b->nheap];
  int i = 0;
  for (int k; (k = 2 * i + 1) < b->nheap; i = k) {
    if (k + 1 < b->nheap && before(b->heap[k + 1], b->heap[k])) k++;
    if (!before(b->heap[k], n)) break;
    b->heap[i] = b->heap[k];
  }
  b->heap[i] = n;
  top->flags &= ~QUEUED;
  return top;
}

static bool is_target(const backward *b, const node *n) {
  for (int i = 0; i < b->ntargets; i++)
    if (b->targets[i] == n) return true;
  return false;
}

/* Is a gradient for f's input i of any use? */
static bool wanted(const backward *b, node *f, int i) {
  const node *x = *in_at(f, i);
  return x && flows(f, i) && node_tracked(x) &&
         (!b->targets || node_has_creator(x) || is_target(b, x));
}

/* Numbers of one dtype, and nothing is recorded */
static bool both_scalars(const backward *b, const node *x, const node *y) {
  return !b->o.create_graph && !x->a && !y->a && x->dtype == y->dtype;
}

static bool add(backward *b, node *x, node *g) {
  bool alias = x->op == OP_OUTPUT && !node_is_function(x->in[0]); /* by set_creator: passes it on */
  if (x->acc && x->acc->refs == 1 && both_scalars(b, x->acc, g)) {
    x->acc->k = op_scalar(OP_add, g->dtype, x->acc->k, g->k, (imm){0});
    return !alias || add(b, x->in[0], g);
  }
  if (x->acc) {
    node *sum = apply(b->G, OP_add, 2, (node *[]){x->acc, g});
    if (!sum) return false;
    node_drop(b->G, x->acc);
    x->acc = sum;
    x->flags &= ~OWN_ACC;
    return !alias || add(b, x->in[0], g);
  }
  if (!touch(b, x)) return false;
  x->acc = node_hold(g);
  if (!node_has_creator(x)) return true;
  if (alias) return add(b, x->in[0], g);
  node *maker = x->op == OP_OUTPUT ? x->in[0] : x;
  if (maker == x || maker->flags & QUEUED) return push(b, maker);
  return touch(b, maker) && push(b, maker);
}

array *backward_own(backward *b, node *x, const shape *s) {
  graph *G = b->G;
  if (!x->acc) {
    node *zero = node_array(G, arr_zeros(&G->c, x->dtype, s));
    bool ok = zero && add(b, x, zero);
    node_drop(G, zero);
    if (!ok) return NULL;
  } else if (!(x->flags & OWN_ACC)) {
    node *acc = x->acc;
    if (!node_ready(G, acc)) return NULL;
    array *a = acc->a;
    if (acc->refs > 1 || a->refs > 1 || !arr_is_contiguous(a) || a->buf->refs > 1) {
      node *own = node_array(G, arr_copy(&G->c, a));
      if (!own) return NULL;
      node_drop(G, acc);
      x->acc = own;
    }
  }
  x->flags |= OWN_ACC;
  return x->acc->a;
}

static void lose_acc(backward *b, node *n) {
  node *acc = n->acc;
  n->acc = NULL;
  n->flags &= ~OWN_ACC;
  node_drop(b->G, acc);
}

/* ---- begin ------------------------------------------------------------------------------------------- */

static bool park(backward *b) {
  backward *o = b->outer;
  if (!o) return true;
  if (!(b->park = mg_alloc(&b->G->c, (o->ntouched + 1) * sizeof *b->park))) return false;
  for (int i = 0; i < o->ntouched; i++) {
    node *n = o->touched[i];
    b->park[b->nparked++] = (parked){n, n->acc, n->flags & MARKS};
    n->acc = NULL;
    n->flags &= ~MARKS;
  }
  return true;
}

backward *backward_new(graph *G, node *y, node *seed, int ntargets, node *const *targets,
                       backward_opts o) {
  backward *b = mg_alloc(&G->c, sizeof *b);
  if (!b) return NULL;
  memset(b, 0, offsetof(backward, v));
  vjp_begin(&b->v, G, b, o.create_graph);
  b->park = NULL;
  b->nparked = 0;
  b->G = G;
  b->o = o;
  b->root = node_hold(y);
  b->backprop = G->backprop;
  b->outer = G->running;
  G->running = b;
  node *g = NULL;
  if (!park(b)) goto failed;
  if (targets) {
    b->targets = mg_alloc(&G->c, (ntargets + 1) * sizeof *b->targets);
    b->results = mg_alloc(&G->c, (ntargets + 1) * sizeof *b->results);
    if (!b->targets || !b->results) goto failed;
    for (int i = 0; i < ntargets; i++) {
      b->targets[b->ntargets++] = node_hold(targets[i]);
      b->results[i] = NULL;
      b->ninner += node_has_creator(targets[i]);
    }
  }
  if (seed) g = node_hold(seed);
  else if (y->grad && !targets) g = node_hold(y->grad);
  else {
    shape s;
    node_shape(y, &s);
    g = s.n ? node_array(G, arr_const(&G->c, y->dtype, &s, (imm){.f = 1}))
            : node_scalar(G, y->dtype, (imm){.f = 1});
  }
  if (!g) goto failed;
  if (node_has_creator(y) || !y->grad || targets) /* a leaf that has a grad keeps it */
    if (!add(b, y, g)) goto failed;
  node_drop(G, g);
  return b;
failed:
  node_drop(G, g);
  backward_free(b);
  return NULL;
}

/* ---- run ----------------------------------------------------------------------------------------------- */

/* The gradient of y, a result of f, has been used */
static void used(backward *b, node *y) {
  if (!y || b->o.retain_grad) return;
  if (!b->targets) node_set_grad(b->G, y, NULL);
  if (!(b->ninner && is_target(b, y))) lose_acc(b, y);
}

/* f is done with */
static void done(backward *b, node *f) {
  if (!node_is_function(f)) used(b, f);
  else
    for (int k = 0; k < f->x->nout; k++) used(b, f->x->out[k].n);
  if (!b->o.retain_graph) node_release(b->G, f);
}

static bool run_rule(backward *b, node *f) {
  vjp *v = &b->v;
  node *g = f->acc;
  bool ok = true;
  vjp_function(v, f);
  for (int i = 0, n = slots(f); i < n && ok; i++) {
    node *x = *in_at(f, i);
    if (!wanted(b, f, i)) continue;
    node *gx = vjp_run(v, i, g);
    ok = gx && (gx == DONE || add(b, x, gx));
    vjp_clear(v);
  }
  return ok;
}

int backward_next(backward *b, node **host) {
  graph *G = b->G;
  if (b->f) { /* the host has finished with it */
    done(b, b->f);
    b->f = NULL;
  }
  G->backprop = b->o.create_graph;
  int state = 0;
  while (b->nheap && state == 0) {
    node *f = b->at = pop(b);
    if (f->flags & RELEASED) {
      fail(&G->c, "backward: this graph was released by an earlier backward; pass retain_graph = "
                  "true to the first");
      state = -1;
    } else if (f->op == OP_FUNCTION) {
      *host = b->f = f;
      state = 1;
    } else if (run_rule(b, f)) {
      done(b, f);
    } else state = -1;
  }
  if (state == 0) b->at = NULL;
  G->backprop = b->backprop;
  return state;
}

const node *backward_at(const backward *b) { return b->at; }

node *backward_gy(backward *b, int i) { return output_grad(b->G, &b->f->x->out[i]); }

bool backward_accept(backward *b, int i, node *gx) {
  node *x = *in_at(b->f, i);
  return !gx || !wanted(b, b->f, i) || add(b, x, gx);
}

bool backward_splice(backward *b, node *y, node *gy) { return !node_tracked(y) || add(b, y, gy); }

/* ---- end ------------------------------------------------------------------------------------------------- */

/* x's accumulator as a node that is x's alone */
static node *alone(backward *b, node *x) {
  node *acc = x->acc;
  if (acc->handles == 1) return node_hold(acc);
  return node_has_creator(acc) ? op_identity(b->G, acc) : node_detach(b->G, acc);
}

bool backward_finish(backward *b) {
  graph *G = b->G;
  int n = 0;
  bool ok = true;
  node **fresh = mg_alloc(&G->c, (b->ntouched + 1) * sizeof *fresh);
  array **pending = mg_alloc(&G->c, (b->ntouched + b->ntargets + 2) * sizeof *pending);
  ok = fresh && pending;
  G->backprop = b->o.create_graph;
  int npending = 0;
  if (b->targets) {
    for (int i = 0; i < b->ntargets && ok; i++) {
      node *x = b->targets[i];
      if (x->acc) b->results[i] = alone(b, x);
      else {
        array *a = node_as_array(G, x); /* for its shape: y does not depend on x */
        b->results[i] = a ? node_array(G, arr_const(&G->c, x->dtype, &a->s, (imm){0})) : NULL;
        arr_unref(a);
      }
      ok = b->results[i] != NULL;
      if (ok && b->results[i]->a) pending[npending++] = b->results[i]->a;
    }
  } else {
    for (; n < b->ntouched && ok; n++) {
      node *x = b->touched[n];
      fresh[n] = NULL;
      if (!x->acc || (x == b->root && x->grad) || (node_has_creator(x) && !b->o.retain_grad))
        continue;
      fresh[n] = x->grad ? apply(G, OP_add, 2, (node *[]){x->grad, x->acc}) : alone(b, x);
      lose_acc(b, x);
      ok = fresh[n] != NULL;
      if (ok && fresh[n]->a) pending[npending++] = fresh[n]->a;
    }
  }
  array *y = b->root->a;
  if (ok && y && y->state == PENDING) pending[npending++] = y; /* the result: in the same pass */
  ok = ok && arr_eval(&G->c, npending, pending, NULL);
  for (int i = 0; i < n; i++) {
    node *x = b->touched[i];
    /* without a handle on x, a grad that leads back to it would never go: see node.c */
    bool keep = ok && fresh[i] && (x->handles > 0 || !node_has_creator(fresh[i]));
    if (keep) node_set_grad(G, x, fresh[i]);
    else if (fresh[i]) node_drop(G, fresh[i]);
  }
  mg_free(fresh);
  mg_free(pending);
  G->backprop = b->backprop;
  return ok;
}

node *backward_target(backward *b, int i) { return node_hold(b->results[i]); }

void backward_free(backward *b) {
  graph *G = b->G;
  vjp_end(&b->v);
  for (int i = 0; i < b->ntouched; i++) {
    node *n = b->touched[i];
    n->flags &= ~MARKS;
    if (n->acc) lose_acc(b, n);
  }
  for (int i = 0; i < b->nparked; i++) {
    node *n = b->park[i].n;
    if (!n->acc) n->acc = b->park[i].acc;
    n->flags |= b->park[i].flags;
  }
  G->running = b->outer;
  G->backprop = b->backprop;
  for (int i = 0; i < b->ntouched; i++) node_unref(G, b->touched[i]);
  for (int i = 0; i < b->ntargets; i++) {
    node_drop(G, b->targets[i]);
    node_drop(G, b->results[i]);
  }
  node_drop(G, b->root);
  mg_free(b->heap);
  mg_free(b->touched);
  mg_free(b->targets);
  mg_free(b->results);
  mg_free(b->park);
  mg_free(b);
}
