/* box.c -- boxes: what Lua holds of nodes. Errors, what the two metatables have in common, properties.
** Arithmetic stands in ops.c, indices in subscript.c.
**
** A Variable's box has one handle on its node, a Function's box one ref. An empty box is one that
** was freed, or not filled yet. __gc, __close and free are one function. Two boxes of one node
** are equal.
*/
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "lua/binding.h"

/* ---- errors ---------------------------------------------------------------------------------- */

static bool is_own(const state *S, const char *source) {
  for (int k = 0; k < 2; k++)
    if (S->library[k] && strncmp(source, S->library[k], strlen(S->library[k])) == 0) return true;
  return false;
}

/* Pushes the nearest line of a script; the name of the last of the library's own functions on the way
** there that have signatures and are written in Lua: the one that the script called. */
static const char *push_place(lua_State *L) {
  state *S = get_state(L);
  const char *name = NULL;
  lua_Debug ar;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Slf", &ar);
    if (ar.currentline <= 0) { /* C */
      const char *checked = checked_name(L, -1);
      if (checked) name = checked;
    }
    lua_pop(L, 1);
    if (ar.currentline <= 0) continue;
    if (is_own(S, ar.source)) continue;
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    return name;
  }
  lua_pushliteral(L, "");
  return name;
}

void push_where(lua_State *L) { push_place(L); }

/* The modules whose calls are under way, from the innermost on, go to the function that module.lua has
** left; nothing of modules is known here but the function that calls them. */
static void push_path(lua_State *L) {
  enum { DEEP = 300, MOST = 40 };
  lua_Debug ar;
  int base = lua_gettop(L), n = 0;
  const char *name = NULL;
  if (!lua_checkstack(L, MOST + LUA_MINSTACK) ||
      lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.path") != LUA_TFUNCTION) {
    lua_settop(L, base);
    lua_pushliteral(L, "");
    return;
  }
  lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.call");
  lua_pushnil(L); /* the name of the outermost, in its caller's words */
  for (int level = 0; level < DEEP && n < MOST && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "f", &ar);
    bool is = lua_rawequal(L, -1, base + 2);
    lua_pop(L, 1);
    if (!is || !lua_getlocal(L, &ar, 1)) continue;
    n++;
    lua_getinfo(L, "n", &ar);
    name = ar.name;
  }
  if (name) {
    lua_pushstring(L, name);
    lua_replace(L, base + 3);
  }
  lua_remove(L, base + 2);
  if (n < 2 || lua_pcall(L, n + 1, 1, 0) != LUA_OK || lua_type(L, -1) != LUA_TSTRING) {
    lua_settop(L, base);
    lua_pushliteral(L, "");
  }
}

/* _path(call, path): what a module's call is; path(name, ...) gives the text. */
static int set_path(lua_State *L) {
  lua_settop(L, 2);
  lua_setfield(L, LUA_REGISTRYINDEX, "moongrad.path");
  lua_setfield(L, LUA_REGISTRYINDEX, "moongrad.call");
  return 0;
}

void raise_here(lua_State *L, const char *signature) {
  lua_checkstack(L, LUA_MINSTACK); /* errors come where the stack is full, too */
  int text = lua_gettop(L);
  const char *said = lua_tostring(L, text), *name = push_place(L);
  if (name) {
    size_t len = strlen(name);
    bool begins = strncmp(said, name, len) == 0 && !isalnum((unsigned char)said[len]);
    lua_pushfstring(L, begins && said[len] != '_' ? "" : "%s: ", name);
  } else lua_pushliteral(L, "");
  lua_pushvalue(L, text);
  push_path(L);
  lua_pushfstring(L, signature ? "\n  %s" : "", signature);
  lua_concat(L, 5);
  lua_error(L);
  __builtin_unreachable();
}

void refuse(lua_State *L, const char *fmt, ...) {
  char text[600];
  va_list ap;
  va_start(ap, fmt);
  vprint_text(text, sizeof text, fmt, ap);
  va_end(ap);
  lua_checkstack(L, LUA_MINSTACK);
  lua_pushstring(L, text);
  raise_here(L, NULL);
}

