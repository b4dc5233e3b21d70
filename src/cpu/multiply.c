/* multiply.c -- matrix products for tiles that are not large, of one instruction level.
**
** Compiled once for each x86-64 level, as window.c is, products and sums contracted where the level can.
** multiply.inc makes those of one dtype.
*/
#include <string.h>

#include "cpu/multiply.h"
#if !defined PLAIN_C
#include <immintrin.h>
#endif

/* Bytes of a vector; rows of the largest tiles of one and of two vectors. GET: the first n elements at p, the
** others 0, by a mask made once. */
#if defined __AVX512F__
enum { VB = 64, TALL = 8, WIDE = 12 };
#define MASK_float __mmask16
#define MASK_double __mmask8
#define MASK_OF(T, n) ((MASK(T))((1u << (n)) - 1))
#define GET_float(p, m) ((vec_float)_mm512_maskz_loadu_ps(m, p))
#define GET_double(p, m) ((vec_double)_mm512_maskz_loadu_pd(m, p))
#elif defined __AVX2__
enum { VB = 32, TALL = 8, WIDE = 6 };
static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
#define MASK_float __m256i
#define MASK_double __m256i
#define MASK_OF(T, n) _mm256_loadu_si256((const void *)((const char *)ones + VB - (n) * sizeof(T)))
#define GET_float(p, m) ((vec_float)_mm256_maskload_ps(p, m))
#define GET_double(p, m) ((vec_double)_mm256_maskload_pd(p, m))
#else
enum { VB = 16, TALL = 8, WIDE = 6 };
#define MASK_float int64_t
#define MASK_double int64_t
#define MASK_OF(T, n) (n)
#define GET_float(p, m) some_float(p, m)
#define GET_double(p, m) some_double(p, m)
#endif

enum {
  DEEP = 256,        /* of a run of additions */
  BLOCK = 192 << 10, /* bytes of a, so deep */
  LINES = 4,         /* vectors of a row at a time */
  FEW = 32,          /* rows that are not worth a copy of b, */
  NEAR = 1 << 13     /* nor is a b that stays in the first cache, so many elements */
};

#define NAME__(a, b) a##_##b
#define NAME_(a, b) NAME__(a, b)
#define NAME(a) NAME_(a, T)
#define MASK_(T) MASK_##T
#define MASK(T) MASK_(T)
#define GET NAME(GET)
#define FIRST NAME(FIRST)
#define SECOND NAME(SECOND)

/* Of two vectors of four, element by element in turn: the lower halves, the upper ones; for double those of
** even places, of odd ones, which is one instruction */
#define FIRST_float                                                                                \
  { 0, 4, 1, 5 }
#define SECOND_float                                                                               \
  { 2, 6, 3, 7 }
#define FIRST_double                                                                               \
  { 0, 4, 2, 6 }
#define SECOND_double                                                                              \
  { 1, 5, 3, 7 }

#define T float
#define INT int32_t
#include "cpu/multiply.inc"
#undef T
#undef INT
#define T double
#define INT int64_t
#include "cpu/multiply.inc"

const multiply_kernels NAME_(mg_multiply, ISA) = {multiply_float, multiply_double, dots_float,
                                                  dots_double};
