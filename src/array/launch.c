/* launch.c -- the one way down to the machine, and who looks on.
**
** Every program, every call and every kernel on few elements goes through launch_work, numbers through
** launch_scalar: time is charged here, and launches are noted here, nowhere else. What is found out while a
** graph is built is no launch: numbers made of numbers (arr_map, vjp_made), the reduction of nothing, a
** constant written out, a permutation drawn. Unwatched, a launch is a jump. A profile has room for all its
** rows: counting allocates nothing and cannot fail; a trace that finds no memory says so at its end.
*/
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "array/internal.h"

int64_t profile_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

void launch_watch(ctx *c, profile *p, trace *t) {
  c->arrays->profile = p;
  c->arrays->trace = t;
  c->arrays->watched = p || t || c->arrays->tape;
}

void work_count(ctx *c) {
  arrays *k = c->arrays;
  if (k->profile && k->op) k->profile->op[k->op].calls++;
}

/* ---- whom it is charged to --------------------------------------------------------------------------- */

static void add_op(profile_row *r, int op) {
  int known = 0, room = sizeof r->op;
  while (known < room && r->op[known] && r->op[known] != op) known++;
  if (known < room) r->op[known] = op;
  r->nop++;
}

/* The ops of a program, and the reductions at its end that are no values */
static profile_row ops_of(const program *p) {
  profile_row key = {.nop = 0};
  const pvalue *v = program_values(p);
  const poutput *o = program_outputs(p);
  for (int i = 0; i < p->nvalue; i++)
    if (v[i].op || v[i].leaf == LEAF_RANDOM) add_op(&key, v[i].op ? v[i].op : OP_rand);
  for (int i = 0; i < p->noutput; i++)
    if (o[i].op) add_op(&key, o[i].op);
  return key;
}

static profile_row *program_row(profile *p, const profile_row *key) {
  profile_row *r = p->program, *end = r + p->n;
  if (key->nop == 1) return &p->op[key->op[0]];
  while (r < end && (r->nop != key->nop || memcmp(r->op, key->op, sizeof r->op) != 0)) r++;
  if (r == end && p->n < PROGRAMS) p->n++, *r = *key;
  return r;
}

static void charge(const arrays *k, const launch *l, int64_t ns) {
  if (l->kind == PROGRAM) {
    profile_row key = ops_of(l->p), *r = program_row(k->profile, &key);
    r->calls++;
    r->bytes += l->fresh;
    r->ns += ns;
    return;
  }
  int op = k->op ? k->op : l->op;
  if (!op) return; /* nobody's */
  profile_row *r = &k->profile->op[op];
  r->calls += !k->op; /* WORK counts its own */
  r->ns += ns;
}

/* ---- as text --------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void note(trace *t, const char *fmt, ...) {
  char line[256];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (n >= (int)sizeof line) n = sizeof line - 1;
  if (t->lost) return;
  if (t->len + n + 1 > t->room) {
    size_t room = t->room ? 2 * t->room : 1 << 12;
    char *text = realloc(t->text, room);
    if (!text) {
      t->lost = true;
      return;
    }
    t->text = text;
    t->room = room;
  }
  memcpy(t->text + t->len, line, n + 1);
  t->len += n;
}

static void note_view(trace *t, const char *before, const view *v, int64_t *bytes) {
  char text[128];
  if (!v) return;
  note(t, "%s%s %s", before, dtype_name[v->dtype], shape_text(&v->s, text));
  *bytes += v->size * dtype_size[v->dtype];
}

static int64_t note_program(trace *t, const program *p) {
  profile_row key = ops_of(p);
  const pvalue *v = program_values(p);
  const poutput *o = program_outputs(p);
  int64_t bytes = 0, reduced = p->n ? p->size / p->n : p->size,
          rows = p->row ? p->size / p->row : 0;
  int inputs = 0;
  for (int i = 0; i < (int)sizeof key.op && key.op[i]; i++)
    note(t, "%s%s", i ? " " : "", op_table[key.op[i]].name);
  note(t, " (%d ops), %lld elements, ", key.nop, (long long)p->size);
  for (int i = 0; i < p->nvalue; i++)
    if (v[i].leaf == LEAF_INPUT)
      inputs++, bytes += (v[i].per_row ? rows : p->size) * dtype_size[v[i].dtype];
  for (int i = 0; i < p->noutput; i++)
    bytes += (o[i].op ? reduced : v[o[i].value].per_row ? rows : p->size) * dtype_size[o[i].dtype];
  note(t, "%d in, %d out", inputs, p->noutput);
  return bytes;
}

/* Where something stands: an offset in the block of a replay, @64, or the number of an address, #2 */
static void note_place(trace *t, const void *p) {
  const char *at = p;
  if (t->block && at >= t->block && at < t->block + t->block_bytes)
    return note(t, " @%lld", (long long)(at - t->block));
  int i = 0;
  while (i < t->nmet && t->met[i] != p) i++;
  if (i == t->nmet && i == t->room_met) {
    int room = i ? 2 * i : 64;
    const void **met = realloc(t->met, room * sizeof *met);
    if (!met) {
      t->lost = true;
      return;
    }
    t->met = met;
    t->room_met = room;
  }
  if (i == t->nmet) t->met[t->nmet++] = p;
  note(t, " #%d", i + 1);
}

