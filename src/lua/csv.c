/* csv.c -- comma-separated text as columns: a look through it all tells what each holds, a second
** fills arrays, or tables of strings.
*/
#include <math.h>
#include <string.h>

#include "file/csv.h"
#include "file/file.h"
#include "lua/binding.h"

enum { WHOLE = 1, REAL = 2, TRUTH = 4, WORDS = 64 };

typedef struct {
  uint8_t can;     /* what all its fields can be read as */
  int64_t missing; /* how many say nothing */
} column;

typedef struct {
  buffer *text;
  int64_t len, rows;
  int64_t n; /* columns */
  column *c;
  bool header;
  char delimiter;
} sheet;

enum { MISSING = LABEL + 1 }; /* user value: the words that say nothing, a table */

/* Those words, in C, as long as nobody touches the table. */
typedef struct {
  int n;
  const char *p[WORDS];
  size_t len[WORDS];
  bool begins[256]; /* what any of them begins with; 0: one is empty */
} words;

static sheet *check_sheet(lua_State *L) {
  sheet *t = luaL_checkudata(L, 1, "moongrad.sheet");
  if (!t->text) refuse(L, "this file was closed");
  return t;
}

/* Of the sheet at i */
static void get_words(lua_State *L, int i, words *w) {
  lua_getiuservalue(L, i, MISSING);
  *w = (words){.n = (int)luaL_len(L, -1)};
  if (w->n > WORDS) refuse(L, "load: more than %d words for what is missing", WORDS);
  for (int k = 0; k < w->n; k++) {
    if (lua_rawgeti(L, -1, k + 1) != LUA_TSTRING)
      refuse(L, "load: missing: word %d is a %s, expected a string", k + 1, kind_of(L, -1));
    w->p[k] = lua_tolstring(L, -1, &w->len[k]);
    w->begins[(uint8_t)*w->p[k]] = true;
    lua_pop(L, 1); /* the table keeps it */
  }
  lua_pop(L, 1);
}

static bool missing(const words *w, cell f) {
  f = csv_trim(f);
  if (!w->begins[f.n ? (uint8_t)*f.p : 0]) return false;
  for (int i = 0; i < w->n; i++)
    if (csv_is(f, w->p[i], w->len[i])) return true;
  return false;
}

/* ---- the first look -------------------------------------------------------------------------- */

static void classify(column *c, const words *w, cell f) {
  int64_t k;
  double d;
  bool b;
  if (missing(w, f)) c->missing++;
  else if (c->can & WHOLE && csv_whole(f, &k)) c->can &= WHOLE | REAL;
  else {
    c->can &= ~WHOLE;
    if (c->can & REAL && !csv_number(f, &d)) c->can &= ~REAL;
    if (c->can & TRUTH && !csv_truth(f, &b)) c->can &= ~TRUTH;
  }
}

static bool damaged(ctx *c, const csv *r, int got) {
  return fail(c,
              got == CSV_OPEN ? "line %lld: a quote is never closed"
                              : "line %lld: text behind a closing quote",
              (long long)r->line);
}

/* Counts the fields of the first row; is any of them a number? */
static bool first_row(ctx *c, csv *r, sheet *t, const words *w, bool *number) {
  cell f;
  double d;
  for (int got = CSV_MORE; got == CSV_MORE;) {
    if ((got = csv_next(r, &f)) == CSV_END) return true;
    if (got > CSV_END) return damaged(c, r, got);
    t->n++;
    *number |= !missing(w, f) && csv_number(f, &d);
  }
  return true;
}

/* header: 1, 0, or -1: whether the first row tells by itself. */
static bool survey(ctx *c, sheet *t, const words *w, int header) {
  csv r, start;
  bool number = false;
  csv_open(&start, t->text->p, t->len, t->delimiter);
  if (memchr(start.p, 0, start.end - start.p)) return fail(c, "it has a NUL, and is no text");
  r = start;
  if (!first_row(c, &r, t, w, &number)) return false;
  t->header = t->n > 0 && (header < 0 ? !number : header);
  if (!t->header) r = start;
  if (!(t->c = mg_alloc(c, (t->n + 1) * sizeof *t->c))) return false;
  for (int64_t k = 0; k < t->n; k++) t->c[k] = (column){WHOLE | REAL | TRUTH, 0};
  for (int64_t k = 0;;) {
    cell f;
    int64_t line = r.line;
    int got = csv_next(&r, &f);
    if (got == CSV_END) return true;
    if (got > CSV_END) return damaged(c, &r, got);
    if (k < t->n) classify(&t->c[k], w, f);
    k++;
    if (got == CSV_MORE) continue;
    if (k != t->n)
      return fail(c, "line %lld has %lld fields, the first has %lld", (long long)line, (long long)k,
                  (long long)t->n);
    t->rows++;
    k = 0;
  }
}

