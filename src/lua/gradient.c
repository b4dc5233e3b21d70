/* gradient.c -- the loop of backward, for .grad or for targets.
**
** The core walks the graph and stops at Functions written in Lua, which are called here. The walk
** is guarded: an error anywhere frees it with all that was not committed, and goes on unchanged, but
** for what Config.debug adds.
*/
#include "lua/binding.h"

typedef struct {
  backward_opts o;
  bool follow;       /* create_graph if the ys depend on what is tracked and none of the xs */
  bool allow_unused; /* of the xs */
  bool look;         /* only that is asked, nothing is walked */
} request;

typedef struct {
  guard g;
  backward *b;
  request r;
} walk;

static void end(state *S, guard *g) {
  walk *w = (walk *)g;
  backward *b = w->b;
  const node *f = b ? backward_at(b) : NULL;
  w->b = NULL;
  if (f) function_failed(S, f);
  if (b) backward_free(b);
}

/* run(walk, ys, gys, xs): the arguments' places on the stack. ys may be a Variable, gys nil, or false in
** places; without xs it is all for .grad. */
enum { WALK = 1, YS, GYS, XS };

static int length(lua_State *L, int i) {
  return lua_istable(L, i) ? (int)lua_rawlen(L, i) : lua_isuserdata(L, i);
}

static void fetch(lua_State *L, int i, int n, node **out) {
  if (!lua_istable(L, i)) {
    if (n) *out = node_at(L, i);
    return;
  }
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, i, k + 1);
    out[k] = to_node(L, -1);
    lua_pop(L, 1);
  }
}

static bool start(lua_State *L, state *S, walk *w, node **nodes) {
  int ny = length(L, YS), nx = length(L, XS);
  node **gys = nodes + ny, **xs = gys + ny;
  fetch(L, YS, ny, nodes);
  if (lua_istable(L, GYS)) fetch(L, GYS, ny, gys);
  fetch(L, XS, nx, xs);
  for (int i = 0; i < nx && S->G.recorder; i++) /* f captures those, if it reads them or not */
    recorder_read(&S->G, xs[i]);
  for (int i = 0; i < ny && S->G.debug && !S->G.recorder && !w->r.look; i++) {
    if (!refuse_unfinite(L, S, nodes[i], "backward", "the result")) return false;
    if (lua_istable(L, GYS) && gys[i] &&
        !refuse_unfinite(L, S, gys[i], "backward", "the gradient that is given"))
      return false;
  }
  w->b = backward_new(&S->G, ny, nodes, lua_istable(L, GYS) ? gys : NULL, nx,
                      lua_istable(L, XS) ? xs : NULL, w->r.o);
  return w->b != NULL;
}

/* Without xs nothing. Else the xs' gradients, false where the ys do not depend on one, and whether
** they depend on what is tracked elsewhere; if that is not allowed, nil and the first such x. */
static int run(lua_State *L) {
  state *S = get_state(L);
  walk *w = lua_touserdata(L, WALK);
  request r = w->r;
  int n = length(L, XS), room = 2 * length(L, YS) + n, status;
  node *f, *few[8], **nodes = few;
  if (room > 8) nodes = lua_newuserdatauv(L, room * sizeof *nodes, 0);
  TRY(L, S, start(L, S, w, nodes));
  for (int i = 0; i < n && !r.allow_unused; i++)
    if (!backward_reaches(w->b, i)) return lua_pushnil(L), lua_pushinteger(L, i + 1), 2;
  bool links = backward_links(w->b);
  if (r.look) return lua_pushboolean(L, links), 1;
  if (r.follow) backward_create_graph(w->b, links);
  while ((status = backward_next(w->b, &f)) == 1)
    function_backward(L, S, w->b, f, r.o.create_graph || (r.follow && links));
  if (status < 0) failed(L, S, 1);
  if (!backward_finish(w->b)) failed(L, S, 1);
  if (!lua_istable(L, XS)) return 0;
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    if (backward_reaches(w->b, i)) {
      node **g = box_new(L, S);
      *g = backward_target(w->b, i);
    } else lua_pushboolean(L, false);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushboolean(L, links);
  return 2;
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

/* run, made once */
static void push_run(lua_State *L) {
  static const char key = 0;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TNIL) return;
  lua_pop(L, 1);
  push_closure(L, run, 0);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
}