/* Says which argument it is, and of what, in the caller's words. What tables had may stand behind them. */
void refuse_freed(lua_State *L, node **b) {
  lua_Debug ar = {0};
  int top = lua_gettop(L), i = 1;
  if (lua_getstack(L, 0, &ar)) lua_getinfo(L, "n", &ar);
  while (i <= top && !lua_istable(L, i) && lua_touserdata(L, i) != b) i++;
  if (lua_touserdata(L, i) != b) i = 0;
  else if (ar.name && strcmp(ar.namewhat, "method") == 0) i--;
  bool meta = ar.name && strcmp(ar.namewhat, "metamethod") == 0;
  const char *op = meta ? NULL : push_signature_name(L);
  if (!op) op = ar.name;
  if (!op) refuse(L, "this Variable was freed");
  if (strcmp(op, "newindex") == 0) op = "index"; /* as all of subscript.c says */
  if (i == 0 || meta) refuse(L, "%s: this Variable was freed", op);
  refuse(L, "%s: argument %d: this Variable was freed", op, i);
}

void failed(lua_State *L, state *S, int tries) {
  ctx *c = &S->G.c;
  int err = c->err;
  char text[sizeof c->msg];
  memcpy(text, c->msg, sizeof text);
  c->err = OK;
  if (err == E_MEMORY && tries == 0) {
    if (can_collect(L)) lua_gc(L, LUA_GCCOLLECT);
    if (S->hostile) hostile(L, S);
    mem_trim();
    return;
  }
  refuse(L, "%s", err ? text : "a core function failed without a reason");
}

static node **creator_box(lua_State *L, int i) {
  return get_state(L)->meta ? luaL_testudata(L, i, "moongrad.Function") : NULL;
}

const char *push_number_text(lua_State *L, int i) {
  char text[40];
  lua_Number v = lua_tonumber(L, i);
  if (v != v) return lua_pushliteral(L, "nan"); /* a nan's sign is none */
  if (lua_isinteger(L, i)) print_text(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, i));
  else print_text(text, sizeof text, LUA_NUMBER_FMT, v);
  return lua_pushstring(L, text);
}

const char *check_no_nul(lua_State *L, int i, const char *who) {
  size_t len;
  const char *name = lua_tolstring(L, i, &len);
  if (strlen(name) < len) refuse(L, "%s: the name %s... has a NUL", who, name);
  return name;
}

const char *kind_of(lua_State *L, int i) {
  if (to_box(L, i)) return "Variable";
  if (creator_box(L, i)) return "Function";
  return lua_isnone(L, i) ? "nil" : luaL_typename(L, i);
}

/* ---- boxes ----------------------------------------------------------------------------------- */

node *check_node(lua_State *L, int i, const char *who) {
  node *n = to_node(L, i);
  if (!n) refuse(L, "%s: argument %d is a %s, expected a Variable", who, i, kind_of(L, i));
  return n;
}

void box_drop(state *S, node **b) {
  node *n = *b;
  *b = NULL;
  if (n) node_drop(&S->G, n);
}

static int variable_free(lua_State *L) {
  state *S = get_state(L);
  node **b = look(L, S, 1);
  if (!b && !S->meta) return 0; /* closed */
  if (!b) refuse(L, "free: argument 1 is a %s, expected a Variable", kind_of(L, 1));
  box_drop(S, b);
  return 0;
}

static int free_variable(lua_State *L) { return sig_check(L), variable_free(L); }

node **creator_new(lua_State *L) {
  node **b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = NULL;
  luaL_setmetatable(L, "moongrad.Function");
  state *S = get_state(L);
  if (S->hostile) hostile(L, S);
  return b;
}

node *check_creator(lua_State *L, int i, const char *who) {
  node **b = creator_box(L, i);
  if (!b) refuse(L, "%s: argument %d is a %s, expected a Function", who, i, kind_of(L, i));
  if (!*b) refuse(L, "%s: this Function was freed", who);
  return *b;
}

