/* signature.c -- one string says what a function takes; here it is compiled, for arguments.c to read calls by.
**
**   conv2d(x: float, weight: float, bias: float?, {stride: pair = 1, padding: pair | "same" = 0})
**   Linear([in: int(1..),] out: int(1..), {bias: bool = true})     zeros(dims: shape..., {dtype: dtype})
**
** After a name and a colon stand types, joined by |, and then ? where it may be nil, or = and a value:
** a number, a string, true, false, a table of numbers, or the name of an argument before. An argument
** in brackets may be left out, and those behind move up: it is, where a value is not of its type or
** there are too few. `type...` are all values that are left, or one table of them; `...` at the end is
** whatever follows. What stands in braces are options: the names in one table behind the arguments. It
** may also hold arguments by name, and a table of numbers may carry its options itself: {2, 3, dtype =}.
**
**   array             a Variable of any dtype; numbers and tables become constants
**   float, int64 ...  of these dtypes alone; `bool array` is one of bool
**   variable          a Variable, as it is
**   list              a table of Variables
**   int, number       perhaps within bounds: number(0..1), int(1..), number(0<..), number(0..<1);
**                     where one is left out, what is finite: number(..); infinity too: number(0..inf)
**   bool, string, dtype, function (or what can be called), table, tree, any; "a" | "b": one of these
**   axis, new_axis    of the first array; new_axis: where one is inserted
**   axes              a number or a table of them
**   ints, shape       whole numbers in a table, or one; shape: as dims
**   pair              a number, for both, or a table of two
**   numbers, strings  a table of numbers, of strings without NULs
**   another word w    an object that says is_w
**
** Behind the arguments may stand what it gives: max(x: array, axis: axis) -> values, indices
**
** A signature is compiled when its function is first called, into a userdata that takes the place of
** the string in the closure's third upvalue. It holds Lua's own strings: names are compared by address.
*/
#include <math.h>
#include <string.h>

#include "lua/signature.h"

/* ---- reading the text ------------------------------------------------------------------------ */

typedef struct {
  lua_State *L;
  const char *text, *at;
  int keep; /* where the table stands that becomes the user value */
} scan;

static _Noreturn void bad(scan *c, const char *what) {
  luaL_error(c->L, "signature %s: %s at \"%s\"", c->text, what, c->at);
  __builtin_unreachable();
}

static void blanks(scan *c) { c->at += strspn(c->at, " \n"); }

static bool accept(scan *c, const char *token) {
  blanks(c);
  size_t n = strlen(token);
  if (strncmp(c->at, token, n) != 0) return false;
  c->at += n;
  return true;
}

static void expect(scan *c, const char *token) {
  if (!accept(c, token)) bad(c, lua_pushfstring(c->L, "\"%s\" expected", token));
}

static size_t word_len(const char *s) {
  size_t n = 0;
  while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || s[n] == '_' ||
         (n > 0 && s[n] >= '0' && s[n] <= '9'))
    n++;
  return n;
}

/* A Lua string, kept as long as the signature. */
static const char *keep(scan *c, const char *s, size_t n) {
  const char *kept = lua_pushlstring(c->L, s, n);
  lua_pushboolean(c->L, true);
  lua_rawset(c->L, c->keep);
  return kept;
}

static bool number(scan *c, double *v) {
  blanks(c);
  size_t n = strcspn(c->at, ".,})?=< "); /* ".." is no part of it */
  if (c->at[n] == '.' && c->at[n + 1] != '.') n += 1 + strcspn(c->at + n + 1, ".,})?=< ");
  char digits[40];
  if (n == 0 || n >= sizeof digits) return false;
  memcpy(digits, c->at, n);
  digits[n] = 0;
  lua_State *L = c->L;
  if (lua_stringtonumber(L, digits) == 0) return false;
  *v = lua_tonumber(L, -1);
  c->at += n;
  return true; /* it stays on the stack */
}

static void bounds(scan *c, param *p) {
  p->bounded = true;
  p->low = -INFINITY;
  p->high = INFINITY;
  bool low = number(c, &p->low);
  if (low) lua_pop(c->L, 1);
  else low = accept(c, "-inf");
  p->above = accept(c, "<") || !low;
  expect(c, "..");
  p->below = accept(c, "<");
  if (number(c, &p->high)) lua_pop(c->L, 1);
  else if (!accept(c, "inf")) p->below = true;
  expect(c, ")");
}

