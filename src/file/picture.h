/* picture.h -- pictures in bytes: PNG and JPEG in, PNG out. */
#ifndef MG_PICTURE_H
#define MG_PICTURE_H

#include "base/base.h"

typedef struct picture {
  int w, h, channels;         /* grey, grey and alpha, RGB, RGBA */
  int bits;                   /* of a value: 8 or 16 */
  bool floats;                /* it was written of floats 0..1: the PNG says so */
  void *p;                    /* rows of pixels of channels; picture_free */
} picture;

/* All but p, without a look at the pixels; what the bytes cannot hold is refused. At most INT32_MAX
** bytes: stb_image counts by int. */
bool picture_about(ctx *c, const uint8_t *bytes, int64_t n, picture *x);
bool picture_read(ctx *c, const uint8_t *bytes, int64_t n, picture *x);
void picture_free(picture *x);

/* Writes a PNG of 8 bits piece by piece. */
bool picture_write(ctx *c, const picture *x, bool (*put)(void *arg, const void *p, int64_t n),
                   void *arg);

/* jpeg.c: what stb_image calls, and how it does */
typedef uint8_t *resample(uint8_t *out, uint8_t *near, uint8_t *far, int w, int by);
resample jpeg_rows, jpeg_columns, jpeg_both;
void jpeg_inverse(uint8_t *out, int stride, short block[64]);
void jpeg_rgb(uint8_t *out, const uint8_t *y, const uint8_t *cb, const uint8_t *cr, int n,
              int step);

#endif
