/* tidy.c -- Variables let go of when a call ends, instead of when the collector comes.
**
** While tidy(fn) runs, every box made is listed. When fn returns, those that it does not return are
** emptied. The list is kept alive by the stack of that call alone: an error leaves the boxes to the
** collector. Lists of nested calls stand one above the other in a table of weak values. What an object
** keeps beyond the call, such as an optimizer's moments, is no temporary of it: it stands in a set of weak
** keys, and stays. So does what a recorded Function written in Lua keeps in its self, while its graph is there.
*/
#include "lua/binding.h"

static const char lists = 0, outliving = 0,
                  selves = 0; /* their addresses are the registry's keys */

/* Pushes a table of the registry, of weak values or keys. */
static void push_weak(lua_State *L, const char *key, const char *mode) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushstring(L, mode);
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static void push_lists(lua_State *L) { push_weak(L, &lists, "v"); }
static void push_outliving(lua_State *L) { push_weak(L, &outliving, "k"); }

/* The box on top is entered in the innermost list. */
void tidy_enter(lua_State *L, state *S) {
  push_lists(L);
  if (lua_rawgeti(L, -1, S->tidy) == LUA_TTABLE) {
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  }
  lua_pop(L, 2);
}

/* The value on top, and what is in it if it is a table, so many deep. It is popped. */
static void add_outliving(lua_State *L, int set, int depth) {
  if (to_box(L, -1)) {
    lua_pushboolean(L, 1);
    lua_rawset(L, set);
    return;
  }
  luaL_checkstack(L, 4, "tidy");
  if (lua_type(L, -1) == LUA_TTABLE && depth > 0)
    for (lua_pushnil(L); lua_next(L, -2);) add_outliving(L, set, depth - 1);
  lua_pop(L, 1);
}

void tidy_outlive(lua_State *L, int i) {
  enum { DEPTH = 4 }; /* of an optimizer's state */
  i = lua_absindex(L, i);
  push_outliving(L);
  lua_pushvalue(L, i);
  add_outliving(L, lua_gettop(L) - 1, DEPTH);
  lua_pop(L, 1);
}

/* _outlive(v): v */
static int outlive(lua_State *L) {
  lua_settop(L, 1);
  tidy_outlive(L, 1);
  return 1;
}

void tidy_self(lua_State *L, int self, int ref) {
  self = lua_absindex(L, self);
  push_weak(L, &selves, "k");
  lua_pushvalue(L, self);
  lua_pushinteger(L, ref);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

typedef struct {
  guard g;
  int outer;
} tidy_guard;

static void leave(state *S, guard *g) {
  S->tidy = ((tidy_guard *)g)->outer;
  g->end = NULL;
}

/* If the value on top is a Variable, it stays: it is marked in the table `kept`. So is a table, once, and
** becomes the next of n in the list after it. It is popped. */
static int keep(lua_State *L, int kept, int n) {
  bool table = lua_type(L, -1) == LUA_TTABLE;
  lua_pushvalue(L, -1);
  if ((table || to_box(L, -1)) && lua_rawget(L, kept) == LUA_TNIL) {
    lua_pushvalue(L, -2);
    lua_pushboolean(L, 1);
    lua_rawset(L, kept);
    if (table) {
      lua_pushvalue(L, -2);
      lua_rawseti(L, kept + 1, ++n);
    }
  }
  lua_pop(L, 2);
  return n;
}

/* Is what is on top a key of the table at `set`? */
static bool has(lua_State *L, int set) {
  lua_pushvalue(L, -1);
  lua_rawget(L, set);
  bool yes = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return yes;
}

/* What selves of recorded Functions keep stays as what is returned does: a backward will read it. */
static int keep_selves(lua_State *L, int kept, int tables) {
  push_weak(L, &selves, "k");
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua_tointeger(L, -1));
    bool recorded = lua_rawequal(L, -1, -3);
    if (recorded) tables = keep(L, kept, tables);
    else lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return tables;
}

