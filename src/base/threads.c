/* threads.c -- one loop over threads, and what the processor is.
**
** Callers cut their work into parts fixed by its size alone; which thread runs which part, and how
** many there are, can therefore not be seen in any result. The threads are libgomp's, which OpenBLAS
** uses too. It is opened at first need: start stays instant, and this is the one moment to say how
** long an idle thread may spin. Left alone it spins for milliseconds, on a core that others need.
** Without libgomp there is one thread.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static void (*team)(void (*body)(void *), void *arg, unsigned threads, unsigned flags);
static int (*rank)(void), (*ranks)(void);

static void open_gomp(void) {
  setenv("GOMP_SPINCOUNT", "10000", 0);
  void *lib = dlopen("libgomp.so.1", RTLD_NOW | RTLD_NODELETE); /* its threads outlive this state */
  if (!lib) return;
  rank = (int (*)(void))dlsym(lib, "omp_get_thread_num");
  ranks = (int (*)(void))dlsym(lib, "omp_get_num_threads");
  if (rank && ranks) *(void **)&team = dlsym(lib, "GOMP_parallel");
}

typedef struct {
  int64_t n;
  void (*body)(void *arg, int64_t i);
  void *arg;
} loop;

static _Thread_local bool inside; /* a loop in a loop runs on its caller's thread */

static void share(void *p) { /* of one thread: neighbours, so that it walks through memory */
  loop *l = p;
  int64_t k = rank(), all = ranks();
  inside = true;
  for (int64_t i = l->n * k / all, end = l->n * (k + 1) / all; i < end; i++) l->body(l->arg, i);
  inside = false;
}

void par_for(ctx *c, int64_t n, void (*body)(void *arg, int64_t i), void *arg) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  int threads = n < c->threads ? (int)n : c->threads;
  if (threads > 1 && !inside) pthread_once(&once, open_gomp);
  if (threads > 1 && !inside && team) {
    team(share, &(loop){n, body, arg}, (unsigned)threads, 0);
    return;
  }
  for (int64_t i = 0; i < n; i++) body(arg, i);
}

int par_worker(void) { return inside ? rank() : 0; }

/* Those this process may run on: a container's share, not the machine's. */
int cpu_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : (int)n;
}

int cpu_level(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return 4;
  return __builtin_cpu_supports("x86-64-v3") ? 3 : 2;
}
