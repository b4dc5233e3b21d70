/* node.c -- nodes: making, holding, letting go.
**
** Freeing is iterative: a chain of a million Functions falls without recursion. A node whose last
** handle goes drops its value (unless its own gradient rule reads it).
**
** No count would ever break a ring, and only a grad can close one: inputs are there before what is made
** of them (node_set_creator sees to that). So a node without handles, which lives on as an input, has
** no grad with a creator, and of others the value alone, in a node that nobody else holds and that leads
** nowhere. A ring then has no such node, so its nodes hold each other by grads alone; and who sets a
** grad looks for those.
*/
#include <string.h>

#include "graph/internal.h"

void graph_init(graph *G) {
  memset(G, 0, sizeof *G);
  G->backprop = G->train = true;
  G->dtype = F64;
  G->c.arrays = &G->arrays;
  G->c.threads = threads_default();
}

/* ---- memory ---------------------------------------------------------------------------------------- */

/* Nodes are made by the slab, so that all of them can be found; those without refs are free, and have
** no `in`. */
enum { SLAB = 64, LINE = 64 };
typedef struct slab {
  struct slab *next;
  node *n; /* SLAB of them, from a cache line's begin on */
} slab;

#ifdef __SANITIZE_ADDRESS__ /* which shall see a use after the last ref; refs and grad are read */
#include <sanitizer/asan_interface.h>
#define AROUND(do, n)                                                                              \
  do                                                                                               \
  ##_memory_region(&(n)->handles + 1,                                                              \
                   offsetof(node, grad) - offsetof(node, handles) - sizeof(n)->handles),           \
      do##_memory_region(&(n)->slot, sizeof(node) - offsetof(node, slot))
#define HIDE(n) (AROUND(__asan_poison, n))
#define SHOW(n) (AROUND(__asan_unpoison, n))
#else
#define HIDE(n) ((void)(n))
#define SHOW(n) ((void)(n))
#endif

static void put_away(graph *G, node *n) {
  n->refs = 0;
  n->grad = G->free;
  G->free = n;
  HIDE(n);
}

static bool more_nodes(graph *G) {
  if (G->closed) return fail(&G->c, "this Lua state is closing");
  slab *s = mg_alloc(&G->c, sizeof *s + LINE + SLAB * sizeof(node));
  if (!s) return false;
  s->next = G->slabs;
  G->slabs = s;
  s->n = (node *)(((uintptr_t)(s + 1) + LINE - 1) & -(uintptr_t)LINE);
  memset(s->n, 0, SLAB * sizeof(node));
  for (int i = SLAB; i--;) put_away(G, &s->n[i]);
  return true;
}

node *node_new(graph *G, dtype t) {
  if (!G->free) {
    if (!more_nodes(G)) return NULL;
  } else if (mem_refuse()) return fail_memory(&G->c, sizeof(node)), NULL;
  node *n = G->free;
  G->free = n->grad;
  SHOW(n);
  __builtin_prefetch(G->free, 1); /* it may not have been touched for long */
  __builtin_prefetch((char *)G->free + LINE, 1);
  memset(n, 0, offsetof(node, in));
  n->refs = n->handles = 1;
  n->dtype = t;
  n->id = ++G->ids;
  if (__builtin_expect(G->outside, 0)) n->flags = OUTSIDE;
  if (__builtin_expect(G->recorder != NULL, 0)) recorder_made(G, n);
  G->live++;
  return n;
}

node *node_scalar(graph *G, dtype t, imm k) {
  node *n = node_new(G, t);
  if (t == F32) k.f = (float)k.f;
  if (n) n->k = k;
  return n;
}

node *node_array(graph *G, array *a) {
  if (!a) return NULL;
  node *n = node_new(G, a->dtype);
  if (!n) return arr_unref(a), NULL;
  if (a->s.n == 0 && a->state != PENDING && !arr_recorded(a)) {
    arr_get(&G->c, a, &n->k);
    arr_unref(a);
  } else n->a = a;
  return n;
}

/* ---- letting go ---------------------------------------------------------------------------------- */