/* run, with Config.debug: what arose inside is told from here on, without the lines in between. */
static int run_explained(lua_State *L) {
  push_closure(L, add_origin, 1);
  lua_insert(L, 1);
  push_run(L);
  lua_insert(L, 2);
  if (lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1) != LUA_OK) lua_error(L);
  return lua_gettop(L) - 1;
}

/* Of what stands at 1..3: ys, gys, xs. What it gives is left on the stack; its number. */
static int go_back(lua_State *L, state *S, request r) {
  lua_settop(L, 3);
  collect_before_backward(L, S);
  walk *w = guard_new(L, sizeof *w);
  w->b = NULL;
  w->r = r;
  w->g.end = end;
  if (S->G.debug) push_closure(L, run_explained, 0);
  else push_run(L);
  lua_pushvalue(L, 4);
  for (int i = 1; i <= 3; i++) lua_pushvalue(L, i);
  call_guarded(L, 4);
  return lua_gettop(L) - 4;
}

/* The Variable at i has a gradient: something was recorded of it. */
static void check_recorded(lua_State *L, int i, const char *who) {
  node *y = check_node(L, i, who);
  if (!is_float(y->dtype))
    refuse(L, "%s: gradients need floats, this Variable is %s", who, dtype_name[y->dtype]);
  if (node_tracked(y)) return;
  if (y->flags & REPLAYED)
    refuse(L,
           "%s: this Variable was given by a function of mg.compile, which gives values alone: "
           "gradients are asked for within the function",
           who);
  if (y->flags & FROZEN) refuse(L, "%s: nothing is recorded of x.data, which is values alone", who);
  refuse(L,
         "%s: nothing was recorded of this Variable: it is a constant, or came from such, or was "
         "made by detach, unchain, mg.compile, within no_grad or through integers",
         who);
}

static int recorded(lua_State *L) { return check_recorded(L, 1, luaL_checkstring(L, 2)), 0; }

/* backward(y [, retain_grad | {retain_grad =, create_graph =, retain_graph =}]) */
static int variable_backward(lua_State *L) {
  sig_values(L);
  backward_opts o = {.retain_grad = lua_toboolean(L, 2),
                     .create_graph = lua_toboolean(L, 3),
                     .retain_graph = lua_toboolean(L, 4)};
  check_recorded(L, 1, "backward");
  lua_settop(L, 1);
  go_back(L, get_state(L), (request){.o = o});
  return 0;
}

/* _gradients({ys}, {gys} or nil, {xs}, create_graph, retain_graph, allow_unused): see run. Lists
** of Variables, checked by the caller; create_graph "follow": if it depends on what is tracked. */
static int gradients(lua_State *L) {
  request r = {.o.create_graph = lua_isboolean(L, 4) && lua_toboolean(L, 4),
               .o.retain_graph = lua_toboolean(L, 5),
               .follow = lua_isstring(L, 4),
               .allow_unused = lua_toboolean(L, 6)};
  return go_back(L, get_state(L), r);
}

/* _links({ys}, {xs}): do they depend on what is tracked and none of the xs? */
static int links(lua_State *L) {
  lua_settop(L, 2);
  lua_pushnil(L);
  lua_insert(L, 2);
  return go_back(L, get_state(L), (request){.allow_unused = true, .look = true});
}

const entry backward_entries[] = {
    {"backward", variable_backward,
     "backward(y: variable, retain_grad: bool = false, {create_graph: bool = false, "
     "retain_graph: bool = create_graph})\n"
     "adds the gradients of y to .grad of the leaves it came from; of a leaf: adds ones",
     true},
    {"_gradients", gradients, NULL, false},
    {"_links", links, NULL, false},
    {"_recorded", recorded, NULL, false},
    {NULL, NULL, NULL, false}};
