// cuda_pipeline.h - cp.async as functions.
#pragma once

#include "cuda_runtime.h"

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
  ::warploom::emulator::async_copy(to, from, static_cast<int>(bytes), static_cast<int>(bytes - zeros));
}
inline void __pipeline_commit() { ::warploom::emulator::async_commit(); }
inline void __pipeline_wait_prior(size_t left) { ::warploom::emulator::async_wait(static_cast<int>(left)); }
