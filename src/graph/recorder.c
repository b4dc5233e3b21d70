/* recorder.c -- what a function that mg.compile records reads and changes of Variables, and how a replay
** binds the ones and gives the others their values.
**
** While G->recorder is set, a Variable that was there before and is read gets, for as long as the recording
** lasts, a value that stands for its own (a leaf of the tape); likewise its grad. Arguments are seen through
** stand-ins, Variables of the recording, unless the function captures them as well. So everything is computed
** from leaves, numbers, and constants made on the way. When the recording ends, whatever stands in a Variable
** or its grad and did not before is an effect: replays give it to them, all together, when nothing can fail
** any more. Then all Variables are as they were, and those that were made meanwhile have no value.
*/
#include <string.h>

#include "graph/internal.h"

typedef struct {
  node *n;      /* what the function sees: a handle */
  node *of;     /* the Variable itself: n, or an argument, while it is recorded */
  int argument; /* its number, -1 */
  array *a;     /* its value before; NULL: the number k. Until it is read: NULL */
  imm k;
  array *stand; /* what is read in its place; NULL: its value was not read */
  bool tracked;
  bool met; /* an argument: its Variable was read otherwise, too */
  bool grad_met, grad_read;
  node *grad;        /* its grad before: a handle */
  node *grad_stand;  /* a handle: f may write into it, and then clear it */
  array *grad_value; /* its value, before f writes into it */
} touched;

enum source { VALUE, GRAD, NUMBER_ASKED };

typedef struct {
  uint8_t source;
  int of; /* of what is touched; the number's index */
  uint8_t dtype;
  shape s;
  int64_t stride[MAXDIM];
  imm store;    /* where the value of a Variable without an array stands */
  bool offered; /* its memory may be taken over */
  array *dense; /* of one that has a number for all elements, for a while */
} leaf;

enum { CHOICES = 64, EFFECTS = 3 /* on one Variable */ };

struct recorder {
  tape *t;
  uint64_t since;
  uint64_t counter, paused_at;
  captures *captures; /* G's while it is paused: what is read is noted with what stands for it */
  uint64_t script;    /* which way each choice goes */
  int nchoice;
  touched *v;
  int n, nleaf;
  size_t room, leaf_room;
  nodemap places; /* in v */
  nodemap origin; /* the places of arguments by their Variables */
  node **itself;  /* by argument: it, a handle, or NULL */
  size_t itself_room;
  node **made;   /* where nodes were made */
  int64_t nmade; /* -1: there was no memory to note it */
  size_t made_room;
  leaf *leaf;
  int narg, nnumber;
  bool failed; /* for memory, where nobody could be told */
};

/* ---- what is touched --------------------------------------------------------------------------------- */

static touched *find(const recorder *r, const node *n) {
  int at = nodemap_get(&r->places, n);
  return at < 0 ? NULL : &r->v[at];
}

static touched *add(graph *G, recorder *r, node *n, node *of) {
  if (!mg_grow(&G->c, (void **)&r->v, &r->room, (r->n + 1) * sizeof *r->v) ||
      !nodemap_put(&G->c, &r->places, n, r->n))
    return NULL;
  int place = nodemap_get(&r->origin, n);
  if (place >= 0) r->v[place].met = true;
  touched *x = &r->v[r->n++];
  *x = (touched){.n = node_hold(n), .of = of, .argument = -1, .tracked = node_tracked(of)};
  return x;
}

uint64_t recorder_serial(const graph *G) { return G->recorder->since; }

bool recorder_knows(const graph *G, const node *n) {
  return n->id <= G->recorder->since || n->flags & OUTSIDE;
}

/* It will be told when the function has returned. */
static void lost(graph *G, recorder *r) {
  G->c.err = OK;
  r->failed = true;
}

static leaf *add_leaf(graph *G, recorder *r, int source, int of) {
  if (!mg_grow(&G->c, (void **)&r->leaf, &r->leaf_room, (r->nleaf + 1) * sizeof *r->leaf))
    return NULL;
  leaf *l = &r->leaf[r->nleaf];
  memset(l, 0, sizeof *l);
  l->source = source;
  l->of = of;
  return l;
}

