/* moongrad.h -- what a C module of its own may do with moongrad's Variables.
**
** It is not linked with the core, but finds this table through the Lua state, once moongrad.core is loaded:
**     const moongrad *mg = moongrad_in(L);
**     lua_newtable(L), mg->functions(L, list);
** All else may be called only while a function registered so is running, with its L. What fails raises a Lua
** error, at the nearest line of a script. No pointer outlives what it was got from: keep that on the stack.
*/
#ifndef MOONGRAD_H
#define MOONGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lua_State lua_State;
struct luaL_Reg;

enum { MOONGRAD_VERSION = 1, MOONGRAD_MAXDIM = 8 };
enum { MOONGRAD_FLOAT64, MOONGRAD_FLOAT32, MOONGRAD_INT64, MOONGRAD_UINT8, MOONGRAD_BOOL };
#define MOONGRAD_KEY "moongrad.api" /* in the registry: a light userdata */

/* Values in C order */
typedef struct moongrad_values {
  int dtype, ndim;
  int64_t shape[MOONGRAD_MAXDIM], n; /* n: how many, of all axes together */
  size_t bytes;
  void *p;
  int64_t one; /* of a 0-d Variable, p may point here */
} moongrad_values;

/* Who adds up gradients over processes. They come in buckets, of floats of one dtype, in the order 0, 1, ...;
** false: `error` says why, and no more comes of this backward. */
typedef struct moongrad_reducer moongrad_reducer;
struct moongrad_reducer {
  int size;    /* processes: sums are divided by it */
  bool failed; /* here backward has: by waiting all of them tell each other, and fail */
  bool (*begin)(moongrad_reducer *r); /* a backward begins that reaches its leaves */
  /* Bucket k is to be summed in place, all of its n numbers. p NULL: here backward has failed, and this process
  ** adds nothing but 1 to the last number, by which the others see it. */
  bool (*start)(moongrad_reducer *r, int k, void *p, int64_t n, int dtype);
  void (*step)(moongrad_reducer *r);        /* now and then, while buckets are on their way */
  bool (*wait)(moongrad_reducer *r, int k); /* until the sums of k are there */
  void (*drop)(moongrad_reducer *r);        /* it is needed no more */
  char error[700];
};

typedef struct moongrad {
  int version;
  /* Puts functions into the table on top, as luaL_setfuncs does. */
  void (*functions)(lua_State *L, const struct luaL_Reg *list);
  /* The core's state for L, one for a lua_State and its coroutines, as long as that lives */
  void *(*context)(lua_State *L);
  /* Raises, and never returns, as lua_error; fmt is printf's. */
  __attribute__((format(printf, 2, 3))) int (*raise)(lua_State *L, const char *fmt, ...);
  /* Pushes the line at which it would raise, "script.lua:7: ", or "" */
  void (*where)(lua_State *L);
  /* The values of the Variable at i, to be read: what is pending is computed, what is strided copied. Pushes what
  ** keeps them. */
  void (*borrow)(lua_State *L, int i, const char *who, moongrad_values *v);
  /* For what v says of dtype, ndim and shape: pushes a Variable to be, whose values go to v->p. Then `created`,
  ** with it on top, makes it one. */
  void (*create)(lua_State *L, moongrad_values *v);
  void (*created)(lua_State *L, const moongrad_values *v);
  /* Pushes a Variable of the bytes at v->p, as they lie; with the last use of them, release(p, arg). */
  void (*wrap)(lua_State *L, const moongrad_values *v, void (*release)(void *p, void *arg),
               void *arg);
  /* From now on gradients of these leaves, in the list at i, are summed by r while backward for .grad goes on, and
  ** get into .grad together when it ends. counts, the list at i + 1: how many leaves, in order, make a bucket. Pushes
  ** what keeps it so until w:close(); #w is the number of buckets, w:order() the order in which the last backward was
  ** done with the leaves. r is taken over: dropped when all is done, or on an error. */
  void (*watch)(lua_State *L, int i, moongrad_reducer *r);
} moongrad;

#define moongrad_in(L)                                                                             \
  (lua_getfield((L), LUA_REGISTRYINDEX, MOONGRAD_KEY),                                             \
   (const moongrad *)lua_touserdata((L), -1))

#endif
