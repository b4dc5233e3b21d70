/* module.c -- opening the module: the state, the metatables, the table of functions, their docs; when the
** collector runs, mg.eval, random streams, memory and its limits, failures that are asked for.
**
** The state and the metatables are made once for a lua_State, the table of functions as often as
** the module is opened (busted opens it for every file). At lua_close finalizers run in reverse
** order of creation: the state is made before all boxes, so it is closed after them.
*/
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "lua/binding.h"

#define VERSION "0.1.0"

/* ---- the collector --------------------------------------------------------------------------- */

static size_t live_bytes(void) {
  memstat m;
  mem_stat(&m);
  return m.live;
}

static int nothing(lua_State *L) { return (void)L, 0; }

bool can_collect(lua_State *L) {
  if (!lua_checkstack(L, LUA_MINSTACK)) return false;
  lua_pushcfunction(L, nothing);
  if (lua_pcall(L, 0, 0, 0) == LUA_OK) return true;
  lua_pop(L, 1);
  return false;
}

/* Look through all of Lua's memory. */
static void collect(lua_State *L, state *S) {
  lua_gc(L, LUA_GCCOLLECT);
  S->seen = S->collected = mem_total();
  S->low = live_bytes();
}

/* It is told of an eighth of what is alive at a time, or a MiB: Lua sees only boxes, and would let a hundred
** times their weight in values pile up. In generational mode, the interpreter's own, a step looks at young
** boxes alone, and what lived through two grows old: what a layer gives to the next shall not. What did is
** looked for when values have grown by half, and by more than a few MiB. */
void pace_now(lua_State *L, state *S) {
  enum { FEW = 16 << 20, PART = 8 };
  uint64_t total = mem_total(), kib = (total - S->seen) >> 10;
  size_t part = live_bytes() / PART;
  S->seen = total;
  S->pace = part > PACE ? part : PACE;
  if (lua_gc(L, LUA_GCISRUNNING) <= 0 || !can_collect(L)) return;
  lua_gc(L, LUA_GCSTEP, (int)(kib < 1 << 20 ? kib : 1 << 20));
  if (live_bytes() > S->low / 2 * 3 + FEW) collect(L, S);
}

/* Dead boxes would have backward keep what they hold. A step frees them if they are young; if more is
** alive then than before, there may be old ones: they are worth a look through Lua's memory if that is
** little beside what was computed since the last. */
void collect_before_backward(lua_State *L, state *S) {
  if (mem_total() - S->collected < PACE || lua_gc(L, LUA_GCISRUNNING) <= 0) return;
  if (!can_collect(L)) return;
  if (mem_total() - S->seen >= PACE / 16) lua_gc(L, LUA_GCSTEP, 0), S->seen = mem_total();
  size_t live = live_bytes();
  if (live < S->low) S->low = live;
  uint64_t enough = (uint64_t)lua_gc(L, LUA_GCCOUNT) << 12;
  if (live > S->low + S->low / 64 + PACE / 16 && mem_total() - S->collected >= enough)
    collect(L, S);
}

static int memory(lua_State *L) {
  sig_values(L);
  if (!lua_isnil(L, 1)) {
    push_memory_by(L, get_state(L), *lua_tostring(L, 1) == 'n');
    return 1;
  }
  memstat m;
  mem_stat(&m);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, m.live);
  lua_setfield(L, -2, "live");
  lua_pushinteger(L, m.peak);
  lua_setfield(L, -2, "peak");
  lua_pushinteger(L, m.cached);
  lua_setfield(L, -2, "cached");
  lua_pushinteger(L, m.limit);
  lua_setfield(L, -2, "limit");
  luaL_setmetatable(L, "moongrad.memory");
  return 1;
}

