/* replay.c -- a tape run again.
**
** All memory is taken before anything runs: the block, the results, scratch. Then addresses are written into the
** launches, where they are others than the last time, and the launches run in their order.
*/
#include <string.h>

#include "array/tape.h"

enum { SMALL_BLOCK = 1 << 16 }; /* bytes up to which a tape keeps its block between replays */

/* Schedules, and scratch for any of them, for as long as they are kept. Many tapes run once: single numbers are
** computed op by op then, and planned when the tape runs again. */
static bool look_up(ctx *c, tape *t) {
  size_t scratch = 0;
  bool again = t->looked, all = true;
  for (int turn = 0; turn < 2; turn++) {
    uint64_t kept = cpu_kept(c);
    for (int i = 0; i < t->nlaunch; i++) {
      noted *n = t->launch[i];
      if (n->l.kind != PROGRAM) continue;
      if (!again && program_is_number(n->l.p)) {
        all = false;
        continue;
      }
      if (!(n->l.s = cpu_schedule(c, n->l.p))) return false;
      size_t bytes = cpu_scratch(c, n->l.s);
      if (bytes > scratch) scratch = bytes;
    }
    t->each = cpu_kept(c) != kept;
    t->kept = kept;
    if (!t->each) break;
  }
  t->threads = c->threads;
  t->looked = true;
  t->planned = all;
  scratch = rounded(scratch);
  if (scratch > t->scratch && t->own) buf_unref(t->own), t->own = NULL;
  if (scratch > t->scratch) t->scratch = scratch;
  return true;
}

static void drop_buffers(tape *t, int n) {
  while (n--)
    if (t->buf[n]) buf_unref(t->buf[n]);
  buf_unref(t->now);
  t->now = NULL;
}

/* What it takes: the block, and buffers of the results */
static bool reserve(ctx *c, tape *t, const tape_leaf_at *leaf) {
  if (t->own) buf_ref(t->now = t->own);
  else if (!(t->now = buf_new(c, t->block + t->scratch))) return false;
  if (!t->own && t->block + t->scratch <= SMALL_BLOCK) buf_ref(t->own = t->now);
  for (int i = 0; i < t->nresult; i++) {
    const outcome *r = &t->result[i];
    buffer **b = &t->buf[i];
    *b = NULL;
    if (r->cell < 0 || t->cell[r->cell].kind != RESULT) continue;
    if (r->over >= 0 && leaf[r->over].take && !t->each) continue;
    int first = t->cell[r->cell].result;
    if (first < i) buf_ref(*b = t->buf[first]);
    else if (!(*b = buf_new(c, t->cell[r->cell].bytes))) return drop_buffers(t, i), false;
    (*b)->op = t->cell[r->cell].op;
  }
  return true;
}

static void bind(tape *t, const tape_leaf_at *leaf) {
  const patch *x = t->patch, *end = x + t->in_block;
  char *block = t->now->p;
  if (t->bound == block) x = end;
  for (; x < end; x++) *x->to = block + x->off;
  t->bound = block;
  for (end += t->in_leaves; x < end; x++) *x->to = (char *)leaf[x->of].p + x->off;
  for (end += t->in_results; x < end; x++) {
    const buffer *b = t->buf[x->of];
    *x->to = (b ? (char *)b->p : (char *)leaf[t->result[x->of].over].p) + x->off;
  }
}

/* Where numbers stand now that stood so far behind the begin of what was recorded */
static uint64_t stream_at(const ctx *c, const tape *t, int64_t off) {
  uint64_t at = c->counter + (uint64_t)off;
  for (int i = 0; i < t->nskip; i++)
    if (t->skip[i].at <= off) at += t->skip[i].n;
  return at;
}

