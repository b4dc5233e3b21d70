/* function.c -- Functions written in Lua, and checkpoints.
**
** A recorded call keeps `self` (a checkpoint: a userdata) in the registry until its graph is
** released; the node keeps what the inputs were, as other ops keep the operands their gradients
** read. In backward self.inputs are the very Variables, so that what is computed with them is
** differentiable again.
**
** What self keeps must not lead to the Function's own results, or only a backward lets go of both: the
** way there leads through Lua, where counts of nodes do not see it, and the way back through nodes,
** where Lua's collector does not. It cannot be told either: a box says nothing of what its node came
** from, so an ephemeron from box to self would have to be made for every box that follows from one, at
** every op; and without it only a walk through all of Lua's memory, as the collector's own, finds it.
*/
#include <string.h>

#include "lua/binding.h"

void function_release(graph *G, int ref) {
  lua_State *L = G->host; /* the main thread */
  if (lua_checkstack(L, 4)) luaL_unref(L, LUA_REGISTRYINDEX, ref);
}

static const char field = 0; /* the registry's key of the string "inputs", which is there then */

void function_failed(state *S, const node *f) {
  lua_State *L = S->G.host;
  if (f->op != OP_FUNCTION || !lua_checkstack(L, 4)) return;
  if (lua_rawgeti(L, LUA_REGISTRYINDEX, f->x->ref) == LUA_TTABLE) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &field);
    lua_pushnil(L);
    lua_rawset(L, -3);
  }
  lua_pop(L, 1);
}

/* ---- inputs as they were --------------------------------------------------------------------- */

static node *input_of(node *f, int i) { return i < 2 ? f->in[i] : f->x->in[i - 2]; }
static saved *saved_of(node *f, int i) { return i < 2 ? &f->sv[i] : &f->x->sv[i - 2]; }

static int saved_kind(const node *f, int i) {
  return (i < 2 ? f->kind >> 4 * i & 15 : f->x->kind[i - 2]) & ~FLOWS;
}

/* Is the value of input i what it was? */
static bool unchanged(node *f, int i) {
  node *x = input_of(f, i);
  saved *sv = saved_of(f, i);
  if (x->flags & DROPPED) return true; /* node_input brings it back */
  if (saved_kind(f, i) == SAVED_ARRAY) return x->a == sv->a;
  return !x->a && x->k.i == sv->k.i;
}

/* A self shows scripts what it keeps, and they may change it: there may be no such input. */
static node *input_then(graph *G, node *f, int i, bool create_graph) {
  if (i >= node_nin(f)) return fail(&G->c, "%s: it has no input %d", f->x->name, i + 1), NULL;
  node *x = input_of(f, i);
  if (f->flags & RELEASED)
    return fail(&G->c, "backward: this graph was released by an earlier backward"), NULL;
  if (unchanged(f, i)) return node_input(G, f, i);
  if (create_graph && node_tracked(x))
    return fail(&G->c, "%s: input %d was given a new value since; its old one is needed",
                f->x->name, i + 1),
           NULL;
  if (saved_kind(f, i) == SAVED_ARRAY) return node_array(G, arr_ref(saved_of(f, i)->a));
  return node_scalar(G, x->dtype, saved_of(f, i)->k);
}

/* ---- recording ------------------------------------------------------------------------------- */

/* The Variables among the stack's first..last, into `in`; their number. */
static int variables(lua_State *L, int first, int last, node **in) {
  int n = 0;
  for (int i = first; i <= last; i++) {
    node *x = to_node(L, i);
    if (x) in[n++] = x;
  }
  return n;
}

static node *record_call(lua_State *L, state *S, int first, int last, node **in, const char *name) {
  return function_new(&S->G, variables(L, first, last, in), in, name);
}

