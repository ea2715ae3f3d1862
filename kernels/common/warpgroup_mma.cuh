// warpgroup_mma.cuh - wgmma: four warps multiply 64 rows of A in their registers by a matrix B that the tensor cores read from shared
// memory, asynchronously; PTX on the GPU, and beside it the emulated device's model (emulator/warpgroup.cpp).
//
// Order: write the registers; warpgroup_fence(); multiply_warpgroup() ...; warpgroup_commit(); and before the accumulators are read, the
// A registers changed or B overwritten, warpgroup_wait<groups that may go on>().
// A warp's registers are the fragments of mma.sync (tensor_core.cuh): 16 rows x 32 bytes of k of A, 16 x 8 floats of each of the N / 8
// parts of C. B is [N][128 bytes of k], rows 128 bytes apart, its 16-byte chunks exchanged by the row's number modulo 8 ("128-byte
// swizzle"), at a multiple of 1024 bytes.
// Preconditions: sm_90a (the launcher refuses other GPUs); whole warpgroups of 128 threads.
#pragma once

#include "async_barrier.cuh"
#include "tensor_core.cuh"

// wgmma is of sm_90a alone: neither sm_90 nor newer GPUs have it.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define WL_HAS_WGMMA 1
#endif

namespace warploom {

__device__ __forceinline__ void warpgroup_fence() {
#if !defined(__CUDACC__)
  emulator::warpgroup_fence();
#elif defined(WL_HAS_WGMMA)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void warpgroup_commit() {
#if !defined(__CUDACC__)
  emulator::warpgroup_commit();
#elif defined(WL_HAS_WGMMA)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int kGroupsLeft>
__device__ __forceinline__ void warpgroup_wait() {
#if !defined(__CUDACC__)
  emulator::warpgroup_wait(kGroupsLeft);
#elif defined(WL_HAS_WGMMA)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

// A warpgroup gives registers of its threads back to the block, or takes some that others have given: kCount of each, a multiple of 8.
// All its warps call it; what is taken is waited for.
template <int kCount>
__device__ __forceinline__ void give_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "setmaxnreg");
#if defined(WL_HAS_WGMMA)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "setmaxnreg");
#if defined(WL_HAS_WGMMA)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}

// Of B as above. PTX ISA, "Matrix descriptor": address and strides in units of 16 bytes; 1 in the upper two bits: the 128-byte swizzle.
// Adding 2 goes on by 32 bytes of k.
__device__ __forceinline__ uint32_t matrix_address(const void* shared) {  // as descriptors count
#if !defined(__CUDACC__)
  return emulator::descriptor_address(shared);
#else
  return shared_address(shared);
#endif
}
__device__ __forceinline__ uint64_t matrix_descriptor(const void* shared) {
  const uint32_t at = matrix_address(shared);
  constexpr uint64_t kEightRows = 1024 / 16, kSwizzle128 = 1;
  return (at & 0x3ffffu) >> 4 | uint64_t(1) << 16 | kEightRows << 32 | kSwizzle128 << 62;
}
constexpr uint64_t kNextSlab = 2;  // to a descriptor: the next 32 bytes of k

#if !defined(__CUDACC__)
template <class T>
constexpr emulator::OperandType kOperandType = emulator::OperandType::tf32;
template <>
inline constexpr emulator::OperandType kOperandType<Bf16> = emulator::OperandType::bf16;
template <>
inline constexpr emulator::OperandType kOperandType<F16> = emulator::OperandType::f16;
#endif

// sum += a * b, 64 x N x (32 bytes of k).
template <class T, int N>
__device__ __forceinline__ void multiply_warpgroup(float (&sum)[N / 8][4], const uint32_t (&a)[4], uint64_t b WL_HERE);

// The same with B across k: [16 rows of k][64 n], 16 bits, the same swizzle; the next 16 rows begin 2048 bytes further.
template <class T>
__device__ __forceinline__ void multiply_warpgroup_across(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b WL_HERE);
constexpr uint64_t kNextSlabAcross = 2048 / 16;  // to a descriptor

#if !defined(__CUDACC__)
template <>
inline void multiply_warpgroup<Bf16, 64>(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<Bf16>, false, 64, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]),
                               b, site);
}
template <>
inline void multiply_warpgroup<F16, 64>(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<F16>, false, 64, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]),
                               b, site);
}
template <>
inline void multiply_warpgroup<Tf32, 64>(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<Tf32>, false, 64, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]),
                               b, site);
}
template <>
inline void multiply_warpgroup<Bf16, 128>(float (&sum)[16][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<Bf16>, false, 128, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]),
                               b, site);
}
template <>
inline void multiply_warpgroup<F16, 128>(float (&sum)[16][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<F16>, false, 128, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]),
                               b, site);
}
template <>
inline void multiply_warpgroup<Tf32, 128>(float (&sum)[16][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<Tf32>, false, 128, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]),
                               b, site);
}
template <class T>
inline void multiply_warpgroup_across(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b, emulator::Site site) {
  emulator::warpgroup_multiply(kOperandType<T>, true, 64, &sum[0][0], emulator::both(a[0], a[1]), emulator::both(a[2], a[3]), b,
                               site);
}
#else
// 1: add to the sums; 1, 1: signs of a and b; 0 or 1: b is along k or across it (said for 16-bit types only).
#define WL_WGMMA_SUMS_64                                                                             \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31},  "
#define WL_WGMMA_64(T, name, last)                                                                                    \
  template <>                                                                                                         \
  __device__ __forceinline__ void multiply_warpgroup<T, 64>(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b) { \
    WL_WGMMA_BODY_64(name, last)                                                                                      \
  }