/* What stands for the value of n, which is computed; NULL: no memory */
static array *stand_in(graph *G, recorder *r, const node *n, int source, int of) {
  int number;
  leaf *l = add_leaf(G, r, source, of);
  array *like = !l ? NULL : n->a ? arr_ref(n->a) : arr_scalar(&G->c, n->dtype, n->k);
  array *a = like ? tape_leaf(&G->c, r->t, like, &number) : NULL;
  arr_unref(like);
  if (!a) return NULL;
  l->dtype = a->dtype;
  l->s = a->s;
  memcpy(l->stride, a->stride, sizeof l->stride);
  r->nleaf++;
  return a;
}

void recorder_pause(graph *G, recorder *r) {
  r->paused_at = G->c.counter;
  r->captures = G->captures;
  tape_on(&G->c, NULL);
  G->recorder = NULL;
  G->captures = NULL;
  G->outside = true;
}

void recorder_resume(graph *G, recorder *r) {
  tape_on(&G->c, r->t);
  G->recorder = r;
  G->captures = r->captures;
  G->outside = false;
  recorder_skip(G, r->paused_at);
}

void recorder_skip(graph *G, uint64_t from) {
  if (!tape_skip(&G->c, G->recorder->t, G->c.counter - from)) lost(G, G->recorder);
}

void recorder_set_back(graph *G, uint64_t to) { tape_unskip(G->recorder->t, to); }

static bool compute(graph *G, recorder *r, node *n) {
  recorder_pause(G, r);
  bool ok = node_ready(G, n);
  recorder_resume(G, r);
  return ok;
}

void recorder_read(graph *G, node *n) {
  recorder *r = G->recorder;
  if (n->flags & (NUMBER | DROPPED) || !recorder_knows(G, n)) return;
  touched *x = find(r, n);
  if (x && x->stand) return;
  if (!compute(G, r, n) || (!x && !(x = add(G, r, n, n)))) return lost(G, r);
  array *a = stand_in(G, r, n, VALUE, (int)(x - r->v));
  if (!a) return lost(G, r);
  x->a = n->a;
  x->k = n->k;
  x->stand = a;
  n->a = arr_ref(a);
}

/* Whether n is tracked is about to be read, or set */
void recorder_tracked(graph *G, node *n) {
  recorder *r = G->recorder;
  if (!find(r, n) && recorder_knows(G, n) && !add(G, r, n, n)) lost(G, r);
}

/* n's grad is about to be read, or written over */
void recorder_grad(graph *G, node *n, bool write) {
  recorder *r = G->recorder;
  touched *x = find(r, n);
  if (!x && !recorder_knows(G, n)) return;
  if (!x && !(x = add(G, r, n, n))) return lost(G, r);
  if (x->grad_met) return;
  x->grad_met = true;
  x->grad = x->n == x->of || !x->of->grad ? x->of->grad : node_hold(x->of->grad);
  n->grad = NULL;
  if (write) return;
  x->grad_read = true;
  if (!x->grad) return;
  const touched *also = find(r, x->grad); /* f writes it by another name: no replay will do that */
  bool ok = (also && also->stand) || compute(G, r, x->grad);
  array *a = ok ? stand_in(G, r, x->grad, GRAD, (int)(x - r->v)) : NULL;
  if (!a || !(n->grad = node_array(G, a))) return lost(G, r);
  x->grad_stand = node_hold(n->grad);
  x->grad_value = arr_ref(a);
}

void recorder_made(graph *G, node *n) {
  recorder *r = G->recorder;
  if (r->nmade < 0) return;
  if (mg_grow(&G->c, (void **)&r->made, &r->made_room, (r->nmade + 1) * sizeof *r->made))
    r->made[r->nmade++] = n;
  else G->c.err = OK, r->nmade = -1;
}

/* ---- begin ---------------------------------------------------------------------------------------------- */

recorder *recorder_begin(graph *G) {
  recorder *r = mg_alloc(&G->c, sizeof *r);
  if (!r) return NULL;
  memset(r, 0, sizeof *r);
  r->since = ++G->ids; /* each has one of its own */
  r->counter = G->c.counter;
  if (!(r->t = tape_begin(&G->c))) return mg_free(r), NULL;
  r->paused_at = r->counter;
  r->script = ~(uint64_t)0;
  recorder_resume(G, r);
  return r;
}

