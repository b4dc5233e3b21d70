/* compile.c -- mg.compile: functions recorded once for each form of their arguments, and replayed.
**
** A form is what arguments or results are without the values of Variables: tables with their keys, Variables by
** number, all else itself. Forms are lists of items, a table's keys and values following it; what is no number
** stands in a table of the record's own, which the function's user value has by the record's id for as long as
** there is the record. A record has the form of its arguments, the modes, a replay, the form of its results, and
** whom to ask for numbers before each replay.
** A replay makes what can fail first: boxes, tables, numbers; then all is done, or nothing. What it calls on
** the way, and finalizers, may call the function, too, and so push out the very record that is replayed: it is
** looked for again after whatever runs Lua.
*/
#include <string.h>

#include "lua/binding.h"

enum kind { NIL, NO, YES, WHOLE, FLOAT_NUMBER, OBJECT, VARIABLE, SAME, TABLE };

typedef struct {
  uint8_t kind;
  int n; /* OBJECT: its place; VARIABLE, SAME: its number; TABLE: how many keys */
  union {
    lua_Integer i;
    lua_Number f;
  };
} item;

typedef struct {
  item *v;
  int n, nvar;
  size_t room;
} form;

typedef struct {
  int fn; /* its place */
  int n;  /* how many numbers */
} question;

typedef struct record {
  struct record *next;
  uint64_t id;
  uint64_t converted; /* S->converted, when it was made */
  modes m;
  int nargs, nresults;
  bool shares; /* a result stands in several places */
  form arguments, results;
  replay *p;
  question *ask;
  int nask, nnumber;
  size_t ask_room;
  double *number;
  uint64_t script; /* which way it goes where there are two */
  int nchoice;
} record;

typedef struct {
  state *S;
  int n, max, most; /* most: Variables among arguments */
  bool closed;      /* it was collected; only what Lua finalizes later calls it still */
  uint64_t calls;
  record *list; /* the latest used first */
} compiled;

/* A record while it is replayed, and how often the function had been called before */
typedef struct {
  compiled *c;
  record *r;
  uint64_t id, calls;
} use;

/* At the upvalues of the function and of what it calls */
enum { COMPILED = 3 };
enum {
  DEPTH = 100,   /* tables in tables */
  FEW = 32,      /* Variables at once */
  MOST = 1 << 22 /* values of a form */
};
enum { KEY_MODES = M_BACKPROP | M_TRAIN | M_DTYPE | M_LEAN | M_DEBUG };

/* ---- forms ----------------------------------------------------------------------------------------------- */

static item *add_item(lua_State *L, state *S, form *f) {
  TRY(L, S, mg_grow(&S->G.c, (void **)&f->v, &f->room, (f->n + 1) * sizeof *f->v));
  memset(&f->v[f->n], 0, sizeof *f->v);
  return &f->v[f->n++];
}

/* The place of the value at i among the objects, a table */
static int object_at(lua_State *L, int objects, int i) {
  int n = (int)lua_rawlen(L, objects) + 1;
  lua_pushvalue(L, i);
  lua_rawseti(L, objects, n);
  return n;
}

/* A table to look into: without a metatable, or a shape */
static bool is_plain(lua_State *L, int i) {
  if (lua_type(L, i) != LUA_TTABLE) return false;
  if (!lua_getmetatable(L, i)) return true;
  bool shape = luaL_getmetatable(L, "moongrad.shape") == LUA_TTABLE && lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return shape;
}

/* A table that stands in itself, or in very many places, would be looked through for ever. */
static void check_size(lua_State *L, int depth, int n) {
  if (depth > DEPTH) refuse(L, "compile: a table nests too deep, or stands in itself");
  if (n > MOST)
    refuse(L, "compile: more than %d values, or tables that stand in many places", MOST);
}

