/* bytes.c -- values as bytes, in strings and in files: what lua/moongrad/io reads and writes with.
**
** A reader is a part of a file, from its beginning to its end; it may be inflated on the way. A writer
** is a file to be, which takes its place when it is committed and is gone when it is closed before.
** Arrays pass piece by piece, so that no file stands in memory twice. Errors begin with what the
** reader or writer is called: "load: a.npz: ...".
*/
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file/file.h"
#include "lua/binding.h"

enum { PIECE = 1 << 15 };

static storage check_storage(lua_State *L, int i, const char *who) {
  if (lua_type(L, i) != LUA_TSTRING)
    refuse(L, "%s: dtype is a %s, expected a string", who, kind_of(L, i));
  size_t len;
  const char *name = lua_tolstring(L, i, &len);
  int s = strlen(name) == len ? storage_find(name) : -1;
  if (s >= 0) return s;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (s = 0; s < NSTORAGE; s++) {
    if (s) luaL_addstring(&b, ", ");
    luaL_addstring(&b, storage_name[s]);
  }
  luaL_pushresult(&b);
  refuse(L, "%s: no dtype \"%s\"; there are %s", who, lua_tostring(L, i), lua_tostring(L, -1));
}

/* ---- values ------------------------------------------------------------------------------------ */

static node *dense(graph *G, node *n) { return node_array(G, node_values(G, n)); }

void push_bytes(lua_State *L, int i, const char *who, values *v) {
  state *S = get_state(L);
  check_node(L, i, who);
  node **keep = box_new(L, S);
  TRY(L, S, *keep = dense(&S->G, node_at(L, i)));
  node *n = *keep;
  shape s;
  node_shape(n, &s);
  v->t = n->dtype;
  v->n = shape_size(&s);
  v->p = n->a ? arr_data(n->a) : (char *)&v->one;
  if (n->a) return;
  switch (v->t) {
    case F64: v->one.f64 = n->k.f; break;
    case F32: v->one.f32 = (float)n->k.f; break;
    case I64: v->one.i64 = n->k.i; break;
    default: v->one.u8 = (uint8_t)n->k.i;
  }
}

/* Element i, which a storage cannot hold, as text. */
static void push_element(lua_State *L, const values *v, int64_t i) {
  const char *p = v->p + i * dtype_size[v->t];
  switch (v->t) {
    case F64: lua_pushnumber(L, *(const double *)p); break;
    case F32: lua_pushnumber(L, *(const float *)p); break;
    case I64: lua_pushinteger(L, *(const int64_t *)p); break;
    default: lua_pushinteger(L, *(const uint8_t *)p);
  }
  push_number_text(L, -1);
}

static _Noreturn void does_not_hold(lua_State *L, const char *who, storage s, const values *v,
                                    int64_t i) {
  push_element(L, v, i);
  refuse(L, "%s: %s cannot hold %s, at position %lld", who, storage_name[s], lua_tostring(L, -1),
         (long long)i + 1);
}

/* tobytes(x [, dtype]) */
static int variable_tobytes(lua_State *L) {
  sig_values(L);
  values v;
  push_bytes(L, 1, "tobytes", &v);
  storage s = lua_isnil(L, 2) ? (storage)v.t : check_storage(L, 2, "tobytes");
  luaL_Buffer b;
  size_t bytes = v.n * storage_size[s];
  char *p = luaL_buffinitsize(L, &b, bytes);
  int64_t bad = storage_encode(s, v.t, v.p, p, v.n);
  if (bad >= 0) does_not_hold(L, "tobytes", s, &v, bad);
  luaL_pushresultsize(&b, bytes);
  return 1;
}

/* An array for n values of a storage. A 0-d one has its place in `one`, and is made by finish. */
typedef struct {
  storage s;
  shape dims;
  int64_t n;
  node **box;
  void *p;
  int64_t one;
} filling;

static void begin(lua_State *L, filling *f, void (*fails)(lua_State *, state *, int)) {
  state *S = get_state(L);
  dtype t = storage_dtype(f->s);
  f->n = shape_size(&f->dims);
  f->box = box_new(L, S);
  f->p = &f->one;
  if (f->dims.n == 0) return;
  for (int try_ = 0; !(*f->box = node_array(&S->G, arr_host(&S->G.c, t, &f->dims))); try_++)
    fails(L, S, try_);
  f->p = arr_data((*f->box)->a);
}