/* Who finds no memory tries again: what may fail comes before what counts. */
node *recorder_argument(graph *G, node *of, bool itself) {
  recorder *r = G->recorder;
  size_t bytes = (r->narg + 1) * sizeof *r->itself;
  if (!mg_grow(&G->c, (void **)&r->itself, &r->itself_room, bytes)) return NULL;
  if (itself) {
    r->itself[r->narg++] = node_hold(of);
    return node_hold(of);
  }
  if (!compute(G, r, of)) return NULL;
  array *a = stand_in(G, r, of, VALUE, r->n);
  node *n = node_array(G, a);
  touched *x = n && nodemap_put(&G->c, &r->origin, of, r->n) ? add(G, r, n, of) : NULL;
  if (!x) return node_drop(G, n), NULL;
  x->stand = arr_ref(a);
  x->argument = r->narg;
  r->itself[r->narg++] = NULL;
  n->flags |= of->flags & TRACKED;
  return n;
}

int recorder_met(const recorder *r, int from) {
  for (int i = 0; i < r->n; i++)
    if (r->v[i].met && r->v[i].argument >= from) return r->v[i].argument;
  return -1;
}

node *recorder_number(graph *G, int *index) {
  recorder *r = G->recorder;
  node zero = {.dtype = F64};
  *index = r->nnumber;
  node *n = node_array(G, stand_in(G, r, &zero, NUMBER_ASKED, r->nnumber));
  if (!n) return NULL;
  r->nnumber++;
  n->flags |= WEAK;
  return n;
}

static array *as_bool(graph *G, node *x) {
  array *a = node_as_array(G, x), *b = a ? arr_cast(&G->c, a, BOOL) : NULL;
  arr_unref(a);
  return b;
}

static bool check(graph *G, node *x, bool yes, int choice) {
  array *a = as_bool(G, x);
  bool ok = a && tape_check(&G->c, a, (imm){.i = yes}, choice);
  arr_unref(a);
  return ok;
}

bool recorder_truth(graph *G, node *x) { return check(G, x, true, NO_CHOICE); }

void recorder_script(graph *G, uint64_t script, int n) {
  G->recorder->script = n < CHOICES ? script | ~(uint64_t)0 << n : script;
}

bool recorder_choose(graph *G, node *x, bool *yes) {
  recorder *r = G->recorder;
  imm k;
  array *a = as_bool(G, x);
  bool same = a && tape_same(&G->c, a, &k);
  arr_unref(a);
  if (same) return *yes = k.i, true;
  if (r->nchoice == CHOICES) return *yes = true, recorder_truth(G, x);
  *yes = r->script >> r->nchoice & 1;
  return check(G, x, *yes, r->nchoice++);
}

int recorder_choices(const recorder *r, uint64_t *script) {
  *script = r->script;
  return r->nchoice;
}

/* ---- the record ----------------------------------------------------------------------------------------- */

typedef struct {
  node *n; /* a handle; NULL: argument */
  int argument;
  bool tracked;
  bool turned; /* f leaves it tracked otherwise */
  bool grad_read, grad_there;
} subject; /* what was touched, as replays know it */

typedef struct {
  int of; /* a subject */
  enum { ITSELF, ITS_GRAD, INTO_GRAD } what;
  int result; /* of the tape, -1: nil */
} effect;

struct replay {
  tape *t;
  subject *v;
  leaf *leaf;
  effect *e;
  int *argument;                              /* the leaf of each argument's value; -1: it is */
  node **itself;                              /* this Variable, a handle */
  int n, nleaf, neffect, narg, nresult, nall; /* nall: of the tape */
  bool writes; /* into what was there before, or tracks it otherwise */
  tape_leaf_at *at;
};