/* Adds the value at i. `vars` is a list of the Variables met so far, with their places by node. */
static void describe(lua_State *L, state *S, form *f, int i, int objects, int vars, int depth) {
  luaL_checkstack(L, 8, "compile");
  i = lua_absindex(L, i);
  check_size(L, depth, f->n);
  item *x = add_item(L, S, f);
  if (to_box(L, i)) {
    node *n = node_at(L, i);
    bool met = lua_rawgetp(L, vars, n) != LUA_TNIL;
    x->kind = met ? SAME : VARIABLE;
    x->n = met ? (int)lua_tointeger(L, -1) : f->nvar++;
    lua_pop(L, 1);
    if (met) return;
    lua_pushinteger(L, x->n);
    lua_rawsetp(L, vars, n);
    lua_pushvalue(L, i);
    lua_rawseti(L, vars, f->nvar);
    return;
  }
  switch (lua_type(L, i)) {
    case LUA_TNIL: x->kind = NIL; return;
    case LUA_TBOOLEAN: x->kind = lua_toboolean(L, i) ? YES : NO; return;
    case LUA_TNUMBER:
      x->kind = lua_isinteger(L, i) ? WHOLE : FLOAT_NUMBER;
      if (x->kind == WHOLE) x->i = lua_tointeger(L, i);
      else x->f = lua_tonumber(L, i);
      return;
  }
  if (!is_plain(L, i)) {
    x->kind = OBJECT;
    int at = f->n - 1, n = object_at(L, objects, i);
    f->v[at].n = n;
    return;
  }
  x->kind = TABLE;
  int at = f->n - 1, n = 0;
  for (lua_pushnil(L); lua_next(L, i); n++) {
    if (to_box(L, -2)) refuse(L, "compile: a table with a Variable as key");
    describe(L, S, f, -2, objects, vars, depth + 1);
    describe(L, S, f, -1, objects, vars, depth + 1);
    lua_pop(L, 1);
  }
  f->v[at].n = n;
}

/* What is gathered of Variables on the way */
typedef struct {
  node **n;
  int nvar;
  bool follows; /* one is tracked, and made of others or a point of a transform */
} met;

static bool equal_number(const item *x, lua_State *L, int i) {
  if (x->kind == WHOLE) return lua_isinteger(L, i) && lua_tointeger(L, i) == x->i;
  if (lua_type(L, i) != LUA_TNUMBER || lua_isinteger(L, i)) return false;
  lua_Number f = lua_tonumber(L, i);
  return memcmp(&f, &x->f, sizeof f) == 0;
}

static bool push_item(lua_State *L, const item *x, int objects) {
  switch (x->kind) {
    case NIL: lua_pushnil(L); return true;
    case NO:
    case YES: lua_pushboolean(L, x->kind == YES); return true;
    case WHOLE: lua_pushinteger(L, x->i); return true;
    case FLOAT_NUMBER: lua_pushnumber(L, x->f); return true;
    case OBJECT: lua_rawgeti(L, objects, x->n); return true;
  }
  return false;
}

/* Has the value at i the form that begins at *x? */
static bool match(lua_State *L, state *S, const record *r, const item **x, int i, int objects,
                  met *m) {
  const item *it = (*x)++;
  switch (it->kind) {
    case NIL: return lua_isnil(L, i);
    case NO:
    case YES: return lua_isboolean(L, i) && lua_toboolean(L, i) == (it->kind == YES);
    case WHOLE:
    case FLOAT_NUMBER: return equal_number(it, L, i);
    case OBJECT: {
      lua_rawgeti(L, objects, it->n);
      bool same = lua_rawequal(L, -1, i);
      return lua_pop(L, 1), same;
    }
    case SAME:
    case VARIABLE: {
      int top = lua_gettop(L);
      node **b = look(L, S, i);
      lua_settop(L, top);
      if (!b) return false;
      node *n = unpack(L, b);
      if (it->kind == SAME) return m->n[it->n] == n;
      m->n[m->nvar++] = n;
      return replay_takes(r->p, it->n, n);
    }
  }
  if (!is_plain(L, i)) return false;
  luaL_checkstack(L, 8, "compile");
  int n = 0;
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) n++;
  if (n != it->n) return false;
  for (; n > 0; n--) {
    const item *key = (*x)++;
    if (!push_item(L, key, objects)) return false;
    lua_rawget(L, i);
    bool same = match(L, S, r, x, lua_gettop(L), objects, m);
    lua_pop(L, 1);
    if (!same) return false;
  }
  return true;
}

static record *find_record(const compiled *c, uint64_t id) {
  record *r = c->list;
  while (r && r->id != id) r = r->next;
  return r;
}

/* Is the record still there? Without a call in between it is. */
static bool is_there(const use *u) {
  if (!u || u->c->calls == u->calls) return true;
  return find_record(u->c, u->id) == u->r;
}

