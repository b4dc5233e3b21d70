/* ops.c -- the ops as Lua functions: one closure for each row of the op table, its op a constant.
**
** `apply`, `op_reduce` and the others do the work; here arguments are taken from the stack.
** Recorded scalar ops pass through `map` by the million: nothing there is looked up by name.
*/
#include <math.h>
#include <string.h>

#include "lua/binding.h"

/* ---- elementwise ----------------------------------------------------------------------------- */

/* The boxes at 1..n, NULL for numbers; false where something else stands among them, or no
** Variable. */
static inline bool boxes(lua_State *L, state *S, int n, node ***box) {
  bool any = false;
  for (int i = 0; i < n; i++) {
    if ((box[i] = look(L, S, i + 1))) any = true;
    else if (lua_type(L, i + 1) != LUA_TNUMBER) return false;
  }
  return any;
}

/* Makes constants of tables and booleans, or of the first number where there are just numbers. */
static void settle(lua_State *L, state *S, int n, const char *who) {
  int numbers = 0;
  lua_settop(L, n);
  for (int i = 1; i <= n; i++) {
    int type = lua_type(L, i);
    if (type == LUA_TNUMBER) numbers++;
    else if (type == LUA_TTABLE || type == LUA_TBOOLEAN) {
      push_values(L, S, i, who, -1);
      lua_replace(L, i);
    } else check_node(L, i, who);
  }
  if (numbers < n) return;
  push_values(L, S, 1, who, -1);
  lua_replace(L, 1);
}

INLINE node *elementwise(lua_State *L, state *S, int op, int n, node ***box) {
  node *in[3], number[3];
  for (int i = 0; i < n; i++) {
    in[i] = box[i] ? unpack(L, box[i]) : &number[i];
    if (box[i]) continue;
    if (lua_isinteger(L, i + 1)) number[i] = node_integer(lua_tointeger(L, i + 1));
    else number[i] = node_number(lua_tonumber(L, i + 1));
  }
  return apply(&S->G, op, n, in);
}

INLINE int map(lua_State *L, int op, int n) {
  state *S = get_state(L);
  node **box[3];
  if (lua_gettop(L) != n) lua_settop(L, n);
  while (!boxes(L, S, n, box)) settle(L, S, n, op_table[op].name);
  node **r = box_new(L, S);
  TRY(L, S, *r = elementwise(L, S, op, n, box));
  made(L, S, *r);
  return 1;
}

static int map1(lua_State *L, int op) { return map(L, op, 1); }
static int map2(lua_State *L, int op) { return map(L, op, 2); }
static int map3(lua_State *L, int op) { return map(L, op, 3); }

#define UNARY(name, ...)                                                                           \
  static int map_##name(lua_State *L) { return map1(L, OP_##name); }
#define BINARY(name, ...)                                                                          \
  static int map_##name(lua_State *L) { return map2(L, OP_##name); }
#define TERNARY(name, ...)                                                                         \
  static int map_##name(lua_State *L) { return map3(L, OP_##name); }
#include "ops.def"

static int gelu(lua_State *L) {
  static const char *const names[] = {"approximate", NULL};
  lua_settop(L, 2);
  check_options(L, 2, "gelu", names, false);
  bool by_tanh = false;
  if (!lua_isnil(L, 2)) {
    lua_getfield(L, 2, "approximate");
    const char *how = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    by_tanh = strcmp(how, "tanh") == 0;
    if (!by_tanh && strcmp(how, "none") != 0)
      refuse(L, "gelu: option approximate must be \"none\" or \"tanh\"");
  }
  return by_tanh ? map_gelu_tanh(L) : map_gelu(L);
}

static int with_number(lua_State *L, int op, double otherwise) {
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushnumber(L, otherwise);
    lua_replace(L, 2);
  }
  return map2(L, op);
}
static int leaky_relu(lua_State *L) { return with_number(L, OP_leaky_relu, 0.01); }
static int elu(lua_State *L) { return with_number(L, OP_elu, 1); }

/* A bound that is missing is infinite, or the last integer where all is integer. */
static int clamp(lua_State *L) {
  static const char *const names[] = {"min", "max", NULL};
  lua_settop(L, 2);
  check_options(L, 2, "clamp", names, false);
  if (lua_isnil(L, 2)) refuse(L, "clamp: needs options min, max or both");
  bool min = lua_getfield(L, 2, "min") != LUA_TNIL, max = lua_getfield(L, 2, "max") != LUA_TNIL;
  if (!min && !max) refuse(L, "clamp: needs options min, max or both");
  lua_remove(L, 2);
  node *x = to_node(L, 1);
  bool fraction = !x || is_float(x->dtype);
  for (int i = 2; i <= 3; i++) {
    if (!lua_isnil(L, i) && lua_type(L, i) != LUA_TNUMBER)
      refuse(L, "clamp: option %s is a %s, expected a number", names[i - 2], kind_of(L, i));
    fraction |= lua_isnumber(L, i) && !lua_isinteger(L, i);
  }
  if (min && max) return map3(L, OP_clamp);
  if (fraction) lua_pushnumber(L, min ? INFINITY : -INFINITY);
  else lua_pushinteger(L, min ? INT64_MAX : INT64_MIN);
  lua_replace(L, min ? 3 : 2);
  return map3(L, OP_clamp);
}

