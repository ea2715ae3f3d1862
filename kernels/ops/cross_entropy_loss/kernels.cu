// cross_entropy_loss: value = sum w_n (log sum_c exp x_nc - x_n,label) / sum w_n; grad = weight w_n (softmax - onehot) / sum w_n
// Layout: logits and grad [outer, C, inner], labels [outer, inner]; NCHW: inner = H * W, NHWC: inner = 1.
// Pass 1 sums w_n over the labels alone, so that pass 2 can write finished gradients in the same sweep as the losses. In pass 2
//   one thread owns a pixel where inner is large (neighbouring threads, neighbouring pixels); else a group of 1..32 lanes owns it
//   and the lanes walk over its classes (for inner == 1 neighbouring addresses).
// Shared by all versions. Expected bottleneck: memory bandwidth; the logits are read twice (maximum and sum of exponentials in
//   one sweep).
// Preconditions: outer, C, inner > 0; workspace of 16 bytes and 8 for each block of a pass. Same inputs, same bits.
#include <cfloat>

#include "kernels/common/flat.cuh"
#include "kernels/ops/shared.h"

namespace warploom::shared {

// A pixel's class and weight: a bad label has weight NaN, an ignored one 0; both have class -1.
struct PixelLabel {
  int label;
  float weight;
  bool ignored;
};
__device__ __forceinline__ PixelLabel pixel_label(float label, int64_t C, float ignore_index, const float* class_weight) {
  if (label == ignore_index) return {-1, 0.0f, true};
  if (!(label >= 0.0f && label < static_cast<float>(C)) || label != floorf(label)) return {-1, nanf(""), false};
  const int c = static_cast<int>(label);
  return {c, class_weight ? class_weight[c] : 1.0f, false};
}

__global__ void cross_entropy_weight_kernel(int64_t pixels, int64_t C, float ignore_index,
                                            const float* __restrict__ target,        // [outer, inner]
                                            const float* __restrict__ class_weight,  // [C] or null
                                            double* __restrict__ partial) {          // [gridDim.x]
  double sum[1] = {0.0};
  for_flat(pixels, false,
           [&](int64_t i, auto) { sum[0] += static_cast<double>(pixel_label(target[i], C, ignore_index, class_weight).weight); });
  store_block_sums<1>(sum, blockIdx.x, partial);
}

__global__ void cross_entropy_factor_kernel(int64_t blocks, float weight, const double* __restrict__ partial,  // [blocks]
                                            double* __restrict__ sums) {  // [2]: sum w_n; weight / sum w_n
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x == 0) sums[0] = sum[0], sums[1] = sum[0] == 0.0 ? 0.0 : weight / sum[0];
}

// The largest logit so far and the sum of exp(x - largest): one exponential per logit. Starts at the lowest float rather than at
// -inf, so that logits of -inf are classes that cannot be.
struct LogSum {
  float largest = -FLT_MAX, sum = 0.0f;

  __device__ __forceinline__ void add(float x) {
    const float d = x - largest, e = expf(-fabsf(d));
    if (d > 0.0f)
      sum = sum * e + 1.0f, largest = x;
    else
      sum += e;  // a NaN comes here and stays
  }
  __device__ __forceinline__ void merge(float other_largest, float other_sum) {
    const float d = other_largest - largest, e = expf(-fabsf(d));
    if (d > 0.0f)
      sum = sum * e + other_sum, largest = other_largest;
    else
      sum += other_sum * e;
  }
};

