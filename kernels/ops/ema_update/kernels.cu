// ema_update: average += (1 - d) * (w - average), d = min(decay, step / (step + 9)); at step 1 average = w
// Layout: any; flat arrays of `count` floats; decay in double and the step's number on the device.
// One thread owns every (gridDim * 256)-th group of 4 neighbouring elements (of 1 where a pointer is not 16-byte aligned); each
//   computes the step's factor for itself, a division that the loads hide.
// Shared by all versions. Expected bottleneck: memory bandwidth, 12 bytes per element.
// Preconditions: none.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

__global__ void ema_update_kernel(int64_t count, bool vector, const double* __restrict__ hyper,  // [1]
                                  const int* __restrict__ step,                                  // [1]
                                  const float* __restrict__ w,                                   // [count]
                                  float* __restrict__ average) {                                 // [count]
  const bool first = step[0] <= 1;
  const double early = static_cast<double>(step[0]) / (static_cast<double>(step[0]) + 9.0);
  const float rest = static_cast<float>(1.0 - (early < hyper[0] ? early : hyper[0]));
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float weight[kSize], mean[kSize];
    copy_vector<kSize>(weight, w + i), copy_vector<kSize>(mean, average + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) mean[e] = first ? weight[e] : mean[e] + rest * (weight[e] - mean[e]);
    store_group<kSize>(average + i, mean);
  });
}

static void run(const EmaUpdate& a, const Context& context) {
  if (a.count == 0) return;
  const bool vector = aligned16(a.w.data, a.average.data);
  launch(context, "ema_update_kernel", ema_update_kernel, dim3(flat_blocks(a.count)), dim3(kFlatThreads), 0, a.count, vector,
         a.hyper.ptr<double>(), a.step.ptr<int>(), a.w.ptr(), a.average.ptr());
}

Entry<EmaUpdate> ema_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::shared
