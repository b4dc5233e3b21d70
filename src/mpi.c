/* mpi.c -- moongrad/mpi.so: arrays and gradients over processes, by MPI. Its face is
** lua/moongrad/dist.lua.
**
** A module of its own, which knows the core by moongrad.h alone. Copies of MPI_COMM_WORLD: the n-th
** call on each meets the n-th call of the others.
**   `agreed`   before processes exchange values, each says what it is about to do. Where that
**              differs, or one has come to its end, all raise an error with both calls, and nobody
**              waits for what never comes.
**   `lanes`    the values, and the second half of exact sums. In a backward the gradients of each
**              model have a lane of their own: when its buckets go depends on what else a process
**              computes and on when others' arrive, and so does not follow what a script asks for.
** Everything is begun without waiting, and then tested until it is there: a process that waits
** gives its processor away.
**
** The process ends as its exit status says: 0 waits for the others, any other ends the whole job,
** after the interpreter has printed the error. So does an end within a backward.
*/
#define _GNU_SOURCE
#include "moongrad.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 256 };

static MPI_Comm agreed;
static struct lane {
  MPI_Comm values, second;
} * lanes; /* 0: what scripts ask for; n: the n-th model of those whose gradients are on their way */
static int made;                /* lanes that are there */
static int rank, size, sharing; /* sharing: processes that have this one's processors */
static pid_t owner;             /* 0: MPI is not there yet */
static int spin;                /* tests before a waiting process gives its processor away */

static MPI_Comm communicator(void) {
  MPI_Comm c;
  MPI_Comm_dup(MPI_COMM_WORLD, &c);
  MPI_Comm_set_errhandler(c, MPI_ERRORS_RETURN);
  return c;
}

static void make_lane(void) {
  struct lane *more = realloc(lanes, (made + 1) * sizeof *lanes);
  if (!more) MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
  lanes = more;
  lanes[made].values = communicator();
  lanes[made++].second = communicator();
}

static const moongrad *api(lua_State *L) {
  const moongrad *mg = moongrad_in(L);
  lua_pop(L, 1);
  return mg;
}

/* ---- waiting --------------------------------------------------------------------------------------- */

static struct {
  double start, step, wait; /* seconds in them */
  int64_t bytes, buckets;
} spent;

static void rest(int i) {
  enum { YIELDS = 1000 };
  static const struct timespec nap = {.tv_nsec = 50000};
  if (i < spin) return;
  if (i < spin + YIELDS) sched_yield();
  else nanosleep(&nap, NULL);
}

static int wait_for(MPI_Request *q) {
  for (int i = 0, there = 0;; i++) {
    int e = MPI_Test(q, &there, MPI_STATUS_IGNORE);
    if (e != MPI_SUCCESS || there) return e;
    rest(i);
  }
}

/* Is all well? Else the reason is in error. */
static bool fine(int e, char *error, size_t room) {
  char text[MPI_MAX_ERROR_STRING];
  int n = 0;
  if (e == MPI_SUCCESS) return true;
  MPI_Error_string(e, text, &n);
  snprintf(error, room, "MPI: %.*s", n, text);
  return false;
}

/* ---- agreeing -------------------------------------------------------------------------------------- */

/* One question to all: are we about to do the same? At most one is open. */
typedef struct agreement {
  int64_t h[3]; /* of what is to be done, and its negative: if all agree so are their largest; and
                ** failed */
  bool failed;  /* this process's backward has */
  char text[TEXT];
  MPI_Request q;
  bool ok;
  char error[2 * TEXT + 64];
} agreement;

static agreement *open_question;