static int creator_free(lua_State *L) {
  node **b = creator_box(L, 1);
  if (b && *b) {
    node *f = *b;
    *b = NULL;
    node_unref(&get_state(L)->G, f);
  }
  return 0;
}

/* ---- properties ------------------------------------------------------------------------------ */

/* Numbers stand for them in the table of methods: one look tells which it is. */
enum { DATA = 1, GRAD, CREATOR, GENERATION, ID, NAME, REQUIRES_GRAD, SHAPE, NDIM, SIZE, DTYPE, T };
static const char *const properties[] = {
    "data",  "grad", "creator", "generation", "id", "name", "requires_grad",
    "shape", "ndim", "size",    "dtype",      "T",  NULL};

void push_properties(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; properties[i]; i++) {
    lua_pushinteger(L, i + 1);
    lua_setfield(L, -2, properties[i]);
  }
}

static shape shape_of(const node *n) {
  shape s;
  node_shape(n, &s);
  return s;
}

/* The Function that made y; NULL: none */
static node *maker(node *y) {
  if (y->op == OP_OUTPUT) y = y->in[0];
  return node_has_creator(y) ? y : NULL;
}

static node *transposed(graph *G, node *x) {
  shape s = shape_of(x);
  int perm[MAXDIM];
  for (int i = 0; i < s.n; i++) perm[i] = i < s.n - 2 ? i : 2 * s.n - 3 - i;
  return op_permute(G, x, perm);
}

static int get_property(lua_State *L, int which) {
  state *S = get_state(L);
  node *n = check_node(L, 1, "index"), **r;
  shape s;
  switch (which) {
    case DATA:
      r = box_new(L, S);
      TRY(L, S, *r = node_detach(&S->G, node_at(L, 1)));
      (*r)->flags |= FROZEN;
      made(L, S, *r);
      break;
    case GRAD:
      r = node_grad(&S->G, n) ? box_new(L, S) : NULL;
      if (r && (n = node_grad(&S->G, node_at(L, 1)))) *r = node_hold(n);
      else lua_pushnil(L);
      break;
    case CREATOR:
      r = maker(n) ? creator_new(L) : NULL;
      if (r && (n = maker(node_at(L, 1)))) *r = node_ref(n);
      else lua_pushnil(L);
      break;
    case GENERATION: lua_pushinteger(L, n->generation); break;
    case ID: lua_pushinteger(L, n->id * 2); break;
    case NAME: lua_pushstring(L, n->x ? n->x->name : NULL); break;
    case REQUIRES_GRAD:
      if (S->G.recorder) recorder_tracked(&S->G, n);
      lua_pushboolean(L, node_tracked(n));
      break;
    case SHAPE: push_shape(L, (s = shape_of(n), &s)); break;
    case NDIM: lua_pushinteger(L, shape_of(n).n); break;
    case SIZE: lua_pushinteger(L, (s = shape_of(n), shape_size(&s))); break;
    case DTYPE: lua_pushstring(L, dtype_name[n->dtype]); break;
    case T:
      if (shape_of(n).n < 2) return lua_pushvalue(L, 1), 1;
      r = box_new(L, S);
      TRY(L, S, *r = transposed(&S->G, node_at(L, 1)));
      made(L, S, *r);
      if (!node_has_creator(*r)) (*r)->flags |= PART;
      break;
  }
  return 1;
}

static int variable_index(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return variable_subscript(L);
  lua_pushvalue(L, 2);
  int type = lua_rawget(L, lua_upvalueindex(3));
  if (type == LUA_TFUNCTION) return 1;
  if (type == LUA_TNUMBER) return get_property(L, (int)lua_tointeger(L, -1));
  if (lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.unknown") == LUA_TFUNCTION) {
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    if (!lua_isnil(L, -1)) return 1;
  }
  refuse(L, "a Variable has no property or method \"%s\"", lua_tostring(L, 2));
}

