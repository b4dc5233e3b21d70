/* foreign.c -- a C module of its own, by moongrad.h alone, for foreign_spec.lua: it borrows, makes and wraps
** values, and sums gradients over processes of which there is one. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "moongrad.h"

static const moongrad *mg;

/* text(x): its dtype, shape and bytes */
static int text(lua_State *L) {
  moongrad_values v;
  luaL_Buffer b;
  mg->borrow(L, 1, "text", &v);
  lua_pushfstring(L, "%d;", v.dtype);
  for (int i = 0; i < v.ndim; i++) lua_pushfstring(L, "%I;", (LUA_INTEGER)v.shape[i]);
  lua_concat(L, v.ndim + 1);
  luaL_buffinit(L, &b);
  luaL_addlstring(&b, v.p, v.bytes);
  luaL_pushresult(&b);
  return 2;
}

/* count(dtype, ...): 0, 1, 2, ... of this shape, a byte each */
static int count(lua_State *L) {
  moongrad_values v = {.dtype = (int)lua_tointeger(L, 1), .ndim = lua_gettop(L) - 1};
  for (int i = 0; i < v.ndim && i < MOONGRAD_MAXDIM; i++) v.shape[i] = lua_tointeger(L, i + 2);
  mg->create(L, &v);
  for (size_t i = 0; i < v.bytes; i++) ((char *)v.p)[i] = (char)i;
  mg->created(L, &v);
  return 1;
}

static int released;

static void release(void *p, void *arg) {
  if (arg == &released) released++;
  free(p);
}

/* wrap(n): 1.5, n times, in memory of its own; then how many such were released. Where there is no room for
** the Variable, the memory is still ours. */
static int wrap(lua_State *L) {
  static double *ours;
  free(ours);
  moongrad_values v = {.dtype = MOONGRAD_FLOAT64, .ndim = 1, .shape = {lua_tointeger(L, 1)}};
  v.p = ours = malloc(v.shape[0] * sizeof *ours);
  for (int64_t i = 0; i < v.shape[0]; i++) ours[i] = 1.5;
  mg->wrap(L, &v, release, &released);
  ours = NULL;
  lua_pushinteger(L, released);
  return 2;
}

static int context(lua_State *L) {
  lua_pushlightuserdata(L, mg->context(L));
  return 1;
}

static int refuse(lua_State *L) { return mg->raise(L, "refuse: %d of %s", 7, lua_tostring(L, 1)); }

static int where(lua_State *L) { return mg->where(L), 1; }

/* ---- gradients ------------------------------------------------------------------------------------- */

typedef struct {
  moongrad_reducer r;
  lua_State *L;
  char fails[16]; /* the step that does, or "" */
} one;

/* Notes a step in the list in the registry. */
static bool note(moongrad_reducer *r, const char *step, int k) {
  one *o = (one *)r;
  lua_State *L = o->L;
  lua_getfield(L, LUA_REGISTRYINDEX, "foreign.steps");
  lua_pushfstring(L, k < 0 ? "%s" : "%s %d", step, k);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  lua_pop(L, 1);
  strcpy(r->error, "on purpose");
  return strcmp(o->fails, step) != 0;
}

static bool begin(moongrad_reducer *r) { return note(r, "begin", -1); }
static void step(moongrad_reducer *r) { (void)r; }
static bool wait(moongrad_reducer *r, int k) { return note(r, "wait", k); }

/* There is a second process that has the same gradients. */
static bool start(moongrad_reducer *r, int k, void *p, int64_t n, int dtype) {
  if (!p) return note(r, "give up", k);
  for (int64_t i = 0; i < n; i++)
    if (dtype == MOONGRAD_FLOAT64) ((double *)p)[i] *= 2;
    else ((float *)p)[i] *= 2;
  return note(r, "start", k);
}

static int dropped;

static void drop(moongrad_reducer *r) {
  dropped++;
  free(r);
}

/* watch(leaves, counts, steps, fails): what watches; steps, a list, gets what is done. Then how many reducers
** were dropped */
static int watch(lua_State *L) {
  lua_settop(L, 4);
  lua_pushvalue(L, 3);
  lua_setfield(L, LUA_REGISTRYINDEX, "foreign.steps");
  one *o = calloc(1, sizeof *o);
  *o = (one){.r = {2, false, begin, start, step, wait, drop, ""}, .L = L};
  strncpy(o->fails, luaL_optstring(L, 4, ""), sizeof o->fails - 1);
  mg->watch(L, 1, &o->r);
  lua_pushinteger(L, dropped);
  return 2;
}

int luaopen_foreign(lua_State *L) {
  static const luaL_Reg functions[] = {{"context", context}, {"count", count}, {"refuse", refuse},
                                       {"text", text},       {"watch", watch}, {"where", where},
                                       {"wrap", wrap},       {NULL, NULL}};
  mg = moongrad_in(L);
  if (!mg || mg->version != MOONGRAD_VERSION) return luaL_error(L, "another moongrad");
  lua_newtable(L);
  mg->functions(L, functions);
  return 1;
}
