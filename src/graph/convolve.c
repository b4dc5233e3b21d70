/* convolve.c -- convolutions: the public ops, made of three that are each other's gradients.
**
** With y the convolution of x with w, the sum of g y is linear in g, x and w each. Its derivative by g is
** `convolve` (of x, w), by x `convolve_data` (of g, w), by w `convolve_weight` (of x, g): so the gradient of
** any of the three by either operand is one of the other two, to any order. All take x (n, c, ...), w (f,
** c / groups, ...), g (n, f, ...) with one to three axes behind, the sizes of the result along these, and
** how far x is padded before its first element; how far behind follows. A convolution transposed is
** convolve_data.
*/
#include <string.h>

#include "graph/internal.h"

enum { MOST = 1 << 30 }; /* of any number that says how: their products fit */

/* ---- the three ------------------------------------------------------------------------------------- */

typedef struct {
  ints dims, stride, dilation, before;
  int64_t groups;
} how;

static node *apply_how(graph *G, int op, node *x, node *y, const how *h, int n) {
  attr at[sizeof *h / sizeof(attr)];
  if (!x || !y) return NULL;
  memcpy(at, h, sizeof at);
  for (int i = 0; i < 4; i++) at[i * (1 + MAXDIM)].i = n;
  return op_one(G, op, 2, (node *[]){x, y}, sizeof at / sizeof *at, at);
}

static bool misfit(call *c, const shape *a, const shape *b) {
  char s[128], t[128];
  return fail(&c->G->c, "%s: %s and %s do not fit", op_table[c->op].name, shape_text(a, s),
              shape_text(b, t));
}

/* The result's leading axes are n and channels. What the gradients need of how, and the sizes of b, takes the
** attributes' place: b itself may be gone by then, and its shape with it. */
typedef struct {
  int64_t sizes[3], stride[3], dilation[3], before[3], groups;
} kept_how;
_Static_assert(sizeof(kept_how) <= sizeof((call){0}.own), "there is room for it");

static bool convolve(call *c, int64_t n, int64_t channels, const shape *a, const shape *b) {
  how h;
  attrs_read(c->nat, c->at, &h, sizeof h);
  graph *G = c->G;
  int64_t how10[10] = {1, 1, 1, 1, 1, 1, 0, 0, 0, h.groups};
  int axes = a->n - 2;
  shape s = {.n = a->n, .d = {n, channels}};
  ints *each[] = {&h.dims, &h.stride, &h.dilation, &h.before};
  for (int k = 0; k < 4; k++) {
    if (each[k]->n != axes) return misfit(c, a, b);
    for (int i = 0; i < axes; i++) {
      int64_t v = each[k]->d[i];
      if (v > MOST || v < -MOST || (k == 0 && v < 0))
        return fail(&G->c, "%s: %lld is too large", op_table[c->op].name, (long long)v);
      if (k) how10[3 * (k - 1) + 3 - axes + i] = v;
      else s.d[2 + i] = v;
    }
  }
  if (!promote(c, FLOAT, 2)) return false;
  kept_how now = {.groups = h.groups};
  size_t bytes = sizeof now.sizes;
  memcpy(now.sizes, b->d + 2, axes * sizeof *b->d);
  memcpy(now.stride, h.stride.d, bytes);
  memcpy(now.dilation, h.dilation.d, bytes);
  memcpy(now.before, h.before.d, bytes);
  memcpy(c->own, &now, sizeof now);
  c->at = c->own;
  c->nat = sizeof now / sizeof *c->own;
  array *x = arg(c, 0), *y = arg(c, 1);
  return x && y && give(c, arr_convolve(&G->c, c->op, x, y, &s, how10));
}

static bool two_shapes(call *c, shape *a, shape *b, int64_t *groups) {
  how h;
  attrs_read(c->nat, c->at, &h, sizeof h);
  *groups = h.groups;
  node_shape(c->in[0], a);
  node_shape(c->in[1], b);
  return (a->n == b->n && a->n >= 3 && a->n <= 5) || misfit(c, a, b);
}

bool forward_convolve(call *c) {
  shape x, w;
  int64_t groups;
  if (!two_shapes(c, &x, &w, &groups)) return false;
  if (x.d[1] % groups || x.d[1] / groups != w.d[1] || w.d[0] % groups) return misfit(c, &x, &w);
  return convolve(c, x.d[0], w.d[0], &x, &w);
}

bool forward_convolve_data(call *c) {
  shape g, w;
  int64_t groups;
  if (!two_shapes(c, &g, &w, &groups)) return false;
  if (g.d[1] != w.d[0] || w.d[0] % groups || w.d[1] > INT64_MAX / groups) return misfit(c, &g, &w);
  return convolve(c, g.d[0], w.d[1] * groups, &g, &w);
}