/* The results from `base` up become outputs of the Function in the box below them, whose object stands
** at `self`. The box goes. */
static void make_outputs(lua_State *L, state *S, int self, int base, const char *name) {
  int nout = lua_gettop(L) - base + 1;
  node **f = lua_touserdata(L, base - 1);
  luaL_checkstack(L, 6, NULL);
  if (S->G.debug) note_line(L, S, *f);
  lua_pushvalue(L, self);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  node_extra(&S->G, *f)->ref = ref;
  if (S->tidy && lua_istable(L, self)) tidy_self(L, self, ref);
  for (int i = 0; i < nout; i++) {
    check_node(L, base + i, name);
    node **r = box_new(L, S);
    TRY(L, S, *r = function_output(&S->G, *f, i, nout, node_at(L, base + i)));
    made(L, S, *r);
    lua_replace(L, base + i);
  }
  box_drop(S, f);
  lua_remove(L, base - 1);
}

static bool any_tracked(lua_State *L, int first, int last) {
  bool any = false;
  for (int i = first; i <= last; i++) {
    node *x = to_node(L, i);
    if (x) node_read(&get_state(L)->G, x);
    any |= x && node_tracked(x);
  }
  return any;
}

/* What forward gave, from base up: Variables all, numbers made constants. */
static void check_results(lua_State *L, state *S, int base, const char *name) {
  if (lua_gettop(L) < base) refuse(L, "%s: forward returned nothing", name);
  for (int i = base, n = lua_gettop(L); i <= n; i++) {
    if (lua_type(L, i) == LUA_TNUMBER) {
      push_values(L, S, i, name, -1);
      lua_replace(L, i);
    } else if (!to_node(L, i))
      refuse(L, "%s: result %d of forward is a %s, expected a Variable", name, i - base + 1,
             kind_of(L, i));
  }
}

/* ---- mg.Function ----------------------------------------------------------------------------- */

/* The name stays on the stack. */
static const char *push_name(lua_State *L, int i) {
  if (lua_getfield(L, i, "name") != LUA_TSTRING) {
    lua_pop(L, 1);
    lua_pushliteral(L, "Function");
  }
  return lua_tostring(L, -1);
}

static void push_method(lua_State *L, int self, const char *name, const char *method) {
  if (lua_getfield(L, self, method) != LUA_TFUNCTION)
    refuse(L, "%s: its %s is a %s, expected a function", name, method, kind_of(L, -1));
}

/* Numbers in a list, nested as deep as an array's may be: data, as for any op */
static bool is_data(lua_State *L, int i) {
  int top = lua_gettop(L), type = lua_type(L, i);
  lua_pushvalue(L, i);
  for (int depth = 0; type == LUA_TTABLE && depth < MAXDIM; depth++) {
    if (luaL_getmetafield(L, -1, "__index") != LUA_TNIL) break;
    type = lua_rawgeti(L, -1, 1);
    lua_replace(L, -2);
  }
  lua_settop(L, top);
  return lua_istable(L, i) && (type == LUA_TNUMBER || type == LUA_TBOOLEAN);
}

/* A Variable in a table would be used without being an input: its gradient would be lost. */
static void refuse_hidden(lua_State *L, int i, const char *name) {
  if (!lua_istable(L, i) || lua_getmetatable(L, i)) return;
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
    node **x = to_box(L, lua_gettop(L));
    if (x && *x && node_tracked(*x))
      refuse(L, "%s: argument %d is a table with a Variable in it: hand it over as an argument",
             name, i - 1);
  }
}

/* The arguments at 2..last: what is an array to ops becomes a Variable. A number stays one beside any. */
static void make_inputs(lua_State *L, state *S, int last, const char *name) {
  bool any = false;
  int top = lua_gettop(L);
  for (int i = 2; i <= last; i++) {
    if (is_data(L, i)) {
      push_values(L, S, i, name, -1);
      lua_replace(L, i);
    } else refuse_hidden(L, i, name);
    lua_settop(L, top);
    any |= to_node(L, i) != NULL;
  }
  for (int i = 2; i <= last && !any; i++)
    if (lua_type(L, i) == LUA_TNUMBER) {
      push_values(L, S, i, name, -1);
      lua_replace(L, i);
      any = true;
    }
}