/* Pushes a value of the form that begins at *x, with the Variables in the table vars, or, without one, with
** empty boxes, that are noted. False: the record of the form has gone. */
static bool build(lua_State *L, state *S, const use *u, const item **x, int objects, int vars,
                  node ***boxes, int *nbox) {
  luaL_checkstack(L, 8, "compile");
  if (!is_there(u)) return false;
  const item it = *(*x)++;
  if (push_item(L, &it, objects)) return true;
  if (it.kind == VARIABLE || it.kind == SAME) {
    if (it.kind == VARIABLE && boxes) {
      boxes[(*nbox)++] = box_new(L, S);
      if (vars) lua_pushvalue(L, -1), lua_rawseti(L, vars, it.n + 1);
    } else lua_rawgeti(L, vars, it.n + 1);
    return true;
  }
  lua_createtable(L, 0, 0);
  for (int n = it.n; n > 0; n--) {
    for (int i = 0; i < 2; i++)
      if (!build(L, S, u, x, objects, vars, boxes, nbox)) return false;
    lua_rawset(L, -3);
  }
  return true;
}

/* ---- records --------------------------------------------------------------------------------------------- */

static void record_free(state *S, record *r) {
  if (!r) return;
  replay_free(&S->G, r->p);
  mg_free(r->arguments.v);
  mg_free(r->results.v);
  mg_free(r->ask);
  mg_free(r->number);
  mg_free(r);
}

static void drop_record(compiled *c, record *r) {
  record **at = &c->list;
  while (*at && *at != r) at = &(*at)->next;
  if (!*at) return;
  *at = r->next;
  c->n--;
  record_free(c->S, r);
}

static int compiled_gc(lua_State *L) {
  compiled *c = lua_touserdata(L, 1);
  c->closed = true;
  while (c->list) drop_record(c, c->list);
  return 0;
}

/* ---- recording ------------------------------------------------------------------------------------------- */

typedef struct {
  guard g;
  compiled *c;
  recorder *r;
  record *made;
  bool done;       /* it is complete, and c has it */
  bool stopped;    /* the collector is: what finalizers do is not f's */
  uint8_t *itself; /* by argument: it is given as it is, as f captures it, too */
  bool met;        /* there are more of these than was known */
} session;

/* Which arguments have to be given as they are? */
static bool look_for_met(session *s) {
  for (int i = -1; (i = recorder_met(s->r, i + 1)) >= 0;) s->itself[i] = s->met = true;
  return s->met;
}

static void end(state *S, guard *g) {
  session *s = (session *)g;
  recorder *r = s->r;
  g->end = NULL;
  if (r) look_for_met(s);
  s->r = NULL;
  if (r) recorder_abort(&S->G, r);
  if (!s->done) record_free(S, s->made);
  if (s->stopped) lua_gc(S->G.host, LUA_GCRESTART);
  s->stopped = false;
}

/* The registry's keys: of the session under way, and of its objects */
static const char current = 0, current_objects = 0;

/* On the stack of take: */
enum { SESSION = 1, ALL_OBJECTS, OBJECTS, VARS, FN };

static bool finish(lua_State *L, state *S, session *s) {
  record *r = s->made;
  int n = r->results.nvar;
  node **v = lua_newuserdatauv(L, (n + 1) * sizeof *v, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, VARS, i + 1);
    v[i] = node_at(L, -1);
    lua_pop(L, 1);
  }
  recorder *rec = s->r;
  for (int i = 0; i < n; i++) node_read(&S->G, v[i]); /* what is given back as it is */
  if (look_for_met(s)) return true;
  /* what may fail for want of memory comes first */
  lua_pushvalue(L, OBJECTS);
  lua_rawseti(L, ALL_OBJECTS, (lua_Integer)r->id);
  s->done = true;
  r->nchoice = recorder_choices(rec, &r->script);
  s->r = NULL; /* it ends in any case */
  r->p = recorder_end(&S->G, rec, n, v);
  if (!r->p) return s->done = false;
  compiled *c = s->c; /* a hook may raise an error from here on */
  if (r->arguments.nvar > c->most) c->most = r->arguments.nvar;
  r->next = c->list;
  c->list = r;
  c->n++;
  return true;
}

/* The record under way is found by mg.dynamic and its kin while f runs: a table of weak values, its objects at 1 */
static void push_objects(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &current_objects) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &current_objects);
}