static int memory_tostring(lua_State *L) {
  static const char *const names[] = {"live", "peak", "cached", "limit"};
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "memory{");
  for (int i = 0; i < 4; i++) {
    lua_getfield(L, 1, names[i]);
    lua_pushfstring(L, "%s%s = %I", i ? ", " : "", names[i], lua_tointeger(L, -1));
    lua_remove(L, -2);
    luaL_addvalue(&b);
  }
  luaL_addchar(&b, '}');
  luaL_pushresult(&b);
  return 1;
}
static const luaL_Reg memory_meta[] = {{"__tostring", memory_tostring}, {NULL, NULL}};

static int memory_limit(lua_State *L) {
  sig_values(L);
  mem_limit(lua_tointeger(L, 1));
  return 0;
}

static int reset_peak(lua_State *L) { return sig_values(L), mem_reset_peak(), 0; }
static int trim(lua_State *L) { return sig_values(L), mem_trim(), 0; }

static int fail_at(lua_State *L) {
  lua_settop(L, 2);
  mem_fail_at(check_whole(L, 1, "_fail_at", "n"),
              lua_isnil(L, 2) ? 1 : check_whole(L, 2, "_fail_at", "times"));
  return 0;
}

static const char key = 0; /* its address is the registry's: the function of _hostile */

/* Not in itself, and its errors are lost, as those of finalizers are. */
void hostile(lua_State *L, state *S) {
  S->hostile = 0;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
  S->hostile = lua_toboolean(L, -1);
  lua_pop(L, 1);
}

/* _hostile(fn or nil): fn is called at any moment at which a finalizer might be. */
static int set_hostile(lua_State *L) {
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  get_state(L)->hostile = !lua_isnil(L, 1);
  return 0;
}

/* ---- threads and random numbers -------------------------------------------------------------- */

static int set_num_threads(lua_State *L) {
  sig_values(L);
  get_state(L)->G.c.threads = (int)lua_tointeger(L, 1);
  return 0;
}

static int num_threads(lua_State *L) {
  sig_values(L);
  lua_pushinteger(L, get_state(L)->G.c.threads);
  return 1;
}

/* The random stream, which nobody sets or looks at while mg.compile records what is drawn from it */
static ctx *stream(lua_State *L, const char *who) {
  graph *G = &get_state(L)->G;
  if (G->recorder)
    refuse(L,
           "%s: not in a function that mg.compile records: it draws on from where the stream is "
           "at each call; call it before",
           who);
  return &G->c;
}

static int seed(lua_State *L) {
  ctx *c = stream(L, "seed");
  sig_values(L);
  c->seed = lua_tointeger(L, 1);
  c->counter = 0;
  return 0;
}

static int get_rng_state(lua_State *L) {
  sig_values(L);
  ctx *c = stream(L, "get_rng_state");
  lua_createtable(L, 2, 0);
  lua_pushinteger(L, c->seed);
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, c->counter);
  lua_rawseti(L, -2, 2);
  return 1;
}

static int set_rng_state(lua_State *L) {
  ctx *c = stream(L, "set_rng_state");
  int64_t s[MAXDIM];
  sig_values(L);
  if (check_list(L, 1, "set_rng_state", "an element", s) != 2)
    refuse(L, "set_rng_state: expected what get_rng_state gave");
  c->seed = s[0];
  c->counter = s[1];
  return 0;
}

/* _seeded(seed, fn, ...): fn(...), which draws from a stream of its own */
static int seeded(lua_State *L) {
  stream(L, "set_rng_state");
  modes m = {.what = M_RANDOM, .random.seed = (uint64_t)luaL_checkinteger(L, 1)};
  check_callable(L, 2, "_seeded");
  call_in_modes(L, get_state(L), lua_gettop(L) - 2, &m);
  return lua_gettop(L) - 1;
}

/* ---- computing ------------------------------------------------------------------------------- */

static bool eval_all(lua_State *L, state *S, int n, node **nodes) {
  for (int i = 0; i < n; i++) nodes[i] = node_at(L, i + 1);
  return node_eval(&S->G, n, nodes);
}

