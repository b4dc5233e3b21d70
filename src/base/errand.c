/* errand.c -- one thread beside the others, for what may be ready before it is asked for.
**
** An errand touches memory that its owner keeps for it, and neither arrays nor Lua. Whoever wants it done
** does it himself if the thread has not begun it, so nobody waits for what stands in the queue. The
** thread is started at first need and ends with the process; a child of a fork has none of its own, and
** there what was begun before counts for nothing.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <pthread.h>
#include <signal.h>

enum { QUEUED, RUNNING, DONE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static errand *first, **last = &first;
static bool started;
static unsigned forks;

static void in_child(void) { /* the lock may have been the thread's */
  pthread_mutex_init(&lock, NULL);
  pthread_cond_init(&work, NULL);
  pthread_cond_init(&done, NULL);
  first = NULL;
  last = &first;
  started = false;
  forks++;
}

static void leave_queue(errand *t) {
  errand **at = &first;
  while (*at != t) at = &(*at)->next;
  *at = t->next;
  if (!*at) last = at;
}

static void *run(void *none) {
  pthread_mutex_lock(&lock);
  for (;;) {
    while (!first) pthread_cond_wait(&work, &lock);
    errand *t = first;
    leave_queue(t);
    t->state = RUNNING;
    pthread_mutex_unlock(&lock);
    t->body(t);
    pthread_mutex_lock(&lock);
    t->state = DONE;
    pthread_cond_broadcast(&done);
  }
  return none;
}

static void hear_of_forks(void) { pthread_atfork(NULL, NULL, in_child); }

/* With no signals: they are for who called. */
static bool start(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, hear_of_forks);
  sigset_t all, was;
  pthread_attr_t detached;
  pthread_t thread;
  if (pthread_attr_init(&detached) != 0) return false;
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &was);
  started = pthread_create(&thread, &detached, run, NULL) == 0;
  pthread_sigmask(SIG_SETMASK, &was, NULL);
  pthread_attr_destroy(&detached);
  return started;
}

bool errand_begin(errand *t, void (*body)(errand *t)) {
  pthread_mutex_lock(&lock);
  bool ok = started || start();
  if (ok) {
    *t = (errand){.body = body, .state = QUEUED, .forks = forks};
    *last = t;
    last = &t->next;
    pthread_cond_signal(&work);
  }
  pthread_mutex_unlock(&lock);
  return ok;
}

/* wanted: it is done here if nobody has begun it. */
static void settle(errand *t, bool wanted) {
  pthread_mutex_lock(&lock);
  bool ours = t->forks == forks;
  if (ours && t->state == QUEUED) leave_queue(t);
  while (ours && t->state == RUNNING) pthread_cond_wait(&done, &lock);
  bool here = wanted && t->state != DONE;
  t->state = DONE;
  pthread_mutex_unlock(&lock);
  if (here) t->body(t);
}

void errand_end(errand *t) { settle(t, true); }
void errand_drop(errand *t) { settle(t, false); }