/* Once they are there it allocates nothing. */
static void set_current(lua_State *L) {
  lua_pushlightuserdata(L, lua_touserdata(L, SESSION));
  lua_rawsetp(L, LUA_REGISTRYINDEX, &current);
  push_objects(L);
  lua_pushvalue(L, OBJECTS);
  lua_rawseti(L, -2, 1);
  lua_pop(L, 1);
}

/* take(session, all objects, objects, vars, f): f of what stands for the Variables in vars; its results as a form */
static int take(lua_State *L) {
  state *S = get_state(L);
  session *s = lua_touserdata(L, SESSION);
  record *r = s->made;
  set_current(L);
  s->stopped = lua_gc(L, LUA_GCISRUNNING) > 0;
  if (s->stopped) lua_gc(L, LUA_GCSTOP);
  TRY(L, S, s->r = recorder_begin(&S->G));
  set_current(L); /* a finalizer may have recorded another */
  recorder_script(&S->G, r->script, r->nchoice);
  for (int i = 1; i <= r->arguments.nvar; i++) {
    node **b = box_new(L, S);
    lua_rawgeti(L, VARS, i);
    TRY(L, S, *b = recorder_argument(&S->G, node_at(L, -1), s->itself[i - 1]));
    lua_pop(L, 1);
    lua_rawseti(L, VARS, i);
  }
  lua_settop(L, FN);
  const item *x = r->arguments.v;
  for (int i = 1; i <= r->nargs; i++) build(L, S, NULL, &x, OBJECTS, VARS, NULL, NULL);
  lua_call(L, r->nargs, LUA_MULTRET);
  int n = lua_gettop(L) - VARS;
  lua_newtable(L);
  lua_replace(L, VARS);
  for (int i = 1; i <= n; i++) describe(L, S, &r->results, VARS + i, OBJECTS, VARS, 0);
  r->nresults = n;
  for (int i = 0; i < r->results.n; i++) r->shares |= r->results.v[i].kind == SAME;
  if (r->nnumber) TRY(L, S, r->number = mg_alloc(&S->G.c, r->nnumber * sizeof *r->number));
  if (!finish(L, S, s)) {
    lua_pushnil(L);
    lua_rawseti(L, ALL_OBJECTS, (lua_Integer)r->id);
    failed(L, S, 1);
  }
  return 0;
}

static bool is_tracked(lua_State *L, int vars, int n) {
  bool some = false;
  for (int i = 1; i <= n && !some; i++) {
    lua_rawgeti(L, vars, i);
    some = node_tracked(node_at(L, -1));
    lua_pop(L, 1);
  }
  return some;
}

/* Of what is called with the arguments at 1..nargs; it becomes the first of c's list, and its objects stand at
** `objects`, all records' below. NULL: f captures arguments, as `itself` says now, or a finalizer has pushed the
** record out: once more. f may have run into an error for that, where they are tracked. */
static record *record_once(lua_State *L, state *S, compiled *c, int objects, int nargs,
                           uint64_t script, int nchoice, uint8_t **itself) {
  lua_newtable(L);
  lua_replace(L, objects);
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushcclosure(L, take, 2);
  int at = lua_gettop(L);
  session *s = guard_new(L, sizeof *s);
  s->c = c;
  s->r = NULL;
  s->made = NULL;
  s->done = s->met = s->stopped = false;
  s->g.end = end;
  lua_insert(L, at); /* the guard below what is called */
  lua_pushvalue(L, at);
  lua_pushvalue(L, objects - 1);
  lua_pushvalue(L, objects);
  lua_newtable(L);
  record *r;
  TRY(L, S, r = s->made = mg_alloc(&S->G.c, sizeof *r));
  memset(r, 0, sizeof *r);
  uint64_t id = r->id = ++c->calls;
  r->converted = S->converted;
  r->m = modes_now(S, KEY_MODES);
  r->nargs = nargs;
  r->script = script;
  r->nchoice = nchoice;
  for (int i = 1; i <= nargs; i++) describe(L, S, &r->arguments, i, objects, lua_gettop(L), 0);
  int vars = lua_gettop(L), n = r->arguments.nvar;
  if (!*itself) {
    *itself = lua_newuserdatauv(L, n + 1, 0);
    memset(*itself, 0, n + 1);
    lua_insert(L, at++); /* it stays below */
    vars++;
  }
  s->itself = *itself;
  lua_getiuservalue(L, lua_upvalueindex(COMPILED), 1);
  if (is_tracked(L, vars, n)) {
    int status = lua_pcall(L, 5, 0, 0);
    end(S, &s->g);
    if (status != LUA_OK && !s->met) lua_error(L);
  } else call_guarded(L, 5);
  bool met = s->met;
  lua_settop(L, at - 1);
  return met ? NULL : find_record(c, id);
}

