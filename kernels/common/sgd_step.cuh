// sgd_step.cuh - one parameter's step of stochastic gradient descent, see ops/sgd_update.
#pragma once

#include "vector.cuh"

namespace warploom {

struct SgdStep {
  float lr, momentum, weight_decay, scale;
  bool nesterov;
  __device__ __forceinline__ SgdStep(const float* hyper, float scale_, bool nesterov_)
      : lr(hyper[0]), momentum(hyper[1]), weight_decay(hyper[2]), scale(scale_), nesterov(nesterov_) {}
  __device__ __forceinline__ float decayed(float g, float w) const { return scale * g + weight_decay * w; }
  // Updates the velocity and returns the step along which w moves.
  __device__ __forceinline__ float with_velocity(float d, float& velocity) const {
    velocity = momentum * velocity + d;
    return nesterov ? d + momentum * velocity : velocity;
  }
  // velocity: or null.
  __device__ __forceinline__ void update(float g, float* w, float* velocity) const {
    float d = decayed(g, *w);
    if (velocity) {
      float v = *velocity;
      d = with_velocity(d, v);
      *velocity = v;
    }
    *w -= lr * d;
  }
  __device__ __forceinline__ void update4(float4 g, float* w, float* velocity) const {
    const float4 old = load4(w);
    float4 d = make_float4(decayed(g.x, old.x), decayed(g.y, old.y), decayed(g.z, old.z), decayed(g.w, old.w));
    if (velocity) {
      float4 v = load4(velocity);
      d = make_float4(with_velocity(d.x, v.x), with_velocity(d.y, v.y), with_velocity(d.z, v.z), with_velocity(d.w, v.w));
      store4(velocity, v);
    }
    store4(w, make_float4(old.x - lr * d.x, old.y - lr * d.y, old.z - lr * d.z, old.w - lr * d.w));
  }
};

}  // namespace warploom
