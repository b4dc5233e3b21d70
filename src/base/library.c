/* library.c -- shared libraries, opened at first use.
**
** The core links none of the large ones: what never multiplies matrices never loads a BLAS. A library once
** opened stays, since its threads may outlive the Lua state that wanted it.
*/
#define _GNU_SOURCE
#include <dlfcn.h>

#include "base/base.h"

void *library_open(const char *file, const symbol *symbols) {
  void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  for (const symbol *s = symbols; s->name; s++) *(void **)s->at = lib ? dlsym(lib, s->name) : NULL;
  return lib;
}