/* _unknown(fn): where a Variable has no such property or method, fn(name) gives the method, or raises. */
static int set_unknown(lua_State *L) {
  lua_settop(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "moongrad.unknown");
  return 0;
}

static void same_shape(lua_State *L, const char *who, const node *x, const node *v) {
  shape a = shape_of(x), b = shape_of(v);
  char p[128], q[128];
  if (!shape_eq(&a, &b))
    refuse(L, "%s: a value of shape %s for a Variable of shape %s", who, shape_text(&b, q),
           shape_text(&a, p));
}

static char *copy_text(graph *G, const char *text) {
  size_t n = strlen(text) + 1;
  char *p = mg_alloc(&G->c, n);
  return p ? memcpy(p, text, n) : NULL;
}

bool node_set_name(graph *G, node *n, const char *name) {
  char *copy = name ? copy_text(G, name) : NULL;
  if (name && !copy) return false;
  extra *x = n->x || name ? node_extra(G, n) : NULL;
  if (x) {
    mg_free(x->name);
    x->name = copy;
  } else if (copy) {
    mg_free(copy);
    return false;
  }
  return true;
}

static bool set_gradient(graph *G, node *x, node *g) {
  for (node *n = g; n; n = n->grad) /* a ring would never be let go of */
    if (n == x)
      return fail(&G->c, "grad: this Variable itself, or one whose grad leads back to it");
  g = g->dtype == x->dtype ? node_hold(g) : op_to(G, g, x->dtype);
  if (g) node_set_grad(G, x, g);
  return g != NULL;
}

static void check_requires_grad(lua_State *L, const node *n, bool on) {
  if (node_has_creator(n)) refuse(L, "requires_grad: only of leaves; this Variable has a creator");
  if (on && !is_float(n->dtype))
    refuse(L, "requires_grad: gradients need floats, this is %s", dtype_name[n->dtype]);
}

static void set_requires_grad(state *S, node *n, bool on) {
  if (S->G.recorder) recorder_tracked(&S->G, n);
  n->flags = on ? n->flags | TRACKED : n->flags & ~TRACKED;
}

static void set_property(lua_State *L, state *S, int which) {
  node *n = check_node(L, 1, "newindex"), *v;
  switch (which) {
    case DATA:
      if (n->flags & FROZEN)
        refuse(L, "data: x.data is frozen: a value written into it would be lost");
      if ((n->flags & (PART | TRACKED)) == PART)
        refuse(L, "data: this is a copy that x[...] gave, or x.T: the value would be lost; write "
                  "x[...] = v, or take a clone");
      if (node_has_creator(n) && (n->op == OP_slice || n->op == OP_reshape || n->op == OP_permute))
        refuse(L, "data: this was made by %s of a Variable, which the value would not reach%s",
               op_table[n->op].name, n->op == OP_permute ? "" : "; write x[...] = v");
      push_values(L, S, 3, "data", n->dtype);
      same_shape(L, "data", node_at(L, 1), node_at(L, -1));
      TRY(L, S, (n = node_at(L, 1), v = node_at(L, -1), node_assign(&S->G, 1, &n, &v)));
      break;
    case GRAD:
      v = lua_isnil(L, 3) ? NULL : to_node(L, 3);
      if (!v && !lua_isnil(L, 3))
        refuse(L, "grad: a %s, expected nil or a Variable", kind_of(L, 3));
      if (!v) return node_set_grad(&S->G, n, NULL);
      same_shape(L, "grad", n, v);
      if (!is_float(n->dtype)) refuse(L, "grad: a Variable of %s has none", dtype_name[n->dtype]);
      TRY(L, S, set_gradient(&S->G, node_at(L, 1), node_at(L, 3)));
      break;
    case NAME:
      if (!lua_isnil(L, 3) && lua_type(L, 3) != LUA_TSTRING)
        refuse(L, "name: a %s, expected a string or nil", kind_of(L, 3));
      if (!lua_isnil(L, 3)) check_no_nul(L, 3, "name");
      TRY(L, S, node_set_name(&S->G, node_at(L, 1), lua_tostring(L, 3)));
      break;
    case REQUIRES_GRAD:
      if (!lua_isboolean(L, 3))
        refuse(L, "requires_grad: a %s, expected true or false", kind_of(L, 3));
      check_requires_grad(L, n, lua_toboolean(L, 3));
      set_requires_grad(S, n, lua_toboolean(L, 3));
      break;
    default: refuse(L, "property \"%s\" of a Variable cannot be assigned", lua_tostring(L, 2));
  }
}