static const struct {
  const char *word;
  uint32_t kind;
  uint8_t dtypes;
} words[] = {{"array", K_ARRAY, EVERY},
             {"float", K_ARRAY, 1 << F64 | 1 << F32},
             {"float64", K_ARRAY, 1 << F64},
             {"float32", K_ARRAY, 1 << F32},
             {"int64", K_ARRAY, 1 << I64},
             {"uint8", K_ARRAY, 1 << U8},
             {"variable", K_VARIABLE, 0},
             {"list", K_LIST, EVERY},
             {"int", K_INT, 0},
             {"number", K_NUMBER, 0},
             {"bool", K_BOOL, 0},
             {"string", K_STRING, 0},
             {"dtype", K_DTYPE, 0},
             {"function", K_FUNCTION, 0},
             {"table", K_TABLE, 0},
             {"tree", K_TREE, 0},
             {"any", K_ANY, 0},
             {"axis", K_AXIS, 0},
             {"new_axis", K_NEW_AXIS, 0},
             {"axes", K_AXES, 0},
             {"ints", K_INTS, 0},
             {"shape", K_SHAPE, 0},
             {"pair", K_PAIR, 0},
             {"numbers", K_NUMBERS, 0},
             {"strings", K_STRINGS, 0}};

static void one_type(scan *c, param *p) {
  blanks(c);
  if (*c->at == '"') {
    const size_t n = strcspn(c->at + 1, "\"");
    if (!c->at[1 + n]) bad(c, "unfinished string");
    c->at += n + 2;
    p->kinds |= K_CHOICE;
    return;
  }
  size_t n = word_len(c->at), i = 0;
  if (n == 0) bad(c, "type expected");
  if (n == 4 && strncmp(c->at, "bool array", 10) == 0) {
    c->at += 10;
    p->kinds |= K_ARRAY;
    p->dtypes |= 1 << BOOL;
    return;
  }
  while (i < sizeof words / sizeof *words &&
         (strncmp(c->at, words[i].word, n) != 0 || words[i].word[n]))
    i++;
  if (i < sizeof words / sizeof *words) {
    p->kinds |= words[i].kind;
    p->dtypes |= words[i].dtypes;
  } else {
    lua_pushfstring(c->L, "is_%s", lua_pushlstring(c->L, c->at, n));
    p->object = keep(c, lua_tostring(c->L, -1), n + 3);
    lua_pop(c->L, 2);
    p->kinds |= K_OBJECT;
  }
  c->at += n;
  if (*c->at == '(') c->at++, bounds(c, p);
}

static void types(scan *c, param *p) {
  blanks(c);
  const char *from = c->at;
  do one_type(c, p);
  while (accept(c, "|"));
  p->type_len = (int)(c->at - from);
  p->type = keep(c, from, p->type_len);
}

/* Is the string at i one of p's? */
bool signature_choice(lua_State *L, int i, const param *p, int *which) {
  size_t len;
  const char *s = lua_tolstring(L, i, &len), *end = p->type + p->type_len;
  *which = 0;
  for (const char *q = p->type; (q = memchr(q, '"', end - q)); (*which)++) {
    const char *close = strchr(++q, '"');
    if ((size_t)(close - q) == len && memcmp(q, s, len) == 0) return true;
    q = close + 1;
  }
  return false;
}