enum { MOST_TURNS = 4 }; /* records made for one call */

/* NULL: each shows that f captures more of its arguments. */
static record *record_call(lua_State *L, state *S, compiled *c, int objects, int nargs,
                           uint64_t script, int nchoice) {
  uint8_t *itself = NULL;
  record *r = NULL;
  for (int turn = 0; turn < MOST_TURNS && !r; turn++)
    r = record_once(L, S, c, objects, nargs, script, nchoice, &itself);
  return r;
}

/* ---- calls ------------------------------------------------------------------------------------------------ */

static bool same_modes(const modes *a, const modes *b) {
  return a->backprop == b->backprop && a->train == b->train && a->dtype == b->dtype &&
         a->lean == b->lean;
}

/* The Variables among the arguments at 1..r->nargs, if these have r's form */
static bool fits(lua_State *L, state *S, const record *r, int objects, met *m) {
  const item *x = r->arguments.v;
  m->nvar = 0;
  for (int i = 1; i <= r->nargs; i++)
    if (!match(L, S, r, &x, i, objects, m)) return false;
  return replay_apart(r->p, m->n);
}

/* A Variable at i or in it that is tracked and made of others, a point of a transform, or any within
** one; *n values were seen. */
static bool follows(lua_State *L, state *S, int i, int depth, int *n) {
  luaL_checkstack(L, 8, "compile");
  int top = lua_gettop(L);
  node **b = look(L, S, i);
  lua_settop(L, top);
  if (b) {
    const node *x = unpack(L, b);
    return node_tracked(x) && (S->transforms || node_has_creator(x) || x->flags & POINT);
  }
  if (!is_plain(L, i)) return false;
  check_size(L, depth, ++*n);
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
    if (follows(L, S, lua_gettop(L), depth + 1, n)) return lua_settop(L, top), true;
  return false;
}

static int call_plain(lua_State *L, int nargs) {
  lua_settop(L, nargs);
  lua_getiuservalue(L, lua_upvalueindex(COMPILED), 1);
  lua_insert(L, 1);
  lua_call(L, nargs, LUA_MULTRET);
  return lua_gettop(L);
}

/* Of a function that gives a number: a second result would be lost. */
static void one_result(lua_State *L, int n) {
  if (n > 1) refuse(L, "dynamic: the function gave %d results, expected one", n);
}

/* Asks for the numbers. False: who is asked does not know the record any more, or it has gone. Lists of what
** is to be set after the replay are left on the stack. */
static bool ask(lua_State *L, const use *u, int objects) {
  for (int k = 0, at = 0; k < u->r->nask; k++) {
    const question q = u->r->ask[k];
    luaL_checkstack(L, q.n + LUA_MINSTACK, "compile");
    const int before = lua_gettop(L);
    lua_rawgeti(L, objects, q.fn);
    lua_call(L, 0, LUA_MULTRET);
    if (q.n == 1) one_result(L, lua_gettop(L) - before);
    lua_settop(L, before + (q.n ? q.n : 2));
    int first = q.n ? -q.n : -2;
    if (lua_type(L, first) == LUA_TBOOLEAN && !lua_toboolean(L, first)) return false;
    for (int i = 0; i < q.n; i++)
      if (lua_type(L, i - q.n) != LUA_TNUMBER)
        refuse(L, "dynamic: the function gave a %s, expected a number", kind_of(L, i - q.n));
    if (!is_there(u)) return false;
    for (int i = 0; i < q.n; i++) u->r->number[at++] = lua_tonumber(L, i - q.n);
    if (!q.n && lua_istable(L, -1)) lua_remove(L, -2);
    else lua_pop(L, -first);
  }
  return true;
}

