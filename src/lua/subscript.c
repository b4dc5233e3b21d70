/* subscript.c -- x[...] and x[...] = v.
**
** A key is a table of items, or one of them. A number drops its axis, {} is all of an axis, {first, last
** [, step]} a part of it, both ends included; negative positions count from the end; mg.newaxis puts an
** axis of length 1 in. An int64 Variable picks along its axis, a bool one along as many axes as it has,
** where it is true. Several of them are broadcast to each other and run together; what they pick stands
** where the first of them does, or in front if a range comes between them (a number beside them counts
** as one), as in NumPy. Writing changes the values of a leaf: in place where nobody else holds them,
** else in a copy that then becomes the leaf's own; of what is written twice the last stays.
*/
#include <string.h>

#include "lua/binding.h"

typedef struct {
  enum { AT, RANGE, NEW, PICK } kind;
  int axis, axes;         /* of x: the first, how many */
  int64_t first, step, n; /* AT, RANGE: counted from 0; RANGE: how many */
  int box;                /* PICK: where its Variable stands on the stack */
  node *at;               /* ... and its positions, its axes being one */
} item;

/* All axes of x are some item's. */
typedef struct {
  shape s; /* of x */
  int n, picks;
  item e[2 * MAXDIM];
} key;

/* Its address is mg.newaxis. */
static const char newaxis = 'n';
void push_newaxis(lua_State *L) { lua_pushlightuserdata(L, (void *)&newaxis); }

/* ---- reading a key --------------------------------------------------------------------------- */

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

static int64_t dim_of(const key *k, const item *e) {
  int64_t n = 1;
  for (int i = 0; i < e->axes; i++) n *= k->s.d[e->axis + i];
  return n;
}

static bool is_whole(const key *k, const item *e) {
  return e->kind == RANGE && e->first == 0 && e->step == 1 && e->n == k->s.d[e->axis];
}

/* The Variable on top: a number, or what stays there to pick by. */
static void read_pick(lua_State *L, state *S, key *k, item *e) {
  const node *v = to_node(L, -1);
  shape s;
  imm i;
  char a[128], b[128];
  node_shape(v, &s);
  if (v->dtype == I64 && s.n == 0) {
    TRY(L, S, node_item(&S->G, node_at(L, lua_gettop(L)), &i));
    e->kind = AT;
    e->first = position(L, i.i, e->axis, &k->s);
    return;
  }
  if (v->dtype == BOOL) {
    bool fits = e->axis + s.n <= k->s.n;
    for (int q = 0; fits && q < s.n; q++) fits = s.d[q] == k->s.d[e->axis + q];
    if (!fits)
      refuse(L, "index: a bool index of shape %s does not fit shape %s", shape_text(&s, a),
             shape_text(&k->s, b));
    e->axes = s.n;
  } else if (v->dtype != I64)
    refuse(L, "index: a Variable of %s, expected int64 or bool", dtype_name[v->dtype]);
  e->kind = PICK;
  e->box = lua_gettop(L);
  k->picks++;
}

/* The value at i, one of `count`, as the next item, from `axis` on; gives how many axes it takes. A
** Variable to pick by is on top and stays there. */
static int read_item(lua_State *L, state *S, int i, key *k, int axis, int count) {
  item *e = &k->e[k->n];
  int type = lua_type(L, i);
  char text[128];
  if (k->n++ == 2 * MAXDIM) refuse(L, "index: %d in a table, there can be %d", count, 2 * MAXDIM);
  *e = (item){.kind = RANGE, .axis = axis, .axes = 1, .step = 1, .n = 1};
  if (type == LUA_TLIGHTUSERDATA && lua_touserdata(L, i) == &newaxis) {
    e->kind = NEW;
    return e->axes = 0;
  }
  bool variable = type == LUA_TUSERDATA && to_box(L, i);
  if (type != LUA_TNUMBER && type != LUA_TTABLE && !variable)
    refuse(L, "index: a %s at axis %d, expected a number, a range or a Variable", kind_of(L, i),
           axis + 1);
  if (axis >= k->s.n && !(variable && to_node(L, i)->dtype == BOOL))
    refuse(L, "index: %d for shape %s, which has %d axes", count, shape_text(&k->s, text), k->s.n);
  if (variable) read_pick(L, S, k, e);
  else if (type == LUA_TTABLE) e->n = range(L, axis, &k->s, &e->first, &e->step);
  else {
    e->kind = AT;
    e->first = position(L, check_whole(L, i, "index", "a position"), axis, &k->s);
  }
  return e->axes;
}

