/* picture.c -- pictures as arrays: (H, W), or (C, H, W) where there is more than one channel. */
#include <string.h>

#include "file/file.h"
#include "file/picture.h"
#include "lua/binding.h"

/* Pixels next to each other become planes. */
static void spread(const picture *x, void *out) {
  int64_t n = (int64_t)x->w * x->h;
  int k = x->channels;
  for (int ch = 0; ch < k; ch++)
    for (int64_t i = 0; i < n; i++)
      if (x->bits == 16) ((int64_t *)out)[ch * n + i] = ((const uint16_t *)x->p)[i * k + ch];
      else ((uint8_t *)out)[ch * n + i] = ((const uint8_t *)x->p)[i * k + ch];
}

static int picture_close(lua_State *L) {
  picture *x = luaL_checkudata(L, 1, "moongrad.picture");
  picture_free(x);
  return 0;
}

const luaL_Reg picture_meta[] = {{"__gc", picture_close}, {"__close", picture_close}, {NULL, NULL}};

typedef bool glance(ctx *c, const uint8_t *bytes, int64_t n, picture *x);

static bool examine(ctx *c, stream *s, glance *f, picture *x) {
  int64_t n = s->left;
  if (n > INT32_MAX) return fail(c, "it is too large for a picture");
  buffer *b = buf_new(c, n + 1);
  bool ok = b && stream_read(c, s, b->p, n) && f(c, b->p, n, x);
  if (b) buf_unref(b);
  return ok;
}

/* _picture(reader [, list]): the array, or its dtype and dims, and whether it is one of floats. */
static int read_picture(lua_State *L) {
  state *S = get_state(L);
  bool list = lua_toboolean(L, 2);
  lua_settop(L, 1);
  check_stream(L);
  picture *x = lua_newuserdatauv(L, sizeof *x, 0);
  *x = (picture){0};
  luaL_setmetatable(L, "moongrad.picture");
  if (!examine(&S->G.c, check_stream(L), list ? picture_about : picture_read, x))
    file_failed(L, S, 1);
  shape s = {2, {x->h, x->w}};
  if (x->channels > 1) s = (shape){3, {x->channels, x->h, x->w}};
  if (list) {
    lua_pushstring(L, x->bits == 16 ? "uint16" : "uint8");
    push_shape(L, &s);
  } else {
    node **r = box_new(L, S);
    TRY(L, S, *r = node_array(&S->G, arr_host(&S->G.c, x->bits == 16 ? I64 : U8, &s)));
    spread(x, arr_data((*r)->a));
    picture_free(x);
    made(L, S, *r);
  }
  lua_pushboolean(L, x->floats);
  return list ? 3 : 2;
}

/* Where a PNG goes: a writer, or bytes that grow at held->p. */
typedef struct {
  lua_State *L;
  state *S;
  picture *held;
  int64_t n, room;
} target;

static bool put(void *arg, const void *p, int64_t n) {
  target *t = arg;
  if (!t->held) return writer_put(t->L, t->S, p, n);
  if (n > t->room - t->n) {
    int64_t room = 2 * t->room + n;
    void *more = mg_alloc(&t->S->G.c, room);
    if (!more) return false;
    if (t->n) memcpy(more, t->held->p, t->n);
    picture_free(t->held);
    t->held->p = more;
    t->room = room;
  }
  memcpy((char *)t->held->p + t->n, p, n);
  t->n += n;
  return true;
}

/* _png(writer or nil, x, floats): x (H, W, C) of bytes; without a writer it is the result. */
static int write_png(lua_State *L) {
  state *S = get_state(L);
  values v;
  bool floats = lua_toboolean(L, 3), into = !lua_isnil(L, 1);
  lua_settop(L, 2);
  picture *held = NULL;
  if (!into) {
    held = lua_newuserdatauv(L, sizeof *held, 0);
    *held = (picture){0};
    luaL_setmetatable(L, "moongrad.picture");
  }
  push_bytes(L, 2, "save", &v);
  shape s;
  node_shape(node_at(L, 2), &s);
  if (s.n != 3 || v.t != U8 || s.d[2] < 1 || s.d[2] > 4 || s.d[0] < 1 || s.d[1] < 1 ||
      s.d[0] > INT32_MAX || s.d[1] > INT32_MAX / 4)
    refuse(L, "save: no picture");
  picture x = {.w = (int)s.d[1],
               .h = (int)s.d[0],
               .channels = (int)s.d[2],
               .bits = 8,
               .floats = floats,
               .p = (void *)v.p};
  target t = {L, S, held, 0, 0};
  if (!picture_write(&S->G.c, &x, put, &t)) {
    if (into) file_failed(L, S, 1);
    failed(L, S, 1);
  }
  if (into) return 0;
  lua_pushlstring(L, held->p, t.n);
  picture_free(held);
  return 1;
}

const entry picture_entries[] = {{"_picture", read_picture, NULL, false},
                                 {"_png", write_png, NULL, false},
                                 {NULL, NULL, NULL, false}};
