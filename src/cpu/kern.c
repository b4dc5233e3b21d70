/* kern.c -- the kernels of one instruction level.
**
** Compiled once for each x86-64 level, -DISA=v2, v3 or v4, or for none, plain; kern.inc makes the kernels of
** one dtype.
** Everything is computed in whole vectors: the last few elements of a tile and single numbers pass
** through the same code as the rest, so that a result's bits depend on nothing but its operands.
*/
#pragma GCC optimize "wrapv" /* whole numbers wrap around */
#include <float.h>
#include <math.h>
#include <string.h>
#include "cpu/kern.h"
#include "cpu/special.h"
#if !defined PLAIN_C
#include <immintrin.h>
#endif

#define UNROLL(n) _Pragma(TEXT(GCC unroll n))
#define TEXT(x) #x

/* Bytes of a vector, its intrinsics, and SLEEF's functions that give every lane the same bits; plain: the
** compiler's vectors, and the C library's functions of each lane */
#if defined PLAIN_C
enum { VB = 16 };
#define SLEEF_F64(name, ulp) each_F64_##name
#define SLEEF_F32(name, ulp) each_F32_##name
#elif defined __AVX512F__
enum { VB = 64 };
#define MM _mm512
#define SLEEF_F64(name, ulp) Sleef_finz_##name##d8_##ulp##avx512f
#define SLEEF_F32(name, ulp) Sleef_finz_##name##f16_##ulp##avx512f
#elif defined __AVX2__
enum { VB = 32 };
#define MM _mm256
#define SLEEF_F64(name, ulp) Sleef_finz_##name##d4_##ulp##avx2
#define SLEEF_F32(name, ulp) Sleef_finz_##name##f8_##ulp##avx2
#else
enum { VB = 16 };
#define MM _mm
#define SLEEF_F64(name, ulp) Sleef_cinz_##name##d2_##ulp##sse4
#define SLEEF_F32(name, ulp) Sleef_cinz_##name##f4_##ulp##sse4
#endif

/* ---- numbers --------------------------------------------------------------------------------- */

typedef double T_F64;
typedef float T_F32;
typedef int64_t T_I64, BITS_F64, BITS_I64;
typedef int32_t BITS_F32;
typedef uint8_t T_U8, T_BOOL;
typedef int8_t BITS_U8, BITS_BOOL;

/* the same, at any address */
#define ANYWHERE __attribute__((aligned(1)))
typedef double AT_F64 ANYWHERE;
typedef float AT_F32 ANYWHERE;
typedef int64_t AT_I64 ANYWHERE;
typedef uint8_t AT_U8, AT_BOOL;

#if defined __AVX512BW__
/* The mask of the first of 64 bytes. No shift: that of none would be one by 64, which is one by 0. */
#define FIRST(bytes) _bzhi_u64(~0ull, (unsigned)(bytes))
#elif defined __AVX2__
/* From lanes + VB - n bytes on, the mask of the first n */
static const int8_t lanes[2 * VB] = {[0 ... VB - 1] = -1};
#endif

static inline int64_t whole(double x) {
  return x != x ? 0 : x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (int64_t)x;
}

/* Floor division, which never traps */
static inline int64_t floor_remainder(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  const int64_t m = a % b;
  return m != 0 && (m ^ b) < 0 ? m + b : m;
}

static inline int64_t floor_quotient(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return -a;
  return a / b - (a % b != 0 && (a ^ b) < 0);
}

// clang-format off
#define TO_F64(x) (double)(x)
#define TO_F32(x) (float)(x)
#define TO_I64(x) \
  _Generic((x), double: whole((double)(x)), float: whole((double)(x)), default: (int64_t)(x))
#define TO_U8(x) (uint8_t)TO_I64(x)
#define TO_BOOL(x) ((x) != 0)