static void put_back(graph *G, recorder *r) {
  G->recorder = NULL;
  G->outside = false;
  tape_on(&G->c, NULL);
  G->c.counter = r->counter;
  for (int i = 0; i < r->n; i++) {
    touched *x = &r->v[i];
    node *n = x->n;
    if (x->n == x->of && x->stand) {
      arr_unref(n->a);
      n->a = x->a;
      n->k = x->k;
    }
    if (x->n == x->of && x->tracked != node_tracked(n)) n->flags ^= TRACKED;
    if (x->n == x->of && x->grad_met) node_set_grad(G, n, x->grad);
    else if (x->grad_met) node_drop(G, x->grad);
    node_drop(G, x->grad_stand);
    arr_unref(x->grad_value);
    arr_unref(x->stand);
  }
  graph_forget(G, r->since, r->nmade, r->made);
  for (int i = 0; i < r->n; i++) node_drop(G, r->v[i].n);
  for (int i = 0; r->itself && i < r->narg; i++) node_drop(G, r->itself[i]);
  mg_free(r->itself);
  nodemap_free(&r->origin);
  mg_free(r->v);
  mg_free(r->made);
  nodemap_free(&r->places);
  mg_free(r->leaf);
  mg_free(r);
}

void recorder_abort(graph *G, recorder *r) {
  tape *t = r->t;
  r->counter += tape_skipped(t); /* what was made outside stays */
  put_back(G, r);
  tape_free(t);
}

void replay_free(graph *G, replay *p) {
  if (!p) return;
  for (int i = 0; i < p->n; i++) node_drop(G, p->v[i].n);
  for (int i = 0; i < p->narg; i++) node_drop(G, p->itself[i]);
  tape_free(p->t);
  mg_free(p);
}

/* An effect on what is touched, if there is one: what stands there now, of which a CONST is made where it is a
** number. False: no memory. */
static bool value_now(graph *G, const touched *x, array **a) {
  const node *n = x->n;
  *a = NULL;
  if (!x->stand || n->a == x->stand) return true;
  return (*a = n->a ? arr_ref(n->a) : arr_scalar(&G->c, n->dtype, n->k));
}

static replay *blank(graph *G, const recorder *r, int nresult) {
  size_t bytes = sizeof(replay) + r->n * sizeof(subject) + r->nleaf * sizeof(leaf) +
                 EFFECTS * r->n * sizeof(effect) + r->nleaf * sizeof(tape_leaf_at) +
                 (r->narg + 1) * (sizeof(node *) + sizeof(int));
  replay *p = mg_alloc(&G->c, bytes);
  if (!p) return NULL;
  memset(p, 0, bytes);
  p->v = (subject *)(p + 1);
  p->leaf = (leaf *)(p->v + r->n);
  p->at = (tape_leaf_at *)(p->leaf + r->nleaf);
  p->itself = (node **)(p->at + r->nleaf);
  p->argument =
      (int *)(p->itself + r->narg + 1); /* whole numbers last: pointers stand on 8 bytes */
  p->e = (effect *)(p->argument + r->narg + 1);
  p->nleaf = r->nleaf;
  p->narg = r->narg;
  p->nresult = nresult;
  for (int i = 0; i < r->narg; i++) {
    p->argument[i] = -1;
    if (r->itself[i]) p->itself[i] = node_hold(r->itself[i]);
  }
  if (r->nleaf) memcpy(p->leaf, r->leaf, r->nleaf * sizeof *p->leaf);
  for (int i = 0; i < r->nleaf; i++) {
    const leaf *l = &r->leaf[i];
    if (l->source == VALUE && r->v[l->of].argument >= 0) p->argument[r->v[l->of].argument] = i;
  }
  return p;
}

static void add_effect(replay *p, int of, int what, array *a, array **all) {
  p->e[p->neffect++] = (effect){of, what, a ? p->nall : -1};
  if (a) all[p->nall++] = a;
}

/* All that the tape is to give: results, and what effects give to Variables; new references in `all` */
static bool collect(graph *G, recorder *r, replay *p, node *const *results, array **all) {
  for (int i = 0; i < p->nresult; i++)
    if (!(all[p->nall] = node_as_array(G, results[i]))) return false;
    else p->nall++;
  for (int i = 0; i < r->n; i++) {
    touched *x = &r->v[i];
    array *a;
    if (!value_now(G, x, &a)) return false;
    if (a) add_effect(p, i, ITSELF, a, all);
    node *g = x->n->grad;
    if (x->grad_stand && x->grad_stand->a != x->grad_value) {
      if (!(a = node_as_array(G, x->grad_stand))) return false;
      add_effect(p, i, INTO_GRAD, a, all);
    }
    if (!x->grad_met || (g && g == x->grad_stand)) continue;
    if (!g && x->grad_read && !x->grad) continue; /* there was none, and is none */
    a = NULL;
    if (g && !(a = node_as_array(G, g))) return false;
    add_effect(p, i, ITS_GRAD, a, all);
  }
  return true;
}

