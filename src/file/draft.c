/* draft.c -- a file that comes whole or not at all: written without a name, brought to the disk,
** then given another name beside its place and renamed. Where the file system has no files without
** names it has the other name from the beginning; elsewhere nothing is left of a process that is
** killed while it writes.
**
** The folder is opened once, so that the place stays the place whatever is renamed meanwhile. The
** other name is random and must be new, so nobody's link is followed and several writers do not meet.
*/
#define _GNU_SOURCE
#include "file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static bool trouble(ctx *c) {
  return errno == ENOMEM ? fail_memory(c, 0) : fail(c, "%s", strerror(errno));
}

static bool cannot_write(ctx *c, const char *path) {
  return fail(c, "cannot write %.300s: %s", path, strerror(errno));
}

/* The end of the chain of symbolic links at path, there or not; to be freed. */
static char *final_path(ctx *c, const char *path) {
  char target[PATH_MAX], *at = strdup(path);
  for (int links = 0; at; links++) {
    ssize_t n = readlink(at, target, sizeof target - 1);
    if (n < 0) return at;
    target[n] = 0;
    char *slash = strrchr(at, '/'), *next = NULL;
    int folder = target[0] == '/' || !slash ? 0 : (int)(slash - at) + 1;
    if (links == 40) errno = ELOOP;
    else if (asprintf(&next, "%.*s%s", folder, at, target) < 0) next = NULL, errno = ENOMEM;
    free(at);
    at = next;
  }
  cannot_write(c, path);
  return NULL;
}

/* Of what is to be replaced: may it be, and what goes over to the new file? */
static bool inherit(ctx *c, draft *o, const char *path) {
  struct stat st;
  if (fstatat(o->dir, o->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? true : cannot_write(c, path);
  if (S_ISDIR(st.st_mode)) return fail(c, "%.300s: it is a directory", path);
  if (!S_ISREG(st.st_mode)) return fail(c, "%.300s: it is no regular file", path);
  if (faccessat(o->dir, o->name, W_OK, AT_EACCESS) < 0) return cannot_write(c, path);
  o->replaces = true;
  o->mode = st.st_mode & 07777;
  o->uid = st.st_uid;
  o->gid = st.st_gid;
  return true;
}

static mode_t first_mode(const draft *o) { return o->replaces ? 0600 : 0666; }

/* A new name for the file, which is made if it is not there yet; errno says why not. */
static bool give_name(draft *o) {
  char here[64];
  snprintf(here, sizeof here, "/proc/self/fd/%d", o->fd);
  for (int tries = 0; tries < 100; tries++) {
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != sizeof random) return false;
    if (asprintf(&o->temporary, "%.200s.%016llx.tmp", o->name, (unsigned long long)random) < 0)
      return o->temporary = NULL, errno = ENOMEM, false;
    if (o->fd >= 0) {
      if (linkat(AT_FDCWD, here, o->dir, o->temporary, AT_SYMLINK_FOLLOW) == 0) return true;
    } else {
      o->fd = openat(o->dir, o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                     first_mode(o));
      if (o->fd >= 0) return true;
    }
    int err = errno;
    free(o->temporary);
    o->temporary = NULL;
    if ((errno = err) != EEXIST && err != EINTR) return false;
  }
  return false;
}

static bool create(ctx *c, draft *o, const char *path) {
  if (access("/proc/self/fd", X_OK) == 0) /* by which it is named later */
    o->fd = openat(o->dir, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, first_mode(o));
  if (o->fd >= 0 || give_name(o)) return true;
  return errno == ENOMEM ? fail_memory(c, NAME_MAX) : cannot_write(c, path);
}

static bool open_folder(ctx *c, draft *o, char *place, const char *path) {
  char *slash = strrchr(place, '/');
  o->name = strdup(slash ? slash + 1 : place);
  if (slash) slash[slash == place] = 0; /* "/x" lies in "/" */
  const char *folder = slash ? place : ".";
  if (!o->name) return fail_memory(c, NAME_MAX);
  if (!*o->name) return fail(c, "%.300s: it is a directory", path);
  o->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (o->dir < 0 && errno == EACCES) o->dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  return o->dir >= 0 ? true : cannot_write(c, path);
}

bool draft_open(ctx *c, draft *o, const char *path) {
  *o = (draft){.fd = -1, .dir = -1, .pid = getpid()};
  char *place = final_path(c, path);
  bool ok = place && open_folder(c, o, place, path) && inherit(c, o, path) && create(c, o, path);
  free(place);
  if (!ok) draft_close(o);
  return ok;
}

bool draft_patch(ctx *c, draft *o, int64_t at, const void *p, int64_t n) {
  while (n > 0) {
    ssize_t put = pwrite(o->fd, p, n, at);
    if (put < 0 && errno == EINTR) continue;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) return trouble(c);
    p = (const char *)p + put;
    at += put;
    n -= put;
  }
  return true;
}

bool draft_write(ctx *c, draft *o, const void *p, int64_t n) {
  if (!draft_patch(c, o, o->at, p, n)) return false;
  o->at += n;
  return true;
}

/* Where a file system has no such thing there is nothing to wait for. */
static bool reach_disk(int fd) {
  int err;
  do err = fsync(fd);
  while (err < 0 && errno == EINTR);
  return err == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS || errno == EBADF;
}

bool draft_commit(ctx *c, draft *o) {
  if (o->replaces) { /* the owner as far as we may */
    struct stat st;
    if (fchown(o->fd, o->uid, o->gid) < 0) errno = 0;
    if (fstat(o->fd, &st) < 0) return trouble(c);
    /* Where all files have one mode and the mount's owner none but he may set it. */
    if ((st.st_mode & 07777) != o->mode && fchmod(o->fd, o->mode) < 0) return trouble(c);
  }
  if (!reach_disk(o->fd) || (!o->temporary && !give_name(o))) return trouble(c);
  int fd = o->fd;
  o->fd = -1;
  if (close(fd) < 0 && errno != EINTR) return trouble(c);
  if (renameat(o->dir, o->temporary, o->dir, o->name) < 0) return trouble(c);
  free(o->temporary);
  o->temporary = NULL;
  return reach_disk(o->dir) ? true : trouble(c);
}

void draft_close(draft *o) {
  if (o->fd >= 0) close(o->fd);
  if (o->temporary && o->pid == getpid()) unlinkat(o->dir, o->temporary, 0);
  if (o->dir >= 0) close(o->dir);
  free(o->temporary);
  free(o->name);
  *o = (draft){.fd = -1, .dir = -1};
}
