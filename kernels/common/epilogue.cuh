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

}  // namespace warploom
