/* arguments.c -- the arguments of a call, told apart, checked and converted as a signature says.
**
** First each value finds whose it is, by its place, its type and its name; nothing is changed on the stack.
** Then values are given in the signature's order: to Lua pushed, to C as arrays on the stack and all else in
** attributes. Whatever does not fit raises, with the signature behind the message.
*/
#include <math.h>
#include <string.h>

#include "lua/signature.h"

/* ---- refusing -------------------------------------------------------------------------------- */

/* The message on top becomes an error, with the signature behind it. */
static _Noreturn void refuse_shown(lua_State *L, const signature *g) {
  lua_pushfstring(L, "%s: %s", g->name, lua_tostring(L, -1));
  raise_here(L, g->text);
}

/* 1 in a call x:name(...): arguments are counted after x. */
static int self_counts(lua_State *L, const signature *g) {
  lua_Debug ar;
  if (g->self) return 1;
  return lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && strcmp(ar.namewhat, "method") == 0;
}

static int type_of_field(lua_State *L, int i, const char *name) {
  lua_pushstring(L, name);
  int type = lua_rawget(L, i);
  lua_pop(L, 1);
  return type;
}

/* Classes have __index; what is made of them has not. */
static bool is_class(lua_State *L, int i) {
  return lua_type(L, i) == LUA_TTABLE && type_of_field(L, i, "__index") != LUA_TNIL &&
         type_of_field(L, i, "__name") == LUA_TSTRING;
}

/* "a" or "an", as the word is said: a userdata, an SGD, an Upsample */
static const char *article(const char *word) {
  bool capital = *word >= 'A' && *word <= 'Z', spelt = capital && word[1] >= 'A' && word[1] <= 'Z';
  if (strchr("Uu", *word)) return spelt || strncmp(word + 1, "ni", 2) == 0 || !capital ? "a" : "an";
  return strchr(spelt ? "AEFHILMNORSX" : "aeioAEIO", *word) ? "an" : "a";
}

/* Pushes what stands at i as a message says it: "a string". */
static void push_kind(lua_State *L, int i) {
  const char *kind = kind_of(L, i);
  if (is_class(L, i)) {
    lua_pushliteral(L, "the class ");
    lua_getfield(L, i, "__name");
    lua_concat(L, 2);
    return;
  }
  if (lua_type(L, i) == LUA_TTABLE && luaL_getmetafield(L, i, "__name") == LUA_TSTRING)
    kind = lua_tostring(L, -1);
  lua_pushfstring(L, "%s %s", article(kind), kind);
}

static void push_types(lua_State *L, const param *p) {
  static const struct {
    uint32_t kind;
    const char *text;
  } says[] = {{K_ANY, "a value"},
              {K_ARRAY | K_VARIABLE, "a Variable"},
              {K_LIST, "a table of Variables"},
              {K_TREE, "a Variable or a table of them"},
              {K_INT, "a whole number"},
              {K_NUMBER, "a number"},
              {K_BOOL, "true or false"},
              {K_STRING, "a string"},
              {K_DTYPE, "a dtype"},
              {K_FUNCTION, "a function"},
              {K_TABLE, "a table"},
              {K_AXIS | K_NEW_AXIS, "an axis"},
              {K_AXES, "an axis or a table of axes"},
              {K_INTS, "a table of whole numbers"},
              {K_SHAPE, "a table of dims"},
              {K_PAIR, "a whole number or a table of two"},
              {K_NUMBERS, "a table of numbers"},
              {K_STRINGS, "a table of strings"}};
  int base = lua_gettop(L), n;
  luaL_checkstack(L, 40, NULL);
  for (size_t i = 0; i < sizeof says / sizeof *says; i++)
    if (p->kinds & says[i].kind) lua_pushstring(L, says[i].text);
  if (p->kinds & K_OBJECT) lua_pushfstring(L, "%s %s", article(p->object + 3), p->object + 3);
  if (p->kinds & K_CHOICE)
    for (const char *s = p->type; (s = memchr(s, '"', p->type + p->type_len - s));) {
      const char *end = strchr(s + 1, '"') + 1;
      lua_pushlstring(L, s, end - s);
      s = end;
    }
  for (bool last = true; (n = lua_gettop(L) - base) > 1; last = false) { /* a, b or c */
    lua_pushfstring(L, last ? "%s or %s" : "%s, %s", lua_tostring(L, -2), lua_tostring(L, -1));
    lua_replace(L, -3);
    lua_pop(L, 1);
  }
}

/* What is being read: values for the params stand at at[i] (0: left out); above `top`, those that
** came by name. */
typedef struct {
  const signature *g;
  int top, at[MAXPARAM];
  int spread; /* so many values stand from at[i] on for the one that has ... */
  int rest;   /* from here on, up to top, stands what ... is */
  int mixed;  /* the list that may hold options, too; they have been read */
} reading;

/* What gives a Variable where another library's function of this name takes one, or "" */
static const char *instead(const char *op, const char *name) {
  static const char *const told[][3] = {
      {"grad", "f", "; mg.gradients(y, xs) takes Variables"},
      {"value_and_grad", "f", "; mg.gradients(y, xs) takes Variables"},
      {"grad", "argnum", "; it gives a function: mg.grad(f)(x)"},
      {"value_and_grad", "argnum", "; it gives a function: mg.value_and_grad(f)(x)"},
      {"backward", "retain_grad", "; y.grad = v before it starts from v"}};
  for (size_t k = 0; k < sizeof told / sizeof *told; k++)
    if (strcmp(op, told[k][0]) == 0 && name && strcmp(name, told[k][1]) == 0) return told[k][2];
  return "";
}

