/* scarce.c -- Lua's allocator, which can be told to find nothing: from the n-th request for more on, so many times. */
#include <lauxlib.h>

static lua_Alloc real;
static void *real_ud;
static long long seen, first, after; /* requests first..after - 1 fail */

static void *counting(void *ud, void *p, size_t old, size_t new) {
  (void)ud;
  if (new > (p ? old : 0) && ++seen >= first && seen < after) return NULL;
  return real(real_ud, p, old, new);
}

/* arm(n, times): n = 0: never */
static int arm(lua_State *L) {
  seen = 0;
  first = luaL_checkinteger(L, 1);
  after = first ? first + luaL_checkinteger(L, 2) : 0;
  return 0;
}

/* How many requests there were since */
static int count(lua_State *L) { return lua_pushinteger(L, seen), 1; }

int luaopen_scarce(lua_State *L) {
  static const luaL_Reg functions[] = {{"arm", arm}, {"count", count}, {NULL, NULL}};
  real = lua_getallocf(L, &real_ud);
  lua_setallocf(L, counting, NULL);
  luaL_newlib(L, functions);
  return 1;
}