// A pixel per thread, or with kGroups `lanes` neighbouring threads (a power of two, at most 32) for each.
template <bool kGroups>
__global__ void cross_entropy_kernel(int64_t pixels, int64_t C, int64_t inner, int lanes, float ignore_index,
                                     const double* __restrict__ sums,         // [2]
                                     const float* __restrict__ prediction,    // [outer, C, inner]
                                     const float* __restrict__ target,        // [outer, inner]
                                     const float* __restrict__ class_weight,  // [C] or null
                                     float* __restrict__ grad,                // [outer, C, inner] or null
                                     double* __restrict__ partial) {          // [gridDim.x]
  const int step = kGroups ? lanes : 1;
  const int lane = kGroups ? static_cast<int>(threadIdx.x) % lanes : 0;
  const int64_t per_block = kFlatThreads / step;
  const float factor = static_cast<float>(sums[1]);
  double total[1] = {0.0};
  // All threads of a block make the same number of rounds, as the lanes of a warp meet in each.
  for (int64_t first = blockIdx.x * per_block; first < pixels; first += gridDim.x * per_block) {
    const int64_t n = first + static_cast<int>(threadIdx.x) / step;
    const bool inside = n < pixels;
    const int64_t outer_index = n / inner, base = outer_index * C * inner + (n - outer_index * inner);
    const PixelLabel pixel = inside ? pixel_label(target[n], C, ignore_index, class_weight) : PixelLabel{-1, 0.0f, true};
    LogSum all;
    if (inside && !pixel.ignored)
      for (int64_t c = lane; c < C; c += step) all.add(prediction[base + c * inner]);
    if constexpr (kGroups) {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        const float largest = __shfl_xor_sync(0xffffffffu, all.largest, distance);
        const float sum = __shfl_xor_sync(0xffffffffu, all.sum, distance);
        all.merge(largest, sum);
      }
    }
    if (all.largest == INFINITY) all.sum = nanf("");  // which class it is for is no question that a softmax answers
    if (lane == 0 && inside && !pixel.ignored) {
      const float x = pixel.label >= 0 ? prediction[base + pixel.label * inner] : nanf("");
      total[0] += static_cast<double>(pixel.weight) * static_cast<double>((all.largest - x) + logf(all.sum));
    }
    if (!grad || !inside) continue;
    const float share = pixel.weight * factor, per_sum = 1.0f / all.sum;
    for (int64_t c = lane; c < C; c += step) {
      const int64_t at = base + c * inner;
      const float softmax = pixel.ignored ? 0.0f : expf(prediction[at] - all.largest) * per_sum;
      grad[at] = pixel.ignored ? 0.0f : share * (softmax - (c == pixel.label ? 1.0f : 0.0f));
    }
  }
  store_block_sums<1>(total, blockIdx.x, partial);
}

__global__ void cross_entropy_finish_kernel(int64_t blocks, LossOutput out, const double* __restrict__ sums,  // [2]
                                            const double* __restrict__ partial) {                             // [blocks]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x != 0) return;
  if (sums[0] == 0.0) return out.store_nothing();  // every label is ignored
  out.store(sum[0] / sums[0]);
}

inline namespace cross_entropy_kernels {

struct Launches {
  int64_t pixels;
  int lanes;  // of a pixel
  unsigned weight_blocks, blocks;

  explicit Launches(const CrossEntropyLoss& a) : pixels(a.outer * a.inner), lanes(1) {
    if (a.inner < 32)  // neighbouring pixels are no whole warp of neighbouring addresses
      while (lanes < 32 && lanes < a.C) lanes *= 2;
    weight_blocks = flat_blocks(pixels);
    blocks = static_cast<unsigned>(std::min<int64_t>((pixels * lanes + kFlatThreads - 1) / kFlatThreads, 4096));
  }
};

int64_t workspace_bytes(const CrossEntropyLoss& a) {
  const Launches l(a);
  return 16 + 8 * static_cast<int64_t>(std::max(l.weight_blocks, l.blocks));
}

void run(const CrossEntropyLoss& a, const Context& context) {
  const Launches l(a);
  double* sums = context.workspace.ptr<double>();
  double* partial = sums + 2;
  const float ignore = static_cast<float>(a.ignore_index);
  launch(context, "cross_entropy_weight_kernel", cross_entropy_weight_kernel, dim3(l.weight_blocks), dim3(kFlatThreads), 0,
         l.pixels, a.C, ignore, a.target.ptr(), a.class_weight.ptr(), partial);
  launch(context, "cross_entropy_factor_kernel", cross_entropy_factor_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(l.weight_blocks), a.weight, partial, sums);
  launch(context, "cross_entropy_kernel", l.lanes > 1 ? cross_entropy_kernel<true> : cross_entropy_kernel<false>, dim3(l.blocks),
         dim3(kFlatThreads), 0, l.pixels, a.C, a.inner, l.lanes, ignore, sums, a.prediction.ptr(), a.target.ptr(),
         a.class_weight.ptr(), a.grad.ptr(), partial);
  launch(context, "cross_entropy_finish_kernel", cross_entropy_finish_kernel, dim3(1), dim3(kFlatThreads), 0,
         static_cast<int64_t>(l.blocks), LossOutput::of(a), sums, partial);
}

std::string why_not(const CrossEntropyLoss& a) {
  if (a.outer < 1 || a.C < 1 || a.inner < 1) return "the mean over no pixels is undefined; outer, C and inner must be positive";
  if (a.C > (int64_t(1) << 24)) return "labels are floats, which count to 16777216 classes at most; C is " + std::to_string(a.C);
  return "";
}

}  // namespace cross_entropy_kernels

Entry<CrossEntropyLoss> cross_entropy_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