static int variable_newindex(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return variable_set_subscript(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(3)) != LUA_TNUMBER)
    refuse(L, "a Variable has no property \"%s\"", lua_tostring(L, 2));
  set_property(L, get_state(L), (int)lua_tointeger(L, -1));
  return 0;
}

/* ---- the other metamethods ------------------------------------------------------------------- */

static int variable_eq(lua_State *L) {
  node **a = to_box(L, 1), **b = to_box(L, 2);
  lua_pushboolean(L, a && b && *a && *a == *b);
  return 1;
}

/* Numbers of size-1 Variables, compared as Lua compares them. */
static int compare(lua_State *L, const char *who, int op) {
  state *S = get_state(L);
  for (int i = 1; i <= 2; i++) {
    if (lua_type(L, i) == LUA_TNUMBER) {
      lua_pushvalue(L, i);
      continue;
    }
    node *n = check_node(L, i, who);
    shape s = shape_of(n);
    char text[128];
    imm v;
    if (shape_size(&s) != 1)
      refuse(L, "%s: compares Variables of size 1, not %s; mg.lt and its kin go by elements", who,
             shape_text(&s, text));
    dtype t = n->dtype;
    TRY(L, S, node_item(&S->G, node_at(L, i), &v));
    if (t == BOOL) lua_pushinteger(L, v.i);
    else push_imm(L, t, v);
  }
  lua_pushboolean(L, lua_compare(L, -2, -1, op));
  return 1;
}
static int variable_lt(lua_State *L) { return compare(L, "<", LUA_OPLT); }
static int variable_le(lua_State *L) { return compare(L, "<=", LUA_OPLE); }

static int variable_len(lua_State *L) {
  shape s = shape_of(check_node(L, 1, "#"));
  if (s.n == 0) refuse(L, "#: a 0-d Variable has no length");
  lua_pushinteger(L, s.d[0]);
  return 1;
}

/* ---- Functions, as y.creator ----------------------------------------------------------------- */

/* Output i of f, if anybody still holds it */
static node *output_at(node *f, int i) {
  node *y = !node_is_function(f) ? f : i < f->x->nout ? f->x->out[i].n : NULL;
  return y && y->handles ? y : NULL;
}

/* Of the Function at 1, as the two after */
static void push_outputs(lua_State *L, state *S) {
  node *f = node_at(L, 1), *y;
  int n = node_is_function(f) ? f->x->nout : 1;
  lua_newtable(L);
  for (int i = 0; i < n; i++) {
    node **b = box_new(L, S);
    if ((y = output_at(node_at(L, 1), i))) *b = node_hold(y), lua_rawseti(L, -2, i + 1);
    else lua_pop(L, 1);
  }
}

static node *input(graph *G, node *f, int i) {
  if (i < node_nin(f)) return node_input(G, f, i);
  return fail(&G->c, "index: this Function was unchained"), NULL;
}

/* Those that were given */
static void push_inputs(lua_State *L, state *S) {
  int n = node_nin(node_at(L, 1)), given = 0;
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    node **b = box_new(L, S);
    if (i < node_nin(node_at(L, 1)) && !node_has_input(node_at(L, 1), i)) {
      lua_pop(L, 1);
      continue;
    }
    TRY(L, S, *b = input(&S->G, node_at(L, 1), i));
    lua_rawseti(L, -2, ++given);
  }
}

