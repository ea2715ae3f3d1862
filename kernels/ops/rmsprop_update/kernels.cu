// rmsprop_update: s = alpha s + (1 - alpha) g^2, d = g / (sqrt(s) + eps), velocity = momentum velocity + d, w -= lr * keep * d
// Layout: any; flat arrays of `count` floats; hyper is [lr, alpha, eps, momentum, weight_decay, lr_keep] in double on the device.
// One thread makes the coefficients of the step in double; then one thread owns every (gridDim * 256)-th group of 4 neighbouring
//   elements (of 1 where a pointer is not 16-byte aligned), and one block of random words for it where lr_keep < 1.
// Shared by all versions. Expected bottleneck: memory bandwidth, 20 bytes per element (28 with a velocity).
// Preconditions: workspace for the coefficients.
#include "kernels/common/flat.cuh"
#include "kernels/common/philox.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

struct RmspropCoefficients {
  float lr, alpha, rest, eps, momentum, decay;
  LearningRateDropout dropout;
};

__global__ void rmsprop_coefficients_kernel(const double* __restrict__ hyper,                  // [6]
                                            RmspropCoefficients* __restrict__ coefficients) {  // [1]
  RmspropCoefficients c;
  c.lr = static_cast<float>(hyper[0]), c.alpha = static_cast<float>(hyper[1]), c.rest = static_cast<float>(1.0 - hyper[1]);
  c.eps = static_cast<float>(hyper[2]), c.momentum = static_cast<float>(hyper[3]), c.decay = static_cast<float>(hyper[4]);
  c.dropout = LearningRateDropout::of(hyper[5]);
  *coefficients = c;
}

__global__ void rmsprop_update_kernel(int64_t count, bool vector, const RmspropCoefficients* __restrict__ coefficients,  // [1]
                                      const int* __restrict__ step,                                                      // [1]
                                      const float* __restrict__ scale,  // [1] or null
                                      const float* __restrict__ g,      // [count]
                                      float* __restrict__ w,            // [count]
                                      float* __restrict__ square,       // [count]
                                      float* __restrict__ velocity) {   // [count] or null
  const RmspropCoefficients c = *coefficients;
  const float factor = scale ? scale[0] : 1.0f;
  const int number = step[0];
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float gradient[kSize], weight[kSize], second[kSize], moved[kSize], kept[kSize];
    copy_vector<kSize>(gradient, g + i), copy_vector<kSize>(weight, w + i), copy_vector<kSize>(second, square + i);
    if (velocity) copy_vector<kSize>(moved, velocity + i);
    c.dropout.keep<kSize>(i, number, kept);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      const float d = factor * gradient[e] + c.decay * weight[e];
      second[e] = c.alpha * second[e] + c.rest * d * d;
      const float direction = d / (sqrtf(second[e]) + c.eps);
      moved[e] = velocity ? c.momentum * moved[e] + direction : direction;
      weight[e] -= c.lr * kept[e] * moved[e];
    }
    store_group<kSize>(w + i, weight), store_group<kSize>(square + i, second);
    if (velocity) store_group<kSize>(velocity + i, moved);
  });
}

static int64_t workspace_bytes(const RmspropUpdate&) { return sizeof(RmspropCoefficients); }

static void run(const RmspropUpdate& a, const Context& context) {
  if (a.count == 0) return;
  const bool vector = aligned16(a.g.data, a.w.data, a.square.data, a.velocity.data);
  RmspropCoefficients* coefficients = context.workspace.ptr<RmspropCoefficients>();
  launch(context, "rmsprop_coefficients_kernel", rmsprop_coefficients_kernel, dim3(1), dim3(1), 0, a.hyper.ptr<double>(),
         coefficients);
  launch(context, "rmsprop_update_kernel", rmsprop_update_kernel, dim3(flat_blocks(a.count)), dim3(kFlatThreads), 0, a.count,
         vector, coefficients, a.step.ptr<int>(), a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.square.ptr(), a.velocity.ptr());
}

Entry<RmspropUpdate> rmsprop_update() { return {run, nullptr, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