/* The key at i. Variables to pick by stay on the stack. */
static void read_key(lua_State *L, state *S, int i, const shape *s, key *k) {
  int n = 1, axis = 0, type = lua_type(L, i);
  k->s = *s;
  k->n = k->picks = 0;
  if (type == LUA_TTABLE) {
    n = (int)lua_rawlen(L, i);
    only_elements(L, i, "index");
    luaL_checkstack(L, 2 * MAXDIM + 8, NULL);
    for (int j = 1; j <= n; j++) {
      int picks = k->picks;
      lua_rawgeti(L, i, j);
      axis += read_item(L, S, -1, k, axis, n);
      if (k->picks == picks) lua_pop(L, 1);
    }
  } else if (type == LUA_TNUMBER) {
    axis = read_item(L, S, i, k, 0, 1);
  } else {
    if (lua_touserdata(L, i) != &newaxis && !to_box(L, i))
      refuse(L, "index: a %s, expected a number, a table or a Variable%s", kind_of(L, i),
             lua_isboolean(L, i) ? OF_EQUALS : "");
    lua_pushvalue(L, i);
    axis = read_item(L, S, -1, k, 0, 1);
  }
  for (; axis < s->n && k->n < 2 * MAXDIM; axis++)
    k->e[k->n++] = (item){.kind = RANGE, .axis = axis, .axes = 1, .step = 1, .n = s->d[axis]};
  int left = s->n;
  for (int j = 0; j < k->n; j++) left += k->e[j].kind == NEW ? 1 : 0;
  if (axis < s->n || left - k->picks > MAXDIM)
    refuse(L, "index: more than the %d axes there can be", MAXDIM);
}

/* What numbers and ranges leave of x; all of the axes that Variables pick along. */
typedef struct {
  shape s, kept; /* without the axes that numbers drop and with new ones; as x has them */
  int64_t first[MAXDIM], step[MAXDIM];
} part;

static part part_of(const key *k) {
  part p = {.kept = k->s};
  for (int j = 0; j < k->n; j++) {
    const item *e = &k->e[j];
    if (e->kind == NEW) p.s.d[p.s.n++] = 1;
    for (int axis = e->axis; axis < e->axis + e->axes; axis++) {
      bool picks = e->kind == PICK;
      p.first[axis] = picks ? 0 : e->first;
      p.step[axis] = picks ? 1 : e->step;
      if (!picks) p.kept.d[axis] = e->n;
      if (e->kind != AT) p.s.d[p.s.n++] = p.kept.d[axis];
    }
  }
  return p;
}

static node *sliced(graph *G, node *x, const part *p) {
  node *wide = op_slice(G, x, &p->kept, p->first, p->step);
  if (!wide || shape_eq(&p->s, &p->kept)) return wide;
  node *r = op_reshape(G, wide, &p->s);
  node_drop(G, wide);
  return r;
}

/* ---- picking by Variables -------------------------------------------------------------------- */

/* n of shape s; n is let go */
static node *as_shape(graph *G, node *n, const shape *s) {
  shape have;
  if (!n || (node_shape(n, &have), shape_eq(&have, s))) return n;
  node *r = op_reshape(G, n, s);
  node_drop(G, n);
  return r;
}

