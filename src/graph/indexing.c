/* indexing.c -- the bodies of ops that read, write and find places, and of those that go along one axis in its
** order: running sums, sorting. A 0-d array is a line of one element to all of them.
*/
#include "graph/internal.h"

/* ---- by index ----------------------------------------------------------------------------------------- */

/* A 0-d input has one element, which may be called axis 1: the op on it as 1-d, and back */
static bool as_line(call *c) {
  graph *G = c->G;
  node *in[MAXIN] = {NULL}, *out[MAXOUT];
  int made = 0, nout = 0;
  while (made < c->n && (in[made] = op_reshape(G, c->in[made], &(shape){1, {1}}))) made++;
  if (made == c->n) nout = op_apply(G, c->op, made, in, c->nat, c->at, out);
  while (made) node_drop(G, in[--made]);
  bool ok = nout > 0;
  for (int k = 0; k < nout; k++) {
    ok = give_node(c, op_reshape(G, out[k], &(shape){0})) && ok;
    node_drop(G, out[k]);
  }
  return ok;
}

static bool all_points(const call *c) {
  shape s;
  for (int i = 0; i < c->n; i++)
    if (node_shape(c->in[i], &s), s.n > 0) return false;
  return true;
}

/* For (x, axis, index [, src]). A line is a 1-d index along the axis; else there is an index for every
** element, of x's rank, no larger than x beside the axis. src has the shape that reading x so gives. */
static bool check_index(call *c, int axis, bool line) {
  graph *G = c->G;
  const char *name = op_table[c->op].name;
  shape s, k, src;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  node_shape(c->in[1], &k);
  if (axis >= s.n)
    return fail(&G->c, "%s: axis %d is out of range for shape %s", name, axis + 1,
                shape_text(&s, a));
  if (c->in[1]->dtype != I64)
    return fail(&G->c, "%s: the index is %s, expected int64", name, dtype_name[c->in[1]->dtype]);
  bool fits = k.n == (line ? 1 : s.n);
  for (int i = 0; i < s.n && !line && fits; i++) fits = i == axis || k.d[i] <= s.d[i];
  if (!fits)
    return fail(&G->c, "%s: an index of shape %s does not fit axis %d of shape %s", name,
                shape_text(&k, a), axis + 1, shape_text(&s, b));
  if (c->n > 2) {
    shape want = line ? s : k;
    if (line) want.d[axis] = k.d[0];
    node_shape(c->in[2], &src);
    if (!shape_eq(&src, &want))
      return fail(&G->c, "%s: src has shape %s, expected %s", name, shape_text(&src, a),
                  shape_text(&want, b));
  }
  array *idx = arg(c, 1);
  int64_t n = s.d[axis], bad = idx ? arr_check_index(&G->c, idx, n) : -1;
  if (bad <= 0) return bad == 0;
  imm v = {0};
  array *flat = arr_reshape(&G->c, idx, &(shape){1, {idx->size}});
  array *one =
      flat ? arr_slice(&G->c, flat, &(shape){1, {1}}, (int64_t[]){bad - 1}, (int64_t[]){1}) : NULL;
  if (one) arr_get(&G->c, one, &v);
  arr_unref(flat);
  arr_unref(one);
  return fail(&G->c, "%s: index %lld at position %lld is not in 1..%lld", name, (long long)v.i,
              (long long)bad, (long long)n);
}

static bool read_at(call *c, bool line, array *read(ctx *, array *, int, array *)) {
  ATTRS(c, int64_t axis);
  if (!line && all_points(c)) return as_line(c);
  if (!check_index(c, (int)at.axis, line)) return false;
  array *x = arg(c, 0);
  return x && give(c, read(&c->G->c, x, (int)at.axis, arg(c, 1)));
}

bool forward_index_select(call *c) { return read_at(c, true, arr_take); }
bool forward_gather(call *c) { return read_at(c, false, arr_gather); }

/* Whole numbers take no fractions, and nothing beyond their range: src is what was given, in x's dtype */
static bool held(call *c, node *src) {
  graph *G = c->G;
  node *as_given = apply(G, OP_eq, 2, (node *[]){src, c->in[2]});
  node *all = as_given ? op_reduce(G, OP_all, as_given, UINT32_MAX, false) : NULL;
  imm yes = {.i = true};
  bool ok = all && (all->a && G->recorder ? recorder_truth(G, all) : node_item(G, all, &yes));
  node_drop(G, as_given);
  node_drop(G, all);
  return ok && (yes.i || fail(&G->c, "%s: src has a value that %s cannot hold",
                              op_table[c->op].name, dtype_name[src->dtype]));
}

/* x with src at the index */
static bool put_at(call *c, bool line, bool put(ctx *, array *, int, array *, array *)) {
  ATTRS(c, int64_t axis);
  graph *G = c->G;
  WORK(&G->c, c->op);
  if (!line && all_points(c)) return as_line(c);
  if (!check_index(c, (int)at.axis, line)) return false;
  bool adds = c->op != OP_scatter, narrow = c->in[0]->dtype == U8 || c->in[0]->dtype == BOOL;
  if (adds && narrow)
    return fail(&G->c, "%s: %s values cannot be added up in place", op_table[c->op].name,
                dtype_name[c->in[0]->dtype]);
  if (c->in[2]->dtype != c->in[0]->dtype) { /* src as x */
    node *src = op_to(G, c->in[2], c->in[0]->dtype);
    node *in[] = {c->in[0], c->in[1], src};
    bool ok = src && (is_float(src->dtype) || held(c, src)) &&
              give_node(c, op_one(G, c->op, 3, in, c->nat, c->at));
    return node_drop(G, src), ok;
  }
  array *x = arg(c, 0), *src = arg(c, 2), *r = x && src ? arr_copy(&G->c, x) : NULL;
  return give_if(c, r && put(&G->c, r, (int)at.axis, arg(c, 1), src), r);
}