bool forward_convolve_weight(call *c) {
  shape x, g;
  int64_t groups;
  if (!two_shapes(c, &x, &g, &groups)) return false;
  if (x.d[0] != g.d[0] || x.d[1] % groups || g.d[1] % groups) return misfit(c, &x, &g);
  return convolve(c, g.d[1], x.d[1] / groups, &x, &g);
}

/* With the sizes of operand i, whose gradient it is */
static node *other(vjp *v, int op, node *a, node *b, int i) {
  const extra *x = v->f->x;
  kept_how was;
  how h;
  attrs_read(x->nat, x->at, &was, sizeof was);
  size_t bytes = sizeof was.sizes;
  memset(&h, 0, sizeof h);
  memcpy(h.dims.d, i == 0 ? x->s.d + 2 : was.sizes, bytes);
  memcpy(h.stride.d, was.stride, bytes);
  memcpy(h.dilation.d, was.dilation, bytes);
  memcpy(h.before.d, was.before, bytes);
  h.groups = was.groups;
  return keep(v, apply_how(v->G, op, a, b, &h, x->s.n - 2));
}

node *convolve_grad(vjp *v, int i, node *g) {
  if (i == 0) return other(v, OP_convolve_data, g, use(v, 1), 0);
  return other(v, OP_convolve_weight, use(v, 0), g, 1);
}

node *convolve_data_grad(vjp *v, int i, node *g) {
  if (i == 0) return other(v, OP_convolve, g, use(v, 1), 0);
  return other(v, OP_convolve_weight, g, use(v, 0), 1);
}

node *convolve_weight_grad(vjp *v, int i, node *g) {
  if (i == 0) return other(v, OP_convolve_data, use(v, 1), g, 0);
  return other(v, OP_convolve, use(v, 0), g, 1);
}

/* ---- what people call ------------------------------------------------------------------------------- */

/* The numbers for each axis, given as one or as many */
static bool spread(call *c, const char *what, ints *v, int axes) {
  if (v->n == 1)
    for (int i = 1; i < axes; i++) v->d[i] = v->d[0];
  else if (v->n != axes)
    return fail(&c->G->c, "%s: %s has %d numbers, expected one or one for each of %d axes",
                op_table[c->op].name, what, (int)v->n, axes);
  v->n = axes;
  for (int i = 0; i < axes; i++)
    if (v->d[i] > MOST)
      return fail(&c->G->c, "%s: %s %lld is too large", op_table[c->op].name, what,
                  (long long)v->d[i]);
  return true;
}

/* x with a batch axis, the op, the bias, and again without */
static bool whole(call *c, int op, node *x, node *w, node *bias, const how *h, int axes) {
  graph *G = c->G;
  shape s, one = {.n = axes + 1};
  node_shape(x, &s);
  bool single = s.n == axes + 1;
  shape batch = {.n = axes + 2, .d = {1}};
  memcpy(batch.d + 1, s.d, (axes + 1) * sizeof *s.d);
  node *from = single ? op_reshape(G, x, &batch) : node_hold(x);
  node *r = apply_how(G, op, from, w, h, axes);
  node_drop(G, from);
  if (r && bias) {
    for (int i = 0; i < axes; i++) one.d[i + 1] = 1;
    node_shape(bias, &s);
    one.d[0] = s.d[0];
    node *b = op_reshape(G, bias, &one), *sum = b ? apply(G, OP_add, 2, (node *[]){r, b}) : NULL;
    node_drop(G, r);
    node_drop(G, b);
    r = sum;
  }
  if (r && single) {
    node_shape(r, &s);
    s.n--;
    for (int i = 0; i < s.n; i++) s.d[i] = s.d[i + 1];
    node *flat = op_reshape(G, r, &s);
    node_drop(G, r);
    r = flat;
  }
  return give_node(c, r);
}

