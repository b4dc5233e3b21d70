/* assign.c -- several things change together, or none does.
**
** What can fail comes first: new values are computed, all in one evaluation. What is left then moves
** pointers, within one call: no hook comes in between.
*/
#include <string.h>

#include "lua/binding.h"

/* On the stack of assign and _commit; the last two are our own lists. */
enum { TO = 1, FROM, FIELDS, TARGETS, VALUES };

/* ---- fields ---------------------------------------------------------------------------------- */

/* Pushes what stands in FIELDS from i on: a table or Variable, a key, a value. True for a Variable. */
static bool push_field(lua_State *L, int i) {
  for (int k = 0; k < 3; k++) lua_rawgeti(L, FIELDS, i + k);
  return to_box(L, -3);
}

/* Those of Variables are grads, of the right form; nothing here was freed. All others are those of tables, which
** objects hold in fields that anybody can write. */
static bool check_fields(lua_State *L, int n) {
  for (int i = 1; i <= n; i += 3, lua_pop(L, 3)) {
    if (!push_field(L, i)) {
      if (lua_istable(L, -3)) continue;
      refuse(L, "assign: there is a %s in place of a table of what is kept", kind_of(L, -3));
    }
    shape s, t;
    node *x = node_at(L, -3), *g = lua_isnil(L, -1) ? NULL : check_node(L, -1, "assign");
    if (!g) continue;
    node_shape(x, &s);
    node_shape(g, &t);
    if (!shape_eq(&s, &t) || x->dtype != g->dtype) refuse(L, "assign: a grad of another form");
  }
  return true;
}

/* make_room(nil, nil, fields, fresh, n): sets the keys that tables do not have yet, and notes which */
static int make_room(lua_State *L) {
  bool *fresh = lua_touserdata(L, FIELDS + 1);
  for (int i = 1, n = (int)lua_tointeger(L, FIELDS + 2); i <= n;
       i += 3, lua_settop(L, FIELDS + 2)) {
    if (push_field(L, i) || lua_isnil(L, -1)) continue;
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -4) != LUA_TNIL) continue;
    lua_pop(L, 2);
    lua_pushboolean(L, false);
    lua_rawset(L, -3);
    fresh[i / 3] = true;
  }
  return 0;
}

/* make_room, which may fail, stands with `fresh` above VALUES. The keys go again, but their places stay, until the
** collector comes: to set them takes no memory then. */
static bool have_room(lua_State *L, int n) {
  if (n == 0) return true;
  bool *fresh = lua_touserdata(L, VALUES + 2);
  lua_pushvalue(L, VALUES + 1);
  for (int i = 0; i < 2; i++) lua_pushnil(L);
  lua_pushvalue(L, FIELDS);
  lua_pushvalue(L, VALUES + 2);
  lua_pushinteger(L, n);
  int status = lua_pcall(L, FIELDS + 2, 0, 0);
  for (int i = 1; i <= n; i += 3) {
    if (!fresh[i / 3]) continue;
    fresh[i / 3] = false;
    push_field(L, i);
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  }
  if (status != LUA_OK) lua_error(L);
  return true;
}