typedef struct {
  graph *G;
  node *dead; /* nodes without refs, linked through `next` */
} heap;

static void lose_ref(heap *h, node *n) {
  if (n && --n->refs == 0) {
    n->next = h->dead;
    h->dead = n;
  }
}

/* The shape stays, in an array without memory */
static void lose_value(graph *G, node *n) {
  array *a = n->a;
  int err = G->c.err; /* without memory for the shape either, nobody is told */
  if (n->flags & SAVES_OUT) a->saved--;
  n->flags = (n->flags & ~SAVES_OUT) | DROPPED;
  if (a->refs == 1 && a->state == READY) return arr_empty(a);
  n->a = arr_const(&G->c, a->dtype, &a->s, (imm){0});
  G->c.err = err;
  arr_unref(a);
}

void node_restore(node *n, array *a) {
  arr_unref(n->a);
  n->a = arr_ref(a);
  n->flags &= ~DROPPED;
}

/* n has no handle any more: its grad as it may be then; what it was, to be let go of, or NULL. */
static node *lose_grad(graph *G, node *n) {
  node *g = n->grad;
  if (!g || (!node_has_creator(g) && !g->grad && g->handles == 1)) return NULL;
  int err = G->c.err; /* without memory it is lost, and nobody is told */
  n->grad = node_has_creator(g) || n->refs == 1 ? NULL
            : g->a                              ? node_array(G, arr_ref(g->a))
                                                : node_scalar(G, g->dtype, g->k);
  G->c.err = err;
  return g;
}

static void lose_handle(heap *h, node *n) {
  while (n && --n->handles == 0) {
    if (n->a && !(n->flags & SAVES_OUT) && n->a->state != CONST) lose_value(h->G, n);
    node *g = lose_grad(h->G, n);
    lose_ref(h, n);
    n = g; /* the grad's handle goes too */
  }
  if (n) lose_ref(h, n);
}

static void lose_array(array **a) {
  if (!*a) return;
  (*a)->saved--;
  arr_unref(*a);
  *a = NULL;
}

/* What stands beside the operands */
static void lose_kept(extra *x) {
  for (int i = 0; i < x->nkept; i++) lose_array(&x->kept[i]);
  for (int k = 0; k < x->nout; k++) lose_array(&x->out[k].a);
}

void node_lose_kept(node *f, int i) {
  lose_array(&f->x->kept[i]);
  f->flags |= RELEASED;
}

static void lose_saved(node *f) {
  if (!(f->kind & (SAVED_ARRAY | SAVED_ARRAY << 4)) && !f->x) return;
  if (f->x) lose_kept(f->x);
  for (int i = 0, n = slots(f); i < n; i++) {
    if (kind_of(f, i) != SAVED_ARRAY) continue;
    array *a = sv_at(f, i)->a;
    set_kind(f, i, SAVED_NONE | (kind_bits(f, i) & FLOWS));
    a->saved--;
    arr_unref(a);
  }
}

/* Only what belongs to the Variable stays */
static void empty(graph *G, extra *x) {
  if (x->ref) G->release(G, x->ref);
  lose_kept(x);
  mg_free(x->in);
  mg_free(x->sv);
  mg_free(x->kind);
  mg_free(x->kept);
  mg_free(x->out);
  char *name = x->name, *line = x->line, *origin = x->origin;
  memset(x, 0, sizeof *x);
  x->name = name;
  x->line = line;
  x->origin = origin;
}

static void lose_creator(graph *G, heap *h, node *n) {
  if (n->op == OP_NONE) return;
  lose_saved(n);
  if (n->op == OP_OUTPUT && node_is_function(n->in[0])) {
    extra *fx = n->in[0]->x;
    for (int i = 0; i < fx->nout; i++)
      if (fx->out[i].n == n) fx->out[i].n = NULL;
  }
  for (int i = 0, k = slots(n); i < k; i++) {
    lose_ref(h, *in_at(n, i));
    *in_at(n, i) = NULL;
  }
  if (n->flags & SAVES_OUT) {
    n->flags &= ~SAVES_OUT;
    if (n->a) n->a->saved--;
  }
  if (n->x) empty(G, n->x);
  n->op = OP_NONE;
  n->kind = 0;
}