/* Where a self keeps its arguments, if some are no Variables: those at their places, false for these */
static const char others = 0;

static void note_others(lua_State *L, int self, int n) {
  int found = 0;
  for (int i = 2; i <= n + 1; i++) found += to_node(L, i) != NULL;
  if (found == n) return;
  lua_createtable(L, n, 1);
  for (int i = 2; i <= n + 1; i++) {
    if (to_node(L, i)) lua_pushlightuserdata(L, (void *)&others);
    else lua_pushvalue(L, i);
    lua_rawseti(L, -2, i - 1);
  }
  lua_pushinteger(L, n);
  lua_setfield(L, -2, "n");
  lua_rawsetp(L, self, &others);
}

/* F(...): upvalue 3 is the metatable of selves. */
static int function_call(lua_State *L) {
  state *S = get_state(L);
  int n = lua_gettop(L) - 1, self = n + 3;
  luaL_checkstack(L, n + 12, "too many arguments");
  const char *name = push_name(L, 1);
  make_inputs(L, S, n + 1, name);
  lua_newtable(L);
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_setmetatable(L, self);
  note_others(L, self, n);
  push_method(L, self, name, "forward");
  lua_pushvalue(L, self);
  for (int i = 2; i <= n + 1; i++) {
    if (!to_node(L, i)) {
      lua_pushvalue(L, i);
      continue;
    }
    node **d = box_new(L, S);
    TRY(L, S, *d = node_detach(&S->G, node_at(L, i)));
  }
  call_in_modes(L, S, n + 1, &(modes){.what = M_BACKPROP, .backprop = false});
  check_results(L, S, self + 1, name);
  int top = lua_gettop(L);
  if (any_tracked(L, 2, n + 1) && S->G.backprop) {
    node **f = box_new(L, S);
    lua_insert(L, self + 1);
    node **in = lua_newuserdatauv(L, (n + 1) * sizeof *in, 0);
    TRY(L, S, *f = record_call(L, S, 2, n + 1, in, name));
    lua_pop(L, 1);
    make_outputs(L, S, self, self + 2, name);
  } else if (any_tracked(L, self + 1,
                         top)) /* a tracked Variable from elsewhere is its values here */
    for (int i = self + 1; i <= top; i++) {
      node **d = box_new(L, S);
      TRY(L, S, *d = node_detach(&S->G, node_at(L, i)));
      lua_replace(L, i);
    }
  return top - self;
}

static int class_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "name");
  lua_pushfstring(L, "Function(%s)", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");
  return 1;
}

static int function_define(lua_State *L) {
  sig_check(L);
  if (lua_type(L, 1) != LUA_TTABLE)
    refuse(L, "Function: a %s, expected a table {name =, forward =, backward =}", kind_of(L, 1));
  if (lua_getfield(L, 1, "name") == LUA_TSTRING) check_no_nul(L, -1, "Function");
  lua_getfield(L, 1,
               "forward"); /* what guards its fields refuses here: it gets another metatable */
  lua_settop(L, 1);
  lua_pushliteral(L, "inputs");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &field);
  lua_newtable(L); /* of F: a call, and whatever F inherited before */
  if (luaL_getmetafield(L, 1, "__index") != LUA_TNIL) lua_setfield(L, 2, "__index");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_newtable(L); /* of selves */
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcclosure(L, function_call, 3);
  lua_setfield(L, 2, "__call");
  lua_pushcfunction(L, class_tostring);
  lua_setfield(L, 2, "__tostring");
  lua_setmetatable(L, 1);
  return 1;
}

/* ---- its backward ---------------------------------------------------------------------------- */

/* Pushes where each argument of the call stands, or NULL: all are inputs. Their number. */
static int push_others(lua_State *L, node *f, int self) {
  if (lua_rawgetp(L, self, &others) != LUA_TTABLE) return node_nin(f);
  lua_getfield(L, -1, "n");
  int n = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return n;
}

