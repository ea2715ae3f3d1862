// async_copy.cuh - cp.async: from device into shared memory without a stop in registers; PTX on the GPU, and beside each the
// emulated device's model of it (emulator/async_copies.cpp).
//
// A thread's copies form groups (commit); wait<n> returns when all but the newest n groups of *this thread* have landed. Others
// see them after the barrier that follows. Before sm_80 the copy is an ordinary load and store and the other two are nothing.
#pragma once

#include "portable.cuh"
#if !defined(__CUDACC__)
#include "../emulator/tensor_cores.h"
#endif

namespace warploom {

// kBytes (4 or 16) from `global` to `shared`, both aligned to kBytes; zeros where not `inside`, and nothing is read then.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool inside) {
  static_assert(kBytes == 4 || kBytes == 16, "cp.async of 4 or 16 bytes");
#if !defined(__CUDACC__)
  emulator::async_copy(shared, global, kBytes, inside ? kBytes : 0);
#elif __CUDA_ARCH__ >= 800
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16)  // .cg: past L1, which the next block would not find it in anyway
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(inside ? 16 : 0) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(global), "r"(inside ? 4 : 0) : "memory");
#else
  if constexpr (kBytes == 16)
    *static_cast<float4*>(shared) = inside ? *static_cast<const float4*>(global) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  else
    *static_cast<float*>(shared) = inside ? *static_cast<const float*>(global) : 0.0f;
#endif
}

__device__ __forceinline__ void commit_copies() {
#if !defined(__CUDACC__)
  emulator::async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kGroupsLeft>
__device__ __forceinline__ void wait_copies() {
#if !defined(__CUDACC__)
  emulator::async_wait(kGroupsLeft);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

}  // namespace warploom
