/* backward.c -- gradients, from results back to the leaves, or to the targets alone.
**
** Functions are taken from a heap, highest generation first, ties youngest first, each once. What a
** backward knows of a node stands in a slot that hangs on it (node.slot) and holds a ref; it goes when
** the gradient has been used. A backward begun while another runs, in a Function of the host's, hangs
** its slots before the outer one's.
**
** With targets, all that the results depend on is looked through first, and what leads to a target
** marked: only that is walked, and released. Nobody's grad changes before backward_finish, which
** computes all of them in one evaluation and then only swaps pointers.
**
** Where leaves are watched (buckets.c), the Functions that may add to each gradient are counted
** first; when the last of them is done, it is final, and the leaf's watch is told. A leaf's transpose
** or the like, of generation 0, would come last of all: it runs as soon as its gradient is final,
** where nothing else is to come for the leaf, so that no sum is in another order.
**
** So does a leaf's broadcast in any backward: the sum that is the leaf's gradient then waits only until
** something is computed anyway, and is computed with that, so that what it sums goes, and is read once.
*/
#include <string.h>

#include "graph/internal.h"

enum marks {
  QUEUED = 1,  /* in the heap */
  OWN_ACC = 2, /* acc's array is the accumulator's alone: add in place */
  TARGET = 4,
  OPEN = 8,   /* its inputs are being looked at */
  SEEN = 16,  /* a result depends on it (or: its inputs were counted), */
  LEADS = 32, /* and it on a target */
  RAN = 64    /* before its turn */
};

typedef struct slot {
  node *n;            /* NULL: a spare one */
  node *acc;          /* the gradient so far */
  struct slot *outer; /* that of the backward around this one; the next spare one */
  backward *b;
  uint32_t marks : 8;
  uint32_t place : 24; /* of a watched leaf among those of b's watches, from 1; 0: it is none */
  uint32_t uses;       /* where leaves are watched: Functions still to come that may add to acc */
} slot;

typedef struct chunk { /* of slots; they stay where they are */
  struct chunk *next;
  int n, cap;
  slot s[];
} chunk;

typedef struct {
  node **n;
  int len;
  size_t room;
} list;

struct backward {
  graph *G;
  backward_opts o;
  bool backprop; /* Config.enable_backprop, to be restored */
  bool linked; /* the results depend on tracked leaves but targets and points of inner transforms */
  bool sums; /* a broadcast has got a gradient, and nobody has looked whether it leads to a leaf */
  list heap, stack;
  list late; /* leaves whose gradients are sums that wait */
  slot *spare;
  chunk *slots;
  int nslots; /* those in use */
  int nroots, ntargets;
  node **roots, **targets, **results; /* one block; targets NULL: for .grad of leaves */
  uint32_t lowest;                    /* generation of a target, */
  uint64_t oldest;                    /* and creation number */
  uint64_t first_id;                  /* the same, also where the order of ids says nothing */
  node *f;                            /* the host Function under way */
  node *at;                           /* the last Function met; NULL after all of them */
  watch *watches;                     /* told of this one */
  backward *outer;
  chunk first;
};

enum { FIRST = 16, MOST = 4096 };

static bool append(ctx *c, list *l, node *n) {
  if (!mg_grow(c, (void **)&l->n, &l->room, (l->len + 1) * sizeof *l->n)) return false;
  l->n[l->len++] = n;
  return true;
}

/* ---- slots ------------------------------------------------------------------------------------- */

static slot *find(const backward *b, const node *n) {
  slot *s = n->slot;
  return s && s->b == b ? s : NULL;
}

static slot *slot_of(backward *b, node *n) { /* made at first need */
  slot *s = find(b, n);
  if (s) return s;
  if ((s = b->spare)) b->spare = s->outer;
  else {
    chunk *c = b->slots;
    if (c->n == c->cap) {
      int cap = c->cap < MOST ? c->cap * 4 : MOST;
      if (!(c = mg_alloc(&b->G->c, sizeof *c + cap * sizeof *c->s))) return NULL;
      *c = (chunk){.next = b->slots, .cap = cap};
      b->slots = c;
    }
    s = &c->s[c->n++];
  }
  *s = (slot){.n = node_ref(n), .outer = n->slot, .b = b};
  n->slot = s;
  b->nslots++;
  return s;
}

static void lose_acc(backward *b, slot *s) {
  node *acc = s->acc;
  s->acc = NULL;
  s->marks &= ~OWN_ACC;
  node_drop(b->G, acc);
}