static _Noreturn void mistyped(lua_State *L, const reading *r, int i, int at) {
  const param *p = i < r->g->n ? &r->g->p[i] : &r->g->more;
  int place = (at ? at : i + 1) - self_counts(L, r->g);
  push_types(L, p);
  const char *expected = lua_tostring(L, -1), *kind = "a nil";
  if (at) push_kind(L, at), kind = lua_tostring(L, -1);
  if (at > r->top) lua_pushfstring(L, "option %s is %s, expected %s", p->name, kind, expected);
  else if (p->name)
    lua_pushfstring(L, "argument %d is %s, expected %s (%s)", place, kind, expected, p->name);
  else lua_pushfstring(L, "argument %d is %s, expected %s", place, kind, expected);
  if (p->kinds & K_ARRAY && at && lua_isboolean(L, at))
    lua_pushfstring(L, "%s" OF_EQUALS, lua_tostring(L, -1));
  else if (p->kinds & K_OBJECT && at && is_class(L, at) && lua_getfield(L, at, "__name"))
    lua_pushfstring(L, "%s: %s(...) makes one", lua_tostring(L, -2), lua_tostring(L, -1));
  else if (at && to_box(L, at))
    lua_pushfstring(L, "%s%s", lua_tostring(L, -1), instead(r->g->name, p->name));
  refuse_shown(L, r->g);
}

static _Noreturn void extra_argument(lua_State *L, const reading *r, int at) {
  const signature *g = r->g;
  if (at < r->top && g->n > g->nargs && lua_type(L, at) == LUA_TTABLE) {
    at++; /* the table is one of options, if nothing followed */
    push_kind(L, at);
    lua_pushfstring(L, "argument %d, %s, is one too many", at - self_counts(L, g),
                    lua_tostring(L, -1));
    refuse_shown(L, g);
  }
  bool list = lua_type(L, at) == LUA_TTABLE && lua_rawlen(L, at) > 0 && !lua_getmetatable(L, at);
  push_kind(L, at);
  const char *kind = list ? "a list" : lua_tostring(L, -1);
  if (g->n > g->nargs && (list || lua_type(L, at) != LUA_TTABLE))
    lua_pushfstring(L, "argument %d is %s, expected a table of options%s", at - self_counts(L, g),
                    kind, list ? " by name" : "");
  else lua_pushfstring(L, "argument %d, %s, is one too many", at - self_counts(L, g), kind);
  refuse_shown(L, g);
}

/* How many letters must be changed, put in or taken out; at most 9. */
static int distance(const char *a, const char *b) {
  int n = (int)strlen(b), row[64];
  if (n > 60 || strlen(a) > 60) return 9;
  for (int j = 0; j <= n; j++) row[j] = j;
  for (int i = 1; a[i - 1]; i++) {
    int corner = row[0];
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int change = corner + (a[i - 1] != b[j - 1]);
      corner = row[j];
      int less = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
      row[j] = change < less ? change : less;
    }
  }
  return row[n] < 9 ? row[n] : 9;
}

int name_distance(const char *a, const char *b) {
  int d = distance(a, b), len = (int)strlen(a);
  return d <= 1 + len / 5 && d < len ? d : 9;
}

static const char *near_option(const signature *g, const char *name) {
  static const char *const others[][2] = {{"dim", "axis"},
                                          {"dims", "axis"},
                                          {"keepdim", "keepdims"},
                                          {"ddof", "correction"},
                                          {"unbiased", "correction"},
                                          {"ord", "p"},
                                          {"epsilon", "eps"},
                                          {"learning_rate", "lr"},
                                          {"size_average", "reduction"},
                                          {"slope", "negative_slope"},
                                          {"negative_slope", "slope"},
                                          {"step_size", "size"},
                                          {"max_norm", "max"},
                                          {"normalized_shape", "shape"}};
  const char *best = NULL;
  int least = 9;
  for (size_t k = 0; k < sizeof others / sizeof *others; k++)
    if (strcmp(name, others[k][0]) == 0) {
      name = others[k][1];
      break;
    }
  for (int i = 0; i < g->n; i++) {
    int d = name_distance(name, g->p[i].name);
    if (d < least) least = d, best = g->p[i].name;
  }
  return best;
}

/* The key on top is nobody's. */
static _Noreturn void unknown_option(lua_State *L, const signature *g) {
  const char *name = luaL_tolstring(L, -1, NULL), *near = near_option(g, name);
  if (near) lua_pushfstring(L, "unknown option %s; did you mean %s?", name, near);
  else if (strcmp(name, "requires_grad") == 0)
    lua_pushfstring(L, "unknown option %s; mg.Variable(x) is tracked", name);
  else lua_pushfstring(L, "unknown option %s", name);
  refuse_shown(L, g);
}

/* ---- which value is whose -------------------------------------------------------------------- */

static bool is_callable(lua_State *L, int i) {
  int type = lua_type(L, i);
  if (type == LUA_TFUNCTION) return true;
  if ((type != LUA_TTABLE && type != LUA_TUSERDATA) || to_box(L, i)) return false;
  if (luaL_getmetafield(L, i, "__call") == LUA_TNIL) return false;
  lua_pop(L, 1);
  return true;
}

static bool is_object(lua_State *L, int i, const param *p) {
  if (lua_type(L, i) != LUA_TTABLE || is_class(L, i)) return false;
  lua_getfield(L, i, p->object);
  bool is = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return is;
}

