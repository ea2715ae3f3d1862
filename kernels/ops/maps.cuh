// maps.cuh - elementwise kernels over maps [outer, C, inner]: which thread owns which elements, and their channel without slow
// divisions.
//
// A unit is four neighbouring elements where the shape and the pointers allow it, else one. In planes (inner > 1) the elements of a
// unit share a channel, across channels (inner == 1) they have four neighbouring ones. A block owns kUnits * kThreads neighbouring
// units; a thread divides 64-bit numbers once and then steps by multiplications.
#pragma once

#include <type_traits>

#include "kernels/common/fast_divisor.cuh"
#include "kernels/common/vector.cuh"
#include "preconditions.h"

namespace warploom::shared {

constexpr int kThreads = 256;
constexpr int kUnits = 4;

template <int kVector>
struct Floats {
  float v[kVector];
};
template <int kVector>
__device__ __forceinline__ Floats<kVector> load_floats(const float* p) {
  Floats<kVector> f;
  if constexpr (kVector == 4) {
    const float4 v = load4(p);
    f.v[0] = v.x, f.v[1] = v.y, f.v[2] = v.z, f.v[3] = v.w;
  } else {
    f.v[0] = p[0];
  }
  return f;
}
template <int kVector>
__device__ __forceinline__ void store_floats(float* p, const Floats<kVector>& f) {
  if constexpr (kVector == 4)
    store4(p, make_float4(f.v[0], f.v[1], f.v[2], f.v[3]));
  else
    p[0] = f.v[0];
}

struct Map {
  FastDivisor inner, channels;  // units in a plane; channels, or units across them
  int64_t units = 0;
};
struct Place {  // of a unit's first element
  int64_t offset, outer;
  int channel, inner;
};

// A parameter of the unit's channels: parameter[channel], or the four from there on; `missing` where there is none.
template <int kVector, bool kAcross>
__device__ __forceinline__ Floats<kVector> load_channels(const float* parameter, int channel, float missing) {
  if constexpr (kAcross) {
    if (parameter) return load_floats<kVector>(parameter + channel);
  }
  Floats<kVector> f;
  const float value = parameter ? parameter[channel] : missing;
  WL_UNROLL
  for (int e = 0; e < kVector; ++e) f.v[e] = value;
  return f;
}

// use(place, load(offset)) for every unit of this thread; all loads before the first use, so that they overlap.
template <int kVector, bool kAcross, class Load, class Use>
__device__ __forceinline__ void for_map(const Map& map, Load load, Use use) {
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kThreads * kUnits);
  const int thread = static_cast<int>(threadIdx.x);
  decltype(load(base)) values[kUnits];
  WL_UNROLL
  for (int k = 0; k < kUnits; ++k) {
    const int64_t unit = base + k * kThreads + thread;
    if (unit < map.units) values[k] = load(unit * kVector);
  }
  const int64_t base_row = base / map.inner.divisor;
  const int64_t base_outer = base_row / map.channels.divisor;
  const int first_inner = static_cast<int>(base - base_row * map.inner.divisor);
  const int first_channel = static_cast<int>(base_row - base_outer * map.channels.divisor);
  WL_UNROLL
  for (int k = 0; k < kUnits; ++k) {
    const int local = k * kThreads + thread;
    if (base + local >= map.units) break;
    const int rows = map.inner.quotient(first_inner + local);
    const int inner = map.inner.remainder(first_inner + local, rows);
    const int outers = map.channels.quotient(first_channel + rows);
    const int channel = map.channels.remainder(first_channel + rows, outers);
    const Place place = {(base + local) * kVector, base_outer + outers, kAcross ? channel * kVector : channel,
                         kAcross ? inner : inner * kVector};
    use(place, values[k]);
  }
}

// ---- Host ----

inline dim3 map_grid(const Map& map) { return dim3(blocks_for(map.units, kThreads * kUnits)); }

// f(map, integral_constant<kVector>, bool_constant<kAcross>) for the widest units that the shape allows.
template <class F>
void with_map(int64_t outer, int64_t C, int64_t inner, bool aligned, F f) {
  const int64_t count = outer * C * inner;
  if (count == 0) return;
  const auto map = [&](int64_t plane, int64_t channels, int64_t units) {
    return Map{FastDivisor(static_cast<int>(plane)), FastDivisor(static_cast<int>(channels)), units};
  };
  if (aligned && inner == 1 && C % 4 == 0)
    f(map(1, C / 4, count / 4), std::integral_constant<int, 4>(), std::true_type());
  else if (aligned && inner % 4 == 0)
    f(map(inner / 4, C, count / 4), std::integral_constant<int, 4>(), std::false_type());
  else
    f(map(inner, C, count), std::integral_constant<int, 1>(), std::false_type());
}

}  // namespace warploom::shared
