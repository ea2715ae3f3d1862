// bias_activation/kernels.cu: y = activation(x + bias[c])
// Layout: maps [outer, C, inner], NCHW as (N, C, H*W), NHWC as (N*H*W, C, 1); bias f32[C] or none.
// One thread owns four units of four neighbouring elements (one where shape or alignment forbid), see ../maps.cuh.
// One implementation for all versions. Expected bottleneck: memory bandwidth.
// Preconditions: C * inner < 2^31 - 4096; y may be x (hence no __restrict__).
#include "../maps.cuh"
#include "../shared.h"
#include "kernels/common/activation.cuh"

namespace warploom::shared {

template <int kVector, bool kAcross>
__global__ void bias_activation_kernel(Map map, Activation activation, float slope, const float* x,  // [outer, C, inner]
                                       const float* __restrict__ bias,                               // [C] or null
                                       float* y) {                                                   // [outer, C, inner]
  for_map<kVector, kAcross>(
      map, [=](int64_t offset) { return load_floats<kVector>(x + offset); },
      [=](const Place& place, Floats<kVector> f) {
        const auto b = load_channels<kVector, kAcross>(bias, place.channel, 0.0f);
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) f.v[e] = activate(activation, f.v[e] + b.v[e], slope);
        store_floats<kVector>(y + place.offset, f);
      });
}

static void run(const BiasActivation& a, const Context& context) {
  with_map(a.outer, a.C, a.inner, aligned16(a.x.data, a.y.data, a.bias.data), [&](const Map& map, auto vector, auto across) {
    launch(context, "shared::bias_activation_kernel", bias_activation_kernel<vector(), across()>, map_grid(map), dim3(kThreads),
           0, map, a.activation, a.negative_slope, a.x.ptr(), a.bias.ptr(), a.y.ptr());
  });
}

Entry<BiasActivation> bias_activation() { return {run, active_map_error<BiasActivation>, nullptr, nullptr}; }

}  // namespace warploom::shared
