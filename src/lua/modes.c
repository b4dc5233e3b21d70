/* modes.c -- Config, and functions called with a mode changed.
**
** A change of mode ends with the call, however it ends: a guard sees to that. On the main thread
** it is a to-be-closed value, so that a traceback still shows the inner line; twice, since an error
** in a hook, such as Ctrl-C, may take the place of one close. Elsewhere the call is protected, because
** the guard of a coroutine that died and was never closed would be forgotten. No coroutine can yield
** across either, so none carries a mode out.
*/
#include <string.h>

#include "lua/binding.h"

/* The modes that Config has: bit, name, field of `modes`, where it stands in the graph G; and others. */
#define CONFIG(X)                                                                                  \
  X(M_BACKPROP, "enable_backprop", backprop, G->backprop)                                          \
  X(M_TRAIN, "train", train, G->train)                                                             \
  X(M_DTYPE, "dtype", dtype, G->dtype)                                                             \
  X(M_LEAN, "lean", lean, G->arrays.lean)                                                          \
  X(M_DEBUG, "debug", debug, G->debug)
#define MODES(X)                                                                                   \
  CONFIG(X)                                                                                        \
  X(M_RANDOM, "", random.seed, G->c.seed)                                                          \
  X(M_RANDOM, "", random.counter, G->c.counter)                                                    \
  X(M_CAPTURES, "", captures, G->captures)                                                         \
  X(M_TRANSFORMS, "", transforms, S->transforms)

static modes modes_put(state *S, const modes *m) { /* what was */
  graph *G = &S->G;
  modes old = modes_now(S, m->what);
#define PUT(bit, name, field, place)                                                               \
  if (m->what & bit) place = m->field;
  MODES(PUT)
#undef PUT
  return old;
}

modes modes_now(const state *S, unsigned what) {
  const graph *G = &S->G;
  modes m = {.what = what};
#define NOW(bit, name, field, place) m.field = place;
  MODES(NOW)
#undef NOW
  return m;
}

/* ---- guards ---------------------------------------------------------------------------------- */

static int guard_end(lua_State *L) {
  guard *g = lua_touserdata(L, 1);
  if (!g || !lua_getmetatable(L, 1) || lua_topointer(L, -1) != get_state(L)->guard) return 0;
  if (g->end) g->end(get_state(L), g);
  return 0;
}

const luaL_Reg guard_meta[] = {{"__gc", guard_end}, {"__close", guard_end}, {NULL, NULL}};

void *guard_new(lua_State *L, size_t bytes) {
  luaL_checkstack(L, LUA_MINSTACK, NULL); /* once the guard has something to end, nothing fails */
  guard *g = lua_newuserdatauv(L, bytes, 0);
  g->end = NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, guard_meta);
  lua_setmetatable(L, -2);
  return g;
}

void call_guarded(lua_State *L, int nargs) {
  int at = lua_gettop(L) - nargs - 1, status = LUA_OK;
  guard *g = lua_touserdata(L, at);
  bool main = lua_pushthread(L);
  lua_pop(L, 1);
  if (main) {
    lua_pushvalue(L, at);
    lua_insert(L, at);
    lua_toclose(L, at);
    lua_toclose(L, at + 1);
    lua_call(L, nargs, LUA_MULTRET);
  } else status = lua_pcall(L, nargs, LUA_MULTRET, 0);
  if (g->end) g->end(get_state(L), g);
  if (main) {
    lua_closeslot(L, at + 1);
    lua_closeslot(L, at);
    lua_remove(L, at);
  }
  if (status != LUA_OK) lua_error(L);
}

typedef struct {
  guard g;
  modes old;
} mode_guard;

static void restore(state *S, guard *g) {
  mode_guard *m = (mode_guard *)g;
  modes_put(S, &m->old);
  g->end = NULL;
}

void call_in_modes(lua_State *L, state *S, int nargs, const modes *m) {
  mode_guard *g = guard_new(L, sizeof *g);
  int at = lua_gettop(L) - nargs - 1;
  lua_insert(L, at);
  g->old = modes_put(S, m);
  g->g.end = restore;
  call_guarded(L, nargs);
  lua_remove(L, at);
}

/* ---- Config ---------------------------------------------------------------------------------- */

const char config_doc[] = "Config{enable_backprop, train, dtype, lean, debug}\n"
                          "modes: ops are recorded; dropout drops; the default dtype; backward "
                          "computes dear values again; "
                          "its errors say what made the Function they came from, and where, "
                          "and where the first nan or infinity was made (slow)";

/* The bit of the mode that is named at i */
static unsigned check_name(lua_State *L, int i) {
  size_t len = 0;
  const char *given = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &len) : "";
  if (strlen(given) != len) given = "";
#define NAMED(bit, name, field, place)                                                             \
  if (strcmp(given, name) == 0) return bit;
  CONFIG(NAMED)
