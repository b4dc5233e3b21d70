/* binding.h -- what the rooms of the binding share: the state, boxes, errors, conversions.
**
** One `state` hangs on each lua_State, in the registry. Every closure made here has it as its first
** upvalue and the metatable of Variables as its second, so a Variable is told by one comparison.
**
** The rule that keeps memory whole. Every allocation of Lua's may run a finalizer, and so may a second
** try after the core found no memory; and a finalizer may free any Variable, give it other values,
** another grad or none. So what was looked up in a node before is looked up again after:
**   boxes for results are made first, empty; then nodes are taken from the boxes on the stack, last of
**   all, within the expression of TRY, which is computed anew at each try:
**       node **r = box_new(L, S);
**       TRY(L, S, *r = op_to(&S->G, node_at(L, 1), t));
**   What stays as it was: what stands on our stack, the address of a box there, the dtype and the shape
**   of a Variable, and nodes in boxes made here that no script has seen.
** mg._hostile(fn) calls fn wherever a box is made or a TRY begins: specs prove with it that the rule is
** kept.
*/
#ifndef MG_BINDING_H
#define MG_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "graph/graph.h"

#if defined LUA_VERSION_NUM && LUA_VERSION_RELEASE_NUM < 50403 /* lua_closeslot */
#error "moongrad needs Lua 5.4.3 or a later 5.4"
#endif

/* How Variables are shown: digits, elements beyond which the middle is left out, columns of a line */
typedef struct {
  int precision, linewidth;
  int64_t threshold;
} print_options;

typedef struct {
  graph G;            /* first: a graph is its state */
  uint64_t seen;      /* mem_total() when the collector was last told, less what boxes cost since */
  int tidy;           /* calls of mg.tidy under way */
  int hostile;        /* mg._hostile is set */
  bool transforms;    /* a function of derivatives is under way: what is tracked belongs to it */
  uint64_t pace;      /* it is told again after so many bytes */
  uint64_t converted; /* how often modules' Variables gave way to others: records are of the old */
  int again;          /* checkpoints that are being computed again */
  uint64_t collected; /* mem_total() when the collector last looked through everything */
  size_t low;         /* the fewest bytes alive since, as far as was seen */
  const void *meta;   /* the metatable of Variables, by its address */
  const void *guard;  /* likewise of guards */
  print_options print;
  lua_CFunction ipairs; /* what ipairs steps with */
  struct locked *locks; /* that calls under way hold */
  const char *library[2]; /* chunk names that begin so are moongrad's own; kept as user values */
} state;