/* eval(...) */
static int eval(lua_State *L) {
  state *S = get_state(L);
  int n = lua_gettop(L);
  node **nodes = lua_newuserdatauv(L, (n + 1) * sizeof *nodes, 0);
  for (int i = 1; i <= n; i++) check_node(L, i, "eval");
  TRY(L, S, eval_all(L, S, n, nodes));
  return 0;
}

/* ---- messages ---------------------------------------------------------------------------------- */

/* string.format, upvalue 3, of what is on the stack, with a point in any locale. False: its error */
static bool formatted(lua_State *L) {
  for (int i = lua_gettop(L); i > 1; i--) { /* a nan's sign is none */
    if (lua_type(L, i) != LUA_TNUMBER || lua_tonumber(L, i) == lua_tonumber(L, i)) continue;
    lua_pushnumber(L, NAN);
    lua_replace(L, i);
  }
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_insert(L, 1);
  void *was = point_begin();
  int err = lua_pcall(L, lua_gettop(L) - 1, 1, 0);
  point_end(was);
  return err == LUA_OK;
}

/* _format(fmt, ...) */
static int format(lua_State *L) { return formatted(L) ? 1 : lua_error(L); }

/* raise(fmt, ...) */
static int raise_error(lua_State *L) {
  if (!formatted(L)) refuse(L, "raise: %s", lua_tostring(L, -1));
  raise_here(L, NULL);
}

/* Keeps the folder of the chunk that `ar` is of, if it is of that file: where it was bundled there is none. */
static void note_folder(lua_State *L, const lua_Debug *ar, const char *file, int k) {
  size_t len = strlen(ar->source), end = strlen(file);
  if (len < end || strcmp(ar->source + len - end, file) != 0) return;
  get_state(L)->library[k] = lua_pushlstring(L, ar->source, len - end);
  lua_setiuservalue(L, lua_upvalueindex(1), k + 1);
}

/* _library(f), of the file init.lua, f being of globals.lua: chunks of their folder, which the two templates
** that found them may name in two ways, are passed over when an error looks for its line. */
static int library(lua_State *L) {
  lua_Debug ar;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "S", &ar)) note_folder(L, &ar, "init.lua", 0);
  lua_settop(L, 1);
  if (lua_getinfo(L, ">S", &ar)) note_folder(L, &ar, "globals.lua", 1);
  return 0;
}

static int ops(lua_State *L) {
  lua_newtable(L);
  for (int i = 0, n = 0; i < NOP; i++) {
    if (!op_table[i].name) continue;
    char kind = op_table[i].kind;
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, op_table[i].doc, strcspn(op_table[i].doc, "("));
    lua_setfield(L, -2, "name");
    lua_pushstring(L, op_table[i].doc);
    lua_setfield(L, -2, "doc");
    lua_pushinteger(L, op_table[i].arity);
    lua_setfield(L, -2, "arity");
    lua_pushstring(L, kind == 'e' ? "elementwise" : kind == 'r' ? "reduce" : "other");
    lua_setfield(L, -2, "kind");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const entry module_entries[] = {
    {"memory", memory,
     "memory({by: \"op\" | \"name\"}) -> table\n"
     "{live =, peak =, cached =, limit =} in bytes; with by, a table of what is live: by the op "
     "that made it (leaf: a tracked leaf has it; data: no op made it), or by the name of the "
     "Variable that has it (W.grad: W's gradient; \"\": none with a name); not that of other Lua "
     "states",
     false},
    {"memory_limit", memory_limit,
     "memory_limit(bytes: int(0..) = 0)\nat most so much live memory; 0: no limit", false},
    {"reset_peak", reset_peak, "reset_peak()\nmemory().peak starts again from what is live", false},
    {"trim", trim, "trim()\ngives cached memory back to the system", false},
    {"set_num_threads", set_num_threads,
     "set_num_threads(n: int(1..4096))\nthreads to compute with", false},
    {"num_threads", num_threads, "num_threads() -> int\nthreads to compute with", false},
    {"seed", seed, "seed(n: int)\nstarts the random numbers anew", false},
    {"get_rng_state", get_rng_state, "get_rng_state()\nwhere the random numbers are", false},
    {"set_rng_state", set_rng_state,
     "set_rng_state(state: ints)\nback to where get_rng_state was asked", false},
    {"eval", eval, "eval(...: variable)\ncomputes what is pending", false},
    {NULL, NULL, NULL, false}};

/* ---- opening --------------------------------------------------------------------------------- */

static int state_close(lua_State *L) {
  state *S = lua_touserdata(L, 1);
  graph_close(&S->G);
  S->meta = NULL; /* finalizers still to come are older than the state: no box is known to them */
  return 0;
}

/* The state, from the registry or new. */
static void push_state(lua_State *L) {
  if (lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.state") == LUA_TUSERDATA) return;
  lua_pop(L, 1);
  state *S = lua_newuserdatauv(L, sizeof *S, 2);
  memset(S, 0, sizeof *S);
  graph_init(&S->G);
  S->pace = PACE;
  S->G.release = function_release;
  S->print = (print_options){.precision = 8, .threshold = 1000, .linewidth = 80};
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  S->G.host = lua_tothread(L, -1);
  if (lua_getglobal(L, "ipairs") == LUA_TFUNCTION) {
    lua_newtable(L);
    lua_call(L, 1, 1);
    S->ipairs = lua_tocfunction(L, -1);
  }
  lua_pop(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, state_close);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -3);
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "moongrad.state");
}