/* The lists at `at` .. at + n - 1: table, key, value, ... Places for keys that are new are made before the replay:
** with `make` false stands there; else nothing does, but to set them takes no memory until the collector comes. */
static void each_place(lua_State *L, int at, int n, bool make) {
  for (int i = at; i < at + n; i++)
    for (lua_Integer k = 1; k < (lua_Integer)lua_rawlen(L, i); k += 3, lua_pop(L, 2)) {
      lua_rawgeti(L, i, k);
      lua_rawgeti(L, i, k + 1);
      lua_pushvalue(L, -1);
      int type = lua_rawget(L, -3);
      bool concerned = make ? type == LUA_TNIL : type == LUA_TBOOLEAN && !lua_toboolean(L, -1);
      lua_pop(L, 1);
      if (!concerned) continue;
      lua_pushvalue(L, -1);
      if (make) lua_pushboolean(L, false);
      else lua_pushnil(L);
      lua_rawset(L, -4);
    }
}

static int make_places(lua_State *L) {
  each_place(L, 1, lua_gettop(L), true);
  return 0;
}

static void have_places(lua_State *L, int at, int n) {
  luaL_checkstack(L, n + LUA_MINSTACK, "compile");
  lua_pushcfunction(L, make_places);
  for (int i = at; i < at + n; i++) lua_pushvalue(L, i);
  int status = lua_pcall(L, n, 0, 0);
  each_place(L, at, n, false);
  if (status != LUA_OK) lua_error(L);
}

/* No hook comes in between, and nothing fails. */
static void set_all(lua_State *L, int at, int n) {
  for (int i = at; i < at + n; i++)
    for (lua_Integer k = 1; k < (lua_Integer)lua_rawlen(L, i); k += 3, lua_pop(L, 1)) {
      for (int of = 0; of < 3; of++) lua_rawgeti(L, i, k + of);
      lua_rawset(L, -3);
    }
}

/* False: no memory */
static bool attempt_run(lua_State *L, state *S, const use *u, int objects, met *m, node **to,
                        enum replayed *how) {
  *how = REPLAY_STALE;
  if (is_there(u) && fits(L, S, u->r, objects, m))
    *how = replay_run(&S->G, u->r->p, m->n, u->r->number, to);
  return *how != REPLAY_FAILED;
}

static void to_front(compiled *c, record *r) {
  record **at = &c->list;
  if (*at == r) return;
  while (*at != r) at = &(*at)->next;
  *at = r->next;
  r->next = c->list;
  c->list = r;
}

/* All that the record does; its results, *count in number, are on the top of the stack. */
static enum replayed run(lua_State *L, state *S, const use *u, int objects, met *m, int *count) {
  if (!is_there(u)) return REPLAY_STALE;
  int n = u->r->results.nvar, nresults = u->r->nresults, nbox = 0, vars = 0;
  bool shares = u->r->shares, asks = u->r->nask;
  const item *x = u->r->results.v;
  node **few_boxes[FEW], ***box = few_boxes, *few[FEW], **to = few;
  enum replayed how;
  if (n > FEW) {
    box = lua_newuserdatauv(L, n * (sizeof *box + sizeof *to), 0);
    to = (node **)(box + n);
  }
  int lists = lua_gettop(L) + 1;
  if (asks && !(is_there(u) && ask(L, u, objects))) return REPLAY_STALE;
  int nlists = lua_gettop(L) + 1 - lists;
  if (shares) {
    lua_newtable(L);
    vars = lua_gettop(L);
  }
  for (int i = 0; i < nresults; i++)
    if (!build(L, S, u, &x, objects, vars, box, &nbox)) return REPLAY_STALE;
  if (nlists) have_places(L, lists, nlists);
  TRY(L, S, attempt_run(L, S, u, objects, m, to, &how));
  if (how != REPLAY_DONE) return how;
  for (int i = 0; i < nbox; i++) *box[i] = to[i];
  set_all(L, lists, nlists);
  *count = nresults;
  if (nbox) made(L, S, *box[nbox - 1]);
  if (is_there(u)) to_front(u->c, u->r);
  return how;
}

/* For one more; `all` is where the objects of all records stand. */
static void make_room(lua_State *L, compiled *c, int all) {
  while (c->n >= c->max) {
    record *last = c->list;
    while (last->next) last = last->next;
    lua_pushnil(L);
    lua_rawseti(L, all, (lua_Integer)last->id);
    drop_record(c, last);
  }
}

/* Where r went the wrong way: how a record goes that does not. False: there is no other way. */
static bool other_way(const record *r, uint64_t *script, int *nchoice) {
  int k = replay_choice(r->p);
  if (k < 0) return false;
  *script = r->script ^ (uint64_t)1 << k;
  *nchoice = k + 1;
  return true;
}