static int finish(lua_State *L, const filling *f) {
  state *S = get_state(L);
  dtype t = storage_dtype(f->s);
  imm k = {.i = f->one};
  float f32;
  uint8_t u8;
  if (t == F32) memcpy(&f32, &f->one, sizeof f32), k.f = f32;
  if (dtype_size[t] == 1) memcpy(&u8, &f->one, sizeof u8), k.i = u8;
  if (f->dims.n == 0) TRY(L, S, *f->box = node_scalar(&S->G, t, k));
  made(L, S, *f->box);
  return 1;
}

static int frombytes(lua_State *L) {
  size_t len;
  filling f = {0};
  sig_values(L);
  const char *bytes = lua_tolstring(L, 1, &len);
  f.s = check_storage(L, 2, "frombytes");
  check_shape(L, 3, "frombytes", &f.dims);
  size_t need = shape_size(&f.dims) * storage_size[f.s];
  if (need != len) {
    char text[128];
    refuse(L, "frombytes: shape %s of %s needs %zu bytes, the string has %zu",
           shape_text(&f.dims, text), storage_name[f.s], need, len);
  }
  begin(L, &f, failed);
  int64_t bad = storage_decode(f.s, bytes, f.p, f.n);
  if (bad >= 0 && f.s == S_BOOL)
    for (uint8_t *p = f.p, *end = p + f.n; p < end; p++) *p = *p != 0;
  else if (bad >= 0)
    refuse(L, "frombytes: the uint64 at position %lld is more than an int64 holds",
           (long long)bad + 1);
  return finish(L, &f);
}

/* ---- readers ----------------------------------------------------------------------------------- */

typedef struct {
  int fd;       /* -1: closed, or another reader's */
  int64_t size; /* of the file */
  stream s;
} reader;

enum { OWNER = LABEL + 1 }; /* a reader's user value: whose file it reads */

static reader *check_reader(lua_State *L) {
  reader *r = luaL_checkudata(L, 1, "moongrad.reader");
  if (r->s.fd < 0) refuse(L, "this file was closed");
  return r;
}

struct stream *check_stream(lua_State *L) {
  return &check_reader(L)->s;
}

static const char *label(lua_State *L) {
  lua_getiuservalue(L, 1, LABEL);
  return lua_tostring(L, -1);
}

void file_failed(lua_State *L, state *S, int tries) {
  ctx *c = &S->G.c;
  if (c->err == E_MEMORY && tries == 0) return failed(L, S, 0);
  char text[sizeof c->msg];
  memcpy(text, c->msg, sizeof text);
  c->err = OK;
  lua_pushfstring(L, "%s: %s", label(L), text);
  raise_here(L, NULL);
}

static reader *new_reader(lua_State *L) {
  reader *r = lua_newuserdatauv(L, sizeof *r, 2);
  *r = (reader){.fd = -1, .s.fd = -1};
  luaL_setmetatable(L, "moongrad.reader");
  return r;
}

/* Arguments: a path and who opens it. The object on top takes their place; while it is opened its
** label is who alone, since errors of that name the path, and "who: path" after. */
static const char *label_path(lua_State *L) {
  size_t n;
  const char *path = luaL_checklstring(L, 1, &n), *who = luaL_checkstring(L, 2);
  if (strlen(path) != n) refuse(L, "%s: the path has a NUL, behind %s", who, path);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, LABEL);
  lua_insert(L, 1);
  lua_settop(L, 3);
  lua_pushfstring(L, "%s: %s", who, path);
  return path;
}

static int labelled(lua_State *L) {
  lua_settop(L, 4);
  lua_setiuservalue(L, 1, LABEL);
  lua_settop(L, 1);
  return 1;
}

/* _exists(path): is there anything of that name? Where nobody may look there is: who opens it hears why
** he cannot. */
static int exists(lua_State *L) {
  struct stat st;
  return lua_pushboolean(L, stat(luaL_checkstring(L, 1), &st) == 0 || errno != ENOENT), 1;
}

