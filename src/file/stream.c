/* stream.c -- reading a part of a file from its beginning to its end, inflated where it is packed.
**
** Read by position, so that several streams share a file; what others cut off meanwhile is an end
** that comes too early, no fault. zlib is opened at first use.
*/
#define _GNU_SOURCE
#include "file/file.h"
#include "file/zip.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 16 };

typedef struct inflater {
  z_stream z;
  bool gzip, ended;
  uint8_t in[CHUNK];
} inflater;

bool stream_open(ctx *c, stream *s, int fd, int64_t at, int64_t end, packing how, int64_t size) {
  *s = (stream){.fd = fd, .at = at, .end = end, .left = how == RAW ? end - at : size};
  if (how == RAW) return true;
  const zip *lib = zip_open(c);
  if (!lib || !(s->z = mg_alloc(c, sizeof *s->z))) return false;
  memset(&s->z->z, 0, sizeof s->z->z);
  s->z->z.zalloc = zip_alloc;
  s->z->z.zfree = zip_free;
  s->z->gzip = how == GZIP;
  s->z->ended = false;
  if (how == GZIP) s->left = -1;
  /* 15: the largest window; negative: no header; + 16: gzip's */
  int err = lib->inflate_init(&s->z->z, how == GZIP ? 15 + 16 : -15, ZLIB_VERSION, sizeof s->z->z);
  if (err == Z_OK) return true;
  mg_free(s->z);
  s->z = NULL;
  return err == Z_MEM_ERROR ? fail_memory(c, 1 << 15) : fail(c, "zlib is of another version");
}

void stream_close(stream *s) {
  if (!s->z) return;
  zip_open(NULL)->inflate_end(&s->z->z);
  mg_free(s->z);
  s->z = NULL;
}

/* At most n bytes of the part as it lies; -1: an error. */
static int64_t take(ctx *c, stream *s, void *p, int64_t n) {
  n = least(n, s->end - s->at);
  if (n == 0) return 0;
  ssize_t got;
  do got = pread(s->fd, p, n, s->at);
  while (got < 0 && errno == EINTR);
  if (got < 0) return fail(c, "%s", strerror(errno)), -1;
  if (got == 0) return fail(c, "it ends too early"), -1;
  s->at += got;
  return got;
}

static int64_t damaged(ctx *c) { return fail(c, "compressed data is damaged"), -1; }

/* More packed bytes: how many, 0 at the end, -1: an error. */
static int64_t refill(ctx *c, stream *s) {
  int64_t got = take(c, s, s->z->in, CHUNK);
  if (got < 0) return -1;
  s->z->z.next_in = s->z->in;
  s->z->z.avail_in = (uInt)got;
  return got;
}

/* A gzip file may be several, one after the other, with zeros behind each: is there another? -1: an
** error. */
static int another(ctx *c, stream *s) {
  z_stream *z = &s->z->z;
  if (!s->z->gzip) return 0;
  for (;;) {
    while (z->avail_in > 0 && *z->next_in == 0) z->next_in++, z->avail_in--;
    if (z->avail_in > 0) return 1;
    int64_t got = refill(c, s);
    if (got <= 0) return (int)got;
  }
}

/* At most n bytes more; 0 where the packed data end. */
static int64_t inflate_some(ctx *c, stream *s, void *p, int64_t n) {
  inflater *z = s->z;
  const zip *lib = zip_open(c);
  z->z.next_out = p;
  z->z.avail_out = (uInt)least(n, 1 << 30);
  uInt room = z->z.avail_out;
  while (z->z.avail_out == room && !z->ended) {
    if (z->z.avail_in == 0 && refill(c, s) < 0) return -1;
    int err = lib->inflate(&z->z, Z_NO_FLUSH);
    if (err == Z_MEM_ERROR) return fail_memory(c, 1 << 15), -1;
    if (err == Z_STREAM_END) {
      int more = another(c, s);
      if (more < 0) return -1;
      if (!more) z->ended = true;
      else if (lib->inflate_reset(&z->z) != Z_OK) return damaged(c);
    } else if (err != Z_OK) return damaged(c); /* Z_BUF_ERROR: it ends too early */
  }
  return room - z->z.avail_out;
}

int64_t stream_some(ctx *c, stream *s, void *p, int64_t n) {
  if (s->left >= 0) n = least(n, s->left);
  if (n == 0) return 0;
  int64_t got = s->z ? inflate_some(c, s, p, n) : take(c, s, p, n);
  if (got == 0 && s->left > 0) return damaged(c);
  if (got <= 0) return got;
  if (s->left > 0) s->left -= got;
  if (s->sum && !file_sum(c, &s->crc, p, got)) return -1;
  return got;
}

bool stream_read(ctx *c, stream *s, void *p, int64_t n) {
  while (n > 0) {
    int64_t got = stream_some(c, s, p, n);
    if (got < 0) return false;
    if (got == 0) return fail(c, "it ends too early");
    p = (char *)p + got;
    n -= got;
  }
  return true;
}

bool stream_done(ctx *c, stream *s) {
  uint8_t more;
  if (s->left > 0) return fail(c, "%lld bytes are left over", (long long)s->left);
  if (!s->z) return true;
  if (!s->z->ended) {
    int64_t got = inflate_some(c, s, &more, 1);
    if (got < 0) return false;
    if (got > 0) return fail(c, "compressed data is longer than it says");
  }
  if (s->z->z.avail_in || s->at < s->end)
    return fail(c, "bytes are left over after the compressed data");
  return true;
}

bool file_sum(ctx *c, uint32_t *crc, const void *p, int64_t n) {
  const zip *lib = zip_open(c);
  if (!lib) return false;
  for (int64_t k; n > 0; n -= k, p = (const char *)p + k) {
    k = least(n, 1 << 30);
    *crc = (uint32_t)lib->crc32(*crc, p, (uInt)k);
  }
  return true;
}

/* Nothing blocks here: a FIFO without a writer is opened and refused. What a kernel makes up, as in
** /proc, has no size. */
int file_open(ctx *c, const char *path, int64_t *size) {
  struct stat st;
  int fd;
  char more;
  do fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail(c, "cannot open %.300s: %s", path, strerror(errno)), -1;
  const char *problem = fstat(fd, &st) < 0     ? strerror(errno)
                        : S_ISDIR(st.st_mode)  ? "it is a directory"
                        : !S_ISREG(st.st_mode) ? "it is no regular file"
                        : st.st_size == 0 && pread(fd, &more, 1, 0) > 0
                            ? "it has more bytes than it says"
                            : NULL;
  if (!problem) {
    *size = st.st_size;
    return fd;
  }
  close(fd);
  return fail(c, "%.300s: %s", path, problem), -1;
}
