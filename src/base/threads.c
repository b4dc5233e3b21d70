/* threads.c -- one loop over threads, and what the processor is.
**
** Callers cut their work into parts fixed by its size alone; which thread runs which part, and how
** many there are, can therefore not be seen in any result.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

void par_for(ctx *c, int64_t n, void (*body)(void *arg, int64_t i), void *arg) {
  int threads = n < c->threads ? (int)n : c->threads;
  if (threads <= 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < n; i++) body(arg, i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < n; i++) body(arg, i);
}

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
