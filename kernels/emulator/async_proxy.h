// async_proxy.h - what common/async_barrier.cuh, common/bulk_copy.cuh and common/warpgroup_mma.cuh call on the emulated device: what
// sm_90 does beside its threads. Not part of cuda.h: CUDA has no words for these, only PTX.
//
// Everything asynchronous happens as late as a correct kernel allows: a bulk copy lands when somebody waits for its barrier, a wgmma
// is carried out when its warp waits for its group. What is read too early is NaN, what is overwritten too early is wrong.
#pragma once

#include "tensor_cores.h"

namespace warploom {

struct TensorMap {  // what a CUtensorMap of four dimensions holds, the innermost first; zeros outside
  const char* base;
  uint32_t size[4], box[4], element_bytes;
  uint64_t stride[4];          // bytes; [0] is element_bytes
  uint32_t swizzle_bytes = 0;  // 0: none; 128, 64 or 32: of a row as long, 16-byte chunks exchanged by bits 7 to 9 of the address
};

namespace emulator {

// ---- mbarrier (async_barriers.cpp) ----

void barrier_init(void* barrier, uint32_t arrivals, WL_SITE);
void fence_async_proxy();                                     // fence.proxy.async
void barrier_arrive(void* barrier, uint32_t bytes, WL_SITE);  // `bytes`: of copies that this phase waits for as well
void barrier_wait(void* barrier, uint32_t parity, WL_SITE);   // until the phase of this parity is complete

// ---- Bulk copies (bulk_copies.cpp) ----

void bulk_copy(void* shared, const void* global, uint32_t bytes, void* barrier, WL_SITE);
void bulk_copy_tensor(void* shared, const TensorMap* map, int at0, int at1, int at2, int at3, void* barrier, WL_SITE);

// ---- wgmma (warpgroup.cpp) ----

enum class OperandType : int { bf16, f16, tf32 };
void warpgroup_fence();
// d [n / 8][4], a: this lane's registers, b: descriptor. across: b runs along n, not along k.
void warpgroup_multiply(OperandType type, bool across, int n, float* d, uint64_t a01, uint64_t a23, uint64_t b, WL_SITE);
void warpgroup_commit();
void warpgroup_wait(int groups_left, WL_SITE);
uint32_t descriptor_address(const void* shared);  // counted from where dynamic shared memory starts
// This lane's registers of A, 64 x 32 bytes along k, where A lies in shared memory as B does. Taken when the wgmma starts.
void warpgroup_fragment(uint64_t a, uint32_t (&registers)[4], WL_SITE);

}  // namespace emulator
}  // namespace warploom