/* Is the argument, by what push_others left on top, an input? */
static bool is_input(lua_State *L, int at, int argument) {
  if (!lua_istable(L, at)) return true;
  lua_rawgeti(L, at, argument);
  bool is = lua_touserdata(L, -1) == &others;
  lua_pop(L, 1);
  return is;
}

/* The arguments as they were */
static void push_inputs(lua_State *L, state *S, node *f, int self, bool create_graph) {
  int n = push_others(L, f, self), at = lua_gettop(L), next = 0;
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    if (is_input(L, at, i)) {
      node **b = box_new(L, S);
      TRY(L, S, *b = input_then(&S->G, f, next++, create_graph));
    } else lua_rawgeti(L, at, i);
    lua_rawseti(L, -2, i);
  }
  lua_remove(L, at);
}

/* The gradient that stands at i, as one for an input x: its shape, its dtype. */
static node *gradient_for(lua_State *L, state *S, int i, int input, node *x, const char *name) {
  char a[128], b[128];
  shape s, gs;
  node_shape(x, &s);
  if (lua_type(L, i) == LUA_TNUMBER) {
    imm k = {.f = lua_tonumber(L, i)};
    return node_array(&S->G, arr_const(&S->G.c, x->dtype, &s, imm_cast(k, F64, x->dtype)));
  }
  node *g = to_node(L, i);
  if (!g)
    refuse(L, "%s: backward gave a %s as gradient of input %d, expected a Variable", name,
           kind_of(L, i), input);
  node_shape(g, &gs);
  if (!shape_eq(&s, &gs))
    refuse(L, "%s: backward gave a gradient of shape %s for input %d of shape %s", name,
           shape_text(&gs, a), input, shape_text(&s, b));
  return op_to(&S->G, g, x->dtype);
}

/* The gradient of output i: a Variable of its own, so that writing into it changes nothing else. */
static node *incoming(graph *G, backward *b, int i, bool create_graph) {
  node *g = backward_gy(b, i);
  if (!g || create_graph) return g;
  node *own = node_detach(G, g);
  node_drop(G, g);
  return own;
}