static node *made_flat(graph *G, node *n) {
  shape s;
  if (!n) return NULL;
  node_shape(n, &s);
  return as_shape(G, n, &(shape){1, {shape_size(&s)}});
}

/* The positions that v gives, all of them within its axis */
static node *positions(graph *G, const key *k, const item *e, node *v) {
  if (v->dtype == BOOL) {
    node *mask = made_flat(G, node_hold(v)), *at = mask ? op_nonzero(G, mask) : NULL;
    node_drop(G, mask);
    return at;
  }
  int64_t n = dim_of(k, e);
  array *a = node_dense(G, v);
  int64_t bad = a ? arr_check_index(&G->c, a, n) : -1;
  if (bad > 0)
    fail(&G->c, "index: %lld at position %lld of the index is not in 1..%lld",
         (long long)((const int64_t *)arr_data(a))[bad - 1], (long long)bad, (long long)n);
  arr_unref(a);
  return bad ? NULL : node_hold(v);
}

/* What a key picks has this shape; b is that of the picks together, which stand where item `first`
** does. */
typedef struct {
  shape b, result;
  int first;
  bool apart;
} layout;

static bool lay_out(graph *G, const key *k, layout *y) {
  int first = -1, last = -1, n = 0;
  int64_t d[4 * MAXDIM];
  char a[128], b[128];
  *y = (layout){.first = 0};
  for (int j = 0; j < k->n; j++) {
    shape s, both;
    if (k->e[j].kind == RANGE || k->e[j].kind == NEW) continue;
    if (first < 0) first = j;
    last = j;
    if (k->e[j].kind == AT) continue;
    node_shape(k->e[j].at, &s);
    if (!shape_broadcast(&y->b, &s, &both))
      return fail(&G->c, "index: indices of shapes %s and %s do not broadcast",
                  shape_text(&y->b, a), shape_text(&s, b));
    y->b = both;
  }
  for (int j = first; j < last; j++) y->apart |= k->e[j].kind == RANGE || k->e[j].kind == NEW;
  y->first = y->apart ? 0 : first;
  for (int j = 0; j < k->n; j++) {
    for (int i = 0; j == y->first && i < y->b.n; i++) d[n++] = y->b.d[i];
    if (k->e[j].kind == RANGE) d[n++] = k->e[j].n;
    if (k->e[j].kind == NEW) d[n++] = 1;
  }
  if (n > MAXDIM)
    return fail(&G->c, "index: an index of shape %s for shape %s gives more than %d axes",
                shape_text(&y->b, a), shape_text(&k->s, b), MAXDIM);
  y->result.n = n;
  memcpy(y->result.d, d, n * sizeof *d);
  return true;
}

/* a op b, or a op number; a is let go */
static node *with(graph *G, int op, node *a, node *b, int64_t number) {
  node k = node_integer(number);
  node *r = a ? apply(G, op, 2, (node *[]){a, b ? b : &k}) : NULL;
  node_drop(G, a);
  return r;
}

/* stride times positions counted from 0; at counts from 1, or from the end */
static node *offsets(graph *G, node *at, int64_t n, int64_t stride) {
  node *back = with(G, OP_lt, node_hold(at), NULL, 0);
  node *low = back ? with(G, OP_sub, node_hold(at), NULL, 1) : NULL;
  node *high = low ? with(G, OP_add, node_hold(at), NULL, n) : NULL;
  node *r = high ? apply(G, OP_where, 3, (node *[]){back, high, low}) : NULL;
  node_drop(G, back);
  node_drop(G, low);
  node_drop(G, high);
  return with(G, OP_mul, r, NULL, stride);
}