static void name_subjects(const recorder *r, replay *p) {
  for (int i = 0; i < r->n; i++) {
    const touched *x = &r->v[i];
    p->v[p->n++] = (subject){.n = x->argument < 0 ? node_hold(x->n) : NULL,
                             .argument = x->argument,
                             .tracked = x->tracked,
                             .turned = x->tracked != node_tracked(x->n),
                             .grad_read = x->grad_read,
                             .grad_there = x->grad_read && x->grad};
    p->writes |= p->v[i].turned;
  }
  for (int i = 0; i < p->neffect; i++) p->writes |= p->e[i].what != ITS_GRAD;
}

/* The new value of a Variable may be written over the old one, that nobody else sees. */
static void offer(ctx *c, replay *p, tape *t, int i) {
  for (int k = 0; k < p->nleaf; k++)
    if (p->leaf[k].source == VALUE && p->leaf[k].of == p->e[i].of) {
      tape_over(c, t, p->e[i].result, k);
      p->leaf[k].offered = true;
    }
}

replay *recorder_end(graph *G, recorder *r, int n, node *const *results) {
  ctx *c = &G->c;
  tape *t = r->t;
  replay *p = blank(G, r, n);
  int most = n + EFFECTS * r->n + 1;
  array **all = p ? mg_alloc(c, most * (sizeof *all + sizeof(bool))) : NULL;
  bool *sinks = all ? (bool *)(all + most) : NULL;
  bool ok = all && collect(G, r, p, results, all);
  /* then nobody holds what is not needed: it is not stored */
  if (ok) graph_forget(G, r->since, r->nmade, r->made);
  for (int i = 0; ok && i < p->nall; i++) sinks[i] = false;
  for (int i = 0; ok && i < p->neffect; i++)
    if (p->e[i].what == ITSELF) sinks[p->e[i].result] = true;
  ok = ok && tape_end(c, t, p->nall, all, sinks);
  if (ok && r->failed) ok = fail_memory(c, 0);
  for (int i = 0; p && all && i < p->nall; i++) arr_unref(all[i]);
  mg_free(all);
  if (ok) name_subjects(r, p);
  for (int i = 0; ok && i < p->neffect; i++)
    if (p->e[i].what == ITSELF && p->e[i].result >= 0) offer(c, p, t, i);
  put_back(G, r);
  if (ok) return p->t = t, p;
  tape_free(t);
  replay_free(G, p);
  return NULL;
}

/* ---- replaying ------------------------------------------------------------------------------------------ */

static bool has_layout(const leaf *l, const node *n) {
  if (n->dtype != l->dtype) return false;
  if (!n->a) return l->s.n == 0;
  if (!shape_eq(&n->a->s, &l->s)) return false;
  if (n->a->state != READY) return true; /* it will be dense */
  for (int i = 0; i < l->s.n; i++)
    if (l->s.d[i] > 1 && n->a->stride[i] != l->stride[i]) return false;
  return true;
}

static bool is_dense(const leaf *l) {
  int64_t step = 1;
  for (int i = l->s.n - 1; i >= 0; step *= l->s.d[i--])
    if (l->s.d[i] > 1 && l->stride[i] != step) return false;
  return true;
}

int replay_choice(const replay *p) { return tape_unlike(p->t); }

bool replay_takes(const replay *p, int i, const node *n) {
  if (p->itself[i]) return p->itself[i] == n;
  const leaf *l = &p->leaf[p->argument[i]];
  if (n->a && n->a->state != READY && !is_dense(l)) return false;
  return has_layout(l, n);
}

static node *subject_of(const replay *p, int i, node *const *arguments) {
  return p->v[i].n ? p->v[i].n : arguments[p->v[i].argument];
}

