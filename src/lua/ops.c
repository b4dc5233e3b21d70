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

/* Makes constants of booleans, which stand only beside masks. */
static void settle_booleans(lua_State *L, state *S, int n, int first, const char *who) {
  bool masks = false;
  for (int i = 1; i <= n; i++) {
    const node *x = to_node(L, i);
    masks |= x && x->dtype == BOOL;
  }
  if (!masks) refuse(L, "%s: argument %d is a boolean, expected a Variable" OF_EQUALS, who, first);
  for (int i = first; i <= n; i++)
    if (lua_isboolean(L, i)) {
      push_values(L, S, i, who, -1);
      lua_replace(L, i);
    }
}

/* Makes constants of tables and booleans, or of the first number where there are just numbers. */
static void settle(lua_State *L, state *S, int n, const char *who) {
  int numbers = 0, boolean = 0;
  sig_method(L);
  for (int i = 1; i <= n; i++) {
    int type = lua_type(L, i);
    if (type == LUA_TNUMBER) numbers++;
    else if (type == LUA_TBOOLEAN) boolean = boolean ? boolean : i;
    else if (type == LUA_TTABLE) {
      push_values(L, S, i, who, -1);
      lua_replace(L, i);
    } else check_node(L, i, who);
  }
  if (boolean) settle_booleans(L, S, n, boolean, who);
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
  if (lua_gettop(L) != n) sig_count(L, n);
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

/* What operators call: Lua hands the operand over twice. */
int unary_minus(lua_State *L) {
  lua_settop(L, 1);
  return map_neg(L);
}

/* & | ~ of masks. A number has bits, of which logical_and and the others know nothing. */
static int of_masks(lua_State *L, int n, const char *sign, lua_CFunction map) {
  lua_settop(L, n);
  for (int i = 1; i <= n; i++) {
    const node *x = to_node(L, i);
    if (x ? x->dtype != BOOL : !lua_isboolean(L, i))
      refuse(L, "%s: operand %d is %s %s, and %s is for bools", sign, i, x ? "of" : "a",
             x ? dtype_name[x->dtype] : luaL_typename(L, i), sign);
  }
  return map(L);
}
static int mask_and(lua_State *L) { return of_masks(L, 2, "&", map_logical_and); }
static int mask_or(lua_State *L) { return of_masks(L, 2, "|", map_logical_or); }
static int mask_xor(lua_State *L) { return of_masks(L, 2, "~", map_logical_xor); }
static int mask_not(lua_State *L) { return of_masks(L, 1, "~", map_logical_not); }

const luaL_Reg mask_meta[] = {{"__band", mask_and},
                              {"__bor", mask_or},
                              {"__bxor", mask_xor},
                              {"__bnot", mask_not},
                              {NULL, NULL}};

/* Of a path: a log that is written there (log.lua). */
static int logarithm(lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING) return map_log(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, "moongrad") != LUA_TTABLE) return lua_settop(L, 1), map_log(L);
  lua_getfield(L, -1, "_log");
  lua_insert(L, 1);
  lua_pop(L, 2);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

static int gelu(lua_State *L) {
  sig_values(L);
  bool by_tanh = strcmp(lua_tostring(L, 2), "tanh") == 0;
  lua_settop(L, 1);
  return by_tanh ? map_gelu_tanh(L) : map_gelu(L);
}

static int leaky_relu(lua_State *L) { return sig_values(L), map_leaky_relu(L); }
static int elu(lua_State *L) { return sig_values(L), map_elu(L); }