static const char *name_of(const node *f) {
  const char *name = f->op == OP_FUNCTION ? f->x->name : f->op < NOP ? op_table[f->op].name : NULL;
  return name ? name : "Function"; /* one without: unchained since */
}

/* Appends to the text at `to` of so many bytes, as far as it goes. Gives the end. */
__attribute__((format(printf, 3, 4))) static char *add_text(char *to, const char *end,
                                                            const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(to, end - to, fmt, ap);
  va_end(ap);
  return n < end - to ? to + n : (char *)end - 1;
}

void push_origin(lua_State *L, const node *f) {
  char text[400], *p = text, *end = text + sizeof text - 1;
  extra *x = f->x;
  bool alone = node_is_function(f);
  p = add_text(p, end, " (%s", name_of(f));
  const char *before = " ";
  for (int i = 0, n = alone ? x->nout : 1; i < n; i++) {
    const node *y = alone ? x->out[i].n : f;
    if (!y || !y->x || !y->x->name) continue;
    p = add_text(p, end, "%s\"%s\"", before, y->x->name);
    before = ", ";
  }
  before = " of ";
  for (int i = 0, n = node_nin(f); i < n; i++) {
    const node *v = i < 2 ? f->in[i] : x->in[i - 2];
    if (!v || !v->x || !v->x->name) continue;
    p = add_text(p, end, "%s\"%s\"", before, v->x->name);
    before = ", ";
  }
  if (x && x->line) p = add_text(p, end, " made at %s", x->line);
  *p++ = ')', *p = 0;
  lua_pushstring(L, text);
}

static int creator_index(lua_State *L) {
  static const char *const names[] = {"name", "inputs", "outputs", "generation", "id", NULL};
  state *S = get_state(L);
  node *f = check_creator(L, 1, "index");
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : kind_of(L, 2);
  int which = 0;
  while (names[which] && strcmp(names[which], key) != 0) which++;
  switch (which) {
    case 0: lua_pushstring(L, name_of(f)); break;
    case 1: push_inputs(L, S); break;
    case 2: push_outputs(L, S); break;
    case 3: lua_pushinteger(L, f->generation - (f->op != OP_NONE)); break;
    case 4: lua_pushinteger(L, f->id * 2 + 1); break;
    default: refuse(L, "a Function has no property \"%s\"", key);
  }
  return 1;
}

static int creator_newindex(lua_State *L) {
  check_creator(L, 1, "newindex");
  refuse(L, "a recorded Function cannot be changed");
}

static int creator_eq(lua_State *L) {
  node **a = creator_box(L, 1), **b = creator_box(L, 2);
  lua_pushboolean(L, a && b && *a && *a == *b);
  return 1;
}

static int creator_tostring(lua_State *L) {
  lua_pushfstring(L, "function(%s)", name_of(check_creator(L, 1, "tostring")));
  return 1;
}

/* ---- methods --------------------------------------------------------------------------------- */

static int variable_cleargrad(lua_State *L) {
  sig_check(L);
  node_set_grad(&get_state(L)->G, check_node(L, 1, "cleargrad"), NULL);
  return 0;
}

/* _set_all({variables}, on): requires_grad of all, within one call: no interruption comes in between;
** without `on` all their grads become nil. */
static int set_all(lua_State *L) {
  state *S = get_state(L);
  lua_settop(L, 2);
  const bool track = lua_isboolean(L, 2), on = lua_toboolean(L, 2);
  for (int set = 0, n = (int)lua_rawlen(L, 1); set < 2; set++)
    for (int i = 1; i <= n; i++, lua_pop(L, 1)) {
      lua_rawgeti(L, 1, i);
      node **b = to_box(L, -1);
      if (!b || !*b) refuse(L, "parameter %d was freed", i);
      if (!set && track) check_requires_grad(L, *b, on);
      else if (set && track) set_requires_grad(S, *b, on);
      else if (set) node_set_grad(&S->G, *b, NULL);
    }
  return 0;
}