#undef NAMED
#define NAME(bit, name, field, place) " " name
  refuse(L, "Config: there is no mode %s; there are" CONFIG(NAME), luaL_tolstring(L, i, NULL));
#undef NAME
}

/* The mode named at i with the value at i + 1. */
static modes check_mode(lua_State *L, int i) {
  modes m = {.what = check_name(L, i)};
  const char *name = lua_tostring(L, i);
  if (m.what == M_DTYPE) {
    const char *t = lua_type(L, i + 1) == LUA_TSTRING ? lua_tostring(L, i + 1) : kind_of(L, i + 1);
    int found = dtype_at(L, i + 1);
    if (found != F64 && found != F32)
      refuse(L, "Config: dtype must be \"float64\" or \"float32\", not %s", t);
    m.dtype = found;
    return m;
  }
  if (!lua_isboolean(L, i + 1))
    refuse(L, "Config: %s must be true or false, not a %s", name, kind_of(L, i + 1));
  m.backprop = m.train = m.lean = m.debug = lua_toboolean(L, i + 1);
  return m;
}

static int config_index(lua_State *L) {
  unsigned which = check_name(L, 2);
  graph *G = &get_state(L)->G;
  if (which == M_DTYPE) return lua_pushstring(L, dtype_name[G->dtype]), 1;
#define PUSH(bit, name, field, place)                                                              \
  if (which == bit) lua_pushboolean(L, place);
  CONFIG(PUSH)
#undef PUSH
  return 1;
}

static int config_newindex(lua_State *L) {
  modes m = check_mode(L, 2);
  modes_put(get_state(L), &m);
  return 0;
}

static int config_tostring(lua_State *L) {
  const graph *G = &get_state(L)->G;
  const char *text = "Config{";
#define SHOW(bit, name, field, place)                                                              \
  text = bit == M_DTYPE ? lua_pushfstring(L, "%s" name " = \"%s\", ", text, dtype_name[place])     \
                        : lua_pushfstring(L, "%s" name " = %s, ", text, place ? "true" : "false");
  CONFIG(SHOW)
#undef SHOW
  lua_pushlstring(L, text, strlen(text) - 2);
  lua_pushliteral(L, "}");
  lua_concat(L, 2);
  return 1;
}

int new_config(lua_State *L) {
  static const luaL_Reg meta[] = {{"__index", config_index},
                                  {"__newindex", config_newindex},
                                  {"__tostring", config_tostring},
                                  {NULL, NULL}};
  lua_newtable(L);
  luaL_newlibtable(L, meta);
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  luaL_setfuncs(L, meta, 2);
  lua_setmetatable(L, -2);
  return 1;
}

/* ---- using them ------------------------------------------------------------------------------ */

void check_callable(lua_State *L, int i, const char *who) {
  if (lua_type(L, i) == LUA_TFUNCTION) return;
  if (luaL_getmetafield(L, i, "__call") == LUA_TNIL)
    refuse(L, "%s: argument %d is a %s, expected a function", who, i, kind_of(L, i));
  lua_pop(L, 1);
}

static int call_with(lua_State *L, int fn, modes m) {
  call_in_modes(L, get_state(L), lua_gettop(L) - fn, &m);
  return lua_gettop(L) - fn + 1;
}

static int using_config(lua_State *L) {
  sig_check(L);
  return call_with(L, 3, check_mode(L, 1));
}

static int no_grad(lua_State *L) {
  sig_check(L);
  return call_with(L, 1, (modes){.what = M_BACKPROP, .backprop = false});
}
static int enable_grad(lua_State *L) {
  sig_check(L);
  return call_with(L, 1, (modes){.what = M_BACKPROP, .backprop = true});
}
/* _transform(fn, ...): likewise; what a compiled function is given and is tracked is differentiated through */
static int transform(lua_State *L) {
  check_callable(L, 1, "_transform");
  return call_with(
      L, 1, (modes){.what = M_BACKPROP | M_TRANSFORMS, .backprop = true, .transforms = true});
}
static int test_mode(lua_State *L) {
  sig_check(L);
  return call_with(L, 1, (modes){.what = M_TRAIN, .train = false});
}

const entry modes_entries[] = {
    {"using_config", using_config,
     "using_config(name: string, value: any, fn: function, ...)\nfn(...) with a mode of Config "
     "changed",
     false},
    {"no_grad", no_grad, "no_grad(fn: function, ...)\nfn(...) with nothing recorded", false},
    {"_transform", transform, NULL, false},
    {"enable_grad", enable_grad,
     "enable_grad(fn: function, ...)\nfn(...) recorded, inside no_grad too", false},
    {"test_mode", test_mode, "test_mode(fn: function, ...)\nfn(...) with Config.train false",
     false},
    {NULL, NULL, NULL, false}};
