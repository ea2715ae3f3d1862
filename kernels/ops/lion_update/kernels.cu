// lion_update: w = (1 - lr * weight_decay) w - lr * sign(b1 m + (1 - b1) g), then m = b2 m + (1 - b2) g
// Layout: any; flat arrays of `count` floats; hyper is [lr, beta1, beta2, weight_decay] in double on the device.
// One thread makes the coefficients of the step in double; then one thread owns every (gridDim * 256)-th group of 4 neighbouring
//   elements (of 1 where a pointer is not 16-byte aligned).
// Shared by all versions. Expected bottleneck: memory bandwidth, 20 bytes per element.
// Preconditions: workspace for the coefficients.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

struct LionCoefficients {
  float lr, shrink, beta1, rest1, beta2, rest2;
};

__global__ void lion_coefficients_kernel(const double* __restrict__ hyper,               // [4]
                                         LionCoefficients* __restrict__ coefficients) {  // [1]
  LionCoefficients c;
  c.lr = static_cast<float>(hyper[0]), c.shrink = static_cast<float>(1.0 - hyper[0] * hyper[3]);
  c.beta1 = static_cast<float>(hyper[1]), c.rest1 = static_cast<float>(1.0 - hyper[1]);
  c.beta2 = static_cast<float>(hyper[2]), c.rest2 = static_cast<float>(1.0 - hyper[2]);
  *coefficients = c;
}

__global__ void lion_update_kernel(int64_t count, bool vector, const LionCoefficients* __restrict__ coefficients,  // [1]
                                   const float* __restrict__ scale,                                                // [1] or null
                                   const float* __restrict__ g,                                                    // [count]
                                   float* __restrict__ w,                                                          // [count]
                                   float* __restrict__ m) {                                                        // [count]
  const LionCoefficients c = *coefficients;
  const float factor = scale ? scale[0] : 1.0f;
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float gradient[kSize], weight[kSize], momentum[kSize];
    copy_vector<kSize>(gradient, g + i), copy_vector<kSize>(weight, w + i), copy_vector<kSize>(momentum, m + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      const float d = factor * gradient[e], mixed = c.beta1 * momentum[e] + c.rest1 * d;
      const float sign = mixed > 0.0f ? 1.0f : mixed < 0.0f ? -1.0f : mixed;  // of a NaN: NaN
      weight[e] = c.shrink * weight[e] - c.lr * sign;
      momentum[e] = c.beta2 * momentum[e] + c.rest2 * d;
    }
    store_group<kSize>(w + i, weight), store_group<kSize>(m + i, momentum);
  });
}

static int64_t workspace_bytes(const LionUpdate&) { return sizeof(LionCoefficients); }

static void run(const LionUpdate& a, const Context& context) {
  if (a.count == 0) return;
  const bool vector = aligned16(a.g.data, a.w.data, a.m.data);
  LionCoefficients* coefficients = context.workspace.ptr<LionCoefficients>();
  launch(context, "lion_coefficients_kernel", lion_coefficients_kernel, dim3(1), dim3(1), 0, a.hyper.ptr<double>(), coefficients);
  launch(context, "lion_update_kernel", lion_update_kernel, dim3(flat_blocks(a.count)), dim3(kFlatThreads), 0, a.count, vector,
         coefficients, a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.m.ptr());
}

Entry<LionUpdate> lion_update() { return {run, nullptr, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