#if defined(WL_HAS_WGMMA)
#define WL_WGMMA_BODY_64(name, last)                                                                                   \
  asm volatile("wgmma.mma_async.sync.aligned." name " " WL_WGMMA_SUMS_64 "{%32, %33, %34, %35}, %36, 1, 1, 1" last ";" \
               : "+f"(sum[0][0]), "+f"(sum[0][1]), "+f"(sum[0][2]), "+f"(sum[0][3]), "+f"(sum[1][0]), "+f"(sum[1][1]), \
                 "+f"(sum[1][2]), "+f"(sum[1][3]), "+f"(sum[2][0]), "+f"(sum[2][1]), "+f"(sum[2][2]), "+f"(sum[2][3]), \
                 "+f"(sum[3][0]), "+f"(sum[3][1]), "+f"(sum[3][2]), "+f"(sum[3][3]), "+f"(sum[4][0]), "+f"(sum[4][1]), \
                 "+f"(sum[4][2]), "+f"(sum[4][3]), "+f"(sum[5][0]), "+f"(sum[5][1]), "+f"(sum[5][2]), "+f"(sum[5][3]), \
                 "+f"(sum[6][0]), "+f"(sum[6][1]), "+f"(sum[6][2]), "+f"(sum[6][3]), "+f"(sum[7][0]), "+f"(sum[7][1]), \
                 "+f"(sum[7][2]), "+f"(sum[7][3])                                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
#define WL_WGMMA_BODY_64(name, last) (void)sum, (void)a, (void)b, __trap();  // the launcher refuses this GPU
#endif
WL_WGMMA_64(Bf16, "m64n64k16.f32.bf16.bf16", ", 0")
WL_WGMMA_64(F16, "m64n64k16.f32.f16.f16", ", 0")
WL_WGMMA_64(Tf32, "m64n64k8.f32.tf32.tf32", "")
#define WL_WGMMA_ACROSS(T, name)                                                                                         \
  template <>                                                                                                            \
  __device__ __forceinline__ void multiply_warpgroup_across<T>(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b) { \
    WL_WGMMA_BODY_64(name, ", 1")                                                                                        \
  }
WL_WGMMA_ACROSS(Bf16, "m64n64k16.f32.bf16.bf16")
WL_WGMMA_ACROSS(F16, "m64n64k16.f32.f16.f16")
#undef WL_WGMMA_ACROSS
#undef WL_WGMMA_64
#undef WL_WGMMA_BODY_64
#undef WL_WGMMA_SUMS_64
#define WL_WGMMA_SUMS_128                                                                                \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "     \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, " \
  "%41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, " \
  "%61, %62, %63},  "
#define WL_WGMMA_128(T, name, last)                                                                                     \
  template <>                                                                                                           \
  __device__ __forceinline__ void multiply_warpgroup<T, 128>(float (&sum)[16][4], const uint32_t (&a)[4], uint64_t b) { \
    WL_WGMMA_BODY_128(name, last)                                                                                       \
  }
#if defined(WL_HAS_WGMMA)
#define WL_WGMMA_BODY_128(name, last)                                                                                        \
  asm volatile("wgmma.mma_async.sync.aligned." name " " WL_WGMMA_SUMS_128 "{%64, %65, %66, %67}, %68, 1, 1, 1" last ";"      \
               : "+f"(sum[0][0]), "+f"(sum[0][1]), "+f"(sum[0][2]), "+f"(sum[0][3]), "+f"(sum[1][0]), "+f"(sum[1][1]),       \
                 "+f"(sum[1][2]), "+f"(sum[1][3]), "+f"(sum[2][0]), "+f"(sum[2][1]), "+f"(sum[2][2]), "+f"(sum[2][3]),       \
                 "+f"(sum[3][0]), "+f"(sum[3][1]), "+f"(sum[3][2]), "+f"(sum[3][3]), "+f"(sum[4][0]), "+f"(sum[4][1]),       \
                 "+f"(sum[4][2]), "+f"(sum[4][3]), "+f"(sum[5][0]), "+f"(sum[5][1]), "+f"(sum[5][2]), "+f"(sum[5][3]),       \
                 "+f"(sum[6][0]), "+f"(sum[6][1]), "+f"(sum[6][2]), "+f"(sum[6][3]), "+f"(sum[7][0]), "+f"(sum[7][1]),       \
                 "+f"(sum[7][2]), "+f"(sum[7][3]), "+f"(sum[8][0]), "+f"(sum[8][1]), "+f"(sum[8][2]), "+f"(sum[8][3]),       \
                 "+f"(sum[9][0]), "+f"(sum[9][1]), "+f"(sum[9][2]), "+f"(sum[9][3]), "+f"(sum[10][0]), "+f"(sum[10][1]),     \
                 "+f"(sum[10][2]), "+f"(sum[10][3]), "+f"(sum[11][0]), "+f"(sum[11][1]), "+f"(sum[11][2]), "+f"(sum[11][3]), \
                 "+f"(sum[12][0]), "+f"(sum[12][1]), "+f"(sum[12][2]), "+f"(sum[12][3]), "+f"(sum[13][0]), "+f"(sum[13][1]), \
                 "+f"(sum[13][2]), "+f"(sum[13][3]), "+f"(sum[14][0]), "+f"(sum[14][1]), "+f"(sum[14][2]), "+f"(sum[14][3]), \
                 "+f"(sum[15][0]), "+f"(sum[15][1]), "+f"(sum[15][2]), "+f"(sum[15][3])                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
#define WL_WGMMA_BODY_128(name, last) (void)sum, (void)a, (void)b, __trap();  // the launcher refuses this GPU
#endif
WL_WGMMA_128(Bf16, "m64n128k16.f32.bf16.bf16", ", 0")
WL_WGMMA_128(F16, "m64n128k16.f32.f16.f16", ", 0")
WL_WGMMA_128(Tf32, "m64n128k8.f32.tf32.tf32", "")
#undef WL_WGMMA_128
#undef WL_WGMMA_BODY_128
#undef WL_WGMMA_SUMS_128
#endif

}  // namespace warploom