static int compiled_call(lua_State *L) {
  state *S = get_state(L);
  compiled *c = lua_touserdata(L, lua_upvalueindex(COMPILED));
  int nargs = lua_gettop(L), all = nargs + 1, objects = all + 1;
  node *few[FEW];
  met m = {.n = few};
  bool plain = c->closed || S->G.recorder || S->G.outside || S->G.running || S->G.captures ||
               S->G.debug; /* an op and its line are to be told */
  for (int i = 1, seen = 0; i <= nargs && !plain && S->G.backprop; i++)
    plain = follows(L, S, i, 0, &seen);
  if (plain) return call_plain(L, nargs);
  luaL_checkstack(L, 16, "compile");
  lua_getiuservalue(L, lua_upvalueindex(COMPILED), 2);
  lua_pushnil(L);
  if (c->most > FEW) m.n = lua_newuserdatauv(L, c->most * sizeof *m.n, 0);
  int top = lua_gettop(L), nchoice = 0, count = 0;
  uint64_t script = 0, calls = ++c->calls;
  modes now = modes_now(S, KEY_MODES);
  for (record *r = c->list, *next; r && c->calls == calls; r = next) {
    next = r->next;
    if (r->nargs != nargs || r->converted != S->converted || !same_modes(&r->m, &now)) continue;
    lua_rawgeti(L, all, (lua_Integer)r->id);
    lua_replace(L, objects);
    if (!fits(L, S, r, objects, &m)) continue;
    enum replayed how = run(L, S, &(use){c, r, r->id, calls}, objects, &m, &count);
    if (how == REPLAY_DONE) return count;
    lua_settop(L, top);
    if (how == REPLAY_BRANCH && !other_way(r, &script, &nchoice)) return call_plain(L, nargs);
  }
  if (in_finalizer(L)) return call_plain(L, nargs);
  for (int turn = 0; turn < MOST_TURNS; turn++) {
    make_room(L, c, all);
    record *r = record_call(L, S, c, objects, nargs, script, nchoice);
    if (!r) break;
    use u = {c, r, r->id, c->calls};
    if (c->most > FEW) m.n = lua_newuserdatauv(L, c->most * sizeof *m.n, 0);
    enum replayed how = run(L, S, &u, objects, &m, &count);
    if (how == REPLAY_DONE) return count;
    if (how != REPLAY_BRANCH || !other_way(r, &script, &nchoice)) break;
    lua_settop(L, top);
  }
  return call_plain(L, nargs);
}

/* _compile(f, max): f behind its records */
static int compile(lua_State *L) {
  state *S = get_state(L);
  check_callable(L, 1, "compile");
  lua_Integer max = luaL_checkinteger(L, 2);
  for (int i = 1; i <= 2; i++) lua_pushvalue(L, lua_upvalueindex(i));
  compiled *c = lua_newuserdatauv(L, sizeof *c, 2);
  *c = (compiled){.S = S, .max = max < INT_MAX ? (int)max : INT_MAX};
  luaL_setmetatable(L, "moongrad.compiled");
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 2);
  lua_pushcclosure(L, compiled_call, 3);
  return 1;
}

/* ---- within what is recorded ------------------------------------------------------------------------------ */

static record *record_now(lua_State *L) {
  if (!get_state(L)->G.recorder) return NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &current);
  session *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s->made;
}

/* n numbers that fn gives before each replay, pushed as Variables */
static void add_question(lua_State *L, state *S, record *r, int fn, int n) {
  TRY(L, S, mg_grow(&S->G.c, (void **)&r->ask, &r->ask_room, (r->nask + 1) * sizeof *r->ask));
  push_objects(L);
  lua_rawgeti(L, -1, 1);
  lua_remove(L, -2);
  int objects = lua_gettop(L);
  question q = {object_at(L, objects, fn), n};
  lua_remove(L, objects);
  luaL_checkstack(L, n + 4, "dynamic");
  for (int i = 0, index; i < n; i++) {
    node **b = box_new(L, S);
    TRY(L, S, *b = recorder_number(&S->G, &index));
    r->nnumber = index + 1;
  }
  r->ask[r->nask++] = q;
}

static int dynamic(lua_State *L) {
  state *S = get_state(L);
  record *r = record_now(L);
  sig_check(L);
  if (r) return add_question(L, S, r, 1, 1), 1;
  lua_settop(L, 1);
  lua_call(L, 0, LUA_MULTRET);
  one_result(L, lua_gettop(L));
  lua_settop(L, 1);
  if (lua_type(L, -1) != LUA_TNUMBER)
    refuse(L, "dynamic: the function gave a %s, expected a number", kind_of(L, -1));
  lua_pushnumber(L, lua_tonumber(L, -1));
  return 1;
}