static void bury(graph *G, heap *h) {
  while (h->dead) {
    node *n = h->dead;
    h->dead = n->next;
    n->next = NULL;
    lose_creator(G, h, n);
    if (n->a) arr_unref(n->a);
    if (n->grad) lose_handle(h, n->grad);
    if (n->x) {
      empty(G, n->x);
      mg_free(n->x->name);
      mg_free(n->x->line);
      mg_free(n->x->origin);
      mg_free(n->x);
    }
    G->live--;
    put_away(G, n);
  }
}

/* Boxes that finalizers make while Lua closes are never finalized: whoever holds what goes. */
static void lose_all(graph *G) {
  heap h = {G, NULL};
#define EACH(n)                                                                                    \
  for (slab *s = G->slabs; s; s = s->next)                                                         \
    for (node *n = s->n; n < s->n + SLAB; n++)                                                     \
      if (n->refs)
  EACH(n) n->refs++; /* nothing is buried yet */
  EACH(n) {
    lose_creator(G, &h, n);
    n->grad = NULL;
    n->next = NULL;
  }
  EACH(n) {
    n->refs = 1;
    node_unref(G, n);
  }
#undef EACH
}

void graph_close(graph *G) {
  if (G->live) lose_all(G);
  arr_close(&G->c);
  G->closed = true;
  G->free = NULL;
  while (G->slabs) {
    slab *s = G->slabs;
    G->slabs = s->next;
    for (int i = 0; i < SLAB; i++) SHOW(&s->n[i]);
    mg_free(s);
  }
}

node *node_hold(node *n) {
  n->refs++;
  n->handles++;
  return n;
}

void node_drop(graph *G, node *n) {
  if (!n) return;
  if (n->refs == 1 && n->op == OP_NONE && !n->a && !n->grad && !n->x) /* a scalar, nothing else */
    return G->live--, put_away(G, n);
  heap h = {G, NULL};
  lose_handle(&h, n);
  bury(G, &h);
}

node *node_ref(node *n) {
  n->refs++;
  return n;
}

void node_unref(graph *G, node *n) {
  heap h = {G, NULL};
  lose_ref(&h, n);
  bury(G, &h);
}

void node_release(graph *G, node *f) {
  lose_saved(f);
  f->flags |= RELEASED;
  if (f->flags & SAVES_OUT) {
    f->flags &= ~SAVES_OUT;
    if (f->a) f->a->saved--;
    if (f->a && f->handles == 0 && f->a->state != CONST) lose_value(G, f);
  }
  if (f->op == OP_FUNCTION && f->x->ref) {
    int ref = f->x->ref;
    f->x->ref = 0;
    G->release(G, ref);
  }
}

node *node_grad(graph *G, node *n) {
  if (__builtin_expect(G->recorder != NULL, 0)) recorder_grad(G, n, false);
  return n->grad;
}

void node_set_grad(graph *G, node *n, node *g) {
  if (__builtin_expect(G->recorder != NULL, 0)) recorder_grad(G, n, true);
  node *old = n->grad;
  n->grad = g;
  node_drop(G, old);
}

/* ---- looking -------------------------------------------------------------------------------------- */

bool node_shape(const node *n, shape *s) {
  if (n->a) *s = n->a->s;
  else s->n = 0;
  return !(n->flags & DROPPED);
}

int node_nin(const node *n) {
  if (n->op == OP_NONE) return 0;
  if (n->x && n->x->nin) return n->x->nin;
  if (n->op >= NOP) return n->in[0] != NULL;
  if (n->in[1] || kind_of(n, 1)) return 2;
  return n->in[0] || kind_of(n, 0);
}

bool node_has_input(const node *f, int i) {
  return kind_of(f, i) == SAVED_NUMBER || (i < 2 ? f->in[i] : f->x->in[i - 2]);
}

