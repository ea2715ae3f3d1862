// rms_norm/kernels.cu: y = x / sqrt(mean(x^2) + eps) by row; dx = inv_rms * (dy - x * inv_rms^2 * mean(dy * x))
// Layout: x, dy, y, dx f32[rows, cols]; inv_rms f32[rows].
// Long rows: one block owns a row. Short rows (up to 1,024): one warp owns a row, eight rows a block. The row is read twice, the second
//   time from cache. Sums in double, so that squares neither overflow nor lose small terms, in a fixed order.
// One implementation for all versions. Expected bottleneck: memory bandwidth; with few long rows, the number of blocks.
// Preconditions: cols >= 1.
#include "../maps.cuh"
#include "../shared.h"

namespace warploom::shared {

constexpr int64_t kWarpRow = 1024;  // columns up to which a warp owns a row

// Sum over `threads` (32 or kThreads) of this row, in every one of them.
__device__ __forceinline__ double row_sum(double value, bool whole_block) {
  WL_SHARED(double, sums, [kThreads / 32]);
  WL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  if (!whole_block) return value;
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0.0;
  for (int w = 0; w < kThreads / 32; ++w) value += sums[w];
  return value;
}

// first(i) for vectors or elements of the row gives the terms of the sum; then second(i, sum).
template <class First, class Second>
__device__ __forceinline__ void two_passes(int64_t rows, int64_t units, bool whole_block, First first, Second second) {
  const int threads = whole_block ? kThreads : 32, lane = static_cast<int>(threadIdx.x) % threads;
  const int64_t row = whole_block ? blockIdx.x : static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  double sum = 0.0;
  if (row < rows)
    for (int64_t i = lane; i < units; i += threads) sum += first(row, i);
  sum = row_sum(sum, whole_block);
  if (row < rows) second(row, sum, lane, threads);
}

template <int kVector>
__global__ void rms_norm_forward_kernel(int64_t rows, int64_t cols, bool whole_block, float eps, const float* x,  // [rows, cols]
                                        float* y,                                                                 // [rows, cols]
                                        float* __restrict__ inv_rms) {  // [rows] or null
  two_passes(
      rows, cols / kVector, whole_block,
      [=](int64_t row, int64_t i) {
        const Floats<kVector> f = load_floats<kVector>(x + row * cols + i * kVector);
        double sum = 0.0;
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) sum += static_cast<double>(f.v[e]) * f.v[e];
        return sum;
      },
      [=](int64_t row, double sum, int lane, int threads) {
        const float inv = static_cast<float>(1.0 / sqrt(sum / static_cast<double>(cols) + static_cast<double>(eps)));
        if (inv_rms && lane == 0) inv_rms[row] = inv;
        for (int64_t i = lane; i < cols / kVector; i += threads) {
          Floats<kVector> f = load_floats<kVector>(x + row * cols + i * kVector);
          WL_UNROLL
          for (int e = 0; e < kVector; ++e) f.v[e] *= inv;
          store_floats<kVector>(y + row * cols + i * kVector, f);
        }
      });
}

template <int kVector>
__global__ void rms_norm_backward_kernel(int64_t rows, int64_t cols, bool whole_block, const float* dy,  // [rows, cols]
                                         const float* __restrict__ x,                                    // [rows, cols]
                                         const float* __restrict__ inv_rms,                              // [rows]
                                         float* dx) {                                                    // [rows, cols]
  two_passes(
      rows, cols / kVector, whole_block,
      [=](int64_t row, int64_t i) {
        const Floats<kVector> g = load_floats<kVector>(dy + row * cols + i * kVector);
        const Floats<kVector> f = load_floats<kVector>(x + row * cols + i * kVector);
        double sum = 0.0;
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) sum += static_cast<double>(g.v[e]) * f.v[e];
        return sum;
      },
      [=](int64_t row, double sum, int lane, int threads) {
        const double inv = inv_rms[row];
        const float by_dy = inv_rms[row], by_x = static_cast<float>(-inv * inv * inv * (sum / static_cast<double>(cols)));
        for (int64_t i = lane; i < cols / kVector; i += threads) {
          Floats<kVector> g = load_floats<kVector>(dy + row * cols + i * kVector);
          const Floats<kVector> f = load_floats<kVector>(x + row * cols + i * kVector);
          WL_UNROLL
          for (int e = 0; e < kVector; ++e) g.v[e] = by_dy * g.v[e] + by_x * f.v[e];
          store_floats<kVector>(dx + row * cols + i * kVector, g);
        }
      });
}

static dim3 grid_for(int64_t rows, bool whole_block) { return dim3(blocks_for(rows, whole_block ? 1 : kThreads / 32)); }

static void run_forward(const RmsNormForward& a, const Context& context) {
  const bool whole_block = a.cols > kWarpRow, vector = a.cols % 4 == 0 && aligned16(a.x.data, a.y.data);
  launch(context, "shared::rms_norm_forward_kernel", vector ? rms_norm_forward_kernel<4> : rms_norm_forward_kernel<1>,
         grid_for(a.rows, whole_block), dim3(kThreads), 0, a.rows, a.cols, whole_block, a.eps, a.x.ptr(), a.y.ptr(),
         a.inv_rms.ptr());
}

static void run_backward(const RmsNormBackward& a, const Context& context) {
  const bool whole_block = a.cols > kWarpRow, vector = a.cols % 4 == 0 && aligned16(a.dy.data, a.x.data, a.dx.data);
  launch(context, "shared::rms_norm_backward_kernel", vector ? rms_norm_backward_kernel<4> : rms_norm_backward_kernel<1>,
         grid_for(a.rows, whole_block), dim3(kThreads), 0, a.rows, a.cols, whole_block, a.dy.ptr(), a.x.ptr(), a.inv_rms.ptr(),
         a.dx.ptr());
}

Entry<RmsNormForward> rms_norm_forward() { return {run_forward, rms_norm_error<RmsNormForward>, nullptr, nullptr}; }
Entry<RmsNormBackward> rms_norm_backward() { return {run_backward, rms_norm_error<RmsNormBackward>, nullptr, nullptr}; }

}  // namespace warploom::shared