/* _make_folder(path): and those that it lies in. True, or nil and why not */
static int make_folder(lua_State *L) {
  size_t len;
  struct stat st;
  const char *path = luaL_checklstring(L, 1, &len);
  char *part = lua_newuserdatauv(L, len + 1, 0);
  for (size_t i = 1; i <= len; i++) {
    if (path[i] != '/' && path[i]) continue;
    memcpy(part, path, i);
    part[i] = 0;
    if (mkdir(part, 0777) == 0) continue;
    int why = errno == EEXIST ? ENOTDIR : errno;
    if (stat(part, &st) == 0 && S_ISDIR(st.st_mode)) continue;
    return lua_pushnil(L), lua_pushstring(L, strerror(why)), 2;
  }
  return lua_pushboolean(L, true), 1;
}

/* _cut(file, at): takes away what a write of Lua's that failed has left behind at; what others have
** written since stays, and a pipe is none. */
static int cut(lua_State *L) {
  luaL_Stream *f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
  off_t at = luaL_checkinteger(L, 2);
  struct stat st;
  if (!f->closef) refuse(L, "this file was closed");
  int fd = fileno(f->f);
  bool own = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == st.st_size;
  bool ok = own && at >= 0 && st.st_size > at && ftruncate(fd, at) == 0;
  if (ok) lseek(fd, at, SEEK_SET);
  return lua_pushboolean(L, ok), 1;
}

/* _rest(file): all that comes, or nil and why not: Lua's own read gives up a pipe where a signal comes. */
static int rest(lua_State *L) {
  luaL_Stream *f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
  luaL_Buffer b;
  size_t n;
  if (!f->closef) refuse(L, "this file was closed");
  luaL_buffinit(L, &b);
  do {
    char *p = luaL_prepbuffsize(&b, PIECE);
    clearerr(f->f);
    errno = 0;
    n = fread(p, 1, PIECE, f->f);
    int why = errno;
    luaL_addsize(&b, n);
    if (ferror(f->f) && why != EINTR) return lua_pushnil(L), lua_pushstring(L, strerror(why)), 2;
  } while (n > 0 || ferror(f->f));
  return luaL_pushresult(&b), 1;
}

/* A lock that ends with a call, as modes do: one left to an open file would stay where what closes the file
** is interrupted, and the next to come would wait for ever. So would a finalizer that wants it within. */
typedef struct locked {
  guard g;
  int fd;
  struct stat at;
  struct locked *outer;
} locked;

static void unlock(state *S, guard *g) {
  locked *l = (locked *)g;
  for (locked **p = &S->locks; *p; p = &(*p)->outer)
    if (*p == l) {
      *p = l->outer;
      break;
    }
  close(l->fd);
  g->end = NULL;
}

/* _locked(path, who, fn, ...): fn(...), while no other process has the file or folder so. What cannot be
** opened, and a file system that has no such thing, leave nothing to wait for. */
static int with_lock(lua_State *L) {
  state *S = get_state(L);
  const char *path = luaL_checkstring(L, 1), *who = luaL_checkstring(L, 2);
  locked *l = guard_new(L, sizeof *l);
  lua_insert(L, 3);
  l->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (l->fd >= 0) {
    l->outer = S->locks;
    S->locks = l;
    l->g.end = unlock;
    bool known = fstat(l->fd, &l->at) == 0, twice = false;
    for (const locked *o = l->outer; known && o; o = o->outer)
      twice |= o->at.st_dev == l->at.st_dev && o->at.st_ino == l->at.st_ino;
    if (twice) {
      unlock(S, &l->g);
      refuse(L, "%s: %s is being written to by what this interrupts", who, path);
    }
    int err;
    do err = flock(l->fd, LOCK_EX);
    while (err < 0 && errno == EINTR);
  }
  call_guarded(L, lua_gettop(L) - 4);
  return lua_gettop(L) - 3;
}

