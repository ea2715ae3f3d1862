// half_map.cuh - maps that are stored as float32 or in the 16 bits of an operand type T, by a size that a launch knows: the branches are
// taken alike by all threads, and vanish where T has no 16 bits.
//
// Addresses are void*, offsets count elements. `bytes`: of an element, 4 or 2.
// Preconditions: two (four) neighbours are one access where the host found them aligned (aligned16 serves both sizes).
#pragma once

#include "tensor_core.cuh"
#include "vector.cuh"

namespace warploom {

// Whether a map of elements of so many bytes is in 16 bits of T.
template <class T>
__device__ __forceinline__ constexpr bool in_halves(int bytes) {
  return T::kBytes == 2 && bytes == 2;
}

template <class T>
__device__ __forceinline__ const void* element_at(const void* map, int64_t offset, int bytes) {
  return static_cast<const char*>(map) + offset * (T::kBytes == 2 ? bytes : 4);
}
template <class T>
__device__ __forceinline__ void* element_at(void* map, int64_t offset, int bytes) {
  return static_cast<char*>(map) + offset * (T::kBytes == 2 ? bytes : 4);
}

// One element, and two neighbours in one access.
template <class T>
__device__ __forceinline__ float load_element(const void* at, int bytes) {
  if constexpr (T::kBytes == 2)
    if (in_halves<T>(bytes)) return widen2<T>(*static_cast<const uint16_t*>(at)).x;
  return *static_cast<const float*>(at);
}
template <class T>
__device__ __forceinline__ float2 load_pair(const void* at, int bytes) {
  if constexpr (T::kBytes == 2)
    if (in_halves<T>(bytes)) return widen2<T>(*static_cast<const uint32_t*>(at));
  return *static_cast<const float2*>(at);
}

// Host code: where element `offset` of a map lies.
inline const void* into_map(const void* map, int64_t offset, int64_t bytes) {
  return map ? static_cast<const char*>(map) + offset * bytes : nullptr;
}
inline void* into_map(void* map, int64_t offset, int64_t bytes) {
  return map ? static_cast<char*>(map) + offset * bytes : nullptr;
}

}  // namespace warploom