/* Could it be one? */
static bool fits(lua_State *L, int i, const param *p) {
  uint32_t k = p->kinds;
  if (k & K_ANY) return true;
  if (k & K_FUNCTION && is_callable(L, i)) return true;
  if (k & K_OBJECT && is_object(L, i, p)) return true;
  switch (lua_type(L, i)) {
    case LUA_TNUMBER: return k & (FROM_NUMBER | K_ARRAY | K_TREE);
    case LUA_TBOOLEAN: return k & (K_BOOL | K_ARRAY);
    case LUA_TSTRING: return k & (K_STRING | K_DTYPE | K_CHOICE);
    case LUA_TTABLE: return k & (LISTS | K_TABLE | K_TREE | K_ARRAY);
    case LUA_TUSERDATA: return k & (K_ARRAY | K_VARIABLE | K_TREE) && to_box(L, i);
  }
  return false;
}

/* A table of names alone, and nobody's object. */
static bool only_names(lua_State *L, int i, bool *empty) {
  *empty = false;
  if (lua_type(L, i) != LUA_TTABLE || lua_rawlen(L, i) > 0) return false;
  if (luaL_getmetafield(L, i, "__name") != LUA_TNIL) return lua_pop(L, 1), false;
  lua_pushnil(L);
  if (!lua_next(L, i)) return *empty = true;
  bool name = lua_type(L, -2) == LUA_TSTRING;
  lua_pop(L, 2);
  return name;
}

/* Is the last value, in the place of p, the table of options? */
static bool is_options(lua_State *L, int i, const param *p) {
  bool empty, names = only_names(L, i, &empty);
  if (!names) return false;
  if (!p) return true;
  if (p->kinds & TABLES || (p->kinds & K_FUNCTION && is_callable(L, i))) return false;
  bool may_lack = p->optional || p->usual || (p->spread && !empty);
  return p->kinds & (LISTS | K_ARRAY) ? may_lack || !(empty || p->kinds & K_ARRAY) : true;
}

/* Behind i, and not among the options at `table`, 0: there are none */
static int required_after(lua_State *L, const signature *g, int i, int table) {
  int n = 0;
  while (++i < g->nargs)
    n += !g->p[i].optional && !g->p[i].usual && !g->p[i].spread &&
         !(table && type_of_field(L, table, g->p[i].name) != LUA_TNIL);
  return n;
}

static void by_name(lua_State *L, reading *r, int table, bool mixed) {
  const signature *g = r->g;
  for (lua_pushnil(L); lua_next(L, table);) {
    if (mixed && lua_isinteger(L, -2)) {
      lua_pop(L, 1);
      continue;
    }
    int i = 0;
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    while (i < g->n && g->p[i].name != name) i++;
    if (i == g->n) lua_pop(L, 1), unknown_option(L, g);
    if (r->at[i]) refuse_shown(L, (lua_pushfstring(L, "%s is given twice", name), g));
    lua_insert(L, -2); /* the value stays below the key */
    luaL_checkstack(L, 8, NULL);
    r->at[i] = lua_gettop(L) - 1;
  }
}

/* Of the nils from `at` on behind dims one may stand for options; others, and a nil for all dims, are
** refused as dims: somebody's name has nothing in it. */
static void take_nils(reading *r, int at, int i) {
  const signature *g = r->g;
  if (i >= g->nargs || !g->p[i].spread || (g->p[i].optional && !r->spread)) return;
  int n = r->top + 1 - at - (r->spread && g->n > g->nargs);
  if (n <= 0) return;
  if (!r->spread) r->at[i] = at;
  r->spread += n;
}

/* Sets r->at for all that was given. */
static void distribute(lua_State *L, reading *r) {
  const signature *g = r->g;
  int top = lua_gettop(L), i = 1, j = 0, options = 0;
  r->spread = r->mixed = 0;
  r->top = top;
  r->rest = top + 1;
  bool tables = false;
  for (int k = 1; k <= top; k++) tables |= lua_type(L, k) == LUA_TTABLE;
  if (g->plain && top <= g->nargs && !tables) { /* most calls */
    for (; j < top; j++) r->at[j] = j + 1;
    for (; j < g->n; j++) r->at[j] = 0;
    return;
  }
  for (int k = 0; k < g->n; k++) r->at[k] = 0;
  int last = top;
  if (!g->rest)
    while (last > 0 && lua_isnil(L, last)) last--; /* left out */
  bool empty;
  while (i <= last) {
    const param *p = j < g->nargs ? &g->p[j] : NULL;
    bool table = lua_type(L, i) == LUA_TTABLE;
    if (table && i == last && (p || g->n > g->nargs || !g->rest) && is_options(L, i, p) &&
        (g->n > g->nargs || j < g->nargs || (only_names(L, i, &empty) && !empty))) {
      options = i++;
      continue;
    }
    if (!p && !g->rest && lua_isnil(L, i)) {
      i++;
      continue;
    }
    if (!p) {
      if (!g->rest) extra_argument(L, r, i);
      r->rest = i;
      if (g->n > g->nargs && last > i && is_options(L, last, NULL)) options = last, r->top = --top;
      break;
    }
    if (p->skip && !lua_isnil(L, i)) {
      int table = is_options(L, last, NULL) ? last : 0;
      int have = table ? last - i : top - i + 1; /* a nil is one that fails */
      if ((!fits(L, i, p) && fits(L, i, p + 1)) || have <= required_after(L, g, j, table)) {
        j++;
        continue;
      }
    }
    r->at[j++] = i++;
    if (p->spread && !table) {
      for (r->spread = 1; i <= last && lua_type(L, i) != LUA_TTABLE; i++) r->spread++;
    } else if (table && p->kinds & LISTS && !(p->kinds & TABLES)) r->mixed = i - 1;
  }
  if (!options) take_nils(r, last + 1, r->spread ? j - 1 : j);
  if (r->rest > r->top) r->rest = r->top + 1;
  if (r->mixed) by_name(L, r, r->mixed, true);
  if (!options) return;
  check_plain(L, options, g->name, "options");
  by_name(L, r, options, false);
}

