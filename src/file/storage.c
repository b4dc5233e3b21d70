/* storage.c -- numbers as files store them, and what they become here: float32 and int64 for what
** the engine has no dtype of its own for.
*/
#include "file/file.h"

#include <math.h>
#include <string.h>

const char *const storage_name[NSTORAGE] = {"float64", "float32",  "int64", "uint8", "bool",
                                            "float16", "bfloat16", "int8",  "int16", "int32",
                                            "uint16",  "uint32",   "uint64"};
const uint8_t storage_size[NSTORAGE] = {8, 4, 8, 1, 1, 2, 2, 1, 2, 4, 2, 4, 8};

int storage_find(const char *name) {
  for (int s = 0; s < NSTORAGE; s++)
    if (strcmp(name, storage_name[s]) == 0) return s;
  return -1;
}

dtype storage_dtype(storage s) {
  return s < (storage)NDTYPE ? (dtype)s : s == S_F16 || s == S_BF16 ? F32 : I64;
}

/* ---- byte orders ------------------------------------------------------------------------------- */

#define SWAP(T, swap)                                                                              \
  for (int64_t i = 0; i < n; i++) {                                                                \
    T v;                                                                                           \
    memcpy(&v, (char *)p + i * sizeof v, sizeof v);                                                \
    v = swap(v);                                                                                   \
    memcpy((char *)p + i * sizeof v, &v, sizeof v);                                                \
  }

void storage_swap(storage s, void *p, int64_t n) {
  switch (storage_size[s]) {
    case 2: SWAP(uint16_t, __builtin_bswap16) break;
    case 4: SWAP(uint32_t, __builtin_bswap32) break;
    case 8: SWAP(uint64_t, __builtin_bswap64) break;
  }
}

/* ---- short floats ------------------------------------------------------------------------------ */

static float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

static float from_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, u = (uint32_t)(h & 0x7fff) << 13;
  uint32_t finite = bits_of(float_of(u) * 0x1p112f); /* the exponent's bias; subnormals too */
  return float_of(sign | ((h & 0x7c00) == 0x7c00 ? u | 0x7f800000 : finite));
}

static float from_bfloat(uint16_t b) { return float_of((uint32_t)b << 16); }

