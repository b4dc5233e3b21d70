/* status.c -- errors: what failed first, in words.
**
** Until the binding has raised and cleared an error, later ones do not overwrite it: the first says why.
** Numbers have a point, whatever the program's locale says of them.
*/
#define _GNU_SOURCE
#include "base/base.h"

#include <locale.h>
#include <stdio.h>

void *point_begin(void) {
  static locale_t plain; /* one and the same, whoever makes it */
  if (!plain) plain = newlocale(LC_ALL_MASK, "C", NULL);
  return uselocale(plain);
}
void point_end(void *was) { uselocale(was); }

int print_text(char *buf, size_t size, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vprint_text(buf, size, fmt, ap);
  va_end(ap);
  return n;
}

int vprint_text(char *buf, size_t size, const char *fmt, va_list ap) {
  void *was = point_begin();
  int n = vsnprintf(buf, size, fmt, ap);
  point_end(was);
  return n;
}

static bool vfail(ctx *c, int err, const char *fmt, va_list ap) {
  if (c->err == OK) {
    c->err = err;
    vprint_text(c->msg, sizeof c->msg, fmt, ap);
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