/* Ranks, groups, channels and bias */
static bool check_shapes(call *c, int axes, int64_t groups, bool transposed) {
  const char *name = op_table[c->op].name;
  graph *G = c->G;
  char a[128], b[128];
  shape x, w, bias;
  node_shape(c->in[0], &x);
  node_shape(c->in[1], &w);
  shape_text(&x, a);
  shape_text(&w, b);
  if (x.n != axes + 2 && x.n != axes + 1)
    return fail(&G->c, "%s: x has shape %s, expected %d axes, or %d with a batch", name, a,
                axes + 1, axes + 2);
  if (w.n != axes + 2)
    return fail(&G->c, "%s: weight has shape %s, expected %d axes", name, b, axes + 2);
  int64_t in = x.d[x.n - axes - 1], out = transposed ? w.d[1] * groups : w.d[0];
  if (in % groups)
    return fail(&G->c, "%s: groups %lld does not divide the %lld channels of x %s", name,
                (long long)groups, (long long)in, a);
  if (!transposed && out % groups)
    return fail(&G->c, "%s: groups %lld does not divide the %lld outputs of weight %s", name,
                (long long)groups, (long long)out, b);
  int64_t want = transposed ? in : in / groups, have = w.d[transposed ? 0 : 1];
  if (want != have)
    return fail(&G->c, "%s: x %s has %lld channels%s, weight %s is for %lld", name, a,
                (long long)want, groups > 1 && !transposed ? " in a group" : "", b,
                (long long)have);
  for (int i = 2; i < w.n; i++)
    if (w.d[i] == 0) return fail(&G->c, "%s: the kernel of weight %s is empty", name, b);
  if (c->n < 3 || !c->in[2]) return true;
  node_shape(c->in[2], &bias);
  if (bias.n != 1 || bias.d[0] != out)
    return fail(&G->c, "%s: bias has shape %s, expected (%lld)", name, shape_text(&bias, a),
                (long long)out);
  return true;
}

/* How many positions a kernel has along an axis of n padded elements; 0: none */
static int64_t positions(int64_t n, int64_t kernel, int64_t stride, int64_t dilation) {
  int64_t reach = dilation * (kernel - 1) + 1;
  return n < reach ? 0 : (n - reach) / stride + 1;
}

static bool conv(call *c, int axes) {
  ATTRS(c, ints stride, padding, dilation; int64_t groups);
  const char *name = op_table[c->op].name;
  graph *G = c->G;
  shape x, w, padded = {.n = axes}, kernel = {.n = axes};
  char a[128], b[128];
  how h = {.groups = at.groups};
  bool same = at.padding.n < 0;
  if (same) at.padding = (ints){.n = 1};
  if (!spread(c, "stride", &at.stride, axes) || !spread(c, "padding", &at.padding, axes) ||
      !spread(c, "dilation", &at.dilation, axes) || !check_shapes(c, axes, at.groups, false) ||
      !promote(c, FLOAT, c->n))
    return false;
  node_shape(c->in[0], &x);
  node_shape(c->in[1], &w);
  h.stride = at.stride;
  h.dilation = at.dilation;
  h.before = at.padding;
  for (int i = 0; i < axes; i++) {
    int64_t n = x.d[x.n - axes + i], k = w.d[i + 2], around = 2 * at.padding.d[i], reach;
    if (k > MOST || n > INT64_MAX - around ||
        __builtin_mul_overflow(k - 1, at.dilation.d[i], &reach))
      return fail(&G->c, "%s: %lld is too large", name, (long long)(k > MOST ? k : n));
    if (same && at.stride.d[i] != 1)
      return fail(&G->c, "%s: padding \"same\" is for stride 1 alone, got %lld", name,
                  (long long)at.stride.d[i]);
    if (same) {
      around = reach;
      h.before.d[i] = around / 2;
    }
    padded.d[i] = n + around;
    kernel.d[i] = reach + 1;
    h.dims.d[i] = positions(padded.d[i], k, at.stride.d[i], at.dilation.d[i]);
  }
  for (int i = 0; i < axes; i++)
    if (!h.dims.d[i])
      return fail(&G->c, "%s: a kernel that reaches over %s does not fit a padded x of %s", name,
                  shape_text(&kernel, a), shape_text(&padded, b));
  return whole(c, OP_convolve, c->in[0], c->in[1], c->n > 2 ? c->in[2] : NULL, &h, axes);
}

bool forward_conv1d(call *c) { return conv(c, 1); }
bool forward_conv2d(call *c) { return conv(c, 2); }
bool forward_conv3d(call *c) { return conv(c, 3); }

