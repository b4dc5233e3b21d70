/* gradient.c -- the loop of backward, and gradients.
**
** The core walks the graph and stops at Functions written in Lua, which are called here. The walk
** is guarded: an error anywhere frees it with all that was not committed, and goes on unchanged, but
** for what Config.debug adds.
*/
#include "lua/binding.h"

typedef struct {
  guard g;
  backward *b;
} walk;

static void end(state *S, guard *g) {
  walk *w = (walk *)g;
  backward *b = w->b;
  (void)S;
  w->b = NULL;
  if (b) backward_free(b);
}

/* The Variables of our own list at 3, in `targets`, which is NULL without one */
static backward *begin(lua_State *L, state *S, node **targets, int n, backward_opts o) {
  for (int i = 0; i < n; i++, lua_pop(L, 1)) {
    lua_rawgeti(L, 3, i + 1);
    targets[i] = node_at(L, -1);
  }
  return backward_new(&S->G, node_at(L, 2), NULL, n, targets, o);
}

/* run(walk, y, targets or nil, options): the targets' gradients, or nothing. */
static int run(lua_State *L) {
  state *S = get_state(L);
  walk *w = lua_touserdata(L, 1);
  backward_opts o = *(backward_opts *)lua_touserdata(L, 4);
  int n = 0, status;
  node **targets = NULL, *f;
  if (!lua_isnil(L, 3)) {
    n = (int)lua_rawlen(L, 3);
    targets = lua_newuserdatauv(L, (n + 1) * sizeof *targets, 0);
  }
  TRY(L, S, w->b = begin(L, S, targets, n, o));
  while ((status = backward_next(w->b, &f)) == 1) function_backward(L, S, w->b, f, o.create_graph);
  if (status < 0) failed(L, S, 1);
  if (!backward_finish(w->b)) failed(L, S, 1);
  if (!targets) return 0;
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    node **g = box_new(L, S);
    TRY(L, S, *g = backward_target(w->b, i));
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* The error at 1, if it is text, with the Function that it came from. */
static int add_origin(lua_State *L) {
  walk *w = lua_touserdata(L, lua_upvalueindex(3));
  const node *f = w->b ? backward_at(w->b) : NULL;
  if (f && lua_type(L, 1) == LUA_TSTRING) {
    push_origin(L, f);
    lua_concat(L, 2);
  }
  return 1;
}

static void push_closure(lua_State *L, lua_CFunction f, int more) {
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  if (more) lua_pushvalue(L, more);
  lua_pushcclosure(L, f, more ? 3 : 2);
}

/* run, with Config.debug: what arose inside is told from here on, without the lines in between. */
static int run_explained(lua_State *L) {
  push_closure(L, add_origin, 1);
  lua_insert(L, 1);
  push_closure(L, run, 0);
  lua_insert(L, 2);
  if (lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1) != LUA_OK) lua_error(L);
  return lua_gettop(L) - 1;
}

/* Of the Variable at 1 for the table of targets at 2, or nil; what it gives stays on the stack. */
static void go_back(lua_State *L, state *S, const char *who, backward_opts o) {
  node *y = check_node(L, 1, who);
  if (!is_float(y->dtype))
    refuse(L, "%s: gradients need floats, this Variable is %s", who, dtype_name[y->dtype]);
  collect_before_backward(L, S);
  walk *w = guard_new(L, sizeof *w);
  w->b = NULL;
  w->g.end = end;
  push_closure(L, S->G.debug ? run_explained : run, 0);
  lua_pushvalue(L, -2);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  *(backward_opts *)lua_newuserdatauv(L, sizeof o, 0) = o;
  call_guarded(L, 4);
}

/* backward(y [, retain_grad | {retain_grad =, create_graph =, retain_graph =}]) */
static int variable_backward(lua_State *L) {
  static const char *const names[] = {"retain_grad", "create_graph", "retain_graph", NULL};
  state *S = get_state(L);
  backward_opts o = {false, false, false};
  lua_settop(L, 2);
  if (lua_isboolean(L, 2)) o.retain_grad = lua_toboolean(L, 2);
  else {
    check_options(L, 2, "backward", names, false);
    o.retain_grad = option_bool(L, 2, "backward", names[0], false);
    o.create_graph = option_bool(L, 2, "backward", names[1], false);
    o.retain_graph = option_bool(L, 2, "backward", names[2], o.create_graph);
  }
  lua_settop(L, 1);
  lua_pushnil(L);
  go_back(L, S, "backward", o);
  return 0;
}

/* gradients(y, {xs} [, {create_graph =, retain_graph =}]) */
static int gradients(lua_State *L) {
  static const char *const names[] = {"create_graph", "retain_graph", NULL};
  state *S = get_state(L);
  lua_settop(L, 3);
  check_node(L, 1, "gradients");
  if (lua_type(L, 2) != LUA_TTABLE)
    refuse(L, "gradients: argument 2 is a %s, expected a table of Variables", kind_of(L, 2));
  check_options(L, 3, "gradients", names, false);
  backward_opts o = {.create_graph = option_bool(L, 3, "gradients", names[0], false)};
  o.retain_graph = option_bool(L, 3, "gradients", names[1], o.create_graph);
  int n = (int)lua_rawlen(L, 2);
  lua_createtable(L, n, 0); /* our own, which nobody changes meanwhile */
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, 2, i);
    if (!to_node(L, -1))
      refuse(L, "gradients: x %d is a %s, expected a Variable", i, kind_of(L, -1));
    lua_rawseti(L, -2, i);
  }
  lua_replace(L, 2);
  go_back(L, S, "gradients", o);
  return 1;
}

const entry backward_entries[] = {
    {"backward", variable_backward,
     "backward(y [, retain_grad | {retain_grad =, create_graph =, retain_graph =}])\n"
     "adds the gradients of y to .grad of the leaves it came from",
     true},
    {"gradients", gradients,
     "gradients(y, {xs} [, {create_graph =, retain_graph =}])\na table of the gradients of y for "
     "xs; "
     ".grad is left alone",
     false},
    {NULL, NULL, NULL, false}};
