/* status.c -- errors: what failed first, in words.
**
** Until the binding has raised and cleared an error, later ones do not overwrite it: the first says why.
*/
#include "base/base.h"

#include <stdio.h>

static bool vfail(ctx *c, int err, const char *fmt, va_list ap) {
  if (c->err == OK) {
    c->err = err;
    vsnprintf(c->msg, sizeof c->msg, fmt, ap);
  }
  return false;
}

bool fail(ctx *c, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfail(c, E_VALUE, fmt, ap);
  va_end(ap);
  return false;
}

__attribute__((format(printf, 2, 3))) static bool memory(ctx *c, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfail(c, E_MEMORY, fmt, ap);
  va_end(ap);
  return false;
}

bool fail_memory(ctx *c, size_t bytes) {
  memstat m;
  mem_stat(&m);
  if (m.limit)
    return memory(c, "out of memory: %zu bytes wanted, %zu in use, the limit is %zu", bytes, m.live,
                  m.limit);
  return memory(c, "out of memory: %zu bytes wanted, %zu in use", bytes, m.live);
}