/* _before(a, b): the order of names and places, numbers before strings. Of strings bytes decide: Lua's <
** goes by the locale, and so would labels, parameters and files. */
static int before(lua_State *L) {
  bool number = lua_type(L, 1) == LUA_TNUMBER, other = lua_type(L, 2) == LUA_TNUMBER;
  if (number || other)
    return lua_pushboolean(L, number && (!other || lua_compare(L, 1, 2, LUA_OPLT))), 1;
  size_t m, n;
  const char *a = luaL_checklstring(L, 1, &m), *b = luaL_checklstring(L, 2, &n);
  int c = memcmp(a, b, m < n ? m : n);
  return lua_pushboolean(L, c < 0 || (c == 0 && m < n)), 1;
}

/* _crc32c(s) */
static int crc32c(lua_State *L) {
  size_t n;
  const char *p = luaL_checklstring(L, 1, &n);
  return lua_pushinteger(L, file_crc32c(p, (int64_t)n)), 1;
}

/* _now(): seconds since 1970, with their fraction */
static int now(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return lua_pushnumber(L, (double)t.tv_sec + t.tv_nsec * 1e-9), 1;
}

/* _open(path, who): a reader of the whole file */
static int open_reader(lua_State *L) {
  state *S = get_state(L);
  reader *r = new_reader(L);
  const char *path = label_path(L);
  FILE_TRY(L, S, (r->fd = file_open(&S->G.c, path, &r->size)) >= 0);
  r->s = (stream){.fd = r->fd, .end = r->size, .left = r->size};
  return labelled(L);
}

/* reader:part(at, bytes [, "stored" | "deflate" | "gzip", size, label]): a reader of a part; of what
** is stored or deflated it sums the CRC. */
static int reader_part(lua_State *L) {
  static const char *const names[] = {"raw", "stored", "deflate", "gzip", NULL};
  static const packing how[] = {RAW, RAW, DEFLATE, GZIP};
  state *S = get_state(L);
  int64_t at = luaL_checkinteger(L, 2), n = luaL_checkinteger(L, 3);
  int k = luaL_checkoption(L, 4, "raw", names);
  int64_t size = luaL_optinteger(L, 5, n);
  lua_settop(L, 6);
  reader *part = new_reader(L), *r = check_reader(L);
  if (at < 0 || n < 0 || n > r->size || at > r->size - n) refuse(L, "no part of this file");
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, OWNER);
  if (lua_isnil(L, 6)) lua_getiuservalue(L, 1, LABEL);
  else lua_pushvalue(L, 6);
  lua_setiuservalue(L, -2, LABEL);
  part->size = r->size;
  FILE_TRY(L, S, stream_open(&S->G.c, &part->s, r->s.fd, at, at + n, how[k], size));
  part->s.sum = k == 1 || k == 2;
  return 1;
}

static int reader_close(lua_State *L) {
  reader *r = luaL_checkudata(L, 1, "moongrad.reader");
  stream_close(&r->s);
  if (r->fd >= 0) close(r->fd);
  r->fd = r->s.fd = -1;
  return 0;
}

/* May Lua ask for n bytes? It knows no limit, and would tell in its own words that there are none. */
static bool has_room(ctx *c, int64_t n) {
  memstat m;
  mem_stat(&m);
  if (m.limit && m.live + (size_t)n > m.limit) return fail_memory(c, n);
  void *p = mg_alloc(c, n);
  mg_free(p);
  return p != NULL;
}

/* reader:read(n): the next n bytes */
static int reader_read(lua_State *L) {
  state *S = get_state(L);
  int64_t n = luaL_checkinteger(L, 2);
  reader *r = check_reader(L);
  if (r->s.left >= 0 && (n < 0 || n > r->s.left)) {
    fail(&S->G.c, "it ends too early");
    file_failed(L, S, 1);
  }
  if (n > PIECE && !has_room(&S->G.c, n)) file_failed(L, S, 1);
  luaL_Buffer b;
  char *p = luaL_buffinitsize(L, &b, n);
  r = check_reader(L);
  if (!stream_read(&S->G.c, &r->s, p, n)) file_failed(L, S, 1);
  luaL_pushresultsize(&b, n);
  return 1;
}

