/* zip.h -- zlib, opened at first use. */
#ifndef MG_ZIP_H
#define MG_ZIP_H

#include <zlib.h>

#include "file/file.h"

typedef struct zip {
  int (*inflate_init)(z_stream *z, int bits, const char *version, int size);
  int (*inflate)(z_stream *z, int flush);
  int (*inflate_reset)(z_stream *z);
  int (*inflate_end)(z_stream *z);
  int (*deflate_init)(z_stream *z, int level, const char *version, int size);
  int (*deflate)(z_stream *z, int flush);
  int (*deflate_end)(z_stream *z);
  uLong (*crc32)(uLong crc, const Bytef *p, uInt n);
} zip;

const zip *zip_open(ctx *c);                 /* NULL: it is not there */
void *zip_alloc(void *none, uInt n, uInt size);  /* of the core's memory */
void zip_free(void *none, void *p);

#endif