#define CAST(from, to)                                                                         \
  static void cast_##from##_##to(void *r, const void *a, const void *b, const void *d,         \
                                 int64_t n) {                                                  \
    AT_##to *y = r;                                                                            \
    const AT_##from *x = a;                                                                    \
    (void)b, (void)d;                                                                          \
    for (int64_t i = 0; i < n; i++) y[i] = TO_##to(x[i]);                                      \
  }
#define CASTS(from) CAST(from, F64) CAST(from, F32) CAST(from, I64) CAST(from, U8) CAST(from, BOOL)
CASTS(F64) CASTS(F32) CASTS(I64) CASTS(U8) CASTS(BOOL)

/* ---- polynomials of the exponential family, lowest term first -------------------------------- */

/* (exp(r) - 1 - r) / r^2, Taylor's; 6 terms are enough for floats */
static const double exp_terms[12] = {
  1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800,
  1. / 39916800, 1. / 479001600, 1. / 6227020800
};

/* ((log(1 + s) - log(1 - s)) / s - 2) / s^2 by s^2, minimax: |s| <= (sqrt(2) - 1)^2 */
static const double log_terms_F64[] = {
  0.66666666666667345, 0.39999999999414286, 0.28571428742481438, 0.22222198562895376,
  0.18183564894251447, 0.15314035188468429, 0.14796111471255047
};
static const double log_terms_F32[] = {0.66666776416384381, 0.39977536824880916, 0.29871866363228539};

/* (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4 by r^2, minimax: |r| <= pi / 4 */
static const double sin_terms_F64[] = {
  -0.1666666666666663165, 0.008333333333322314725, -0.0001984126982972488413,
  2.755731366195983653e-6, -2.505075325123097863e-8, 1.589650427403653375e-10
};
static const double cos_terms_F64[] = {
  0.04166666666666659202, -0.00138888888888728955, 0.00002480158728874841353,
  -2.755731414868594029e-7, 2.087569658070956708e-9, -1.135831089432532006e-11
};
static const double sin_terms_F32[] = {-0.1666665487335962082, 0.008332173538718080441, -0.0001951665541492112442};
static const double cos_terms_F32[] = {0.04166664555460978356, -0.001388730987238343815, 0.00002443241356554896371};

/* (log(1 - erf(y)) / -y - 2 / sqrt(pi)) / y, minimax for the relative error of erf: 0 <= y <= 6, 0 <= y <= 4 */
static const double erf_terms_F64[] = {
  0.636619772367590966, 0.102772603301315535, -0.0191284469930968867,
  -0.000209194853895373196, 0.00169620766965015373, -0.000590132429007021184,
  0.000025904495454688761, 0.0000644204838596980545, -0.0000295756916993519124,
  3.16970839993663857e-6, 3.13291996924447386e-6, -2.03715087854052108e-6,
  5.70606189496828813e-7, -1.16936339012164995e-8, -6.57399893815785617e-8,
  3.45871114579467814e-8, -1.07739739382098755e-8, 2.36064780562015626e-9,
  -3.76092606341221934e-10, 4.30203840166339976e-11, -3.36455407756845102e-12,
  1.61497242450718591e-13, -3.59242794284122382e-15
};
static const double erf_terms_F32[] = {
  0.636619382059023906, 0.10277783049313294, -0.0191530659387623287,
  -0.000160388854238288549, 0.00166701666174111488, -0.000632828921651172346,
  0.000117638473063709683, -9.25588824996247886e-6
};