/* What effect i writes into, and is not made for it, or NULL */
static node *written(const replay *p, int i, node *const *arguments) {
  node *n = subject_of(p, p->e[i].of, arguments);
  return p->e[i].what == ITSELF ? n : p->e[i].what == INTO_GRAD ? n->grad : NULL;
}

/* Is something that is written, or tracked otherwise after, read by another name: as a Variable and the grad of
** one, or the grad of two? */
static bool is_shared(const replay *p, node *const *arguments) {
  bool shared = false;
  int names = 0;
  for (int i = 0; i < p->neffect; i++) {
    node *n = written(p, i, arguments);
    if (!n) continue;
    shared |= (n->flags & ASSIGNED) != 0;
    n->flags |= ASSIGNED;
    names--;
  }
  for (int i = 0; i < p->n; i++) {
    node *n = subject_of(p, i, arguments);
    if (!p->v[i].turned || n->flags & ASSIGNED) continue;
    n->flags |= ASSIGNED;
    names--;
  }
  for (int i = 0; i < p->n; i++) {
    const node *n = subject_of(p, i, arguments), *g = p->v[i].grad_read ? n->grad : NULL;
    names += (n->flags & ASSIGNED) != 0;
    names += g && g->flags & ASSIGNED;
  }
  for (int i = 0; i < p->neffect; i++) {
    node *n = written(p, i, arguments);
    if (n) n->flags &= ~ASSIGNED;
  }
  for (int i = 0; i < p->n; i++) subject_of(p, i, arguments)->flags &= ~ASSIGNED;
  return shared || names;
}

bool replay_apart(const replay *p, node *const *arguments) {
  bool apart = true;
  for (int i = 0; i < p->narg; i++) {
    if (p->itself[i]) continue;
    apart &= !(arguments[i]->flags & ASSIGNED);
    arguments[i]->flags |= ASSIGNED;
  }
  for (int i = 0; i < p->n; i++) apart &= !(p->v[i].n && p->v[i].n->flags & ASSIGNED);
  for (int i = 0; i < p->narg; i++) arguments[i]->flags &= ~ASSIGNED;
  return apart && !(p->writes && is_shared(p, arguments));
}

/* The leaf's address. REPLAY_DONE: it is there. */
static enum replayed bind(graph *G, leaf *l, node *n, tape_leaf_at *at) {
  if (!n) return REPLAY_STALE;
  if (n->a || n->flags & DROPPED) {
    if (!node_ready(G, n)) return REPLAY_FAILED;
  } else node_read(G, n);
  if (!has_layout(l, n)) return REPLAY_STALE;
  if (!n->a) {
    imm_store(l->dtype, &l->store, n->k);
    *at = (tape_leaf_at){NULL, &l->store, false};
    return REPLAY_DONE;
  }
  array *a = n->a;
  if (arr_recorded(a)) return tape_refuse(&G->c), REPLAY_FAILED;
  if (a->state == CONST) {
    if (!is_dense(l)) return REPLAY_STALE;
    if (!(a = l->dense = arr_copy(&G->c, a))) return REPLAY_FAILED;
  }
  *at = (tape_leaf_at){a, a->p, l->offered && a == n->a && arr_sole(a, 1)};
  return REPLAY_DONE;
}

static enum replayed bind_all(graph *G, replay *p, node *const *arguments, const double *numbers) {
  for (int i = 0; i < p->n; i++) {
    const subject *x = &p->v[i];
    const node *n = subject_of(p, i, arguments);
    if (x->tracked != node_tracked(n) || (x->turned && node_has_creator(n))) return REPLAY_STALE;
    if (x->grad_read && x->grad_there != (n->grad != NULL)) return REPLAY_STALE;
  }
  for (int i = 0; i < p->neffect; i++) {
    const node *n = written(p, i, arguments); /* into some f may not write, and will say so */
    if (n && (node_has_creator(n) || n->flags & FROZEN || (n->flags & (PART | TRACKED)) == PART))
      return REPLAY_STALE;
  }
  for (int i = 0; i < p->nleaf; i++) {
    leaf *l = &p->leaf[i];
    if (l->source == NUMBER_ASKED) {
      p->at[i] = (tape_leaf_at){NULL, &numbers[l->of], false};
      continue;
    }
    node *n = subject_of(p, l->of, arguments);
    enum replayed how = bind(G, l, l->source == GRAD ? n->grad : n, &p->at[i]);
    if (how != REPLAY_DONE) return how;
  }
  return REPLAY_DONE;
}