/* x is seen as so many rows, each of what is whole behind the last other item: which of them stand in
** the result, from 1 on or from the end, in its order, 1-d. */
static node *rows_of(graph *G, const key *k, const layout *y, int64_t *rows) {
  int end = k->n, terms = 0, picks_at = 0, axis = 0;
  while (k->e[end - 1].kind == NEW || is_whole(k, &k->e[end - 1])) end--;
  int64_t stride[2 * MAXDIM], base = 1;
  shape one = {.n = y->b.n}; /* of the result without what is whole, each axis of length 1 */
  *rows = 1;
  for (int j = end - 1; j >= 0; j--) {
    const item *e = &k->e[j];
    stride[j] = *rows;
    *rows *= dim_of(k, e);
    terms += e->kind == PICK || e->kind == RANGE;
    one.n += e->kind == RANGE || e->kind == NEW;
    if (e->kind == AT) base += e->first * stride[j];
  }
  for (int i = 0; i < one.n; i++) one.d[i] = 1;
  node *sum = NULL;
  for (int j = 0; j < end; j++) {
    const item *e = &k->e[j];
    node *term = NULL;
    shape s = one;
    if (j == y->first) picks_at = axis, axis += y->b.n;
    if (e->kind == NEW) axis++;
    if (e->kind == AT || e->kind == NEW) continue;
    if (e->kind == RANGE) {
      s.d[axis++] = e->n;
      const imm from = {.i = e->first * stride[j]}, by = {.i = e->step * stride[j]};
      term = node_array(G, arr_iota(&G->c, I64, e->n, from, by));
    } else if (terms == 1 && dim_of(k, e) == *rows) {
      return made_flat(G, node_hold(e->at));
    } else {
      shape own;
      node_shape(e->at, &own);
      memcpy(s.d + picks_at + y->b.n - own.n, own.d, own.n * sizeof *own.d);
      term = offsets(G, e->at, dim_of(k, e), stride[j]);
    }
    term = as_shape(G, term, &s);
    if (j == 0 || !sum) {
      if (!(sum = term)) return NULL;
      continue;
    }
    sum = term ? with(G, OP_add, sum, term, 0) : (node_drop(G, sum), NULL);
    node_drop(G, term);
    if (!sum) return NULL;
  }
  return made_flat(G, with(G, OP_add, sum, NULL, base));
}

/* One Variable picks along its axis of what the others leave. */
static node *by_one(graph *G, node *x, const key *k) {
  part p = part_of(k);
  shape seen = {0};
  int axis = 0;
  node *at = NULL;
  for (int j = 0; j < k->n; j++) {
    const item *e = &k->e[j];
    if (e->kind == PICK) axis = seen.n, at = made_flat(G, node_hold(e->at));
    if (e->kind == PICK) seen.d[seen.n++] = dim_of(k, e);
    if (e->kind == RANGE) seen.d[seen.n++] = e->n;
  }
  bool whole = shape_eq(&p.kept, &k->s);
  for (int i = 0; i < k->s.n; i++) whole = whole && p.first[i] == 0 && p.step[i] == 1;
  node *v = whole ? node_hold(x) : op_slice(G, x, &p.kept, p.first, p.step);
  v = as_shape(G, v, &seen);
  node *r = v && at ? op_index_select(G, v, axis, at) : NULL;
  node_drop(G, at);
  node_drop(G, v);
  return r;
}

/* Several, wherever they stand: rows of x */
static node *by_rows(graph *G, node *x, const key *k, const layout *y) {
  int64_t rows;
  node *at = rows_of(G, k, y, &rows), *r = NULL;
  shape seen = {2, {rows, 1}};
  for (int j = k->n - 1; j >= 0 && (k->e[j].kind == NEW || is_whole(k, &k->e[j])); j--)
    if (k->e[j].kind == RANGE) seen.d[1] *= k->e[j].n;
  node *v = at ? op_reshape(G, x, &seen) : NULL;
  if (v) r = op_index_select(G, v, 0, at);
  node_drop(G, at);
  node_drop(G, v);
  return r;
}

