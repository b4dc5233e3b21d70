/* subscript.c -- x[...] and x[...] = v.
**
** A number drops its axis, {} is all of an axis, {first, last [, step]} a part of it, both ends
** included; negative positions count from the end. An int64 Variable picks along axis 1, a bool
** one of x's shape picks elements, one along axis 1 rows. Writing changes the values of a leaf:
** in place where nobody else holds them, else in a copy that then becomes the leaf's own.
*/
#include <string.h>

#include "lua/binding.h"

typedef struct {
  shape s, kept; /* of the part: without the axes that numbers drop, and with them */
  int64_t first[MAXDIM], step[MAXDIM];
} part;

static _Noreturn void out_of_range(lua_State *L, int64_t i, int axis, const shape *s) {
  char text[128];
  refuse(L, "index: %lld is out of range for axis %d of shape %s", (long long)i, axis + 1,
         shape_text(s, text));
}

static int64_t position(lua_State *L, int64_t i, int axis, const shape *s) { /* 0-based */
  int64_t n = axis < s->n ? s->d[axis] : 0, k = i < 0 ? i + n : i - 1;
  if (k < 0 || k >= n) out_of_range(L, i, axis, s);
  return k;
}

/* The range in the table on top: how many positions from *first by *step. An empty one ends just
** before it begins, wherever that is. */
static int64_t range(lua_State *L, int axis, const shape *s, int64_t *first, int64_t *step) {
  int64_t v[3] = {0, 0, 1}, n = s->d[axis];
  int count = (int)lua_rawlen(L, -1);
  only_elements(L, -1, "index: expected {}, {first, last} or {first, last, step}");
  if (count == 0) return *first = 0, *step = 1, n;
  if (count == 1 || count > 3)
    refuse(L, "index: a table of %d at axis %d, expected {}, {first, last} or {first, last, step}",
           count, axis + 1);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, -1, i + 1);
    v[i] = check_whole(L, -1, "index", "a bound");
    lua_pop(L, 1);
  }
  if (v[2] == 0) refuse(L, "index: the step at axis %d is 0", axis + 1);
  int64_t a = v[0] < 0 ? v[0] + n + 1 : v[0], b = v[1] < 0 ? v[1] + n + 1 : v[1];
  if (a < 1 || a > n + 1) out_of_range(L, v[0], axis, s);
  if (b < 0 || b > n) out_of_range(L, v[1], axis, s);
  bool up = v[2] > 0;
  if (up ? b < a : b > a) return *step = 1, *first = 0;
  *step = v[2];
  *first = a - 1;
  if (a > n || b < 1) out_of_range(L, a > n ? v[0] : v[1], axis, s);
  uint64_t way = up ? b - a : a - b, by = up ? (uint64_t)v[2] : -(uint64_t)v[2];
  if (way < by) *step = 1; /* one position: any step will do, but for what it is multiplied with */
  return way / by + 1;
}

/* The number or table at i as a part of shape s. */
static void check_part(lua_State *L, int i, const shape *s, part *p) {
  bool table = lua_type(L, i) == LUA_TTABLE;
  int n = table ? (int)lua_rawlen(L, i) : 1;
  char text[128];
  if (table) only_elements(L, i, "index");
  if (n > s->n && (table || s->n == 0))
    refuse(L, "index: %d for shape %s, which has %d axes", n, shape_text(s, text), s->n);
  p->s.n = 0;
  p->kept = *s;
  for (int axis = 0; axis < s->n; axis++) {
    p->first[axis] = 0;
    p->step[axis] = 1;
    if (axis < n) {
      if (table) lua_rawgeti(L, i, axis + 1);
      else lua_pushvalue(L, i);
      if (lua_type(L, -1) == LUA_TTABLE)
        p->kept.d[axis] = range(L, axis, s, &p->first[axis], &p->step[axis]);
      else if (lua_type(L, -1) == LUA_TNUMBER) {
        p->first[axis] = position(L, check_whole(L, -1, "index", "a position"), axis, s);
        p->kept.d[axis] = 1;
        lua_pop(L, 1);
        continue;
      } else
        refuse(L, "index: a %s at axis %d, expected a number or a range", kind_of(L, -1), axis + 1);
      lua_pop(L, 1);
    }
    p->s.d[p->s.n++] = p->kept.d[axis];
  }
}

/* ---- picking by a Variable ------------------------------------------------------------------- */

/* An index or mask as a 1-d index into axis 1 of `view`, which is x or x made flat; `result`:
** the shape of what it picks. */
typedef struct {
  node *at;
  shape view, result;
} pick;