/* _ask(n, fn): while a function is recorded, n numbers that fn gives before each replay; false from it: what was
** recorded counts no more. Where n is 0 fn may give true and a list of a table, a key, a value, ..., which are set
** raw when the replay is done, or not at all. */
static int ask_for(lua_State *L) {
  state *S = get_state(L);
  record *r = record_now(L);
  int n = (int)luaL_checkinteger(L, 1);
  lua_settop(L, 2);
  if (!r) refuse(L, "_ask: nothing is recorded");
  add_question(L, S, r, 2, n);
  return n;
}

/* _converted(): a module has other Variables in place of its own */
static int converted(lua_State *L) {
  get_state(L)->converted++;
  return 0;
}

/* _recording(): a number of its own for each record in the making, or false */
static int is_recording(lua_State *L) {
  const graph *G = &get_state(L)->G;
  if (G->recorder) lua_pushinteger(L, (lua_Integer)recorder_serial(G));
  else lua_pushboolean(L, false);
  return 1;
}

/* _truth(x): is x, of size 1, true? While a function is recorded it is, and where it is not f is called instead
** of a replay. */
static int truth(lua_State *L) {
  state *S = get_state(L);
  imm v;
  node *x = check_node(L, 1, "_truth");
  if (S->G.recorder) {
    TRY(L, S, recorder_truth(&S->G, node_at(L, 1)));
    return lua_pushboolean(L, true), 1;
  }
  dtype t = x->dtype;
  TRY(L, S, node_item(&S->G, node_at(L, 1), &v));
  lua_pushboolean(L, is_float(t) ? v.f != 0 : v.i != 0);
  return 1;
}

/* _choose(x): is x, of size 1, true? While a function is recorded it is taken for true, or, where a replay found
** that it is not, for false. */
static int choose(lua_State *L) {
  state *S = get_state(L);
  bool yes;
  if (!S->G.recorder) return truth(L);
  check_node(L, 1, "_choose");
  TRY(L, S, recorder_choose(&S->G, node_at(L, 1), &yes));
  return lua_pushboolean(L, yes), 1;
}

typedef struct {
  guard g;
  recorder *r;
} pause;

static void resume(state *S, guard *g) {
  recorder *r = ((pause *)g)->r;
  g->end = NULL;
  if (r) recorder_resume(&S->G, r);
}

/* _outside(fn, ...): fn(...), done at once and not recorded */
static int outside(lua_State *L) {
  state *S = get_state(L);
  recorder *r = S->G.recorder;
  int n = lua_gettop(L) - 1;
  if (!r) return lua_call(L, n, LUA_MULTRET), lua_gettop(L);
  pause *p = guard_new(L, sizeof *p);
  p->r = r;
  lua_insert(L, 1);
  p->g.end = resume;
  recorder_pause(&S->G, r);
  call_guarded(L, n);
  return lua_gettop(L) - 1;
}

/* _point(x): here a transform differentiates */
static int mark_point(lua_State *L) {
  check_node(L, 1, "_point")->flags |= POINT;
  return lua_settop(L, 1), 1;
}

/* _weak(x): to dtypes x is a number, while a function is recorded */
static int weaken(lua_State *L) {
  check_node(L, 1, "_weak")->flags |= WEAK;
  return lua_settop(L, 1), 1;
}

const luaL_Reg compiled_meta[] = {{"__gc", compiled_gc}, {NULL, NULL}};

const entry compile_entries[] = {{"_compile", compile, NULL, false},
                                 {"dynamic", dynamic,
                                  "dynamic(fn: function)\na number that fn gives: in a function "
                                  "that mg.compile records, one asked "
                                  "of fn before each replay",
                                  false},
                                 {"_ask", ask_for, NULL, false},
                                 {"_converted", converted, NULL, false},
                                 {"_recording", is_recording, NULL, false},
                                 {"_truth", truth, NULL, false},
                                 {"_choose", choose, NULL, false},
                                 {"_outside", outside, NULL, false},
                                 {"_point", mark_point, NULL, false},
                                 {"_weak", weaken, NULL, false},
                                 {NULL, NULL, NULL, false}};
