/* window.h -- convolutions made plain, as the kernels of window.c compute them.
**
** Forward, the gradient of the data and convolution transposed are one thing: with several images and groups,
**   y[m, o] = sum over channels c and taps k of a[m, c, k] x[c, t step + at(k)]
** where o is where position t stands in y, and x is 0 outside. The gradient of the weights is
**   a[m, c, k] = sum over images and positions t of g[m, t] x[c, t step + at(k)]
** Both read x from a padded copy of some channels of a band of positions, so small that it stays in the
** cache: there a vector of neighbouring positions is one load, whatever the tap.
*/
#ifndef MG_WINDOW_H
#define MG_WINDOW_H

#include "base/base.h"

/* One axis of three */
typedef struct wide {
  int64_t in, n;         /* elements of x; positions */
  int64_t step;          /* elements of x from one position to the next */
  int64_t low, span;     /* the lowest tap of position 0, and how far the others reach beyond it */
  int64_t xs, ys;        /* strides in x; in y, from one position to the next */
  int64_t ntap, k0, dk;  /* taps: their places in the kernel k0, k0 + dk, ... */
  int64_t tap0, dtap;    /* and in x: low + tap0, + dtap ... */
  int64_t kernel;        /* of so many in all */
} wide;

typedef struct window {
  dtype t;
  wide w[3];
  int64_t n, groups, m, c;       /* images; of a group the rows of a, and its channels */
  int64_t am, ac, ag;            /* strides of the kernel tensor, in elements */
  int64_t xi, xg, xc, yi, yg, yc; /* of images, groups and channels */
  const void *x;
  void *y;                       /* or g, where a is wanted */
  void *a;                       /* the kernel tensor */
  /* The plan */
  int64_t taps;                  /* of all axes together */
  int64_t band[3], bands[3];     /* positions in a band; how many bands: along w whole vectors */
  int64_t local[3], row, plane;  /* the copy: depth, height and a line of one phase of w; a line; a channel */
  int64_t chunk, chunks;         /* channels copied at a time */
  int64_t panels, split;         /* of a's rows; parts that they are cut into */
  bool by_panel;                 /* a panel meets all positions, not a position all panels */
  int64_t images, blocks, parts; /* of the weights' gradient: images copied at a time; sums made apart */
  int64_t rows;                  /* rows of g at a time */
  bool direct;                   /* they are read where they lie, not copied */
  int32_t *off, *last;           /* where tap k of channel c stands in the copy; in that of the last chunk */
  void *packed;                  /* a, panel by panel */
  void *sums;                    /* of the parts */
  char *scratch;                 /* so many bytes for each thread: */
  int64_t bytes, g_at, pos_at;
} window;

/* A vector of positions */
typedef struct place {
  int64_t to;                    /* in y */
  int32_t from, valid;           /* in the copy; elements that count */
  int32_t lo, hi;                /* taps of the outermost axis that has some, which read inside x */
} place;

/* Rows and vectors of a tile, and products in a row of its sums, as more would lose digits; taps at once
** and sums of the weights' gradient */
enum { PANEL = 6, MORE = 8, IN_A_ROW = 2048, TAPS = 6, MOST_SUMS = 12 };

typedef struct windows {
  int lanes;                                      /* elements of a vector */
  void (*pack)(const window *q);
  void (*unit)(const window *q, int64_t unit, char *scratch);
  void (*weigh)(const window *q, int64_t unit, char *scratch);
  void (*sum)(const window *q);
} windows;

typedef struct { windows t[2]; } window_kernels;   /* by dtype */
EXTERN_LEVELS(window_kernels, mg_windows);

#endif