/* A node that will have the value of a, which is taken over; NULL passes on */
static node *node_for(graph *G, array *a) {
  node *n = a ? node_new(G, a->dtype) : NULL;
  if (n) n->a = a;
  else arr_unref(a);
  return n;
}

/* The value is there. */
static void settle(graph *G, node *n) {
  array *a = n->a;
  if (a->s.n > 0) return;
  arr_get(&G->c, a, &n->k);
  n->a = NULL;
  arr_unref(a);
}

/* Results and grads as nodes, which take their arrays over. False: there is no memory for all. */
static bool make_nodes(graph *G, replay *p, array **all, node **made, node **results) {
  bool ok = true;
  for (int i = 0; i < p->nresult; i++) {
    results[i] = node_for(G, all[i]);
    all[i] = NULL;
    if (results[i]) results[i]->flags |= REPLAYED;
    ok = ok && results[i];
  }
  for (int i = 0; i < p->neffect; i++) {
    const effect *e = &p->e[i];
    made[i] = NULL;
    if (e->result < 0 || e->what != ITS_GRAD) continue;
    made[i] = node_for(G, all[e->result]);
    all[e->result] = NULL;
    ok = ok && made[i];
  }
  return ok;
}

static void drop_nodes(graph *G, replay *p, array **all, node **made, node **results) {
  for (int i = 0; i < p->nresult; i++) node_drop(G, results[i]), results[i] = NULL;
  for (int i = 0; i < p->neffect; i++) node_drop(G, made[i]);
  for (int i = 0; i < p->nall; i++) arr_unref(all[i]);
}

static void commit(graph *G, replay *p, array **all, node **made, node **results,
                   node *const *arguments) {
  for (int i = 0; i < p->nresult; i++) settle(G, results[i]);
  for (int i = 0; i < p->neffect; i++) {
    const effect *e = &p->e[i];
    node *n = subject_of(p, e->of, arguments);
    if (made[i]) settle(G, made[i]);
    if (e->what == ITS_GRAD) node_set_grad(G, n, made[i]);
    else if (e->what == INTO_GRAD) node_set_value(G, n->grad, all[e->result]);
    else if (all[e->result]) node_set_value(G, n, all[e->result]);
    else node_read(G, n);
  }
  for (int i = 0; i < p->n; i++)
    if (p->v[i].turned) subject_of(p, i, arguments)->flags ^= TRACKED;
}

static enum replayed run(graph *G, replay *p, node *const *arguments, array **all, node **made,
                         node **results) {
  if (!tape_reserve(&G->c, p->t, p->at, all)) return REPLAY_FAILED;
  bool ok = make_nodes(G, p, all, made, results);
  if (!ok) tape_cancel(p->t);
  else if ((ok = tape_run(&G->c, p->t, p->at))) {
    commit(G, p, all, made, results, arguments);
    return REPLAY_DONE;
  }
  drop_nodes(G, p, all, made, results);
  return tape_unlike(p->t) != ALIKE ? REPLAY_BRANCH : REPLAY_FAILED;
}

enum replayed replay_run(graph *G, replay *p, node *const *arguments, const double *numbers,
                         node **results) {
  enum { FEW = 32 };
  array *few[FEW], **all = few;
  node *few_made[FEW], **made = few_made;
  void *more = NULL;
  if (p->nall > FEW || p->neffect > FEW) {
    if (!(more = mg_alloc(&G->c, (p->nall + p->neffect) * sizeof *all))) return REPLAY_FAILED;
    all = more;
    made = (node **)(all + p->nall);
  }
  enum replayed how = bind_all(G, p, arguments, numbers);
  if (how == REPLAY_DONE) how = run(G, p, arguments, all, made, results);
  for (int i = 0; i < p->nleaf; i++)
    if (p->leaf[i].dense) arr_unref(p->leaf[i].dense), p->leaf[i].dense = NULL;
  mg_free(more);
  return how;
}
