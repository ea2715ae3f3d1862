// kl_loss: loss = weight / samples * sum of (m^2 + exp(v) - 1 - v) / 2; grad = weight / samples * (m, (exp(v) - 1) / 2)
// Layout: prediction, grad f32[rows, 2, cols], means then logarithms of variances. Pass 1 sums per block and writes the gradient,
//   pass 2 adds up the blocks' sums.
// One thread owns every (gridDim * 256)-th pair of a mean and its log variance; neighbouring threads have neighbouring pairs.
// Shared by all versions. Expected bottleneck: the launches; latents are small.
// Preconditions: rows, cols, samples > 0; workspace of 8 bytes for each block of pass 1. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"
#include "preconditions.h"

namespace warploom::shared {

__global__ void kl_loss_kernel(int64_t count, int64_t cols, float scale,
                               const float* __restrict__ prediction,  // [rows, 2, cols]
                               float* __restrict__ grad,              // [rows, 2, cols] or null
                               double* __restrict__ partial) {        // [gridDim.x]
  double sum[1] = {0.0};
  for_flat(count, false, [&](int64_t i, auto) {
    const int64_t mean = i / cols * cols + i, log_variance = mean + cols;
    const float m = prediction[mean], v = prediction[log_variance], rise = expm1f(v);
    sum[0] += 0.5 * (static_cast<double>(m) * m + (static_cast<double>(rise) - v));
    if (grad) grad[mean] = scale * m, grad[log_variance] = 0.5f * scale * rise;
  });
  store_block_sums<1>(sum, blockIdx.x, partial);
}

__global__ void kl_loss_finish_kernel(int64_t blocks, int samples, LossOutput out,
                                      const double* __restrict__ partial) {  // [blocks]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x == 0) out.store(sum[0] / static_cast<double>(samples));
}

static int64_t workspace_bytes(const KlLoss& a) { return 8 * static_cast<int64_t>(flat_blocks(a.rows * a.cols)); }

static void run(const KlLoss& a, const Context& context) {
  const int64_t count = a.rows * a.cols;
  const unsigned blocks = flat_blocks(count);
  double* partial = context.workspace.ptr<double>();
  launch(context, "kl_loss_kernel", kl_loss_kernel, dim3(blocks), dim3(kFlatThreads), 0, count, a.cols,
         static_cast<float>(a.weight / static_cast<double>(a.samples)), a.prediction.ptr(), a.grad.ptr(), partial);
  launch(context, "kl_loss_finish_kernel", kl_loss_finish_kernel, dim3(1), dim3(kFlatThreads), 0, static_cast<int64_t>(blocks),
         a.samples, LossOutput::of(a), partial);
}

Entry<KlLoss> kl_loss() { return {run, kl_loss_error, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