node *node_input(graph *G, node *f, int i) {
  node *n = *in_at(f, i);
  saved *sv = sv_at(f, i);
  int kind = kind_of(f, i);
  if (!n) return node_scalar(G, f->dtype, sv->k);
  if (n->flags & DROPPED && kind == SAVED_ARRAY) {
    array *a = again_value(G, sv->a, &n->a->s);
    if (!a) return NULL;
    node_restore(n, a);
    arr_unref(a);
  }
  return node_hold(n);
}

bool node_ready(graph *G, node *n) {
  node_read(G, n);
  if (n->flags & UNREAL)
    return fail(&G->c, "this Variable was made while mg.compile recorded a function, and has no "
                       "value: what is wanted of it the function must return");
  if (n->flags & DROPPED)
    return fail(&G->c, "this value was let go: no Variable held it and no gradient needs it");
  if (!n->a) return true;
  if (!arr_ready(&G->c, n->a)) return false;
  if (n->a->s.n == 0 && !arr_recorded(n->a)) { /* scalars live in the node */
    arr_get(&G->c, n->a, &n->k);
    if (n->flags & SAVES_OUT) n->a->saved--;
    arr_unref(n->a);
    n->a = NULL;
  }
  return true;
}

bool node_item(graph *G, node *n, imm *v) {
  if (!node_ready(G, n)) return false;
  if (n->a) return arr_get(&G->c, n->a, v);
  *v = n->k;
  return true;
}

array *node_as_array(graph *G, node *n) {
  node_read(G, n);
  if (n->flags & DROPPED) return node_ready(G, n), NULL;
  return n->a ? arr_ref(n->a) : arr_scalar(&G->c, n->dtype, n->k);
}

array *node_computed(graph *G, node *n) {
  array *a = node_ready(G, n) ? node_as_array(G, n) : NULL;
  if (a && arr_recorded(a)) tape_refuse(&G->c), arr_unref(a), a = NULL;
  return a;
}

array *node_dense(graph *G, node *n) {
  array *a = node_ready(G, n) ? node_as_array(G, n) : NULL;
  array *r = a ? arr_contiguous(&G->c, a) : NULL;
  arr_unref(a);
  return r;
}

array *node_values(graph *G, node *n) {
  array *a = node_computed(G, n);
  array *r = a ? arr_values(&G->c, a) : NULL;
  arr_unref(a);
  return r;
}

node *node_detach(graph *G, node *n) {
  array *a = node_as_array(G, n);
  node *r = a ? node_array(G, a) : NULL;
  if (r && n->x && n->x->origin) {
    size_t bytes = strlen(n->x->origin) + 1;
    extra *x = node_extra(G, r);
    char *copy = x ? mg_alloc(&G->c, bytes) : NULL;
    if (!copy) return node_drop(G, r), NULL;
    x->origin = memcpy(copy, n->x->origin, bytes);
  }
  return r;
}

int node_unfinite(graph *G, node *n) {
  if (!is_float(n->dtype) || n->flags & (DROPPED | UNREAL) || !node_ready(G, n))
    return UNFINITE_NONE;
  if (!n->a) {
    double v = n->k.f;
    return v != v ? UNFINITE_NAN : v - v != 0 ? UNFINITE_INF : UNFINITE_NONE;
  }
  static const struct { int test, fold; } asked[] = {{OP_isfinite, OP_all}, {OP_isnan, OP_any}};
  bool answer[2] = {true, false};
  for (int i = 0; i < 2 && answer[0] == (i == 0); i++) {
    node *each = apply(G, asked[i].test, 1, &n);
    node *all = each ? op_reduce(G, asked[i].fold, each, ~0u, false) : NULL;
    imm v = {.i = answer[i]};
    if (all && node_item(G, all, &v)) answer[i] = v.i;
    node_drop(G, each);
    node_drop(G, all);
  }
  return answer[0] || G->c.err ? UNFINITE_NONE : answer[1] ? UNFINITE_NAN : UNFINITE_INF;
}

