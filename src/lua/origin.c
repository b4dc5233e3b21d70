/* origin.c -- Config.debug: where a Variable was made, and where a nan or an infinity in it came from.
**
** With debug on the values of each result are looked at as soon as it is made. Of one that is not finite its
** node keeps a text, that of an operand which was so before, so that the first cause is what is told. A nan
** that a mask hides later alarms nobody: what is asked are results, when a backward begins or
** mg.detect_anomaly ends. Gradients are looked at by the backward itself.
*/
#include <string.h>

#include "lua/signature.h"

static const char *const kinds[] = {[UNFINITE_INF] = "inf", [UNFINITE_NAN] = "nan"};

static void keep(graph *G, char **to, const char *text) {
  size_t n = strlen(text) + 1;
  char *p = mg_alloc(&G->c, n);
  if (p) *to = memcpy(p, text, n);
}

/* The name of the op that runs: the first in its signature */
static const char *push_op(lua_State *L, const node *n) {
  if (node_has_creator(n) && n->op < NOP) return lua_pushstring(L, op_table[n->op].name);
  if (n->op == OP_OUTPUT && node_is_function(n->in[0])) return lua_pushstring(L, n->in[0]->x->name);
  const char *name = push_signature_name(L);
  return name ? name : lua_pushliteral(L, "an op");
}

/* Of the operands at 1..top one that is not finite, the first of the worst; NULL: a number. */
typedef struct {
  int kind, at;
  const node *from;
} culprit;

static void suspect(lua_State *L, state *S, int i, const node *made, int at, culprit *c) {
  node **b = to_box(L, i);
  int kind = UNFINITE_NONE;
  if (b && *b && *b != made) kind = node_unfinite(&S->G, *b);
  else if (lua_type(L, i) == LUA_TNUMBER) {
    lua_Number v = lua_tonumber(L, i);
    kind = v != v ? UNFINITE_NAN : v - v != 0 ? UNFINITE_INF : UNFINITE_NONE;
  }
  if (kind > c->kind) *c = (culprit){kind, at, b ? *b : NULL};
}

static culprit find_culprit(lua_State *L, state *S, const node *made, int top) {
  culprit c = {UNFINITE_NONE, 0, NULL};
  for (int i = 1; i <= top; i++) {
    suspect(L, S, i, made, i, &c);
    for (int k = 1, n = lua_istable(L, i) ? (int)lua_rawlen(L, i) : 0; k <= n; k++) {
      lua_rawgeti(L, i, k);
      suspect(L, S, lua_gettop(L), made, i, &c);
      lua_pop(L, 1);
    }
  }
  return c;
}

/* Operands and n itself stand at 1..top. What is known of the culprit is its node's: each text is made at
** once, with what it needs from Lua at hand, before a finalizer can free that node. */
static void note_unfinite(lua_State *L, state *S, node *n, int top, const char *where) {
  int kind = node_unfinite(&S->G, n);
  extra *x = kind ? node_extra(&S->G, n) : NULL;
  if (!x || x->origin) return;
  const char *op = push_op(L, n), *text;
  culprit c = find_culprit(L, S, n, top);
  const extra *of = c.from ? c.from->x : NULL;
  const char *known = of ? of->origin : NULL, *name = of ? of->name : NULL;
  if (c.kind == UNFINITE_NONE)
    text = lua_pushfstring(L, "%s made %s of finite values at %s", op, kinds[kind], where);
  else if (c.kind < kind)
    text = lua_pushfstring(L, "%s made nan of inf at %s; %s", op, where,
                           known ? known : "that inf was given");
  else if (known) text = known;
  else if (name)
    text = lua_pushfstring(L, "%s was given to %s at %s, by \"%s\", operand %d", kinds[c.kind], op,
                           where, name, c.at);
  else
    text =
        lua_pushfstring(L, "%s was given to %s at %s, operand %d", kinds[c.kind], op, where, c.at);
  keep(&S->G, &x->origin, text);
}

/* "script.lua:12", or nothing; pushed */
static const char *push_line(lua_State *L) {
  push_where(L);
  size_t len = lua_rawlen(L, -1);
  return lua_pushlstring(L, lua_tostring(L, -1), len > 2 ? len - 2 : 0);
}

void note_line(lua_State *L, state *S, node *n) {
  int top = lua_gettop(L);
  const char *where = push_line(L);
  extra *x = *where && node_has_creator(n) ? node_extra(&S->G, n) : NULL;
  if (x && !x->line) keep(&S->G, &x->line, where);
  S->G.c.err = OK; /* without memory the line is just not known */
  lua_settop(L, top);
}

void note_made(lua_State *L, state *S, node *n) {
  int top = lua_gettop(L);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  note_line(L, S, n);
  if (!S->G.recorder) note_unfinite(L, S, n, top, push_line(L));
  S->G.c.err = OK; /* likewise */
  lua_settop(L, top);
}

bool refuse_unfinite(lua_State *L, state *S, node *n, const char *who, const char *what) {
  int kind = node_unfinite(&S->G, n);
  if (!kind) return !S->G.c.err;
  const char *origin = n->x ? n->x->origin : NULL;
  refuse(L, "%s: %s has %s: %s", who, what, kinds[kind],
         origin ? origin : "where from, is known of what was made with Config.debug on");
}

/* _refuse_unfinite(x, who, what): x shall be finite */
static int refuse_if_unfinite(lua_State *L) {
  state *S = get_state(L);
  const char *who = luaL_checkstring(L, 2), *what = luaL_checkstring(L, 3);
  TRY(L, S, refuse_unfinite(L, S, check_node(L, 1, "refuse_unfinite"), who, what));
  return 0;
}

const entry origin_entries[] = {{"_refuse_unfinite", refuse_if_unfinite, NULL, false},
                                {NULL, NULL, NULL, false}};
