// pointwise_loss: loss = weight * mean of f(p, t), grad = weight / count * df/dp; f = |p - t|, or the cross-entropy of a logit p
// Layout: any; flat arrays of `count` floats. Pass 1 sums per block and writes the gradient, pass 2 adds up the blocks' sums.
// One thread owns every (gridDim * 256)-th group of 4 neighbouring elements (of 1 where a pointer is not 16-byte aligned).
// Shared by all versions. Expected bottleneck: memory bandwidth; two exponentials per element do not show beside it.
// Preconditions: count > 0; workspace of 8 bytes for each block of pass 1. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

// The term of one element; slope: its derivative.
template <LossKind kKind>
__device__ __forceinline__ float pointwise_term(float p, float t, float* slope) {
  if constexpr (kKind == LossKind::l1) {
    const float d = p - t;
    *slope = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;  // of a NaN: NaN
    return fabsf(d);
  } else {
    const float e = expf(-fabsf(p));  // in (0, 1]: nothing overflows
    const float sigmoid = (p < 0.0f ? e : 1.0f) / (1.0f + e);
    *slope = sigmoid - t;
    const float c = p < 0.0f ? -t : 1.0f - t;  // of an infinite logit: nothing where the target agrees, else infinity
    return (c == 0.0f ? 0.0f : c * p) + log1pf(e);
  }
}

template <LossKind kKind>
__global__ void pointwise_loss_kernel(int64_t count, bool vector, float scale, const float* __restrict__ prediction,  // [count]
                                      const float* __restrict__ target,                                               // [count]
                                      float* __restrict__ grad,        // [count] or null
                                      double* __restrict__ partial) {  // [gridDim.x]
  double sum[1] = {0.0};
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float p[kSize], t[kSize], g[kSize];
    copy_vector<kSize>(p, prediction + i), copy_vector<kSize>(t, target + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) {
      float slope;
      sum[0] += static_cast<double>(pointwise_term<kKind>(p[e], t[e], &slope));
      g[e] = scale * slope;
    }
    if (grad) store_group<kSize>(grad + i, g);
  });
  store_block_sums<1>(sum, blockIdx.x, partial);
}

__global__ void pointwise_loss_finish_kernel(int64_t blocks, int64_t count, LossOutput out,
                                             const double* __restrict__ partial) {  // [blocks]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x == 0) out.store(sum[0] / static_cast<double>(count));
}

static int64_t workspace_bytes(const PointwiseLoss& a) { return 8 * static_cast<int64_t>(flat_blocks(a.count)); }

static void run(const PointwiseLoss& a, const Context& context) {
  const unsigned blocks = flat_blocks(a.count);
  const bool vector = aligned16(a.prediction.data, a.target.data, a.grad.data);
  double* partial = context.workspace.ptr<double>();
  const float scale = static_cast<float>(a.weight / static_cast<double>(a.count));
  const auto kernel =
      a.kind == LossKind::l1 ? pointwise_loss_kernel<LossKind::l1> : pointwise_loss_kernel<LossKind::bce_with_logits>;
  launch(context, "pointwise_loss_kernel", kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, vector, scale,
         a.prediction.ptr(), a.target.ptr(), a.grad.ptr(), partial);
  launch(context, "pointwise_loss_finish_kernel", pointwise_loss_finish_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(blocks), a.count, LossOutput::of(a), partial);
}

static std::string why_not(const PointwiseLoss& a) {
  return a.count > 0 ? "" : "the mean over no elements is undefined; count must be positive";
}

Entry<PointwiseLoss> pointwise_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
