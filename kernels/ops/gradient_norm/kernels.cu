// gradient_norm: out = (sqrt(sum g^2), min(1, max_norm / (norm + 1e-6)))
// Layout: any; g is a flat array of `count` floats. Pass 1 sums per block, pass 2 adds up the blocks' sums.
// One thread owns every (gridDim * 256)-th group of 4 neighbouring elements (of 1 where g is not 16-byte aligned).
// Shared by all versions. Expected bottleneck: memory bandwidth.
// Preconditions: workspace of 8 bytes for each block of pass 1; no elements have norm 0. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

__global__ void gradient_norm_kernel(int64_t count, bool vector, const float* __restrict__ g,  // [count]
                                     double* __restrict__ partial) {                           // [gridDim.x]
  double sum[1] = {0.0};
  for_flat(count, vector, [&](int64_t i, auto size) {
    constexpr int kSize = decltype(size)::value;
    float v[kSize];
    copy_vector<kSize>(v, g + i);
    WL_UNROLL
    for (int e = 0; e < kSize; ++e) sum[0] += static_cast<double>(v[e]) * static_cast<double>(v[e]);
  });
  store_block_sums<1>(sum, blockIdx.x, partial);
}

__global__ void gradient_norm_finish_kernel(int64_t blocks, const double* __restrict__ partial,  // [blocks]
                                            const float* __restrict__ max_norm,                  // [1]
                                            float* __restrict__ out) {                           // [2]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum[0]), factor = max_norm[0] / (norm + 1e-6);
  out[0] = static_cast<float>(norm);
  out[1] = static_cast<float>(factor >= 1.0 ? 1.0 : factor);  // in this order a NaN stays one
}

static int64_t workspace_bytes(const GradientNorm& a) { return 8 * static_cast<int64_t>(flat_blocks(a.count)); }

static void run(const GradientNorm& a, const Context& context) {
  const unsigned blocks = flat_blocks(a.count);
  double* partial = context.workspace.ptr<double>();
  launch(context, "gradient_norm_kernel", gradient_norm_kernel, dim3(blocks), dim3(kFlatThreads), 0, a.count, aligned16(a.g.data),
         a.g.ptr(), partial);
  launch(context, "gradient_norm_finish_kernel", gradient_norm_finish_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(blocks), partial, a.max_norm.ptr(), a.out.ptr());
}

Entry<GradientNorm> gradient_norm() { return {run, nullptr, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
