/* buffer.c -- memory: buffers with a reference count, from one cache for the whole process.
**
** A small buffer, header and data in up to 4 KB, is cut from a slab; free ones stand in a list for
** each size. A large one has whole pages: freed, it waits both in a bin of its size and in a queue by
** age, and serves a request it exceeds by at most an eighth. Sizes are rounded to 64 bytes (small)
** or 4 KB (large). What the system gave us is counted either as live or as cached. Under `lock`
** always: live <= limit where there is one, and large blocks are let go, oldest first, until
** live + cached <= the highest live since the last reset or trim + SLACK. Memory of others
** (buf_wrap) is in no count.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__ /* the sanitizer shall see a use after the last unref */
#include <sanitizer/asan_interface.h>
#define HIDE(p, n) __asan_poison_memory_region(p, n)
#define SHOW(p, n) __asan_unpoison_memory_region(p, n)
#else
#define HIDE(p, n) ((void)(p), (void)(n))
#define SHOW(p, n) ((void)(p), (void)(n))
#endif

enum {
  LINE = 64,
  NSMALL = 64, /* small blocks: 1..NSMALL lines, header included */
  SLAB = 1 << 16,
  PAGE = 1 << 12,
  HUGEPAGE = 1 << 21,
  MAPPED = 1 << 17, /* from here on memory comes from mmap, not from malloc */
  SLACK = 16 << 20,
  NBIN = 416,
  LOOK = 32 /* how many blocks of a bin a request looks at */
};

/* The header. A small buffer's data follow it in its slab. */
typedef struct block {
  buffer b;
  union {
    struct slab *slab; /* small */
    struct {
      struct block *prev, *newer, *older;
    }; /* large and free: in its bin; in the queue */
  };
} block;
_Static_assert(sizeof(block) == LINE, "data follow the header, aligned");

typedef struct slab {
  struct slab *next;
  int free;
} slab; /* free: scratch of trim, in lines */

static atomic_flag lock = ATOMIC_FLAG_INIT;
static memstat stat;
static size_t high;               /* the highest live since the last reset or trim */
static buffer *freed[NSMALL + 1]; /* small, by lines */
static slab *slabs;
static char *fresh; /* the uncut rest of the newest slab */
static int fresh_lines;
static block *bin[NBIN]; /* large; the latest freed first */
static block *newest, *oldest;
static _Atomic int64_t fail_in, fail_until;

#if defined __x86_64__
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif

static void take_lock(void) {
  for (int i = 0; atomic_flag_test_and_set_explicit(&lock, memory_order_acquire); i++)
    if (i < 100) PAUSE();
    else sched_yield();
}