/* self at the stack's `self`, its inputs' table above it. */
static void call_backward(lua_State *L, state *S, backward *b, node *f, int self,
                          bool create_graph) {
  int n = node_nin(f), inputs = self + 1, base = self + 2;
  const char *name = f->x->name;
  lua_pushliteral(L, "inputs");
  lua_rawget(L, self); /* of a backward around this one, through the same */
  lua_pushvalue(L, inputs);
  lua_setfield(L, self, "inputs");
  lua_replace(L, inputs);
  push_method(L, self, name, "backward");
  lua_pushvalue(L, self);
  luaL_checkstack(L, f->x->nout + n + 8, NULL);
  for (int i = 0; i < f->x->nout; i++) {
    node **gy = box_new(L, S);
    TRY(L, S, *gy = incoming(&S->G, b, i, create_graph));
  }
  call_in_modes(L, S, f->x->nout + 1, &(modes){.what = M_BACKPROP, .backprop = create_graph});
  lua_pushvalue(L, inputs);
  lua_setfield(L, self, "inputs");
  int given = lua_gettop(L) - base + 1, all = push_others(L, f, self), at = base + given;
  if ((given != n && given != all) || n != node_nin(f))
    refuse(L, "%s: backward gave %d gradient%s for %d input%s", name, given, given == 1 ? "" : "s",
           n, n == 1 ? "" : "s");
  for (int i = 0, place = 0; i < n; i++, place++) {
    while (given != n && place < all && !is_input(L, at, place + 1)) place++;
    node **g = box_new(L, S), *x = input_of(f, i);
    if (backward_wants(b, i)) {
      TRY(L, S, *g = gradient_for(L, S, base + place, place + 1, x, name));
      TRY(L, S, backward_accept(b, i, *g));
    }
    lua_pop(L, 1);
  }
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* What a checkpoint keeps, with three user values: the function, its arguments, and samples of what it gave.
** What it read is the Function's inputs, the arguments first. */
typedef struct {
  modes then;
  uint64_t since;  /* what the function makes is younger */
  int nargs, at[]; /* the input that an argument is, or -1: it is no Variable */
} checkpoint;

enum { REMEMBERED = M_RANDOM | M_TRAIN | M_DTYPE };

typedef struct {
  guard g;
  captures c;
} capture_guard;

static void forget(state *S, guard *g) { captures_end(&S->G, &((capture_guard *)g)->c); }
static void restore(state *S, guard *g) {
  g->end = NULL;
  captures_restore(&S->G, &((capture_guard *)g)->c);
  S->again--;
}

static capture_guard *capture_guard_new(lua_State *L, void (*end)(state *, guard *)) {
  capture_guard *g = guard_new(L, sizeof *g);
  g->c = (captures){0};
  g->g.end = end;
  return g;
}

static int note(state *S, captures *c, node *x) {
  node_read(&S->G, x);
  return captures_note(&S->G, c, x, x->a, x->k);
}

/* Is any of them tracked? What was read here was read by whoever called. */
static bool pass_on(state *S, captures *c) {
  bool any = false;
  if (S->G.captures) S->G.captures->derived |= c->derived;
  for (int i = 0; i < c->n; i++) {
    captured *v = &c->v[i];
    any |= node_tracked(v->n);
    if (S->G.captures) captures_note(&S->G, S->G.captures, v->n, v->a, v->k);
  }
  return any;
}

/* fn(...), which stand first on the stack; what is read of what was there before is noted. */
static void run_noted(lua_State *L, state *S, checkpoint *c, captures *read) {
  for (int i = 1; i <= c->nargs + 1; i++) lua_pushvalue(L, i);
  read->since = S->G.ids;
  for (int i = 0; i < c->nargs; i++) {
    node *x = to_node(L, i + 2);
    c->at[i] = x ? note(S, read, x) : -1;
  }
  call_in_modes(L, S, c->nargs,
                &(modes){.what = M_BACKPROP | M_CAPTURES, .backprop = false, .captures = read});
}

/* A sample of a result; not taken: nothing is known of it */
typedef struct {
  bool taken;
  sample of;
} given;

/* Of the results from base up, for the checkpoint at `self`. None is taken while mg.compile records, for want of
** values, nor of what is elementwise in what was read: that is mostly never stored, and this would take longer; nor
** where gradients were taken: recorded they have other bits, and a residual of them may be rounding alone. */
static void keep_samples(lua_State *L, state *S, int self, int base, const captures *read) {
  if (S->G.recorder || read->derived) return;
  int n = lua_gettop(L) - base + 1, m = 0;
  given *g = lua_newuserdatauv(L, n * sizeof *g, 0);
  node **y = lua_newuserdatauv(L, n * sizeof *y, 0);
  for (int i = 0; i < n; i++) {
    node *r = node_at(L, base + i);
    TRY(L, S, captures_computed(&S->G, read, r, &g[i].taken));
    g[i].taken &= is_float(r->dtype);
    if (g[i].taken) y[m++] = r;
  }
  TRY(L, S, node_eval(&S->G, m, y));
  for (int i = 0; i < n; i++)
    if (g[i].taken) TRY(L, S, captures_sample(&S->G, node_at(L, base + i), &g[i].of));
  lua_pop(L, 1);
  lua_setiuservalue(L, self, 3);
}

/* Where a layer is sized on the way, what it draws and keeps first is not to be made again with the rest:
** all else is undone, and done again. */
static int checkpoint_call(lua_State *L) {
  state *S = get_state(L);
  int n = lua_gettop(L) - 1;
  sig_check(L);
  if (!S->G.backprop) {
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
  }
  luaL_checkstack(L, n + 12, "too many arguments");
  int self = n + 2, base = n + 4;
  checkpoint *c = lua_newuserdatauv(L, sizeof *c + n * sizeof *c->at, 3);
  c->then = modes_now(S, REMEMBERED);
  c->since = S->G.ids;
  c->nargs = n;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, self, 1);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    if (to_node(L, i + 1)) lua_pushboolean(L, false); /* an input, which the Function holds */
    else lua_pushvalue(L, i + 1);
    lua_rawseti(L, -2, i);
  }
  lua_setiuservalue(L, self, 2);
  capture_guard *g = capture_guard_new(L, forget);
  lua_toclose(L, self + 1); /* what fails while Lua closes is not collected any more */
  while (run_noted(L, S, c, &g->c), g->c.grown && !g->c.failed) {
    S->G.c.counter = g->c.counter;
    if (S->G.recorder) recorder_skip(&S->G, c->then.random.counter);
    if (S->G.captures) captures_grow(&S->G, S->G.captures);
    captures_restore(&S->G, &g->c);
    lua_settop(L, base - 1);
    c->then = modes_now(S, REMEMBERED);
  }
  check_results(L, S, base, "checkpoint");
  for (int i = base; i <= lua_gettop(L); i++) note(S, &g->c, to_node(L, i));
  if (g->c.failed) {
    fail_memory(&S->G.c, g->c.n * sizeof *g->c.v);
    failed(L, S, 1);
  }
  if (pass_on(S, &g->c)) {
    keep_samples(L, S, self, base, &g->c);
    node **f = box_new(L, S);
    lua_insert(L, base);
    TRY(L, S, *f = checkpoint_new(&S->G, &g->c, "checkpoint"));
    make_outputs(L, S, self, base + 1, "checkpoint");
  }
  lua_closeslot(L, self + 1);
  return lua_gettop(L) - base + 1;
}