static bool conv_transpose(call *c, int axes) {
  ATTRS(c, ints stride, padding, output_padding; int64_t groups; ints dilation);
  const char *name = op_table[c->op].name;
  graph *G = c->G;
  shape x, w;
  char a[128], b[128];
  how h = {.groups = at.groups};
  if (!spread(c, "stride", &at.stride, axes) || !spread(c, "padding", &at.padding, axes) ||
      !spread(c, "output_padding", &at.output_padding, axes) ||
      !spread(c, "dilation", &at.dilation, axes) || !check_shapes(c, axes, at.groups, true) ||
      !promote(c, FLOAT, c->n))
    return false;
  node_shape(c->in[0], &x);
  node_shape(c->in[1], &w);
  h.stride = at.stride;
  h.dilation = at.dilation;
  h.before = at.padding;
  for (int i = 0; i < axes; i++) {
    int64_t n = x.d[x.n - axes + i], k = w.d[i + 2], more = at.output_padding.d[i];
    int64_t s = at.stride.d[i], d = at.dilation.d[i], reach, r;
    if (more >= s && more >= d)
      return fail(&G->c, "%s: output_padding %lld must be below stride %lld or dilation %lld", name,
                  (long long)more, (long long)s, (long long)d);
    if (n == 0) return fail(&G->c, "%s: x %s is empty", name, shape_text(&x, a));
    if (__builtin_mul_overflow(n - 1, s, &r) || __builtin_mul_overflow(k - 1, d, &reach) ||
        __builtin_add_overflow(r, reach + more + 1, &r) || r > MOST)
      return fail(&G->c, "%s: x %s becomes too large", name, shape_text(&x, a));
    h.dims.d[i] = r - 2 * at.padding.d[i];
    if (h.dims.d[i] <= 0)
      return fail(&G->c, "%s: padding %lld leaves nothing of x %s and weight %s", name,
                  (long long)at.padding.d[i], shape_text(&x, a), shape_text(&w, b));
  }
  return whole(c, OP_convolve_data, c->in[0], c->in[1], c->n > 2 ? c->in[2] : NULL, &h, axes);
}

bool forward_conv_transpose1d(call *c) { return conv_transpose(c, 1); }
bool forward_conv_transpose2d(call *c) { return conv_transpose(c, 2); }

/* ---- windows as columns -------------------------------------------------------------------------------- */

typedef struct {
  int64_t kernel[2], stride[2], padding[2], dilation[2];
} patches;

/* The places of a kernel in an image of these sizes; 0: it has none, which is an error */
static int64_t places(call *c, const patches *p, const int64_t *size) {
  const char *name = op_table[c->op].name;
  int64_t n[2];
  for (int i = 0; i < 2; i++) {
    if (p->kernel[i] < 1 || p->stride[i] < 1 || p->dilation[i] < 1 || p->padding[i] < 0)
      return fail(&c->G->c, "%s: kernel, stride and dilation must be at least 1, padding 0", name),
             0;
    if (p->kernel[i] > MOST || p->stride[i] > MOST || p->dilation[i] > MOST ||
        p->padding[i] > MOST || size[i] > INT64_MAX / 4)
      return fail(&c->G->c, "%s: sizes are too large", name), 0;
    n[i] = positions(size[i] + 2 * p->padding[i], p->kernel[i], p->stride[i], p->dilation[i]);
    if (!n[i])
      return fail(&c->G->c, "%s: kernel %lld, dilated by %lld, does not fit %lld padded by %lld",
                  name, (long long)p->kernel[i], (long long)p->dilation[i], (long long)size[i],
                  (long long)p->padding[i]),
             0;
  }
  int64_t all;
  if (__builtin_mul_overflow(n[0], n[1], &all))
    return fail(&c->G->c, "%s: sizes are too large", name), 0;
  return all;
}

bool forward_im2col(call *c) {
  patches p;
  attrs_read(c->nat, c->at, &p, sizeof p);
  graph *G = c->G;
  shape x;
  char text[128];
  node_shape(c->in[0], &x);
  if (x.n != 3 && x.n != 4)
    return fail(&G->c, "im2col: x has shape %s, expected (n, c, h, w) or (c, h, w)",
                shape_text(&x, text));
  int64_t at = places(c, &p, x.d + x.n - 2);
  if (!at || !promote(c, FLOAT, 1)) return false;
  shape four = {.n = 4, .d = {1}}, s = x;
  memcpy(four.d + 4 - x.n, x.d, x.n * sizeof *x.d);
  s.n = x.n - 1;
  if (__builtin_mul_overflow(p.kernel[0] * p.kernel[1], x.d[x.n - 3], &s.d[s.n - 2]))
    return fail(&G->c, "im2col: sizes are too large");
  s.d[s.n - 1] = at;
  array *a = arg(c, 0), *in = a ? arr_reshape(&G->c, a, &four) : NULL;
  array *r = in ? arr_columns(&G->c, OP_im2col, in, &s, (int64_t *)&p) : NULL;
  arr_unref(in);
  return give(c, r);
}

