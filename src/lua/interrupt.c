/* interrupt.c -- Ctrl-C ends what runs, not the program: for the REPL and the Jupyter kernel.
**
** As Lua's own interpreter does, the signal's handler does nothing but set a hook, which raises the error
** at the next instruction of the state; unlike it, time and again. What works in C meanwhile is not cut
** short.
*/
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "lua/binding.h"

static lua_State *volatile running;

static int interrupted(lua_State *L) {
  push_where(L);
  lua_pushliteral(L, "interrupted!");
  lua_concat(L, 2);
  return lua_error(L);
}

static const char raiser; /* the key of `interrupted`, which knows the state as a hook does not */

static void stop(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &raiser);
  lua_call(L, 0, 0);
}

/* Not as a function is called: that may be what ends a guard, which would never end. */
static void on_signal(int number) {
  (void)number;
  lua_State *L = running;
  if (L) lua_sethook(L, stop, LUA_MASKRET | LUA_MASKCOUNT, 1);
}

typedef struct {
  guard g;
  lua_State *before, *within;
  struct sigaction old;
} session;

static void end(state *S, guard *g) {
  (void)S;
  session *s = (session *)g;
  running = s->before;
  sigaction(SIGINT, &s->old, NULL);
  g->end = NULL;
  if (s->within == s->before || lua_gethook(s->within) != stop) return;
  /* it came too late for what it was for */
  lua_sethook(s->within, NULL, 0, 0);
  if (s->before) on_signal(SIGINT);
}

/* _interruptible([co,] fn, ...): fn(...), which Ctrl-C ends with the error "interrupted!"; co: a coroutine
** that fn resumes */
static int interruptible(lua_State *L) {
  int co = lua_isthread(L, 1);
  check_callable(L, co + 1, "_interruptible");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushcclosure(L, interrupted, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &raiser);
  session *s = guard_new(L, sizeof *s);
  lua_insert(L, co + 1);
  struct sigaction now;
  memset(&now, 0, sizeof now);
  now.sa_handler = on_signal;
  now.sa_flags = SA_RESTART;
  sigemptyset(&now.sa_mask);
  s->before = running;
  s->within = co ? lua_tothread(L, 1) : L;
  running = s->within;
  sigaction(SIGINT, &now, &s->old);
  s->g.end = end;
  call_guarded(L, lua_gettop(L) - co - 2);
  return lua_gettop(L) - co - 1;
}

/* _readable(): waits until there is something to read from standard input; false if a signal came first */
static int readable(lua_State *L) {
  struct pollfd input = {.fd = 0, .events = POLLIN};
  lua_pushboolean(L, poll(&input, 1, -1) >= 0 || errno != EINTR);
  return 1;
}

const entry interrupt_entries[] = {{"_interruptible", interruptible, NULL, false},
                                   {"_readable", readable, NULL, false},
                                   {NULL, NULL, NULL, false}};
