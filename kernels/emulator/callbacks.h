// callbacks.h - the names that GCC's instrumentation (-fsanitize=thread) calls, each handed to the including file's access(). Included
// once by checks.cpp and once by counting.cpp, at their end: both need it inlined.
//
// The including file defines, in namespace warploom::emulator: Kind; access<Kind, aligned>(pointer, bytes, caller), which precedes
// every access of a kernel to memory; Caller, and WL_CALLER, which makes one; time_for_others(fiber), whether a thread that reads a
// volatile lets the others run.
#pragma once

#define WL_CALLBACK extern "C" __attribute__((visibility("hidden"), used)) void
using warploom::emulator::access;
using warploom::emulator::Kind;
#define WL_ACCESS(n)                                                                                                   \
  WL_CALLBACK __tsan_read##n(void* p) { access<Kind::read, true>(p, n, WL_CALLER); }                                   \
  WL_CALLBACK __tsan_write##n(void* p) { access<Kind::write, true>(p, n, WL_CALLER); }                                 \
  WL_CALLBACK __tsan_unaligned_read##n(void* p) { access<Kind::read, false>(p, n, WL_CALLER); }                        \
  WL_CALLBACK __tsan_unaligned_write##n(void* p) { access<Kind::write, false>(p, n, WL_CALLER); }                      \
  WL_CALLBACK __tsan_volatile_read##n(void* p) { warploom::emulator::volatile_access<Kind::read, n>(p, WL_CALLER); }   \
  WL_CALLBACK __tsan_volatile_write##n(void* p) { warploom::emulator::volatile_access<Kind::write, n>(p, WL_CALLER); } \
  WL_CALLBACK __tsan_unaligned_volatile_read##n(void* p) { access<Kind::read, false>(p, n, WL_CALLER); }               \
  WL_CALLBACK __tsan_unaligned_volatile_write##n(void* p) { access<Kind::write, false>(p, n, WL_CALLER); }

namespace warploom {
namespace emulator {
namespace {
// A loop that waits for another thread's store reads a volatile: let the other one run.
template <Kind kind, size_t n>
void volatile_access(const void* p, Caller caller) {
  access<kind, true>(p, n, caller);
  Fiber* f = current_fiber();
  if (f && kind == Kind::read && time_for_others(f)) nap();
}
}  // namespace
}  // namespace emulator
}  // namespace warploom

WL_ACCESS(1)
WL_ACCESS(2)
WL_ACCESS(4)
WL_ACCESS(8)
WL_ACCESS(16)
WL_CALLBACK __tsan_read_range(void* p, size_t n) {
  if (n) access<Kind::read, false>(p, n, WL_CALLER);
}
WL_CALLBACK __tsan_write_range(void* p, size_t n) {
  if (n) access<Kind::write, false>(p, n, WL_CALLER);
}
WL_CALLBACK __tsan_vptr_update(void**, void*) {}
WL_CALLBACK __tsan_init() {}
WL_CALLBACK __tsan_func_exit() {}
namespace warploom {
namespace emulator {
// Declared in cuda.h for kernels only.
void announced_copy(void* to, const void* from, size_t bytes);
void announced_fill(void* to, int byte, size_t bytes);
void announced_copy(void* to, const void* from, size_t bytes) {
  if (bytes) {
    access<Kind::read, false>(from, bytes, WL_CALLER);
    access<Kind::write, false>(to, bytes, WL_CALLER);
  }
  ::memmove(to, from, bytes);
}
void announced_fill(void* to, int byte, size_t bytes) {
  if (bytes) access<Kind::write, false>(to, bytes, WL_CALLER);
  ::memset(to, byte, bytes);
}
}  // namespace emulator
}  // namespace warploom
// Clang turns the memory functions of instrumented code into these.
extern "C" __attribute__((visibility("hidden"), used)) void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  warploom::emulator::announced_copy(to, from, bytes);
  return to;
}
extern "C" __attribute__((visibility("hidden"), used)) void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  warploom::emulator::announced_copy(to, from, bytes);
  return to;
}
extern "C" __attribute__((visibility("hidden"), used)) void* __tsan_memset(void* to, int byte, size_t bytes) {
  warploom::emulator::announced_fill(to, byte, bytes);
  return to;
}
// std::atomic and static variables with constructors. Kernels have CUDA's atomics; these are for launchers, and unchecked.
#define WL_ATOMIC(bits, T)                                                                                                       \
  extern "C" __attribute__((visibility("hidden"), used)) T __tsan_atomic##bits##_load(const volatile T* p, int) {                \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                                 \
  }                                                                                                                              \
  WL_CALLBACK __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }                 \
  extern "C" __attribute__((visibility("hidden"), used)) T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                                          \
  }                                                                                                                              \
  extern "C" __attribute__((visibility("hidden"), used)) T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) {            \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                                                           \
  }                                                                                                                              \
  extern "C" __attribute__((visibility("hidden"), used)) T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) {            \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                                                           \
  }                                                                                                                              \
  extern "C" __attribute__((visibility("hidden"), used)) bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* e, \
                                                                                                            T v, int, int) {     \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                      \
  }                                                                                                                              \
  extern "C" __attribute__((visibility("hidden"), used)) bool __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* e,   \
                                                                                                          T v, int, int) {       \
    return __atomic_compare_exchange_n(p, e, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                       \
  }
WL_ATOMIC(8, unsigned char)
WL_ATOMIC(16, unsigned short)
WL_ATOMIC(32, unsigned)
WL_ATOMIC(64, unsigned long)
WL_CALLBACK __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