static void draw(const ctx *c, const tape *t, noted *n, binding *leaf) {
  if (n->l.kind == CALL) {
    n->attr[n->random] = (int64_t)c->seed;
    n->attr[n->random + 1] = (int64_t)stream_at(c, t, n->off);
    return;
  }
  const pvalue *v = program_values(n->l.p);
  memcpy(leaf, n->leaf, n->nleaf * sizeof *leaf);
  for (int k = 0; k < n->l.p->nvalue; k++)
    if (v[k].leaf == LEAF_RANDOM) {
      binding *b = &leaf[v[k].in[0]];
      b->seed = c->seed;
      b->k.i = (int64_t)stream_at(c, t, b->k.i);
    }
}

static bool run(ctx *c, tape *t, void *scratch) {
  for (int i = 0; i < t->nlaunch; i++) {
    noted *n = t->launch[i];
    launch l = n->l;
    if (l.kind == CHECK) {
      imm k = imm_load(n->v[0].dtype, n->v[0].p);
      if (k.i != n->want.i) return t->unlike = n->choice, false;
      continue;
    }
    if (n->random >= 0) {
      draw(c, t, n, n->drawn);
      if (l.kind == PROGRAM) l.leaf = n->drawn;
    }
    if (l.kind == PROGRAM) {
      if (t->each && l.s && !(l.s = cpu_schedule(c, l.p))) return false;
      l.scratch = t->each ? NULL : scratch;
    }
    bool ok;
    {
      WORK(c, n->work);
      ok = launch_work(c, &l);
    }
    if (!ok) return false;
  }
  return true;
}

static array *array_of(ctx *c, const outcome *r, buffer *b, int64_t first) {
  array *a = arr_blank(c, r->a->dtype, &r->a->s, READY);
  if (!a) return NULL;
  memcpy(a->stride, r->a->stride, sizeof a->stride);
  buf_ref(a->buf = b);
  a->p = (char *)b->p + first;
  return a;
}

static array *result_array(ctx *c, const tape *t, int i, const tape_leaf_at *leaf) {
  const outcome *r = &t->result[i];
  const cell *x = r->cell < 0 ? NULL : &t->cell[r->cell];
  if (!x || x->kind == CONSTANT) return arr_ref(r->a);
  if (x->kind == RESULT) return array_of(c, r, t->buf[i], r->off);
  const tape_leaf_at *l = &leaf[x->leaf];
  if (!l->a) return arr_const(c, r->a->dtype, &r->a->s, imm_load(r->a->dtype, l->p));
  return array_of(c, r, l->a->buf, (char *)l->p + r->off - x->first - (char *)l->a->buf->p);
}

bool tape_reserve(ctx *c, tape *t, const tape_leaf_at *leaf, array **out) {
  t->unlike = ALIKE;
  if ((!t->planned || t->kept != cpu_kept(c) || t->threads != c->threads) && !look_up(c, t))
    return false;
  if (!reserve(c, t, leaf)) return false;
  for (int i = 0; i < t->nresult; i++) {
    const outcome *r = &t->result[i];
    bool in_place = r->cell >= 0 && t->cell[r->cell].kind == RESULT && !t->buf[i];
    out[i] = in_place ? NULL : result_array(c, t, i, leaf);
    if (out[i] || in_place) continue;
    while (i--) arr_unref(out[i]);
    return drop_buffers(t, t->nresult), false;
  }
  return true;
}

bool tape_run(ctx *c, tape *t, const tape_leaf_at *leaf) {
  trace *watching = c->arrays->trace;
  bind(t, leaf);
  if (watching) trace_block(watching, t->now->p, t->block, t->apart);
  bool ok = run(c, t, (char *)t->now->p + t->block);
  if (watching) trace_block(watching, NULL, 0, 0);
  tape_cancel(t);
  if (!ok) return false;
  c->counter += t->drawn + t->skipped;
  t->skipped = 0;
  t->nskip = 0;
  return true;
}

void tape_cancel(tape *t) { drop_buffers(t, t->nresult); }

int tape_unlike(const tape *t) { return t->unlike; }