/* tidy(fn, ...): what fn returns. What is needed after the call is there before: where it changed something,
** nothing fails any more, unless tables are returned. */
static int tidy(lua_State *L) {
  enum { LIST = 1, KEPT, TABLES, GUARD };
  state *S = get_state(L);
  sig_check(L);
  push_lists(L);
  lua_newtable(L);
  lua_insert(L, LIST);
  lua_pushvalue(L, LIST);
  lua_rawseti(L, -2, S->tidy + 1);
  lua_pop(L, 1);
  for (int i = KEPT; i <= TABLES; i++) {
    lua_newtable(L);
    lua_insert(L, i);
  }
  push_outliving(L);
  lua_pop(L, 1);
  tidy_guard *g = guard_new(L, sizeof *g);
  lua_insert(L, GUARD);
  g->outer = S->tidy++;
  g->g.end = leave;
  call_guarded(L, lua_gettop(L) - GUARD - 1);
  int last = lua_gettop(L), tables = 0;
  luaL_checkstack(L, 10, "tidy");
  for (int i = GUARD + 1; i <= last; i++) {
    lua_pushvalue(L, i);
    tables = keep(L, KEPT, tables);
  }
  tables = keep_selves(L, KEPT, tables);
  for (int i = 1; i <= tables; i++, lua_pop(L, 1)) {
    lua_rawgeti(L, TABLES, i);
    for (lua_pushnil(L); lua_next(L, -2);) tables = keep(L, KEPT, tables);
  }
  push_outliving(L);
  int set = lua_gettop(L);
  for (int i = 1, n = (int)lua_rawlen(L, LIST); i <= n; i++) {
    lua_rawgeti(L, LIST, i);
    bool stays = has(L, KEPT), outlives = has(L, set);
    if (!stays && !outlives) box_drop(S, lua_touserdata(L, -1));
    else if (S->tidy && !outlives) tidy_enter(L, S); /* it belongs to the call around this one */
    lua_pop(L, 1);
  }
  lua_settop(L, last);
  return last - GUARD;
}

/* Empties the boxes made since the last sweep, but for the `n` at `keep` and what outlives the call. How far
** the list was swept stands in it at 0. */
static void sweep(lua_State *L, state *S, int n, void *const *keep) {
  push_lists(L);
  if (lua_rawgeti(L, -1, S->tidy) == LUA_TTABLE) {
    int list = lua_gettop(L), last = (int)lua_rawlen(L, list), set = list + 1;
    push_outliving(L);
    lua_rawgeti(L, list, 0);
    int at = (int)lua_tointeger(L, -1);
    for (int i = at + 1; i <= last; i++, lua_settop(L, set)) {
      lua_rawgeti(L, list, i);
      void *box = lua_touserdata(L, -1);
      int k = 0;
      while (k < n && keep[k] != box) k++;
      if (k == n && !has(L, set)) box_drop(S, box);
      else lua_rawseti(L, list, ++at);
    }
    for (int i = last; i > at; i--) lua_pushnil(L), lua_rawseti(L, list, i);
    lua_pushinteger(L, at);
    lua_rawseti(L, list, 0);
  }
}

/* The table at `at` is t[1] .. t[n] alone. */
static bool is_list(lua_State *L, int at, int n) {
  int count = 0;
  for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1), count++)
    if (!lua_isinteger(L, -2)) return lua_pop(L, 2), false;
  return count == n;
}

/* What is on top is the value at p, or one in the table at s. */
static bool belongs(lua_State *L, int p, int s) {
  if (lua_rawequal(L, -1, p)) return true;
  for (lua_pushnil(L); lua_next(L, s); lua_pop(L, 1))
    if (lua_rawequal(L, -1, -3)) return lua_pop(L, 2), true;
  return false;
}

/* _gather(targets, values, to, from, p, s): appends two lists of one length, those of an assign to
** p and what stands in s, to longer ones; what else the tidy around has made goes. False: they are
** no such lists; and where one of `to` is neither, its place. */
static int gather(lua_State *L) {
  enum { TARGETS = 1, VALUES, TO, FROM, P, SLOT, MOST = 16 };
  state *S = get_state(L);
  void *keep[2 * MOST];
  lua_settop(L, SLOT);
  int n = 0, have = (int)lua_rawlen(L, TARGETS);
  bool lists = lua_istable(L, TO) && lua_istable(L, FROM);
  if (lists) n = (int)lua_rawlen(L, TO), lists = is_list(L, TO, n) && is_list(L, FROM, n);
  for (int i = 1; i <= n && lists; i++)
    for (int of = TO; of <= FROM; of++) {
      lua_rawgeti(L, of, i);
      if (of == TO && !belongs(L, P, SLOT))
        return lua_pushboolean(L, false), lua_pushinteger(L, i), 2;
      if (i <= MOST) keep[2 * i - 2 + (of == FROM)] = lua_touserdata(L, -1);
      lua_rawseti(L, of - TO + TARGETS, have + i);
    }
  if (lists && S->tidy && n <= MOST) sweep(L, S, 2 * n, keep);
  lua_pushboolean(L, lists);
  return 1;
}

const entry tidy_entries[] = {{"tidy", tidy,
                               "tidy(fn: function, ...)\nfn(...); Variables made in it are freed "
                               "at its end, but for those it returns, "
                               "in tables too, and what modules, optimizers and the selves of "
                               "recorded Functions keep",
                               false},
                              {"_gather", gather, NULL, false},
                              {"_outlive", outlive, NULL, false},
                              {NULL, NULL, NULL, false}};