static void drop_lock(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

/* A child of fork must not find it taken by a thread that it does not have. */
__attribute__((constructor)) static void guard_lock(void) {
  pthread_atfork(take_lock, drop_lock, drop_lock);
}

/* ---- pages from the system ------------------------------------------------------------------ */

/* A page fault costs as much as clearing its 4 KB: from 2 MB on, memory asks for huge pages, with
** no more of it resident, since the kernel takes them only where they lie wholly inside. */
static void *pages_new(size_t bytes) {
  if (bytes < MAPPED) return aligned_alloc(LINE, bytes);
  size_t more = bytes < HUGEPAGE ? 0 : HUGEPAGE - PAGE;
  char *p = mmap(NULL, bytes + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  if (more) {
    size_t head = -(uintptr_t)p % HUGEPAGE;
    if (head) munmap(p, head);
    if (more > head) munmap(p + head + bytes, more - head);
    p += head;
    madvise(p, bytes, MADV_HUGEPAGE);
  }
  return p;
}

static void pages_free(void *p, size_t bytes) {
  SHOW(p, bytes);
  if (bytes < MAPPED) free(p);
  else munmap(p, bytes);
}

/* Free a list of large blocks; not under the lock: it may take a while. */
static void blocks_free(block *x) {
  while (x) {
    block *next = (block *)x->b.next;
    pages_free(x->b.p, x->b.bytes);
    free(x);
    x = next;
  }
}

/* ---- under the lock: the cache of large blocks ---------------------------------------------- */

/* Eight bins to an octave of sizes */
static int bin_of(size_t bytes) {
  size_t n = bytes / PAGE;
  if (n < 16) return (int)n;
  int e = 60 - __builtin_clzll(n);
  return 8 * e + (int)(n >> e);
}

static void cache_put(block *x) {
  int i = bin_of(x->b.bytes);
  x->prev = NULL;
  x->b.next = (buffer *)bin[i];
  if (bin[i]) bin[i]->prev = x;
  bin[i] = x;
  x->newer = NULL;
  x->older = newest;
  if (newest) newest->newer = x;
  else oldest = x;
  newest = x;
  stat.cached += x->b.bytes;
}

static void cache_take(block *x) {
  block *next = (block *)x->b.next;
  if (next) next->prev = x->prev;
  if (x->prev) x->prev->b.next = (buffer *)next;
  else bin[bin_of(x->b.bytes)] = next;
  if (x->newer) x->newer->older = x->older;
  else newest = x->older;
  if (x->older) x->older->newer = x->newer;
  else oldest = x->newer;
  stat.cached -= x->b.bytes;
}

/* The smallest of the first few that fit */
static block *cache_find(size_t bytes) {
  size_t most = bytes + bytes / 8;
  for (int i = bin_of(bytes), last = bin_of(most); i <= last; i++) {
    block *best = NULL, *x = bin[i];
    for (int n = 0; x && n < LOOK; n++, x = (block *)x->b.next) {
      if (x->b.bytes == bytes) return x;
      if (x->b.bytes > bytes && x->b.bytes <= most && (!best || x->b.bytes < best->b.bytes))
        best = x;
    }
    if (best) return best;
  }
  return NULL;
}

/* Take the oldest out of the cache until live + cached is at most `bytes`; for blocks_free. */
static block *evict(size_t bytes) {
  block *out = NULL;
  while (oldest && stat.live + stat.cached > bytes) {
    block *x = oldest;
    cache_take(x);
    x->b.next = (buffer *)out;
    out = x;
  }
  return out;
}

/* The bound of live + cached once live has become `live` */
static size_t bound(size_t live) {
  size_t most = (live > high ? live : high) + SLACK;
  return stat.limit && stat.limit < most ? stat.limit : most;
}

/* Count `bytes` as live, if the limit lets us. */
static bool reserve(size_t bytes) {
  if (stat.limit && stat.live + bytes > stat.limit) return false;
  stat.live += bytes;
  return true;
}

static void count(size_t bytes) {
  if (stat.live > high) high = stat.live;
  if (stat.live > stat.peak) stat.peak = stat.live;
  __atomic_store_n(&stat.total, stat.total + bytes, __ATOMIC_RELAXED);
}

/* ---- small blocks --------------------------------------------------------------------------- */

static void small_put(block *x, int lines) {
  x->b.next = freed[lines];
  freed[lines] = &x->b;
}

/* Make a block of the next lines of the newest slab. */
static block *small_cut(int lines) {
  block *x = (block *)fresh;
  fresh += lines * LINE;
  fresh_lines -= lines;
  x->slab = slabs;
  x->b = (buffer){.bytes = (size_t)(lines - 1) * LINE, .p = x + 1};
  return x;
}

/* The rest of a slab becomes a free block: no line is lost. */
static void close_slab(void) {
  int lines = fresh_lines;
  if (lines) small_put(small_cut(lines), lines);
}

static bool new_slab(void) {
  slab *s = aligned_alloc(LINE, SLAB);
  if (!s) return false;
  close_slab();
  s->next = slabs;
  slabs = s;
  fresh = (char *)s + LINE;
  fresh_lines = SLAB / LINE - 1;
  stat.cached += SLAB;
  return true;
}

static block *small_take(int lines) {
  size_t whole = (size_t)lines * LINE;
  block *x = (block *)freed[lines];
  if (!x && fresh_lines < lines && !new_slab()) return NULL;
  if (!reserve(whole)) return NULL;
  if (x) freed[lines] = x->b.next;
  else x = small_cut(lines);
  stat.cached -= whole;
  count(whole);
  return x;
}

static block *small_new(size_t bytes) {
  take_lock();
  block *x = small_take((int)((bytes + LINE - 1) / LINE) + 1);
  drop_lock();
  return x;
}

/* Give back the slabs all of whose lines are free. */
static void trim_slabs(void) {
  for (slab *s = slabs; s; s = s->next) s->free = s == slabs ? fresh_lines : 0;
  for (int n = 1; n <= NSMALL; n++)
    for (buffer *b = freed[n]; b; b = b->next) ((block *)b)->slab->free += n;
  for (int n = 1; n <= NSMALL; n++)
    for (buffer **at = &freed[n]; *at;)
      if (((block *)*at)->slab->free == SLAB / LINE - 1) *at = (*at)->next;
      else at = &(*at)->next;
  for (slab **at = &slabs; *at;) {
    slab *s = *at;
    if (s->free == SLAB / LINE - 1) {
      if (s == slabs) fresh_lines = 0;
      *at = s->next;
      SHOW(s, SLAB);
      free(s);
      stat.cached -= SLAB;
    } else {
      at = &s->next;
    }
  }
}

/* ---- buffers -------------------------------------------------------------------------------- */

static block *large_system(size_t bytes) {
  void *p = pages_new(bytes);
  block *x = p ? malloc(sizeof *x) : NULL;
  if (x) x->b = (buffer){.bytes = bytes, .p = p};
  else if (p) pages_free(p, bytes);
  return x;
}

static block *large_new(size_t bytes) {
  bytes = (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
  take_lock();
  block *x = cache_find(bytes);
  bool ok = reserve(x ? x->b.bytes : bytes);
  block *old = ok && !x ? evict(bound(stat.live)) : NULL;
  if (ok && x) {
    cache_take(x);
    count(x->b.bytes);
  }
  drop_lock();
  if (!ok || x) return ok ? x : NULL;
  blocks_free(old);
  x = large_system(bytes);
  take_lock();
  if (x) count(bytes);
  else stat.live -= bytes;
  drop_lock();
  return x;
}

buffer *buf_new(ctx *c, size_t bytes) {
  block *x = NULL;
  if (!mem_refuse() && bytes <= PTRDIFF_MAX - PAGE) {
    block *(*get)(size_t) = bytes <= (NSMALL - 1) * LINE ? small_new : large_new;
    x = get(bytes);
    if (!x) mem_trim(), x = get(bytes);
  }
  if (!x) return fail_memory(c, bytes), NULL;
  SHOW(x->b.p, x->b.bytes);
  x->b.refs = 1;
  return &x->b;
}

buffer *buf_wrap(ctx *c, void *p, size_t bytes, void (*release)(void *p, void *arg), void *arg) {
  buffer *b = mg_alloc(c, sizeof *b);
  if (b) *b = (buffer){.refs = 1, .bytes = bytes, .p = p, .release = release, .arg = arg};
  return b;
}

void buf_ref(buffer *b) { __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED); }

void buf_unref(buffer *b) {
  /* who reads 1 holds the only one: no need to write */
  if (__atomic_load_n(&b->refs, __ATOMIC_ACQUIRE) != 1 &&
      __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  if (b->release) {
    b->release(b->p, b->arg);
    mg_free(b);
    return;
  }
  block *x = (block *)b;
  HIDE(b->p, b->bytes);
  take_lock();
  if (b->p == x + 1) {
    size_t whole = b->bytes + LINE;
    stat.live -= whole;
    stat.cached += whole;
    small_put(x, (int)(whole / LINE));
  } else {
    stat.live -= b->bytes;
    cache_put(x);
  }
  drop_lock();
}

size_t buf_live(const buffer *b) {
  return b->release ? 0 : b->bytes + (b->p == (const block *)b + 1 ? LINE : 0);
}

void mem_stat(memstat *m) {
  take_lock();
  *m = stat;
  drop_lock();
}

uint64_t mem_total(void) { return __atomic_load_n(&stat.total, __ATOMIC_RELAXED); }

void mem_reset_peak(void) {
  take_lock();
  high = stat.peak = stat.live;
  block *old = evict(bound(stat.live));
  drop_lock();
  blocks_free(old);
}

void mem_limit(size_t bytes) {
  take_lock();
  stat.limit = bytes;
  block *old = evict(bound(stat.live));
  drop_lock();
  blocks_free(old);
}

__attribute__((destructor)) static void trim(void) {
  take_lock();
  high = stat.live;
  block *old = evict(0);
  trim_slabs();
  drop_lock();
  blocks_free(old);
}

void mem_trim(void) {
  trim();
  malloc_trim(0);
}

/* ---- small blocks of the graph's own --------------------------------------------------------- */

void *mg_alloc(ctx *c, size_t bytes) {
  void *p = mem_refuse() ? NULL : malloc(bytes ? bytes : 1);
  if (!p) fail_memory(c, bytes);
  return p;
}

void mg_free(void *p) { free(p); }

bool mg_grow(ctx *c, void **list, size_t *room, size_t bytes) {
  if (bytes <= *room) return true;
  size_t more = *room ? 2 * *room : 1024;
  while (more < bytes) more *= 2;
  void *p = mg_alloc(c, more);
  if (!p) return false;
  if (*room) memcpy(p, *list, *room);
  mg_free(*list);
  *list = p;
  *room = more;
  return true;
}

void mem_fail_at(int64_t n, int64_t times) {
  atomic_store(&fail_until, n > 0 ? 1 - times : 0);
  atomic_store(&fail_in, n);
}

bool mem_refuse(void) {
  return atomic_load_explicit(&fail_in, memory_order_relaxed) >
             atomic_load_explicit(&fail_until, memory_order_relaxed) &&
         atomic_fetch_sub(&fail_in, 1) <= 1;
}
