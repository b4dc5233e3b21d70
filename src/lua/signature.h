/* signature.h -- a compiled signature: what signature.c makes of a text, and arguments.c reads calls by. */
#ifndef MG_SIGNATURE_H
#define MG_SIGNATURE_H

#include "lua/binding.h"

enum kind {
  K_ARRAY = 1,
  K_LIST = 2,
  K_INT = 4,
  K_NUMBER = 8,
  K_BOOL = 16,
  K_STRING = 32,
  K_DTYPE = 64,
  K_FUNCTION = 128,
  K_TABLE = 256,
  K_TREE = 512,
  K_ANY = 1024,
  K_AXIS = 2048,
  K_NEW_AXIS = 4096,
  K_AXES = 8192,
  K_INTS = 1 << 14,
  K_SHAPE = 1 << 15,
  K_PAIR = 1 << 16,
  K_NUMBERS = 1 << 17,
  K_CHOICE = 1 << 18,
  K_OBJECT = 1 << 19,
  K_VARIABLE = 1 << 20,
  K_STRINGS = 1 << 21
};
enum {
  FROM_NUMBER = K_INT | K_NUMBER | K_AXIS | K_NEW_AXIS | K_AXES | K_INTS | K_SHAPE | K_PAIR,
  LISTS = K_AXES | K_INTS | K_SHAPE | K_PAIR | K_NUMBERS | K_STRINGS |
          K_LIST,                              /* from a table without names */
  TABLES = K_TABLE | K_TREE | K_ANY | K_OBJECT /* from any table */
};
enum { MAXPARAM = 32, EVERY = (1 << NDTYPE) - 1 };

/* Where a default comes from. Most are plain: they need no check, and Lua's stack only where Lua asks. */
enum usual { U_NONE, U_KEPT, U_BOOL, U_INTEGER, U_NUMBER, U_CHOICE, U_SAME };

typedef struct {
  const char *name, *type; /* the type's text, for messages; both kept by the user value */
  const char *value_text;  /* the default's, or NULL; kept too */
  int type_len;
  uint32_t kinds;
  uint8_t dtypes; /* of arrays, a bit each */
  uint8_t usual;  /* the default: `value`; of U_KEPT and U_CHOICE that in the user value; */
  attr value;     /* of U_CHOICE which one it is, of U_SAME the argument whose value it has */
  bool optional, spread, skip; /* may be nil; type...; in brackets */
  bool bounded, above, below;  /* low and high count; they themselves are outside */
  double low, high;
  const char *object; /* the word, as "is_word" */
} param;

struct signature {
  const char *name, *text;
  const char *gives; /* what stands behind ->, or NULL */
  int nargs, n;      /* arguments; options too */
  int first;         /* the first array or list, or -1 */
  int results;       /* named behind -> */
  bool rest;         /* ends in ... */
  bool self;         /* the first argument is one of a method, and not counted */
  const void *has;   /* the metatable of an object that has this method */
  bool plain;        /* each argument stands in its place: no [], no ... */
  bool axes;         /* some are axes, of the first array's shape */
  param more, p[];   /* more: what each of ... is */
};
/* The user value of its userdata: at [i + 1] the default of p[i]; all strings as keys. */

/* That of the running closure, compiled at its first call */
const signature *signature_get(lua_State *L);
bool signature_choice(lua_State *L, int i, const param *p,
                      int *which); /* is the string at i one of p's? */

#endif