/* _foreseen(): may a backward come that follows what is computed now, for the first time? */
static int foreseen(lua_State *L) {
  const state *S = get_state(L);
  return lua_pushboolean(L, (S->G.backprop || S->G.captures) && !S->again), 1;
}

/* _unnoted(fn, ...): fn(...), of which a checkpoint around notes nothing: it is not done again */
static int unnoted(lua_State *L) {
  int n = lua_gettop(L) - 1;
  call_in_modes(L, get_state(L), n, &(modes){.what = M_CAPTURES, .captures = NULL});
  return lua_gettop(L);
}

/* _grown(): a layer has got its parameters */
static int grown(lua_State *L) {
  state *S = get_state(L);
  if (S->G.captures) captures_grow(&S->G, S->G.captures);
  return 0;
}

/* again(guard, Function, checkpoint, fn, ...): fn(...) in the modes of then, recorded, with what it read
** as that was */
static int again(lua_State *L) {
  state *S = get_state(L);
  capture_guard *g = lua_touserdata(L, 1);
  modes m = ((checkpoint *)lua_touserdata(L, 3))->then;
  m.what = REMEMBERED | M_BACKPROP;
  m.backprop = true;
  TRY(L, S, captures_recall(&S->G, lua_touserdata(L, 2), &g->c));
  call_in_modes(L, S, lua_gettop(L) - 4, &m);
  return lua_gettop(L) - 3;
}

static node *input_now(graph *G, node *f, int i) {
  if (i < node_nin(f)) return node_input(G, f, i);
  return fail(&G->c, "checkpoint: this Function was unchained"), NULL;
}

/* Are the ys, where they are to be differentiated, what the checkpoint at `self` gave? */
static void check_samples(lua_State *L, state *S, int self, int n, node **y) {
  if (lua_getiuservalue(L, self, 3) == LUA_TUSERDATA && !S->G.recorder) {
    const given *then = lua_touserdata(L, -1);
    for (int i = 0; i < n; i++) {
      sample now;
      if (!y[i] || !node_tracked(y[i]) || !then[i].taken) continue;
      shape s;
      node_shape(y[i], &s);
      TRY(L, S, captures_sample(&S->G, y[i], &now));
      if (!captures_like(y[i]->dtype, shape_size(&s), &then[i].of, &now))
        refuse(L,
               "checkpoint: run again in backward, the function gave another result %d than when "
               "it was called: what it captures is to stay the same",
               i + 1);
    }
  }
  lua_pop(L, 1);
}

