// epilogue.cuh - what a convolution does to a finished sum before it stores it: bias, then activation.
#pragma once

#include "activation.cuh"

namespace warploom {

struct Epilogue {
  const float* bias = nullptr;  // [channels], or nullptr
  Activation activation = Activation::none;
  float negative_slope = 0.0f;

  __device__ __forceinline__ float operator()(float sum) const { return activate(activation, sum, negative_slope); }
};

// Scales the sums of a scaled gradient back. Such sums have neither bias nor activation: the order does not matter.
template <int kRows, int kFragments>
__device__ __forceinline__ void scale_all(float (&sum)[kRows][kFragments][4], float scale) {
  WL_UNROLL
  for (int i = 0; i < kRows; ++i) {
    WL_UNROLL
    for (int j = 0; j < kFragments; ++j) {
      WL_UNROLL
      for (int e = 0; e < 4; ++e) sum[i][j][e] *= scale;
    }
  }
}

// Activates all sums of a thread. Asks for the activation once: asked at each of the dozens of sums the branches would take more
// instructions than the arithmetic.
template <int kRows, int kFragments>
__device__ __forceinline__ void activate_all(float (&sum)[kRows][kFragments][4], const Epilogue& epilogue) {
  auto each = [&](auto activated) {
    WL_UNROLL
    for (int i = 0; i < kRows; ++i) {
      WL_UNROLL
      for (int j = 0; j < kFragments; ++j) {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) sum[i][j][e] = activated(sum[i][j][e]);
      }
    }
  };
  if (epilogue.activation == Activation::relu)
    each([](float v) { return activate(Activation::relu, v, 0.0f); });
  else if (epilogue.activation == Activation::leaky_relu)
    each([&](float v) { return activate(Activation::leaky_relu, v, epilogue.negative_slope); });
  else if (epilogue.activation != Activation::none)
    each(epilogue);
}

template <bool kValue>
struct Constant {  // known when it is compiled
  __host__ __device__ constexpr operator bool() const { return kValue; }
};

// Calls body(whether to store pairs) with a constant: asked once, not at each store.
template <class Body>
__device__ __forceinline__ void with_pairs(bool pairs, Body body) {
  if (pairs)
    body(Constant<true>());
  else
    body(Constant<false>());
}

}  // namespace warploom
