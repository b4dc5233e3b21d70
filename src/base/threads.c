/* threads.c -- one loop over threads, and what the processor is.
**
** Callers cut their work into parts fixed by its size alone; which thread runs which part, and how
** many there are, can therefore not be seen in any result. The threads are libgomp's, which OpenBLAS
** uses too. It is opened at first need: start stays instant, and this is the one moment to say how
** long an idle thread may spin. Left alone it spins for milliseconds, on a core that others need.
** Without libgomp there is one thread; so there is in the child of a fork, where its threads are not.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void (*team)(void (*body)(void *), void *arg, unsigned threads, unsigned flags);
static int (*rank)(void), (*ranks)(void);

static void in_child(void) { team = NULL; }

static void open_gomp(void) {
  setenv("GOMP_SPINCOUNT", "10000", 0);
  void *lib = dlopen("libgomp.so.1", RTLD_NOW | RTLD_NODELETE); /* its threads outlive this state */
  if (!lib) return;
  rank = (int (*)(void))dlsym(lib, "omp_get_thread_num");
  ranks = (int (*)(void))dlsym(lib, "omp_get_num_threads");
  if (rank && ranks && pthread_atfork(NULL, NULL, in_child) == 0)
    *(void **)&team = dlsym(lib, "GOMP_parallel");
}

/* ---- how many there can be ---------------------------------------------------------------------- */

/* libgomp ends the process if it cannot start a thread: it is only asked for as many as have been started
** here before. */

static void *wait_there(void *lock) {
  pthread_mutex_lock(lock);
  pthread_mutex_unlock(lock);
  return NULL;
}

/* Starts n threads more, and lets them end. How many there were. */
static int try_threads(int n) {
  enum { ROOM = 4 << 20, EACH = 1 << 14 }; /* for what libgomp keeps of them */
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_t *all = malloc(n * sizeof *all);
  size_t room = ROOM + (size_t)n * EACH;
  void *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int k = 0;
  pthread_mutex_lock(&lock);
  while (all && p != MAP_FAILED && k < n && pthread_create(&all[k], NULL, wait_there, &lock) == 0)
    k++;
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < k; i++) pthread_join(all[i], NULL);
  if (p != MAP_FAILED) munmap(p, room);
  free(all);
  return k;
}

static int possible(int n) {
  static _Thread_local int most = 1,
                           asked = 1; /* each thread that begins loops has a team of its own */
  if (n > asked) {
    asked = n;
    most = 1 + try_threads(n - 1);
  }
  return n < most ? n : most;
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
  if (threads > 1 && !inside && team && (threads = possible(threads)) > 1) {
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

int threads_default(void) {
  const char *text = getenv("OMP_NUM_THREADS"); /* "n" or "n,m,...", of nested loops */
  long n = text ? strtol(text, NULL, 10) : 0;
  return n < 1 || n > MAX_THREADS ? cpu_count() : (int)n;
}

static int find_level(void) {
  const char *most = getenv("MOONGRAD_LEVEL");
  int bound = most && most[0] >= '2' && most[0] <= '4' && !most[1] ? most[0] - '0' : 4;
  __builtin_cpu_init();
  if (bound >= 4 && __builtin_cpu_supports("x86-64-v4")) return 4;
  if (bound >= 3 && __builtin_cpu_supports("x86-64-v3")) return 3;
  return __builtin_cpu_supports("x86-64-v2") ? 2 : 1;
}

int cpu_level(void) {
  static int found;
  int level = __atomic_load_n(&found, __ATOMIC_RELAXED);
  if (!level) __atomic_store_n(&found, level = find_level(), __ATOMIC_RELAXED);
  return level;
}
