// activation.cuh - the activations as device functions: for the elementwise kernels and for fused epilogues.
// `kind` is uniform over a launch; where it is a constant of the instantiation the branches vanish.
#pragma once

#include "portable.cuh"

namespace warploom {

// NaN passes through: a comparison that is false for NaN must not replace it by zero.
__device__ __forceinline__ float activate(Activation kind, float x, float negative_slope) {
  switch (kind) {
    case Activation::relu:
      return x < 0.0f ? 0.0f : x;
    case Activation::leaky_relu:
      return x < 0.0f ? negative_slope * x : x;
    case Activation::sigmoid:
      return 1.0f / (1.0f + expf(-x));
    default:
      return x;
  }
}

// Whether the slope of the negative side applies, judged by the output y. At NaN relu passes the gradient on and leaky_relu takes the
// slope, as PyTorch does.
__device__ __forceinline__ bool takes_slope(Activation kind, float y) {
  return kind == Activation::leaky_relu ? !(y > 0.0f) : kind != Activation::none && y <= 0.0f;
}
// The gradient on the negative side: nothing at all where the slope is zero, also of an infinite one.
__device__ __forceinline__ float sloped(float dy, float negative_slope) {
  return negative_slope == 0.0f ? 0.0f : negative_slope * dy;
}

// d loss / d x from d loss / d y and the output y.
__device__ __forceinline__ float activation_gradient(Activation kind, float dy, float y, float negative_slope) {
  switch (kind) {
    case Activation::relu:
      return y <= 0.0f ? 0.0f : dy;
    case Activation::leaky_relu:
      return y > 0.0f ? dy : negative_slope * dy;
    case Activation::sigmoid:
      return dy * y * (1.0f - y);
    default:
      return dy;
  }
}

}  // namespace warploom