/* The value after =, into the table of what is kept; the params so far may be named. */
static void usual(scan *c, param *p, const param *before, int n) {
  lua_State *L = c->L;
  double v;
  blanks(c);
  p->usual = U_KEPT;
  if (*c->at == '"') {
    const size_t len = strcspn(c->at + 1, "\"");
    int which;
    if (!c->at[1 + len]) bad(c, "unfinished string");
    lua_pushlstring(L, c->at + 1, len);
    c->at += len + 2;
    if (p->kinds == K_CHOICE && signature_choice(L, -1, p, &which))
      p->usual = U_CHOICE, p->value.i = which;
  } else if (accept(c, "true")) lua_pushboolean(L, true);
  else if (accept(c, "false")) lua_pushboolean(L, false);
  else if (accept(c, "{")) {
    lua_newtable(L);
    for (int i = 1; !accept(c, "}"); i++) {
      if (!number(c, &v)) bad(c, "number expected");
      lua_rawseti(L, -2, i);
      accept(c, ",");
    }
  } else if (word_len(c->at)) { /* an argument's name */
    size_t len = word_len(c->at);
    int i = 0;
    while (i < n && (strncmp(before[i].name, c->at, len) != 0 || before[i].name[len])) i++;
    if (i == n) bad(c, "no argument before is called so");
    p->usual = U_SAME;
    p->value.i = i;
    lua_pushnil(L);
    c->at += len;
  } else if (!number(c, &v)) bad(c, "value expected");
  uint32_t k = p->kinds;
  if (k == K_BOOL && lua_isboolean(L, -1)) p->usual = U_BOOL, p->value.i = lua_toboolean(L, -1);
  else if ((k == K_INT || k == K_AXIS || k == K_NUMBER) && lua_isinteger(L, -1))
    p->usual = U_INTEGER, p->value.i = lua_tointeger(L, -1);
  else if (k == K_NUMBER && lua_type(L, -1) == LUA_TNUMBER) p->usual = U_NUMBER, p->value.f = v;
  lua_rawseti(L, c->keep, n + 1);
}

static void one_param(scan *c, param *p, int n) {
  blanks(c);
  *p = (param){.optional = false};
  size_t len = word_len(c->at);
  if (len == 0) bad(c, "name expected");
  if (n == MAXPARAM) bad(c, "too many arguments");
  p->name = keep(c, c->at, len);
  c->at += len;
  if (accept(c, ":")) types(c, p);
  else p->kinds = K_ANY, p->type = "any", p->type_len = 3;
  p->spread = accept(c, "...");
  p->optional = accept(c, "?");
  if (accept(c, "=")) {
    blanks(c);
    const char *from = c->at;
    usual(c, p, p - n, n);
    p->value_text = keep(c, from, c->at - from);
  }
}

/* The parameters, what `...` may be (*rest: it is there), and how many stand before the options */
static int parameters(scan *c, param *p, param *more, bool *rest, int *nargs) {
  int n = 0;
  bool done = accept(c, ")");
  while (!done && !accept(c, "{")) {
    if (accept(c, "...")) {
      *rest = true;
      if (accept(c, ":")) more->kinds = 0, types(c, more);
    } else {
      bool skip = accept(c, "[");
      one_param(c, &p[n], n);
      p[n].skip = skip;
      p[n].optional |= skip;
      if (skip) expect(c, ","), expect(c, "]");
      n++;
      if (skip) continue;
    }
    done = accept(c, ")");
    if (!done) expect(c, ",");
  }
  *nargs = n;
  if (done) return n;
  do {
    one_param(c, &p[n], n);
    p[n++].optional = true;
  } while (accept(c, ","));
  expect(c, "}");
  expect(c, ")");
  return n;
}

/* How many results `-> name, ...` promises; *gives: where the names begin */
static int results_of(scan *c, const char **gives) {
  int n = 1;
  *gives = NULL;
  if (accept(c, "->")) {
    blanks(c);
    *gives = c->at;
    for (n = 0; n == 0 || accept(c, ","); n++) {
      blanks(c);
      size_t len = word_len(c->at);
      if (len == 0) bad(c, "name expected");
      c->at += len;
    }
  }
  blanks(c);
  if (*c->at) bad(c, "nothing expected");
  return n;
}

/* What holds of all parameters together */
static void summarize(signature *g, scan *c) {
  for (int i = 0; i < g->n; i++) g->plain = g->plain && !g->p[i].skip && !g->p[i].spread;
  for (int i = g->n - 1; i >= 0; i--)
    if (g->p[i].kinds & (K_ARRAY | K_LIST)) g->first = i;
  for (int i = 0; i < g->n; i++)
    if (g->p[i].kinds & (K_AXIS | K_AXES | K_NEW_AXIS)) {
      g->axes = true;
      if (g->first < 0 || g->first > i) bad(c, "an axis stands after the first array");
    }
}