static void set_fields(lua_State *L, state *S, int n) {
  for (int i = 1; i <= n; i += 3) {
    if (push_field(L, i)) {
      node *g = lua_isnil(L, -1) ? NULL : node_hold(node_at(L, -1));
      node_set_grad(&S->G, node_at(L, -3), g);
      lua_pop(L, 3);
    } else {
      lua_rawset(L, -3);
      lua_pop(L, 1);
    }
  }
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Boxes 1..n of our own list into an array */
static node **fetch(lua_State *L, int list, int n, node **out) {
  for (int i = 0; i < n; i++, lua_pop(L, 1)) {
    lua_rawgeti(L, list, i + 1);
    out[i] = node_at(L, -1);
  }
  return out;
}

static bool assign_all(lua_State *L, state *S, int n, node **nodes, int fields) {
  fetch(L, TARGETS, n, nodes);
  fetch(L, VALUES, n, nodes + n);
  return check_fields(L, fields) && have_room(L, fields) && node_assign(&S->G, n, nodes, nodes + n);
}

static int assign_and_set(lua_State *L, int fields) {
  state *S = get_state(L);
  for (int i = TO; i <= FROM; i++)
    if (lua_type(L, i) != LUA_TTABLE)
      refuse(L, "assign: argument %d is a %s, expected a table", i, kind_of(L, i));
  int n = (int)lua_rawlen(L, TO);
  if (n != (int)lua_rawlen(L, FROM))
    refuse(L, "assign: %d targets, but %d values", n, (int)lua_rawlen(L, FROM));
  lua_createtable(L, n, 0);
  lua_createtable(L, n, 0);
  if (fields) {
    for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
    lua_pushcclosure(L, make_room, 2);
    memset(lua_newuserdatauv(L, fields / 3 + 1, 0), 0, fields / 3 + 1);
  }
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, TO, i);
    node *x = to_node(L, -1);
    if (!x) refuse(L, "assign: target %d is a %s, expected a Variable", i, kind_of(L, -1));
    if (node_has_creator(x))
      refuse(L, "assign: target %d has a creator; only leaves can be given values", i);
    if (x->flags & FROZEN) refuse(L, "assign: target %d is frozen: the value would be lost", i);
    if ((x->flags & (PART | TRACKED)) == PART)
      refuse(L, "assign: target %d is a copy that x[...] gave, or x.T: the value would be lost", i);
    lua_rawseti(L, TARGETS, i);
    lua_rawgeti(L, FROM, i);
    if (!to_box(L, -1)) {
      push_values(L, S, -1, "assign", x->dtype);
      lua_replace(L, -2);
    }
    shape s, t;
    char a[128], b[128];
    lua_rawgeti(L, TARGETS, i);
    node_shape(to_node(L, -1), &s);
    node_shape(to_node(L, -2), &t);
    if (!shape_eq(&s, &t))
      refuse(L, "assign: target %d has shape %s, its value %s", i, shape_text(&s, a),
             shape_text(&t, b));
    lua_pop(L, 1);
    lua_rawseti(L, VALUES, i);
  }
  node **nodes = lua_newuserdatauv(L, (2 * n + 1) * sizeof *nodes, 0);
  TRY(L, S, assign_all(L, S, n, nodes, fields));
  set_fields(L, S, fields);
  return 0;
}

/* assign({targets}, {values}) */
static int assign(lua_State *L) {
  sig_check(L);
  for (int i = TO; i <= FROM; i++) only_elements(L, i, "assign");
  lua_settop(L, FIELDS);
  return assign_and_set(L, 0);
}

/* ---- undoing --------------------------------------------------------------------------------- */

typedef struct {
  guard g;
  bool begun; /* fn was called, has not returned, nor committed: what it did is to be undone */
  bool lent;  /* that is undone when it returns, too: values alone */
  uint64_t seed, counter;
  int n;
  struct {
    node *x, *grad;
    array *value; /* or NULL: it stays as it is */
  } kept[];
} keeper;

static void put_back(state *S, guard *g) {
  keeper *k = (keeper *)g;
  int n = k->n;
  g->end = NULL;
  k->n = 0;
  if (k->begun && !k->lent) {
    if (S->G.recorder) recorder_set_back(&S->G, k->counter);
    S->G.c.seed = k->seed, S->G.c.counter = k->counter;
  }
  for (int i = 0; i < n; i++) {
    if (!k->begun || k->lent) node_drop(&S->G, k->kept[i].grad);
    else node_set_grad(&S->G, k->kept[i].x, k->kept[i].grad);
    if (!k->begun) arr_unref(k->kept[i].value);
    else if (k->kept[i].value) node_set_value(&S->G, k->kept[i].x, k->kept[i].value);
    node_drop(&S->G, k->kept[i].x);
  }
}

static keeper *keeper_at(lua_State *L, int i) {
  guard *g = lua_touserdata(L, i);
  if (!g || !lua_getmetatable(L, i)) return NULL;
  const bool is = lua_topointer(L, -1) == get_state(L)->guard && g->end == put_back;
  lua_pop(L, 1);
  return is ? (keeper *)g : NULL;
}

