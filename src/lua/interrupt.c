/* interrupt.c -- Ctrl-C ends what runs, not the program: for the REPL and the Jupyter kernel.
**
** As Lua's own interpreter does, the signal's handler does nothing but set a hook, which raises the error
** at the next instruction of the state; unlike it, time and again. What works in C meanwhile is not cut
** short.
*/
#include <signal.h>
#include <string.h>

#include "lua/binding.h"

static lua_State *volatile running;

static void stop(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted!");
}

static void on_signal(int number) {
  (void)number;
  lua_State *L = running;
  if (L) lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

typedef struct {
  guard g;
  lua_State *before;
  struct sigaction old;
} session;

static void end(state *S, guard *g) {
  (void)S;
  session *s = (session *)g;
  running = s->before;
  sigaction(SIGINT, &s->old, NULL);
  g->end = NULL;
}

/* _interruptible(fn, ...): fn(...), which Ctrl-C ends with the error "interrupted!" */
static int interruptible(lua_State *L) {
  check_callable(L, 1, "_interruptible");
  session *s = guard_new(L, sizeof *s);
  lua_insert(L, 1);
  struct sigaction now;
  memset(&now, 0, sizeof now);
  now.sa_handler = on_signal;
  now.sa_flags = SA_RESTART;
  sigemptyset(&now.sa_mask);
  s->before = running;
  running = L;
  sigaction(SIGINT, &now, &s->old);
  s->g.end = end;
  call_guarded(L, lua_gettop(L) - 2);
  return lua_gettop(L) - 1;
}

const entry interrupt_entries[] = {{"_interruptible", interruptible, NULL, false},
                                   {NULL, NULL, NULL, false}};