/* Pushes the userdata made of the text on top, whose first line counts. */
static signature *compile(lua_State *L) {
  param p[MAXPARAM + 1], more = {.kinds = K_ANY};
  int top = lua_gettop(L), nargs;
  bool rest = false;
  const char *doc = lua_tostring(L, top), *gives;
  luaL_checkstack(L, 12, NULL);
  lua_newtable(L);
  lua_pushlstring(L, doc, strcspn(doc, "\n"));
  scan c = {L, lua_tostring(L, -1), lua_tostring(L, -1), top + 1};
  const char *text = keep(&c, c.text, strlen(c.text));
  c.text = c.at = text;
  size_t len = strcspn(text, "(");
  const char *name = keep(&c, text, len);
  c.at += len;
  expect(&c, "(");
  int n = parameters(&c, p, &more, &rest, &nargs), results = results_of(&c, &gives);
  signature *g = lua_newuserdatauv(L, sizeof *g + n * sizeof *p, 1);
  *g = (signature){name, text, gives, nargs, n, -1, results, rest, false, NULL, !rest, false, more};
  memcpy(g->p, p, n * sizeof *p);
  if (n > 0 && strcmp(p[0].name, "self") == 0) {
    const char *first = strchr(text, '(') + 1, *next = first + 4 + strspn(first + 4, ", ");
    lua_pushfstring(L, "%s(%s", name, next);
    g->text = keep(&c, lua_tostring(L, -1), lua_rawlen(L, -1));
    lua_pop(L, 1);
    g->self = true;
  }
  summarize(g, &c);
  lua_pushvalue(L, c.keep);
  lua_setiuservalue(L, -2, 1);
  lua_replace(L, top);
  lua_settop(L, top);
  return g;
}

const signature *signature_get(lua_State *L) {
  const signature *g = lua_touserdata(L, lua_upvalueindex(3));
  if (g) return g;
  lua_pushvalue(L, lua_upvalueindex(3));
  g = compile(L);
  lua_replace(L, lua_upvalueindex(3));
  return g;
}

const char *push_signature_name(lua_State *L) {
  int sig = lua_upvalueindex(3), type = lua_type(L, sig);
  if (type == LUA_TUSERDATA) return lua_pushstring(L, signature_get(L)->name);
  if (type != LUA_TSTRING) return NULL;
  const char *text = lua_tostring(L, sig);
  return lua_pushlstring(L, text, strcspn(text, "("));
}

/* Is the first argument of the signature on top an array? */
bool signature_has_method(lua_State *L) {
  lua_pushvalue(L, -1);
  const signature *g = compile(L);
  bool is = g->nargs > 0 && g->p[0].kinds & (K_ARRAY | K_VARIABLE);
  lua_pop(L, 1);
  return is;
}

/* ---- for docs -------------------------------------------------------------------------------- */

static void set_string(lua_State *L, const char *name, const char *s) {
  lua_pushstring(L, s);
  lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

static void push_param(lua_State *L, const param *p) {
  lua_createtable(L, 0, 6);
  set_string(L, "name", p->name);
  int len = p->type_len;
  while (p->type[len - 1] == ' ' || p->type[len - 1] == '\n') len--;
  lua_pushlstring(L, p->type, len);
  lua_setfield(L, -2, "type");
  set_string(L, "default", p->value_text);
  set_flag(L, "optional", p->optional);
  set_flag(L, "skip", p->skip);
  set_flag(L, "spread", p->spread);
}

/* _parameters(text): a signature as a table of {name, type, default, optional, skip, spread}: its
** arguments in order, and then its `options`. Besides: name; rest, the type of each of ...; gives. */
int signature_parameters(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  const signature *g = compile(L);
  lua_createtable(L, g->nargs, 4);
  lua_createtable(L, g->n - g->nargs, 0);
  for (int i = 0; i < g->n; i++) {
    push_param(L, &g->p[i]);
    if (i < g->nargs) lua_rawseti(L, 2, i + 1);
    else lua_rawseti(L, 3, i - g->nargs + 1);
  }
  lua_setfield(L, 2, "options");
  set_string(L, "name", g->name);
  set_string(L, "gives", g->gives);
  if (g->rest) {
    if (g->more.type) lua_pushlstring(L, g->more.type, g->more.type_len);
    else lua_pushliteral(L, "any");
    lua_setfield(L, 2, "rest");
  }
  return 1;
}