static bool fill(ctx *c, stream *s, const filling *f, bool big) {
  int64_t size = storage_size[f->s], step = dtype_size[storage_dtype(f->s)], per = PIECE / size;
  if (f->s < (storage)NDTYPE && f->s != S_BOOL && !big) return stream_read(c, s, f->p, f->n * size);
  char piece[PIECE];
  for (int64_t i = 0, k; i < f->n; i += k) {
    k = least(per, f->n - i);
    if (!stream_read(c, s, piece, k * size)) return false;
    if (big) storage_swap(f->s, piece, k);
    int64_t bad = storage_decode(f->s, piece, (char *)f->p + i * step, k);
    if (bad < 0) continue;
    if (f->s == S_BOOL) return fail(c, "a bool is neither 0 nor 1");
    return fail(c, "a uint64 is more than an int64 holds");
  }
  return true;
}

/* reader:array(dtype, {dims} [, big]): so many of the next bytes as a constant */
static int reader_array(lua_State *L) {
  state *S = get_state(L);
  filling f = {.s = check_storage(L, 2, "load")};
  check_shape(L, 3, "load", &f.dims);
  bool big = lua_toboolean(L, 4);
  lua_settop(L, 1);
  check_reader(L);
  begin(L, &f, file_failed);
  reader *r = check_reader(L);
  if (!fill(&S->G.c, &r->s, &f, big)) file_failed(L, S, 1);
  return finish(L, &f);
}

/* reader:skip(n) */
static int reader_skip(lua_State *L) {
  state *S = get_state(L);
  int64_t n = luaL_checkinteger(L, 2);
  reader *r = check_reader(L);
  char piece[PIECE];
  for (int64_t k; n > 0; n -= k) {
    k = least(n, PIECE);
    if (!stream_read(&S->G.c, &r->s, piece, k)) file_failed(L, S, 1);
  }
  return 0;
}

/* reader:left(): bytes it has yet to give; -1: nobody knows */
static int reader_left(lua_State *L) { return lua_pushinteger(L, check_reader(L)->s.left), 1; }
static int reader_size(lua_State *L) { return lua_pushinteger(L, check_reader(L)->size), 1; }
static int reader_crc(lua_State *L) { return lua_pushinteger(L, check_reader(L)->s.crc), 1; }

/* reader:label(), writer:label(): what errors begin with */
static int file_label(lua_State *L) { return lua_getiuservalue(L, 1, LABEL), 1; }

/* reader:done(): raises unless all has been read and ends as it should */
static int reader_done(lua_State *L) {
  state *S = get_state(L);
  reader *r = check_reader(L);
  if (!stream_done(&S->G.c, &r->s)) file_failed(L, S, 1);
  return 0;
}

const luaL_Reg reader_meta[] = {{"part", reader_part},
                                {"read", reader_read},
                                {"array", reader_array},
                                {"skip", reader_skip},
                                {"left", reader_left},
                                {"size", reader_size},
                                {"label", file_label},
                                {"crc", reader_crc},
                                {"done", reader_done},
                                {"close", reader_close},
                                {"__close", reader_close},
                                {"__gc", reader_close},
                                {NULL, NULL}};

/* ---- writers ----------------------------------------------------------------------------------- */

typedef struct {
  draft o;
  bool sum;
  uint32_t crc;
} writer;

static writer *check_writer(lua_State *L) {
  writer *w = luaL_checkudata(L, 1, "moongrad.writer");
  if (w->o.fd < 0) refuse(L, "this file was closed");
  return w;
}

/* _create(path, who [, sum]): a file to be; `sum`: its crc() counts what is written */
static int open_writer(lua_State *L) {
  state *S = get_state(L);
  bool sum = lua_toboolean(L, 3);
  writer *w = lua_newuserdatauv(L, sizeof *w, 1);
  *w = (writer){.o = {.fd = -1, .dir = -1}, .sum = sum};
  luaL_setmetatable(L, "moongrad.writer");
  const char *path = label_path(L);
  FILE_TRY(L, S, draft_open(&S->G.c, &w->o, path));
  return labelled(L);
}

static bool put(ctx *c, writer *w, const void *p, int64_t n) {
  return (!w->sum || file_sum(c, &w->crc, p, n)) && draft_write(c, &w->o, p, n);
}

bool writer_put(lua_State *L, state *S, const void *p, size_t n) {
  return put(&S->G.c, check_writer(L), p, n);
}

