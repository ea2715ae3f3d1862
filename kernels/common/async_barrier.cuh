// async_barrier.cuh - mbarrier: threads and the copy engine count down one phase after another; PTX on the GPU, and beside each the
// emulated device's model of it (emulator/async_barriers.cpp).
//
// A phase is complete when as many arrivals as init() named have come and all bytes announced with them have landed. wait() names the
// parity of a phase, 0 for the first: a ring of stages waits for "full" with the parity of its round, for "empty" with the other one,
// which the very first round passes.
// Preconditions: sm_90 (the launcher refuses older GPUs); barriers in shared memory, initialised by one thread, then
// fence_async_proxy() by the same thread and __syncthreads() by all.
#pragma once

#include "portable.cuh"
#if !defined(__CUDACC__)
#include "../emulator/async_proxy.h"
#define WL_HERE , WL_SITE
#define WL_PASS_HERE , site
#else
#define WL_HERE
#define WL_PASS_HERE
#endif

namespace warploom {

struct alignas(8) AsyncBarrier {
  uint64_t state;
};

#if defined(__CUDACC__)
__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }
#endif

__device__ __forceinline__ void init(AsyncBarrier* barrier, uint32_t arrivals WL_HERE) {
#if !defined(__CUDACC__)
  emulator::barrier_init(barrier, arrivals WL_PASS_HERE);
#elif __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
  (void)barrier, (void)arrivals, __trap();
#endif
}

// What this thread has done to shared memory so far, initialising barriers too, is seen by the copy engine and wgmma from here on.
__device__ __forceinline__ void fence_async_proxy() {
#if !defined(__CUDACC__)
  emulator::fence_async_proxy();
#elif __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void arrive(AsyncBarrier* barrier WL_HERE) {
#if !defined(__CUDACC__)
  emulator::barrier_arrive(barrier, 0 WL_PASS_HERE);
#elif __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#else
  (void)barrier;
#endif
}

// Arrives, and has the phase wait for `bytes` of bulk copies too.
__device__ __forceinline__ void arrive_expecting(AsyncBarrier* barrier, uint32_t bytes WL_HERE) {
#if !defined(__CUDACC__)
  emulator::barrier_arrive(barrier, bytes WL_PASS_HERE);
#elif __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
#else
  (void)barrier, (void)bytes;
#endif
}

__device__ __forceinline__ void wait(AsyncBarrier* barrier, uint32_t parity WL_HERE) {
#if !defined(__CUDACC__)
  emulator::barrier_wait(barrier, parity WL_PASS_HERE);
#elif __CUDA_ARCH__ >= 900
  uint32_t done;
  do {  // try_wait sleeps for a time of the hardware's choice before it says no
    asm volatile("{.reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
  } while (!done);
#else
  (void)barrier, (void)parity;
#endif
}

}  // namespace warploom
