/* capture.c -- what a function of the host's reads of what was there before it was called.
**
** While G->captures is set, every Variable older than it whose value is read or written is noted, once,
** with the value that it has then. A checkpoint's Function has them as inputs; when it is computed
** again they have these values for a while, and no others after than before.
*/
#include <math.h>
#include <string.h>

#include "graph/internal.h"

int captures_note(graph *G, captures *c, node *n, array *a, imm k) {
  if (n->id > c->since || n->flags & (NUMBER | DROPPED)) return -1;
  int err = G->c.err, at = nodemap_get(&c->places, n);
  if (at >= 0) return at;
  if (!mg_grow(&G->c, (void **)&c->v, &c->room, (c->n + 1) * sizeof *c->v) ||
      !nodemap_put(&G->c, &c->places, n, c->n)) {
    G->c.err = err; /* told when the function has returned */
    c->failed = true;
    return -1;
  }
  c->v[c->n] = (captured){node_hold(n), a ? arr_ref(a) : NULL, k, node_tracked(n)};
  return c->n++;
}

void captures_grow(graph *G, captures *c) {
  c->grown = true;
  c->since = G->ids;
  c->counter = G->c.counter;
}

void captures_end(graph *G, captures *c) {
  for (int i = 0; i < c->n; i++) {
    arr_unref(c->v[i].a);
    node_drop(G, c->v[i].n);
  }
  mg_free(c->v);
  nodemap_free(&c->places);
  *c = (captures){0};
}

/* ---- a Function of them ------------------------------------------------------------------------- */

/* f's input i was this when it was read; it may have been given another value since */
static void save_instead(node *f, int i, array *a, imm k) {
  saved *sv = sv_at(f, i);
  if (kind_of(f, i) == SAVED_ARRAY) {
    sv->a->saved--;
    arr_unref(sv->a);
  }
  if (a) {
    sv->a = arr_ref(a);
    a->saved++;
  } else sv->k = k;
  set_kind(f, i, (a ? SAVED_ARRAY : SAVED_SCALAR) | (kind_bits(f, i) & FLOWS));
}

node *checkpoint_new(graph *G, captures *c, const char *name) {
  for (int i = 0; i < c->n; i++) { /* as record: of what is 0-d the number is saved */
    captured *v = &c->v[i];
    if (!v->a || v->a->s.n > 0 || G->recorder) continue;
    if (!arr_ready(&G->c, v->a)) return NULL;
    arr_get(&G->c, v->a, &v->k);
    arr_unref(v->a);
    v->a = NULL;
  }
  node **in = mg_alloc(&G->c, (c->n + 1) * sizeof *in);
  for (int i = 0; in && i < c->n; i++) {
    in[i] = c->v[i].n;
    in[i]->parts = true;
  }
  node *f = in ? function_new(G, c->n, in, name) : NULL;
  mg_free(in);
  for (int i = 0; f && i < c->n; i++) save_instead(f, i, c->v[i].a, c->v[i].k);
  return f;
}

/* ---- as it was, for a while --------------------------------------------------------------------- */

static void set_value(captured *v, array *a, imm k, bool tracked) {
  node *n = v->n;
  if (!node_has_creator(n)) n->flags = tracked ? n->flags | TRACKED : n->flags & ~TRACKED;
  if (n->flags & SAVES_OUT || (n->a == a && (a || n->k.i == k.i))) return arr_unref(a);
  array *old = n->a;
  n->a = a;
  n->k = k;
  arr_unref(old);
}

bool captures_recall(graph *G, node *f, captures *now) {
  int n = node_nin(f);
  if (f->flags & RELEASED)
    return fail(&G->c, "backward: this graph was released by an earlier backward");
  *now = (captures){.v = mg_alloc(&G->c, (n + 1) * sizeof *now->v)};
  if (!now->v) return false;
  for (int i = 0; i < n; i++) {
    node *x = node_input(G, f, i); /* a handle; brings back what was let go of */
    captured *v = &now->v[now->n++];
    *v = (captured){x, x->a ? arr_ref(x->a) : NULL, x->k, node_tracked(x)};
    saved *sv = sv_at(f, i);
    bool array = kind_of(f, i) == SAVED_ARRAY;
    set_value(v, array ? arr_ref(sv->a) : NULL, array ? x->k : sv->k, flows(f, i));
  }
  return true;
}

void captures_restore(graph *G, captures *now) {
  for (int i = 0; i < now->n; i++) {
    captured *v = &now->v[i];
    set_value(v, v->a, v->k, v->tracked);
    node_drop(G, v->n);
  }
  mg_free(now->v);
  nodemap_free(&now->places);
  *now = (captures){0};
}

/* ---- what was not there ------------------------------------------------------------------------- */

typedef struct {
  node **v;
  int n;
  size_t room;
  nodemap met;
} search;

static bool look_at(graph *G, search *s, node *x) {
  if (nodemap_get(&s->met, x) >= 0) return true;
  if (!mg_grow(&G->c, (void **)&s->v, &s->room, (s->n + 1) * sizeof *s->v)) return false;
  s->v[s->n++] = x;
  return nodemap_put(&G->c, &s->met, x, 0);
}

