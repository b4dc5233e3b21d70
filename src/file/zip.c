/* zip.c -- zlib, by dlopen: a start without files does not pay for it. */
#include "file/zip.h"

#include <dlfcn.h>
#include <pthread.h>

static zip lib;
static bool found;

static void open_lib(void) {
  static const struct {
    const char *name;
    size_t at;
  } symbols[] = {
      {"inflateInit2_", offsetof(zip, inflate_init)}, {"inflate", offsetof(zip, inflate)},
      {"inflateReset", offsetof(zip, inflate_reset)}, {"inflateEnd", offsetof(zip, inflate_end)},
      {"deflateInit_", offsetof(zip, deflate_init)},  {"deflate", offsetof(zip, deflate)},
      {"deflateEnd", offsetof(zip, deflate_end)},     {"crc32", offsetof(zip, crc32)}};
  void *so = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
  found = so != NULL;
  for (size_t i = 0; found && i < sizeof symbols / sizeof *symbols; i++) {
    void *f = dlsym(so, symbols[i].name);
    *(void **)((char *)&lib + symbols[i].at) = f;
    found = f != NULL;
  }
}

const zip *zip_open(ctx *c) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_lib);
  if (!found && c) fail(c, "it needs zlib (libz.so.1; Debian package zlib1g)");
  return found ? &lib : NULL;
}

void *zip_alloc(void *none, uInt n, uInt size) {
  (void)none;
  ctx c = {0};
  return mg_alloc(&c, (size_t)n * size);
}

void zip_free(void *none, void *p) {
  (void)none;
  mg_free(p);
}
