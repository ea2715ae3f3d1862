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

// The same for one activation, known when it is compiled.
template <Activation kActivation>
struct FixedActivation {
  static constexpr Activation activation = kActivation;
  float negative_slope;

  __device__ __forceinline__ float operator()(float sum) const { return activate(kActivation, sum, negative_slope); }
};

struct Always {  // true, when it is compiled
  __host__ __device__ constexpr operator bool() const { return true; }
};

// Calls body(activation, pairs) with the usual activations and pairs = true as constants: asked once, not at each of the dozens of sums
// that a thread holds, where the branches would take more instructions than the arithmetic. The rest asks at each.
template <class Body>
__device__ __forceinline__ void with_activation(const Epilogue& epilogue, bool pairs, Body body) {
  if (pairs && epilogue.activation == Activation::none)
    body(FixedActivation<Activation::none>{0.0f}, Always());
  else if (pairs && epilogue.activation == Activation::relu)
    body(FixedActivation<Activation::relu>{0.0f}, Always());
  else if (pairs && epilogue.activation == Activation::leaky_relu)
    body(FixedActivation<Activation::leaky_relu>{epilogue.negative_slope}, Always());
  else
    body(epilogue, pairs);
}

}  // namespace warploom
