// A preloaded library that makes one chosen allocation of warploom's native code fail: the k-th of those that its libraries, or the C++
// library on their behalf, ask for by new, malloc and its kin, mmap, or that a new thread is.
//
// arm(k) counts from 1; allocation number k fails as it does where there is no memory, all others go through. arm(0): none fails.
// disarm() ends the count. allocations() tells how many there were. Python's own allocations, and those of other packages, do not count.
// Build: c++ -shared -fPIC -O1 -std=c++17 -o fail_allocations.so fail_allocations.cpp -ldl
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {
constexpr int kMostRanges = 256;
struct {
  uintptr_t begin, end;
} ranges[kMostRanges];
int range_count = 0;
std::atomic<bool> armed{false};
std::atomic<long> count{0};
long chosen = 0;

int note_range(dl_phdr_info* info, size_t, void*) {
  if (!std::strstr(info->dlpi_name, "warploom/") && !std::strstr(info->dlpi_name, "libstdc++")) return 0;
  for (int i = 0; i < info->dlpi_phnum && range_count < kMostRanges; ++i) {
    const auto& h = info->dlpi_phdr[i];
    if (h.p_type != PT_LOAD || !(h.p_flags & PF_X)) continue;
    const uintptr_t begin = info->dlpi_addr + h.p_vaddr;
    ranges[range_count++] = {begin, begin + h.p_memsz};
  }
  return 0;
}

bool fails(const void* caller) {
  if (!armed.load(std::memory_order_relaxed)) return false;
  const auto at = reinterpret_cast<uintptr_t>(caller);
  for (int i = 0; i < range_count; ++i)
    if (ranges[i].begin <= at && at < ranges[i].end) return ++count == chosen;
  return false;
}

// An exception that nobody catches ends the process: says where it was thrown.
[[noreturn]] void tell_where() {
  void* frames[40];
  backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
  std::abort();
}

void* failed() {
  errno = ENOMEM;
  return nullptr;
}

void* from_new(size_t size, size_t alignment, const void* caller) {
  if (fails(caller)) throw std::bad_alloc();
  void* p = alignment > alignof(std::max_align_t) ? __libc_memalign(alignment, size) : __libc_malloc(size ? size : 1);
  if (!p) throw std::bad_alloc();
  return p;
}
}  // namespace

#define CALLER __builtin_return_address(0)

extern "C" {
__attribute__((visibility("default"))) void arm(long k) {
  armed = false;
  std::set_terminate(tell_where);
  range_count = 0;
  dl_iterate_phdr(note_range, nullptr);
  count = 0;
  chosen = k;
  armed = true;
}
__attribute__((visibility("default"))) void disarm() { armed = false; }
__attribute__((visibility("default"))) long allocations() { return count; }

void* malloc(size_t size) { return fails(CALLER) ? failed() : __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return fails(CALLER) ? failed() : __libc_calloc(n, size); }
void* realloc(void* p, size_t size) { return fails(CALLER) ? failed() : __libc_realloc(p, size); }
void* aligned_alloc(size_t alignment, size_t size) { return fails(CALLER) ? failed() : __libc_memalign(alignment, size); }
int posix_memalign(void** to, size_t alignment, size_t size) {
  if (fails(CALLER)) return ENOMEM;
  void* p = __libc_memalign(alignment, size);
  if (!p) return ENOMEM;
  *to = p;
  return 0;
}
void* mmap(void* at, size_t size, int protection, int flags, int descriptor, off_t offset) {
  static const auto real = reinterpret_cast<decltype(&mmap)>(dlsym(RTLD_NEXT, "mmap"));
  if (fails(CALLER)) {
    failed();
    return MAP_FAILED;
  }
  return real(at, size, protection, flags, descriptor, offset);
}
int pthread_create(pthread_t* thread, const pthread_attr_t* how, void* (*body)(void*), void* argument) {
  static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return fails(CALLER) ? EAGAIN : real(thread, how, body, argument);
}
}

void* operator new(size_t size) { return from_new(size, 1, CALLER); }
void* operator new[](size_t size) { return from_new(size, 1, CALLER); }
void* operator new(size_t size, std::align_val_t a) { return from_new(size, static_cast<size_t>(a), CALLER); }
void* operator new[](size_t size, std::align_val_t a) { return from_new(size, static_cast<size_t>(a), CALLER); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return fails(CALLER) ? nullptr : __libc_malloc(size ? size : 1); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return fails(CALLER) ? nullptr : __libc_malloc(size ? size : 1);
}