/* ---- values ---------------------------------------------------------------------------------- */

typedef struct {
  const shape *first; /* of the first array */
  attrs *to;          /* for C: attributes go there, arrays alone onto the stack */
} target;

static void give_int(attrs *a, int64_t i) { a->v[a->n++].i = i; }
static void give_float(attrs *a, double f) { a->v[a->n++].f = f; }

static int check_new_axis(lua_State *L, int at, const char *who, const shape *s) {
  shape wider = *s;
  if (wider.n < MAXDIM) wider.d[wider.n++] = 1;
  int64_t axis = check_whole(L, at, who, "axis"), k = axis < 0 ? axis + wider.n : axis - 1;
  char text[128];
  if (k < 0 || k >= wider.n)
    refuse(L, "%s: axis %lld is out of range for shape %s", who, (long long)axis,
           shape_text(s, text));
  return (int)k;
}

static void check_bounds(lua_State *L, const signature *g, const param *p, int at, int element) {
  double v = lua_tonumber(L, at);
  const char *name = p->name;
  if (!p->bounded) return;
  if ((p->above ? v > p->low : v >= p->low) && (p->below ? v < p->high : v <= p->high)) return;
  if (element) name = lua_pushfstring(L, "%s[%d]", name, element);
  const char *said = push_number_text(L, at);
  bool open = p->high == INFINITY, all = open && p->low == -INFINITY;
  if (all && !p->above) lua_pushfstring(L, "%s is nan", name);
  else if (all || (open && v == INFINITY))
    lua_pushfstring(L, "%s must be finite, got %s", name, said);
  else if (v < 0 && p->low == 0) lua_pushfstring(L, "%s = %s is negative", name, said);
  else if (open && p->above && p->low == 0)
    lua_pushfstring(L, "%s must be positive, got %s", name, said);
  else if (open && !p->above)
    lua_pushfstring(L, "%s must be at least %d, got %s", name, (int)p->low, said);
  else {
    const char *range = strchr(p->type, '(') + 1;
    lua_pushlstring(L, range, strchr(range, ')') - range);
    lua_pushfstring(L, "%s must be a number in %s, got %s", name, lua_tostring(L, -1), said);
  }
  refuse_shown(L, g);
}

/* A whole number, popped; element: of a table, 0: a dim, -1: by itself */
static int64_t check_element(lua_State *L, const signature *g, const param *p, int element) {
  int ok = 0;
  int64_t v = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &ok) : 0;
  if (!ok) {
    const char *what = element > 0    ? lua_pushfstring(L, "%s[%d]", p->name, element)
                       : element == 0 ? "a dim"
                                      : p->name;
    if (element > 0) lua_insert(L, -2);
    else if (element == 0 && dtype_at(L, -1) >= 0)
      refuse(L, "%s: a dim must be a whole number; an option says the dtype: {dtype = \"%s\"}",
             g->name, lua_tostring(L, -1));
    check_whole(L, -1, g->name, what);
  }
  check_bounds(L, g, p, lua_gettop(L), element > 0 ? element : 0);
  lua_pop(L, 1);
  return v;
}

/* The n numbers from `at` on; n < 0: of the table that stands there */
static int read_ints(lua_State *L, int at, const signature *g, const param *p, int n,
                     int64_t out[MAXDIM]) {
  bool table = n < 0, dims = p->kinds & K_SHAPE;
  if (table) n = (int)lua_rawlen(L, at);
  if (n > MAXDIM) refuse(L, "%s: %d axes, there can be %d at most", g->name, n, MAXDIM);
  for (int i = 0; i < n; i++) {
    if (!table && !p->bounded && lua_isinteger(L, at + i)) { /* most */
      out[i] = lua_tointeger(L, at + i);
      continue;
    }
    if (table) lua_rawgeti(L, at, i + 1);
    else lua_pushvalue(L, at + i);
    out[i] = check_element(L, g, p, dims ? 0 : i + 1);
  }
  shape s = {.n = n};
  memcpy(s.d, out, n * sizeof *out);
  if (dims) check_dims(L, g->name, &s);
  return n;
}

static void give_ints(lua_State *L, const target *t, int n, const int64_t *v, bool counted) {
  if (t->to && counted) {
    give_int(t->to, n);
    for (int i = 0; i < MAXDIM; i++) give_int(t->to, i < n ? v[i] : 0);
    return;
  }
  if (!t->to) lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    if (t->to) give_int(t->to, v[i]);
    else lua_pushinteger(L, v[i]), lua_rawseti(L, -2, i + 1);
  }
}

/* As many as there are, for Lua. */
static void give_all_ints(lua_State *L, const signature *g, const param *p, int at) {
  int n = (int)lua_rawlen(L, at);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, at, i);
    lua_pushinteger(L, check_element(L, g, p, i));
    lua_rawseti(L, -2, i);
  }
}

/* Of a 0-d array its one element is axis 1. */
static int check_any_axis(lua_State *L, int at, const char *who, const shape *s) {
  int64_t axis = s->n == 0 ? check_whole(L, at, who, "axis") : 0;
  return axis == 1 || axis == -1 ? 0 : check_axis(L, at, who, s);
}

