/* states.c -- three Lua states on three threads at once: what they share must be locked.
**
** make tsan compiles it and the core with the thread sanitizer. Each thread runs the program in argv[1] in a
** state of its own, several times over, so that states open and close beside others that run; the program
** is given the thread's number. OMP_NUM_THREADS=3: each has helpers of its own, besides.
*/
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { STATES = 3, TIMES = 4 };

static const char *program;
static int failures;

static void *run(void *number) {
  for (int i = 0; i < TIMES; i++) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    int status = luaL_loadfile(L, program);
    lua_pushinteger(L, *(int *)number);
    if (status || lua_pcall(L, 1, 0, 0)) {
      fprintf(stderr, "%s\n", lua_tostring(L, -1));
      __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
    }
    lua_close(L);
  }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t thread[STATES];
  int number[STATES];
  if (argc != 2) return EXIT_FAILURE;
  program = argv[1];
  for (int i = 0; i < STATES; i++) {
    number[i] = i + 1;
    if (pthread_create(&thread[i], NULL, run, &number[i])) return EXIT_FAILURE;
  }
  for (int i = 0; i < STATES; i++) pthread_join(thread[i], NULL);
  if (!failures) puts("tsan: no races, no errors");
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
