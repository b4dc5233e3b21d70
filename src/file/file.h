/* file.h -- bytes outside: how numbers are stored in files, streams out of them, files that come whole
** or not at all.
**
** A floor beside the arrays: it knows base alone. What fails says so in the ctx, without the path.
*/
#ifndef MG_FILE_H
#define MG_FILE_H

#include "base/base.h"

/* ---- storage: dtypes in files (storage.c) ---------------------------------------------------- */

/* Little-endian; our own dtypes are the first. */
typedef enum {
  S_F64, S_F32, S_I64, S_U8, S_BOOL,
  S_F16, S_BF16, S_I8, S_I16, S_I32, S_U16, S_U32, S_U64, NSTORAGE
} storage;

extern const char *const storage_name[NSTORAGE];
extern const uint8_t storage_size[NSTORAGE];
int storage_find(const char *name);          /* -1 where there is none of that name */
dtype storage_dtype(storage s);              /* what its values become here */

void storage_swap(storage s, void *p, int64_t n);   /* between byte orders, in place */
/* n values; dst is aligned and apart from src. The position of the first that the result cannot
** hold, or -1. Floats round (to a whole number: to even); whole numbers must be exact. */
int64_t storage_decode(storage s, const void *src, void *dst, int64_t n);
int64_t storage_encode(storage s, dtype from, const void *src, void *dst, int64_t n);

/* ---- streams: a part of a file, as it lies or inflated (stream.c) ---------------------------- */

typedef enum { RAW, DEFLATE, GZIP } packing;

typedef struct stream {
  int fd;                     /* the caller's */
  int64_t at, end;            /* of the part: what has not been read yet */
  int64_t left;               /* bytes it has yet to give; GZIP: -1, nobody knows */
  uint32_t crc;               /* of what it gave, where `sum` */
  bool sum;
  struct inflater *z;         /* NULL: RAW */
} stream;

/* The bytes at..end of fd; those of DEFLATE are to become `size`. */
bool stream_open(ctx *c, stream *s, int fd, int64_t at, int64_t end, packing how, int64_t size);
void stream_close(stream *s);
bool stream_read(ctx *c, stream *s, void *p, int64_t n);     /* all n or an error */
/* At most n; how many, 0 at the end, -1: an error. */
int64_t stream_some(ctx *c, stream *s, void *p, int64_t n);
bool stream_done(ctx *c, stream *s);         /* all of it has been read, and it ends as it should */
bool file_sum(ctx *c, uint32_t *crc, const void *p, int64_t n);   /* goes on with a CRC-32 */

uint32_t file_crc32c(const void *p, int64_t n);                   /* of all of it (crc.c) */

/* Opens a regular file and says its size; -1: an error, which names the path. */
int file_open(ctx *c, const char *path, int64_t *size);

/* ---- files that replace others as a whole (draft.c) ----------------------------------------- */

typedef struct draft {
  int fd, dir;                /* -1: closed */
  int pid;                    /* who made it: no child takes it away */
  int64_t at;                 /* how much was written */
  char *temporary, *name;     /* in dir */
  bool replaces;
  uint32_t mode, uid, gid;    /* of the file that it replaces */
} draft;

/* A new file beside `path` (the file that a symbolic link leads to), which takes its place with
** draft_commit, and is gone after draft_close without. The error of draft_open names the path. */
bool draft_open(ctx *c, draft *o, const char *path);
bool draft_write(ctx *c, draft *o, const void *p, int64_t n);
bool draft_patch(ctx *c, draft *o, int64_t at, const void *p, int64_t n);   /* over what was written */
bool draft_commit(ctx *c, draft *o);
void draft_close(draft *o);

#endif
