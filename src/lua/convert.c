/* convert.c -- between Lua's values and arrays: numbers, nested tables, shapes, options, text.
**
** A table is read in two passes: its shape from the first elements, then all elements into an array
** that already stands in a box, so that an error in the middle loses nothing.
*/
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lua/binding.h"

/* ---- arguments ------------------------------------------------------------------------------- */

static bool whole(lua_State *L, int i, int64_t *v) {
  int ok = 0;
  if (lua_type(L, i) == LUA_TNUMBER) *v = lua_tointegerx(L, i, &ok);
  return ok;
}

int64_t check_whole(lua_State *L, int i, const char *who, const char *what) {
  int64_t v = 0;
  if (whole(L, i, &v)) return v;
  if (lua_type(L, i) == LUA_TNUMBER)
    refuse(L, "%s: %s must be a whole number, not %s", who, what, push_number_text(L, i));
  refuse(L, "%s: %s must be a whole number, not a %s", who, what, kind_of(L, i));
}

int dtype_at(lua_State *L, int i) {
  size_t len;
  const char *name = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &len) : NULL;
  return name && strlen(name) == len ? dtype_find(name) : -1;
}

dtype check_dtype(lua_State *L, int i, const char *who) {
  if (lua_type(L, i) != LUA_TSTRING)
    refuse(L, "%s: dtype is a %s, expected a string", who, kind_of(L, i));
  int t = dtype_at(L, i);
  if (t < 0)
    refuse(L, "%s: no dtype \"%s\"; there are float64, float32, int64, uint8, bool", who,
           lua_tostring(L, i));
  return t;
}

int check_axis(lua_State *L, int i, const char *who, const shape *s) {
  int64_t axis = check_whole(L, i, who, "axis");
  int64_t k = axis < 0 ? axis + s->n : axis - 1;
  char text[128];
  if (k < 0 || k >= s->n)
    refuse(L, "%s: axis %lld is out of range for shape %s", who, (long long)axis,
           shape_text(s, text));
  return (int)k;
}

int check_list(lua_State *L, int i, const char *who, const char *what, int64_t out[MAXDIM]) {
  bool table = lua_type(L, i) == LUA_TTABLE;
  lua_Integer n = table ? (lua_Integer)lua_rawlen(L, i) : lua_gettop(L) - i + 1;
  if (n > MAXDIM) refuse(L, "%s: %lld axes, there can be %d at most", who, (long long)n, MAXDIM);
  for (int k = 0; k < n; k++) {
    if (table) lua_rawgeti(L, i, k + 1);
    else lua_pushvalue(L, i + k);
    out[k] = check_whole(L, -1, who, what);
    lua_pop(L, 1);
  }
  return n < 0 ? 0 : (int)n;
}

/* Values are read past metamethods: one that has its own idea of what it holds is refused. */
void check_plain(lua_State *L, int i, const char *who, const char *as) {
  static const char *const own[] = {"__len", "__index", "__pairs"};
  if (!lua_getmetatable(L, i)) return;
  lua_pop(L, 1);
  for (int k = 0; k < 3; k++)
    if (luaL_getmetafield(L, i, own[k]) != LUA_TNIL) {
      if (luaL_getmetafield(L, i, "__name") == LUA_TSTRING)
        refuse(L, "%s: an object of %s is not read as %s", who, lua_tostring(L, -1), as);
      refuse(L, "%s: a table with %s is not read as %s", who, own[k], as);
    }
}

void only_elements(lua_State *L, int i, const char *who) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, i);
  i = lua_absindex(L, i);
  check_plain(L, i, who, "a list");
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key < 1 || key > n)
      refuse(L, "%s: the table has the key %s", who, luaL_tolstring(L, -2, NULL));
  }
}

void check_dims(lua_State *L, const char *who, const shape *s) {
  for (int k = 0; k < s->n; k++)
    if (s->d[k] < 0) refuse(L, "%s: dim %lld is negative", who, (long long)s->d[k]);
  int64_t size = shape_size(s);
  char text[128];
  if (size < 0 || size > INT64_MAX / 16)
    refuse(L, "%s: shape %s is too large", who, shape_text(s, text));
}

