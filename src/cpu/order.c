/* order.c -- in what order scalars are computed.
**
** Calls are put in order first: as many of one op together as there are lanes, where so many can be made, else
** those first that most has to wait for. What is no call is computed when one needs it, or at the end.
*/
#include "cpu/scalar.h"

#include <string.h>

typedef struct {
  int32_t *waits;  /* by scalar: operands that are not there yet */
  int32_t *height; /* ... how long what follows it takes */
  int32_t *user;   /* who reads scalar i: user[begin[i]] ... user[begin[i + 1] - 1] */
  int32_t *begin;
  int32_t *group; /* calls: in which; others: before which they are wanted */
  int32_t *ready, nready, *stack;
  int32_t *call, ncall, ngroup;
  int16_t waiting[NOP][2]; /* calls that are ready, by op and dtype */
} orderer;

static int lanes_of(const scalar *s) { return s->x == OP__polygamma ? 1 : s->dtype == F64 ? 4 : 8; }

static int cost_of(const scalar *s) {
  return s->op == N_CALL || s->op == N_KERNEL ? 80 : s->op == I_DIV || s->op == I_SQRT ? 14 : 4;
}

static bool is_computed(const scalars *w, int32_t i) {
  return i >= 0 && w->live[i] && !is_source(&w->s[i]);
}

static void find_users(const scalars *w, orderer *o) {
  for (int32_t i = w->n - 1; i >= 0; i--) {
    if (!is_computed(w, i)) continue;
    o->height[i] += cost_of(&w->s[i]);
    for (int j = 0; j < 3; j++) {
      int32_t x = w->s[i].in[j];
      if (!is_computed(w, x)) continue;
      if (o->height[x] < o->height[i]) o->height[x] = o->height[i];
      o->waits[i]++;
      o->begin[x + 1]++;
    }
  }
  for (int32_t i = 0; i <= w->n; i++) o->begin[i + 1] += o->begin[i];
  for (int32_t i = w->n - 1; i >= 0; i--)
    for (int j = 0; j < 3 && is_computed(w, i); j++)
      if (is_computed(w, w->s[i].in[j])) o->user[--o->begin[w->s[i].in[j] + 1]] = i;
  /* now begin[i + 1] is where i's users begin: those of i end where those of i + 1 do so */
}

static void now_there(const scalars *w, orderer *o, int32_t i) {
  int32_t n = 0;
  o->stack[n++] = i;
  while (n) {
    i = o->stack[--n];
    for (int32_t k = o->begin[i + 1]; k < o->begin[i + 2]; k++) {
      int32_t u = o->user[k];
      if (--o->waits[u]) continue;
      if (w->s[u].op == N_CALL) {
        o->ready[o->nready++] = u;
        o->waiting[w->s[u].x][w->s[u].dtype]++;
      } else o->stack[n++] = u;
    }
  }
}

/* Of those that are ready: one of as many as fill a vector, or the highest */
static int32_t best_call(const scalars *w, const orderer *o) {
  int32_t best = -1;
  for (int32_t k = o->nready - 1; k >= 0; k--) {
    int32_t i = o->ready[k];
    const scalar *s = &w->s[i];
    if (o->waiting[s->x][s->dtype] >= lanes_of(s) && lanes_of(s) > 1) return i;
    if (best < 0 || o->height[i] > o->height[best]) best = i;
  }
  return best;
}

static void take_group(scalars *w, orderer *o) {
  const scalar *b = &w->s[best_call(w, o)];
  int32_t taken[8], n = 0;
  while (n < lanes_of(b)) {
    int32_t at = -1;
    for (int32_t k = o->nready - 1; k >= 0; k--) {
      int32_t i = o->ready[k];
      if (w->s[i].x != b->x || w->s[i].dtype != b->dtype) continue;
      if (at < 0 || o->height[i] > o->height[o->ready[at]]) at = k;
    }
    if (at < 0) break;
    taken[n++] = o->ready[at];
    o->ready[at] = o->ready[--o->nready];
    o->waiting[b->x][b->dtype]--;
  }
  for (int32_t k = 0; k < n; k++) {
    o->group[taken[k]] = o->ngroup;
    o->call[o->ncall++] = taken[k];
  }
  for (int32_t k = 0; k < n; k++) now_there(w, o, taken[k]);
  o->ngroup++;
}

static void group_calls(scalars *w, orderer *o) {
  for (int32_t i = 0; i < w->n; i++) {
    if (!is_computed(w, i) || o->waits[i]) continue;
    o->waits[i] = -1; /* from here on: it waits for nothing */
  }
  for (int32_t i = 0; i < w->n; i++) {
    if (o->waits[i] != -1) continue;
    if (w->s[i].op == N_CALL) {
      o->ready[o->nready++] = i;
      o->waiting[w->s[i].x][w->s[i].dtype]++;
    } else now_there(w, o, i);
  }
  while (o->nready) take_group(w, o);
}

static void put_in_order(scalars *w, orderer *o) {
  int32_t *at = o->stack; /* by group: where it goes on */
  for (int32_t i = 0; i < w->n; i++)
    if (w->s[i].op != N_CALL) o->group[i] = o->ngroup;
  for (int32_t i = w->n - 1; i >= 0; i--)
    for (int j = 0; j < 3 && is_computed(w, i); j++) {
      int32_t x = w->s[i].in[j];
      if (x >= 0 && w->s[x].op != N_CALL && o->group[x] > o->group[i]) o->group[x] = o->group[i];
    }
  memset(at, 0, (o->ngroup + 2) * sizeof *at);
  for (int32_t i = 0; i < w->n; i++)
    if (is_computed(w, i)) at[o->group[i] + 1]++;
  for (int32_t g = 0; g <= o->ngroup; g++) at[g + 1] += at[g];
  w->norder = at[o->ngroup + 1];
  for (int32_t i = 0; i < w->n; i++)
    if (is_computed(w, i) && w->s[i].op != N_CALL) w->order[at[o->group[i]]++] = i;
  for (int32_t k = 0, first = 0; k < o->ncall; k++) {
    int32_t i = o->call[k], g = o->group[i];
    if (k == 0 || o->group[o->call[k - 1]] != g) first = at[g];
    w->order[at[g]++] = i;
    w->together[first] = at[g] - first;
  }
}

bool scalars_order(scalars *w) {
  size_t n = w->n + 2, bytes = sizeof(orderer) + (5 * n + 3 * n + 3 * n) * sizeof(int32_t);
  orderer *o = mg_alloc(w->c, bytes);
  if (!o) return false;
  memset(o, 0, bytes);
  int32_t *at = (int32_t *)(o + 1);
  o->waits = at, o->height = at + n, o->begin = at + 2 * n, o->group = at + 3 * n + 1;
  o->ready = at + 4 * n + 1, o->stack = at + 5 * n + 1, o->call = at + 7 * n;
  o->user = at + 8 * n;
  find_users(w, o);
  group_calls(w, o);
  put_in_order(w, o);
  mg_free(o);
  return true;
}
