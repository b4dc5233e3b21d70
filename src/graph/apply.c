/* apply.c -- the one place that applies elementwise ops: dtypes, broadcasting, value, record.
**
** A creator is recorded only where Config.enable_backprop is on, an input is tracked and the result is
** a float. It keeps the values that the gradients of its tracked inputs will read, and no others.
*/
#include <math.h>
#include <string.h>

#include "graph/internal.h"

bool recording(const graph *G, int n, node *const *in) {
  if (!G->backprop) return false;
  for (int i = 0; i < n; i++)
    if (in[i] && node_tracked(in[i])) return true;
  return false;
}

/* Room for r's inputs. False: r is dropped. */
static bool room_for(graph *G, node *r, int n) {
  if (n <= 2) return true;
  extra *x = node_extra(G, r);
  if (!x || !(x->in = mg_alloc(&G->c, (n - 2) * sizeof *x->in)) ||
      !(x->sv = mg_alloc(&G->c, (n - 2) * sizeof *x->sv)) || !(x->kind = mg_alloc(&G->c, n - 2)))
    return node_drop(G, r), false;
  x->nin = n;
  return true;
}

/* Input i of r, which op makes of it, and what is saved of it */
INLINE void take(node *r, int op, int i, node *a, uint32_t saves) {
  int kind = SAVED_NONE;
  saved sv = {NULL};
  if (!a) {
  } else if (a->flags & NUMBER) {
    kind = SAVED_NUMBER;
    sv.k = a->k;
    a = NULL;
  } else {
    if (a->generation >= r->generation) r->generation = a->generation + 1;
    if (op == OP_FUNCTION || (i < MAXSAVES && saves & IN(i))) {
      if (a->a) {
        kind = SAVED_ARRAY;
        sv.a = arr_ref(a->a);
        a->a->saved++;
      } else {
        kind = SAVED_SCALAR;
        sv.k = a->k;
      }
    }
    if (node_tracked(a)) kind |= FLOWS;
    node_ref(a);
  }
  *in_at(r, i) = a;
  *sv_at(r, i) = sv;
  if (i < 2) r->kind |= kind << 4 * i;
  else r->x->kind[i - 2] = kind;
}

INLINE void made_by(node *r, int op, uint32_t saves) {
  if (saves & OUT) {
    r->flags |= SAVES_OUT;
    if (r->a) r->a->saved++;
  }
  r->op = op;
  r->flags |= TRACKED;
}

bool record(graph *G, node *r, int op, int n, node *const *in, uint32_t saves) {
  for (int i = 0; i < n && !G->recorder;
       i++) { /* what is saved of a scalar is the number: it would move into its node */
    bool kept = op == OP_FUNCTION || (i < MAXSAVES && saves & IN(i));
    if (kept && in[i] && in[i]->a && in[i]->a->s.n == 0 && !(in[i]->flags & DROPPED) &&
        !node_ready(G, in[i]))
      return node_drop(G, r), false;
  }
  if (!room_for(G, r, n)) return false;
  r->generation = 1; /* without inputs too */
  for (int i = 0; i < n; i++) take(r, op, i, in[i], saves);
  made_by(r, op, saves);
  if (gives_parts(op)) in[0]->parts = true;
  if (op < NOP && op_table[op].kind == 'o')
    for (int i = 0; i < n && i < MAXSAVES; i++)
      if (saves & IN(i)) again_instead(G, r, i);
  return true;
}

/* ---- dtypes ---------------------------------------------------------------------------------------- */

/* Numbers alone, some of them asked for before each replay */
static bool weak(int n, node *const *in) {
  bool some = false;
  for (int i = 0; i < n; i++) {
    if (!(in[i]->flags & (NUMBER | WEAK))) return false;
    some |= in[i]->flags & WEAK;
  }
  return some;
}

/* The dtype an op computes in: the widest float there is; a number never widens; integers meet in int64,
** integers and a fractional number in the default float. */
static dtype common(graph *G, int rule, int n, node *const *in) {
  bool f64 = false, f32 = false, whole = false, fraction = false;
  if (G->recorder && weak(n, in)) return F64; /* as Lua would */
  for (int i = 0; i < n; i++) {
    if (in[i]->flags & (NUMBER | WEAK)) fraction |= in[i]->dtype == F64;
    else if (in[i]->dtype == F64) f64 = true;
    else if (in[i]->dtype == F32) f32 = true;
    else whole = true;
  }
  if (f64 || f32) return f64 ? F64 : F32;
  if (whole && !fraction && (rule == ARITH || rule == COMPARE || rule == CHOOSE)) return I64;
  return G->dtype;
}