static uint16_t to_half(float f) {
  uint32_t u = bits_of(f), sign = u >> 16 & 0x8000;
  u &= 0x7fffffff;
  if (u > 0x7f800000) return sign | 0x7e00 | (u >> 13 & 0x1ff);
  if (u >= 0x47800000) return sign | 0x7c00;
  if (u < 0x38800000) /* subnormal: the sum rounds */
    return sign | (bits_of(float_of(u) + 0.5f) - bits_of(0.5f));
  return sign | (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
}

static uint16_t to_bfloat(float f) {
  uint32_t u = bits_of(f);
  if ((u & 0x7fffffff) > 0x7f800000) return u >> 16 | 0x40;
  return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* The float that leads a second rounding where one alone would: cut short, its last bit set. */
static float odd(double d) {
  float f = (float)d;
  if (f == d || d != d) return f;
  uint32_t u = bits_of(f);
  if (fabs((double)f) > fabs(d)) u--;
  return float_of(u | 1);
}

/* ---- into ours --------------------------------------------------------------------------------- */

#define DECODE(T, R, expr)                                                                         \
  for (int64_t i = 0; i < n; i++) {                                                                \
    T v;                                                                                           \
    memcpy(&v, (const char *)src + i * sizeof v, sizeof v);                                        \
    ((R *)dst)[i] = expr;                                                                          \
  }                                                                                                \
  break

static int64_t find(int64_t n, bool (*bad)(const void *p, int64_t i), const void *p) {
  int64_t i = 0;
  while (i < n && !bad(p, i)) i++;
  return i < n ? i : -1;
}

static bool negative(const void *p, int64_t i) { return ((const int64_t *)p)[i] < 0; }
static bool no_bool(const void *p, int64_t i) { return ((const uint8_t *)p)[i] > 1; }

int64_t storage_decode(storage s, const void *src, void *dst, int64_t n) {
  switch (s) {
    case S_F16: DECODE(uint16_t, float, from_half(v));
    case S_BF16: DECODE(uint16_t, float, from_bfloat(v));
    case S_I8: DECODE(int8_t, int64_t, v);
    case S_I16: DECODE(int16_t, int64_t, v);
    case S_I32: DECODE(int32_t, int64_t, v);
    case S_U16: DECODE(uint16_t, int64_t, v);
    case S_U32: DECODE(uint32_t, int64_t, v);
    case S_U64: memcpy(dst, src, n * 8); return find(n, negative, dst);
    case S_BOOL: memcpy(dst, src, n); return find(n, no_bool, dst);
    default: memcpy(dst, src, n * storage_size[s]);
  }
  return -1;
}

/* ---- out of ours ------------------------------------------------------------------------------- */

#define STORE(T, value)                                                                            \
  {                                                                                                \
    T r = value;                                                                                   \
    memcpy((char *)dst + i * sizeof r, &r, sizeof r);                                              \
  }                                                                                                \
  break

INLINE bool store_double(storage s, double v, void *dst, int64_t i) {
  switch (s) {
    case S_F64: STORE(double, v);
    case S_F32: STORE(float, (float)v);
    case S_F16: STORE(uint16_t, to_half(odd(v)));
    case S_BF16: STORE(uint16_t, to_bfloat(odd(v)));
    default: return false;
  }
  return true;
}

/* The double that a float storage makes of v */
static double rounded(storage s, double v) {
  switch (s) {
    case S_F32: return (float)v;
    case S_F16: return from_half(to_half(odd(v)));
    case S_BF16: return from_bfloat(to_bfloat(odd(v)));
    default: return v;
  }
}

INLINE bool store_whole(storage s, int64_t v, void *dst, int64_t i) {
  static const int64_t low[NSTORAGE] = {
      [S_I8] = INT8_MIN, [S_I16] = INT16_MIN, [S_I32] = INT32_MIN, [S_I64] = INT64_MIN};
  static const int64_t high[NSTORAGE] = {
      [S_I8] = INT8_MAX,    [S_I16] = INT16_MAX, [S_I32] = INT32_MAX,
      [S_I64] = INT64_MAX,  [S_U8] = UINT8_MAX,  [S_U16] = UINT16_MAX,
      [S_U32] = UINT32_MAX, [S_U64] = INT64_MAX, [S_BOOL] = 1};
  if (s == S_F64 || s == S_F32 || s == S_F16 || s == S_BF16) {
    double d = (double)v, r = rounded(s, d);
    if (d == 0x1p63 || (int64_t)d != v || r != d) return false;
    return store_double(s, d, dst, i);
  }
  if (v < low[s] || v > high[s]) return false;
  switch (storage_size[s]) {
    case 1: STORE(uint8_t, (uint8_t)v);
    case 2: STORE(uint16_t, (uint16_t)v);
    case 4: STORE(uint32_t, (uint32_t)v);
    default: STORE(int64_t, v);
  }
  return true;
}

INLINE bool store_float(storage s, double v, void *dst, int64_t i) {
  if (store_double(s, v, dst, i)) return true;
  const double whole = nearbyint(v), top = 9223372036854775808.0; /* 2^63 */
  return whole >= -top && whole < top && store_whole(s, (int64_t)whole, dst, i);
}

#define ENCODE(T, store)                                                                           \
  for (int64_t i = 0; i < n; i++)                                                                  \
    if (!store(s, ((const T *)src)[i], dst, i)) return i;                                          \
  return -1

int64_t storage_encode(storage s, dtype from, const void *src, void *dst, int64_t n) {
  if ((int)s == (int)from) {
    memcpy(dst, src, n * storage_size[s]);
    return -1;
  }
  switch (from) {
    case F64: ENCODE(double, store_float);
    case F32: ENCODE(float, store_float);
    case I64: ENCODE(int64_t, store_whole);
    default: ENCODE(uint8_t, store_whole);
  }
}