void check_shape(lua_State *L, int i, const char *who, shape *s) {
  s->n = check_list(L, i, who, "a dim", s->d);
  check_dims(L, who, s);
}

void check_options(lua_State *L, int i, const char *who, const char *const *names, bool list) {
  if (lua_isnoneornil(L, i)) return;
  if (lua_type(L, i) != LUA_TTABLE)
    refuse(L, "%s: argument %d is a %s, expected a table of options", who, i, kind_of(L, i));
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
    if (list && lua_isinteger(L, -2)) continue;
    const char *const *name = names;
    if (lua_type(L, -2) == LUA_TSTRING)
      while (*name && strcmp(*name, lua_tostring(L, -2)) != 0) name++;
    else
      while (*name) name++;
    if (!*name) refuse(L, "%s: unknown option %s", who, luaL_tolstring(L, -2, NULL));
  }
}

/* ---- out of arrays --------------------------------------------------------------------------- */

void push_shape(lua_State *L, const shape *s) {
  lua_createtable(L, s->n, 0);
  for (int i = 0; i < s->n; i++) {
    lua_pushinteger(L, s->d[i]);
    lua_rawseti(L, -2, i + 1);
  }
  luaL_setmetatable(L, "moongrad.shape");
}

static int shape_equal(lua_State *L) {
  for (int i = 1; i <= 2; i++) luaL_checktype(L, i, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, 1);
  bool same = n == lua_rawlen(L, 2);
  for (lua_Unsigned i = 1; same && i <= n; i++) {
    lua_rawgeti(L, 1, i);
    lua_rawgeti(L, 2, i);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
  }
  lua_pushboolean(L, same);
  return 1;
}

static int shape_tostring(lua_State *L) {
  luaL_Buffer b;
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '(');
  for (lua_Unsigned i = 1, n = lua_rawlen(L, 1); i <= n; i++) {
    if (i > 1) luaL_addstring(&b, ", ");
    lua_rawgeti(L, 1, i);
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    luaL_addvalue(&b);
  }
  luaL_addchar(&b, ')');
  luaL_pushresult(&b);
  return 1;
}

/* Of shapes and Variables: as text, beside what Lua joins, or what says itself how it is written */
int joined(lua_State *L) {
  for (int i = 1; i <= 2; i++)
    if (!lua_isstring(L, i) && luaL_getmetafield(L, i, "__tostring") == LUA_TNIL)
      refuse(L, "..: argument %d is a %s, expected a string or a number", i, kind_of(L, i));
  lua_settop(L, 2);
  for (int i = 1; i <= 2; i++) luaL_tolstring(L, i, NULL);
  lua_concat(L, 2);
  return 1;
}

const luaL_Reg shape_meta[] = {
    {"__eq", shape_equal}, {"__tostring", shape_tostring}, {"__concat", joined}, {NULL, NULL}};

void push_imm(lua_State *L, dtype t, imm v) {
  if (is_float(t)) lua_pushnumber(L, v.f);
  else if (t == BOOL) lua_pushboolean(L, v.i != 0);
  else lua_pushinteger(L, v.i);
}

/* Values where they lie; p is NULL where each is k. */
typedef struct {
  dtype t;
  shape s;
  int64_t stride[MAXDIM];
  const char *p;
  imm k;
} laid;

static imm value_at(const laid *v, int64_t i) {
  return v->p ? imm_load(v->t, v->p + i * (int64_t)dtype_size[v->t]) : v->k;
}

static node *computed(graph *G, node *n) { return node_array(G, node_computed(G, n)); }

/* Those of the Variable at 1; a box that keeps them is pushed. */
static laid push_computed(lua_State *L, const char *who) {
  state *S = get_state(L);
  check_node(L, 1, who);
  node **keep = box_new(L, S);
  TRY(L, S, *keep = computed(&S->G, node_at(L, 1)));
  const array *a = (*keep)->a;
  laid v = {.t = (*keep)->dtype, .k = (*keep)->k};
  if (!a) return v;
  v.s = a->s;
  v.k = a->k;
  if (a->state == CONST) return v;
  memcpy(v.stride, a->stride, sizeof v.stride);
  v.p = arr_data(a);
  return v;
}