static int64_t hash(const char *s) {
  uint64_t h = 14695981039346656037u; /* FNV-1a */
  for (; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
  return (int64_t)(h >> 1);
}

/* All tell each other what they were about to do. */
static void tell(agreement *a) {
  char *all = malloc((size_t)size * TEXT);
  MPI_Request q;
  int e = MPI_Iallgather(a->text, TEXT, MPI_CHAR, all, TEXT, MPI_CHAR, agreed, &q);
  if (e == MPI_SUCCESS) e = wait_for(&q);
  if (fine(e, a->error, sizeof a->error)) {
    int other = 1;
    while (other < size - 1 && strcmp(all, all + (size_t)other * TEXT) == 0) other++;
    snprintf(a->error, sizeof a->error, "rank 1 came to %s, rank %d to %s", all, other + 1,
             all + (size_t)other * TEXT);
  }
  free(all);
}

static void answer(agreement *a) {
  if (open_question != a) return;
  open_question = NULL;
  a->ok = fine(wait_for(&a->q), a->error, sizeof a->error);
  if (!a->ok || a->h[0] == -a->h[1]) return;
  a->ok = false;
  tell(a);
}

/* where: the script's line, or "". Nobody asks after one that failed: all have asked as many. */
static void ask(agreement *a, const char *what, const char *where) {
  agreement *before = open_question;
  if (before) answer(before);
  a->ok = !before || before->ok;
  if (!a->ok && a != before) memcpy(a->error, before->error, sizeof a->error);
  if (!a->ok) return;
  int n = (int)strcspn(where, ":");
  n += (int)strspn(where + n, ":0123456789");
  if (n > 0 && where[n - 1] == ':') n--;
  a->h[0] = hash(what);
  a->h[1] = -a->h[0];
  a->h[2] = a->failed;
  snprintf(a->text, TEXT, n ? "%s at %.*s" : "%s", what, n, where);
  a->ok = fine(MPI_Iallreduce(MPI_IN_PLACE, a->h, 3, MPI_INT64_T, MPI_MAX, agreed, &a->q), a->error,
               sizeof a->error);
  if (a->ok) open_question = a;
}

/* Until all have come to it; what others came to before fails there. False: MPI does. */
static bool await(agreement *a, const char *what) {
  do ask(a, what, ""), answer(a);
  while (!a->ok && strncmp(a->error, "MPI", 3) != 0);
  return a->ok;
}

static void agree(lua_State *L, const char *who, const char *what) {
  agreement a = {.failed = false};
  api(L)->where(L);
  ask(&a, what, lua_tostring(L, -1));
  lua_pop(L, 1);
  answer(&a);
  if (!a.ok) api(L)->raise(L, "%s: %s", who, a.error);
}

/* ---- sums and the like -------------------------------------------------------------------------------- */

enum { SUM, MEAN, MAX, MIN };
static const char *const op_names[] = {"sum", "mean", "max", "min", NULL};

static MPI_Op largest, least; /* of floats; of nan and anything nan */

static const struct {
  const char *name;
  int bytes;
} dtypes[] = {{"float64", 8}, {"float32", 4}, {"int64", 8}, {"uint8", 1}, {"bool", 1}};

static MPI_Datatype type_of(int dtype) {
  switch (dtype) {
    case MOONGRAD_FLOAT64: return MPI_DOUBLE;
    case MOONGRAD_FLOAT32: return MPI_FLOAT;
    case MOONGRAD_INT64: return MPI_INT64_T;
    default: return MPI_BYTE;
  }
}

#define EXTREME(T, beats)                                                                          \
  for (int64_t i = 0; i < n; i++) {                                                                \
    T x = ((const T *)from)[i], *y = &((T *)to)[i];                                                \
    if (x beats * y || x != x) *y = x;                                                             \
  }
#define ADD(T)                                                                                     \
  for (int64_t i = 0; i < n; i++) ((T *)to)[i] += ((const T *)from)[i];
#define EACH(T)                                                                                    \
  switch (op) {                                                                                    \
    case MAX: EXTREME(T, >) break;                                                                 \
    case MIN: EXTREME(T, <) break;                                                                 \
    default: ADD(T)                                                                                \
  }

/* to = to op from; int64 sums wrap */
static void combine(int op, int dtype, void *to, const void *from, int64_t n) {
  if (dtype == MOONGRAD_FLOAT64) EACH(double)
  else if (dtype == MOONGRAD_FLOAT32) EACH(float)
  else if (op == MAX || op == MIN) EACH(int64_t)
  else ADD(uint64_t)
}

static int float_type(MPI_Datatype t) {
  int bytes;
  MPI_Type_size(t, &bytes);
  return bytes == 8 ? MOONGRAD_FLOAT64 : MOONGRAD_FLOAT32;
}
static void combine_max(void *from, void *to, int *n, MPI_Datatype *t) {
  combine(MAX, float_type(*t), to, from, *n);
}
static void combine_min(void *from, void *to, int *n, MPI_Datatype *t) {
  combine(MIN, float_type(*t), to, from, *n);
}

static MPI_Op op_of(int op, int dtype) {
  bool whole = dtype == MOONGRAD_INT64;
  switch (op) {
    case MAX: return whole ? MPI_MAX : largest;
    case MIN: return whole ? MPI_MIN : least;
    default: return MPI_SUM;
  }
}

/* An all-reduce on its way. An exact one cuts the numbers into a part for each rank, which gets
** all ranks' values of its part, combines them in pairs, those again, and hands the result out. */
typedef struct {
  void *p;
  int64_t n;
  int op, dtype, lane;
  bool exact, halfway, there, own; /* own: p is to be freed */
  MPI_Request q;
  char *parts;
  size_t room;
  int *cut; /* four lists: how many to send, from where; to get, to where */
} reduction;

static int length(const reduction *r, int part) {
  int64_t each = (r->n + size - 1) / size, left = r->n - part * each;
  return (int)(left < 0 ? 0 : left < each ? left : each);
}

static int begin_exact(reduction *r) {
  MPI_Datatype t = type_of(r->dtype);
  int *to = r->cut, *from = to + size, *get = from + size, *at = get + size;
  int64_t each = (r->n + size - 1) / size;
  for (int i = 0; i < size; i++) {
    to[i] = length(r, i);
    from[i] = (int)(to[i] ? i * each : 0);
    get[i] = length(r, rank);
    at[i] = i * get[i];
  }
  return MPI_Ialltoallv(r->p, to, from, t, r->parts, get, at, t, lanes[r->lane].values, &r->q);
}

static int hand_out(reduction *r) {
  MPI_Datatype t = type_of(r->dtype);
  int64_t n = length(r, rank), bytes = n * dtypes[r->dtype].bytes;
  for (int apart = 1; apart < size; apart *= 2)
    for (int i = 0; i + apart < size; i += 2 * apart)
      combine(r->op, r->dtype, r->parts + i * bytes, r->parts + (i + apart) * bytes, n);
  r->halfway = true;
  return MPI_Iallgatherv(r->parts, (int)n, t, r->p, r->cut, r->cut + size, t, lanes[r->lane].second,
                         &r->q);
}

/* False: no memory. p stays the caller's; p and r stay where they are. */
static bool reduction_init(reduction *r, void *p, int64_t n, int op, int dtype, bool exact) {
  r->p = p;
  r->n = n;
  r->op = op;
  r->dtype = dtype;
  r->exact = exact;
  r->halfway = r->there = false;
  r->q = MPI_REQUEST_NULL;
  if (!exact) return true;
  size_t room = ((size_t)length(r, rank) * size + 1) * dtypes[dtype].bytes;
  if (!r->cut && !(r->cut = malloc(4 * size * sizeof *r->cut))) return false;
  if (r->room >= room) return true;
  char *parts = realloc(r->parts, room);
  if (parts) r->parts = parts, r->room = room;
  return parts != NULL;
}

static int reduction_begin(reduction *r) {
  if (r->exact) return begin_exact(r);
  return MPI_Iallreduce(MPI_IN_PLACE, r->p, (int)r->n, type_of(r->dtype), op_of(r->op, r->dtype),
                        lanes[r->lane].values, &r->q);
}

/* `next`: halves that follow each other may begin */
static int reduction_test(reduction *r, bool next) {
  int there = 0, e = r->there ? MPI_SUCCESS : MPI_Test(&r->q, &there, MPI_STATUS_IGNORE);
  if (e != MPI_SUCCESS || !there) return e;
  if (!r->exact || r->halfway) return r->there = true, e;
  return next ? hand_out(r) : e;
}

static void reduction_free(reduction *r) {
  free(r->parts);
  free(r->cut);
  r->parts = NULL;
  r->cut = NULL;
  r->room = 0;
}

/* ---- arrays ------------------------------------------------------------------------------------------- */

static void describe(char *text, const char *who, const char *more, const moongrad_values *v) {
  int n = snprintf(text, TEXT, "%s%s of %s (", who, more, dtypes[v->dtype].name);
  for (int i = 0; i < v->ndim; i++)
    n += snprintf(text + n, TEXT - n, i ? ", %lld" : "%lld", (long long)v->shape[i]);
  snprintf(text + n, TEXT - n, ")");
}

static void few(lua_State *L, const char *who, int64_t n) {
  if (n >= INT32_MAX) api(L)->raise(L, "%s: more than 2^31 - 2 bytes or elements", who);
}

static void check(lua_State *L, const char *who, int e) {
  char text[MPI_MAX_ERROR_STRING + 8];
  if (!fine(e, text, sizeof text)) api(L)->raise(L, "%s: %s", who, text);
}

/* Pushes what becomes a copy of x, the Variable at 1, when it is created. */
static void copy(lua_State *L, const char *who, moongrad_values *y) {
  moongrad_values x;
  api(L)->borrow(L, 1, who, &x);
  *y = x;
  api(L)->create(L, y);
  memcpy(y->p, x.p, x.bytes);
}

static void divide(const moongrad_values *y) {
  if (y->dtype == MOONGRAD_FLOAT64)
    for (double *p = y->p, *end = p + y->n; p < end; p++) *p /= size;
  else
    for (float *p = y->p, *end = p + y->n; p < end; p++) *p /= (float)size;
}

static int reduction_gc(lua_State *L) {
  reduction_free(lua_touserdata(L, 1));
  return 0;
}

/* all_reduce(x, op, exact, of): of a gradient, for which exchange */
static int all_reduce(lua_State *L) {
  int op = luaL_checkoption(L, 2, NULL, op_names);
  bool exact = lua_toboolean(L, 3);
  lua_Integer of = luaL_optinteger(L, 4, 0);
  char what[TEXT], more[24];
  lua_settop(L, 1);
  reduction *r = lua_newuserdatauv(L, sizeof *r, 0);
  memset(r, 0, sizeof *r);
  luaL_setmetatable(L, "moongrad.mpi.reduction");
  moongrad_values y;
  copy(L, "all_reduce", &y);
  if (y.dtype > MOONGRAD_INT64)
    api(L)->raise(L, "all_reduce: x is %s, expected float64, float32 or int64",
                  dtypes[y.dtype].name);
  if (op == MEAN && y.dtype == MOONGRAD_INT64)
    api(L)->raise(L, "all_reduce: the mean of int64 is none; convert x to a float");
  few(L, "all_reduce", y.n);
  if (!reduction_init(r, y.p, y.n, op, y.dtype, exact)) luaL_error(L, "not enough memory");
  snprintf(more, sizeof more, " (%s%s)", op_names[op], exact ? ", exact" : "");
  describe(what, "all_reduce", more, &y);
  int n = (int)strlen(what);
  if (of) snprintf(what + n, TEXT - n, ", the gradient of exchange %lld", (long long)of);
  agree(L, "all_reduce", what);
  check(L, "all_reduce", reduction_begin(r));
  for (int i = 0; !r->there; i++) {
    check(L, "all_reduce", reduction_test(r, true));
    if (!r->there) rest(i);
  }
  if (op == MEAN) divide(&y);
  api(L)->created(L, &y);
  return 1;
}

/* broadcast(x, root) */
static int broadcast(lua_State *L) {
  int root = (int)luaL_checkinteger(L, 2);
  char what[TEXT], more[32];
  lua_settop(L, 1);
  moongrad_values y;
  copy(L, "broadcast", &y);
  few(L, "broadcast", (int64_t)y.bytes);
  snprintf(more, sizeof more, " from rank %d", root);
  describe(what, "broadcast", more, &y);
  agree(L, "broadcast", what);
  MPI_Request q;
  check(L, "broadcast", MPI_Ibcast(y.p, (int)y.bytes, MPI_BYTE, root - 1, lanes[0].values, &q));
  check(L, "broadcast", wait_for(&q));
  api(L)->created(L, &y);
  return 1;
}

/* all_gather(x) */
static int all_gather(lua_State *L) {
  moongrad_values x, y;
  char what[TEXT];
  lua_settop(L, 1);
  api(L)->borrow(L, 1, "all_gather", &x);
  if (x.ndim == MOONGRAD_MAXDIM)
    api(L)->raise(L, "all_gather: x has %d axes, there can be one less", MOONGRAD_MAXDIM);
  y = (moongrad_values){.dtype = x.dtype, .ndim = x.ndim + 1, .shape = {size}};
  memcpy(y.shape + 1, x.shape, x.ndim * sizeof *x.shape);
  few(L, "all_gather", (int64_t)x.bytes * size);
  describe(what, "all_gather", "", &x);
  api(L)->create(L, &y);
  agree(L, "all_gather", what);
  int n = (int)x.bytes;
  MPI_Request q;
  check(L, "all_gather", MPI_Iallgather(x.p, n, MPI_BYTE, y.p, n, MPI_BYTE, lanes[0].values, &q));
  check(L, "all_gather", wait_for(&q));
  api(L)->created(L, &y);
  return 1;
}

/* barrier(): all have agreed when all have come. */
static int barrier(lua_State *L) {
  agree(L, "barrier", "barrier");
  return 0;
}

/* ---- gradients ------------------------------------------------------------------------------------------ */

/* The sums of one backward, a reduction for each bucket */
typedef struct {
  moongrad_reducer r;
  agreement a;
  bool checked, exact;
  bool running;           /* others wait for what this process has still to give */
  int n, started, halves; /* halves: exact sums before this one have begun their second half */
  int lane;
  char what[TEXT];
  reduction each[];
} reducer;

static int running; /* reducers that are */

static bool run(reducer *s, bool on) {
  running += on - s->running;
  return s->running = on;
}

static bool go_on(reducer *s, int e) { return run(s, fine(e, s->r.error, sizeof s->r.error)); }

static bool reducer_begin(moongrad_reducer *r) {
  reducer *s = (reducer *)r;
  char what[TEXT + 32] = "", *more = what + snprintf(what, TEXT, "%s", s->what);
  s->started = s->halves = 0;
  s->a.failed = false;
  s->lane = running + 1;
  s->checked = false;
  run(s, s->n > 0);
  if (s->lane > 1) snprintf(more, 32, ", beside %d more", s->lane - 1);
  ask(&s->a, what, "");
  if (s->lane >= made) answer(&s->a); /* all are here, and make the lane together */
  if (!s->a.ok)
    return snprintf(r->error, sizeof r->error, "backward: %s", s->a.error), run(s, false);
  if (s->lane >= made) make_lane();
  return true;
}

/* What failed elsewhere takes part with zeros, as far as memory can be had; else the job ends. */
static void *zeros(int64_t n, int dtype) {
  double *p = calloc(n, dtypes[dtype].bytes);
  if (!p) {
    fprintf(stderr, "rank %d: backward failed, and there is no memory to tell the others\n",
            rank + 1);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  if (dtype == MOONGRAD_FLOAT64) p[n - 1] = 1;
  else ((float *)p)[n - 1] = 1;
  return p;
}

static bool reducer_start(moongrad_reducer *r, int k, void *p, int64_t n, int dtype) {
  reducer *s = (reducer *)r;
  double began = MPI_Wtime();
  if (!s->checked) answer(&s->a);
  s->checked = true;
  if (!s->a.ok)
    return snprintf(r->error, sizeof r->error, "backward: %s", s->a.error), run(s, false);
  if (n >= INT32_MAX)
    return snprintf(r->error, sizeof r->error, "backward: a bucket of 2^31 numbers"), run(s, false);
  reduction *q = &s->each[k];
  q->own = p == NULL;
  if (!p) p = zeros(n, dtype);
  if (!reduction_init(q, p, n, SUM, dtype, s->exact)) {
    fprintf(stderr, "rank %d: no memory for a bucket\n", rank + 1);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  q->lane = s->lane;
  s->started = k + 1;
  bool ok = go_on(s, reduction_begin(q));
  spent.start += MPI_Wtime() - began;
  spent.bytes += n * dtypes[dtype].bytes;
  spent.buckets++;
  return ok;
}

/* Looks after bucket k. */
static int look_after(reducer *s, int k) {
  reduction *q = &s->each[k];
  if (q->there) return MPI_SUCCESS;
  int e = reduction_test(q, k == s->halves);
  if (s->exact && q->halfway && k == s->halves) s->halves++;
  return e;
}

static void reducer_step(moongrad_reducer *r) {
  reducer *s = (reducer *)r;
  double began = MPI_Wtime();
  for (int k = 0; k < s->started; k++)
    if (look_after(s, k) != MPI_SUCCESS) break; /* wait meets it again */
  spent.step += MPI_Wtime() - began;
}

/* Others may be in the midst of a backward that asks for a sum which this one's does not: there it
** fails, and they come here. */
static bool reducer_wait(moongrad_reducer *r, int k) {
  reducer *s = (reducer *)r;
  double began = MPI_Wtime();
  int e = MPI_SUCCESS;
  s->a.failed = r->failed;
  if (k == 0 && !await(&s->a, "the end of its backward"))
    return snprintf(r->error, sizeof r->error, "backward: %s", s->a.error), run(s, false);
  for (int i = 0; e == MPI_SUCCESS && !s->each[k].there; i++) {
    for (int j = 0; e == MPI_SUCCESS && j < s->started; j++) e = look_after(s, j);
    if (!s->each[k].there) rest(i);
  }
  if (s->each[k].own) free(s->each[k].p);
  s->each[k].own = false;
  spent.wait += MPI_Wtime() - began;
  bool ok = go_on(s, e);
  if (k < s->n - 1) return ok;
  if (ok && s->a.h[2]) {
    snprintf(r->error, sizeof r->error, "backward: it failed in another process");
    ok = false;
  }
  run(s, false);
  return ok;
}

static void reducer_drop(moongrad_reducer *r) {
  reducer *s = (reducer *)r;
  if (open_question == &s->a) answer(&s->a);
  run(s, false);
  for (int k = 0; k < s->n; k++) reduction_free(&s->each[k]);
  free(s);
}

/* watch(leaves, counts, exact, text): see moongrad.h; text: what ranks must agree on */
static int watch(lua_State *L) {
  const char *text = luaL_checkstring(L, 4);
  int n = (int)lua_rawlen(L, 2);
  reducer *s = calloc(1, sizeof *s + n * sizeof *s->each);
  if (!s) return luaL_error(L, "not enough memory");
  s->r = (moongrad_reducer){size,         false,        reducer_begin, reducer_start,
                            reducer_step, reducer_wait, reducer_drop,  ""};
  s->n = n;
  s->exact = lua_toboolean(L, 3);
  snprintf(s->what, TEXT, "%s", text);
  api(L)->watch(L, 1, &s->r);
  return 1;
}

/* times(): seconds in starting sums, in looking after them, in waiting for them; bytes and buckets
** summed; since the last call */
static int times(lua_State *L) {
  lua_createtable(L, 0, 5);
  lua_pushnumber(L, spent.start);
  lua_setfield(L, -2, "start");
  lua_pushnumber(L, spent.step);
  lua_setfield(L, -2, "step");
  lua_pushnumber(L, spent.wait);
  lua_setfield(L, -2, "wait");
  lua_pushinteger(L, spent.bytes);
  lua_setfield(L, -2, "bytes");
  lua_pushinteger(L, spent.buckets);
  lua_setfield(L, -2, "buckets");
  memset(&spent, 0, sizeof spent);
  return 1;
}

static int seconds(lua_State *L) {
  lua_pushnumber(L, MPI_Wtime());
  return 1;
}

/* ---- begin and end -------------------------------------------------------------------------------------- */

static void finish(int status, void *arg) {
  (void)arg;
  if (getpid() != owner) return;
  fflush(NULL);
  if (status == 0 && running) {
    fprintf(stderr, "rank %d ended within a backward, while others waited for it\n", rank + 1);
    status = EXIT_FAILURE;
  }
  if (status != 0) MPI_Abort(MPI_COMM_WORLD, status);
  agreement a = {.failed = false};
  await(&a, "its end");
  MPI_Finalize();
}

/* How many processes of this machine may run on the very processors of this one? */
static int count_sharing(void) {
  MPI_Comm here;
  cpu_set_t mine, *all;
  int n, same = 0;
  CPU_ZERO(&mine);
  sched_getaffinity(0, sizeof mine, &mine);
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
  MPI_Comm_size(here, &n);
  if (!(all = malloc(n * sizeof *all))) return n;
  MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, here);
  for (int i = 0; i < n; i++) same += CPU_EQUAL(&mine, &all[i]) != 0;
  spin = n > (int)sysconf(_SC_NPROCESSORS_ONLN) ? 0 : 1000;
  free(all);
  MPI_Comm_free(&here);
  return same;
}

static bool begin(void) {
  int level;
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS) return false;
  owner = getpid();
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  sharing = count_sharing();
  agreed = communicator();
  for (int i = 0; i < 2; i++) make_lane();
  MPI_Op_create(combine_max, 1, &largest);
  MPI_Op_create(combine_min, 1, &least);
  on_exit(finish, NULL);
  return true;
}

static void make_meta(lua_State *L, const char *name, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

__attribute__((visibility("default"))) int luaopen_moongrad_mpi(lua_State *L) {
  static const luaL_Reg functions[] = {{"all_gather", all_gather}, {"all_reduce", all_reduce},
                                       {"barrier", barrier},       {"broadcast", broadcast},
                                       {"seconds", seconds},       {"times", times},
                                       {"watch", watch},           {NULL, NULL}};
  const moongrad *mg = moongrad_in(L);
  if (!mg || mg->version != MOONGRAD_VERSION)
    return luaL_error(L, "moongrad.mpi: built for another moongrad.core; run make mpi");
  if (owner == 0 && !begin()) return luaL_error(L, "moongrad.mpi: MPI does not start");
  make_meta(L, "moongrad.mpi.reduction", reduction_gc);
  lua_newtable(L);
  mg->functions(L, functions);
  const struct {
    const char *name;
    int value;
  } numbers[] = {{"rank", rank + 1}, {"size", size}, {"sharing", sharing}};
  for (int i = 0; i < 3; i++) {
    lua_pushinteger(L, numbers[i].value);
    lua_setfield(L, -2, numbers[i].name);
  }
  return 1;
}