static int variable_unchain(lua_State *L) {
  sig_check(L);
  node_unchain(&get_state(L)->G, check_node(L, 1, "unchain"));
  return 0;
}

static int variable_unchain_backward(lua_State *L) {
  sig_check(L);
  state *S = get_state(L);
  check_node(L, 1, "unchain_backward");
  TRY(L, S, node_unchain_backward(&S->G, node_at(L, 1)));
  return 0;
}

static int variable_set_creator(lua_State *L) {
  sig_check(L);
  state *S = get_state(L);
  check_node(L, 1, "set_creator");
  check_creator(L, 2, "set_creator");
  TRY(L, S, node_set_creator(&S->G, node_at(L, 1), node_at(L, 2)));
  return 0;
}

static int copied(lua_State *L, const char *who, node *(*copy)(graph *, node *)) {
  state *S = get_state(L);
  sig_check(L);
  lua_settop(L, 1);
  check_node(L, 1, who);
  node **r = box_new(L, S);
  TRY(L, S, *r = copy(&S->G, node_at(L, 1)));
  made(L, S, *r);
  return 1;
}
static int variable_detach(lua_State *L) { return copied(L, "detach", node_detach); }
static int variable_clone(lua_State *L) { return copied(L, "clone", op_identity); }

static int variable_item(lua_State *L) {
  state *S = get_state(L);
  if (lua_gettop(L) != 1) sig_check(L);
  node *n = check_node(L, 1, "item");
  shape s = shape_of(n);
  char text[128];
  imm v;
  if (shape_size(&s) != 1)
    refuse(L, "item: shape %s has %lld elements, not one", shape_text(&s, text),
           (long long)shape_size(&s));
  dtype t = n->dtype;
  TRY(L, S, node_item(&S->G, node_at(L, 1), &v));
  push_imm(L, t, v);
  return 1;
}

static int is_variable(lua_State *L) {
  if (lua_gettop(L) != 1) sig_check(L);
  lua_pushboolean(L, to_box(L, 1) != NULL);
  return 1;
}

const luaL_Reg variable_meta[] = {{"__gc", variable_free},
                                  {"__close", variable_free},
                                  {"__index", variable_index},
                                  {"__newindex", variable_newindex},
                                  {"__eq", variable_eq},
                                  {"__lt", variable_lt},
                                  {"__le", variable_le},
                                  {"__len", variable_len},
                                  {"__pairs", variable_pairs},
                                  {"__concat", joined},
                                  {"__tostring", variable_tostring},
                                  {NULL, NULL}};

const luaL_Reg function_meta[] = {{"__gc", creator_free},           {"__index", creator_index},
                                  {"__newindex", creator_newindex}, {"__eq", creator_eq},
                                  {"__tostring", creator_tostring}, {NULL, NULL}};

const entry box_entries[] = {
    {"free", free_variable, "free(x: variable)\nlets go of x now; using it again is an error",
     true},
    {"item", variable_item, "item(x: variable) -> number\nthe number in a Variable of size 1",
     true},
    {"detach", variable_detach, "detach(x: variable)\nthe same values, untracked", true},
    {"clone", variable_clone, "clone(x: variable)\na new Variable; gradients flow back to x", true},
    {"cleargrad", variable_cleargrad, "cleargrad(x: variable)\nx.grad becomes nil", true},
    {"set_creator", variable_set_creator,
     "set_creator(x: variable, f: any)\nx becomes an output of Function f", true},
    {"unchain", variable_unchain, "unchain(x: variable)\nx forgets its creator", true},
    {"unchain_backward", variable_unchain_backward,
     "unchain_backward(x: variable)\nall Variables before x forget their creators", true},
    {"_set_all", set_all, NULL, false},
    {"_unknown", set_unknown, NULL, false},
    {"_path", set_path, NULL, false},
    {"is_variable", is_variable, "is_variable(x: any?) -> bool\ntrue if x is a Variable", false},
    {NULL, NULL, NULL, false}};