static bool make_pick(graph *G, const shape *s, node *key, pick *p) {
  shape k;
  char a[128], b[128];
  node_shape(key, &k);
  p->view = p->result = *s;
  if (key->dtype == I64) {
    int64_t size = shape_size(&k);
    if (s->n == 0 || k.n + s->n - 1 > MAXDIM)
      return fail(&G->c, "index: an index of shape %s for shape %s", shape_text(&k, a),
                  shape_text(s, b));
    p->result = k;
    for (int i = 1; i < s->n; i++) p->result.d[p->result.n++] = s->d[i];
    return (p->at = op_reshape(G, key, &(shape){1, {size}}));
  }
  if (key->dtype != BOOL)
    return fail(&G->c, "index: a Variable of %s, expected int64 or bool", dtype_name[key->dtype]);
  if (shape_eq(&k, s)) p->view = (shape){1, {shape_size(s)}};
  else if (k.n != 1 || s->n == 0 || k.d[0] != s->d[0])
    return fail(&G->c, "index: a bool index of shape %s does not fit shape %s", shape_text(&k, a),
                shape_text(s, b));
  node *flat = op_reshape(G, key, &(shape){1, {shape_size(&k)}});
  p->at = flat ? op_nonzero(G, flat) : NULL;
  node_drop(G, flat);
  if (!p->at) return false;
  shape found;
  node_shape(p->at, &found);
  p->result = p->view;
  p->result.d[0] = found.d[0];
  return true;
}

static node *picked(graph *G, node *x, const shape *s, node *key) {
  pick p;
  WORK(&G->c, OP_index_select);
  if (!make_pick(G, s, key, &p)) return NULL;
  node *view = shape_eq(&p.view, s) ? node_hold(x) : op_reshape(G, x, &p.view);
  node *rows = view ? op_index_select(G, view, 0, p.at) : NULL;
  shape got;
  node *r = NULL;
  if (rows)
    r = (node_shape(rows, &got), shape_eq(&got, &p.result)) ? node_hold(rows)
                                                            : op_reshape(G, rows, &p.result);
  node_drop(G, p.at);
  node_drop(G, view);
  node_drop(G, rows);
  return r;
}

static node *sliced(graph *G, node *x, const part *p) {
  node *wide = op_slice(G, x, &p->kept, p->first, p->step);
  if (!wide || p->s.n == p->kept.n) return wide;
  node *r = op_reshape(G, wide, &p->s);
  node_drop(G, wide);
  return r;
}

/* A 0-d int64 key is a number. */
static void unbox_key(lua_State *L, state *S) {
  node *key = to_node(L, 2);
  shape s;
  imm v;
  if (!key || key->dtype != I64 || (node_shape(key, &s), s.n > 0)) return;
  TRY(L, S, node_item(&S->G, node_at(L, 2), &v));
  lua_pushinteger(L, v.i);
  lua_replace(L, 2);
}

/* Does ipairs ask? It goes on until it gets nil. */
static bool from_ipairs(lua_State *L, const state *S) {
  lua_Debug ar;
  if (!S->ipairs || !lua_getstack(L, 1, &ar) || !lua_getinfo(L, "f", &ar)) return false;
  bool is = lua_tocfunction(L, -1) == S->ipairs;
  lua_pop(L, 1);
  return is;
}

/* The result on top is a Variable of its own. */
static int give_part(lua_State *L, node *r) {
  if (!node_has_creator(r) && r != node_at(L, 1)) r->flags |= PART;
  return 1;
}

int variable_subscript(lua_State *L) {
  state *S = get_state(L);
  node *x = check_node(L, 1, "index");
  shape s;
  node_shape(x, &s);
  if (s.n > 0 && lua_isinteger(L, 2) && lua_tointeger(L, 2) == s.d[0] + 1 && from_ipairs(L, S))
    return lua_pushnil(L), 1;
  unbox_key(L, S);
  int type = lua_type(L, 2);
  if (type == LUA_TNUMBER || type == LUA_TTABLE) {
    part p;
    check_part(L, 2, &s, &p);
    node **r = box_new(L, S);
    TRY(L, S, *r = sliced(&S->G, node_at(L, 1), &p));
    made(L, S, *r);
    return give_part(L, *r);
  }
  if (!to_box(L, 2))
    refuse(L, "index: a %s, expected a number, a table or a Variable", kind_of(L, 2));
  node **r = box_new(L, S);
  TRY(L, S, *r = picked(&S->G, node_at(L, 1), &s, node_at(L, 2)));
  made(L, S, *r);
  return give_part(L, *r);
}

