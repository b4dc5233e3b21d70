/* nodemap.c -- where a node stands in a list: a hash table by addresses.
**
** Open addressing, at most half full. Nodes are not held: whoever has the list does that.
*/
#include <string.h>

#include "graph/internal.h"

struct spot {
  const node *n; /* NULL: free */
  int place;
};

/* That of n, or a free one where it would be */
static struct spot *find(const nodemap *m, const node *n) {
  uint32_t last = (uint32_t)m->cap - 1;
  uint32_t i = (uint32_t)((uintptr_t)n / sizeof *n * 0x9E3779B97F4A7C15ull >> 33) & last;
  while (m->v[i].n && m->v[i].n != n) i = (i + 1) & last;
  return &m->v[i];
}

int nodemap_get(const nodemap *m, const node *n) {
  const struct spot *s = m->cap ? find(m, n) : NULL;
  return s && s->n ? s->place : -1;
}

static bool grow(ctx *c, nodemap *m) {
  nodemap more = {.n = m->n, .cap = m->cap ? 2 * m->cap : 32};
  if (!(more.v = mg_alloc(c, more.cap * sizeof *more.v))) return false;
  memset(more.v, 0, more.cap * sizeof *more.v);
  for (int i = 0; i < m->cap; i++)
    if (m->v[i].n) *find(&more, m->v[i].n) = m->v[i];
  mg_free(m->v);
  *m = more;
  return true;
}

bool nodemap_put(ctx *c, nodemap *m, const node *n, int place) {
  if (2 * (m->n + 1) > m->cap && !grow(c, m)) return false;
  *find(m, n) = (struct spot){n, place};
  m->n++;
  return true;
}

void nodemap_free(nodemap *m) {
  mg_free(m->v);
  *m = (nodemap){0};
}