static int usual_axis(lua_State *L, int64_t axis, const char *who, const shape *s) {
  int n = s->n > 0 ? s->n : 1;
  int64_t k = axis < 0 ? axis + n : axis - 1;
  if (k >= 0 && k < n) return (int)k;
  lua_pushinteger(L, axis);
  return check_any_axis(L, -1, who, s); /* raises */
}

/* Lua gets them in the order given. */
static void give_axes(lua_State *L, const target *t, int at, const char *who) {
  int n = lua_type(L, at) == LUA_TTABLE ? (int)lua_rawlen(L, at) : -1;
  uint32_t axes = 0;
  if (n == 0) refuse(L, "%s: the table of axes is empty", who);
  if (!t->to) lua_newtable(L);
  for (int i = 1; i <= (n < 0 ? 1 : n); i++) {
    if (n < 0) lua_pushvalue(L, at);
    else lua_rawgeti(L, at, i);
    int axis = check_any_axis(L, -1, who, t->first);
    lua_pop(L, 1);
    if (axes >> axis & 1) refuse(L, "%s: axis %d is given twice", who, axis + 1);
    axes |= 1u << axis;
    if (!t->to) lua_pushinteger(L, axis + 1), lua_rawseti(L, -2, i);
  }
  if (t->to) give_int(t->to, t->first->n ? axes : 0);
}

static void give_pair(lua_State *L, const signature *g, const target *t, int at, const param *p) {
  int64_t v[MAXDIM];
  if (lua_type(L, at) == LUA_TNUMBER) {
    lua_pushvalue(L, at);
    v[0] = v[1] = check_element(L, g, p, -1);
  } else if (read_ints(L, at, g, p, -1, v) != 2)
    refuse(L, "%s: %s must be a whole number or a table of two", g->name, p->name);
  give_ints(L, t, 2, v, false);
}

static void give_numbers(lua_State *L, const signature *g, const param *p, int at) {
  int n = (int)lua_rawlen(L, at);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    if (lua_rawgeti(L, at, i) != LUA_TNUMBER)
      refuse(L, "%s: %s[%d] is a %s, expected a number", g->name, p->name, i, kind_of(L, -1));
    check_bounds(L, g, p, lua_gettop(L), i);
    lua_rawseti(L, -2, i);
  }
}

static void give_strings(lua_State *L, const signature *g, const param *p, int at) {
  int n = (int)lua_rawlen(L, at);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    if (lua_rawgeti(L, at, i) != LUA_TSTRING)
      refuse(L, "%s: %s[%d] is a %s, expected a string", g->name, p->name, i, kind_of(L, -1));
    check_no_nul(L, -1, g->name);
    lua_rawseti(L, -2, i);
  }
}

/* Other keys than 1..n are somebody's mistake, unless they were read as options. */
static void only_own_keys(lua_State *L, const reading *r, int at) {
  check_plain(L, at, r->g->name, "a list");
  lua_Integer n = (lua_Integer)lua_rawlen(L, at);
  for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1)) {
    lua_Integer i = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if ((i < 1 || i > n) && (at != r->mixed || lua_type(L, -2) != LUA_TSTRING))
      lua_pop(L, 1), unknown_option(L, r->g);
  }
}

/* What t, a float or not, becomes beside x, if that is a Variable; whole: the number is a whole one */
static int wider(int t, const node *x, bool whole) {
  if (!x) return t;
  if (is_float(x->dtype)) return t == F64 ? F64 : x->dtype;
  return t < 0 && whole ? I64 : t;
}

/* A number never widens: it is of the widest float among the Variables beside it, those in its list too, or
** a whole one beside whole ones an int64; -1: of the usual dtype. */
static int beside(lua_State *L, const reading *r, int list, bool whole) {
  int t = -1;
  for (int i = 0, n = r->g->n; i < n || (r->rest && r->rest + i - n <= r->top); i++) {
    int at = i < n ? r->at[i] : r->rest + i - n;
    if (at) t = wider(t, to_node(L, at), whole);
  }
  for (int k = 1, n = list ? (int)lua_rawlen(L, list) : 0; k <= n; k++) {
    lua_rawgeti(L, list, k);
    t = wider(t, to_node(L, -1), whole);
    lua_pop(L, 1);
  }
  return t;
}

/* among: what beside() says of the list that this is in: of a number, of a whole one */
static void give_array(lua_State *L, state *S, const reading *r, int i, int at, const int *among) {
  const signature *g = r->g;
  const param *p = i < g->n ? &g->p[i] : &g->more;
  bool floats = p->dtypes & (1 << F64 | 1 << F32);
  int t = floats ? -1 : p->dtypes == 1 << BOOL ? BOOL : WHOLE_NUMBERS;
  if (floats && lua_type(L, at) == LUA_TNUMBER) {
    bool whole = lua_isinteger(L, at) && p->dtypes >> I64 & 1;
    t = among ? among[whole] : beside(L, r, 0, whole);
  }
  if (to_box(L, at)) lua_pushvalue(L, at);
  else push_values(L, S, at, g->name, t);
  node *x = to_node(L, -1);
  if (p->dtypes >> x->dtype & 1) return;
  bool whole = p->dtypes & 1 << I64;
  if (whole) lua_pushliteral(L, "int64");
  else lua_pushlstring(L, p->type, p->type_len);
  lua_pushfstring(L, "%s must be %s, got %s%s", p->name ? p->name : "each", lua_tostring(L, -1),
                  dtype_name[x->dtype], whole ? "; say x:to \"int64\"" : "");
  refuse_shown(L, g);
}