static void push_rows(lua_State *L, const laid *v, int axis, int64_t at) {
  if (axis == v->s.n) return push_imm(L, v->t, value_at(v, at));
  int64_t n = v->s.d[axis];
  lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
  for (int64_t i = 0; i < n; i++) {
    push_rows(L, v, axis + 1, at + i * v->stride[axis]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int variable_totable(lua_State *L) {
  sig_values(L);
  laid v = push_computed(L, "totable");
  luaL_checkstack(L, MAXDIM + 2, NULL);
  push_rows(L, &v, 0, 0);
  return 1;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Two walks over what is shown: one for the width of a column, one that writes, so many numbers a line. */
typedef struct {
  const laid *v;
  luaL_Buffer *out;
  int digits;
  bool cut;
  size_t width, line;
} printer;

static size_t number_text(char buf[40], dtype t, imm v, int digits) {
  if (t == BOOL) return snprintf(buf, 40, "%s", v.i ? "true" : "false");
  if (!is_float(t)) return snprintf(buf, 40, "%lld", (long long)v.i);
  if (isnan(v.f)) return snprintf(buf, 40, "nan");
  if (v.f == floor(v.f) && fabs(v.f) < 1e15) return snprintf(buf, 40, "%.0f", v.f);
  return print_text(buf, 40, "%.*g", digits, v.f);
}

/* Of a float32 no more than it has: 7 that are right, or 9 that tell it from all others. */
static int digits_of(dtype t, int precision) {
  int most = precision < 9 ? 7 : 9;
  return t == F32 && precision > most ? most : precision;
}

static void line_break(printer *p, int axis, size_t shown) { /* between the parts of an axis */
  int blank = p->v->s.n - 1 - axis;
  if (blank == 0 && shown % p->line != 0) luaL_addchar(p->out, ' ');
  else {
    do luaL_addchar(p->out, '\n');
    while (--blank > 0);
    for (int i = 0; i < 10 + axis; i++) luaL_addchar(p->out, ' ');
  }
}

static void show(printer *p, int axis, int64_t at) {
  if (axis == p->v->s.n) {
    char buf[40];
    size_t len = number_text(buf, p->v->t, value_at(p->v, at), p->digits);
    if (!p->out) {
      if (len > p->width) p->width = len;
      return;
    }
    for (size_t i = len; i < p->width; i++) luaL_addchar(p->out, ' ');
    luaL_addlstring(p->out, buf, len);
    return;
  }
  int64_t n = p->v->s.d[axis], shown = 0;
  if (p->out) luaL_addchar(p->out, '[');
  for (int64_t i = 0; i < n; i++, shown++) {
    if (p->out && i) line_break(p, axis, shown);
    if (p->cut && n > 6 && i == 3) {
      if (p->out) luaL_addstring(p->out, "...");
      i = n - 4;
    } else show(p, axis + 1, at + i * p->v->stride[axis]);
  }
  if (p->out) luaL_addchar(p->out, ']');
}

int variable_tostring(lua_State *L) {
  lua_settop(L, 1);
  laid v = push_computed(L, "tostring");
  int64_t size = shape_size(&v.s);
  const print_options *o = &get_state(L)->print;
  printer p = {.v = &v, .cut = size > o->threshold, .digits = digits_of(v.t, o->precision)};
  if (size) show(&p, 0, 0);
  int room = o->linewidth - 9 - 2 * v.s.n; /* less "variable(", the brackets and the last one */
  p.line = room > (int)p.width ? (size_t)room / (p.width + 1) : 1;
  luaL_Buffer b;
  char text[128];
  luaL_buffinit(L, &b);
  p.out = &b;
  luaL_addstring(&b, "variable(");
  if (size) show(&p, 0, 0);
  else luaL_addstring(&b, "[]");
  if (!size && v.s.n > 1) {
    luaL_addstring(&b, ", shape ");
    luaL_addstring(&b, shape_text(&v.s, text));
  }
  luaL_addchar(&b, ')');
  luaL_pushresult(&b);
  return 1;
}

/* What was said before comes back. */
static int set_printoptions(lua_State *L) {
  print_options *o = &get_state(L)->print, old = *o;
  static const char *const names[] = {"precision", "threshold", "linewidth"};
  const int64_t was[] = {old.precision, old.threshold, old.linewidth};
  sig_values(L);
  if (!lua_isnil(L, 1)) o->precision = (int)lua_tointeger(L, 1);
  if (!lua_isnil(L, 2)) o->threshold = lua_tointeger(L, 2);
  if (!lua_isnil(L, 3)) o->linewidth = (int)lua_tointeger(L, 3);
  lua_createtable(L, 0, 3);
  for (int i = 0; i < 3; i++) {
    lua_pushinteger(L, was[i]);
    lua_setfield(L, -2, names[i]);
  }
  return 1;
}

/* ---- into arrays ----------------------------------------------------------------------------- */

typedef struct {
  lua_State *L;
  const char *who;
  dtype t;
  bool numbers, booleans; /* which of them may stand in the table */
  bool whole;             /* numbers that are no whole ones are refused */
  shape s;
  int64_t path[MAXDIM]; /* where we are, from 1 */
  void *p;              /* the next element */
} reader;

static const char *path_text(const reader *r, int n, bool first, char buf[200]) {
  int len = 0;
  buf[0] = 0;
  for (int i = 0; i < n; i++)
    len +=
        snprintf(buf + len, 200 - len, "%s%lld", i ? "," : "", first ? 1LL : (long long)r->path[i]);
  return buf;
}

static _Noreturn void ragged_row(reader *r, int axis, int64_t n) {
  char a[200], b[200];
  refuse(r->L, "%s: ragged table: row %s has %lld elements, row %s has %lld", r->who,
         path_text(r, axis, false, a), (long long)n, path_text(r, axis, true, b),
         (long long)r->s.d[axis]);
}

/* The first n of the path lead to something of another type than in the first row. */
static _Noreturn void ragged_depth(reader *r, int n) {
  char a[200], b[200];
  const char *kind = kind_of(r->L, -1), *expected = r->numbers ? "number" : "boolean";
  path_text(r, n, false, a);
  if (to_box(r->L, -1))
    refuse(r->L, "%s: element %s is a Variable, expected a %s: mg.stack makes one of several",
           r->who, a, expected);
  if (n == r->s.n && lua_type(r->L, -1) != LUA_TTABLE)
    refuse(r->L, "%s: element %s is a %s, expected a %s", r->who, a, kind, expected);
  refuse(r->L, "%s: ragged table: element %s is a %s, element %s a %s", r->who, a, kind,
         path_text(r, n, true, b), n == r->s.n ? expected : "table");
}

static _Noreturn void no_whole(reader *r) {
  char place[200];
  refuse(r->L, "%s: element %s is %s, expected a whole number", r->who,
         path_text(r, r->s.n, false, place), push_number_text(r->L, -1));
}

static void read_odd(reader *r) { /* what is not a number for a float */
  imm v;
  int type = lua_type(r->L, -1);
  if (type == LUA_TNUMBER && r->numbers) {
    int is_whole = 0;
    int64_t whole = lua_tointegerx(r->L, -1, &is_whole);
    if (lua_isinteger(r->L, -1) || (r->whole && is_whole))
      v = imm_cast((imm){.i = whole}, I64, r->t);
    else if (r->whole) no_whole(r);
    else v = imm_cast((imm){.f = lua_tonumber(r->L, -1)}, F64, r->t);
  } else if (type == LUA_TBOOLEAN && r->booleans)
    v = imm_cast((imm){.i = lua_toboolean(r->L, -1)}, BOOL, r->t);
  else ragged_depth(r, r->s.n);
  switch (r->t) {
    case F64: *(double *)r->p = v.f; break;
    case F32: *(float *)r->p = (float)v.f; break;
    case I64: *(int64_t *)r->p = v.i; break;
    default: *(uint8_t *)r->p = (uint8_t)v.i;
  }
}

/* Key -2 stands beside 1..n: its value would be lost. */
static _Noreturn void odd_key(reader *r) {
  lua_State *L = r->L;
  const char *key = luaL_tolstring(L, -2, NULL);
  if (strcmp(key, "dtype") == 0 && strcmp(r->who, "tensor") == 0)
    refuse(L, "tensor: the key dtype stands among the data; say mg.tensor(data, {dtype = ...})");
  refuse(L, "%s: a table of data has the key %s", r->who, key);
}

/* The value on top, the i-th of its table. */
static void read_rows(reader *r, int axis);
static void read_value(reader *r, int axis, int64_t i) {
  lua_State *L = r->L;
  int type = lua_type(L, -1);
  r->path[axis] = i;
  if (axis + 1 < r->s.n) {
    if (type != LUA_TTABLE) ragged_depth(r, axis + 1);
    return read_rows(r, axis + 1);
  }
  if (type == LUA_TNUMBER && r->numbers && r->t == F64) *(double *)r->p = lua_tonumber(L, -1);
  else if (type == LUA_TNUMBER && r->numbers && r->t == F32)
    *(float *)r->p = (float)lua_tonumber(L, -1);
  else read_odd(r);
  r->p = (char *)r->p + dtype_size[r->t];
}

/* Keys mostly come in order, so that one walk reads and sees what else is there; else there are two. */
static void read_rows(reader *r, int axis) {
  lua_State *L = r->L;
  int64_t n = (int64_t)lua_rawlen(L, -1), i = 0;
  if (n != r->s.d[axis]) ragged_row(r, axis, n);
  check_plain(L, lua_gettop(L), r->who, "data");
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    int64_t key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key < 1 || key > n) odd_key(r);
    if (key == i + 1) read_value(r, axis, ++i);
  }
  while (i < n) {
    lua_rawgeti(L, -1, ++i);
    read_value(r, axis, i);
    lua_pop(L, 1);
  }
}

static void read_table(lua_State *L, state *S, int i, const char *who, int t, node **r) {
  reader rd = {.L = L, .who = who, .numbers = true, .booleans = true};
  luaL_checkstack(L, MAXDIM + 4, NULL);
  lua_pushvalue(L, i);
  while (lua_type(L, -1) == LUA_TTABLE) { /* down the first elements */
    if (rd.s.n == MAXDIM) refuse(L, "%s: tables are nested more than %d deep", who, MAXDIM);
    lua_Unsigned n = lua_rawlen(L, -1);
    check_plain(L, lua_gettop(L), who, "data");
    rd.s.d[rd.s.n++] = (int64_t)n;
    if (n == 0) break;
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  bool boolean = lua_isboolean(L, -1);
  lua_pop(L, 1);
  if (t == WHOLE_NUMBERS) {
    rd.whole = true;
    rd.booleans = false;
    t = I64;
  } else if (t < 0) {
    rd.numbers = !boolean;
    rd.booleans = boolean;
    t = boolean ? BOOL : S->G.dtype;
  }
  rd.t = t;
  int64_t size = shape_size(&rd.s);
  if (size < 0 || size > INT64_MAX / 16)
    refuse(L, "%s: ragged table", who); /* none holds so many */
  TRY(L, S, *r = node_array(&S->G, arr_host(&S->G.c, rd.t, &rd.s)));
  rd.p = arr_data((*r)->a);
  lua_pushvalue(L, i);
  read_rows(&rd, 0);
  lua_pop(L, 1);
}

static node *detached_to(graph *G, node *x, int t) {
  node *d = node_detach(G, x);
  if (!d || t < 0 || d->dtype == t) return d;
  node *r = op_to(G, d, t);
  node_drop(G, d);
  return r;
}

node **push_values(lua_State *L, state *S, int i, const char *who, int t) {
  i = lua_absindex(L, i);
  node **r = box_new(L, S);
  dtype from = F64;
  imm v = {0};
  switch (lua_type(L, i)) {
    case LUA_TTABLE: read_table(L, S, i, who, t, r); return r;
    case LUA_TBOOLEAN:
      if (t == WHOLE_NUMBERS) refuse(L, "%s: a boolean, expected a whole number", who);
      from = BOOL;
      v.i = lua_toboolean(L, i);
      break;
    case LUA_TNUMBER:
      if (t == WHOLE_NUMBERS) t = I64, from = I64, v.i = check_whole(L, i, who, "the value");
      else if (lua_isinteger(L, i)) v.i = lua_tointeger(L, (from = I64, i));
      else v.f = lua_tonumber(L, i);
      break;
    default:
      if (!to_box(L, i))
        refuse(L, "%s: a %s, expected a number, a table or a Variable", who, kind_of(L, i));
      TRY(L, S, *r = detached_to(&S->G, node_at(L, i), t));
      return r;
  }
  if (t < 0) t = from == BOOL ? BOOL : S->G.dtype;
  TRY(L, S, *r = node_scalar(&S->G, t, imm_cast(v, from, t)));
  return r;
}

static int make_variable(lua_State *L) {
  state *S = get_state(L);
  const char *type = NULL;
  if (lua_type(L, 2) == LUA_TTABLE &&
      (lua_pushliteral(L, "dtype"), lua_rawget(L, 2)) == LUA_TSTRING)
    type = lua_tostring(L, -1);
  else if (lua_type(L, 2) == LUA_TSTRING && dtype_find(lua_tostring(L, 2)) >= 0)
    type = lua_tostring(L, 2);
  if (type)
    refuse(L, "Variable: argument 2 is the name; for %s: mg.Variable(mg.tensor(data, \"%s\"))",
           type, type);
  sig_values(L);
  node *n = *push_values(L, S, 1, "Variable", -1);
  if (is_float(n->dtype)) n->flags |= TRACKED;
  if (lua_isstring(L, 2)) {
    const char *name = check_no_nul(L, 2, "Variable");
    TRY(L, S, node_set_name(&S->G, n, name));
  }
  made(L, S, n);
  return 1;
}

static int make_tensor(lua_State *L) {
  state *S = get_state(L);
  sig_values(L);
  node **r = push_values(L, S, 1, "tensor", lua_isnil(L, 2) ? -1 : dtype_find(lua_tostring(L, 2)));
  made(L, S, *r);
  return 1;
}

/* ---- arrays from nothing --------------------------------------------------------------------- */

/* (dims, {dtype}) */
static dtype read_dims(lua_State *L, shape *s) {
  attrs a;
  sig_operands(L, &a);
  s->n = (int)a.v[0].i;
  for (int i = 0; i < s->n; i++) s->d[i] = a.v[1 + i].i;
  int64_t t = a.v[1 + MAXDIM].i;
  return t == INT64_MIN ? get_state(L)->G.dtype : (dtype)t;
}

static int filled(lua_State *L, int value) {
  state *S = get_state(L);
  shape s;
  dtype t = read_dims(L, &s);
  node **r = box_new(L, S);
  TRY(L, S, *r = node_array(&S->G, arr_const(&S->G.c, t, &s, imm_cast((imm){.i = value}, I64, t))));
  made(L, S, *r);
  return 1;
}
static int make_zeros(lua_State *L) { return filled(L, 0); }
static int make_ones(lua_State *L) { return filled(L, 1); }
static int make_empty(lua_State *L) { return filled(L, 0); }

static node *spread(graph *G, node *scalar, const shape *s) {
  return node_array(G, arr_const(&G->c, scalar->dtype, s, scalar->k));
}

static int make_full(lua_State *L) {
  state *S = get_state(L);
  sig_values(L);
  int t = lua_isnil(L, 3) ? -1 : dtype_find(lua_tostring(L, 3));
  shape s;
  check_shape(L, 1, "full", &s);
  node *v = *push_values(L, S, 2, "full", t), **r = box_new(L, S);
  TRY(L, S, *r = spread(&S->G, v, &s));
  return 1;
}

/* How many whole numbers from first to last by step. */
static double count_whole(int64_t first, int64_t last, int64_t step) {
  bool up = step > 0;
  if (step == 0 || (up ? first > last : first < last)) return 0;
  uint64_t way = up ? (uint64_t)last - (uint64_t)first : (uint64_t)first - (uint64_t)last;
  return (double)(way / (up ? (uint64_t)step : -(uint64_t)step)) + 1;
}

/* A `for` of floats adds the step up, and so comes to another end than a product here and there. */
static double count_floats(double first, double last, double step) {
  double about = floor((last - first) / step) + 1, n = 0;
  if (!(about < 1e9)) return about;
  for (double v = first; (step > 0 ? v <= last : v >= last) && n < about + 2; v += step) n++;
  return n;
}

/* Inclusive, as Lua's `for`. */
static int make_range(lua_State *L) {
  state *S = get_state(L);
  sig_values(L);
  dtype t = lua_isnil(L, 4) ? S->G.dtype : (dtype)dtype_find(lua_tostring(L, 4));
  double first = lua_tonumber(L, 1), last = lua_tonumber(L, 2), step = lua_tonumber(L, 3);
  if (step == 0) refuse(L, "range: the step is 0");
  int64_t v[3] = {0};
  const bool wholes = whole(L, 1, &v[0]) && whole(L, 2, &v[1]) && whole(L, 3, &v[2]);
  const double n = wholes ? count_whole(v[0], v[1], v[2]) /* a double does not hold all of them */
                          : count_floats(first, last, step);
  if (!(n < 1e15)) refuse(L, "range: %g to %g by %g cannot be counted", first, last, step);
  imm a = {.f = first}, d = {.f = step};
  if (!is_float(t)) {
    if (!whole(L, 1, &a.i) || !whole(L, 3, &d.i))
      refuse(L, "range: %s needs whole numbers", dtype_name[t]);
  }
  if (n <= 1) d = (imm){0}; /* it may be infinite */
  node **r = box_new(L, S);
  TRY(L, S, *r = node_array(&S->G, arr_iota(&S->G.c, t, n < 0 ? 0 : (int64_t)n, a, d)));
  made(L, S, *r);
  return 1;
}

static int make_randperm(lua_State *L) {
  state *S = get_state(L);
  attrs a;
  sig_operands(L, &a);
  shape s = {1, {a.v[0].i}};
  if (s.d[0] > INT64_MAX / 16) refuse(L, "randperm: n is %lld", (long long)s.d[0]);
  node **r = box_new(L, S);
  TRY(L, S, *r = node_array(&S->G, arr_randperm(&S->G.c, s.d[0])));
  made(L, S, *r);
  return 1;
}

const entry convert_entries[] = {
    {"Variable", make_variable,
     "Variable(data: any, name: string?)\na tracked leaf: a number, a nested table, or a "
     "Variable's values; those of int64, uint8 and bool stay untracked: gradients need floats",
     false},
    {"tensor", make_tensor,
     "tensor(data: any, dtype: dtype?)\na constant: as Variable, but untracked", false},
    {"zeros", make_zeros,
     "zeros(dims: shape..., {dtype: dtype})\nfilled with 0; dims as numbers or {dims, dtype =}",
     false},
    {"ones", make_ones,
     "ones(dims: shape..., {dtype: dtype})\nfilled with 1; dims as numbers or {dims, dtype =}",
     false},
    {"empty", make_empty,
     "empty(dims: shape..., {dtype: dtype})\nfor values to come; dims as numbers or {dims, dtype "
     "=}",
     false},
    {"full", make_full,
     "full(dims: shape, value: number | bool, dtype: dtype?)\nfilled with one value", false},
    {"range", make_range,
     "range(first: number(..), last: number(..), step: number(-inf..inf) = 1, {dtype: dtype})\n"
     "first, first + step ... last inclusive, as Lua's for",
     false},
    {"randperm", make_randperm, "randperm(n: int(0..))\nint64: 1..n in random order", false},
    {"totable", variable_totable, "totable(x: array) -> table\nnested tables of x's elements",
     true},
    {"set_printoptions", set_printoptions,
     "set_printoptions({precision: int(1..17), threshold: int(0..), linewidth: int(1..1000000)}) "
     "-> table\n"
     "how Variables are printed: significant digits (8; of a float32 7, from 9 on 9), elements "
     "beyond which the middle is left out (1000), columns of a line (80). What is not given stays; "
     "what was is returned, and can be given again",
     false},
    {NULL, NULL, NULL, false}};
