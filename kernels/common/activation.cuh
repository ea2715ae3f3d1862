// activation.cuh - the activations as device functions: for the elementwise kernels, and those of in_epilogues() for fused epilogues.
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

// ---- Those that no epilogue holds; see ops/activation/args.h ----

constexpr float kRootHalf = 0.707106781f, kDensity = 0.398942280f;  // sqrt(1/2), 1 / sqrt(2 pi)
constexpr float kGeluSlope = 0.797884561f, kGeluCubic = 0.044715f;  // sqrt(2 / pi); of the tanh approximation

template <Activation kKind>
__device__ __forceinline__ float smooth(float x, float slope) {
  if constexpr (kKind == Activation::tanh)
    return tanhf(x);
  else if constexpr (kKind == Activation::elu)
    return x > 0.0f ? x : slope * expm1f(x);
  else if constexpr (kKind == Activation::exp)
    return expf(slope * (x - 1.0f));
  else if constexpr (kKind == Activation::signed_sqrt)
    return x < 0.0f ? -sqrtf(-x) : sqrtf(x);
  else if constexpr (kKind == Activation::rsqrt)
    return 1.0f / sqrtf((x < 0.0f ? 0.0f : x) + slope);
  else if constexpr (kKind == Activation::silu)
    return x / (1.0f + expf(-x));
  else if constexpr (kKind == Activation::gelu)
    return x * (0.5f * (1.0f + erff(x * kRootHalf)));
  else {
    static_assert(kKind == Activation::gelu_tanh, "an activation needs its formula here");
    return 0.5f * x * (1.0f + tanhf(kGeluSlope * (x + kGeluCubic * x * x * x)));
  }
}

// d loss / d x from d loss / d y, at the input where gradient_needs_input(), else at the output.
template <Activation kKind>
__device__ __forceinline__ float smooth_gradient(float dy, float at, float slope) {
  if constexpr (kKind == Activation::tanh) {
    return dy * (1.0f - at * at);
  } else if constexpr (kKind == Activation::elu) {
    return at > 0.0f ? dy : dy * (at + slope);
  } else if constexpr (kKind == Activation::exp) {
    return dy * (slope * at);
  } else if constexpr (kKind == Activation::signed_sqrt) {
    return at == 0.0f ? 0.0f : dy * (0.5f / (at < 0.0f ? -at : at));
  } else if constexpr (kKind == Activation::rsqrt) {
    const float y = 1.0f / sqrtf(at + slope);
    return at <= 0.0f ? 0.0f : dy * (-0.5f * y * y * y);
  } else if constexpr (kKind == Activation::silu) {
    const float s = 1.0f / (1.0f + expf(-at));
    return dy * (s * (1.0f + at * (1.0f - s)));
  } else if constexpr (kKind == Activation::gelu) {
    return dy * (0.5f * (1.0f + erff(at * kRootHalf)) + at * kDensity * expf(-0.5f * at * at));
  } else {
    static_assert(kKind == Activation::gelu_tanh, "an activation needs its gradient here");
    const float square = at * at, t = tanhf(kGeluSlope * (at + kGeluCubic * at * square));
    return dy * (0.5f * (1.0f + t) + 0.5f * at * (1.0f - t * t) * (kGeluSlope * (1.0f + 3.0f * kGeluCubic * square)));
  }
}

template <Activation kKind>
struct SmoothKind {
  static constexpr Activation value = kKind;
};
// f(SmoothKind<kind>()): the kind as a constant of the kernel, so that each holds one function only. Host code.
template <class F>
void with_smooth(Activation kind, F f) {
  switch (kind) {
#define WL_CASE(name)    \
  case Activation::name: \
    return f(SmoothKind<Activation::name>());
    WL_SMOOTH_ACTIVATIONS(WL_CASE)
#undef WL_CASE
    default:
      return;  // those of in_epilogues() have kernels of their own
  }
}

}  // namespace warploom