/* f of values on the stack, as the function that runs */
static void call(lua_State *L, lua_CFunction f, int a, int b, int c) {
  for (int i = 1; i <= 3; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushcclosure(L, f, 3);
  lua_pushvalue(L, a);
  lua_pushvalue(L, b);
  if (c) lua_pushvalue(L, c);
  lua_call(L, c ? 3 : 2, 1);
}

/* The op sees no nan in a bound. Where an array of bounds has one it is the result, as x's is. */
static int clamp_between(lua_State *L) {
  enum { X = 1, MIN, MAX, RESULT };
  for (int i = MIN; i <= MAX; i++) {
    if (lua_type(L, i) == LUA_TNUMBER || to_node(L, i)) continue;
    push_values(L, get_state(L), i, "clamp", -1);
    lua_replace(L, i);
  }
  call(L, map_clamp, X, MIN, MAX);
  for (int i = MIN; i <= MAX; i++) {
    node *bound = to_node(L, i);
    if (!bound || !is_float(bound->dtype)) continue;
    call(L, map_ne, i, i, 0);
    call(L, map_where, RESULT + 1, i, RESULT);
    lua_replace(L, RESULT);
    lua_settop(L, RESULT);
  }
  return 1;
}

/* A bound that is missing is infinite, or the last integer where all is integer. */
static int clamp(lua_State *L) {
  sig_values(L);
  bool min = !lua_isnil(L, 2), max = !lua_isnil(L, 3);
  if (!min && !max) refuse(L, "clamp: needs options min, max or both");
  if (min && max) return clamp_between(L);
  node *x = to_node(L, 1), *bound = to_node(L, min ? 2 : 3);
  bool fraction = is_float(x->dtype);
  fraction |= bound ? is_float(bound->dtype) : !lua_isinteger(L, min ? 2 : 3);
  if (fraction) lua_pushnumber(L, min ? INFINITY : -INFINITY);
  else lua_pushinteger(L, min ? INT64_MAX : INT64_MIN);
  lua_replace(L, min ? 3 : 2);
  return clamp_between(L);
}

/* ---- reductions ------------------------------------------------------------------------------ */

/* An extreme needs something to choose from, unless there is no choice to make. */
static void check_some(lua_State *L, const char *who, int op, const shape *s, unsigned axes) {
  int64_t n = 1, kept = 1;
  char text[128];
  if (op != OP_max && op != OP_min && op != OP_argmax && op != OP_argmin) return;
  for (int i = 0; i < s->n; i++) *(axes >> i & 1 ? &n : &kept) *= s->d[i];
  if (n == 0 && kept > 0)
    refuse(L, "%s: nothing to choose from in shape %s", who, shape_text(s, text));
}

/* What (x, axis, {keepdims}) says: x stands at base and has shape s. */
typedef struct {
  int base;
  shape s;
  uint32_t axes;
  bool given, keepdims; /* given: not just all axes */
} along;

static along read_along(lua_State *L) {
  attrs v;
  along a = {.base = sig_operands(L, &v)};
  node_shape(to_node(L, a.base), &a.s);
  a.given = v.v[0].i != INT64_MIN;
  a.axes = a.given ? (uint32_t)v.v[0].i : (1u << a.s.n) - 1;
  a.keepdims = v.n > 1 && v.v[1].i;
  return a;
}

static int reduced(lua_State *L, int op, const char *who, const along *a) {
  state *S = get_state(L);
  check_some(L, who, op, &a->s, a->axes);
  node **r = box_new(L, S);
  TRY(L, S, *r = op_reduce(&S->G, op, node_at(L, a->base), a->axes, a->keepdims));
  made(L, S, *r);
  return 1;
}

static int reduce(lua_State *L, int op, const char *who) {
  along a = read_along(L);
  return reduced(L, op, who, &a);
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
  along a = read_along(L);
  const char *who = op_table[op].name;
  if (!a.given || a.axes & (a.axes - 1)) return reduced(L, op, who, &a); /* there is no one index */
  if (a.axes == 0) return reduced(L, op, who, &a) + reduced(L, arg, who, &a);
  int axis = __builtin_ctz(a.axes);
  shape s = a.s;
  if (s.d[axis] == 0) refuse(L, "%s: axis %d has no elements", who, axis + 1);
  if (a.keepdims) s.d[axis] = 1;
  else {
    for (int i = axis; i < s.n - 1; i++) s.d[i] = s.d[i + 1];
    s.n--;
  }
  node **at = box_new(L, S), **index = box_new(L, S), **wide = box_new(L, S),
       **values = box_new(L, S);
  TRY(L, S, *at = op_reduce(G, arg, node_at(L, a.base), a.axes, true));
  TRY(L, S, *wide = op_gather(G, node_at(L, a.base), axis, *at));
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
  int n = sig_values(L) - 1;
  lua_createtable(L, n > 0 ? n : 0, 0);
  lua_insert(L, 2);
  for (int i = n; i >= 1; i--) lua_rawseti(L, 2, i);
  return variable_subscript(L);
}

static int flip(lua_State *L) {
  state *S = get_state(L);
  along a = read_along(L);
  int64_t first[MAXDIM] = {0}, step[MAXDIM];
  for (int i = 0; i < a.s.n; i++) {
    bool back = a.axes >> i & 1 && a.s.d[i] > 0;
    first[i] = back ? a.s.d[i] - 1 : 0;
    step[i] = back ? -1 : 1;
  }
  node **r = box_new(L, S);
  TRY(L, S, *r = op_slice(&S->G, node_at(L, a.base), &a.s, first, step));
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

/* These take the place of their rows' plain functions, or stand beside them. */
const entry reduce_entries[] = {{"max", extreme_max, NULL, true},
                                {"min", extreme_min, NULL, true},
                                {"amax", amax,
                                 "amax(x: array, axis: axes?, {keepdims: bool = false})\n"
                                 "largest element alone; equals share the gradient",
                                 true},
                                {"amin", amin,
                                 "amin(x: array, axis: axes?, {keepdims: bool = false})\n"
                                 "smallest element alone; equals share the gradient",
                                 true},
                                {NULL, NULL, NULL, false}};

const entry op_entries[] = {
    {"log", logarithm,
     "log(x: array)\nnatural logarithm; of a path (string): a log of a run's scalars, images, "
     "histograms and texts, log(path, {append})",
     true},
    {"gelu", gelu,
     "gelu(x: array, {approximate: \"none\" | \"tanh\" = \"none\"})\n"
     "x times the normal distribution function of x",
     true},
    {"leaky_relu", leaky_relu,
     "leaky_relu(x: array, slope: number(..) | array = 0.01)\n"
     "x where positive, slope * x elsewhere",
     true},
    {"elu", elu,
     "elu(x: array, alpha: number(..) | array = 1)\n"
     "x where positive, alpha * (exp(x) - 1) elsewhere",
     true},
    {"clamp", clamp,
     "clamp(x: array, {min: number(-inf..inf) | array, max: number(-inf..inf) | array})\n"
     "x kept within min..max, nan where one of the three is; gradient 1 inside and at the bounds",
     true},
    {"slice", slice, "slice(x: array, ...)\nx[...]: by numbers, ranges, Variables", true},
    {"flip", flip, "flip(x: array, axis: axes)\nbackwards along the axes", true},
    {NULL, NULL, NULL, false}};
