// mse_loss.cu (v1): loss = weight * mean((p - t)^2); grad = weight * 2 / count * (p - t); total += (loss * samples, samples)
// Layout: any; prediction, target and grad are flat arrays of `count` floats, loss one float, total two doubles. Pass 1: a block
//   sums its own run of kRun elements; pass 2: one block adds the blocks' sums. Both add in a tree of fixed shape, in double.
// First rung.
// Expected bottleneck: memory (three arrays once); the second pass is one block, so short that its latency is its cost.
// Preconditions: workspace of 8 bytes for each block of pass 1. Same inputs, same bits.
#include "../common/portable.cuh"
#include "entries.h"

namespace warploom::v1 {

constexpr int kRun = 4 * kThreads;

// The block's sum of `value`; the order depends on nothing but the thread index.
inline __device__ double block_sum(double value) {
  WL_SHARED(double, sums, [kThreads]);
  const int t = static_cast<int>(threadIdx.x);
  sums[t] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) sums[t] += sums[t + half];
  }
  __syncthreads();  // thread 0 wrote sums[0] in the last round
  return sums[0];
}

__global__ void mse_loss_kernel(int64_t count, float slope, const float* __restrict__ prediction,  // [count]
                                const float* __restrict__ target,                                  // [count]
                                float* __restrict__ grad,                                          // [count] or null
                                double* __restrict__ block_sums) {                                 // [gridDim.x]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRun;
  const int64_t end = first + kRun < count ? first + kRun : count;
  double sum = 0.0;
  for (int64_t i = first + threadIdx.x; i < end; i += kThreads) {
    const float difference = prediction[i] - target[i];
    if (grad) grad[i] = slope * difference;
    sum += static_cast<double>(difference) * difference;
  }
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) block_sums[blockIdx.x] = whole;
}

__global__ void mse_loss_finish_kernel(int blocks, int64_t count, int samples, float weight,
                                       const double* __restrict__ block_sums,  // [blocks]
                                       float* __restrict__ loss,               // [1]
                                       double* __restrict__ total) {           // [2] or null
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) sum += block_sums[i];
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) {
    const double value = weight * whole / static_cast<double>(count);
    loss[0] = static_cast<float>(value);
    if (total) total[0] += value * samples, total[1] += samples;
  }
}

static int64_t workspace_bytes(const MseLoss& a) { return 8 * static_cast<int64_t>(blocks_for(a.count, kRun)); }

static void run(const MseLoss& a, const Context& context) {
  const unsigned blocks = blocks_for(a.count, kRun);
  double* block_sums = context.workspace.ptr<double>();
  launch(context, "v1::mse_loss_kernel", mse_loss_kernel, dim3(blocks), dim3(kThreads), 0, a.count,
         static_cast<float>(2.0 * a.weight / static_cast<double>(a.count)), a.prediction.ptr(), a.target.ptr(), a.grad.ptr(),
         block_sums);
  launch(context, "v1::mse_loss_finish_kernel", mse_loss_finish_kernel, dim3(1), dim3(kThreads), 0, static_cast<int>(blocks),
         a.count, a.samples, a.weight, block_sums, a.loss.ptr(), a.total.ptr<double>());
}

static std::string why_not(const MseLoss& a) {
  return a.count > 0 ? "" : "the mean over no elements is undefined; count must be positive";
}

Entry<MseLoss> mse_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::v1