void graph_arrays(graph *G, void (*visit)(void *arg, const node *of, array *a), void *arg) {
  for (slab *s = G->slabs; s; s = s->next)
    for (node *n = s->n; n < s->n + SLAB; n++) {
      if (!n->refs) continue;
      if (n->a) visit(arg, n, n->a);
      for (int i = 0, k = node_nin(n); i < k; i++)
        if (kind_of(n, i) == SAVED_ARRAY) visit(arg, *in_at(n, i), sv_at(n, i)->a);
      for (int i = 0, k = n->x ? n->x->nkept : 0; i < k; i++)
        if (n->x->kept[i]) visit(arg, n, n->x->kept[i]);
      for (int i = 0, k = n->x ? n->x->nout : 0; i < k; i++)
        if (n->x->out[i].a) visit(arg, n, n->x->out[i].a);
    }
}

static void forget(graph *G, node *n, uint64_t since) {
  if (!n->refs || n->id <= since || n->flags & OUTSIDE) return;
  n->refs++;
  if (node_has_creator(n)) node_release(G, n);
  if (n->a && (n->a->state == PENDING || arr_recorded(n->a))) {
    if (!(n->flags & DROPPED)) lose_value(G, n);
    n->flags |= UNREAL;
  }
  node_unref(G, n);
}

void graph_forget(graph *G, uint64_t since, int64_t n, node *const *made) {
  for (int64_t i = 0; i < n; i++) forget(G, made[i], since);
  for (slab *s = n < 0 ? G->slabs : NULL; s; s = s->next)
    for (int i = 0; i < SLAB; i++) forget(G, &s->n[i], since);
}

extra *node_extra_at(graph *G, node *n, int nat, const attr *at) {
  extra *x = mg_alloc(&G->c, sizeof *x + nat * sizeof *at);
  if (!x) return NULL;
  memset(x, 0, sizeof *x);
  if ((x->nat = nat)) memcpy(x->at, at, nat * sizeof *at);
  return n->x = x;
}

extra *node_extra(graph *G, node *n) { return n->x ? n->x : node_extra_at(G, n, 0, NULL); }

/* ---- changing -------------------------------------------------------------------------------------- */

bool node_set_value(graph *G, node *n, array *a) {
  if (n->flags & SAVES_OUT)
    return arr_unref(a),
           fail(&G->c, "the gradient of %s needs this value; it cannot be changed (use detach)",
                op_table[n->op].name);
  node_read(G, n);
  array *old = n->a;
  n->a = NULL;
  n->flags &= ~DROPPED;
  if (a->s.n == 0 && a->state != PENDING && !arr_recorded(a)) {
    arr_get(&G->c, a, &n->k);
    arr_unref(a);
  } else n->a = a;
  arr_unref(old);
  return true;
}

bool node_assign(graph *G, int n, node *const *targets, node *const *values) {
  array **fresh = mg_alloc(&G->c, (2 * n + 1) * sizeof *fresh); /* there can be a million */
  array **old = fresh ? fresh + n : NULL;
  int made = 0;
  bool ok = fresh != NULL;
  for (int i = 0; i < n && ok; i++) {
    if (targets[i]->flags & SAVES_OUT)
      ok = fail(&G->c, "assign: target %d was made by %s, whose gradient needs it", i + 1,
                op_table[targets[i]->op].name);
    node_read(G, targets[i]);
    array *a = ok ? node_as_array(G, values[i]) : NULL;
    array *v = a ? arr_cast(&G->c, a, targets[i]->dtype) : NULL;
    arr_unref(a);
    /* of a target that is there twice, one takes the buffer, and the last the name */
    old[i] = targets[i]->flags & ASSIGNED ? NULL : targets[i]->a;
    if (!v) ok = false;
    else fresh[made++] = v, targets[i]->flags |= ASSIGNED;
  }
  bool wait = G->recorder;
  for (int i = 0; i < made; i++) wait = wait && fresh[i]->size <= SMALL;
  ok = ok && (wait || arr_eval(&G->c, n, fresh, old));
  for (int i = 0; i < made; i++) {
    targets[i]->flags &= ~ASSIGNED;
    if (ok) node_set_value(G, targets[i], fresh[i]);
    else arr_unref(fresh[i]);
  }
  mg_free(fresh);
  return ok;
}