/* (y + K) exp(y^2 / 2) Phi(-y), minimax, by (y - K) / (y + K): K = 5.5, y <= 57; K = 3.125, y <= 23. The first
** terms are floats as they stand. */
static const double mills_terms_F64[] = {
  0.7737696342764068, -0.685183420574338, 0.5355964890624932, -0.3670490652936305, 0.21787243285804084,
  -0.10970308995837513, 0.04509758081320246, -0.01392351057090361, 0.002442982691822671,
  0.000269604045915917, -0.0003245227506265268, 7.141461222494612e-05, 1.632031290419785e-05,
  -1.211809254897036e-05, 4.4571378763030227e-07, 1.4821246122363987e-06, -2.6717851213686675e-07,
  -1.7527484258394372e-07, 5.023274959267502e-08, 2.1200971884564368e-08, -6.076266743730366e-09,
  -2.0202128373397886e-09, 2.4287135926010966e-10
};
static const double mills_terms_F32[] = {
  0.733453631401062, -0.5249630212783813, 0.2526618242263794, -0.06382650882005692,
  -0.005332185421139002, 0.007999848574399948, -3.948709854739718e-05, -0.0011378171620890498,
  -5.251028051134199e-05, 0.00015141318726819009, 3.2633746741339564e-05
};
// clang-format on

/* ---- what a dtype has of its own ------------------------------------------------------------- */

#define JOIN(a, b) a##_##b
#define JOIN2(a, b) JOIN(a, b)
#define JOIN3(a, b, c) a##_##b##_##c
#define JOIN4(a, b, c) JOIN3(a, b, c)
#define OF(name) JOIN2(name, DT)                 /* name_F64 ... */
#define KERNEL(kind, name) JOIN4(kind, DT, name) /* map_F64_add ... */
#define SIMD(name) JOIN4(MM, name, OF(SUFFIX))   /* _mm512_max_pd ... */

#define T OF(T)       /* a number */
#define AT OF(AT)     /* one in memory, at any address */
#define BITS OF(BITS) /* a whole number as wide */
#define V OF(V)       /* a vector of N numbers */
#define M OF(M)       /* a mask for it: all bits or none in each lane */
#define N OF(N)
#define load OF(load)
#define part OF(part)
#define some OF(some)
#define keep OF(keep)
#define splat OF(splat)
#define poly OF(poly)
#define exp_near OF(exp_near)
#define some_lane OF(some_lane)
#define larger OF(larger)
#define smaller OF(smaller)
#define lost OF(lost)
#define less OF(less)
#define power OF(power)
#define scale OF(scale)
#define expm1_near OF(expm1_near)
#define gated OF(gated)
#define gated_slope OF(gated_slope)
#define within OF(within)
#define gate OF(gate_of)
#define mills OF(mills)
#define step OF(step)
#define values OF(values)
#define tests OF(tests)
#define tests_upto OF(tests_upto)
#define choices OF(choices)
#define choices_upto OF(choices_upto)
#define across OF(across)
#define block OF(block)
#define find OF(find)