static node *cast(graph *G, node *x, dtype t) {
  if (x->dtype == t) return node_hold(x);
  if (!(x->flags & NUMBER)) return op_to(G, x, t);
  node *r = node_scalar(G, t, imm_cast(x->k, x->dtype, t));
  if (r) r->flags |= NUMBER;
  return r;
}

bool op_inputs(graph *G, int rule, int n, node *const *in, node **out, dtype *t) {
  int first = 0;
  if (rule == CHOOSE) {
    if (!(out[0] = cast(G, in[0], BOOL))) return false;
    first = 1;
    bool same = in[1]->dtype == in[2]->dtype && !((in[1]->flags | in[2]->flags) & NUMBER);
    *t = same ? in[1]->dtype : common(G, rule, 2, in + 1);
  } else *t = rule == LOGIC ? BOOL : common(G, rule, n, in);
  for (int i = first; i < n; i++)
    if (!(out[i] = cast(G, in[i], *t))) {
      while (i--) node_drop(G, out[i]);
      return false;
    }
  return true;
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

/* The shape they broadcast to; *same: all have it, but for numbers */
static bool shapes_of(graph *G, int op, int n, node *const *in, shape *s, bool *same) {
  bool first = true;
  s->n = 0;
  *same = true;
  for (int i = 0; i < n; i++) {
    if (in[i]->flags & NUMBER) continue;
    if (in[i]->flags & DROPPED) return node_ready(G, in[i]);
    const shape *t = in[i]->a ? &in[i]->a->s : &(shape){0};
    if (first) *s = *t;
    else if (!shape_eq(s, t)) {
      *same = false;
      char a[128], b[128];
      if (!shape_broadcast(s, t, s))
        return fail(&G->c, "%s: shapes %s and %s do not broadcast", op_table[op].name,
                    shape_text(s, a), shape_text(t, b));
    }
    first = false;
  }
  return true;
}

INLINE uint32_t saves_of(int op, int n, node *const *in) {
  uint32_t saves = 0;
  for (int i = 0; i < n && i < MAXSAVES; i++)
    if (in[i] && node_tracked(in[i])) saves |= op_saves[op][i];
  return saves;
}
uint32_t saves_for(int op, int n, node *const *in) { return saves_of(op, n, in); }

static node *apply_arrays(graph *G, int op, int n, node *const *in, const shape *s, bool same) {
  array *a[3] = {NULL, NULL, NULL}, *r = NULL;
  bool ok = true;
  for (int i = 0; i < n && ok; i++) {
    array *x = a[i] = node_as_array(G, in[i]);
    if (x && x->state != CONST && !same && !shape_eq(&x->s, s)) {
      a[i] = arr_broadcast(&G->c, x, s);
      arr_unref(x);
    }
    ok = a[i] != NULL;
  }
  if (ok) r = arr_map(&G->c, op, n, a, s);
  for (int i = 0; i < n; i++) arr_unref(a[i]);
  return node_array(G, r);
}

/* Arrays of one float dtype and one shape, which are taken as they are */
INLINE bool alike(int n, node *const *in) {
  const array *first = in[0]->a;
  for (int i = 0; i < n; i++) {
    const array *a = in[i]->a;
    if (!a || in[i]->flags & (NUMBER | WEAK | DROPPED)) return false;
    if (a->dtype != first->dtype || (i && !shape_eq(&a->s, &first->s))) return false;
  }
  return is_float(first->dtype);
}

static node *apply_to_alike(graph *G, int op, int n, node *const *in) {
  array *a[3];
  for (int i = 0; i < n; i++) a[i] = in[i]->a;
  node *r = node_array(G, arr_map(&G->c, op, n, a, &a[0]->s));
  if (!r || !is_float(r->dtype) || !recording(G, n, in)) return r;
  return record(G, r, op, n, in, saves_of(op, n, in)) ? r : NULL;
}

static node *apply_to_arrays(graph *G, int op, int n, node *const *in) {
  node *x[3] = {NULL, NULL, NULL}, *r;
  dtype t;
  shape s;
  bool same;
  /* That of true would be -1, which counts as true again. */
  if (op == OP_neg && in[0]->dtype == BOOL) {
    fail(&G->c, "neg: the operand is of bool: ~x is true where x is not, 0 - x is of numbers");
    return NULL;
  }
  if (!shapes_of(G, op, n, in, &s, &same)) return NULL;
  if (!op_inputs(G, op_table[op].rule, n, in, x, &t)) return NULL;
  bool rec = is_float(op_result(op, t)) && recording(G, n, x), ok = true;
  for (int i = 0; i < n && ok && rec && !same; i++) { /* the gradient must know what was repeated */
    shape u;
    node_shape(x[i], &u);
    if (x[i]->flags & NUMBER || shape_eq(&u, &s)) continue;
    if (!node_tracked(x[i]) && !x[i]->a) continue;
    node *wide = op_broadcast_to(G, x[i], &s);
    if (!wide) ok = false;
    else {
      node_drop(G, x[i]);
      x[i] = wide;
    }
  }
  if (ok && (op == OP_mod || op == OP_floor_div) && t == I64) { /* as Lua: not by zero */
    node zero = node_integer(0), *hit = apply(G, OP_eq, 2, (node *[]){x[1], &zero});
    node *found = hit ? op_reduce(G, OP_any, hit, ~0u, false) : NULL;
    imm yes = {0};
    ok = found && (found->a && G->recorder ? tape_check(&G->c, found->a, yes, NO_CHOICE)
                                           : node_item(G, found, &yes));
    if (yes.i) ok = fail(&G->c, "%s: division of int64 by zero", op_table[op].name);
    node_drop(G, hit);
    node_drop(G, found);
  }
  r = ok ? apply_arrays(G, op, n, x, &s, same) : NULL;
  if (r && G->recorder && weak(n, in)) r->flags |= WEAK;
  if (r && rec) r = record(G, r, op, n, x, saves_for(op, n, x)) ? r : NULL;
  for (int i = 0; i < n; i++) node_drop(G, x[i]);
  return r;
}

/* ---- scalars ------------------------------------------------------------------------------------------- */

/* The dtype of 0-d floats that are of one, numbers among them; NDTYPE: something else stands there. While a
** function is recorded they are arrays. */
INLINE dtype of_scalars(int op, int n, node *const *in, bool recorded) {
  dtype t = NDTYPE;
  if (op_table[op].rule > TEST) return NDTYPE;
  for (int i = 0; i < n; i++) {
    const node *x = in[i];
    if (x->flags & NUMBER) continue;
    if (x->flags & DROPPED || !is_float(x->dtype)) return NDTYPE;
    if (recorded ? x->flags & WEAK || (x->a && x->a->s.n) : x->a != NULL) return NDTYPE;
    if (t != NDTYPE && t != x->dtype) return NDTYPE;
    t = x->dtype;
  }
  return t;
}

/* r, which op made of these; k: the numbers among them */
INLINE node *from_scalars(graph *G, node *r, int op, int n, node *const *in, const imm *k) {
  if (!is_float(r->dtype) || !recording(G, n, in)) return r;
  if (!room_for(G, r, n)) return NULL;
  uint32_t saves = saves_of(op, n, in);
  for (int i = 0; i < n; i++) {
    take(r, op, i, in[i], saves);
    if (in[i]->flags & NUMBER) sv_at(r, i)->k = k[i];
  }
  made_by(r, op, saves);
  return r;
}

INLINE node *apply_to_scalars(graph *G, int op, int n, node *const *in, dtype t) {
  imm k[3] = {{0}, {0}, {0}};
  for (int i = 0; i < n; i++)
    k[i] = in[i]->dtype == t ? in[i]->k : imm_cast(in[i]->k, in[i]->dtype, t);
  node *r = node_new(G, op_result(op, t));
  if (!r) return NULL;
  r->k = launch_scalar(&G->c, op, t, k[0], k[1], k[2]);
  return from_scalars(G, r, op, n, in, k);
}

static node *apply_recorded(graph *G, int op, int n, node *const *in, dtype t) {
  imm k[3] = {{0}, {0}, {0}};
  array *a[3] = {NULL, NULL, NULL}, *r = NULL;
  bool ok = true;
  for (int i = 0; i < n && ok; i++) {
    if (!in[i]->a) k[i] = in[i]->dtype == t ? in[i]->k : imm_cast(in[i]->k, in[i]->dtype, t);
    ok = (a[i] = in[i]->a ? arr_ref(in[i]->a) : arr_scalar(&G->c, t, k[i]));
  }
  if (ok) r = arr_map(&G->c, op, n, a, &(shape){0});
  for (int i = 0; i < n; i++) arr_unref(a[i]);
  node *made = node_array(G, r);
  return made ? from_scalars(G, made, op, n, in, k) : NULL;
}

/* All are 0-d, one is pending at least, and no gradient saves values of theirs or the result. */
static bool stays_lazy(const graph *G, int op, int n, node *const *in) {
  bool pending = false;
  uint32_t saves = G->backprop ? saves_for(op, n, in) : 0;
  if (op == OP_mod || op == OP_floor_div) return false; /* look at their values */
  for (int i = 0; i < n; i++) {
    const node *x = in[i];
    if (x->flags & DROPPED || (x->a && x->a->s.n > 0)) return false;
    if (x->a && saves & IN(i)) return false;
    pending |= x->a && x->a->state == PENDING;
  }
  return pending && saves < OUT;
}

INLINE node *elementwise_n(graph *G, int op, int n, node *const *in) {
  dtype t = of_scalars(op, n, in, false);
  if (t != NDTYPE) {
    if (__builtin_expect(G->arrays.watched, 0)) { /* counted */
      WORK(&G->c, op);
      return apply_to_scalars(G, op, n, in, t);
    }
    return apply_to_scalars(G, op, n, in, t);
  }
  if (op_table[op].rule < LOGIC && alike(n, in) && in[0]->a->s.n > 0)
    return apply_to_alike(G, op, n, in);
  if (__builtin_expect(G->recorder != NULL, 0) && (t = of_scalars(op, n, in, true)) != NDTYPE)
    return apply_recorded(G, op, n, in, t);
  /* what is 0-d becomes a scalar when it is computed: now, unless all are 0-d and nobody wants the values */
  bool again = false, lazy = G->recorder || stays_lazy(G, op, n, in);
  for (int i = 0; i < n && !lazy; i++) {
    if (!in[i]->a || in[i]->a->s.n > 0) continue;
    if (!node_ready(G, in[i])) return NULL;
    again = true;
  }
  return again ? apply(G, op, n, in) : apply_to_arrays(G, op, n, in);
}

static node *elementwise(graph *G, int op, int n, node *const *in) {
  if (n == 2) return elementwise_n(G, op, 2, in);
  return elementwise_n(G, op, n, in);
}

/* x ^ n for some numbers n is another op, quicker and exact */
static node *power(graph *G, int op, node *const *in) {
  bool constant = in[1]->flags & NUMBER && !(in[0]->flags & NUMBER);
  double k = in[1]->dtype == I64 ? (double)in[1]->k.i : in[1]->k.f;
  bool small = in[1]->flags & NUMBER && k == floor(k) && fabs(k) <= 64;
  if (op == OP_powi && !small)
    return fail(&G->c, "powi: the exponent must be a whole number in -64..64"), NULL;
  if (op == OP_powi || !constant) return elementwise(G, op, 2, in);
  if (in[0]->dtype > F32) { /* as in Lua, a float */
    node *x = op_to(G, in[0], G->dtype), *r = apply(G, op, 2, (node *[]){x, in[1]});
    node_drop(G, x);
    return r;
  }
  if (k == 2) return elementwise(G, OP_square, 1, in);
  if (k == 0.5) return elementwise(G, OP__powhalf, 1, in);
  if (k == -1) return elementwise(G, OP_reciprocal, 1, in);
  if (!small) return elementwise(G, OP_pow, 2, in);
  node whole = node_number(k);
  return elementwise(G, OP_powi, 2, (node *[]){in[0], &whole});
}

node *apply(graph *G, int op, int n, node *const *in) {
  for (int i = 0; i < n; i++)
    if (!in[i]) return NULL;
  if (__builtin_expect(node_noted(G), 0))
    for (int i = 0; i < n; i++) node_read(G, in[i]);
  return op == OP_pow || op == OP_powi ? power(G, op, in) : elementwise(G, op, n, in);
}
