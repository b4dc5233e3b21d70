/* plain.h -- matrix products in plain C: for vectors, for what is small, and where there is no BLAS.
**
** Included by blas.c once for each T (its name appended to what is defined). Built for several
** processors; the order of additions is in the code, so all of them give the same bits.
*/
#define NAME_(f, T) f##_##T
#define NAME(f, T) NAME_(f, T)

/* y[i] = sum over j of a[i * row + j] * x[j], 0 <= i < m, 0 <= j < k */
LEVELS static void NAME(dots, T)(int64_t m, int64_t k, const T *a, int64_t row, const T *x, T *y) {
  for (int64_t i = 0; i < m; i++, a += row) {
    T sum = 0;
    int64_t j = 0;
    if (k >= LANES) {
      T s[LANES] = {0};
      for (; j + LANES <= k; j += LANES)
        for (int l = 0; l < LANES; l++) s[l] += a[j + l] * x[j + l];
      for (int w = LANES / 2; w > 0; w /= 2)
        for (int l = 0; l < w; l++) s[l] += s[l + w];
      sum = s[0];
    }
    for (; j < k; j++) sum += a[j] * x[j];
    y[i] = sum;
  }
}

/* y[i] = sum over j of a[i + j * col] * x[j] */
LEVELS static void NAME(columns, T)(int64_t m, int64_t k, const T *a, int64_t col, const T *x,
                                    T *restrict y) {
  memset(y, 0, (size_t)m * sizeof(T));
  int64_t j = 0;
  for (; j + 8 <= k; j += 8, a += 8 * col) {
    const T *b = a + 4 * col, *z = x + j;
#pragma omp simd
    for (int64_t i = 0; i < m; i++) {
      T s = y[i] + z[0] * a[i] + z[1] * a[i + col] + z[2] * a[i + 2 * col] + z[3] * a[i + 3 * col];
      y[i] = s + z[4] * b[i] + z[5] * b[i + col] + z[6] * b[i + 2 * col] + z[7] * b[i + 3 * col];
    }
  }
  for (; j < k; j++, a += col) {
#pragma omp simd
    for (int64_t i = 0; i < m; i++) y[i] += x[j] * a[i];
  }
}

typedef T NAME(vec, T) __attribute__((vector_size(64)));

/* c (m, n; rows ldc apart) = a b, any strides, n at most `vecs` vectors: DEEP rows of b at a time,
** packed; a row of c stays in registers meanwhile. */
static inline __attribute__((always_inline))
void NAME(panel, T)(int vecs, int64_t m, int64_t n, int64_t k, const T *a, int64_t ars, int64_t acs,
                    const T *b, int64_t brs, int64_t bcs, T *c, int64_t ldc) {
  NAME(vec, T) p[DEEP * VECS], s[VECS];
  for (int64_t k0 = 0; k0 < k; k0 += DEEP, a += DEEP * acs, b += DEEP * brs) {
    int64_t deep = k - k0 < DEEP ? k - k0 : DEEP;
    for (int64_t q = 0; q < deep; q++) {
      T *to = (T *)(p + q * vecs);
      p[q * vecs + vecs - 1] = (NAME(vec, T)){0};
      if (bcs == 1) memcpy(to, b + q * brs, (size_t)n * sizeof(T));
      else for (int64_t j = 0; j < n; j++) to[j] = b[q * brs + j * bcs];
    }
    for (int64_t i = 0; i < m; i++) {
      for (int v = 0; v < vecs; v++) s[v] = (NAME(vec, T)){0};
      if (k0) memcpy(s, c + i * ldc, (size_t)n * sizeof(T));
      for (int64_t q = 0; q < deep; q++)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) s[v] += a[i * ars + q * acs] * p[q * vecs + v];
      memcpy(c + i * ldc, s, (size_t)n * sizeof(T));
    }
  }
}

LEVELS static void NAME(product, T)(int64_t m, int64_t n, int64_t k, const T *a, int64_t ars,
                                    int64_t acs, const T *b, int64_t brs, int64_t bcs, T *c,
                                    int64_t ldc) {
  const int64_t w = 64 / sizeof(T);
  for (int64_t j = 0; j < n; j += VECS * w, b += VECS * w * bcs, c += VECS * w)
    if (n - j <= w) NAME(panel, T)(1, m, n - j, k, a, ars, acs, b, brs, bcs, c, ldc);
    else if (n - j <= 2 * w) NAME(panel, T)(2, m, n - j, k, a, ars, acs, b, brs, bcs, c, ldc);
    else NAME(panel, T)(VECS, m, n - j < VECS * w ? n - j : VECS * w, k, a, ars, acs, b, brs, bcs, c, ldc);
}

#undef NAME
#undef NAME_
#undef T