/* While the module is opened these stand on the stack. */
enum { STATE = 1, VARIABLE_META, VARIABLE_METHODS, MODULE, MODULE_DOCS };

static void push_closure(lua_State *L, lua_CFunction f) {
  lua_pushvalue(L, STATE);
  lua_pushvalue(L, VARIABLE_META);
  lua_pushcclosure(L, f, 2);
}

/* With the text that its signature begins. */
static void push_documented(lua_State *L, lua_CFunction f, const char *doc, bool method) {
  for (int i = STATE; i <= VARIABLE_META; i++) lua_pushvalue(L, i);
  lua_pushstring(L, doc);
  if (method) lua_pushnil(L), lua_pushboolean(L, true);
  lua_pushcclosure(L, f, method ? METHOD_UPVALUE : 3);
}

/* Closures of the metatable on top, with the methods as third upvalue. */
static void fill_metatable(lua_State *L, const luaL_Reg *functions) {
  for (int i = STATE; i <= VARIABLE_METHODS; i++) lua_pushvalue(L, i);
  luaL_setfuncs(L, functions, 3);
}

/* A metatable that is its objects' table of methods, too */
static void make_class(lua_State *L, const char *name, const luaL_Reg *functions) {
  luaL_newmetatable(L, name);
  fill_metatable(L, functions);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

static void make_metatables(lua_State *L) {
  static const struct {
    const char *name;
    int op;
  } operators[] = {{"__add", OP_add},        {"__sub", OP_sub}, {"__mul", OP_mul},
                   {"__div", OP_div},        {"__pow", OP_pow}, {"__mod", OP_mod},
                   {"__idiv", OP_floor_div}, {NULL, 0}};
  lua_pushvalue(L, VARIABLE_META);
  fill_metatable(L, variable_meta);
  fill_metatable(L, mask_meta);
  lua_pushliteral(L,
                  "Variable (x:item() is its number)"); /* what Lua's own functions say they got */
  lua_setfield(L, VARIABLE_META, "__name");
  for (int i = 0; operators[i].name; i++) {
    push_documented(L, op_functions[operators[i].op], op_table[operators[i].op].doc, false);
    lua_setfield(L, VARIABLE_META, operators[i].name);
  }
  push_closure(L, unary_minus);
  lua_setfield(L, VARIABLE_META, "__unm");
  luaL_newmetatable(L, "moongrad.memory");
  fill_metatable(L, memory_meta);
  luaL_newmetatable(L, "moongrad.shape");
  fill_metatable(L, shape_meta);
  luaL_newmetatable(L, "moongrad.Function");
  fill_metatable(L, function_meta);
  luaL_newmetatable(L, "moongrad.guard");
  fill_metatable(L, guard_meta);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, guard_meta);
  luaL_newmetatable(L, "moongrad.compiled");
  fill_metatable(L, compiled_meta);
  make_class(L, "moongrad.watch", watch_meta);
  make_class(L, "moongrad.reader", reader_meta);
  make_class(L, "moongrad.writer", writer_meta);
  make_class(L, "moongrad.sheet", sheet_meta);
  make_class(L, "moongrad.picture", picture_meta);
  make_class(L, "moongrad.ahead", ahead_meta);
  lua_settop(L, VARIABLE_METHODS);
}

