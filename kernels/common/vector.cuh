// vector.cuh - 16-byte accesses: the loads and stores themselves, and the host's question whether pointers allow them.
#pragma once

#include "portable.cuh"

namespace warploom {

__device__ __forceinline__ float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ __forceinline__ void store4(float* p, float4 v) { *reinterpret_cast<float4*>(p) = v; }

// to[0..3] = from[0..3] in one access where `inside`, else 0.
__device__ __forceinline__ void assign4(float (&to)[4], bool inside, const float* from) {
  const float4 v = inside ? load4(from) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

// The first `count` of four elements, the others 0; one access where `vector` says that count is then at most 0 or at least 4.
__device__ __forceinline__ void assign_upto4(float (&to)[4], int count, bool vector, const float* from) {
  if (vector) return assign4(to, count > 0, from);
  WL_UNROLL
  for (int e = 0; e < 4; ++e) to[e] = e < count ? from[e] : 0.0f;
}

// Copies kCount (1, 2 or 4) neighbouring floats in one access.
template <int kCount>
__device__ __forceinline__ void copy_vector(float* to, const float* from) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4, "one register access");
  if constexpr (kCount == 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else if constexpr (kCount == 2) {
    const float2 v = *reinterpret_cast<const float2*>(from);
    to[0] = v.x, to[1] = v.y;
  } else {
    to[0] = from[0];
  }
}

inline bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }  // null counts as aligned
template <class... Rest>
bool aligned16(const void* p, Rest... rest) {
  return aligned16(p) && aligned16(rest...);
}

}  // namespace warploom
