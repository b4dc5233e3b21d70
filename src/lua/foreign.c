/* foreign.c -- the table of moongrad.h: what C modules of their own may do with Variables.
**
** Their functions are closures like ours, with the state and the metatable of Variables as
** upvalues, so that what the rooms of the binding share works in them as well.
*/
#include <string.h>

#include "lua/binding.h"

_Static_assert((int)MOONGRAD_MAXDIM == MAXDIM, "shapes fit");
_Static_assert((int)MOONGRAD_FLOAT64 == F64 && (int)MOONGRAD_FLOAT32 == F32 &&
                   (int)MOONGRAD_INT64 == I64 && (int)MOONGRAD_UINT8 == U8 &&
                   (int)MOONGRAD_BOOL == BOOL,
               "the dtypes' numbers are known outside");

static void functions(lua_State *L, const luaL_Reg *list) {
  lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.state");
  luaL_getmetatable(L, "moongrad.Variable");
  luaL_setfuncs(L, list, 2);
}

static void *context(lua_State *L) { return &get_state(L)->G.c; }

static int raise(lua_State *L, const char *fmt, ...) {
  char text[600];
  va_list ap;
  va_start(ap, fmt);
  vprint_text(text, sizeof text, fmt, ap);
  va_end(ap);
  refuse(L, "%s", text);
}

/* ---- values ------------------------------------------------------------------------------------ */

static shape shape_of(const moongrad_values *v) {
  shape s = {.n = v->ndim};
  memcpy(s.d, v->shape, v->ndim * sizeof *s.d);
  return s;
}

static void count_values(lua_State *L, moongrad_values *v) {
  shape s;
  if (v->dtype < 0 || v->dtype >= NDTYPE || v->ndim < 0 || v->ndim > MAXDIM)
    refuse(L, "no values have dtype %d and %d axes", v->dtype, v->ndim);
  s = shape_of(v);
  v->n = shape_size(&s);
  if (v->n < 0) refuse(L, "no values have so large a shape");
  v->bytes = v->n * dtype_size[v->dtype];
}

static void borrow(lua_State *L, int i, const char *who, moongrad_values *v) {
  values of;
  shape s;
  push_bytes(L, i, who, &of);
  node_shape(node_at(L, -1), &s);
  *v = (moongrad_values){.dtype = of.t, .ndim = s.n, .p = (void *)of.p};
  memcpy(v->shape, s.d, s.n * sizeof *s.d);
  count_values(L, v);
  if (of.p != (char *)&of.one) return;
  memcpy(&v->one, &of.one, sizeof v->one);
  v->p = &v->one;
}

static void create(lua_State *L, moongrad_values *v) {
  state *S = get_state(L);
  count_values(L, v);
  shape s = shape_of(v);
  node **r = box_new(L, S);
  v->p = &v->one;
  if (s.n == 0) return;
  TRY(L, S, *r = node_array(&S->G, arr_host(&S->G.c, v->dtype, &s)));
  v->p = arr_data((*r)->a);
}

static void created(lua_State *L, const moongrad_values *v) {
  state *S = get_state(L);
  node **r = lua_touserdata(L, -1);
  if (v->ndim == 0) TRY(L, S, *r = node_scalar(&S->G, v->dtype, imm_load(v->dtype, &v->one)));
  made(L, S, *r);
}

static node *wrapped(graph *G, const moongrad_values *v, void (*release)(void *p, void *arg),
                     void *arg) {
  ctx *c = &G->c;
  shape s = shape_of(v);
  buffer *b = buf_wrap(c, v->p, v->bytes, release, arg);
  if (b) b->refs++; /* till there is a node: where there is none, p is still the caller's */
  node *n = node_array(G, arr_of_buffer(c, v->dtype, &s, b));
  if (n) buf_unref(b);
  else if (b) mg_free(b);
  return n;
}

static void wrap(lua_State *L, const moongrad_values *v, void (*release)(void *p, void *arg),
                 void *arg) {
  state *S = get_state(L);
  moongrad_values w = *v;
  count_values(L, &w);
  node **r = box_new(L, S);
  TRY(L, S, *r = wrapped(&S->G, &w, release, arg));
  made(L, S, *r);
}

/* ---- gradients over processes -------------------------------------------------------------------- */

typedef struct {
  watch *w;
  moongrad_reducer *r; /* until there is w */
} watching;

static int watch_gc(lua_State *L) {
  watching *x = luaL_checkudata(L, 1, "moongrad.watch");
  if (x->w) watch_free(x->w);
  if (x->r) x->r->drop(x->r);
  *x = (watching){NULL, NULL};
  return 0;
}

static watch *check_watch(lua_State *L) {
  watching *x = luaL_checkudata(L, 1, "moongrad.watch");
  if (!x->w) refuse(L, "these gradients are averaged no more");
  return x->w;
}

static int watch_len(lua_State *L) {
  lua_pushinteger(L, watch_buckets(check_watch(L)));
  return 1;
}

static int watch_done(lua_State *L) {
  int n;
  const int *order = watch_order(check_watch(L), &n);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, order[i] + 1);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

const luaL_Reg watch_meta[] = {{"__gc", watch_gc},   {"__close", watch_gc}, {"close", watch_gc},
                               {"__len", watch_len}, {"order", watch_done}, {NULL, NULL}};

static watch *watch_leaves(lua_State *L, state *S, int i, node **leaf, int n, const int *count,
                           int nbuckets, moongrad_reducer *r) {
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, i, k + 1);
    leaf[k] = to_node(L, -1);
    lua_pop(L, 1);
  }
  return watch_new(&S->G, n, leaf, nbuckets, count, r);
}

static void watch_list(lua_State *L, int i, moongrad_reducer *r) {
  state *S = get_state(L);
  watching *x = lua_newuserdatauv(L, sizeof *x, 0);
  *x = (watching){NULL, r};
  luaL_setmetatable(L, "moongrad.watch");
  int n = (int)lua_rawlen(L, i), buckets = (int)lua_rawlen(L, i + 1);
  int *count = lua_newuserdatauv(L, (buckets + 1) * sizeof *count, 0);
  node **leaf = lua_newuserdatauv(L, (n + 1) * sizeof *leaf, 0);
  for (int k = 0; k < buckets; k++) {
    lua_rawgeti(L, i + 1, k + 1);
    count[k] = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, i, k + 1);
    check_node(L, -1, "watch");
    lua_pop(L, 1);
  }
  TRY(L, S, x->w = watch_leaves(L, S, i, leaf, n, count, buckets, r));
  x->r = NULL;
  lua_pop(L, 2);
}

/* ---- the table ----------------------------------------------------------------------------------- */

static const moongrad api = {.version = MOONGRAD_VERSION,
                             .functions = functions,
                             .context = context,
                             .raise = raise,
                             .where = push_where,
                             .borrow = borrow,
                             .create = create,
                             .created = created,
                             .wrap = wrap,
                             .watch = watch_list};

void publish(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&api);
  lua_setfield(L, LUA_REGISTRYINDEX, MOONGRAD_KEY);
}
