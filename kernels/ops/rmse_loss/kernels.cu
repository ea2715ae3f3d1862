// rmse_loss: value = sqrt(mean (p - t)^2 + eps), loss = weight * value; grad = weight * (p - t) / (count * value), 0 at value 0
// Layout: any; flat arrays of `count` floats. Pass 1 sums per block, pass 2 makes the loss and the gradient's factor, pass 3 the
//   gradient. One thread owns every (gridDim * 256)-th group of 4 neighbouring elements.
// Shared by all versions. Expected bottleneck: memory bandwidth; the inputs are read twice, as the factor needs the whole sum.
// Preconditions: count > 0; workspace of 8 bytes and 8 for each block of pass 1. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

__global__ void rmse_loss_sum_kernel(int64_t count, bool vector, const float* __restrict__ prediction,  // [count]
                                     const float* __restrict__ target,                                  // [count]
                                     double* __restrict__ partial) {                                    // [gridDim.x]
  double sum[1] = {0.0};
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float p[kSize], t[kSize];
    copy_vector<kSize>(p, prediction + i), copy_vector<kSize>(t, target + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      const double d = static_cast<double>(p[e] - t[e]);
      sum[0] += d * d;
    }
  });
  store_block_sums<1>(sum, blockIdx.x, partial);
}

__global__ void rmse_loss_finish_kernel(int64_t blocks, int64_t count, float eps, LossOutput out,
                                        const double* __restrict__ partial,  // [blocks]
                                        double* __restrict__ factor) {       // [1]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x != 0) return;
  const double value = sqrt(sum[0] / static_cast<double>(count) + eps);
  factor[0] = value == 0.0 ? 0.0 : out.weight / (static_cast<double>(count) * value);
  out.store(value);
}

__global__ void rmse_loss_gradient_kernel(int64_t count, bool vector, const double* __restrict__ factor,  // [1]
                                          const float* __restrict__ prediction,                           // [count]
                                          const float* __restrict__ target,                               // [count]
                                          float* __restrict__ grad) {                                     // [count]
  const float f = static_cast<float>(factor[0]);
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float p[kSize], t[kSize];
    copy_vector<kSize>(p, prediction + i), copy_vector<kSize>(t, target + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) p[e] = f * (p[e] - t[e]);
    store_group<kSize>(grad + i, p);
  });
}

static int64_t workspace_bytes(const RmseLoss& a) { return 8 + 8 * static_cast<int64_t>(flat_blocks(a.count)); }

static void run(const RmseLoss& a, const Context& context) {
  const unsigned blocks = flat_blocks(a.count);
  const bool vector = aligned16(a.prediction.data, a.target.data, a.grad.data);
  double* factor = context.workspace.ptr<double>();
  double* partial = factor + 1;
  launch(context, "rmse_loss_sum_kernel", rmse_loss_sum_kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, vector,
         a.prediction.ptr(), a.target.ptr(), partial);
  launch(context, "rmse_loss_finish_kernel", rmse_loss_finish_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(blocks), a.count, a.eps, LossOutput::of(a), partial, factor);
  if (!a.grad) return;
  launch(context, "rmse_loss_gradient_kernel", rmse_loss_gradient_kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, vector,
         factor, a.prediction.ptr(), a.target.ptr(), a.grad.ptr());
}

static std::string why_not(const RmseLoss& a) {
  if (!(a.eps >= 0.0f)) return "eps stands under a root; it must not be negative";
  return a.count > 0 ? "" : "the mean over no elements is undefined; count must be positive";
}

Entry<RmseLoss> rmse_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