bool node_eval(graph *G, int n, node *const *v) {
  array **a = mg_alloc(&G->c, (n + 1) * sizeof *a);
  int m = 0;
  /* what is small can wait while all is recorded: for one program */
  for (int i = 0; a && i < n; i++)
    if (v[i]->a && !(G->recorder && v[i]->a->size <= SMALL)) a[m++] = v[i]->a;
  bool ok = a && arr_eval(&G->c, m, a, NULL);
  for (int i = 0; i < n && ok && !G->recorder; i++)
    if (v[i]->a && v[i]->a->s.n == 0) ok = node_ready(G, v[i]); /* a number from now on */
  mg_free(a);
  return ok;
}

void node_unchain(graph *G, node *n) {
  heap h = {G, NULL};
  if (node_has_creator(n)) n->flags &= ~(TRACKED | RELEASED);
  lose_creator(G, &h, n);
  n->generation = 0;
  bury(G, &h);
}

/* As it always was in this family: y keeps its creator, all Variables before it lose theirs. */
bool node_unchain_backward(graph *G, node *y) {
  if (G->running) return fail(&G->c, "unchain_backward: not while a backward runs");
  heap h = {G, NULL};
  node *todo = NULL; /* linked through `next`, with a ref each; generation 0 says: seen */
  node_ref(y);
  y->next = NULL;
  for (node *f = y; f;) {
    for (int i = 0, n = node_nin(f); i < n; i++) {
      node *x = *in_at(f, i);
      if (!x || !node_has_creator(x) || x->generation == 0) continue;
      x->generation = 0;
      x->next = todo;
      todo = node_ref(x);
    }
    if (f != y) {
      f->flags &= ~(TRACKED | RELEASED);
      lose_creator(G, &h, f);
    }
    lose_ref(&h, f);
    bury(G, &h);
    if ((f = todo)) {
      todo = f->next;
      f->next = NULL;
    }
  }
  return true;
}

/* Does f follow from x? Those seen are linked through `next`; no backward runs. */
static bool follows(node *f, const node *x) {
  node *seen = f, *last = f;
  bool found = false;
  f->next = f; /* the last of the list */
  for (node *n = f; n; n = n->next == n ? NULL : n->next) {
    found |= n == x;
    for (int i = 0, k = node_nin(n); i < k; i++) {
      node *in = *in_at(n, i);
      if (!in || in->next) continue;
      last->next = in;
      last = in->next = in;
    }
  }
  for (node *next; seen; seen = next) {
    next = seen->next == seen ? NULL : seen->next;
    seen->next = NULL;
  }
  return found;
}

bool node_set_creator(graph *G, node *x, node *f) {
  shape want, s;
  char a[128], b[128];
  if (f == (x->op == OP_OUTPUT ? x->in[0] : x)) return true;
  if (G->running) return fail(&G->c, "set_creator: not while a backward runs");
  node_shape(x, &s);
  output *first = node_is_function(f) ? f->x->out : NULL;
  dtype t = first ? first->dtype : f->dtype;
  if (first) want = first->s;
  else node_shape(f, &want);
  if (!shape_eq(&s, &want) || x->dtype != t)
    return fail(&G->c, "set_creator: a Variable of shape %s and %s, the Function gives %s and %s",
                shape_text(&s, a), dtype_name[x->dtype], shape_text(&want, b), dtype_name[t]);
  if (follows(f, x)) return fail(&G->c, "set_creator: the Function was made from this Variable");
  node_unchain(G, x);
  G->shuffled = true;
  x->in[0] = node_ref(f);
  x->op = OP_OUTPUT;
  x->kind = FLOWS;
  x->generation = f->generation;
  x->flags |= TRACKED;
  if (first && !first->n) first->n = x;
  return true;
}

node *node_alias(const graph *G, node *x) {
  if (!G->shuffled || x->op != OP_OUTPUT) return NULL;
  node *f = x->in[0];
  if (!node_is_function(f)) return f;
  for (int k = 0; k < f->x->nout; k++)
    if (f->x->out[k].n == x) return NULL;
  if (!f->x->out[0].n) f->x->out[0].n = x; /* the first that was it has gone */
  return f->x->out[0].n == x ? NULL : f->x->out[0].n;
}