static bool read_text(ctx *c, stream *s, sheet *t) {
  t->len = s->left;
  ((char *)t->text->p)[t->len] = 0;
  return stream_read(c, s, t->text->p, t->len);
}

static void let_go(sheet *t) {
  if (t->text) buf_unref(t->text);
  mg_free(t->c);
  *t = (sheet){0};
}

/* reader:csv(delimiter, header or nil, {missing}): a sheet */
static int reader_csv(lua_State *L) {
  state *S = get_state(L);
  size_t len;
  const char *delimiter = luaL_checklstring(L, 2, &len);
  int header = lua_isnil(L, 3) ? -1 : lua_toboolean(L, 3);
  if (len != 1 || strchr("\"\r\n", *delimiter))
    refuse(L, "load: the delimiter must be one character, and no quote");
  luaL_checktype(L, 4, LUA_TTABLE);
  check_stream(L);
  sheet *t = lua_newuserdatauv(L, sizeof *t, 2);
  *t = (sheet){.delimiter = *delimiter};
  luaL_setmetatable(L, "moongrad.sheet");
  lua_getiuservalue(L, 1, LABEL);
  lua_setiuservalue(L, -2, LABEL);
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, -2, MISSING);
  words w;
  get_words(L, lua_gettop(L), &w);
  FILE_TRY(L, S, t->text = buf_new(&S->G.c, check_stream(L)->left + 1));
  if (!read_text(&S->G.c, check_stream(L), t) || !survey(&S->G.c, t, &w, header)) {
    let_go(t); /* at once: of what fails while Lua closes nothing is collected any more */
    file_failed(L, S, 1);
  }
  return 1;
}

static const char *type_of(const sheet *t, int64_t k) {
  column c = t->c[k];
  if (c.missing == t->rows && t->rows > 0) return "float64";
  if (c.can & WHOLE && !c.missing) return t->rows ? "int64" : "float64";
  if (c.can & REAL) return "float64";
  return c.can & TRUTH && !c.missing ? "bool" : "string";
}

static void push_text(lua_State *L, cell f) {
  if (!f.doubled) {
    lua_pushlstring(L, f.p, f.n);
    return;
  }
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int64_t i = 0; i < f.n; i++) {
    luaL_addchar(&b, f.p[i]);
    if (f.p[i] == '"') i++;
  }
  luaL_pushresult(&b);
}

/* sheet:columns(): {{name or nil, type}, ...}, and how many rows there are */
static int sheet_columns(lua_State *L) {
  sheet *t = check_sheet(L);
  csv r;
  cell f;
  csv_open(&r, t->text->p, t->len, t->delimiter);
  lua_newtable(L);
  for (int64_t k = 0; k < t->n; k++) {
    lua_createtable(L, 0, 2);
    if (t->header) {
      csv_next(&r, &f);
      push_text(L, f);
      lua_setfield(L, -2, "name");
    }
    lua_pushstring(L, type_of(t, k));
    lua_setfield(L, -2, "dtype");
    lua_rawseti(L, -2, k + 1);
  }
  lua_pushinteger(L, t->rows);
  return 2;
}

/* ---- the second ------------------------------------------------------------------------------ */

/* Where a column goes: an array's next element, or the table at result[k] */
typedef struct {
  char type; /* 0: nowhere; 'i', 'd', 'f', 'b', 's' */
  void *p;
} target;

