// dice_loss: value = 1 - A / D, A = 2 sum p t + smooth, D = sum p + sum t + smooth; grad = weight * (A / D^2 - 2 t / D)
// Layout: any; flat arrays of `count` floats. Pass 1 makes the three sums per block, pass 2 the loss and the gradient's two
//   coefficients, pass 3 the gradient. One thread owns every (gridDim * 256)-th group of 4 neighbouring elements.
// Shared by all versions. Expected bottleneck: memory bandwidth; the target is read twice, as the gradient needs the whole sums.
// Preconditions: count > 0; workspace of 16 bytes and 24 for each block of pass 1. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

__global__ void dice_loss_sum_kernel(int64_t count, bool vector, const float* __restrict__ prediction,  // [count]
                                     const float* __restrict__ target,                                  // [count]
                                     double* __restrict__ partial) {                                    // [gridDim.x][3]
  double sums[3] = {0.0, 0.0, 0.0};                                                                     // p t, p, t
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float p[kSize], t[kSize];
    copy_vector<kSize>(p, prediction + i), copy_vector<kSize>(t, target + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      sums[0] += static_cast<double>(p[e]) * static_cast<double>(t[e]);
      sums[1] += static_cast<double>(p[e]), sums[2] += static_cast<double>(t[e]);
    }
  });
  store_block_sums<3>(sums, blockIdx.x, partial);
}

__global__ void dice_loss_finish_kernel(int64_t blocks, float smooth, LossOutput out,
                                        const double* __restrict__ partial,   // [blocks][3]
                                        double* __restrict__ coefficients) {  // [2]
  double sums[3];
  add_block_sums<3>(sums, blocks, partial);
  if (threadIdx.x != 0) return;
  const double numerator = 2.0 * sums[0] + smooth, denominator = sums[1] + sums[2] + smooth;
  coefficients[0] = -2.0 * out.weight / denominator;
  coefficients[1] = out.weight * numerator / (denominator * denominator);
  out.store(1.0 - numerator / denominator);
}

__global__ void dice_loss_gradient_kernel(int64_t count, bool vector, const double* __restrict__ coefficients,  // [2]
                                          const float* __restrict__ target,                                     // [count]
                                          float* __restrict__ grad) {                                           // [count]
  const float a = static_cast<float>(coefficients[0]), b = static_cast<float>(coefficients[1]);
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float t[kSize];
    copy_vector<kSize>(t, target + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) t[e] = a * t[e] + b;
    store_group<kSize>(grad + i, t);
  });
}

static int64_t workspace_bytes(const DiceLoss& a) { return 16 + 24 * static_cast<int64_t>(flat_blocks(a.count)); }

static void run(const DiceLoss& a, const Context& context) {
  const unsigned blocks = flat_blocks(a.count);
  const bool vector = aligned16(a.prediction.data, a.target.data, a.grad.data);
  double* coefficients = context.workspace.ptr<double>();
  double* partial = coefficients + 2;
  launch(context, "dice_loss_sum_kernel", dice_loss_sum_kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, vector,
         a.prediction.ptr(), a.target.ptr(), partial);
  launch(context, "dice_loss_finish_kernel", dice_loss_finish_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(blocks), a.smooth, LossOutput::of(a), partial, coefficients);
  if (!a.grad) return;
  launch(context, "dice_loss_gradient_kernel", dice_loss_gradient_kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, vector,
         coefficients, a.target.ptr(), a.grad.ptr());
}

static std::string why_not(const DiceLoss& a) {
  return a.count > 0 ? "" : "the overlap of no elements is undefined; count must be positive";
}

Entry<DiceLoss> dice_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