static inline state *get_state(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

/* Objects made while the state is closed are never finalized themselves: in finalizers nothing is begun whose
** end would be theirs. */
static inline bool in_finalizer(lua_State *L) { return lua_gc(L, LUA_GCISRUNNING) < 0; }

/* One row of a room's functions; a NULL name ends them. */
typedef struct {
  const char *name;
  lua_CFunction f;
  const char *doc;
  bool method;
} entry;
extern const entry box_entries[], convert_entries[], op_entries[], reduce_entries[],
    function_entries[], backward_entries[], modes_entries[], tidy_entries[], bytes_entries[],
    inspect_entries[], interrupt_entries[], origin_entries[], assign_entries[], compile_entries[];
extern const lua_CFunction op_functions[NOP];
int unary_minus(lua_State *L);
extern const luaL_Reg variable_meta[], shape_meta[], function_meta[], guard_meta[], compiled_meta[], reader_meta[], writer_meta[];
extern const luaL_Reg mask_meta[];

/* ---- errors (box.c) -------------------------------------------------------------------------- */

/* Where a boolean stands for an array: what == gave, most often. */
#define OF_EQUALS "; == asks whether both are one Variable, mg.eq goes by elements"
/* Raises at the nearest line of a script, the library's own Lua left out. */
__attribute__((noreturn, format(printf, 2, 3))) void refuse(lua_State *L, const char *fmt, ...);
__attribute__((noreturn)) void refuse_freed(lua_State *L, node **b);
void push_where(lua_State *L);
/* Raises the message on top there. Where it does not begin with the name of the function that the
** script called, this comes first: "bernoulli: lt: shapes (8) and (3) do not broadcast"; behind it stands
** where in nested modules we are, "; in model[2] (Linear)", and the text of a signature, or NULL. */
_Noreturn void raise_here(lua_State *L, const char *signature);
/* The core gave nothing. Without memory: makes room, once, and returns for another try. Else raises
** what the core said. */
void failed(lua_State *L, state *S, int tries);
/* Random numbers that a failed try took are there for the next. */
typedef struct {
  int n;
  uint64_t counter;
} attempt;
#define TRY(L, S, expr)                                                                            \
  for (attempt try_ = first_try(L, S); !(expr); try_.n++)                                          \
  (S)->G.c.counter = try_.counter, failed(L, S, try_.n)

void hostile(lua_State *L, state *S); /* module.c: calls the function of mg._hostile */
static inline attempt first_try(lua_State *L, state *S) {
  if (__builtin_expect(S->hostile, 0)) hostile(L, S);
  return (attempt){0, S->G.c.counter};
}

const char *kind_of(lua_State *L, int i); /* the type's name as people know it */
void check_plain(lua_State *L, int i, const char *who, const char *as); /* a table without an idea of its own of what it holds */
const char *check_no_nul(lua_State *L, int i, const char *who); /* a string without NULs */
const char *push_number_text(lua_State *L, int i); /* as tostring, with a point in any locale */

/* ---- boxes (box.c) --------------------------------------------------------------------------- */

/* What a box and its node weigh for the collector, beside the values. */
enum { BOX_COST = 160, PACE = 1 << 20 };

void tidy_enter(lua_State *L, state *S); /* tidy.c: the box on top was made */
void tidy_outlive(lua_State *L, int i);  /* Variables at i, in tables too, are kept beyond calls of tidy */
void tidy_self(lua_State *L, int self, int ref); /* a Function's, which stands in the registry at ref while it is recorded */

static inline node **box_new(lua_State *L, state *S) {
  node **b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = NULL;
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  S->seen -= BOX_COST;
  if (__builtin_expect(S->tidy | S->hostile, 0)) {
    if (S->tidy) tidy_enter(L, S);
    if (S->hostile) hostile(L, S);
  }
  return b;
}

/* The box at i, NULL: not a Variable. What was looked at may stay on the stack. */
static inline node **look(lua_State *L, const state *S, int i) {
  node **b = lua_touserdata(L, i);
  return b && lua_getmetatable(L, i) && lua_topointer(L, -1) == S->meta ? b : NULL;
}

static inline node **to_box(lua_State *L, int i) {
  int top = lua_gettop(L);
  node **b = look(L, get_state(L), i);
  lua_settop(L, top);
  return b;
}

static inline node *unpack(lua_State *L, node **b) {
  if (!*b) refuse_freed(L, b);
  return *b;
}

static inline node *to_node(lua_State *L, int i) { /* NULL: not a Variable */
  node **b = to_box(L, i);
  return b ? unpack(L, b) : NULL;
}

/* Of the Variable that stands at i, as was found before */
static inline node *node_at(lua_State *L, int i) { return unpack(L, lua_touserdata(L, i)); }

node *check_node(lua_State *L, int i, const char *who);
void box_drop(state *S, node **b); /* the box is empty after */
bool node_set_name(graph *G, node *n, const char *name);
void push_properties(lua_State *L); /* the table of methods, with what tells properties in it */
node **creator_new(lua_State *L);   /* an empty Function box; it holds a ref, no handle */
node *check_creator(lua_State *L, int i, const char *who);
void push_origin(lua_State *L, const node *f);   /* what made it, and where, in parentheses */

/* ---- Config.debug (origin.c) ---------------------------------------------------------------- */

/* Where n, the result of an op, was made, and what in it is not finite and why; its operands and itself
** are all that stands on the stack. */
void note_made(lua_State *L, state *S, node *n);
void note_line(lua_State *L, state *S, node *n); /* the first of it alone */
/* Raises "who: what has nan: log made nan ..." where n is not finite. False: no memory to tell */
bool refuse_unfinite(lua_State *L, state *S, node *n, const char *who, const char *what);

/* ---- the collector (module.c) ---------------------------------------------------------------- */

/* Before the collector is told to run: a finalizer that Lua finds no room to call is lost, with what it holds. */
bool can_collect(lua_State *L);
void pace_now(lua_State *L, state *S);
void collect_before_backward(lua_State *L, state *S);

/* After each op, with its operands and result on the stack. */
static inline void made(lua_State *L, state *S, node *n) {
  if (__builtin_expect(S->G.debug, 0)) note_made(L, S, n);
  if (__builtin_expect(mem_total() - S->seen >= S->pace, 0)) pace_now(L, S);
}

/* ---- conversions (convert.c) ----------------------------------------------------------------- */

/* Pushes a box with the values of a number, boolean, table or Variable, untracked; t < 0: whatever
** dtype fits; WHOLE_NUMBERS: int64, of whole numbers alone. */
enum { WHOLE_NUMBERS = NDTYPE };
node **push_values(lua_State *L, state *S, int i, const char *who, int t);
void push_imm(lua_State *L, dtype t, imm v);
int64_t check_whole(lua_State *L, int i, const char *who, const char *what);
int dtype_at(lua_State *L, int i); /* -1: none stands there */
dtype check_dtype(lua_State *L, int i, const char *who);
int check_axis(lua_State *L, int i, const char *who, const shape *s); /* 0-based */
/* Whole numbers: the arguments from i on, or the table at i. Their number. */
int check_list(lua_State *L, int i, const char *who, const char *what, int64_t out[MAXDIM]);
void check_dims(lua_State *L, const char *who, const shape *s);
void check_shape(lua_State *L, int i, const char *who, shape *s);
void only_elements(lua_State *L, int i, const char *who); /* the table at i has no keys but 1..n */
/* The options in the table at i (nil: none) are of these names; `list`: it may hold a list too. */
void check_options(lua_State *L, int i, const char *who, const char *const *names, bool list);
void push_shape(lua_State *L, const shape *s);
int variable_tostring(lua_State *L);
int joined(lua_State *L); /* .. */

/* ---- signatures (signature.c, arguments.c) -------------------------------------------------- */

/* What a closure takes stands in its third upvalue: the text of its signature, in the first line. The
** fifth is true of methods of Variables, which mg has as functions, too. */
enum { METHOD_UPVALUE = 5 };
typedef struct signature signature;

/* The stack becomes the values of arguments and options, in the signature's order, checked and
** converted; then those that ... stands for. Their number. */
int sig_values(lua_State *L);
void sig_check(lua_State *L); /* the stack stays as it is */
/* Pushes arrays and lists alone (nil: left out) and writes all else into attributes. The index of the
** first pushed. */
int sig_operands(lua_State *L, attrs *to);
/* Their nodes, lists' among them, NULL where left out, at most so many: to be fetched when nothing is
** allocated any more. */
int sig_nodes(lua_State *L, int base, node **in, int most);
int sig_results(lua_State *L); /* how many results it names behind ->; 1 where it names none */

void sig_method(lua_State *L);       /* of one of Variables the first argument is one */
void sig_count(lua_State *L, int n); /* there are n arguments; more are refused */
int signature_new(lua_State *L); /* signature(text): a function that gives its arguments back, checked */
int signature_parameters(lua_State *L);
void push_checked(lua_State *L, int text, int fn, bool method); /* fn behind its signature */
const char *checked_name(lua_State *L, int i);     /* of such a function at i, else NULL */
bool signature_has_method(lua_State *L);           /* that on top: does it begin with an array? */
const char *push_signature_name(lua_State *L);     /* of the running closure; or NULL, and nothing */
int name_distance(const char *a, const char *b);   /* 9: nobody meant b by a */

/* ---- values as bytes, files (bytes.c) -------------------------------------------------------- */

/* Values in C order. */
typedef struct {
  dtype t;
  int64_t n;
  const char *p;
  union {
    double f64;
    float f32;
    int64_t i64;
    uint8_t u8;
  } one; /* of what has no array */
} values;

void push_bytes(lua_State *L, int i, const char *who, values *v); /* pushes a box that keeps them */

enum { LABEL = 1 }; /* user value of a reader or writer, and of what is made of one: its name */

struct stream *check_stream(lua_State *L); /* that of the reader at 1 */
bool writer_put(lua_State *L, state *S, const void *p, size_t n); /* to the writer at 1 */
/* Raises what the core said, after the label of what stands at 1; where memory is short, returns once
** for another try. */
void file_failed(lua_State *L, state *S, int tries);
#define FILE_TRY(L, S, expr)                                                                       \
  for (int try_ = 0; !(expr); try_++) file_failed(L, S, try_)

extern const entry csv_entries[], picture_entries[], ahead_entries[];
extern const luaL_Reg sheet_meta[], picture_meta[], ahead_meta[];

/* ---- names and docs (define.c) --------------------------------------------------------------- */

void note_doc(lua_State *L, int docs, int i, const char *text);
void note_group(lua_State *L, int docs, const char *title);
void note_name(lua_State *L, int docs, const char *name);
extern const luaL_Reg define_functions[];

/* ---- indexing (subscript.c) ---------------------------------------------------------------------- */

int variable_subscript(lua_State *L);     /* x[key] */
int variable_pairs(lua_State *L);
void push_newaxis(lua_State *L);
int variable_set_subscript(lua_State *L); /* x[key] = v */

/* ---- modes (modes.c) ------------------------------------------------------------------------- */

enum mode {
  M_BACKPROP = 1,
  M_TRAIN = 2,
  M_DTYPE = 4,
  M_LEAN = 8,
  M_DEBUG = 16,
  M_RANDOM = 32,
  M_CAPTURES = 64,
  M_TRANSFORMS = 128
};

typedef struct modes {
  unsigned what; /* which of these count */
  bool backprop, train, lean, debug, transforms;
  dtype dtype;
  struct {
    uint64_t seed, counter;
  } random;
  captures *captures;
} modes;

modes modes_now(const state *S, unsigned what);
/* Calls the function below nargs arguments, in these modes. All its results are left. */
void call_in_modes(lua_State *L, state *S, int nargs, const modes *m);
int new_config(lua_State *L); /* gives mg.Config */
extern const char config_doc[];

/* What must be put right when a call ends, however it ends. `end` may be called twice and uses no
** memory. */
typedef struct guard {
  void (*end)(state *S, struct guard *g);
} guard;

/* Pushes a guard of so many bytes, with nothing to end yet. */
void *guard_new(lua_State *L, size_t bytes);
/* Calls the function below nargs arguments; right below it stands a guard. All results are left in
** their places, the guard too. */
void call_guarded(lua_State *L, int nargs);

void check_callable(lua_State *L, int i, const char *who); /* a function, or what has __call */

/* ---- all or nothing (assign.c) --------------------------------------------------------------- */

int commit(lua_State *L);
int attempt_call(lua_State *L);
int attempt_values(lua_State *L);
int lend(lua_State *L);

/* ---- where time and memory go (report.c) ---------------------------------------------------- */

int profile_call(lua_State *L);
void push_memory_by(lua_State *L, state *S, bool name); /* a table: by op, or by Variable name */

/* ---- Functions written in Lua (function.c) --------------------------------------------------- */

/* Runs f, met by b: gradients of its outputs in, of its inputs out. */
void function_backward(lua_State *L, state *S, backward *b, node *f, bool create_graph);
void function_release(graph *G, int ref);
void function_failed(state *S, const node *f); /* its self keeps no inputs, which may lead back to it */

/* ---- other C modules (foreign.c) ------------------------------------------------------------- */

void publish(lua_State *L); /* the table of moongrad.h, in the registry */
extern const luaL_Reg watch_meta[];

#endif
