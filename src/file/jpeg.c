/* jpeg.c -- what becomes of a JPEG's coefficients, to the bits that libjpeg gives by default:
** jidctint.c's inverse DCT, jdsample.c's triangle filter for colours that were stored coarsely,
** jdcolor.c's RGB. stb_image, which calls these, has others: its last column is wrong where colours
** have half the columns.
*/
#include <string.h>

#include "file/picture.h"

static inline uint8_t clamped(int v) { return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v; }

/* ---- the inverse DCT ----------------------------------------------------------------------------
** Of a column or row at p, `step` apart, times 2^13, without the final shift. What a damaged file
** makes too large goes round. */

typedef uint32_t word;

static inline __attribute__((always_inline)) void transform(const word *p, int step, word out[8]) {
  word p2 = p[2 * step], p6 = p[6 * step], z = (p2 + p6) * 4433;
  word t2 = z - p6 * 15137, t3 = z + p2 * 6270;
  word sum = (p[0] + p[4 * step]) * 8192, difference = (p[0] - p[4 * step]) * 8192;
  word even[4] = {sum + t3, difference + t2, difference - t2, sum - t3};
  word o0 = p[7 * step], o1 = p[5 * step], o2 = p[3 * step], o3 = p[step];
  word z5 = (o0 + o2 + o1 + o3) * 9633;
  word z1 = (o0 + o3) * -7373u, z2 = (o1 + o2) * -20995u;
  word z3 = (o0 + o2) * -16069u + z5, z4 = (o1 + o3) * -3196u + z5;
  word odd[4] = {o3 * 12299 + z1 + z4, o2 * 25172 + z2 + z3, o1 * 16819 + z2 + z4,
                 o0 * 2446 + z1 + z3};
  for (int i = 0; i < 4; i++) {
    out[i] = even[i] + odd[i];
    out[7 - i] = even[i] - odd[i];
  }
}

void jpeg_inverse(uint8_t *out, int stride, short block[64]) {
  word from[64], columns[64], v[8], rest[8] = {0};
  for (int i = 0; i < 64; i++) from[i] = block[i];
  for (int i = 8; i < 64; i++) rest[i % 8] |= from[i];
  for (int i = 0; i < 8; i++) {
    if (rest[i]) transform(from + i, 8, v);
    else
      for (int k = 0; k < 8; k++) v[k] = from[i] * 8192; /* often it is but its mean */
    for (int k = 0; k < 8; k++) columns[8 * k + i] = (int)(v[k] + (1 << 10)) >> 11;
  }
  for (int k = 0; k < 8; k++, out += stride) {
    transform(columns + 8 * k, 1, v);
    for (int i = 0; i < 8; i++) out[i] = clamped(((int)(v[i] + (1 << 17)) >> 18) + 128);
  }
}

/* ---- coarse colours -----------------------------------------------------------------------------
** Rows of w samples become rows of as many, or twice as many: three parts of the nearer one and one of
** the other, rounded up and down in turn. `far` is the row above or below, or the same at an edge. */

uint8_t *jpeg_rows(uint8_t *out, uint8_t *near, uint8_t *far, int w, int by) {
  (void)by;
  int half = near > far ? 1 : 2;
  for (int i = 0; i < w; i++) out[i] = (3 * near[i] + far[i] + half) >> 2;
  return out;
}

static uint8_t *repeated(uint8_t *out, const uint8_t *p, int w) {
  for (int i = 0; i < w; i++) out[2 * i] = out[2 * i + 1] = p[i];
  return out;
}

uint8_t *jpeg_columns(uint8_t *out, uint8_t *p, uint8_t *far, int w, int by) {
  (void)far, (void)by;
  if (w <= 2) return repeated(out, p, w);
  out[0] = p[0];
  for (int i = 1; i < w; i++) {
    out[2 * i - 1] = (3 * p[i - 1] + p[i] + 2) >> 2;
    out[2 * i] = (3 * p[i] + p[i - 1] + 1) >> 2;
  }
  out[2 * w - 1] = p[w - 1];
  return out;
}

uint8_t *jpeg_both(uint8_t *out, uint8_t *near, uint8_t *far, int w, int by) {
  (void)by;
  if (w <= 2) return repeated(out, near, w);
  out[0] = (4 * (3 * near[0] + far[0]) + 8) >> 4;
  for (int i = 1; i < w; i++) {
    int before = 3 * near[i - 1] + far[i - 1], here = 3 * near[i] + far[i];
    out[2 * i - 1] = (3 * before + here + 7) >> 4;
    out[2 * i] = (3 * here + before + 8) >> 4;
  }
  out[2 * w - 1] = (4 * (3 * near[w - 1] + far[w - 1]) + 7) >> 4;
  return out;
}

/* ---- RGB --------------------------------------------------------------------------------------- */

void jpeg_rgb(uint8_t *out, const uint8_t *y, const uint8_t *cb, const uint8_t *cr, int n,
              int step) {
  enum { HALF = 1 << 15 };
  for (int i = 0; i < n; i++, out += step) {
    int b = cb[i] - 128, r = cr[i] - 128;
    out[0] = clamped(y[i] + ((91881 * r + HALF) >> 16));
    out[1] = clamped(y[i] + ((-22554 * b - 46802 * r + HALF) >> 16));
    out[2] = clamped(y[i] + ((116130 * b + HALF) >> 16));
    if (step == 4) out[3] = 255;
  }
}
