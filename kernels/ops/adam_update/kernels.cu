// adam_update: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, w -= lr / (1 - b1^step) * m / (sqrt(v / (1 - b2^step)) + eps)
// Layout: any; flat arrays of `count` floats; hyper is [lr, beta1, beta2, eps, weight_decay] in double on the device.
// One thread makes the coefficients of the step in double; then one thread owns every (gridDim * 256)-th group of 4 neighbouring
//   elements (of 1 where a pointer is not 16-byte aligned).
// Shared by all versions. Expected bottleneck: memory bandwidth, 28 bytes per element.
// Preconditions: step >= 1; workspace for the coefficients.
#include "kernels/common/flat.cuh"
#include "kernels/common/philox.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

struct AdamCoefficients {
  float shrink;  // of w before the step (decoupled weight decay), else 1
  float decay;   // of w into g, where not decoupled
  int decoupled;
  float beta1, rest1, beta2, rest2;
  float step_size, root_scale, eps;
};

__global__ void adam_coefficients_kernel(int decoupled, const double* __restrict__ hyper,  // [5]
                                         const int* __restrict__ step,                     // [1]
                                         AdamCoefficients* __restrict__ coefficients) {    // [1]
  const double lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2], weight_decay = hyper[4];
  AdamCoefficients c;
  c.shrink = decoupled ? static_cast<float>(1.0 - lr * weight_decay) : 1.0f;
  c.decay = static_cast<float>(weight_decay), c.decoupled = decoupled;
  c.beta1 = static_cast<float>(beta1), c.rest1 = static_cast<float>(1.0 - beta1);
  c.beta2 = static_cast<float>(beta2), c.rest2 = static_cast<float>(1.0 - beta2);
  c.step_size = static_cast<float>(lr / (1.0 - whole_power(beta1, step[0])));
  c.root_scale = static_cast<float>(1.0 / sqrt(1.0 - whole_power(beta2, step[0])));
  c.eps = static_cast<float>(hyper[3]);
  *coefficients = c;
}

__global__ void adam_update_kernel(int64_t count, bool vector, const AdamCoefficients* __restrict__ coefficients,  // [1]
                                   const float* __restrict__ scale,                                                // [1] or null
                                   const float* __restrict__ g,                                                    // [count]
                                   float* __restrict__ w,                                                          // [count]
                                   float* __restrict__ m,                                                          // [count]
                                   float* __restrict__ v) {                                                        // [count]
  const AdamCoefficients c = *coefficients;
  const float factor = scale ? scale[0] : 1.0f;
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float gradient[kSize], weight[kSize], first[kSize], second[kSize];
    copy_vector<kSize>(gradient, g + i), copy_vector<kSize>(weight, w + i);
    copy_vector<kSize>(first, m + i), copy_vector<kSize>(second, v + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      const float d = c.decoupled ? factor * gradient[e] : factor * gradient[e] + c.decay * weight[e];
      first[e] = c.beta1 * first[e] + c.rest1 * d;
      second[e] = c.beta2 * second[e] + c.rest2 * d * d;
      weight[e] = c.shrink * weight[e] - c.step_size * first[e] / (sqrtf(second[e]) * c.root_scale + c.eps);
    }
    store_group<kSize>(w + i, weight), store_group<kSize>(m + i, first), store_group<kSize>(v + i, second);
  });
}

static int64_t workspace_bytes(const AdamUpdate&) { return sizeof(AdamCoefficients); }

static void run(const AdamUpdate& a, const Context& context) {
  if (a.count == 0) return;
  const bool vector = aligned16(a.g.data, a.w.data, a.m.data, a.v.data);
  AdamCoefficients* coefficients = context.workspace.ptr<AdamCoefficients>();
  launch(context, "adam_coefficients_kernel", adam_coefficients_kernel, dim3(1), dim3(1), 0, a.decoupled, a.hyper.ptr<double>(),
         a.step.ptr<int>(), coefficients);
  launch(context, "adam_update_kernel", adam_update_kernel, dim3(flat_blocks(a.count)), dim3(kFlatThreads), 0, a.count, vector,
         coefficients, a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.m.ptr(), a.v.ptr());
}

Entry<AdamUpdate> adam_update() { return {run, nullptr, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
