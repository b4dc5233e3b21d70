/* window.c -- the kernels of convolutions, of one instruction level.
**
** Compiled once for each x86-64 level, as kern.c is, products and sums contracted where the level can.
** window.inc makes those of one dtype.
*/
#include <string.h>

#include "cpu/window.h"

/* Bytes of a vector; of two, one after the other, the elements 0, 2, 4 ... */
#if defined __AVX512F__
enum { VB = 64 };
#define EVENS_float                                                                                \
  { 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30 }
#define EVENS_double                                                                               \
  { 0, 2, 4, 6, 8, 10, 12, 14 }
#elif defined __AVX2__
enum { VB = 32 };
#define EVENS_float                                                                                \
  { 0, 2, 4, 6, 8, 10, 12, 14 }
#define EVENS_double                                                                               \
  { 0, 2, 4, 6 }
#else
enum { VB = 16 };
#define EVENS_float                                                                                \
  { 0, 2, 4, 6 }
#define EVENS_double                                                                               \
  { 0, 2 }
#endif
#define EVENS_(T) EVENS_##T
#define EVENS(T) EVENS_(T)

#define NAME__(a, b) a##_##b
#define NAME_(a, b) NAME__(a, b)
#define NAME(a) NAME_(a, T)

#define T float
#define INT int32_t
#include "cpu/window.inc"
#undef T
#undef INT
#define T double
#define INT int64_t
#include "cpu/window.inc"

#define KERNELS(T)                                                                                 \
  { VB / sizeof(T), pack_##T, unit_##T, weigh_##T, sum_##T }
const window_kernels NAME_(mg_windows, ISA) = {{[F64] = KERNELS(double), [F32] = KERNELS(float)}};
