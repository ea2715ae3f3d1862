// adabelief_update: m = b1 m + (1 - b1) g, s = b2 s + (1 - b2) (g - m)^2, w -= lr * keep * m / (sqrt(s) + eps)
// Layout: any; flat arrays of `count` floats; hyper is [lr, beta1, beta2, eps, weight_decay, lr_keep] in double on the device.
// One thread makes the coefficients of the step in double; then one thread owns every (gridDim * 256)-th group of 4 neighbouring
//   elements (of 1 where a pointer is not 16-byte aligned), and one block of random words for it where lr_keep < 1.
// Shared by all versions. Expected bottleneck: memory bandwidth, 28 bytes per element.
// Preconditions: step >= 1; workspace for the coefficients.
#include "kernels/common/flat.cuh"
#include "kernels/common/philox.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

struct AdabeliefCoefficients {
  float beta1, rest1, beta2, rest2, decay;
  float step_size, root_scale, eps;  // with the bias corrections in them
  LearningRateDropout dropout;
};

__global__ void adabelief_coefficients_kernel(int bias_correction, const double* __restrict__ hyper,  // [6]
                                              const int* __restrict__ step,                           // [1]
                                              AdabeliefCoefficients* __restrict__ coefficients) {     // [1]
  const double lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2];
  AdabeliefCoefficients c;
  c.beta1 = static_cast<float>(beta1), c.rest1 = static_cast<float>(1.0 - beta1);
  c.beta2 = static_cast<float>(beta2), c.rest2 = static_cast<float>(1.0 - beta2);
  c.decay = static_cast<float>(hyper[4]);
  const double left1 = bias_correction ? 1.0 - whole_power(beta1, step[0]) : 1.0;
  const double left2 = bias_correction ? 1.0 - whole_power(beta2, step[0]) : 1.0;
  c.step_size = static_cast<float>(lr / left1), c.root_scale = static_cast<float>(1.0 / sqrt(left2));
  c.eps = static_cast<float>(hyper[3]);
  c.dropout = LearningRateDropout::of(hyper[5]);
  *coefficients = c;
}

__global__ void adabelief_update_kernel(int64_t count, bool vector,
                                        const AdabeliefCoefficients* __restrict__ coefficients,  // [1]
                                        const int* __restrict__ step,                            // [1]
                                        const float* __restrict__ scale,                         // [1] or null
                                        const float* __restrict__ g,                             // [count]
                                        float* __restrict__ w,                                   // [count]
                                        float* __restrict__ m,                                   // [count]
                                        float* __restrict__ s) {                                 // [count]
  const AdabeliefCoefficients c = *coefficients;
  const float factor = scale ? scale[0] : 1.0f;
  const int number = step[0];
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float gradient[kSize], weight[kSize], first[kSize], second[kSize], kept[kSize];
    copy_vector<kSize>(gradient, g + i), copy_vector<kSize>(weight, w + i);
    copy_vector<kSize>(first, m + i), copy_vector<kSize>(second, s + i);
    c.dropout.keep<kSize>(i, number, kept);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      const float d = factor * gradient[e] + c.decay * weight[e];
      first[e] = c.beta1 * first[e] + c.rest1 * d;
      const float surprise = d - first[e];
      second[e] = c.beta2 * second[e] + c.rest2 * surprise * surprise;
      weight[e] -= c.step_size * kept[e] * first[e] / (sqrtf(second[e]) * c.root_scale + c.eps);
    }
    store_group<kSize>(w + i, weight), store_group<kSize>(m + i, first), store_group<kSize>(s + i, second);
  });
}

static int64_t workspace_bytes(const AdabeliefUpdate&) { return sizeof(AdabeliefCoefficients); }

static void run(const AdabeliefUpdate& a, const Context& context) {
  if (a.count == 0) return;
  const bool vector = aligned16(a.g.data, a.w.data, a.m.data, a.s.data);
  AdabeliefCoefficients* coefficients = context.workspace.ptr<AdabeliefCoefficients>();
  launch(context, "adabelief_coefficients_kernel", adabelief_coefficients_kernel, dim3(1), dim3(1), 0, a.bias_correction,
         a.hyper.ptr<double>(), a.step.ptr<int>(), coefficients);
  launch(context, "adabelief_update_kernel", adabelief_update_kernel, dim3(flat_blocks(a.count)), dim3(kFlatThreads), 0, a.count,
         vector, coefficients, a.step.ptr<int>(), a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.m.ptr(), a.s.ptr());
}

Entry<AdabeliefUpdate> adabelief_update() { return {run, nullptr, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