/* A function of the module, with its doc, and perhaps a method. One whose name begins with _ is neither
** a method nor in mg.help. */
static void add(lua_State *L, const char *name, lua_CFunction f, const char *doc, bool method) {
  bool shown = doc && *name != '_';
  int n = shown && method ? 2 : 1;
  for (int i = 0; i < n; i++) {
    push_documented(L, f, doc, i > 0);
    if (shown) note_doc(L, MODULE_DOCS, -1, doc);
    lua_setfield(L, i > 0 ? VARIABLE_METHODS : MODULE, name);
  }
  if (shown) note_name(L, MODULE_DOCS, name);
  lua_settop(L, MODULE_DOCS);
}

/* Under the name that its doc begins with */
static void add_op(lua_State *L, int op) {
  const char *doc = op_table[op].doc;
  char name[64] = {0};
  memcpy(name, doc, strcspn(doc, "("));
  add(L, name, op_functions[op], doc, op != OP_rand);
}

/* The rows of a kind: elementwise, reductions, others */
static void add_ops(lua_State *L, char kind, const char *title) {
  note_group(L, MODULE_DOCS, title);
  for (int op = 0; op < NOP; op++)
    if (op_functions[op] && op_table[op].kind == kind) add_op(L, op);
}

/* One without a doc has its row's. */
static const char *doc_of(const entry *e) {
  for (int op = 0; !e->doc && op < NOP; op++)
    if (op_table[op].name && strcmp(op_table[op].name, e->name) == 0) return op_table[op].doc;
  return e->doc;
}

static void add_all(lua_State *L, const entry *e, const char *title) {
  note_group(L, MODULE_DOCS, title);
  for (; e->name; e++) add(L, e->name, e->f, doc_of(e), e->method);
}

/* The state and the metatables are of the copy that was opened first, and point into it. */
static void refuse_other_copy(lua_State *L) {
  bool opened = lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.methods") != LUA_TNIL;
  bool ours = lua_rawgetp(L, LUA_REGISTRYINDEX, guard_meta) != LUA_TNIL;
  if (opened && !ours)
    luaL_error(L, "moongrad: another copy of its core.so is open in this Lua state");
  lua_pop(L, 2);
}

/* STATE, VARIABLE_META and the methods: made once, found again later */
static void push_shared(lua_State *L) {
  push_state(L);
  luaL_newmetatable(L, "moongrad.Variable");
  state *S = lua_touserdata(L, STATE);
  S->meta = lua_topointer(L, VARIABLE_META);
  if (lua_getfield(L, LUA_REGISTRYINDEX, "moongrad.methods") != LUA_TTABLE) {
    lua_pop(L, 1);
    push_properties(L);
    make_metatables(L);
    publish(L);
    lua_pushvalue(L, VARIABLE_METHODS);
    lua_setfield(L, LUA_REGISTRYINDEX, "moongrad.methods");
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, guard_meta);
  S->guard = lua_topointer(L, -1);
  lua_pop(L, 1);
}

/* MODULE and MODULE_DOCS */
static void push_module(lua_State *L) {
  lua_newtable(L);
  lua_newtable(L);
  lua_createtable(L, 0, 1); /* docs keep nobody alive */
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, MODULE_DOCS);
  lua_newtable(L);
  lua_setfield(L, MODULE_DOCS, "groups");
  lua_pushvalue(L, VARIABLE_METHODS);
  lua_setfield(L, MODULE_DOCS, "methods");
}

