// atomics_hooks.h - atomics and fences as the checks and the counters see them; nothing in the fast build.
#pragma once

#include <cstddef>

namespace warploom {
namespace emulator {
namespace hooks {
#if defined(WARPLOOM_EMULATOR_CHECKED) || defined(WARPLOOM_EMULATOR_COUNTING)
void atomic_access(const void* address, size_t bytes, const void* caller);
#else
inline void atomic_access(const void*, size_t, const void*) {}
#endif
#if defined(WARPLOOM_EMULATOR_CHECKED)
void fenced();
#else
inline void fenced() {}
#endif
}  // namespace hooks
}  // namespace emulator
}  // namespace warploom
