/* inspect.c -- what goes down to the machine, for people to see: launches, programs, machine code.
*/
#include "lua/binding.h"

/* ---- launches ---------------------------------------------------------------------------------- */

typedef struct {
  guard g;
  trace t;
} session;

static void end(state *S, guard *g) {
  session *s = (session *)g;
  launch_watch(&S->G.c, NULL, NULL);
  trace_free(&s->t);
  g->end = NULL;
}

/* The text of a trace, in a call of its own: a string may find no memory */
static int push_text(lua_State *L) {
  const trace *t = lua_touserdata(L, 1);
  lua_pushlstring(L, t->text ? t->text : "", t->len);
  if (t->lost) {
    lua_pushliteral(L, "      (no memory to note the rest)\n");
    lua_concat(L, 2);
  }
  return 1;
}

/* run(session, fn, ...): the text, then what fn gives */
static int run(lua_State *L) {
  session *s = lua_touserdata(L, 1);
  state *S = get_state(L);
  lua_call(L, lua_gettop(L) - 2, LUA_MULTRET);
  launch_watch(&S->G.c, NULL, NULL);
  lua_pushcfunction(L, push_text);
  lua_pushlightuserdata(L, &s->t);
  lua_call(L, 1, 1);
  lua_replace(L, 1);
  return lua_gettop(L);
}

/* _launches(fn, ...): every launch as a line of text, then what fn gives */
static int launches_call(lua_State *L) {
  state *S = get_state(L);
  check_callable(L, 1, "launches");
  if (S->G.recorder)
    refuse(L, "launches: nothing runs while mg.compile records; give it that function");
  if (S->G.arrays.watched) refuse(L, "launches: a profile is running, or another launches");
  session *s = guard_new(L, sizeof *s);
  lua_insert(L, 1);
  s->t = (trace){.text = NULL};
  s->g.end = end;
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushcclosure(L, run, 2);
  lua_insert(L, 2);
  lua_pushvalue(L, 1);
  lua_insert(L, 3);
  launch_watch(&S->G.c, NULL, &s->t);
  call_guarded(L, lua_gettop(L) - 2);
  return lua_gettop(L) - 1;
}

/* ---- programs ------------------------------------------------------------------------------------ */

/* _program(x): the program that x would be computed by, as text; nil where it is computed */
static int program_of(lua_State *L) {
  state *S = get_state(L);
  node *x = check_node(L, 1, "_program");
  if (!x->a || x->a->state != PENDING) return lua_pushnil(L), 1;
  int64_t n;
  TRY(L, S, (n = arr_program_text(&S->G.c, check_node(L, 1, "_program")->a, NULL, 0)) >= 0);
  char *buf = lua_newuserdatauv(L, (size_t)n + 1, 0);
  x = check_node(L, 1, "_program");
  if (!x->a) return lua_pushnil(L), 1;
  TRY(L, S, arr_program_text(&S->G.c, check_node(L, 1, "_program")->a, buf, n + 1) >= 0);
  lua_pushlstring(L, buf, (size_t)n);
  return 1;
}

/* ---- machine code --------------------------------------------------------------------------------- */

static void set(lua_State *L, const char *name, int64_t v) {
  lua_pushinteger(L, v);
  lua_setfield(L, -2, name);
}

/* _code{off =}: turns machine code off, or on; gives {level, on, pieces, bytes, runs, schedules, planned, found,
** code}: `level` is that of the kernels, `code` all of it, as a string */
static int code_of_state(lua_State *L) {
  static const char *const names[] = {"off", NULL};
  state *S = get_state(L);
  cpu_stats t;
  size_t n;
  check_options(L, 1, "_code", names, false);
  if (!lua_isnoneornil(L, 1) && lua_getfield(L, 1, "off") != LUA_TNIL)
    cpu_code_off(&S->G.c, lua_toboolean(L, -1));
  cpu_stat(&S->G.c, &t);
  lua_createtable(L, 0, 9);
  set(L, "level", cpu_level());
#if defined PLAIN_C
  lua_pushboolean(L, true);
  lua_setfield(L, -2, "plain");
#endif
  lua_pushboolean(L, t.on);
  lua_setfield(L, -2, "on");
  set(L, "pieces", t.pieces);
  set(L, "bytes", t.bytes);
  set(L, "runs", t.runs);
  set(L, "schedules", t.schedules);
  set(L, "planned", t.planned);
  set(L, "found", t.found);
  const void *code = cpu_code_bytes(&S->G.c, &n);
  lua_pushlstring(L, code ? code : "", code ? n : 0);
  lua_setfield(L, -2, "code");
  return 1;
}

/* _mark(n): visits of expressions are counted from n */
static int set_mark(lua_State *L) {
  state *S = get_state(L);
  arr_set_mark(&S->G.c, (uint64_t)check_whole(L, 1, "_mark", "n"));
  return 0;
}

const entry inspect_entries[] = {{"_launches", launches_call, NULL, false},
                                 {"_program", program_of, NULL, false},
                                 {"_code", code_of_state, NULL, false},
                                 {"_mark", set_mark, NULL, false},
                                 {NULL, NULL, NULL, false}};
