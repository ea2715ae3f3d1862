// filter_transform.cu (v6): U = G w G^T, and dw = G^T dU G
// Layout: w, dw hwio [3, 3, C, N]; U [position, C, N] or [position, N, C], dU [split, position, C, N], C and N padded to 4.
// U: a block owns 32 x 32 filters, which pass through shared memory so that either order is written in whole lines; a thread four of
//   them. dw: a thread owns one filter.
// New in v6. Expected bottleneck: memory (U is 4 times as large as w with 36 positions), from 2^16 filters on that of the chip.
// Preconditions: fewer than 2^31 weights.
#include "../common/portable.cuh"
#include "apply.cuh"
#include "entries.h"

namespace warploom::v6 {

constexpr int kSide = 32, kRows = 8;

template <class S, bool kTransposed, bool kMirrored>
__global__ __launch_bounds__(kSide* kRows) void transform_filter_kernel(int C, int N, int C_padded, int N_padded,
                                                                        const float* __restrict__ w,  // [3, 3, C, N]
                                                                        float* __restrict__ U) {      // [position, C, N]
  WL_SHARED(float, filters, [9][kSide][kSide + 1]);
  const int lane = static_cast<int>(threadIdx.x) % kSide, row = static_cast<int>(threadIdx.x) / kSide;
  const int c0 = static_cast<int>(blockIdx.y) * kSide, n0 = static_cast<int>(blockIdx.x) * kSide;
  for (int tap = 0; tap < 9; ++tap)
    for (int r = row; r < kSide; r += kRows) {
      const int c = c0 + r, n = n0 + lane;
      filters[tap][r][lane] = c < C && n < N ? w[(static_cast<int64_t>(tap) * C + c) * N + n] : 0.0f;
    }
  __syncthreads();
  const int64_t position = static_cast<int64_t>(C_padded) * N_padded;
  for (int r = row; r < kSide; r += kRows) {
    const int c = kTransposed ? lane : r, n = kTransposed ? r : lane;
    if (c0 + c >= C_padded || n0 + n >= N_padded) continue;
    float* const to =
        U + (kTransposed ? static_cast<int64_t>(n0 + n) * C_padded + c0 + c : static_cast<int64_t>(c0 + c) * N_padded + n0 + n);
    apply_2d<MatrixG<S>, 1>(
        [&](auto i, auto j) {
          constexpr int tap = kMirrored ? (2 - i) * 3 + 2 - j : i * 3 + j;
          Pack<1> g;
          g.v[0] = filters[tap][c][n];
          return g;
        },
        [&](auto i, const Pack<1>* u) {
          constexpr int P = S::kProducts;
          WL_UNROLL
          for (int j = 0; j < P; ++j) to[(i * P + j) * position] = u[j].v[0];
        });
  }
}

void transform_filter(const Context& context, Scheme scheme, FilterForm form, int C, int N, const float* w, float* U) {
  const int C_padded = padded(C), N_padded = padded(N);
  const dim3 grid(blocks_for(N_padded, kSide), blocks_for(C_padded, kSide));
  with_scheme(scheme, [&](auto s) {
    using S = decltype(s);
    auto kernel = transform_filter_kernel<S, false, false>;
    if constexpr (S::kUp == 1) {
      if (form == FilterForm::mirrored) kernel = transform_filter_kernel<S, true, true>;
    } else {
      if (form == FilterForm::transposed) kernel = transform_filter_kernel<S, true, false>;
    }
    launch(context, "v6::transform_filter_kernel", kernel, grid, dim3(kSide * kRows), 0, C, N, C_padded, N_padded, w, U);
  });
}

template <class S>
__global__ __launch_bounds__(kTransformThreads, kTransformBlocks) void collect_filter_kernel(
    int C, int N, int row_length, int64_t position, int splits,
    const float* __restrict__ dU,  // [split, position, C, N]
    float* __restrict__ dw) {      // [3, 3, C, N]
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, count = static_cast<int64_t>(C) * N;
  if (index >= count) return;
  const int c = static_cast<int>(index / N), n = static_cast<int>(index - static_cast<int64_t>(c) * N);
  constexpr int P = S::kProducts;
  dU += static_cast<int64_t>(c) * row_length + n;
  dw += index;
  Pack<1> sum[P * P];
  for (int split = 0; split < splits; ++split, dU += P * P * position) {
    WL_UNROLL
    for (int p = 0; p < P * P; ++p) sum[p].v[0] += dU[p * position];
  }
  apply_2d<MatrixGt<S>, 1>([&](auto i, auto j) { return sum[i * P + j]; },
                           [&](auto i, const Pack<1>* g) {
                             WL_UNROLL
                             for (int j = 0; j < 3; ++j) dw[(i * 3 + j) * count] = g[j].v[0];
                           });
}

void collect_filter(const Context& context, Scheme scheme, int C, int N, int splits, const float* dU, float* dw) {
  with_scheme(scheme, [&](auto s) {
    launch(context, "v6::collect_filter_kernel", collect_filter_kernel<decltype(s)>,
           dim3(blocks_for(int64_t(C) * N, kTransformThreads)), dim3(kTransformThreads), 0, C, N, padded(N),
           int64_t(padded(C)) * padded(N), splits, dU, dw);
  });
}

}  // namespace warploom::v6
