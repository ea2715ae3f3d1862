// activations.h - the activations of vectors and their gradients. `kind` is the same for a whole call, so the branches predict.
#pragma once

#include "kernels/args.h"
#include "vec_math.h"

namespace warploom::cpu {

inline vf sigmoid(vf x) {
  vf y{};
  for (int i = 0; i < kWidth; ++i) y[i] = 1.0f / (1.0f + __builtin_expf(-x[i]));
  return y;
}
WL_INLINE vf logistic(vf x) {  // a sigmoid without a call per lane
  const vf e = exp(x > 0.0f ? -x : x);
  return (x < 0.0f ? e : broadcast(1.0f)) / (1.0f + e);
}

constexpr float kRootHalf = 0.707106781f, kDensity = 0.398942280f;              // sqrt(1/2), 1 / sqrt(2 pi)
constexpr float kGeluSlope = 0.797884561f, kGeluCubic = 0.044715f;              // sqrt(2 / pi); of the tanh approximation
WL_INLINE vf normal_share(vf x) { return 0.5f * (1.0f + erf(x * kRootHalf)); }  // Phi(x)

// Those that no epilogue of a CUDA kernel holds; see kernels/ops/activation/args.h.
WL_INLINE vf smooth_activation(vf x, Activation kind, float slope) {
  switch (kind) {
    case Activation::tanh:
      return tanh(x);
    case Activation::elu:
      return x > 0.0f ? x : slope * expm1(x);
    case Activation::exp:
      return exp(slope * (x - 1.0f));
    case Activation::signed_sqrt:
      return x < 0.0f ? -root(-x) : root(x);
    case Activation::rsqrt:
      return 1.0f / root((x < 0.0f ? vf{} : x) + slope);
    case Activation::silu:
      return x * logistic(x);
    case Activation::gelu:
      return x * normal_share(x);
    case Activation::gelu_tanh:
      return 0.5f * x * (1.0f + tanh(kGeluSlope * (x + kGeluCubic * x * x * x)));
    default:
      return x;
  }
}
// dy times the derivative: at the input where gradient_needs_input(), else at the output.
WL_INLINE vf smooth_activation_backward(vf dy, vf at, Activation kind, float slope) {
  switch (kind) {
    case Activation::tanh:
      return dy * (1.0f - at * at);
    case Activation::elu:
      return at > 0.0f ? dy : dy * (at + slope);
    case Activation::exp:
      return dy * (slope * at);
    case Activation::signed_sqrt:
      return at == 0.0f ? vf{} : dy * (0.5f / (at < 0.0f ? -at : at));
    case Activation::rsqrt: {
      const vf y = 1.0f / root(at + slope);
      return at <= 0.0f ? vf{} : dy * (-0.5f * y * y * y);
    }
    case Activation::silu: {
      const vf s = logistic(at);
      return dy * (s * (1.0f + at * (1.0f - s)));
    }
    case Activation::gelu:
      return dy * (normal_share(at) + at * kDensity * exp(-0.5f * at * at));
    case Activation::gelu_tanh: {
      const vf square = at * at, t = tanh(kGeluSlope * (at + kGeluCubic * at * square));
      return dy * (0.5f * (1.0f + t) + 0.5f * at * (1.0f - t * t) * (kGeluSlope * (1.0f + 3.0f * kGeluCubic * square)));
    }
    default:
      return dy;
  }
}
// The same as calls, for the convolutions: their loops keep their size.
__attribute__((noinline)) inline void smooth_in_place(float* x, Activation kind, float slope) {
  store(x, smooth_activation(load(x), kind, slope));
}
__attribute__((noinline)) inline void smooth_gradient_in_place(float* dy, const float* y, Activation kind, float slope) {
  store(dy, smooth_activation_backward(load(dy), load(y), kind, slope));
}

WL_INLINE vf activate(vf x, Activation kind, float slope) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return relu(x);
    case Activation::leaky_relu:
      return x < 0.0f ? x * slope : x;
    case Activation::sigmoid:
      return sigmoid(x);
    default: {
      float lanes[kWidth];
      store(lanes, x), smooth_in_place(lanes, kind, slope);
      return load(lanes);
    }
  }
}
// dy times the activation's derivative at its output y; not for gradient_needs_input().
WL_INLINE vf activate_backward(vf dy, vf y, Activation kind, float slope) {
  switch (kind) {
    case Activation::none:
      return dy;
    case Activation::relu:
      return y <= 0.0f ? vf{} : dy;
    case Activation::leaky_relu:
      return y > 0.0f ? dy : dy * slope;
    case Activation::sigmoid:
      return dy * y * (1.0f - y);
    default: {
      float lanes[kWidth], outputs[kWidth];
      store(lanes, dy), store(outputs, y), smooth_gradient_in_place(lanes, outputs, kind, slope);
      return load(lanes);
    }
  }
}

}  // namespace warploom::cpu
