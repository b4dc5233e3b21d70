/* define.c -- functions with a signature and a doc: those written in Lua, and what mg.help knows of all.
**
** The table of docs leads from a function (a class's is its `init`) to its text: the signature, a line
** break, what it does. Its field `groups` is a list of lists of names, each with a `title`; `now` is the
** list that names are added to; `methods` are those of Variables, with a number for each property. define, checked and their kin read their own arguments: they are what
** signatures are made with.
*/
#include <string.h>

#include "lua/binding.h"

enum {
  FUNCTIONS = 4,
  METHODS = 3,
  DOCS = 5
}; /* upvalues, as they stand while the module is opened */

/* ---- docs ------------------------------------------------------------------------------------ */

/* Of the value at i; what mg.help does not show is `self`. */
void note_doc(lua_State *L, int docs, int i, const char *text) {
  const char *self = strstr(text, "(self"), *end = strchr(text, '(');
  lua_pushvalue(L, i);
  if (self && self == end) {
    lua_pushlstring(L, text, self + 1 - text);
    lua_pushstring(L, self + 5 + strspn(self + 5, ", "));
    lua_concat(L, 2);
  } else lua_pushstring(L, text);
  lua_rawset(L, docs);
}

/* Names that follow belong to the group of this title; "": to none. */
void note_group(lua_State *L, int docs, const char *title) {
  lua_getfield(L, docs, "groups");
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  for (lua_Integer i = 1; *title && i <= n; i++) {
    lua_rawgeti(L, -1, i);
    lua_getfield(L, -1, "title");
    if (strcmp(lua_tostring(L, -1), title) == 0) {
      lua_pop(L, 1);
      lua_setfield(L, docs, "now");
      lua_pop(L, 1);
      return;
    }
    lua_pop(L, 2);
  }
  lua_newtable(L);
  lua_pushstring(L, title);
  lua_setfield(L, -2, "title");
  lua_pushvalue(L, -1);
  lua_setfield(L, docs, "now");
  if (*title) lua_rawseti(L, -2, n + 1);
  else lua_pop(L, 1);
  lua_pop(L, 1);
}

void note_name(lua_State *L, int docs, const char *name) {
  lua_getfield(L, docs, "now");
  lua_pushstring(L, name);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  lua_pop(L, 1);
}

/* ---- for Lua --------------------------------------------------------------------------------- */

/* (signature, doc, fn): pushes fn behind its signature, with its doc noted. */
static const char *push_function(lua_State *L, const char *who) {
  const char *text = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
  lua_settop(L, 3);
  if (!strchr(text, '(') || lua_type(L, 2) != LUA_TSTRING || lua_type(L, 3) != LUA_TFUNCTION)
    refuse(L, "%s: expected a signature, a doc and a function", who);
  lua_pushvalue(L, lua_upvalueindex(DOCS));
  lua_pushfstring(L, "%s\n%s", text, lua_tostring(L, 2));
  push_checked(L, 1, 3, false);
  note_doc(L, 4, -1, lua_tostring(L, 5));
  return text;
}

/* checked(signature, doc, fn) */
static int checked(lua_State *L) {
  push_function(L, "checked");
  return 1;
}

/* define(signature, doc, fn): mg.name, and a method where an array comes first. */
static int define(lua_State *L) {
  const char *text = push_function(L, "define");
  const char *name = lua_pushlstring(L, text, strcspn(text, "(")); /* at 7, the function at 6 */
  note_name(L, 4, name);
  lua_pushvalue(L, 6);
  lua_setfield(L, lua_upvalueindex(FUNCTIONS), name);
  lua_pushvalue(L, 1);
  bool method = signature_has_method(L);
  if (!method || lua_getfield(L, lua_upvalueindex(METHODS), name) == LUA_TNUMBER) return 0;
  push_checked(L, 1, 3, true);
  note_doc(L, 4, -1, lua_tostring(L, 5));
  lua_setfield(L, lua_upvalueindex(METHODS), name);
  return 0;
}

/* _group(title) */
static int group(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(DOCS));
  note_group(L, 2, luaL_checkstring(L, 1));
  return 0;
}

/* _near(name, {names}): what may have been meant, or nil */
static int near(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  int least = 9;
  lua_settop(L, 2);
  lua_pushnil(L);
  for (int i = 1, n = (int)lua_rawlen(L, 2); i <= n; i++) {
    lua_rawgeti(L, 2, i);
    int d = lua_type(L, -1) == LUA_TSTRING ? name_distance(name, lua_tostring(L, -1)) : 9;
    if (d < least) least = d, lua_replace(L, 3);
    else lua_pop(L, 1);
  }
  return 1;
}

const luaL_Reg define_functions[] = {
    {"define", define}, {"checked", checked},         {"_group", group},
    {"_near", near},    {"signature", signature_new}, {"_parameters", signature_parameters},
    {NULL, NULL}};
