/* threads.c -- one loop over threads, and what the processor is.
**
** Callers cut their work into parts fixed by its size alone; which thread runs which part, and how
** many there are, can therefore not be seen in any result. Parts are claimed, not dealt out: each thread
** begins with neighbours of its own, then helps others with theirs, so that one whose processor is taken
** by somebody else is not waited for, but for the part it is in. A thread that finds nothing to do looks
** a little longer, unless others want its processor, then sleeps. Each thread that begins loops has helpers
** of its own, started at first need; where they cannot be, it does without.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
  STACK = 1 << 20,  /* bytes of a helper's */
  DEEP = 512 << 10, /* what kernels keep on a stack, twice the most */
  ROOM = 64 << 20,  /* of address space that are left to others */
  PAUSES = 500,     /* some 8 us: between two offers of the processor to others, */
  LOOK = 1000000,   /* ns for which a helper looks for work before it sleeps, */
  TAKEN = 200000,   /* ns after which the processor was somebody's meanwhile, */
  SHY = 20,         /* times a helper offers nothing and sleeps soon, after that, */
  WAITS = 5000      /* pauses for the last part, before who began the loop sleeps */
};

/* ---- helpers ------------------------------------------------------------------------------------- */

typedef struct {
  int64_t next, end; /* the parts next .. end - 1 are still to be claimed; next: atomic */
  char apart[48];    /* from the next one's cache line */
} range;

/* Those who wait for what changes sleep on these words, atomic all. Helpers may come to a loop late, or not at
** all: the gate says how many still may, and how many have. */
typedef struct team {
  uint32_t loops;    /* begun so far */
  uint32_t sleeping; /* helpers */
  uint32_t gate;     /* so many may join (above), so many have (below) */
  uint32_t left;     /* and are through */
  uint32_t waiting;  /* the one who has begun the loop sleeps */
  bool quit;
  /* of the loop under way; written while nobody is in it */
  void (*body)(void *arg, int64_t i);
  void *arg;
  int threads;
  range *ranges; /* one for each of them */
  /* the helpers */
  int asked, helpers;
  pthread_t *thread;
} team;

enum { GATE = 16 };

#define READ(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define WRITE(x, v) __atomic_store_n(&(x), v, __ATOMIC_SEQ_CST)
#define ADD(x, v) __atomic_add_fetch(&(x), v, __ATOMIC_SEQ_CST)

/* Of a thread. They stand where its stack does: memory that is asked for at first use may not be there, and the
** C library ends the process then. */
#define OWN static _Thread_local __attribute__((tls_model("initial-exec")))
OWN team *mine;
OWN bool inside; /* a loop in a loop runs on its caller's thread */
OWN int worker;
static pthread_key_t ends; /* of a thread that has a team */

