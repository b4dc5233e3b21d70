/* profile.c -- where time goes: profile.
**
** A profile stands in the guard of its call.
*/
#include "lua/binding.h"

/* ---- time ------------------------------------------------------------------------------------ */

typedef struct {
  guard g;
  profile p;
} session;

static void end(state *S, guard *g) {
  S->G.c.profile = NULL;
  g->end = NULL;
}

static void push_program(lua_State *L, const profile_row *r) {
  int shown = 0;
  lua_pushstring(L, r->nop ? "fused:" : "fused: others");
  for (; shown < (int)sizeof r->op && r->op[shown]; shown++)
    lua_pushfstring(L, "%s %s", lua_tostring(L, -1), op_table[r->op[shown]].name);
  if (r->nop > shown) lua_pushfstring(L, "%s (%d ops)", lua_tostring(L, -1), r->nop);
}

/* Appends {op =, calls =, time =, bytes =} to the table on top; op 0: of a program. */
static void add_row(lua_State *L, const profile_row *r, int op) {
  if (!r->calls) return;
  int rows = lua_gettop(L);
  lua_createtable(L, 0, 4);
  if (op) lua_pushstring(L, op_table[op].name);
  else push_program(L, r);
  lua_setfield(L, rows + 1, "op");
  lua_settop(L, rows + 1);
  lua_pushinteger(L, r->calls);
  lua_setfield(L, -2, "calls");
  lua_pushnumber(L, (lua_Number)r->ns * 1e-9);
  lua_setfield(L, -2, "time");
  lua_pushinteger(L, r->bytes);
  lua_setfield(L, -2, "bytes");
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* _profile(fn, ...): the rows, in no order, with `time` for all of the call; then what fn gives. */
int profile_call(lua_State *L) {
  state *S = get_state(L);
  check_callable(L, 1, "profile");
  if (S->G.c.profile) refuse(L, "profile: one is running already");
  session *s = guard_new(L, sizeof *s);
  lua_insert(L, 1);
  s->p = (profile){.n = 0};
  s->g.end = end;
  S->G.c.profile = &s->p;
  int64_t began = profile_now();
  call_guarded(L, lua_gettop(L) - 2);
  int64_t took = profile_now() - began;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_newtable(L);
  for (int op = 1; op < NOP; op++) add_row(L, &s->p.op[op], op);
  for (int i = 0; i <= PROGRAMS; i++) add_row(L, &s->p.program[i], 0);
  lua_pushnumber(L, (lua_Number)took * 1e-9);
  lua_setfield(L, -2, "time");
  lua_replace(L, 1);
  return lua_gettop(L);
}