static void store(target *to, const words *w, cell f) {
  double d = NAN;
  int64_t k = 0;
  bool b = false;
  switch (to->type) {
    case 'i':
      csv_whole(f, &k);
      to->p = (int64_t *)memcpy(to->p, &k, 8) + 1;
      break;
    case 'b':
      csv_truth(f, &b);
      *(uint8_t *)to->p = b;
      to->p = (uint8_t *)to->p + 1;
      break;
    default:
      if (missing(w, f) || !csv_number(f, &d)) d = NAN;
      if (to->type == 'd') to->p = (double *)memcpy(to->p, &d, 8) + 1;
      else {
        float s = (float)d;
        to->p = (float *)memcpy(to->p, &s, 4) + 1;
      }
  }
}

static void fill(lua_State *L, const sheet *t, target *to, const words *w, int result) {
  csv r;
  cell f;
  csv_open(&r, t->text->p, t->len, t->delimiter);
  for (int64_t k = 0, row = t->header ? 0 : 1; row <= t->rows;) {
    int got = csv_next(&r, &f);
    if (row > 0 && to[k].type == 's') {
      lua_rawgeti(L, result, k + 1);
      push_text(L, f);
      lua_rawseti(L, -2, row);
      lua_pop(L, 1);
    } else if (row > 0 && to[k].type) store(&to[k], w, f);
    k++;
    if (got != CSV_MORE) row++, k = 0;
  }
}

/* sheet:read({[k] = true}, dtype): a table of these columns, by number; dtype is that of floats. */
static int sheet_read(lua_State *L) {
  enum { WANTED = 2, FLOATS, RESULT, TARGETS };
  state *S = get_state(L);
  luaL_checktype(L, WANTED, LUA_TTABLE);
  dtype floats = check_dtype(L, FLOATS, "load");
  if (!is_float(floats)) refuse(L, "load: dtype must be float64 or float32");
  lua_settop(L, FLOATS);
  sheet *t = check_sheet(L);
  lua_newtable(L);
  target *to = lua_newuserdatauv(L, (t->n + 1) * sizeof *to, 0);
  memset(to, 0, (t->n + 1) * sizeof *to);
  shape s = {1, {t->rows}};
  for (int64_t k = 0; k < t->n; k++) {
    if (lua_rawgeti(L, WANTED, k + 1) != LUA_TNIL) {
      const char *type = type_of(t, k);
      to[k].type = type[0] == 'f' && floats == F64 ? 'd' : type[0];
      if (type[0] == 's') lua_createtable(L, (int)least(t->rows, INT32_MAX), 0);
      else {
        dtype dt = type[0] == 'f' ? floats : type[0] == 'i' ? I64 : BOOL;
        node **box = box_new(L, S);
        TRY(L, S, *box = node_array(&S->G, arr_host(&S->G.c, dt, &s)));
        to[k].p = arr_data((*box)->a);
      }
      lua_rawseti(L, RESULT, k + 1);
    }
    lua_settop(L, TARGETS);
  }
  words w;
  get_words(L, 1, &w);
  fill(L, check_sheet(L), to, &w, RESULT);
  lua_settop(L, RESULT);
  return 1;
}

static int sheet_close(lua_State *L) {
  let_go(luaL_checkudata(L, 1, "moongrad.sheet"));
  return 0;
}

const luaL_Reg sheet_meta[] = {{"columns", sheet_columns}, {"read", sheet_read},
                               {"close", sheet_close},     {"__close", sheet_close},
                               {"__gc", sheet_close},      {NULL, NULL}};

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct {
  lua_State *L;
  state *S;
  size_t n;
  char p[1 << 15];
} page;

static void flush(page *o) {
  if (!writer_put(o->L, o->S, o->p, o->n)) file_failed(o->L, o->S, 1);
  o->n = 0;
}

static void add(page *o, const char *p, size_t n) {
  while (n > 0) {
    if (o->n == sizeof o->p) flush(o);
    size_t k = (size_t)least((int64_t)n, (int64_t)(sizeof o->p - o->n));
    memcpy(o->p + o->n, p, k);
    o->n += k;
    p += k;
    n -= k;
  }
}

static void add_text(page *o, const char *p, size_t n, char delimiter) {
  if (!csv_needs_quotes(p, n, delimiter)) return add(o, p, n);
  add(o, "\"", 1);
  for (size_t i = 0; i < n; i++) {
    add(o, p + i, 1);
    if (p[i] == '"') add(o, "\"", 1);
  }
  add(o, "\"", 1);
}