/* _commit({targets}, {values}, {n =, table, key, value, ...} [, attempt]): assigns, and then sets fields: of
** tables raw, where they outlive calls of tidy, of a Variable its "grad". This ends an attempt: what comes
** after, an interruption say, undoes nothing any more. */
int commit(lua_State *L) {
  keeper *attempt = keeper_at(L, FIELDS + 1);
  lua_settop(L, FIELDS);
  luaL_checktype(L, FIELDS, LUA_TTABLE);
  lua_getfield(L, FIELDS, "n");
  int n = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  bool within = get_state(L)->tidy > 0;
  for (int i = 1; within && i <= n; i += 3, lua_pop(L, 3))
    if (!push_field(L, i)) tidy_outlive(L, -1);
  assign_and_set(L, n);
  if (attempt) attempt->begun = false;
  return 0;
}

/* run(keeper, fn, ...) */
static int run(lua_State *L) {
  keeper *k = lua_touserdata(L, 1);
  k->begun = true;
  lua_call(L, lua_gettop(L) - 2, LUA_MULTRET);
  k->begun = k->lent;
  return lua_gettop(L) - 1;
}

/* With a guard, which has nothing to end yet, for n of these */
static keeper *keeper_new(lua_State *L, const state *S, int n) {
  keeper *k = guard_new(L, sizeof *k + n * sizeof *k->kept);
  k->begun = k->lent = false;
  k->seed = S->G.c.seed;
  k->counter = S->G.c.counter;
  k->n = 0;
  k->g.end = put_back;
  return k;
}

/* The keeper on top; the function at 2, and its arguments behind */
static int call_kept(lua_State *L) {
  lua_pushcfunction(L, run);
  lua_insert(L, 2);
  lua_pushvalue(L, -1);
  lua_insert(L, 3);
  lua_replace(L, 1);
  call_guarded(L, lua_gettop(L) - 2);
  return lua_gettop(L) - 1;
}

static int attempt_with(lua_State *L, bool values, bool lent) {
  state *S = get_state(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  int n = (int)lua_rawlen(L, 1);
  for (int i = 1; i <= n; i++, lua_pop(L, 1)) {
    lua_rawgeti(L, 1, i);
    check_node(L, -1, "attempt");
  }
  keeper *k = keeper_new(L, S, n);
  k->lent = lent;
  for (int i = 1; i <= n; i++, lua_pop(L, 1)) {
    lua_rawgeti(L, 1, i);
    node *x = node_at(L, -1);
    k->kept[k->n].value = NULL;
    k->kept[k->n].grad = node_grad(&S->G, x) ? node_hold(x->grad) : NULL;
    k->kept[k->n++].x = node_hold(x);
    if (values) TRY(L, S, k->kept[k->n - 1].value = node_as_array(&S->G, node_at(L, -1)));
  }
  if (!lent) {
    lua_pushvalue(L, -1);
    lua_insert(L, 3);
  }
  return call_kept(L);
}

/* Upvalue 3 is fn of drawing(fn). */
static int drawn(lua_State *L) {
  lua_pushnil(L);
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_rotate(L, 1, 2);
  keeper_new(L, get_state(L), 0);
  return call_kept(L);
}

/* _drawing(fn): fn, which draws random numbers more than once, or does more when it has. If it fails, a second
** try draws the same. It cannot yield. */
static int drawing(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, drawn, 3);
  return 1;
}

/* _attempt({params}, fn, ...): fn(attempt, ...). If it fails before it commits with this attempt, their grads
** and the random stream are as before. */
int attempt_call(lua_State *L) { return attempt_with(L, false, false); }

/* _attempt_values: their values too, which are kept meanwhile. */
int attempt_values(lua_State *L) { return attempt_with(L, true, false); }

/* _lend({params}, fn, ...): fn(...), after which, however it ends, they have the values they had. */
int lend(lua_State *L) { return attempt_with(L, true, true); }

const entry assign_entries[] = {
    {"assign", assign,
     "assign(targets: table, values: table)\ngives leaves new values, all in one pass", false},
    {"_drawing", drawing, NULL, false},
    {NULL, NULL, NULL, false}};
