/* capture.c -- what a function of the host's reads of what was there before it was called.
**
** While G->captures is set, every Variable older than it whose value is read or written is noted, once,
** with the value that it has then. A checkpoint's Function has them as inputs; when it is computed
** again they have these values for a while, and no others after than before.
*/
#include <string.h>

#include "graph/internal.h"

static uint32_t hash(const node *n, int size) {
  return (uint32_t)((uintptr_t)n / sizeof *n * 0x9E3779B97F4A7C15ull >> 33) & (uint32_t)(size - 1);
}

/* Where n stands in the index, or would */
static int *look_up(const captures *c, const node *n) {
  uint32_t i = hash(n, 2 * c->cap);
  while (c->index[i] && c->v[c->index[i] - 1].n != n) i = (i + 1) & (2 * c->cap - 1);
  return &c->index[i];
}

static bool grow(ctx *ctx, captures *c) {
  int cap = c->cap ? 2 * c->cap : 16;
  captured *v = mg_alloc(ctx, cap * sizeof *v);
  int *index = mg_alloc(ctx, 2 * cap * sizeof *index);
  if (!v || !index) return mg_free(v), mg_free(index), false;
  memset(index, 0, 2 * cap * sizeof *index);
  if (c->n) memcpy(v, c->v, c->n * sizeof *v);
  mg_free(c->v);
  mg_free(c->index);
  c->v = v;
  c->index = index;
  c->cap = cap;
  for (int i = 0; i < c->n; i++) *look_up(c, v[i].n) = i + 1;
  return true;
}

int captures_note(graph *G, captures *c, node *n, array *a, imm k) {
  if (n->id > c->since || n->flags & (NUMBER | DROPPED)) return -1;
  int err = G->c.err;
  if (c->n == c->cap && !grow(&G->c, c)) {
    G->c.err = err; /* told when the function has returned */
    c->failed = true;
    return -1;
  }
  int *at = look_up(c, n);
  if (*at == 0) {
    c->v[c->n] = (captured){node_hold(n), a ? arr_ref(a) : NULL, k, node_tracked(n)};
    *at = ++c->n;
  }
  return *at - 1;
}

void captures_end(graph *G, captures *c) {
  for (int i = 0; i < c->n; i++) {
    arr_unref(c->v[i].a);
    node_drop(G, c->v[i].n);
  }
  mg_free(c->v);
  mg_free(c->index);
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
  for (int i = 0; in && i < c->n; i++) in[i] = c->v[i].n;
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
  *now = (captures){0};
}
