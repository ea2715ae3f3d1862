// epilogue.cuh - what a convolution does to a finished sum before it stores it: bias, then activation; or, to a gradient, the slope of
// the activation before it.
#pragma once

#include "../ops/conv2d/args.h"
#include "activation.cuh"
#include "half_map.cuh"

namespace warploom {

struct Epilogue {
  const float* bias = nullptr;  // [channels], or nullptr
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  // Of a gradient: the outputs of the activation before the convolution, like the result [pixels, channels]. The result is then the
  // gradient before that activation, which is relu or leaky_relu. nullptr: sums are activated. The result may be stored in their place:
  // whoever stores an element has its slope from the thread that read it, so a kernel's pointer to the result is not __restrict__.
  const void* output = nullptr;
  int output_bytes = 4;  // of an element (half_map.cuh)

  __device__ __forceinline__ float operator()(float sum) const { return activate(activation, sum, negative_slope); }
};

// Host code: of a gradient.
inline Epilogue epilogue_of(const Conv2dBackwardInput& a) {
  Epilogue e;
  if (a.x_activation == Activation::none) return e;
  e.activation = a.x_activation, e.output = a.x.data;
  e.output_bytes = static_cast<int>(dtype_bytes(a.fusion.x_type));
  e.negative_slope = a.x_activation == Activation::leaky_relu ? a.x_slope : 0.0f;
  return e;
}

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
  if (epilogue.output) return;  // take_slopes(), row by row
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

// One row of sums (half h of kFragments x 8 columns, the thread's first at first_n) times the slopes of the activation whose outputs
// stand in epilogue.output from element `offset` on.
template <class T, int kFragments, class Vector>
__device__ __forceinline__ void take_slopes(float (&sum)[kFragments][4], int half, const Epilogue& epilogue, int64_t offset,
                                            int first_n, int columns, Vector vector) {
  const int bytes = epilogue.output_bytes;
  WL_UNROLL
  for (int j = 0; j < kFragments; ++j) {
    const int n = first_n + 8 * j;
    float2 y = make_float2(1.0f, 1.0f);
    if (vector) {
      if (n < columns) y = load_pair<T>(element_at<T>(epilogue.output, offset + n, bytes), bytes);
    } else {
      if (n < columns) y.x = load_element<T>(element_at<T>(epilogue.output, offset + n, bytes), bytes);
      if (n + 1 < columns) y.y = load_element<T>(element_at<T>(epilogue.output, offset + n + 1, bytes), bytes);
    }
    float &v0 = sum[j][2 * half], &v1 = sum[j][2 * half + 1];
    if (takes_slope(epilogue.activation, y.x)) v0 = sloped(v0, epilogue.negative_slope);
    if (takes_slope(epilogue.activation, y.y)) v1 = sloped(v1, epilogue.negative_slope);
  }
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
