/* random.c -- random numbers by counting: block b of stream `seed` is Philox 4x32-10 of (b, seed).
**
** Number i of a stream depends on seed, counter and i alone, so threads, tiles and a second pass over
** the same numbers need no state. The rounds are written out over BLOCKS blocks at once, which the
** compiler makes vectors of; Random123 gives the constants and defines what must come out.
*/
#include "base/base.h"

#include <Random123/philox.h>

enum { BLOCKS = 64, WORDS = 4 * BLOCKS };

EACH_LEVEL static void philox(uint64_t seed, uint64_t block, uint32_t *out) {
  uint32_t a[BLOCKS], b[BLOCKS], c[BLOCKS] = {0}, d[BLOCKS] = {0};
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int i = 0; i < BLOCKS; i++) {
    a[i] = (uint32_t)(block + i);
    b[i] = (uint32_t)((block + i) >> 32);
  }
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < BLOCKS; i++) {
      uint64_t p = (uint64_t)PHILOX_M4x32_0 * a[i], q = (uint64_t)PHILOX_M4x32_1 * c[i];
      a[i] = (uint32_t)(q >> 32) ^ b[i] ^ k0;
      b[i] = (uint32_t)q;
      c[i] = (uint32_t)(p >> 32) ^ d[i] ^ k1;
      d[i] = (uint32_t)p;
    }
    k0 += PHILOX_W32_0;
    k1 += PHILOX_W32_1;
  }
  for (int i = 0; i < BLOCKS; i++) {
    out[4 * i] = a[i];
    out[4 * i + 1] = b[i];
    out[4 * i + 2] = c[i];
    out[4 * i + 3] = d[i];
  }
}

static inline uint64_t word64(const uint32_t *w) { return w[0] | (uint64_t)w[1] << 32; }

/* Each pass makes the blocks from the one that holds `first` on. */

void random_f32(uint64_t seed, uint64_t counter, int64_t first, int64_t n, float *out) {
  uint32_t w[WORDS];
  while (n > 0) {
    int64_t skip = first % 4, m = WORDS - skip < n ? WORDS - skip : n;
    philox(seed, counter + (uint64_t)(first / 4), w);
    for (int64_t i = 0; i < m; i++) out[i] = (float)(int32_t)(w[skip + i] >> 8) * 0x1p-24f;
    first += m, out += m, n -= m;
  }
}

void random_f64(uint64_t seed, uint64_t counter, int64_t first, int64_t n, double *out) {
  uint32_t w[WORDS];
  while (n > 0) {
    int64_t skip = first % 2, m = WORDS / 2 - skip < n ? WORDS / 2 - skip : n;
    philox(seed, counter + (uint64_t)(first / 2), w);
    for (int64_t i = 0; i < m; i++)
      out[i] = (double)(int64_t)(word64(w + 2 * (skip + i)) >> 11) * 0x1p-53;
    first += m, out += m, n -= m;
  }
}

void random_block(uint64_t seed, uint64_t block, uint32_t step, uint32_t plane, uint32_t out[4]) {
  const philox4x32_ctr_t at = {{(uint32_t)block, (uint32_t)(block >> 32), step, plane}};
  const philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
  const philox4x32_ctr_t r = philox4x32_R(10, at, key);
  for (int i = 0; i < 4; i++) out[i] = r.v[i];
}

/* As many blocks as doubles need: the stream runs on alike for both widths. */
uint64_t random_take(ctx *c, int64_t n) {
  uint64_t at = c->counter;
  c->counter += (uint64_t)n / 2 + (uint64_t)n % 2;
  return at;
}

/* Uniform in 0..range-1 (Lemire 2019): the high half of a product; the few low halves that would
** make some results likelier are drawn again, further on in the stream. */
static int64_t below(ctx *c, uint64_t range, uint64_t word) {
  unsigned __int128 p = (unsigned __int128)word * range;
  if ((uint64_t)p < range)
    while ((uint64_t)p < -range % range) {
      uint32_t w[WORDS];
      philox(c->seed, random_take(c, 1), w);
      p = (unsigned __int128)word64(w) * range;
    }
  return (int64_t)(p >> 64);
}

void random_perm(ctx *c, int64_t n, int64_t *out) {
  uint64_t at = random_take(c, n);
  uint32_t w[WORDS];
  for (int64_t i = 0; i < n; i++) { /* out[0..i-1] is a permutation of 1..i; put i + 1 in */
    if (i % (WORDS / 2) == 0) philox(c->seed, at + (uint64_t)(i / 2), w);
    int64_t j = below(c, (uint64_t)i + 1, word64(w + 2 * (i % (WORDS / 2))));
    out[i] = out[j];
    out[j] = i + 1;
  }
}