/* (x, i): i + 1 and what stands there, or nothing */
static int step(lua_State *L) {
  shape s;
  node_shape(check_node(L, 1, "pairs"), &s);
  lua_Integer i = luaL_checkinteger(L, 2) + 1;
  if (i > s.d[0]) return 0;
  lua_settop(L, 1);
  lua_pushinteger(L, i);
  variable_subscript(L);
  lua_pushinteger(L, i);
  lua_insert(L, -2);
  return 2;
}

int variable_pairs(lua_State *L) {
  shape s;
  node_shape(check_node(L, 1, "pairs"), &s);
  if (s.n == 0) refuse(L, "pairs: a 0-d Variable has no elements to go along");
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushcclosure(L, step, 2);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  return 3;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* An array to write x's new values into: x's own where nobody else sees it, else a copy. A new
** reference, which `settle` takes. */
static array *writable(graph *G, node *x) {
  node_read(G, x);
  array *a = x->a;
  if (a && arr_sole(a, 1)) return arr_ref(a);
  if (!(a = node_as_array(G, x))) return NULL;
  array *copy = arr_copy(&G->c, a);
  arr_unref(a);
  return copy;
}

static bool settle(graph *G, node *x, array *a, bool ok) {
  if (ok && a != x->a) return node_set_value(G, x, a);
  arr_unref(a);
  return ok;
}

/* v, untracked and of x's dtype, as an array of shape s, seen as shape `as`. */
static array *spread(graph *G, node *v, const shape *s, const shape *as) {
  shape vs, both;
  char a[128], b[128];
  node_shape(v, &vs);
  if (!shape_broadcast(&vs, s, &both) || !shape_eq(&both, s))
    return fail(&G->c, "index: a value of shape %s does not fit shape %s", shape_text(&vs, a),
                shape_text(s, b)),
           NULL;
  node *wide = op_broadcast_to(G, v, s), *r = wide ? op_reshape(G, wide, as) : NULL;
  array *src = r ? node_as_array(G, r) : NULL;
  node_drop(G, wide);
  node_drop(G, r);
  return src;
}

static bool write_part(graph *G, node *x, const part *p, node *v) {
  array *src = spread(G, v, &p->s, &p->kept), *dst = src ? writable(G, x) : NULL;
  bool ok = dst && settle(G, x, dst, arr_set_slice(&G->c, dst, p->first, p->step, src));
  arr_unref(src);
  return ok;
}

/* dst, seen as n rows, gets the rows of src where index says; both dense. */
static bool write_rows(graph *G, array *dst, int64_t n, array *index, array *src) {
  int64_t bad = arr_check_index(&G->c, index, n);
  if (bad < 0) return false;
  const int64_t *at = arr_data(index);
  if (bad)
    return fail(&G->c, "index: %lld at position %lld of the index is not in 1..%lld",
                (long long)at[bad - 1], (long long)bad, (long long)n);
  return arr_put_rows(&G->c, dst, n, index, src);
}

static bool write_picked(graph *G, node *x, const shape *s, node *key, node *v) {
  pick p;
  if (!make_pick(G, s, key, &p)) return false;
  array *index = node_values(G, p.at);
  array *wide = index ? spread(G, v, &p.result, &p.result) : NULL;
  array *src = wide ? arr_contiguous(&G->c, wide) : NULL;
  arr_unref(wide);
  array *dst = src ? writable(G, x) : NULL;
  bool ok = dst && settle(G, x, dst, write_rows(G, dst, p.view.d[0], index, src));
  arr_unref(src);
  arr_unref(index);
  node_drop(G, p.at);
  return ok;
}

int variable_set_subscript(lua_State *L) {
  state *S = get_state(L);
  node *x = check_node(L, 1, "newindex");
  shape s;
  node_shape(x, &s);
  if (node_has_creator(x))
    refuse(L, "index: only a leaf can be written into; this Variable was made by %s",
           x->op < NOP ? op_table[x->op].name : "a Function");
  if (x->flags & FROZEN)
    refuse(L, "index: x.data is frozen: a value written into it would be lost");
  if (x->flags & PART)
    refuse(L, "index: this is a copy that x[...] gave: write x[{i, j}] = v, or into a clone");
  unbox_key(L, S);
  int type = lua_type(L, 2);
  part p;
  if (type == LUA_TNUMBER || type == LUA_TTABLE) check_part(L, 2, &s, &p);
  else if (!to_box(L, 2))
    refuse(L, "index: a %s, expected a number, a table or a Variable", kind_of(L, 2));
  bool picks = lua_type(L, 2) == LUA_TUSERDATA;
  node *v = *push_values(L, S, 3, "index", x->dtype);
  if (picks) TRY(L, S, write_picked(&S->G, node_at(L, 1), &s, node_at(L, 2), v));
  else TRY(L, S, write_part(&S->G, node_at(L, 1), &p, v));
  return 0;
}