/* ---- reductions ------------------------------------------------------------------------------ */

/* What (axis | {axis =, keepdims =}) says; options may also follow an axis. */
typedef struct {
  uint32_t axes;
  int axis, n;
  bool keepdims;
} along; /* n axes, axis the last of them */

static void add_axis(lua_State *L, const char *who, const shape *s, along *a) {
  a->axis = check_axis(L, -1, who, s);
  if (a->axes >> a->axis & 1) refuse(L, "%s: axis %d is given twice", who, a->axis + 1);
  a->axes |= 1u << a->axis;
  a->n++;
}

static along check_along(lua_State *L, const char *who, const shape *s) {
  static const char *const names[] = {"axis", "keepdims", NULL};
  along a = {0};
  lua_settop(L, 3);
  int opts = lua_type(L, 2) == LUA_TTABLE ? 2 : 3;
  check_options(L, opts, who, names, false);
  a.keepdims = option_bool(L, opts, who, "keepdims", false);
  if (opts == 3) lua_pushvalue(L, 2);
  else lua_getfield(L, 2, "axis");
  if (lua_type(L, -1) == LUA_TTABLE) {
    int n = (int)lua_rawlen(L, -1);
    if (n == 0) refuse(L, "%s: the table of axes is empty", who);
    for (int i = 1; i <= n; i++, lua_pop(L, 1)) {
      lua_rawgeti(L, -1, i);
      add_axis(L, who, s, &a);
    }
  } else if (!lua_isnil(L, -1)) add_axis(L, who, s, &a);
  else a.axes = (1u << s->n) - 1;
  lua_settop(L, 1);
  return a;
}

/* Argument 1 of an op that takes a Variable; tables and numbers become constants in its place. */
static node *check_operand(lua_State *L, state *S, int i, const char *who) {
  int type = lua_type(L, i);
  if (type == LUA_TNUMBER || type == LUA_TTABLE || type == LUA_TBOOLEAN) {
    push_values(L, S, i, who, -1);
    lua_replace(L, i);
  }
  return check_node(L, i, who);
}

static shape shape_at(lua_State *L, state *S, int i, const char *who) {
  shape s;
  node_shape(check_operand(L, S, i, who), &s);
  return s;
}

/* An extreme needs something to choose from, unless there is no choice to make. */
static void check_some(lua_State *L, const char *who, int op, const shape *s, unsigned axes) {
  int64_t n = 1, kept = 1;
  char text[128];
  if (op != OP_max && op != OP_min && op != OP_argmax && op != OP_argmin) return;
  for (int i = 0; i < s->n; i++) *(axes >> i & 1 ? &n : &kept) *= s->d[i];
  if (n == 0 && kept > 0)
    refuse(L, "%s: nothing to choose from in shape %s", who, shape_text(s, text));
}

static int reduce(lua_State *L, int op, const char *who) {
  state *S = get_state(L);
  lua_settop(L, 3);
  shape s = shape_at(L, S, 1, who);
  along a = check_along(L, who, &s);
  check_some(L, who, op, &s, a.axes);
  node **r = box_new(L, S);
  TRY(L, S, *r = op_reduce(&S->G, op, node_at(L, 1), a.axes, a.keepdims));
  made(L, S, *r);
  return 1;
}

#define REDUCE(name, ...)                                                                          \
  static int reduce_##name(lua_State *L) { return reduce(L, OP_##name, #name); }
#include "ops.def"

static int amax(lua_State *L) { return reduce(L, OP_max, "amax"); }
static int amin(lua_State *L) { return reduce(L, OP_min, "amin"); }

/* Values and indices along one axis: values are gathered, so the gradient goes to the first of
** equals. */
static int extreme(lua_State *L, int op, int arg) {
  state *S = get_state(L);
  graph *G = &S->G;
  const char *who = op_table[op].name;
  lua_settop(L, 3);
  shape s = shape_at(L, S, 1, who), kept = s;
  along a = check_along(L, who, &s);
  if (a.n != 1) { /* of all, or of several axes together: there is no one index */
    check_some(L, who, op, &s, a.axes);
    node **r = box_new(L, S);
    TRY(L, S, *r = op_reduce(G, op, node_at(L, 1), a.axes, a.keepdims));
    made(L, S, *r);
    return 1;
  }
  if (s.d[a.axis] == 0) refuse(L, "%s: axis %d has no elements", who, a.axis + 1);
  node **at = box_new(L, S), **index = box_new(L, S), **wide = box_new(L, S),
       **values = box_new(L, S);
  kept.d[a.axis] = 1;
  for (int i = a.axis; i < s.n - 1; i++) s.d[i] = s.d[i + 1];
  s.n--;
  if (a.keepdims) s = kept;
  TRY(L, S, *at = op_reduce(G, arg, node_at(L, 1), a.axes, true));
  TRY(L, S, *wide = op_gather(G, node_at(L, 1), a.axis, *at));
  TRY(L, S, *index = op_reshape(G, *at, &s));
  TRY(L, S, *values = op_reshape(G, *wide, &s));
  box_drop(S, at);
  box_drop(S, wide);
  made(L, S, *values);
  lua_pushvalue(L, -3);
  return 2;
}
static int extreme_max(lua_State *L) { return extreme(L, OP_max, OP_argmax); }
static int extreme_min(lua_State *L) { return extreme(L, OP_min, OP_argmin); }

