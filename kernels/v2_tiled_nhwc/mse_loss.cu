// mse_loss.cu (v2): loss = weight * mean((p - t)^2); grad = weight * 2 / count * (p - t); total += (loss * samples, samples)
// Layout: any; prediction, target and grad are flat arrays of `count` floats, loss one float, total two doubles. Pass 1: a block
//   takes every gridDim-th group of 4 * kThreads elements; pass 2: one block adds the blocks' sums. Sums are in double.
// From v1: 16-byte accesses, warp shuffles instead of a shared-memory tree, a number of blocks that one pass of the second
//   kernel reads.
// Expected bottleneck: memory bandwidth.
// Preconditions: workspace of 8 bytes for each block of pass 1. Same inputs, same bits.
#include <algorithm>

#include "../common/finish_mean.cuh"
#include "../common/vector.cuh"
#include "entries.h"

namespace warploom::v2 {

__global__ void mse_loss_kernel(int64_t count, bool vector, float slope, const float* __restrict__ prediction,  // [count]
                                const float* __restrict__ target,                                               // [count]
                                float* __restrict__ grad,                                                       // [count] or null
                                double* __restrict__ block_sums) {                                              // [gridDim.x]
  double sum = 0.0;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t groups = vector ? count / 4 : 0;
  for (int64_t i = thread; i < groups; i += threads) {
    const float4 p = load4(prediction + 4 * i), t = load4(target + 4 * i);
    const float4 d = make_float4(p.x - t.x, p.y - t.y, p.z - t.z, p.w - t.w);
    if (grad) store4(grad + 4 * i, make_float4(slope * d.x, slope * d.y, slope * d.z, slope * d.w));
    sum += (static_cast<double>(d.x) * d.x + static_cast<double>(d.y) * d.y) +
           (static_cast<double>(d.z) * d.z + static_cast<double>(d.w) * d.w);
  }
  for (int64_t i = 4 * groups + thread; i < count; i += threads) {
    const float d = prediction[i] - target[i];
    if (grad) grad[i] = slope * d;
    sum += static_cast<double>(d) * d;
  }
  const double whole = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) block_sums[blockIdx.x] = whole;
}

__global__ void mse_loss_finish_kernel(int blocks, int64_t count, int samples, float weight,
                                       const double* __restrict__ block_sums,  // [blocks]
                                       float* __restrict__ loss,               // [1]
                                       double* __restrict__ total) {           // [2] or null
  finish_mean<kThreads>(blocks, count, samples, weight, block_sums, loss, total);
}

static unsigned blocks_of(const MseLoss& a) { return std::min(blocks_for(a.count, 4 * kThreads), 512u); }

static int64_t sum_bytes(const MseLoss& a) { return 8 * static_cast<int64_t>(blocks_of(a)); }
static int64_t workspace_bytes(const MseLoss& a) { return a.sums ? 0 : sum_bytes(a); }

static void run(const MseLoss& a, const Context& context) {
  const unsigned blocks = blocks_of(a);
  const bool vector = aligned16(a.prediction.data, a.target.data, a.grad.data);
  double* block_sums = a.sums ? a.sums.ptr<double>() : context.workspace.ptr<double>();
  launch(context, "v2::mse_loss_kernel", mse_loss_kernel, dim3(blocks), dim3(kThreads), 0, a.count, vector,
         static_cast<float>(2.0 * a.weight / static_cast<double>(a.count)), a.prediction.ptr(), a.target.ptr(), a.grad.ptr(),
         block_sums);
  if (a.sums) return;
  launch(context, "v2::mse_loss_finish_kernel", mse_loss_finish_kernel, dim3(1), dim3(kThreads), 0, static_cast<int>(blocks),
         a.count, a.samples, a.weight, block_sums, a.loss.ptr(), a.total.ptr<double>());
}

static std::string why_not(const MseLoss& a) {
  return a.count > 0 ? "" : "the mean over no elements is undefined; count must be positive";
}

static Rest rest(const MseLoss& a) {
  Rest r;
  Errand& e = r.list[r.count++];
  e.kind = ErrandKind::mean, e.runs = static_cast<int>(blocks_of(a));
  e.elements = a.count, e.samples = a.samples, e.weight = a.weight;
  e.from.bytes = r.bytes = sum_bytes(a), e.to = a.loss, e.total = a.total;
  return r;
}

Entry<MseLoss> mse_loss() { return {run, why_not, workspace_bytes, nullptr, nullptr, nullptr, rest}; }

}  // namespace warploom::v2
