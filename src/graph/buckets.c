/* buckets.c -- gradients that processes have in common: packed, and summed while backward goes on.
**
** A watch knows leaves, in buckets. When backward.c says that the gradients of all leaves of a
** bucket are final, they are taken from it, computed together and packed into one array, which the
** reducer sums; buckets start in their order, the same in all processes. Before backward commits,
** it waits for all, and each leaf's gradient becomes a view of its part. A bucket ends with a
** number for each leaf, 1 where this process had a gradient for it, and one that is 0 unless a
** process failed: it then took part in what was left, so that no other waits for it, and all fail.
*/
#include <string.h>

#include "graph/internal.h"

typedef struct {
  int first, end; /* leaves */
  int open;       /* of these, how many are not final */
  dtype t;
  int64_t n; /* numbers of gradients */
  array *a;
} bucket;

struct packing {
  moongrad_reducer *r;
  bool begun, agreed; /* agreed: nothing went wrong between the processes */
  bool gone;          /* to be freed when the backward is over */
  int nbuckets, started, waited, told;
  int *order;
  bucket *b;
};

/* ---- making one ---------------------------------------------------------------------------------- */

static int64_t size_of(const node *n) {
  shape s;
  return node_shape(n, &s) ? shape_size(&s) : 0;
}

static bool is_watched(const graph *G, const node *leaf) {
  for (const watch *w = G->watches; w; w = w->next)
    for (int i = 0; i < w->n; i++)
      if (w->leaf[i] == leaf) return true;
  return false;
}

static bool check_leaves(graph *G, int n, node *const *leaf) {
  for (int i = 0; i < n; i++) {
    if (is_watched(G, leaf[i]))
      return fail(&G->c, "the gradients of parameter %d are averaged already", i + 1);
    if (!node_tracked(leaf[i]) || node_has_creator(leaf[i]))
      return fail(&G->c, "parameter %d is no tracked leaf", i + 1);
  }
  return true;
}

static void fill_buckets(watch *w, const int *count) {
  int at = 0;
  for (int k = 0; k < w->p->nbuckets; k++) {
    bucket *b = &w->p->b[k];
    *b = (bucket){.first = at, .end = at + count[k], .t = w->leaf[at]->dtype};
    for (; at < b->end; at++) b->n += size_of(w->leaf[at]);
  }
}

watch *watch_new(graph *G, int n, node *const *leaf, int nbuckets, const int *count,
                 moongrad_reducer *r) {
  ctx *c = &G->c;
  if (!check_leaves(G, n, leaf)) return NULL;
  watch *w = mg_alloc(c, sizeof *w + sizeof *w->p);
  if (!w) return NULL;
  *w = (watch){.G = G, .n = n, .p = (packing *)(w + 1)};
  *w->p = (packing){.nbuckets = nbuckets};
  w->leaf = mg_alloc(c, n * sizeof *w->leaf);
  w->final = mg_alloc(c, n * sizeof *w->final);
  w->p->order = mg_alloc(c, n * sizeof *w->p->order);
  w->p->b = mg_alloc(c, nbuckets * sizeof *w->p->b);
  if (!w->leaf || !w->final || !w->p->order || !w->p->b) return w->n = 0, watch_free(w), NULL;
  for (int i = 0; i < n; i++) w->leaf[i] = node_hold(leaf[i]);
  fill_buckets(w, count);
  w->p->r = r;
  w->next = G->watches;
  G->watches = w;
  return w;
}

void watch_free(watch *w) {
  if (w->b) {
    w->p->gone = true;
    return;
  }
  for (watch **at = &w->G->watches; *at; at = &(*at)->next)
    if (*at == w) {
      *at = w->next;
      break;
    }
  for (int i = 0; i < w->n; i++) node_drop(w->G, w->leaf[i]);
  if (w->p->r) w->p->r->drop(w->p->r);
  mg_free(w->leaf);
  mg_free(w->final);
  mg_free(w->p->order);
  mg_free(w->p->b);
  mg_free(w);
}

int watch_buckets(const watch *w) { return w->p->nbuckets; }

const int *watch_order(const watch *w, int *n) {
  *n = w->p->told;
  return w->p->order;
}

/* ---- while backward goes on ---------------------------------------------------------------------- */

static bool reducer_failed(watch *w) {
  w->p->agreed = false;
  return fail(&w->G->c, "%s", w->p->r->error);
}

bool watch_begin(watch *w) {
  packing *p = w->p;
  p->started = p->waited = p->told = 0;
  for (int k = 0; k < p->nbuckets; k++) p->b[k].open = p->b[k].end - p->b[k].first;
  memset(w->final, 0, w->n * sizeof *w->final);
  p->begun = p->agreed = true;
  p->r->failed = false;
  return p->r->begin(p->r) || reducer_failed(w);
}

static int64_t room(const bucket *b) { return b->n + (b->end - b->first) + 1; }

static char *number_at(const bucket *b, int64_t i) {
  return (char *)arr_data(b->a) + i * dtype_size[b->t];
}

static void put_number(const bucket *b, int64_t i, double v) {
  imm_store(b->t, number_at(b, i), (imm){.f = v});
}