static void note_places(trace *t, const launch *l) {
  note(t, ",");
  if (l->kind == PROGRAM) {
    const pvalue *v = program_values(l->p);
    for (int i = 0; i < l->p->nvalue; i++)
      if (v[i].leaf == LEAF_INPUT) note_place(t, l->leaf[v[i].in[0]].p);
    note(t, " ->");
    for (int i = 0; i < l->p->noutput; i++) note_place(t, l->to[i]);
  } else if (l->kind == CALL) {
    for (int i = 0; i < l->nin; i++)
      if (l->in[i]) note_place(t, l->in[i]->p);
    note(t, " ->");
    for (int i = 0; i < l->nout; i++)
      if (l->out[i]) note_place(t, l->out[i]->p);
  }
}

void trace_block(trace *t, const void *block, size_t bytes, size_t apart) {
  t->block = block;
  t->block_bytes = bytes;
  if (bytes) note(t, "      a block of %zu bytes, %zu if nothing shared its place\n", bytes, apart);
}

void trace_free(trace *t) {
  free(t->text);
  free(t->met);
  *t = (trace){.text = NULL};
}

static void note_launch(trace *t, const arrays *k, const launch *l) {
  int64_t bytes = 0;
  note(t, "%4lld  ", (long long)++t->count);
  if (l->kind == PROGRAM) bytes = note_program(t, l->p);
  else note(t, "%s", k->op || l->op ? op_table[k->op ? k->op : l->op].name : "look at");
  if (l->kind == KERNEL) note(t, ", %lld elements", (long long)l->n);
  if (l->kind == CALL) {
    for (int i = 0; i < l->nin; i++) note_view(t, i ? ", " : " ", l->in[i], &bytes);
    for (int i = 0; i < l->nout; i++) note_view(t, i ? ", " : " -> ", l->out[i], &bytes);
  }
  if (l->kind != KERNEL) note(t, ", %lld bytes", (long long)bytes), note_places(t, l);
  note(t, "\n");
}

bool launch_watched(ctx *c, const launch *l) {
  arrays *k = c->arrays;
  if (k->tape) return tape_note(c, l);
  if (k->trace) note_launch(k->trace, k, l);
  int64_t began = profile_now();
  bool ok = launch_run(c, l);
  if (k->profile) charge(k, l, profile_now() - began);
  return ok;
}

imm launch_scalar_watched(ctx *c, int op, dtype t, imm a, imm b, imm d) {
  arrays *k = c->arrays;
  int64_t began = profile_now();
  imm r = cpu_scalar(op, t, a, b, d);
  if (k->profile) k->profile->op[op].ns += profile_now() - began;
  if (k->trace)
    note(k->trace, "%4lld  %s of a number\n", (long long)++k->trace->count, op_table[op].name);
  return r;
}