#define SUFFIX_F64 pd
#define SUFFIX_F32 ps
#define MANTISSA OF(MANTISSA)
#define MANTISSA_F64 52
#define MANTISSA_F32 23
#define BIAS OF(BIAS)
#define BIAS_F64 1023
#define BIAS_F32 127
#define VANISHED (-(BIAS + MANTISSA + 18)) /* below it a 2^n is 0, if |a| < 2^16 */
#define EXP_TERMS OF(EXP_TERMS)
#define EXP_TERMS_F64 12
#define EXP_TERMS_F32 6
#define ERF_END OF(ERF_END)
#define ERF_END_F64 6
#define ERF_END_F32 4
#define log_terms OF(log_terms)
#define log_of OF(log_of)
#define sin_terms OF(sin_terms)
#define cos_terms OF(cos_terms)
#define turned OF(turned)
#define TURNS OF(TURNS) /* up to there quarter turns are taken off exactly */
#define TURNS_F64 1e5
#define TURNS_F32 1e4
#define erf_terms OF(erf_terms)
#define mills_terms OF(mills_terms)
#define MILLS_MID OF(MILLS_MID) /* few bits: x + K - K is exact */
#define MILLS_MID_F64 5.5
#define MILLS_MID_F32 3.125
#define GAUSS_END OF(GAUSS_END) /* exp(-x^2 / 2) is 0 from there on */
#define GAUSS_END_F64 40
#define GAUSS_END_F32 16
#define PHI_END 9             /* the normal distribution function is 1 from there on */
#define GATE_END OF(GATE_END) /* its sigmoid is 0 below minus this */
#define GATE_END_F64 24
#define GATE_END_F32 14
#define TINY OF(TINY) /* its square is nothing beside 1 */
#define TINY_F64 0x1p-27
#define TINY_F32 0x1p-12
#define TWO_BY_ROOT_PI 1.12837916709551257389615890312L
#define ROOT_HALF 0.707106781186547524400844362104849039L
#define ROOT2 1.41421356237309504880168872420969808L
#define HALF_PI1 OF(HALF_PI1) /* pi / 2 in three pieces */
#define HALF_PI1_F64 0x1.921fb54442d18p0
#define HALF_PI1_F32 0x1.921fb6p0
#define HALF_PI2 OF(HALF_PI2)
#define HALF_PI2_F64 0x1.1a62633145c07p-54
#define HALF_PI2_F32 -0x1.777a5cp-25
#define HALF_PI3 OF(HALF_PI3)
#define HALF_PI3_F64 -0x1.f1976b7edp-110
#define HALF_PI3_F32 -0x1.ee59dap-50
#define LN2 0.693147180559945309417232121458176568L
#define LARGEST OF(LARGEST)
#define LARGEST_F64 DBL_MAX
#define LARGEST_F32 FLT_MAX
#define LEAST OF(LEAST) /* of full precision */
#define LEAST_F64 DBL_MIN
#define LEAST_F32 FLT_MIN
#define LOWEST OF(LOWEST)
#define LOWEST_F64 (-INFINITY)
#define LOWEST_F32 (-INFINITY)
#define LOWEST_I64 INT64_MIN
#define HIGHEST OF(HIGHEST)
#define HIGHEST_F64 INFINITY
#define HIGHEST_F32 INFINITY
#define HIGHEST_I64 INT64_MAX

/* functions of the bodies in ops.def */
#define K(c) splat((T)(c))
#define SEL OF(sel)
#define ABS OF(magnitude)
#define MOD OF(modulo)
#define FLOORDIV OF(quotient)
#define POWI OF(powi)
#define FLOOR OF(down)
#define CEIL OF(up)
#define RINT OF(nearest)
#define SQRT OF(root)
#define FMA OF(muladd)
#define TRUNC OF(toward0)
#define COPYSIGN OF(copysign)
#define RATIO OF(ratio)
#define EXP OF(exp)
#define EXP2 OF(exp2)
#define EXPM1 OF(expm1)
#define SINH OF(sinh)
#define COSH OF(cosh)
#define TANH OF(tanh)
#define SIGMOID OF(sigmoid)
#define SILU OF(silu)
#define SILU_SLOPE OF(silu_slope)
#define MISH OF(mish)
#define MISH_SLOPE OF(mish_slope)
#define SOFTPLUS OF(softplus)
#define LOG OF(log)
#define LOG1P OF(log1p)
#define LOGADDEXP OF(logaddexp)
#define ASINH OF(asinh)
#define ACOSH OF(acosh)
#define POW OF(pow)
#define POW_SLOPE OF(pow_slope)
#define POWHALF OF(powhalf)
#define SHARE OF(share)
#define ERF OF(erf)
#define ERFC OF(erfc)
#define GAUSS OF(gauss)
#define GELU OF(gelu)
#define GELU_SLOPE OF(gelu_slope)
#define GELU_TANH OF(gelu_tanh)
#define GELU_TANH_SLOPE OF(gelu_tanh_slope)
#define ERFINV OF(erfinv)
#define DIGAMMA OF(digamma)
#define POLYGAMMA OF(polygamma)
#define SLEEF OF(SLEEF)
#define LOG2 SLEEF(log2, u10)
#define LOG10 SLEEF(log10, u10)
#define RSQRT OF(rsqrt_of)
#define SIN OF(sine)
#define COS OF(cosine)
#define TAN SLEEF(tan, u10)
#define ASIN SLEEF(asin, u10)
#define ACOS SLEEF(acos, u10)
#define ATAN SLEEF(atan, u10)
#define ATANH SLEEF(atanh, u10)
#define ATAN2 SLEEF(atan2, u10)
#define HYPOT SLEEF(hypot, u05)
#define FMOD SLEEF(fmod, )
#define LGAMMA SLEEF(lgamma, u10)