static void sleep_on(uint32_t *word, uint32_t value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(uint32_t *word, int n) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void pause_a_little(void) {
#if defined __x86_64__
  __builtin_ia32_pause();
#endif
}

/* Its own parts, then those of the others */
static void take_part(team *t, int k) {
  worker = k;
  inside = true;
  for (int i = 0; i < t->threads; i++) {
    range *r = &t->ranges[(k + i) % t->threads];
    for (int64_t p; (p = __atomic_fetch_add(&r->next, 1, __ATOMIC_RELAXED)) < r->end;)
      t->body(t->arg, p);
  }
  inside = false;
  worker = 0;
}

/* Which of the loop's threads this one is; 0: none any more */
static int join(team *t) {
  uint32_t g = READ(t->gate);
  while ((g & 0xffff) < g >> GATE)
    if (__atomic_compare_exchange_n(&t->gate, &g, g + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      return (int)(g & 0xffff) + 1;
  return 0;
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static bool paused(const uint32_t *word, uint32_t value) {
  int i = 0;
  while (i < PAUSES && READ(*word) == value) pause_a_little(), i++;
  return i == PAUSES;
}

/* Until a loop begins, or it is better to sleep: to be woken takes as long as a small loop, but who looks
** beside a busy neighbour takes from him, and then from the one who works, what a sleeper is given at once. */
static void look(const team *t, uint32_t seen, int *shy) {
  if (*shy) {
    --*shy;
    for (int i = 0; i < 4 && paused(&t->loops, seen); i++) continue;
    return;
  }
  int64_t begun = now(), last = begun;
  while (paused(&t->loops, seen) && last - begun < LOOK) {
    int64_t before = now();
    sched_yield();
    last = now();
    if (last - before > TAKEN) {
      *shy = SHY;
      return;
    }
  }
}

static void *help(void *arg) {
  team *t = arg;
  uint32_t seen = 0;
  int shy = 0;
  for (;;) {
    look(t, seen, &shy);
    if (READ(t->loops) == seen) {
      ADD(t->sleeping, 1);
      while (READ(t->loops) == seen) sleep_on(&t->loops, seen);
      ADD(t->sleeping, -1);
    }
    seen = READ(t->loops);
    if (READ(t->quit)) return NULL;
    int k = join(t);
    if (!k) continue;
    take_part(t, k);
    ADD(t->left, 1);
    if (READ(t->waiting)) wake(&t->left, 1);
  }
}

static void end_team(void *arg) {
  team *t = arg;
  WRITE(t->quit, true);
  ADD(t->loops, 1);
  wake(&t->loops, t->helpers);
  for (int i = 0; i < t->helpers; i++) pthread_join(t->thread[i], NULL);
  free(t->ranges);
  free(t->thread);
  free(t);
}

/* Memory that could be written counts against each limit there is: of address space, of data (ulimit -d), and
** what the system promises. */
static void *room_take(size_t bytes) {
  int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, how, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

bool is_room(size_t bytes) {
  void *p = room_take(bytes);
  return p && munmap(p, bytes) == 0;
}

/* A child of fork has none of its parent's threads. */
static void in_child(void) {
  mine = NULL;
  pthread_setspecific(ends, NULL);
}

static void prepare(void) {
  pthread_key_create(&ends, end_team);
  pthread_atfork(NULL, NULL, in_child);
}

/* As many helpers as can be started, up to n; they leave signals to others. */
static void start(team *t, int n) {
  pthread_attr_t attr;
  sigset_t all, were;
  t->asked = n;
  range *ranges = aligned_alloc(64, (size_t)(n + 1) * sizeof *ranges);
  pthread_t *thread = realloc(t->thread, (size_t)n * sizeof *thread);
  void *room = room_take(ROOM);
  if (thread) t->thread = thread;
  if (ranges) {
    free(t->ranges);
    t->ranges = ranges;
  }
  if (ranges && thread && room && pthread_attr_init(&attr) == 0) {
    pthread_attr_setstacksize(&attr, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &were);
    while (t->helpers < n && pthread_create(&t->thread[t->helpers], &attr, help, t) == 0)
      t->helpers++;
    pthread_sigmask(SIG_SETMASK, &were, NULL);
    pthread_attr_destroy(&attr);
  }
  if (room) munmap(room, ROOM);
}

/* The team of this thread, with n helpers if possible; NULL: none */
static team *team_of(int n) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, prepare);
  if (!mine) {
    if (!(mine = calloc(1, sizeof *mine))) return NULL;
    pthread_setspecific(ends, mine);
  }
  if (n > mine->asked) start(mine, n);
  return mine->helpers ? mine : NULL;
}

void par_for(ctx *c, int64_t n, void (*body)(void *arg, int64_t i), void *arg) {
  int threads = n < c->threads ? (int)n : c->threads;
  team *t = threads > 1 && !inside ? team_of(threads - 1) : NULL;
  if (!t) {
    for (int64_t i = 0; i < n; i++) body(arg, i);
    return;
  }
  if (threads > t->helpers + 1) threads = t->helpers + 1;
  t->body = body;
  t->arg = arg;
  t->threads = threads;
  for (int k = 0; k < threads; k++)
    t->ranges[k] = (range){.next = n * k / threads, .end = n * (k + 1) / threads};
  WRITE(t->left, 0);
  WRITE(t->gate, (uint32_t)(threads - 1) << GATE);
  ADD(t->loops, 1);
  if (READ(t->sleeping)) wake(&t->loops, threads - 1);
  take_part(t, 0);
  uint32_t joined = __atomic_fetch_and(&t->gate, 0xffff, __ATOMIC_SEQ_CST) & 0xffff, left;
  for (int i = 0; i < WAITS && READ(t->left) != joined; i++) pause_a_little();
  if (READ(t->left) == joined) return;
  WRITE(t->waiting, 1);
  while ((left = READ(t->left)) != joined) sleep_on(&t->left, left);
  WRITE(t->waiting, 0);
}

int par_worker(void) { return worker; }

/* ---- the stack ----------------------------------------------------------------------------------- */

__attribute__((noinline)) static void reach_down(void) {
  volatile char deep[DEEP];
  deep[0] = 0;
  (void)deep[0];
}

/* The first thread's stack grows as it is used. Where address space is limited there may be none left when a
** product wants its blocks, which ends the process: so it grows now. Others have all of theirs. */
void stack_grow(void) {
  pthread_attr_t attr;
  void *low;
  size_t size;
  struct rlimit l;
  if (getrlimit(RLIMIT_AS, &l) == 0 && l.rlim_cur == RLIM_INFINITY) return;
  if (getpid() != (pid_t)syscall(SYS_gettid)) return;
  if (pthread_getattr_np(pthread_self(), &attr) != 0) return;
  bool known = pthread_attr_getstack(&attr, &low, &size) == 0;
  pthread_attr_destroy(&attr);
  uintptr_t here = (uintptr_t)&attr, end = (uintptr_t)low;
  if (!known || here < end + 2 * DEEP || here >= end + size) return; /* a small one, or another's */
  if (!is_room(2 * DEEP)) return;
  reach_down();
}

/* ---- the processor ------------------------------------------------------------------------------- */

/* What a short file holds, as text in size bytes; "" where there is none. How long it is. */
static size_t short_text(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
  if (fd >= 0) close(fd);
  if (n < 0) n = 0;
  text[n] = 0;
  return (size_t)n;
}

/* n, or for how many processors' time, rounded up, text stands: so much of it, in each period of so much.
** Where there is no bound the first is "max" or -1. */
static int within(int n, const char *text) {
  char *rest;
  long long time = strtoll(text, &rest, 10), period = strtoll(rest, NULL, 10);
  return time > 0 && period > 0 && (time - 1) / period < n ? (int)((time - 1) / period) + 1 : n;
}

/* n, or as many as the process's cgroup and those above it have the time of. Within a container its own is the
** root; in version 1 no other is looked at. */
static int within_quota(int n) {
  static const char root[] = "/sys/fs/cgroup";
  char groups[4096], path[5000], text[128];
  short_text("/proc/self/cgroup", groups, sizeof groups);
  const char *own = strstr(groups, "0::/");
  own = own ? own + 3 : "";
  snprintf(path, sizeof path, "%s%.*s", root, (int)strcspn(own, "\n"), own);
  for (size_t end; (end = strlen(path)) >= sizeof root - 1; *strrchr(path, '/') = 0) {
    strcpy(path + end, "/cpu.max");
    if (short_text(path, text, sizeof text)) n = within(n, text);
    path[end] = 0;
  }
  size_t k = short_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, 64);
  short_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us", text + k, 64);
  return within(n, text);
}

/* Those this process may run on, and has the time of: a container's share, not the machine's. */
static int cpu_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return within_quota(CPU_COUNT(&set));
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return within_quota(n < 1 ? 1 : (int)n);
}

int threads_default(void) {
  const char *text = getenv("OMP_NUM_THREADS"); /* "n" or "n,m,...", of nested loops */
  long n = text ? strtol(text, NULL, 10) : 0;
  return n < 1 || n > MAX_THREADS ? cpu_count() : (int)n;
}

static int find_level(void) {
  const char *most = getenv("MOONGRAD_LEVEL");
  int bound = most && most[0] >= '2' && most[0] <= '4' && !most[1] ? most[0] - '0' : 4;
#if defined PLAIN_C
  (void)bound;
  return 2;
#else
  __builtin_cpu_init();
  if (bound >= 4 && __builtin_cpu_supports("x86-64-v4")) return 4;
  if (bound >= 3 && __builtin_cpu_supports("x86-64-v3")) return 3;
  return __builtin_cpu_supports("x86-64-v2") ? 2 : 1;
#endif
}

int cpu_level(void) {
  static int found;
  int level = __atomic_load_n(&found, __ATOMIC_RELAXED);
  if (!level) __atomic_store_n(&found, level = find_level(), __ATOMIC_RELAXED);
  return level;
}
