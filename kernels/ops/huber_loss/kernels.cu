// huber_loss: loss = weight * mean of h(p - t), grad = weight / count * h'; h = d^2 / 2 near 0, delta * (|d| - delta / 2) beyond delta
// Layout: any; flat arrays of `count` floats. Pass 1 sums per block and writes the gradient, pass 2 adds up the blocks' sums.
// One thread owns every (gridDim * 256)-th group of 4 neighbouring elements (of 1 where a pointer is not 16-byte aligned).
// Shared by all versions. Expected bottleneck: memory bandwidth.
// Preconditions: count > 0, delta > 0; workspace of 8 bytes for each block of pass 1. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"
#include "preconditions.h"

namespace warploom::shared {

__global__ void huber_loss_kernel(int64_t count, bool vector, float delta, float scale,
                                  const float* __restrict__ prediction,  // [count]
                                  const float* __restrict__ target,      // [count]
                                  float* __restrict__ grad,              // [count] or null
                                  double* __restrict__ partial) {        // [gridDim.x]
  double sum[1] = {0.0};
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float p[kSize], t[kSize], g[kSize];
    copy_vector<kSize>(p, prediction + i), copy_vector<kSize>(t, target + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      const float d = p[e] - t[e], far = fabsf(d);
      sum[0] += static_cast<double>(far > delta ? delta * (far - 0.5f * delta) : 0.5f * d * d);
      g[e] = scale * (d > delta ? delta : d < -delta ? -delta : d);  // of a NaN: NaN
    }
    if (grad) store_group<kSize>(grad + i, g);
  });
  store_block_sums<1>(sum, blockIdx.x, partial);
}

__global__ void huber_loss_finish_kernel(int64_t blocks, int64_t count, LossOutput out,
                                         const double* __restrict__ partial) {  // [blocks]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x == 0) out.store(sum[0] / static_cast<double>(count));
}

static int64_t workspace_bytes(const HuberLoss& a) { return 8 * static_cast<int64_t>(flat_blocks(a.count)); }

static void run(const HuberLoss& a, const Context& context) {
  const unsigned blocks = flat_blocks(a.count);
  const bool vector = aligned16(a.prediction.data, a.target.data, a.grad.data);
  double* partial = context.workspace.ptr<double>();
  const float scale = static_cast<float>(a.weight / static_cast<double>(a.count));
  launch(context, "huber_loss_kernel", huber_loss_kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, vector, a.delta, scale,
         a.prediction.ptr(), a.target.ptr(), a.grad.ptr(), partial);
  launch(context, "huber_loss_finish_kernel", huber_loss_finish_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(blocks), a.count, LossOutput::of(a), partial);
}

Entry<HuberLoss> huber_loss() { return {run, huber_loss_error, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
