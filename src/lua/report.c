/* report.c -- where time and memory go: profile, and memory by op and by name.
**
** A profile stands in the guard of its call. The walk over all that is alive runs with the collector
** stopped: no finalizer lets go of anything meanwhile.
*/
#include "lua/binding.h"

/* ---- time ------------------------------------------------------------------------------------ */

typedef struct {
  guard g;
  profile p;
} session;

static void end(state *S, guard *g) {
  launch_watch(&S->G.c, NULL, NULL);
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
  if (S->G.recorder)
    refuse(L, "profile: nothing runs while mg.compile records; give it that function");
  if (S->G.arrays.watched) refuse(L, "profile: one is running already");
  session *s = guard_new(L, sizeof *s);
  lua_insert(L, 1);
  s->p = (profile){.n = 0};
  s->g.end = end;
  launch_watch(&S->G.c, &s->p, NULL);
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

/* ---- memory ---------------------------------------------------------------------------------- */

/* On the walk's stack: itself, the table it gives, the buffers in it. */
enum { WALK = 1, BYTES, SEEN };

typedef struct {
  lua_State *L;
  graph *G;
  bool by_name, all; /* all: the second round; in the first, those with a label of their own */
} walk;

/* The label is on top; nil: the op's. */
static void count(void *arg, buffer *b) {
  lua_State *L = ((walk *)arg)->L;
  if (lua_rawgetp(L, SEEN, b) == LUA_TNIL) {
    lua_pushboolean(L, true);
    lua_rawsetp(L, SEEN, b);
    if (lua_isnil(L, -2)) lua_pushstring(L, b->op ? op_table[b->op].name : "data");
    else lua_pushvalue(L, -2);
    lua_pushvalue(L, -1);
    lua_rawget(L, BYTES);
    lua_pushinteger(L, lua_tointeger(L, -1) + (lua_Integer)buf_live(b));
    lua_replace(L, -2);
    lua_rawset(L, BYTES);
  }
  lua_pop(L, 1);
}

static void add(walk *w, array *a, const char *label, const char *more) {
  if (label) lua_pushfstring(w->L, "%s%s", label, more);
  else lua_pushnil(w->L);
  arr_buffers(a, count, w);
  lua_pop(w->L, 1);
}

static const char *name_of(const node *n) { return n->x ? n->x->name : NULL; }

static void visit(void *arg, const node *of, array *a) {
  walk *w = arg;
  const char *label = node_tracked(of) && !node_has_creator(of) ? "leaf" : NULL;
  if (w->by_name && (label = name_of(of)) && of->grad && of->grad->a && !name_of(of->grad))
    add(w, of->grad->a, label, ".grad");
  if (a->state == PENDING) label = NULL; /* what it is made of is not its own */
  if (label || w->all) add(w, a, label || !w->by_name ? label : "", "");
}

static int walk_all(lua_State *L) {
  walk *w = lua_touserdata(L, WALK);
  lua_newtable(L);
  lua_newtable(L);
  for (int round = 0; round < 2; round++) {
    w->all = round;
    graph_arrays(w->G, visit, w);
  }
  lua_settop(L, BYTES);
  return 1;
}

void push_memory_by(lua_State *L, state *S, bool name) {
  walk w = {L, &S->G, name, false};
  bool running = lua_gc(L, LUA_GCISRUNNING) > 0;
  lua_gc(L, LUA_GCSTOP);
  lua_pushcfunction(L, walk_all);
  lua_pushlightuserdata(L, &w);
  int status = lua_pcall(L, 1, 1, 0);
  if (running) lua_gc(L, LUA_GCRESTART);
  if (status != LUA_OK) lua_error(L);
}