static void give_list(lua_State *L, state *S, const reading *r, int i, int at) {
  int n = (int)lua_rawlen(L, at), type, among[2] = {-1, -1};
  bool known = false;
  lua_createtable(L, n, 0);
  for (int k = 1; k <= n; k++) {
    type = lua_rawgeti(L, at, k);
    if (!to_box(L, -1) && type != LUA_TNUMBER && type != LUA_TTABLE)
      refuse(L, "%s: input %d is a %s, expected a Variable", r->g->name, k, kind_of(L, -1));
    if (type == LUA_TNUMBER && !known) {
      for (int whole = 0; whole < 2; whole++) among[whole] = beside(L, r, at, whole);
      known = true;
    }
    give_array(L, S, r, i, lua_gettop(L), among);
    lua_replace(L, -2);
    lua_rawseti(L, -2, k);
  }
}

/* So many attributes */
static int places_of(const param *p) {
  return p->kinds & K_PAIR ? 2 : p->kinds & (K_INTS | K_SHAPE) ? 1 + MAXDIM : 1;
}

static void give_nothing(lua_State *L, const target *t, const param *p) {
  if (!t->to || p->kinds & (K_ARRAY | K_LIST)) return lua_pushnil(L);
  if (p->kinds == K_NUMBER) return give_float(t->to, NAN);
  for (int n = places_of(p); n--;) give_int(t->to, INT64_MIN);
}

/* Plain true and false are arrays only beside a first one of bools. */
static bool is_value(lua_State *L, const reading *r, int i, int at) {
  const signature *g = r->g;
  const param *p = i < g->n ? &g->p[i] : &g->more;
  if (lua_type(L, at) != LUA_TBOOLEAN || p->kinds & (K_BOOL | K_ANY | K_TREE)) return true;
  int first = g->first < 0 || i == g->first ? 0 : r->at[g->first];
  const node *x = first ? to_node(L, first) : NULL;
  return x && x->dtype == BOOL;
}

/* Pushes the value at `at` for param i, checked and converted, or puts it among the attributes. */
static void give(lua_State *L, state *S, const reading *r, int i, int at, const target *t) {
  const signature *g = r->g;
  const param *p = i < g->n ? &g->p[i] : &g->more;
  const char *who = g->name;
  uint32_t k = p->kinds;
  int64_t v[MAXDIM];
  int which;
  if (k & K_ARRAY && lua_type(L, at) == LUA_TUSERDATA) {
    int top = lua_gettop(L);
    node **b = look(L, S, at);
    lua_settop(L, top);
    if (b) {
      if (*b && p->dtypes >> (*b)->dtype & 1) return lua_pushvalue(L, at);
      return give_array(L, S, r, i, at, NULL);
    }
  }
  if (!fits(L, at, p) || !is_value(L, r, i, at)) mistyped(L, r, i, at);
  if (k & (K_ANY | K_TREE)) return lua_pushvalue(L, at);
  switch (lua_type(L, at)) {
    case LUA_TNUMBER:
      if (k & (K_INT | K_NUMBER)) {
        if (!(k & K_NUMBER)) v[0] = check_whole(L, at, who, p->name);
        check_bounds(L, g, p, at, 0);
        if (t->to && k & K_NUMBER) return give_float(t->to, lua_tonumber(L, at));
        if (t->to) return give_int(t->to, v[0]);
        if (k & K_NUMBER) lua_pushvalue(L, at);
        else lua_pushinteger(L, v[0]);
        return;
      }
      if (k & (K_AXIS | K_NEW_AXIS)) {
        int axis = (k & K_NEW_AXIS ? check_new_axis : check_any_axis)(L, at, who, t->first);
        if (t->to) give_int(t->to, axis);
        else lua_pushinteger(L, axis + 1);
        return;
      }
      break;
    case LUA_TBOOLEAN:
      if (!(k & K_BOOL)) break;
      if (t->to) give_int(t->to, lua_toboolean(L, at));
      else lua_pushvalue(L, at);
      return;
    case LUA_TSTRING:
      if (k & K_CHOICE && signature_choice(L, at, p, &which)) {
        if (!t->to) return lua_pushvalue(L, at);
        for (int n = places_of(p); n--;) give_int(t->to, k == K_CHOICE ? which : -1 - which);
        return;
      }
      if (k & K_DTYPE) which = check_dtype(L, at, who);
      else if (!(k & K_STRING)) {
        push_types(L, p);
        lua_pushfstring(L, "%s must be %s, got \"%s\"", p->name, lua_tostring(L, -1),
                        lua_tostring(L, at));
        refuse_shown(L, g);
      }
      if (t->to) give_int(t->to, which);
      else lua_pushvalue(L, at);
      return;
    case LUA_TTABLE:
      if (k & (K_OBJECT | K_TABLE) && is_class(L, at)) mistyped(L, r, i, at);
      if (k == K_TABLE && luaL_getmetafield(L, at, "__name") != LUA_TNIL) mistyped(L, r, i, at);
      if (k & K_TABLE || (k & K_OBJECT && is_object(L, at, p)) ||
          (k & K_FUNCTION && is_callable(L, at)))
        return lua_pushvalue(L, at);
      if (k & LISTS) only_own_keys(L, r, at);
      if (k & K_NUMBERS) return give_numbers(L, g, p, at);
      if (k & K_STRINGS) return give_strings(L, g, p, at);
      if (k & K_INTS && !t->to) return give_all_ints(L, g, p, at);
      if (k & K_LIST) return give_list(L, S, r, i, at);
      break;
    case LUA_TUSERDATA:
      if (k & K_VARIABLE || !to_box(L, at)) return lua_pushvalue(L, at);
      return give_array(L, S, r, i, at, NULL);
    default: return lua_pushvalue(L, at);
  }
  if (k & K_PAIR) give_pair(L, g, t, at, p);
  else if (k & K_AXES) give_axes(L, t, at, who);
  else if (k & (K_INTS | K_SHAPE))
    give_ints(L, t, read_ints(L, at, g, p, lua_type(L, at) == LUA_TNUMBER ? 1 : -1, v), v, true);
  else give_array(L, S, r, i, at, NULL);
}