static void slot_end(backward *b, slot *s) {
  node *n = s->n;
  slot **p = &n->slot;
  while (*p != s) p = &(*p)->outer;
  *p = s->outer;
  lose_acc(b, s);
  s->n = NULL;
  s->outer = b->spare;
  b->spare = s;
  b->nslots--;
  node_unref(b->G, n);
}

/* ---- the heap ---------------------------------------------------------------------------------- */

static bool before(const node *a, const node *b) {
  return a->generation != b->generation ? a->generation > b->generation : a->id > b->id;
}

static bool push(backward *b, node *n) {
  slot *s = slot_of(b, n);
  if (!s || s->marks & QUEUED) return s != NULL;
  if (!append(&b->G->c, &b->heap, n)) return false;
  node **heap = b->heap.n;
  int i = b->heap.len - 1;
  for (; i > 0 && before(n, heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
  heap[i] = n;
  s->marks |= QUEUED;
  return true;
}

static node *pop(backward *b) {
  node **heap = b->heap.n, *top = heap[0], *n = heap[--b->heap.len];
  int i = 0;
  for (int k; (k = 2 * i + 1) < b->heap.len; i = k) {
    if (k + 1 < b->heap.len && before(heap[k + 1], heap[k])) k++;
    if (!before(heap[k], n)) break;
    heap[i] = heap[k];
  }
  heap[i] = n;
  find(b, top)->marks &= ~QUEUED;
  return top;
}

/* ---- what leads where -------------------------------------------------------------------------- */

/* Input i of f, where gradients flow to it */
static node *tracked_input(node *f, int i) {
  node *x = *in_at(f, i);
  return x && flows(f, i) && node_tracked(x) ? x : NULL;
}

/* Is a gradient for x of any use? */
static bool wanted(const backward *b, const node *x) {
  if (!b->targets) return true;
  const slot *s = find(b, x);
  return s && s->marks & (TARGET | LEADS);
}

/* Marks what y depends on, and what of it leads to targets: inputs first. Nothing made before all
** targets is looked into. */
static bool mark(backward *b, node *y) {
  ctx *c = &b->G->c;
  if (!append(c, &b->stack, y)) return false;
  while (b->stack.len) {
    node *f = b->stack.n[b->stack.len - 1];
    slot *s = slot_of(b, f);
    if (!s) return false;
    if (s->marks & SEEN) b->stack.len--;
    else if (s->marks & OPEN) {
      for (int i = 0, n = slots(f); i < n && !(s->marks & LEADS); i++) {
        node *x = tracked_input(f, i);
        if (x && wanted(b, x)) s->marks |= LEADS;
      }
      s->marks |= SEEN;
    } else if (node_has_creator(f) && f->generation > b->lowest && f->id > b->oldest) {
      s->marks |= OPEN;
      for (int i = 0, n = slots(f); i < n; i++) {
        node *x = tracked_input(f, i);
        if (x && !(find(b, x) && find(b, x)->marks & OPEN) && !append(c, &b->stack, x))
          return false;
      }
    } else {
      s->marks |= SEEN;
      if (!(s->marks & TARGET) && !(f->flags & POINT && f->id > b->first_id)) b->linked = true;
    }
  }
  return true;
}

/* ---- adding up --------------------------------------------------------------------------------- */

/* Numbers of one dtype, and nothing is recorded */
static bool both_scalars(const backward *b, const node *x, const node *y) {
  return !b->o.create_graph && !x->a && !y->a && x->dtype == y->dtype;
}

static bool add(backward *b, node *x, node *g) {
  if (g->dtype != x->dtype) { /* what a rule made of numbers may be wider */
    node *own = op_to(b->G, g, x->dtype);
    bool ok = own && add(b, x, own);
    node_drop(b->G, own);
    return ok;
  }
  slot *s = slot_of(b, x);
  if (!s) return false;
  node *alias = node_alias(b->G, x); /* it passes the gradient on */
  if (!s->acc) {
    s->acc = node_hold(g);
    b->sums |= x->op == OP_broadcast_to;
    if (node_has_creator(x) && !alias && (!b->targets || s->marks & LEADS))
      return push(b, x->op == OP_OUTPUT ? x->in[0] : x);
  } else if (s->acc->refs == 1 && both_scalars(b, s->acc, g)) {
    s->acc->k = launch_scalar(&b->G->c, OP_add, g->dtype, s->acc->k, g->k, (imm){0});
  } else {
    node *sum = apply(b->G, OP_add, 2, (node *[]){s->acc, g});
    if (!sum) return false;
    node_drop(b->G, s->acc);
    s->acc = sum;
    s->marks &= ~OWN_ACC;
  }
  if (!alias || !wanted(b, x->in[0])) return true;
  return add(b, alias, g) && (alias == x->in[0] || push(b, x->in[0]));
}

array *backward_own(backward *b, node *x, const shape *s) {
  graph *G = b->G;
  slot *of = find(b, x);
  if (!of || !of->acc) {
    node *zero = node_array(G, arr_zeros(&G->c, x->dtype, s));
    bool ok = zero && add(b, x, zero);
    node_drop(G, zero);
    if (!ok) return NULL;
    of = find(b, x);
  } else if (!(of->marks & OWN_ACC)) {
    node *acc = of->acc;
    if (!node_ready(G, acc)) return NULL;
    array *a = acc->a;
    if (acc->refs > 1 || !arr_sole(a, 1)) {
      node *own = node_array(G, arr_copy(&G->c, a));
      if (!own) return NULL;
      node_drop(G, acc);
      of->acc = own;
    }
  }
  of->marks |= OWN_ACC;
  return of->acc->a;
}

/* ---- watched leaves ----------------------------------------------------------------------------------- */

static watch *watch_at(const backward *b, uint32_t place, int *i) {
  watch *w = b->watches;
  while (place <= (uint32_t)w->first || place > (uint32_t)(w->first + w->n)) w = w->also;
  *i = (int)place - 1 - w->first;
  return w;
}

static bool is_told_elsewhere(const slot *s) {
  while ((s = s->outer))
    if (s->place) return true;
  return false;
}

/* One Function more may add to x. */
static bool count_one(backward *b, node *x) {
  slot *s = slot_of(b, x);
  if (!s) return false;
  s->uses++;
  if (s->outer && !s->place && is_told_elsewhere(s))
    return fail(&b->G->c, "backward: within a backward of the same parameters, which processes "
                          "have in common");
  return true;
}

/* Counts along all that y depends on. */
static bool count(backward *b, node *y) {
  ctx *c = &b->G->c;
  if (!count_one(b, y)) return false;
  if (node_has_creator(y) && !append(c, &b->stack, y)) return false;
  while (b->stack.len) {
    node *f = b->stack.n[--b->stack.len];
    slot *s = slot_of(b, f);
    if (!s) return false;
    if (s->marks & SEEN) continue;
    s->marks |= SEEN;
    for (int i = 0, n = slots(f); i < n; i++) {
      node *x = tracked_input(f, i);
      if (!x) continue;
      if (!count_one(b, x)) return false;
      if (node_has_creator(x) && !append(c, &b->stack, x)) return false;
    }
  }
  return true;
}

static bool is_reached(const watch *w, const backward *b) {
  for (int i = 0; i < w->n; i++)
    if (find(b, w->leaf[i])->uses) return true;
  return false;
}

/* Those no leaf of which is reached are not told. */
static bool begin_watches(backward *b) {
  int first = 0;
  for (watch *w = b->G->watches; w; w = w->next) {
    if (w->b) continue;
    w->first = first;
    first += w->n;
    for (int i = 0; i < w->n; i++) {
      slot *s = slot_of(b, w->leaf[i]);
      if (!s) return false;
      s->place = w->first + i + 1;
    }
    w->also = b->watches;
    b->watches = w;
  }
  for (int i = 0; i < b->nroots; i++)
    if (node_tracked(b->roots[i]) && !count(b, b->roots[i])) return false;
  watch **at = &b->watches, *w;
  while ((w = *at))
    if (is_reached(w, b)) {
      if (b->G->recorder)
        return fail(&b->G->c, "backward: mg.compile cannot record gradients that are averaged over "
                              "processes");
      if (b->o.create_graph)
        return fail(&b->G->c, "backward: create_graph is of no use to gradients that are averaged "
                              "over processes: ask for mg.gradients");
      w->b = b;
      at = &w->also;
    } else {
      for (int i = 0; i < w->n; i++) find(b, w->leaf[i])->place = 0;
      *at = w->also;
    }
  for (w = b->watches; w; w = w->also)
    if (!watch_begin(w)) return false;
  return true;
}

node *backward_take(backward *b, node *leaf) {
  slot *s = find(b, leaf);
  node *acc = s->acc;
  s->acc = NULL;
  s->marks &= ~OWN_ACC;
  return acc;
}

bool backward_put(backward *b, node *leaf, node *g) {
  slot *s = find(b, leaf);
  if (!s->acc) return s->acc = g, true;
  node_drop(b->G, g);
  return fail(&b->G->c, "backward: a gradient came after the last that was counted");
}

/* ---- begin ------------------------------------------------------------------------------------------- */

/* y's gradient to begin with: a leaf's own grad is what is added to */
static node *seed(backward *b, node *y, node *gy) {
  if (gy) return node_hold(gy);
  if (node_has_creator(y) && !b->targets && node_grad(b->G, y)) return node_hold(y->grad);
  shape s;
  node_shape(y, &s);
  return s.n ? node_array(b->G, arr_const(&b->G->c, y->dtype, &s, (imm){.f = 1}))
             : node_scalar(b->G, y->dtype, (imm){.f = 1});
}

static bool begin(backward *b, node *const *ys, node *const *gys, int nx, node *const *xs) {
  ctx *c = &b->G->c;
  int ny = b->nroots;
  if (!(b->roots = mg_alloc(c, (ny + 2 * nx) * sizeof *b->roots))) return b->nroots = 0, false;
  for (int i = 0; i < ny; i++) b->roots[i] = node_hold(ys[i]);
  if (xs) {
    b->targets = b->roots + ny;
    b->results = b->targets + nx;
    b->lowest = UINT32_MAX;
    b->oldest = UINT64_MAX;
    for (int i = 0; i < nx; i++) {
      slot *s = slot_of(b, xs[i]);
      if (!s) return false;
      s->marks |= TARGET;
      if (xs[i]->generation < b->lowest) b->lowest = xs[i]->generation;
      if (xs[i]->id < b->oldest) b->oldest = xs[i]->id;
      b->targets[i] = node_hold(xs[i]);
      b->results[i] = NULL;
      b->ntargets++;
    }
    b->first_id = b->oldest;
    if (b->G->shuffled) b->lowest = b->oldest = 0;
    for (int i = 0; i < ny; i++)
      if (node_tracked(ys[i]) && !mark(b, ys[i])) return false;
  }
  for (int i = 0; i < ny; i++) {
    if (!node_tracked(ys[i]) || !wanted(b, ys[i])) continue;
    ys[i]->parts = true;
    node *g = seed(b, ys[i], gys ? gys[i] : NULL);
    bool ok = g && add(b, ys[i], g);
    node_drop(b->G, g);
    if (!ok) return false;
  }
  return true;
}

backward *backward_new(graph *G, int ny, node *const *ys, node *const *gys, int nx, node *const *xs,
                       backward_opts o) {
  backward *b = mg_alloc(&G->c, sizeof *b + FIRST * sizeof *b->first.s);
  if (!b) return NULL;
  *b = (backward){.G = G,
                  .o = o,
                  .backprop = G->backprop,
                  .slots = &b->first,
                  .nroots = ny,
                  .outer = G->running,
                  .first = {.cap = FIRST}};
  G->running = b;
  if (G->captures) G->captures->derived = true;
  if (!begin(b, ys, gys, nx, xs) || (!xs && G->watches && !begin_watches(b)))
    return backward_free(b), NULL;
  return b;
}

bool backward_reaches(const backward *b, int i) { return find(b, b->targets[i])->marks & SEEN; }

bool backward_links(const backward *b) { return b->linked; }

void backward_create_graph(backward *b, bool on) {
  b->o.create_graph = on;
  b->o.retain_graph |= on;
}

/* ---- run ----------------------------------------------------------------------------------------------- */

/* The gradient of x, a result, has been used */
static void used(backward *b, node *x) {
  if (!x || b->o.retain_grad) return;
  if (!b->targets) node_set_grad(b->G, x, NULL);
  slot *s = find(b, x);
  if (s && !(s->marks & TARGET)) slot_end(b, s);
}

/* Config.debug: false where gx, the gradient of f's input i, is not finite. */
static bool check_finite(backward *b, const char *name, int i, node *gx, node *g) {
  static const char *const kinds[] = {"", "inf", "nan"};
  graph *G = b->G;
  if (!G->debug || G->recorder) return true;
  int kind = node_unfinite(G, gx), before = kind && g ? node_unfinite(G, g) : UNFINITE_NONE;
  if (G->c.err) return false;
  if (!kind) return true;
  return fail(&G->c, "backward: the gradient of operand %d of %s has %s, and what came in %s",
              i + 1, name, kinds[kind], before ? "had so already" : "is finite");
}

static bool run_rule(backward *b, node *f) {
  vjp v;
  vjp_begin(&v, b->G, b, f, b->o.create_graph);
  node *g = find(b, f)->acc;
  bool ok = true, debug = b->G->debug && !b->G->recorder;
  for (int i = 0, n = slots(f); i < n && ok; i++) {
    node *x = tracked_input(f, i);
    if (!x || !wanted(b, x)) continue;
    node *gx = vjp_run(&v, i, g);
    ok = gx && (gx == DONE ||
                ((!debug || check_finite(b, op_table[f->op].name, i, gx, g)) && add(b, x, gx)));
    vjp_clear(&v);
  }
  vjp_end(&v);
  return ok;
}

/* ---- before their turn */

/* Does x, whose gradient is final, pass it on to a watched leaf alone, which waits for no other? */
static bool leads_to_leaf(const backward *b, node *x) {
  enum { FAR = 8 };
  for (int far = 0; far < FAR && !(x->flags & RELEASED) && x->op < NOP; far++) {
    node *z = NULL;
    for (int i = 0, n = slots(x); i < n; i++) {
      node *in = tracked_input(x, i);
      if (in && z) return false;
      if (in) z = in;
    }
    const slot *s = z ? find(b, z) : NULL;
    if (!s || s->uses != 1) return false;
    if (!node_has_creator(z)) return s->place != 0;
    x = z;
  }
  return false;
}

static bool settle(backward *b, node *f);

static bool run_early(backward *b, node *x) {
  slot *s = find(b, x);
  if (!(s->marks & QUEUED)) return true; /* no gradient came */
  if (!run_rule(b, x) || !settle(b, x)) return false;
  if (!b->o.retain_graph) node_release(b->G, x);
  s->marks |= RAN;
  if (b->o.retain_grad) return true;
  node_set_grad(b->G, x, NULL);
  lose_acc(b, s);
  return true;
}

/* f adds to its inputs no more. */
static bool settle(backward *b, node *f) {
  for (int i = 0, n = slots(f), k; i < n; i++) {
    node *x = tracked_input(f, i);
    slot *s = x ? find(b, x) : NULL;
    if (!s || s->uses == 0 || --s->uses > 0) continue;
    if (s->place) {
      watch *w = watch_at(b, s->place, &k);
      if (!watch_final(w, k)) return false;
    } else if (node_has_creator(x) && leads_to_leaf(b, x) && !run_early(b, x)) return false;
  }
  return true;
}

/* ---- sums of leaves */

/* How many Functions read x, of this backward and others */
static int readers(const backward *b, const node *x) {
  return x->refs - x->handles - (find(b, x) != NULL);
}

/* The leaf that z, read by one Function alone, is a broadcast of, reshaped or not, if the order in which its
** gradient adds up does not count: the sum of two is the same, where each reader gives one. The readers of
** graphs that nobody has collected yet are among them, and may change no bits. A leaf has `parts` where more
** may come: it is a result itself, a checkpoint reads it, or a reader adds what it gives piece by piece.
** NULL: there is none */
static node *leaf_of(const backward *b, node *z) {
  while (node_has_creator(z)) {
    bool passes = z->op == OP_broadcast_to || z->op == OP_reshape;
    if (!passes || z->flags & RELEASED || z->handles || readers(b, z) != 1) return NULL;
    if (!(z = tracked_input(z, 0)) || !wanted(b, z)) return NULL;
  }
  return readers(b, z) <= 2 && !z->parts ? z : NULL;
}

/* The gradient of z, which f alone reads, is final, and goes on to the leaf. */
static bool sum_early(backward *b, node *f) {
  b->sums = false;
  for (int i = 0, n = slots(f); i < n; i++) {
    node *z = *in_at(f, i), *leaf;
    if (!z || z->op != OP_broadcast_to) continue;
    if (!(z = tracked_input(f, i)) || !find(b, z) || !wanted(b, z)) continue;
    if (!(leaf = leaf_of(b, z))) continue;
    for (; z != leaf; z = tracked_input(z, 0))
      if (!run_early(b, z)) return false;
    node *acc = backward_acc(b, leaf);
    if (!acc || !acc->a || acc->a->state != PENDING) continue;
    if (!append(&b->G->c, &b->late, leaf)) return false;
  }
  return true;
}

/* Before f, which needs the values of its gradient: what waits, with these. */
static bool sum_late(backward *b, const node *f) {
  enum { MOST = 32 };
  node *all[MOST + 1];
  int n = 0;
  if (!b->late.len || f->op >= NOP || op_table[f->op].kind != 'o') return true;
  if (f->op == OP_broadcast_to || f->op == OP_to || f->op == OP_standardize) return true;
  if ((all[n] = backward_acc(b, f))) n++;
  while (b->late.len && n <= MOST)
    if ((all[n] = backward_acc(b, b->late.n[--b->late.len]))) n++;
  return node_eval(b->G, n, all);
}

/* f is done with, and may go with it */
static bool done(backward *b, node *f) {
  bool ok = true, waits = b->sums && !b->o.create_graph && !b->G->recorder;
  if (b->watches) ok = settle(b, f);
  else if (waits) ok = sum_early(b, f);
  for (watch *w = b->watches; w; w = w->also) watch_step(w);
  b->at = NULL;
  if (!b->o.retain_graph) node_release(b->G, f);
  if (!node_is_function(f)) return used(b, f), ok;
  for (int k = 0; k < f->x->nout; k++) used(b, f->x->out[k].n);
  slot_end(b, find(b, f));
  return ok;
}

int backward_next(backward *b, node **host) {
  graph *G = b->G;
  node *last = b->f;
  b->f = NULL;
  G->backprop = b->o.create_graph;
  int state = last && !done(b, last) ? -1 : 0;
  while (b->heap.len && state == 0) {
    node *f = b->at = pop(b);
    if (G->recorder && recorder_knows(G, f)) {
      fail(&G->c,
           "backward: this graph was made before mg.compile recorded the function that walks it");
      state = -1;
    } else if (find(b, f)->marks & RAN) {
      if (!b->o.retain_grad) slot_end(b, find(b, f));
    } else if (f->flags & RELEASED) {
      fail(&G->c, "backward: this graph was released by an earlier backward; pass retain_graph = "
                  "true to the first");
      state = -1;
    } else if (f->op == OP_FUNCTION) {
      *host = b->f = f;
      state = 1;
    } else if (!sum_late(b, f) || !run_rule(b, f) || !done(b, f)) state = -1;
  }
  if (state == 0) b->at = NULL;
  G->backprop = b->backprop;
  return state;
}

const node *backward_at(const backward *b) { return b->at; }

bool backward_releases(const backward *b) { return !b->o.retain_graph; }

node *backward_acc(const backward *b, const node *n) {
  const slot *s = find(b, n);
  return s ? s->acc : NULL;
}

node *output_grad(const backward *b, const output *o) {
  node *g = o->n ? backward_acc(b, o->n) : NULL;
  if (g) return node_hold(g);
  if (o->s.n == 0) return node_scalar(b->G, o->dtype, (imm){0});
  return node_array(b->G, arr_const(&b->G->c, o->dtype, &o->s, (imm){0}));
}

node *backward_gy(backward *b, int i) {
  node *g = output_grad(b, &b->f->x->out[i]);
  if (g) g->lent = true;
  return g;
}

bool backward_wants(const backward *b, int i) {
  node *x = tracked_input(b->f, i);
  return x && wanted(b, x);
}

bool backward_accept(backward *b, int i, node *gx) {
  if (!backward_wants(b, i)) return true;
  node *own = NULL; /* without the graph that the host may have recorded unasked */
  if (node_tracked(gx) && !b->o.create_graph && !(gx = own = node_detach(b->G, gx))) return false;
  gx->lent = true;
  bool ok = check_finite(b, b->f->x->name, i, gx, NULL) && add(b, *in_at(b->f, i), gx);
  node_drop(b->G, own);
  return ok;
}

bool backward_splice(backward *b, node *y, node *gy) {
  if (!node_tracked(y)) return true;
  if (b->targets && !mark(b, y)) return false;
  if (b->watches && !count(b, y)) return false;
  return !wanted(b, y) || add(b, y, gy);
}

/* ---- end ------------------------------------------------------------------------------------------------- */

/* x's accumulator as a node that is x's alone. Of a recorded one the collector, which may have taken the host's
** boxes or not, does not decide: with a node more in the graph its gradients add up in another order. */
static node *alone(backward *b, slot *s) {
  node *acc = s->acc;
  if (acc->handles == 1 && !(acc->lent && node_tracked(acc))) return node_hold(acc);
  return node_tracked(acc) ? op_identity(b->G, acc) : node_detach(b->G, acc);
}

/* The gradient of a target that nothing came to */
static node *zero_of(backward *b, node *x) {
  shape s;
  if (node_shape(x, &s) && s.n)
    return node_array(b->G, arr_const(&b->G->c, x->dtype, &s, (imm){0}));
  return node_scalar(b->G, x->dtype, (imm){0});
}

/* Of every slot that has a gradient for .grad: what it becomes, in `fresh`; their number, or -1. */
static int sum_up(backward *b, slot **of, node **fresh) {
  int n = 0;
  for (chunk *c = b->slots; c; c = c->next)
    for (slot *s = c->s; s < c->s + c->n; s++) {
      node *x = s->n;
      if (!x || !s->acc) continue;
      if (node_has_creator(x) && (!b->o.retain_grad || (x == b->roots[0] && x->grad))) continue;
      node *g =
          node_grad(b->G, x) ? apply(b->G, OP_add, 2, (node *[]){x->grad, s->acc}) : alone(b, s);
      lose_acc(b, s);
      if (!g) {
        while (n--) node_drop(b->G, fresh[n]);
        return -1;
      }
      of[n] = s;
      fresh[n++] = g;
    }
  return n;
}

static bool commit(backward *b) {
  graph *G = b->G;
  slot **of = mg_alloc(&G->c, (b->nslots + 1) * sizeof *of);
  node **fresh = mg_alloc(&G->c, (b->nslots + 2) * sizeof *fresh);
  int n = of && fresh ? sum_up(b, of, fresh) : -1;
  bool ok = n >= 0;
  if (ok) {
    fresh[n] = b->roots[0]; /* the result: in the same pass */
    ok = node_eval(G, n + 1, fresh);
  }
  for (int i = 0; i < n; i++) {
    node *x = of[i]->n;
    /* without a handle on x, a grad that leads back to it would never go: see node.c */
    if (ok && (x->handles > 0 || !node_has_creator(fresh[i]))) node_set_grad(G, x, fresh[i]);
    else node_drop(G, fresh[i]);
  }
  mg_free(of);
  mg_free(fresh);
  return ok;
}

static bool hand_out(backward *b) {
  graph *G = b->G;
  for (int i = 0; i < b->ntargets; i++) {
    slot *s = find(b, b->targets[i]);
    if (!(s->marks & SEEN)) continue;
    if (!(b->results[i] = s->acc ? alone(b, s) : zero_of(b, s->n))) return false;
  }
  node **all = mg_alloc(&G->c, (b->ntargets + b->nroots + 1) * sizeof *all);
  int n = 0;
  for (int i = 0; all && i < b->ntargets; i++)
    if (b->results[i]) all[n++] = b->results[i];
  for (int i = 0; all && i < b->nroots; i++) all[n++] = b->roots[i];
  bool ok = all && node_eval(G, n, all);
  mg_free(all);
  return ok;
}

bool backward_finish(backward *b) {
  b->G->backprop = b->o.create_graph;
  bool ok = true;
  for (watch *w = b->watches; w && ok; w = w->also) ok = watch_finish(w);
  ok = ok && (b->targets ? hand_out(b) : commit(b));
  b->G->backprop = b->backprop;
  return ok;
}

node *backward_target(backward *b, int i) { return node_hold(b->results[i]); }

void backward_free(backward *b) {
  graph *G = b->G;
  G->running = b->outer;
  G->backprop = b->backprop;
  for (watch *w = b->watches, *next; w; w = next) {
    next = w->also;
    watch_end(w);
  }
  for (chunk *c = b->slots, *next; c; c = next) {
    next = c->next;
    for (slot *s = c->s; s < c->s + c->n; s++)
      if (s->n) slot_end(b, s);
    if (c != &b->first) mg_free(c);
  }
  for (int i = 0; i < b->nroots; i++) node_drop(G, b->roots[i]);
  for (int i = 0; i < b->ntargets; i++) {
    node_drop(G, b->targets[i]);
    node_drop(G, b->results[i]);
  }
  mg_free(b->roots);
  mg_free(b->heap.n);
  mg_free(b->stack.n);
  mg_free(b->late.n);
  mg_free(b);
}