bool forward_index_add(call *c) { return put_at(c, true, arr_add_take); }
bool forward_scatter_add(call *c) { return put_at(c, false, arr_add_gather); }

bool forward_scatter(call *c) {
  graph *G = c->G;
  shape k, s;
  node_shape(c->in[1], &k);
  node_shape(c->in[2], &s);
  if (s.n > 0 || k.n == 0) return put_at(c, false, arr_set_gather);
  node *src = op_broadcast_to(G, c->in[2], &k);
  node *in[] = {c->in[0], c->in[1], src};
  bool ok = give_node(c, op_one(G, OP_scatter, 3, in, c->nat, c->at));
  return node_drop(G, src), ok;
}

bool forward_nonzero(call *c) {
  graph *G = c->G;
  WORK(&G->c, OP_nonzero);
  array *x = arg(c, 0), *mask = x ? arr_cast(&G->c, x, BOOL) : NULL;
  array *r = mask ? arr_places(&G->c, mask) : NULL;
  arr_unref(mask);
  return give(c, r);
}

bool forward_searchsorted(call *c) {
  ATTRS(c, int64_t right);
  shape s, v;
  char a[128], b[128];
  node_shape(c->in[0], &s);
  node_shape(c->in[1], &v);
  bool fits = s.n == 1 || (s.n > 1 && s.n == v.n);
  for (int i = 0; i < s.n - 1 && fits; i++) fits = s.d[i] == v.d[i];
  if (!fits)
    return fail(&c->G->c,
                "searchsorted: sorted %s does not fit v %s: 1-d, or but for the last axis as v",
                shape_text(&s, a), shape_text(&v, b));
  if (!promote(c, ARITH, 2)) return false;
  array *x = arg(c, 0), *y = arg(c, 1);
  return x && y && give(c, arr_search(&c->G->c, x, y, at.right));
}

/* ---- along an axis ------------------------------------------------------------------------------------ */

bool forward_cumsum(call *c) {
  ATTRS(c, int64_t axis);
  if (all_points(c)) return as_line(c);
  array *x = promote(c, ARITH, 1) ? arg(c, 0) : NULL;
  return x && give(c, arr_cumsum(&c->G->c, x, (int)at.axis));
}

static bool scan_by(call *c, int rule) {
  ATTRS(c, int64_t axis);
  if (all_points(c)) return as_line(c);
  array *x = promote(c, rule, 1) ? arg(c, 0) : NULL;
  return x && give(c, arr_scan(&c->G->c, c->op, x, NULL, (int)at.axis, false, NULL));
}

bool forward_cumprod(call *c) { return scan_by(c, ARITH); }
bool forward_logcumsumexp(call *c) { return scan_by(c, FLOAT); }

static bool choose(call *c) { /* values, and places, which the gradient goes by */
  ATTRS(c, int64_t axis);
  if (all_points(c)) return as_line(c);
  array *x = arg(c, 0), *places;
  array *r = x ? arr_scan(&c->G->c, c->op, x, NULL, (int)at.axis, false, &places) : NULL;
  if (!r) return false;
  keep_array(c, arr_ref(places));
  bool ok = give(c, r);
  return give(c, places) && ok;
}

bool forward_cummax(call *c) { return choose(c); }
bool forward_cummin(call *c) { return choose(c); }

/* Between i - 1 and i lies a[i] whichever way one goes, so that the transpose is the other way. */
bool forward_linear_scan(call *c) {
  ATTRS(c, int64_t axis, reverse);
  if (!same_shapes(c, "linear_scan")) return false;
  if (all_points(c)) return as_line(c);
  if (!promote(c, FLOAT, 2)) return false;
  array *x = arg(c, 0), *a = arg(c, 1);
  return x && a &&
         give(c, arr_scan(&c->G->c, OP_linear_scan, x, a, (int)at.axis, at.reverse, NULL));
}

bool forward_argsort(call *c) {
  ATTRS(c, int64_t axis, descending);
  if (all_points(c)) return as_line(c);
  array *x = arg(c, 0);
  return x && give(c, arr_ranks(&c->G->c, OP_argsort, x, (int)at.axis, at.descending, 0,
                                x->s.d[at.axis]));
}

bool forward_ranks(call *c) {
  ATTRS(c, int64_t axis, first, count, descending);
  if (all_points(c)) return as_line(c);
  array *x = arg(c, 0);
  int64_t n = x ? x->s.d[at.axis] : 0;
  if (x && (at.first > n + 1 || at.count > n + 1 - at.first))
    return fail(&c->G->c, "_ranks: %ld from %ld on of %ld", (long)at.count, (long)at.first,
                (long)n);
  return x && give(c, arr_ranks(&c->G->c, OP_ranks, x, (int)at.axis, at.descending, at.first - 1,
                                at.count));
}

node *op_nonzero(graph *G, node *mask) {
  if (!usable(G, 1, &mask)) return NULL;
  array *a = node_as_array(G, mask), *b = a ? arr_nonzero(&G->c, a) : NULL;
  arr_unref(a);
  return node_array(G, b);
}