/* Computes it again, recorded, with what it read as that was, and goes on through what that gives. */
static void recompute(lua_State *L, state *S, backward *b, node *f, int self) {
  checkpoint *c = lua_touserdata(L, self);
  int base = self + 2, nout = f->x->nout;
  luaL_checkstack(L, c->nargs + 14, NULL);
  capture_guard_new(L, restore);
  S->again++;
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushcclosure(L, again, 2);
  lua_pushvalue(L, self + 1);
  lua_pushlightuserdata(L, f);
  lua_pushvalue(L, self);
  lua_getiuservalue(L, self, 1);
  lua_getiuservalue(L, self, 2);
  int args = lua_gettop(L);
  for (int i = 0; i < c->nargs; i++) {
    if (c->at[i] < 0) lua_rawgeti(L, args, i + 1);
    else {
      node **x = box_new(L, S);
      TRY(L, S, *x = input_now(&S->G, f, c->at[i]));
    }
  }
  lua_remove(L, args);
  uint64_t since = S->G.ids;
  call_guarded(L, c->nargs + 4);
  if (lua_gettop(L) - base + 1 != nout)
    refuse(L, "checkpoint: the function gave %d results, but %d when it was run again", nout,
           lua_gettop(L) - base + 1);
  luaL_checkstack(L, nout + 8, "too many results");
  check_results(L, S, base, "checkpoint");
  node **y = lua_newuserdatauv(L, nout * sizeof *y, 0);
  for (int i = 0; i < nout; i++) {
    shape s;
    y[i] = to_node(L, base + i);
    if (node_shape(y[i], &s), !shape_eq(&s, &f->x->out[i].s))
      refuse(L, "checkpoint: result %d was another when the function was run again", i + 1);
    if (!is_float(y[i]->dtype)) y[i] = NULL;
    else node_at(L, base + i);
  }
  int missed;
  TRY(L, S, (missed = captures_missed(&S->G, f, c->since, since, nout, y)) >= 0);
  if (missed)
    refuse(L, "checkpoint: run again in backward, the function read other Variables than when it "
              "was called: what it captures is to stay the same");
  check_samples(L, S, self, nout, y);
  for (int i = 0; i < nout; i++) {
    if (!y[i]) continue;
    node **gy = box_new(L, S);
    TRY(L, S, *gy = backward_gy(b, i));
    TRY(L, S, backward_splice(b, y[i], *gy));
  }
}

void function_backward(lua_State *L, state *S, backward *b, node *f, bool create_graph) {
  int top = lua_gettop(L), self = top + 1;
  luaL_checkstack(L, 12, NULL);
  if (f->x->ref == 0) refuse(L, "backward: this graph was released by an earlier backward");
  bool checkpointed = lua_rawgeti(L, LUA_REGISTRYINDEX, f->x->ref) == LUA_TUSERDATA;
  if (checkpointed) recompute(L, S, b, f, self);
  else {
    push_inputs(L, S, f, self, create_graph);
    call_backward(L, S, b, f, self, create_graph);
  }
  lua_settop(L, top);
}

const entry function_entries[] = {
    {"Function", function_define,
     "Function({name: string, forward: function, backward: function})\nan op of one's own: "
     "forward(self, ...) gets untracked values, and what is no Variable as it is; backward(self, "
     "gy, "
     "...) gives a gradient for each Variable among the arguments, or for each argument; "
     "self is kept until a backward has been through: results of the Function do not belong there",
     false},
    {"checkpoint", checkpoint_call,
     "checkpoint(fn: function, ...)\nfn(...), forgotten inside and computed again in backward, "
     "with "
     "the values that the Variables it read had then; changes that it makes to others are made "
     "once",
     false},
    {"_grown", grown, NULL, false},
    {"_foreseen", foreseen, NULL, false},
    {"_unnoted", unnoted, NULL, false},
    {NULL, NULL, NULL, false}};
