/* ahead.c -- rows of arrays, copied by another thread until they are asked for: the next batch of a
** DataLoader. Places are made and indices checked here; the thread copies bytes.
**
** What is anything but plain is not copied ahead, and whoever asked takes it as always, which raises
** where it should: so nothing here raises, and whether there is a thread cannot be seen in any result.
*/
#include <string.h>

#include "lua/binding.h"

enum { MOST = 8 };

typedef struct {
  array *from, *to;  /* held */
  int64_t row, step; /* bytes: of a row, from one to the next */
} column;

typedef struct {
  errand t;
  state *S;
  bool begun;
  int n;
  array *index; /* held: int64, 1-based */
  column c[MOST];
} ahead;

static void copy(errand *t) {
  ahead *j = (ahead *)t;
  const int64_t *index = j->index->p;
  for (int k = 0; k < j->n; k++) {
    const column *c = &j->c[k];
    for (int64_t i = 0; i < j->index->size; i++)
      memcpy((char *)c->to->p + i * c->row, (const char *)c->from->p + (index[i] - 1) * c->step,
             c->row);
  }
}

static void let_go(ahead *j) {
  if (j->begun) errand_drop(&j->t);
  j->begun = false;
  arr_unref(j->index);
  for (int k = 0; k < j->n; k++) {
    arr_unref(j->c[k].from);
    arr_unref(j->c[k].to);
  }
  j->index = NULL;
  j->n = 0;
}

static int ahead_close(lua_State *L) {
  let_go(luaL_checkudata(L, 1, "moongrad.ahead"));
  return 0;
}

/* The value of the Variable at i, if it lies there and no gradient or record is to know of it. */
static array *plain(lua_State *L, state *S, int i) {
  node **b = to_box(L, i);
  node *n = b ? *b : NULL;
  if (!n || S->G.recorder || S->G.captures || (node_tracked(n) && S->G.backprop)) return NULL;
  return n->a && n->a->state == READY && n->a->s.n > 0 ? n->a : NULL;
}

static bool rows_lie_together(const array *a) {
  int64_t step = 1;
  for (int i = a->s.n - 1; i > 0; step *= a->s.d[i--])
    if (a->s.d[i] != 1 && a->stride[i] != step) return false;
  return true;
}

static bool add_column(state *S, ahead *j, array *from) {
  int64_t n = from->s.d[0], size = dtype_size[from->dtype];
  const int64_t *index = j->index->p;
  if (n == 0 || from->size == 0 || !rows_lie_together(from)) return false;
  for (int64_t i = 0; i < j->index->size; i++)
    if (index[i] < 1 || index[i] > n) return false;
  shape s = from->s;
  s.d[0] = j->index->size;
  array *to = arr_host(&S->G.c, from->dtype, &s);
  if (!to) return false;
  j->c[j->n++] = (column){arr_ref(from), to, from->size / n * size, from->stride[0] * size};
  return true;
}

static bool begin(lua_State *L, state *S, ahead *j, int n) {
  array *index = plain(L, S, 1);
  if (!index || index->dtype != I64 || index->s.n != 1 || index->size == 0 ||
      !arr_is_contiguous(index))
    return false;
  j->index = arr_ref(index);
  for (int k = 0; k < n; k++) {
    array *from = plain(L, S, 2 + k);
    if (!from || !add_column(S, j, from)) return false;
  }
  return j->begun = errand_begin(&j->t, copy);
}

/* _ahead(index, x, ...): begins to copy x[index] and so on; nil: that is not to be had. */
static int begin_ahead(lua_State *L) {
  state *S = get_state(L);
  int n = lua_gettop(L) - 1;
  if (n < 1 || n > MOST || in_finalizer(L)) return lua_pushnil(L), 1;
  ahead *j = lua_newuserdatauv(L, sizeof *j, 0);
  *j = (ahead){.S = S};
  luaL_setmetatable(L, "moongrad.ahead");
  if (begin(L, S, j, n)) return 1;
  let_go(j);
  S->G.c.err = OK;
  return lua_pushnil(L), 1;
}

/* job:take(x, ...): the rows, if these are still the values they were copied of; else nil. Once */
static int ahead_take(lua_State *L) {
  state *S = get_state(L);
  ahead *j = luaL_checkudata(L, 1, "moongrad.ahead");
  int n = lua_gettop(L) - 1;
  bool same = j->begun && n == j->n && plain(L, S, 2);
  for (int k = 0; same && k < n; k++) same = plain(L, S, 2 + k) == j->c[k].from;
  if (!same) return let_go(j), lua_pushnil(L), 1;
  errand_end(&j->t);
  luaL_checkstack(L, n + LUA_MINSTACK, NULL);
  for (int k = 0; k < n; k++) {
    node **r = box_new(L, S);
    if (k >= j->n) return lua_pushnil(L), 1; /* a finalizer took them */
    TRY(L, S, *r = node_array(&S->G, arr_ref(j->c[k].to)));
    made(L, S, *r);
  }
  let_go(j);
  return n;
}

const luaL_Reg ahead_meta[] = {
    {"take", ahead_take}, {"__gc", ahead_close}, {"__close", ahead_close}, {NULL, NULL}};

const entry ahead_entries[] = {{"_ahead", begin_ahead, NULL, false}, {NULL, NULL, NULL, false}};