/* The Variables of the picks are taken from the stack; drop_picks lets go, whatever came of it. */
static bool with_picks(lua_State *L, graph *G, key *k, layout *y) {
  node *v[2 * MAXDIM];
  for (int j = 0; j < k->n; j++)
    if (k->e[j].kind == PICK) v[j] = node_at(L, k->e[j].box), k->e[j].at = NULL;
  for (int j = 0; j < k->n; j++)
    if (k->e[j].kind == PICK && !(k->e[j].at = positions(G, k, &k->e[j], v[j]))) return false;
  return lay_out(G, k, y);
}

static void drop_picks(graph *G, key *k) {
  for (int j = 0; j < k->n; j++)
    if (k->e[j].kind == PICK) node_drop(G, k->e[j].at);
}

static node *picked(lua_State *L, graph *G, key *k) {
  layout y;
  node *x = node_at(L, 1), *r = NULL;
  WORK(&G->c, OP_index_select);
  if (with_picks(L, G, k, &y)) {
    r = k->picks == 1 && !y.apart ? by_one(G, x, k) : by_rows(G, x, k, &y);
    r = as_shape(G, r, &y.result);
  }
  drop_picks(G, k);
  return r;
}

/* ---- for Lua --------------------------------------------------------------------------------- */

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
  key k;
  node_shape(x, &s);
  if (s.n > 0 && lua_isinteger(L, 2) && lua_tointeger(L, 2) == s.d[0] + 1 && from_ipairs(L, S))
    return lua_pushnil(L), 1;
  read_key(L, S, 2, &s, &k);
  node **r = box_new(L, S);
  if (k.picks) TRY(L, S, *r = picked(L, &S->G, &k));
  else {
    part p = part_of(&k);
    TRY(L, S, *r = sliced(&S->G, node_at(L, 1), &p));
  }
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

static bool write_picked(lua_State *L, graph *G, key *k, node *v) {
  layout y;
  int64_t rows = 0;
  node *x = node_at(L, 1), *at = NULL;
  if (with_picks(L, G, k, &y)) at = rows_of(G, k, &y, &rows);
  drop_picks(G, k);
  array *index = at ? node_dense(G, at) : NULL;
  array *wide = index ? spread(G, v, &y.result, &y.result) : NULL;
  array *src = wide ? arr_contiguous(&G->c, wide) : NULL;
  arr_unref(wide);
  array *dst = src ? writable(G, x) : NULL;
  bool ok = dst && settle(G, x, dst, arr_put_rows(&G->c, dst, rows, index, src));
  arr_unref(src);
  arr_unref(index);
  node_drop(G, at);
  return ok;
}

int variable_set_subscript(lua_State *L) {
  state *S = get_state(L);
  node *x = check_node(L, 1, "newindex");
  shape s;
  key k;
  node_shape(x, &s);
  if (node_has_creator(x))
    refuse(L, "index: only a leaf can be written into; this Variable was made by %s%s",
           x->op < NOP ? op_table[x->op].name : "a Function",
           x->op == OP_reshape || x->op == OP_slice ? ": of x[i][j] = v say x[{i, j}] = v" : "");
  if (x->flags & FROZEN)
    refuse(L, "index: x.data is frozen: a value written into it would be lost");
  if (x->flags & PART)
    refuse(L,
           "index: this is a copy that x[...] gave, or x.T: write x[{i, j}] = v, or into a clone");
  const node *value = to_node(L, 3);
  if (value && node_tracked(value) && S->G.backprop &&
      (node_has_creator(value) || value->flags & POINT))
    refuse(L, "index: what is written is not recorded, and this value would lose its gradient: "
              "write v.data, or make the array of its parts, by mg.stack, mg.cat or mg.where");
  read_key(L, S, 2, &s, &k);
  node *v = *push_values(L, S, 3, "index", x->dtype);
  part p = part_of(&k);
  if (k.picks) TRY(L, S, write_picked(L, &S->G, &k, v));
  else TRY(L, S, write_part(&S->G, node_at(L, 1), &p, v));
  return 0;
}
