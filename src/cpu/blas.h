/* blas.h -- OpenBLAS, opened at first use: its products, and LAPACK by its Fortran names.
**
** Fortran takes all by address, matrices by columns; the lengths of its strings come last. A matrix that
** lies by rows is, to it, the transpose. Every call is serial: threads are ours (base/threads.c).
*/
#ifndef MG_BLAS_H
#define MG_BLAS_H

#include "base/base.h"

typedef void sgemm_fn(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef void dgemm_fn(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a,
                      int lda, const double *b, int ldb, double beta, double *c, int ldc);
enum { ROWS = 101, PLAIN = 111, TRANSPOSED = 112 };
extern sgemm_fn *blas_sgemm;
extern dgemm_fn *blas_dgemm;

#define LAPACK_OF(T)                                                                               \
  extern struct lapack_##T {                                                                       \
    void (*trsm)(const char *side, const char *uplo, const char *trans, const char *diag,          \
                 const int *m, const int *n, const T *alpha, const T *a, const int *lda, T *b,     \
                 const int *ldb, size_t, size_t, size_t, size_t);                                  \
    void (*trsv)(const char *uplo, const char *trans, const char *diag, const int *n, const T *a,  \
                 const int *lda, T *x, const int *step, size_t, size_t, size_t);                   \
    void (*potrf)(const char *uplo, const int *n, T *a, const int *lda, int *info, size_t);        \
    void (*getrf)(const int *m, const int *n, T *a, const int *lda, int *pivots, int *info);       \
    void (*gelqf)(const int *m, const int *n, T *a, const int *lda, T *tau, T *work,               \
                  const int *room, int *info);                                                     \
    void (*orglq)(const int *m, const int *n, const int *k, T *a, const int *lda, const T *tau,    \
                  T *work, const int *room, int *info);                                            \
    void (*syevd)(const char *job, const char *uplo, const int *n, T *a, const int *lda, T *w,     \
                  T *work, const int *room, int *iwork, const int *iroom, int *info, size_t,       \
                  size_t);                                                                         \
    void (*gesdd)(const char *job, const int *m, const int *n, T *a, const int *lda, T *s, T *u,   \
                  const int *ldu, T *vt, const int *ldvt, T *work, const int *room, int *iwork,    \
                  int *info, size_t);                                                              \
  } lapack_##T
LAPACK_OF(float);
LAPACK_OF(double);

/* Is it there, with room for calls from so many threads at a time? */
bool blas_open(int threads);
bool lapack_open(int threads);

/* Around calls: on the thread that makes them; on the one that starts the others */
void blas_begin(void);
void blas_end(void);
int blas_alone(void);
void blas_restore(int was);

#endif
