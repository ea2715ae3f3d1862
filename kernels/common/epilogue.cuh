// epilogue.cuh - what a kernel does to a finished sum before it stores it: bias, then activation.
#pragma once

#include "portable.cuh"

namespace warploom {

struct Epilogue {
  const float* bias = nullptr;  // [channels], or nullptr
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
};

__device__ __forceinline__ float activate(Activation kind, float negative_slope, float v) {
  switch (kind) {
    case Activation::relu:
      return v < 0.0f ? 0.0f : v;  // keeps NaN
    case Activation::leaky_relu:
      return v < 0.0f ? negative_slope * v : v;
    case Activation::sigmoid:
      return 1.0f / (1.0f + expf(-v));
    default:
      return v;
  }
}

}  // namespace warploom
