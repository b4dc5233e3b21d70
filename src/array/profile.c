/* profile.c -- who the work is for: rows of calls, time and bytes, by op and by program.
**
** Works nest on the C stack and never outlive a call into the core, so none is open when a profile
** begins or ends. A profile has room for all its rows: counting allocates nothing and cannot fail.
*/
#include <string.h>
#include <time.h>

#include "array/program.h"

int64_t profile_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

void profile_begin(work *w) {
  profile *p = w->c->profile;
  w->row = w->c->op ? &p->op[w->c->op] : NULL;
  w->outer = p->top;
  p->top = w;
  w->began = profile_now();
}

void profile_end(work *w) {
  profile *p = w->c->profile;
  int64_t took = profile_now() - w->began;
  p->top = w->outer;
  if (w->outer) w->outer->inner += took;
  if (!w->row) return;
  w->row->ns += took - w->inner;
  /* an op's work within its own is one call */
  if (!w->c->op || w->c->op != w->was) w->row->calls++;
}

static void add_op(profile_row *r, int op) {
  int known = 0, room = sizeof r->op;
  while (known < room && r->op[known] && r->op[known] != op) known++;
  if (known < room) r->op[known] = op;
  r->nop++;
}

static profile_row *program_row(profile *p, const profile_row *key) {
  profile_row *r = p->program, *end = r + p->n;
  if (key->nop == 1) return &p->op[key->op[0]];
  while (r < end && (r->nop != key->nop || memcmp(r->op, key->op, sizeof r->op) != 0)) r++;
  if (r == end && p->n < PROGRAMS) p->n++, *r = *key;
  return r;
}

void profile_program(const prog *p) {
  profile_row key = {.nop = 0};
  int64_t bytes = 0;
  for (int i = 0; i < p->nv; i++)
    if (p->v[i].a->state == PENDING) add_op(&key, p->v[i].a->op);
  for (int i = 0; i < p->nr; i++) {
    const array *a = p->r[i].a;
    if (p->v[p->r[i].v].a != a) add_op(&key, a->op); /* a reduction at the end is no value */
    if (!p->r[i].from) bytes += a->size * dtype_size[a->dtype];
  }
  work *w = p->c->profile->top;
  w->row = program_row(p->c->profile, &key);
  w->row->bytes += bytes;
}

/* ---- what is alive ------------------------------------------------------------------------------ */

typedef struct {
  void (*visit)(void *arg, buffer *b);
  void *arg;
} visitor;

static bool visit_ready(void *arg, array *a) {
  const visitor *v = arg;
  if (a->state == READY) v->visit(v->arg, a->buf);
  return true;
}

void arr_buffers(array *a, void (*visit)(void *arg, buffer *b), void *arg) {
  plan_visit(a, plan_mark(), visit_ready, &(visitor){visit, arg});
}