#define BYTES 0
#define TRUTHS 1
#define WHOLES 2
#define FLOATS 3

#define DT F64
#define KIND FLOATS
#include "cpu/kern.inc"
#define DT F32
#define KIND FLOATS
#include "cpu/kern.inc"
#define DT I64
#define KIND WHOLES
#include "cpu/kern.inc"
#define DT U8
#define KIND BYTES
#include "cpu/kern.inc"
#define DT BOOL
#define KIND TRUTHS
#include "cpu/kern.inc"

// clang-format off
/* ---- the table ------------------------------------------------------------------------------- */

#define FOR_FLOAT(kind, name) {[F64] = kind##_F64_##name, [F32] = kind##_F32_##name}
#define FOR_ARITH(kind, name) \
  {[F64] = kind##_F64_##name, [F32] = kind##_F32_##name, [I64] = kind##_I64_##name}
#define FOR_TEST FOR_FLOAT
#define FOR_COMPARE FOR_ARITH
#define FOR_LOGIC(kind, name) {[BOOL] = kind##_BOOL_##name}
#define FOR_CHOOSE(kind, name) \
  {kind##_F64_##name, kind##_F32_##name, kind##_I64_##name, kind##_U8_##name, kind##_BOOL_##name}
#define ONE_CHEAP(rule, name) {NULL}
#define ONE_DEAR(rule, name) \
  {[F64] = (vector_fn *)vector_F64_##name, [F32] = (vector_fn *)vector_F32_##name}
#define FROM(t) {cast_##t##_F64, cast_##t##_F32, cast_##t##_I64, cast_##t##_U8, cast_##t##_BOOL}

const kernels JOIN2(mg_kernels, ISA) = {
  .map = {
#define UNARY(name, rule, ...) [OP_##name] = FOR_##rule(map, name),
#define BINARY UNARY
#define TERNARY UNARY
#include "ops.def"
  },
  .cast = {FROM(F64), FROM(F32), FROM(I64), FROM(U8), FROM(BOOL)},
  .rows = {
    [OP_add] = FOR_ARITH(rows, add), [OP_mul] = FOR_ARITH(rows, mul),
    [OP_maximum] = FOR_ARITH(rows, maximum), [OP_minimum] = FOR_ARITH(rows, minimum),
    [OP_logical_and] = FOR_LOGIC(rows, logical_and), [OP_logical_or] = FOR_LOGIC(rows, logical_or)
  },
  .spread = {spread_F64, spread_F32, spread_I64, spread_U8, spread_BOOL},
  .fold = {
#define REDUCE(name, rule, ...) [OP_##name] = FOR_##rule(fold, name),
#include "ops.def"
  },
  .each = {
#define REDUCE(name, rule, ...) [OP_##name] = FOR_##rule(each, name),
#include "ops.def"
  },
#if !defined __AVX512F__
  .scalar = {
#define UNARY(name, rule, ...) [OP_##name] = FOR_##rule(one, name),
#define BINARY UNARY
#define TERNARY UNARY
#include "ops.def"
  },
  .vector = {
#define UNARY(name, rule, cost, ...) [OP_##name] = ONE_##cost(rule, name),
#define BINARY UNARY
#define TERNARY UNARY
#include "ops.def"
  }
#endif
};
// clang-format on