/* writer:write(...): strings */
static int writer_write(lua_State *L) {
  state *S = get_state(L);
  int n = lua_gettop(L);
  writer *w = check_writer(L);
  for (int i = 2; i <= n; i++) {
    size_t len;
    const char *p = luaL_checklstring(L, i, &len);
    if (!put(&S->G.c, w, p, len)) file_failed(L, S, 1);
  }
  return 0;
}

/* writer:array(x, dtype, name): x's values as they are stored */
static int writer_array(lua_State *L) {
  state *S = get_state(L);
  values v;
  storage s = check_storage(L, 3, "save");
  lua_settop(L, 4);
  push_bytes(L, 2, "save", &v);
  writer *w = check_writer(L);
  int64_t step = dtype_size[v.t], size = storage_size[s];
  if ((int)s == (int)v.t) {
    if (!put(&S->G.c, w, v.p, v.n * size)) file_failed(L, S, 1);
    return 0;
  }
  char piece[PIECE];
  for (int64_t i = 0, k; i < v.n; i += k) {
    k = least(PIECE / size, v.n - i);
    int64_t bad = storage_encode(s, v.t, v.p + i * step, piece, k);
    if (bad >= 0) {
      lua_pushfstring(L, lua_isnil(L, 4) ? "%s" : "%s: %s", label(L), lua_tostring(L, 4));
      does_not_hold(L, lua_tostring(L, -1), s, &v, i + bad);
    }
    if (!put(&S->G.c, w, piece, k * size)) file_failed(L, S, 1);
  }
  return 0;
}

/* writer:patch(at, bytes): over what was written; crc() does not count it */
static int writer_patch(lua_State *L) {
  state *S = get_state(L);
  size_t len;
  int64_t at = luaL_checkinteger(L, 2);
  const char *p = luaL_checklstring(L, 3, &len);
  writer *w = check_writer(L);
  if (!draft_patch(&S->G.c, &w->o, at, p, len)) file_failed(L, S, 1);
  return 0;
}

static int writer_at(lua_State *L) { return lua_pushinteger(L, check_writer(L)->o.at), 1; }

/* writer:crc(): of what was written since it was last asked */
static int writer_crc(lua_State *L) {
  writer *w = check_writer(L);
  lua_pushinteger(L, w->crc);
  w->crc = 0;
  return 1;
}

static int writer_commit(lua_State *L) {
  state *S = get_state(L);
  writer *w = check_writer(L);
  if (!draft_commit(&S->G.c, &w->o)) file_failed(L, S, 1);
  return 0;
}

static int writer_close(lua_State *L) {
  draft_close(&((writer *)luaL_checkudata(L, 1, "moongrad.writer"))->o);
  return 0;
}

const luaL_Reg writer_meta[] = {{"write", writer_write},
                                {"label", file_label},
                                {"array", writer_array},
                                {"patch", writer_patch},
                                {"at", writer_at},
                                {"crc", writer_crc},
                                {"commit", writer_commit},
                                {"close", writer_close},
                                {"__close", writer_close},
                                {"__gc", writer_close},
                                {NULL, NULL}};

const entry bytes_entries[] = {
    {"frombytes", frombytes,
     "frombytes(bytes: string, dtype: string, dims: shape)\na constant of raw little-endian bytes, "
     "as tobytes gives; "
     "dtype may be one of files: float16 and bfloat16 become float32, the integers int64",
     false},
    {"tobytes", variable_tobytes,
     "tobytes(x: array, dtype: string?) -> string\nx's elements as raw little-endian bytes; dtype "
     "may be one "
     "of files, "
     "such as bfloat16; a whole number that it cannot hold raises",
     true},
    {"_exists", exists, NULL, false},
    {"_make_folder", make_folder, NULL, false},
    {"_cut", cut, NULL, false},
    {"_rest", rest, NULL, false},
    {"_locked", with_lock, NULL, false},
    {"_before", before, NULL, false},
    {"_crc32c", crc32c, NULL, false},
    {"_now", now, NULL, false},
    {"_open", open_reader, NULL, false},
    {"_create", open_writer, NULL, false},
    {NULL, NULL, NULL, false}};