/* The same for its default. */
static void give_usual(lua_State *L, state *S, const reading *r, int i, const target *t) {
  const signature *g = r->g;
  const param *p = &g->p[i];
  attr v = p->value;
  switch (p->usual) {
    case U_BOOL:
      if (t->to) give_int(t->to, v.i);
      else lua_pushboolean(L, (int)v.i);
      return;
    case U_INTEGER:
      if (p->kinds == K_AXIS) v.i = usual_axis(L, v.i, g->name, t->first) + (t->to ? 0 : 1);
      if (!t->to) lua_pushinteger(L, v.i);
      else if (p->kinds == K_NUMBER) give_float(t->to, (double)v.i);
      else give_int(t->to, v.i);
      return;
    case U_NUMBER:
      if (t->to) give_float(t->to, v.f);
      else lua_pushnumber(L, v.f);
      return;
    case U_SAME:
      if (r->at[v.i] && !lua_isnil(L, r->at[v.i])) give(L, S, r, i, r->at[v.i], t);
      else if (g->p[v.i].usual) give_usual(L, S, r, (int)v.i, t);
      else give_nothing(L, t, p);
      return;
    case U_CHOICE:
      if (t->to) return give_int(t->to, v.i);
      break;
    default: break;
  }
  int from = lua_gettop(L) + 1;
  lua_getiuservalue(L, lua_upvalueindex(3), 1);
  lua_rawgeti(L, from, i + 1);
  if (p->usual != U_CHOICE) give(L, S, r, i, from + 1, t);
  if (!t->to || p->kinds & (K_ARRAY | K_LIST)) lua_replace(L, from), lua_settop(L, from);
  else lua_settop(L, from - 1);
}

/* For the param with ...: several values become a table, and are read as one. */
static void give_spread(lua_State *L, state *S, const reading *r, int i, const target *t) {
  int at = r->at[i], n = at ? r->spread : 0, top = lua_gettop(L);
  if (at && (n == 0 || at > r->top)) return give(L, S, r, i, at, t);
  const param *p = &r->g->p[i];
  if (n <= MAXDIM && !(p->kinds & ~(K_INTS | K_SHAPE))) { /* without a table */
    int64_t v[MAXDIM];
    return give_ints(L, t, read_ints(L, at, r->g, p, n, v), v, true);
  }
  lua_createtable(L, n, 0);
  for (int k = 0; k < n; k++) {
    lua_pushvalue(L, at + k);
    lua_rawseti(L, -2, k + 1);
  }
  give(L, S, r, i, top + 1, t);
  lua_remove(L, top + 1);
}

static void first_shape(lua_State *L, shape *s) {
  s->n = 0;
  if (lua_type(L, -1) == LUA_TTABLE) lua_rawgeti(L, -1, 1);
  else lua_pushvalue(L, -1);
  const node *x = to_node(L, -1);
  if (x) node_shape(x, s);
  lua_pop(L, 1);
}

static int checked_call(lua_State *L);

/* Does what is at 1 have the method that runs: itself, in its class or one above? A class may have it
** in a wrapper, where that of init and forward is named like the class. */
static bool has_method(lua_State *L, const signature *g) {
  enum { MOST = 100 };
  int top = lua_gettop(L), method = top + 1, holder = top + 2;
  lua_Debug now;
  lua_getstack(L, 0, &now);
  lua_getinfo(L, "f", &now);
  bool has = lua_tocfunction(L, method) != checked_call, named = false;
  lua_pushvalue(L, 1);
  for (int n = 0; !has && n < MOST; n++) {
    if (lua_type(L, holder) == LUA_TTABLE)
      for (lua_pushnil(L); !has && lua_next(L, holder); lua_pop(L, 1))
        has = lua_rawequal(L, -1, method);
    lua_settop(L, holder);
    if (has || !lua_getmetatable(L, holder)) break;
    lua_replace(L, holder);
    lua_pushliteral(L, "__index");
    bool through = lua_rawget(L, holder) == LUA_TTABLE && !lua_rawequal(L, holder, holder + 1);
    lua_pushliteral(L, "__name");
    if (lua_rawget(L, holder) == LUA_TSTRING && !through) { /* a class: it comes next */
      named = true;
      has = strcmp(lua_tostring(L, -1), g->name) == 0;
    } else {
      has = lua_isfunction(L, holder + 1) && !named; /* who knows for what it stands */
      lua_pushvalue(L, holder + 1);
      lua_replace(L, holder);
    }
    lua_settop(L, holder);
  }
  lua_settop(L, top);
  return has;
}

/* x.name(...) where x:name(...) was meant: a number or a table there would be taken for an array. */
void sig_method(lua_State *L) {
  if (to_box(L, 1) || !lua_toboolean(L, lua_upvalueindex(METHOD_UPVALUE))) return;
  const signature *g = signature_get(L);
  if (g->p->kinds & K_LIST) return;
  push_kind(L, 1);
  lua_pushfstring(L, "%s is no Variable; methods are called by a colon, x:%s(...)",
                  lua_tostring(L, -1), g->name);
  refuse_shown(L, g);
}