/* ---- the others ------------------------------------------------------------------------------ */

/* The operands stand at base and after, lists among them: n in all. */
static int apply_other(lua_State *L, state *S, int op, int base, node **in, int n, const attrs *at,
                       node **out) {
  sig_nodes(L, base, in, n);
  return op_apply(&S->G, op, n, in, at->n, at->v, out);
}

static int other(lua_State *L, int op) {
  state *S = get_state(L);
  attrs at;
  int base = sig_operands(L, &at), top = lua_gettop(L), most = sig_results(L), n = 0, nout;
  for (int i = base; i <= top; i++) n += lua_type(L, i) == LUA_TTABLE ? (int)lua_rawlen(L, i) : 1;
  node *few[MAXIN], **in = few, **box[MAXOUT], *out[MAXOUT];
  if (n > MAXIN) in = lua_newuserdatauv(L, n * sizeof *in, 0);
  top = lua_gettop(L);
  for (int k = 0; k < most; k++) box[k] = box_new(L, S);
  TRY(L, S, nout = apply_other(L, S, op, base, in, n, &at, out));
  for (int k = 0; k < nout; k++) {
    *box[k] = out[k];
    made(L, S, out[k]);
  }
  lua_settop(L, top + nout);
  return nout;
}

#define OTHER(name, ...)                                                                           \
  static int other_##name(lua_State *L) { return other(L, OP_##name); }
#include "ops.def"

/* ---- by x[...] ------------------------------------------------------------------------------- */

static int slice(lua_State *L) { /* slice(x, ...): x[{...}] */
  int n = lua_gettop(L) - 1;
  check_node(L, 1, "slice");
  lua_createtable(L, n > 0 ? n : 0, 0);
  lua_insert(L, 2);
  for (int i = n; i >= 1; i--) lua_rawseti(L, 2, i);
  return variable_subscript(L);
}

static int flip(lua_State *L) {
  state *S = get_state(L);
  lua_settop(L, 2);
  shape s = shape_at(L, S, 1, "flip");
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  along a = {0};
  for (int i = 0; i < s.n; i++) step[i] = 1;
  if (lua_type(L, 2) == LUA_TTABLE) {
    for (int i = 1, n = (int)lua_rawlen(L, 2); i <= n; i++, lua_pop(L, 1)) {
      lua_rawgeti(L, 2, i);
      add_axis(L, "flip", &s, &a);
    }
  } else add_axis(L, "flip", &s, &a);
  for (int i = 0; i < s.n; i++)
    if (a.axes >> i & 1 && s.d[i] > 0) {
      first[i] = s.d[i] - 1;
      step[i] = -1;
    }
  node **r = box_new(L, S);
  TRY(L, S, *r = op_slice(&S->G, node_at(L, 1), &s, first, step));
  made(L, S, *r);
  return 1;
}

/* ---- the table ------------------------------------------------------------------------------- */

const lua_CFunction op_functions[NOP] = {
#define UNARY(name, ...) [OP_##name] = map_##name,
#define BINARY(name, ...) [OP_##name] = map_##name,
#define TERNARY(name, ...) [OP_##name] = map_##name,
#define REDUCE(name, ...) [OP_##name] = reduce_##name,
#define OTHER(name, ...) [OP_##name] = other_##name,
#include "ops.def"
};

/* These take the place of their rows' plain functions. */
const entry op_entries[] = {
    {"gelu", gelu, NULL, true},
    {"leaky_relu", leaky_relu, NULL, true},
    {"elu", elu, NULL, true},
    {"clamp", clamp, NULL, true},
    {"max", extreme_max, NULL, true},
    {"min", extreme_min, NULL, true},
    {"amax", amax,
     "amax(x [, axis | {axis =, keepdims =}])\nlargest element alone; equals share the gradient",
     true},
    {"amin", amin,
     "amin(x [, axis | {axis =, keepdims =}])\nsmallest element alone; equals share the gradient",
     true},
    {"slice", slice, "slice(x, ...)\nx[...] by numbers and ranges", true},
    {"flip", flip, "flip(x, axis | {axes})\nbackwards along the axes", true},
    {NULL, NULL, NULL, false}};