bool forward_col2im(call *c) {
  struct {
    int64_t size[2];
    patches p;
  } at;
  attrs_read(c->nat, c->at, &at, sizeof at);
  graph *G = c->G;
  shape x;
  char text[128];
  node_shape(c->in[0], &x);
  if (at.size[0] < 0 || at.size[1] < 0)
    return fail(&G->c, "col2im: size (%lld, %lld) is negative", (long long)at.size[0],
                (long long)at.size[1]);
  int64_t n = places(c, &at.p, at.size), taps = at.p.kernel[0] * at.p.kernel[1];
  if (!n) return false;
  if ((x.n != 2 && x.n != 3) || x.d[x.n - 1] != n || x.d[x.n - 2] % taps)
    return fail(&G->c,
                "col2im: columns have shape %s, expected (n, c %lld, %lld) or (c %lld, %lld)",
                shape_text(&x, text), (long long)taps, (long long)n, (long long)taps, (long long)n);
  if (!promote(c, FLOAT, 1)) return false;
  shape four = {4, {x.n == 3 ? x.d[0] : 1, x.d[x.n - 2] / taps, at.size[0], at.size[1]}};
  array *a = arg(c, 0);
  array *r = a ? arr_columns(&G->c, OP_col2im, a, &four, (int64_t *)&at.p) : NULL;
  if (!r || x.n == 3) return give(c, r);
  shape three = {3, {four.d[1], four.d[2], four.d[3]}};
  array *single = arr_reshape(&G->c, r, &three);
  arr_unref(r);
  return give(c, single);
}

node *im2col_grad(vjp *v, int i, node *g) {
  const extra *x = v->f->x;
  attr at[10] = {{x->s.d[x->s.n - 2]}, {x->s.d[x->s.n - 1]}};
  memcpy(at + 2, x->at, 8 * sizeof *at);
  return (void)i, keep(v, op_one(v->G, OP_col2im, 1, &g, 10, at));
}

node *col2im_grad(vjp *v, int i, node *g) {
  return (void)i, keep(v, op_one(v->G, OP_im2col, 1, &g, 8, v->f->x->at + 2));
}

/* ---- windows as a view ----------------------------------------------------------------------------------- */

bool forward_unfold(call *c) {
  ATTRS(c, int64_t axis, size, step);
  graph *G = c->G;
  shape s;
  char text[128];
  int64_t stride[MAXDIM];
  node_shape(c->in[0], &s);
  if (s.n == 0 || s.n == MAXDIM)
    return fail(&G->c, "unfold: x has shape %s, expected 1 to %d axes", shape_text(&s, text),
                MAXDIM - 1);
  if (at.size > s.d[at.axis])
    return fail(&G->c, "unfold: size %lld is larger than axis %d of shape %s", (long long)at.size,
                (int)at.axis + 1, shape_text(&s, text));
  array *x = arg(c, 0);
  if (!x || !arr_ready(&G->c, x)) return false;
  memcpy(stride, x->stride, sizeof stride);
  stride[s.n] = stride[at.axis];
  s.d[at.axis] = (s.d[at.axis] - at.size) / at.step + 1;
  if (s.d[at.axis] > 1) stride[at.axis] *= at.step;
  s.d[s.n++] = at.size;
  return give(c, arr_view(&G->c, x, &s, stride, 0));
}

node *unfold_grad(vjp *v, int i, node *g) {
  const extra *x = v->f->x;
  attr at[] = {x->at[0], {x->s.d[x->at[0].i]}, x->at[2]};
  return (void)i, keep(v, op_one(v->G, OP_fold, 1, &g, 3, at));
}

bool forward_fold(call *c) {
  ATTRS(c, int64_t axis, length, step);
  graph *G = c->G;
  shape s;
  char text[128];
  node_shape(c->in[0], &s);
  int64_t size = s.n ? s.d[s.n - 1] : 0;
  if (s.n < 2 || at.axis == s.n - 1 || size > at.length ||
      s.d[at.axis] != (at.length - size) / at.step + 1)
    return fail(&G->c, "fold: %s are no windows of %lld elements", shape_text(&s, text),
                (long long)at.length);
  if (!promote(c, FLOAT, 1)) return false;
  array *x = arg(c, 0);
  s.d[at.axis] = at.length;
  s.n--;
  if (!x) return false;
  if (x->size) return give(c, arr_columns(&G->c, OP_fold, x, &s, (int64_t[]){at.axis, at.step}));
  return give(c, arr_zeros(&G->c, x->dtype, &s));
}

node *fold_grad(vjp *v, int i, node *g) {
  const extra *x = v->f->x;
  attr at[] = {x->at[0], {x->s.d[x->s.n - 1]}, x->at[2]};
  return (void)i, keep(v, op_one(v->G, OP_unfold, 1, &g, 3, at));
}