/* obj.name(...) where obj:name(...) was meant, Class:name(...), the object of another class, or
** nothing at all: what comes first has no such method. */
static void check_self(lua_State *L, const signature *g) {
  int type = lua_type(L, 1);
  const char *what = "is no object";
  if (type == LUA_TTABLE && is_class(L, 1) && strcmp(g->name, "extend") != 0) {
    lua_getfield(L, 1, "__name");
    lua_pushfstring(L, "%s is a class; methods are called of its objects", lua_tostring(L, -1));
    refuse_shown(L, g);
  }
  if ((type == LUA_TTABLE || (type == LUA_TUSERDATA && !to_box(L, 1))) && lua_getmetatable(L, 1)) {
    const void *class = lua_topointer(L, -1);
    lua_pop(L, 1);
    if (class == g->has) return;
    if (has_method(L, g)) {
      ((signature *)g)->has = class;
      return;
    }
    what = "has no such method";
  } else if (type == LUA_TTABLE && type_of_field(L, 1, g->name) != LUA_TNIL) return;
  push_kind(L, 1);
  lua_pushfstring(L, "%s %s; methods are called by a colon, object:name(...)", lua_tostring(L, -1),
                  what);
  refuse_shown(L, g);
}

/* Pushes the checked values, or just the arrays where `to` takes the others; the index of the first. */
static int read_values(lua_State *L, attrs *to) {
  state *S = get_state(L);
  reading r = {.g = signature_get(L)};
  const signature *g = r.g;
  shape s = {0};
  target t = {&s, to};
  if (g->self) check_self(L, g);
  sig_method(L);
  distribute(L, &r);
  luaL_checkstack(L, g->n + 16, "too many arguments");
  int base = lua_gettop(L) + 1;
  if (to) to->n = 0;
  for (int i = 0; i < g->n; i++) {
    const param *p = &g->p[i];
    int at = r.at[i];
    bool given = at && !lua_isnil(L, at);
    if (p->spread && (given || !p->optional || r.spread > 1)) give_spread(L, S, &r, i, &t);
    else if (given) give(L, S, &r, i, at, &t);
    else if (p->usual) give_usual(L, S, &r, i, &t);
    else if (p->optional) give_nothing(L, &t, p);
    else if (i < g->nargs) mistyped(L, &r, i, at);
    if (i == g->first && g->axes) first_shape(L, &s);
  }
  for (int i = r.rest; i <= r.top; i++) {
    luaL_checkstack(L, 4, "too many arguments");
    give(L, S, &r, g->n, i, &t);
  }
  return base;
}

void sig_count(lua_State *L, int n) {
  int top = lua_gettop(L);
  while (top > n && lua_isnil(L, top)) top--;
  reading r = {.g = signature_get(L), .top = top};
  if (top > n) extra_argument(L, &r, n + 1);
  lua_settop(L, n);
}

int sig_operands(lua_State *L, attrs *to) { return read_values(L, to); }

int sig_values(lua_State *L) {
  int base = read_values(L, NULL), n = lua_gettop(L) - base + 1;
  for (int i = 0; i < n && base > 1; i++) lua_copy(L, base + i, 1 + i);
  lua_settop(L, n);
  return n;
}

void sig_check(lua_State *L) {
  int top = lua_gettop(L);
  const signature *g = signature_get(L);
  if (top == 1 && g->n == 1 && g->p->kinds == K_VARIABLE && to_box(L, 1))
    return; /* x:cleargrad() */
  read_values(L, NULL);
  lua_settop(L, top);
}

int sig_nodes(lua_State *L, int base, node **in, int most) {
  int n = 0;
  for (int i = base, top = lua_gettop(L); i <= top && n < most; i++) {
    if (lua_type(L, i) != LUA_TTABLE) {
      in[n++] = to_node(L, i);
      continue;
    }
    for (int k = 1, len = (int)lua_rawlen(L, i); k <= len && n < most; k++, lua_pop(L, 1)) {
      lua_rawgeti(L, i, k);
      in[n++] = to_node(L, -1);
    }
  }
  return n;
}

int sig_results(lua_State *L) { return signature_get(L)->results; }

/* ---- for Lua --------------------------------------------------------------------------------- */

static int finish(lua_State *L, int status, lua_KContext under) {
  (void)status;
  return lua_gettop(L) - (int)under;
}

/* Upvalue 4: the function that gets the checked values. */
static int checked_call(lua_State *L) {
  int base = read_values(L, NULL), n = lua_gettop(L) - base + 1;
  lua_pushvalue(L, lua_upvalueindex(4));
  lua_insert(L, base);
  lua_callk(L, n, LUA_MULTRET, base - 1, finish);
  return finish(L, LUA_OK, base - 1);
}

/* Within a call its signature is compiled. */
const char *checked_name(lua_State *L, int i) {
  if (lua_tocfunction(L, i) != checked_call || !lua_getupvalue(L, i, 3)) return NULL;
  const signature *g = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return g ? g->name : NULL;
}

static int check(lua_State *L) { return sig_values(L); }

/* signature(text): a function that gives its arguments back, checked. */
int signature_new(lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING)
    refuse(L, "signature: argument 1 is a %s, expected a string", kind_of(L, 1));
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, check, 3);
  return 1;
}

/* Pushes fn, at i, called with what the signature at `text` makes of its arguments; or that as a method
** of Variables. */
void push_checked(lua_State *L, int text, int fn, bool method) {
  text = lua_absindex(L, text);
  fn = lua_absindex(L, fn);
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushvalue(L, text);
  lua_pushvalue(L, fn);
  lua_pushboolean(L, method);
  lua_pushcclosure(L, checked_call, METHOD_UPVALUE);
}