int captures_missed(graph *G, node *f, uint64_t first, uint64_t again, int n, node *const *y) {
  search s = {0};
  bool ok = true, missed = false;
  for (int i = 0; i < node_nin(f) && ok; i++) /* these are not looked behind */
    ok = nodemap_get(&s.met, *in_at(f, i)) >= 0 || nodemap_put(&G->c, &s.met, *in_at(f, i), 0);
  for (int i = 0; i < n && ok; i++)
    if (y[i] && node_tracked(y[i])) ok = look_at(G, &s, y[i]);
  while (ok && !missed && s.n) {
    node *at = s.v[--s.n];
    if (at->id <= again) { /* the function's own, made when it was called, may be read again */
      missed = node_has_creator(at) || at->id <= first || at->id > f->id;
      continue;
    }
    for (int i = 0; i < slots(at) && ok; i++) {
      node *x = *in_at(at, i);
      if (x && flows(at, i) && node_tracked(x)) ok = look_at(G, &s, x);
    }
  }
  mg_free(s.v);
  nodemap_free(&s.met);
  return ok ? missed : -1;
}

/* ---- what it gave -------------------------------------------------------------------------------
**
** A sum in which each element has a weight of its own, as if at random in [-1, 1], and how large it would be
** by chance: other values have another sum, beyond rounding. Bits may differ: some ops, prod among them, are made of
** others where they are recorded.
*/

enum { STRETCH = 1 << 14, LANES = 8 };

typedef struct {
  const array *a;
  sample *part;
} summed;

typedef double lanes __attribute__((vector_size(64)));
typedef uint32_t bits __attribute__((vector_size(32)));
typedef int32_t whole __attribute__((vector_size(32)));
typedef float narrow __attribute__((vector_size(32)));

/* Of the elements from..from + n - 1 of x; `wide` has LANES of them */
#define SAMPLED(type, wide)                                                                        \
  EACH_LEVEL static void sample_##type(const type *x, int64_t from, int64_t n, sample *of) {       \
    lanes sum = {0}, squares = {0};                                                                \
    bits place = {1, 2, 3, 4, 5, 6, 7, 8};                                                         \
    place += (uint32_t)from;                                                                       \
    for (int64_t i = 0; i < n; i += LANES, place += LANES) {                                       \
      wide v = {0};                                                                                \
      if (i + LANES <= n) memcpy(&v, x + from + i, sizeof v);                                      \
      else memcpy(&v, x + from + i, (size_t)(n - i) * sizeof *x);                                  \
      bits h = place * 0x9e3779b1u;                                                                \
      h = (h ^ h >> 15) * 0x85ebca77u;                                                             \
      lanes d = __builtin_convertvector(v, lanes);                                                 \
      sum += d * __builtin_convertvector((whole)h, lanes);                                         \
      squares += d * d;                                                                            \
    }                                                                                              \
    *of = (sample){0, 0};                                                                          \
    for (int k = 0; k < LANES; k++) of->sum += sum[k] * 0x1p-31, of->squares += squares[k];        \
  }
SAMPLED(double, lanes)
SAMPLED(float, narrow)

static void sum_part(void *arg, int64_t part) {
  const summed *j = arg;
  int64_t from = part * STRETCH, n = least(STRETCH, j->a->size - from);
  if (j->a->dtype == F64) sample_double(j->a->p, from, n, &j->part[part]);
  else sample_float(j->a->p, from, n, &j->part[part]);
}

/* Is a, or an array that it is to be computed from, neither among those that were read nor one number? */
static bool is_inner(graph *G, const captures *c, array *a, array **todo) {
  uint64_t known = ++G->arrays.mark, seen = ++G->arrays.mark;
  int n = 0;
  for (int i = 0; i < c->n; i++)
    if (c->v[i].a) c->v[i].a->mark = known;
  for (todo[n++] = a; n;) {
    array *x = todo[--n];
    if (x->state == CONST || x->mark == known || x->mark == seen) continue;
    if (x->state == READY) return true;
    x->mark = seen;
    for (int i = 0; i < x->nin; i++) todo[n++] = x->in[i];
  }
  return false;
}

bool captures_computed(graph *G, const captures *c, const node *y, bool *yes) {
  *yes = !y->a;
  if (*yes) return true; /* a number */
  enum { OPERANDS = 3 };
  array **todo = mg_alloc(&G->c, (OPERANDS * (size_t)y->a->nodes + 1) * sizeof *todo);
  if (!todo) return false;
  *yes = is_inner(G, c, y->a, todo);
  mg_free(todo);
  return true;
}

bool captures_sample(graph *G, node *y, sample *of) {
  array *a = node_values(G, y);
  if (!a) return false;
  int64_t parts = (a->size + STRETCH - 1) / STRETCH;
  summed j = {a, mg_alloc(&G->c, (parts + 1) * sizeof *j.part)};
  if (j.part) par_for(&G->c, parts, sum_part, &j);
  *of = (sample){0};
  for (int64_t i = 0; i < parts && j.part; i++) {
    of->sum += j.part[i].sum;
    of->squares += j.part[i].squares;
  }
  mg_free(j.part);
  arr_unref(a);
  return j.part;
}

bool captures_like(dtype t, int64_t n, const sample *a, const sample *b) {
  if (!isfinite(a->squares) || !isfinite(b->squares))
    return isfinite(a->squares) == isfinite(b->squares);
  double part = t == F64 ? 1e-6 : 1e-3, least = part; /* what is smaller may be rounding alone */
  double large = sqrt(a->squares > b->squares ? a->squares : b->squares);
  return fabs(a->sum - b->sum) <= part * (large + least * sqrt((double)n));
}
