// architecture.cuh - which kernels are compiled for which GPU: one that an architecture has no instructions for is left empty there, by
// a first line such as
//   if constexpr (!kCompiledHere<T>) return;
// and its launcher refuses such a GPU before (v5: require_tensor_cores, v7: require_hopper). T::kSince is the first compute capability
// with T's instructions, as 80 for 8.0; wgmma is 9.0's alone.
#pragma once

namespace warploom {

#if defined(__CUDA_ARCH__)
constexpr int kArchitecture = __CUDA_ARCH__ / 10;
#else
constexpr int kArchitecture = 1000;  // the host's pass, and the emulator, which has everything
#endif

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = false;
#else
constexpr bool kHasWgmma = true;
#endif

template <class T>
constexpr bool kCompiledHere = kArchitecture >= T::kSince;

}  // namespace warploom