/* Leaf i's gradient, or NULL, goes to place `at` of its bucket. */
static bool pack_one(watch *w, bucket *b, int i, int64_t at, node *g) {
  size_t n = size_of(w->leaf[i]), bytes = n * dtype_size[b->t];
  put_number(b, b->n + i - b->first, g != NULL);
  if (!g) return memset(number_at(b, at), 0, bytes), true;
  array *a = node_values(w->G, g);
  if (a) memcpy(number_at(b, at), arr_data(a), bytes);
  arr_unref(a);
  return a != NULL;
}

static bool pack(watch *w, bucket *b) {
  graph *G = w->G;
  int n = b->end - b->first, some = 0;
  node **g = mg_alloc(&G->c, 2 * n * sizeof *g), **there = g + n;
  b->a = g ? arr_host(&G->c, b->t, &(shape){1, {room(b)}}) : NULL;
  bool ok = b->a != NULL;
  for (int i = 0; ok && i < n; i++) {
    g[i] = backward_take(w->b, w->leaf[b->first + i]);
    if (g[i]) there[some++] = g[i];
  }
  int taken = ok ? n : 0;
  ok = ok && node_eval(G, some, there);
  int64_t at = 0;
  for (int i = 0; ok && i < n; i++) {
    ok = pack_one(w, b, b->first + i, at, g[i]);
    at += size_of(w->leaf[b->first + i]);
  }
  if (ok) put_number(b, b->n + n, 0);
  for (int i = 0; i < taken; i++) node_drop(G, g[i]);
  mg_free(g);
  return ok;
}

static bool start_ready(watch *w) {
  packing *p = w->p;
  for (bucket *b; p->started < p->nbuckets && (b = &p->b[p->started])->open == 0; p->started++) {
    if (!pack(w, b)) return false;
    if (!p->r->start(p->r, p->started, arr_data(b->a), room(b), b->t)) return reducer_failed(w);
  }
  return true;
}

bool watch_final(watch *w, int i) {
  packing *p = w->p;
  w->final[i] = true;
  p->order[p->told++] = i;
  for (int k = 0; k < p->nbuckets; k++)
    if (i < p->b[k].end) {
      p->b[k].open--;
      break;
    }
  return start_ready(w);
}

void watch_step(watch *w) {
  packing *p = w->p;
  if (p->started > p->waited) p->r->step(p->r);
}

/* ---- the sums ------------------------------------------------------------------------------------ */

static double number(const bucket *b, int64_t i) { return imm_load(b->t, number_at(b, i)).f; }

static void divide(const bucket *b, int by) {
  if (b->t == F64)
    for (double *p = arr_data(b->a), *end = p + b->n; p < end; p++) *p /= by;
  else
    for (float *p = arr_data(b->a), *end = p + b->n; p < end; p++) *p /= (float)by;
}

static node *part(watch *w, const bucket *b, int i, int64_t at) {
  shape s;
  if (!node_shape(w->leaf[i], &s)) return NULL;
  if (s.n == 0) return node_scalar(w->G, b->t, imm_load(b->t, number_at(b, at)));
  view v = {.s = s};
  view_make_dense(&v);
  return node_array(w->G, arr_view(&w->G->c, b->a, &s, v.stride, at));
}

static bool unpack(watch *w, const bucket *b) {
  int64_t at = 0;
  divide(b, w->p->r->size);
  for (int i = b->first; i < b->end; at += size_of(w->leaf[i++])) {
    node *g = NULL;
    if (number(b, b->n + i - b->first) == 0) continue;
    if (!(g = part(w, b, i, at)) || !backward_put(w->b, w->leaf[i], g)) return false;
  }
  return true;
}

bool watch_finish(watch *w) {
  packing *p = w->p;
  for (int i = 0; i < w->n; i++)
    if (!w->final[i] && !watch_final(w, i)) return false;
  bool failed = false;
  for (; p->waited < p->nbuckets; p->waited++) {
    const bucket *b = &p->b[p->waited];
    if (!p->r->wait(p->r, p->waited)) return reducer_failed(w);
    failed |= number(b, room(b) - 1) != 0;
  }
  if (failed) return fail(&w->G->c, "backward: it failed in another process");
  for (int k = 0; k < p->nbuckets; k++)
    if (!unpack(w, &p->b[k])) return false;
  return true;
}

void watch_end(watch *w) {
  packing *p = w->p;
  if (p->begun) p->r->failed = true;
  for (; p->begun && p->agreed && p->started < p->nbuckets; p->started++) {
    const bucket *b = &p->b[p->started];
    p->agreed = p->r->start(p->r, p->started, NULL, room(b), b->t);
  }
  for (; p->begun && p->agreed && p->waited < p->nbuckets; p->waited++)
    p->agreed = p->r->wait(p->r, p->waited);
  for (int k = 0; k < p->nbuckets; k++) {
    arr_unref(p->b[k].a);
    p->b[k].a = NULL;
  }
  p->begun = false;
  w->b = NULL;
  if (p->gone) watch_free(w);
}
