/* blas.c -- OpenBLAS, opened at first use, and its calls kept serial and within its memory. */
#define _GNU_SOURCE
#include "cpu/blas.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

sgemm_fn *blas_sgemm;
dgemm_fn *blas_dgemm;
struct lapack_float lapack_float;
struct lapack_double lapack_double;

static void (*set_threads)(int);
static int (*parallel)(void);
static const char *(*config)(void);
static void *(*take_memory)(int);
static void (*give_memory)(void *);
static int (*omp_get)(void); /* of the OpenMP it runs on, if any: threads the caller may start */
static void (*omp_set)(int);

/* Debian's 0.3.21 takes processors younger than itself for the oldest and is ten times slower there:
** so it is told what to use, unless the user has. On AMD, too, SkylakeX is at least as fast as Zen. */
static void open_blas(void) {
#define LAPACK(name)                                                                               \
  {"s" #name "_", &lapack_float.name}, { "d" #name "_", &lapack_double.name }
  static const symbol symbols[] = {{"cblas_sgemm", &blas_sgemm},
                                   {"cblas_dgemm", &blas_dgemm},
                                   LAPACK(trsm),
                                   LAPACK(trsv),
                                   LAPACK(potrf),
                                   LAPACK(getrf),
                                   LAPACK(gelqf),
                                   LAPACK(orglq),
                                   LAPACK(syevd),
                                   LAPACK(gesdd),
                                   {"openblas_set_num_threads", &set_threads},
                                   {"openblas_get_parallel", &parallel},
                                   {"openblas_get_config", &config},
                                   {"blas_memory_alloc", &take_memory},
                                   {"blas_memory_free", &give_memory},
                                   {"omp_get_max_threads", &omp_get},
                                   {"omp_set_num_threads", &omp_set},
                                   {NULL, NULL}};
  /* What the host has for all comes before what the library depends on: LLVM's OpenMP, say. */
  static int (*host_get)(void);
  static void (*host_set)(int);
  static const symbol of_host[] = {
      {"omp_get_max_threads", &host_get}, {"omp_set_num_threads", &host_set}, {NULL, NULL}};
  static const char name[] = "OPENBLAS_CORETYPE";
  bool tell = !getenv(name) && cpu_level() > 2;
  if (tell) setenv(name, cpu_level() == 4 ? "SkylakeX" : "Haswell", 1);
  library_open("libopenblas.so.0", symbols);
  if (tell) unsetenv(name);
  if (config && strstr(config(), "USE64BITINT")) /* it would read 8 bytes of our integers */
    for (const symbol *s = symbols; s->name; s++) *(void **)s->at = NULL;
  library_open(NULL, of_host);
  if (omp_set && host_get && host_set) omp_get = host_get, omp_set = host_set;
  int was = omp_get ? omp_get() : 1;
  if (set_threads) set_threads(1);
  if (omp_set) omp_set(was); /* which the line above has changed, too */
}

/* Each call takes one of its blocks of memory; where there is no room for one it tries for ever.
** So it is opened where there is some, and no more calls are under way than have a block. One that was
** built for a single thread (Debian's libopenblas0-serial) locks nothing: it bears one call at a time. */
enum { MB = 1 << 20, OPENED = 320, BLOCK = 128, MOST_BLOCKS = 64 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int blocks, tried;
static sem_t idle_blocks;

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

/* Threads that had blocks are not there to give them back. */
static void in_child(void) {
  sem_init(&idle_blocks, 0, (unsigned)blocks);
  after_fork();
}

bool blas_open(int threads) {
  pthread_mutex_lock(&lock);
  if (!tried && is_room((size_t)(OPENED + BLOCK) * MB)) {
    open_blas();
    sem_init(&idle_blocks, 0, 0);
    pthread_atfork(before_fork, after_fork, in_child);
  }
  int most = parallel && parallel() == 0 ? 1 : MOST_BLOCKS, calls = threads < most ? threads : most;
  bool have = blas_sgemm && blas_dgemm;
  if (have && calls > tried) {
    bool known = take_memory && give_memory;
    void *p[MOST_BLOCKS];
    int n = 0;
    for (; n < calls && (n == 0 || n < blocks || is_room((size_t)BLOCK * MB)); n++)
      p[n] = known ? take_memory(0) : NULL;
    for (int i = 0; i < n && known; i++) give_memory(p[i]);
    for (; blocks < n; blocks++) sem_post(&idle_blocks);
  }
  if (calls > tried) tried = calls;
  pthread_mutex_unlock(&lock);
  return have;
}

/* Of the newest names one: an OpenBLAS may have been built without LAPACK. */
bool lapack_open(int threads) {
  return blas_open(threads) && lapack_float.gesdd && lapack_double.gesdd && lapack_double.potrf;
}

/* An OpenBLAS that runs on OpenMP is told for each thread by itself not to start others. */
void blas_begin(void) {
  if (omp_set && par_worker()) omp_set(1);
  while (sem_wait(&idle_blocks) != 0) {
  } /* a signal */
}

void blas_end(void) { sem_post(&idle_blocks); }

int blas_alone(void) {
  if (!omp_get || !omp_set) return 0;
  int was = omp_get();
  omp_set(1);
  return was;
}

void blas_restore(int was) {
  if (was) omp_set(was);
}