static void add_number(page *o, double v, bool single) {
  char buf[40];
  void *was = point_begin();
  int n = csv_print(buf, v, single);
  point_end(was);
  add(o, buf, n);
}

static void add_whole(page *o, int64_t v) {
  char buf[24], *end = buf + sizeof buf, *p = end;
  uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
  do *--p = (char)('0' + u % 10);
  while (u /= 10);
  if (v < 0) *--p = '-';
  add(o, p, end - p);
}

static void add_element(page *o, const values *v, int64_t i) {
  switch (v->t) {
    case F64: add_number(o, ((const double *)v->p)[i], false); break;
    case F32: add_number(o, ((const float *)v->p)[i], true); break;
    case I64: add_whole(o, ((const int64_t *)v->p)[i]); break;
    case U8: add_whole(o, ((const uint8_t *)v->p)[i]); break;
    default: {
      bool b = ((const uint8_t *)v->p)[i];
      add(o, b ? "true" : "false", b ? 4 : 5);
    }
  }
}

static void add_value(page *o, char delimiter) { /* on top of the stack */
  lua_State *L = o->L;
  size_t n;
  switch (lua_type(L, -1)) {
    case LUA_TNUMBER:
      if (lua_isinteger(L, -1)) add_whole(o, lua_tointeger(L, -1));
      else add_number(o, lua_tonumber(L, -1), false);
      break;
    case LUA_TBOOLEAN:
      add(o, lua_toboolean(L, -1) ? "true" : "false", lua_toboolean(L, -1) ? 4 : 5);
      break;
    case LUA_TSTRING: {
      const char *p = lua_tolstring(L, -1, &n);
      if (memchr(p, 0, n)) refuse(L, "save: a text has a NUL");
      add_text(o, p, n, delimiter);
      break;
    }
    default:
      refuse(L, "save: a column holds a %s, expected a number, string or boolean", kind_of(L, -1));
  }
}

/* _csv(writer, {columns}, rows, delimiter): columns are 1-d Variables or tables, of so many rows;
** or the one column is a 2-d Variable. */
static int write_csv(lua_State *L) {
  enum { COLUMNS = 2, BOXES = 5, SOURCES };
  state *S = get_state(L);
  int64_t rows = luaL_checkinteger(L, 3);
  char delimiter = *luaL_checkstring(L, 4);
  luaL_checktype(L, COLUMNS, LUA_TTABLE);
  lua_settop(L, 4);
  int64_t n = luaL_len(L, COLUMNS);
  lua_newtable(L);
  values *v = lua_newuserdatauv(L, (n + 1) * sizeof *v, 0);
  int64_t *width = lua_newuserdatauv(L, (n + 1) * sizeof *width, 0);
  for (int64_t k = 0; k < n; k++) {
    v[k].p = NULL;
    width[k] = 1;
    if (lua_rawgeti(L, COLUMNS, k + 1) == LUA_TUSERDATA) {
      push_bytes(L, lua_gettop(L), "save", &v[k]);
      lua_rawseti(L, BOXES, k + 1);
      width[k] = rows ? v[k].n / rows : 0;
    }
    lua_settop(L, SOURCES + 1);
  }
  page *o = lua_newuserdatauv(L, sizeof *o, 0);
  o->L = L, o->S = S, o->n = 0;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t k = 0; k < n; k++) {
      if (!v[k].p) {
        if (k) add(o, &delimiter, 1);
        lua_rawgeti(L, COLUMNS, k + 1);
        lua_rawgeti(L, -1, i + 1);
        add_value(o, delimiter);
        lua_pop(L, 2);
      } else
        for (int64_t j = 0; j < width[k]; j++) {
          if (k || j) add(o, &delimiter, 1);
          add_element(o, &v[k], i * width[k] + j);
        }
    }
    add(o, "\n", 1);
  }
  flush(o);
  return 0;
}

const entry csv_entries[] = {{"_sheet", reader_csv, NULL, false},
                             {"_csv", write_csv, NULL, false},
                             {NULL, NULL, NULL, false}};
