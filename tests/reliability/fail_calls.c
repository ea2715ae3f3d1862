// A preloaded library that makes one chosen file-system call fail: the k-th of those that touch what lies below a folder.
//
// arm(root, k, how) counts from 1; the call number k fails as `how` says, all others go through:
//   an errno (ENOSPC, EIO, EINTR, ...)   the call does nothing and returns it; a close closes all the same, as Linux does
//   a negative errno                      the same for call k and all after it: the disk stays full
//   0                                     nothing fails; count() tells how many calls there were
//   kShort                                a write writes half of what it was given; other calls go through
//   kKill                                 the process is killed (SIGKILL) before the call
// Calls on a descriptor count where its file was opened below the root. Build: cc -shared -fPIC -O1 -o fail_calls.so fail_calls.c -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { kShort = 10001, kKill = 10002, kDescriptors = 65536 };

static char root[4096];
static size_t root_length;
static atomic_long calls;
static long chosen;
static int how;
static _Atomic char ours[kDescriptors];

void arm(const char* folder, long k, int failure) {
  strncpy(root, folder, sizeof root - 1);
  root_length = strlen(root);
  calls = 0;
  chosen = k;
  how = failure;
}

long count(void) { return calls; }

static int below(const char* path) {
  return root_length && path && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int is_ours(int descriptor) { return descriptor >= 0 && descriptor < kDescriptors && ours[descriptor]; }

// What this call is to do: 0 goes through, an errno fails, kShort shortens.
static int fate(void) {
  const long number = ++calls;
  if (!how) return 0;
  if (how < 0) return number >= chosen ? -how : 0;
  if (number != chosen) return 0;
  if (how == kKill) kill(getpid(), SIGKILL);
  return how;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, #name)
#define FAIL_UNLESS_SHORT(result) \
  do { \
    const int failure = fate(); \
    if (failure && failure != kShort) { \
      errno = failure; \
      return result; \
    } \
  } while (0)

static int opened(int descriptor) {
  if (descriptor >= 0 && descriptor < kDescriptors) ours[descriptor] = 1;
  return descriptor;
}

#define OPEN(name) \
  int name(const char* path, int flags, ...) { \
    REAL(name); \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
      va_list rest; \
      va_start(rest, flags); \
      mode = va_arg(rest, mode_t); \
      va_end(rest); \
    } \
    if (!below(path)) return real(path, flags, mode); \
    FAIL_UNLESS_SHORT(-1); \
    return opened(real(path, flags, mode)); \
  }
OPEN(open)
OPEN(open64)

ssize_t write(int descriptor, const void* bytes, size_t size) {
  REAL(write);
  if (!is_ours(descriptor)) return real(descriptor, bytes, size);
  const int failure = fate();
  if (failure == kShort) return real(descriptor, bytes, size > 1 ? size / 2 : size);
  if (failure) {
    errno = failure;
    return -1;
  }
  return real(descriptor, bytes, size);
}

#define ON_DESCRIPTOR(name) \
  int name(int descriptor) { \
    REAL(name); \
    if (is_ours(descriptor)) FAIL_UNLESS_SHORT(-1); \
    return real(descriptor); \
  }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

int close(int descriptor) {
  REAL(close);
  if (!is_ours(descriptor)) return real(descriptor);
  ours[descriptor] = 0;
  const int failure = fate(), result = real(descriptor);
  if (failure && failure != kShort) {
    errno = failure;
    return -1;
  }
  return result;
}

int rename(const char* from, const char* to) {
  REAL(rename);
  if (below(from) || below(to)) FAIL_UNLESS_SHORT(-1);
  return real(from, to);
}

int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) {
  REAL(linkat);
  if (below(to)) FAIL_UNLESS_SHORT(-1);
  return real(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) {
  REAL(mkdir);
  if (below(path)) FAIL_UNLESS_SHORT(-1);
  return real(path, mode);
}

int unlink(const char* path) {
  REAL(unlink);
  if (below(path)) FAIL_UNLESS_SHORT(-1);
  return real(path);
}