static void add_public(lua_State *L) {
  add_ops(L, 'e', "elementwise");
  add_ops(L, 'r', "reductions");
  add_all(L, reduce_entries, "reductions");
  add_ops(L, 'o', "shape and order");
  add_all(L, op_entries, "shape and order");
  static const struct {
    const entry *entries;
    const char *title;
  } rooms[] = {{convert_entries, "new arrays"},
               {box_entries, "Variables"},
               {bytes_entries, "Variables"},
               {csv_entries, "Variables"},
               {picture_entries, "Variables"},
               {ahead_entries, "Variables"},
               {backward_entries, "gradients"},
               {function_entries, "gradients"},
               {compile_entries, "gradients"},
               {modes_entries, "modes"},
               {assign_entries, "memory and threads"},
               {tidy_entries, "memory and threads"},
               {inspect_entries, "memory and threads"},
               {interrupt_entries, "memory and threads"},
               {origin_entries, "memory and threads"},
               {module_entries, "memory and threads"}};
  for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
    add_all(L, rooms[i].entries, rooms[i].title);
}

static void add_define(lua_State *L) {
  lua_pushvalue(L, MODULE);
  for (int i = STATE; i <= MODULE_DOCS; i++) lua_pushvalue(L, i);
  luaL_setfuncs(L, define_functions, MODULE_DOCS);
  lua_settop(L, MODULE_DOCS);
  lua_pushvalue(L, MODULE_DOCS);
  lua_setfield(L, MODULE, "_docs");
}

/* What only Lua's side of the library calls, and specs */
static void add_private(lua_State *L) {
  add(L, "_attempt", attempt_call, NULL, false);
  add(L, "_attempt_values", attempt_values, NULL, false);
  add(L, "_lend", lend, NULL, false);
  add(L, "_commit", commit, NULL, false);
  add(L, "_fail_at", fail_at, NULL, false);
  add(L, "_hostile", set_hostile, NULL, false);
  add(L, "_library", library, NULL, false);
  add(L, "_ops", ops, NULL, false);
  add(L, "_profile", profile_call, NULL, false);
  add(L, "_seeded", seeded, NULL, false);
}

static void add_values(lua_State *L) {
  lua_pushvalue(L, STATE);
  lua_pushvalue(L, VARIABLE_META);
  lua_getglobal(L, "string");
  lua_getfield(L, -1, "format");
  lua_remove(L, -2);
  for (int i = 0; i < 3; i++) lua_pushvalue(L, -3);
  lua_pushcclosure(L, format, 3);
  lua_setfield(L, MODULE, "_format");
  lua_pushcclosure(L, raise_error, 3);
  lua_setfield(L, MODULE, "raise");
  push_closure(L, new_config);
  lua_call(L, 0, 1);
  note_doc(L, MODULE_DOCS, -1, config_doc);
  lua_setfield(L, MODULE, "Config");
  lua_pushliteral(L, VERSION);
  lua_setfield(L, MODULE, "version");
  push_newaxis(L);
  lua_setfield(L, MODULE, "newaxis");
}

/* Standard input and output that were closed become /dev/null: a file that took their place would be given
** what is printed. */
static void hold_places(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
}

__attribute__((visibility("default"))) int luaopen_moongrad_core(lua_State *L) {
  luaL_checkversion(L);
  if (cpu_level() < 2)
    luaL_error(L, "moongrad needs a processor of level x86-64-v2 (SSE4.2, POPCNT) or later");
  stack_grow();
  hold_places();
  lua_settop(L, 0);
  refuse_other_copy(L);
  push_shared(L);
  push_module(L);
  add_public(L);
  add_define(L);
  add_private(L);
  add_values(L);
  lua_settop(L, MODULE);
  return 1;
}
