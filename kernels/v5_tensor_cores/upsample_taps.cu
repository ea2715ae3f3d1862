// upsample_taps.cu (v5): v[a, b] = sum of w[k, l] over the taps k of a, l of b: what the 3x3 taps become on the image before a nearest
//   upsample by 2, {2}, {1, 2}, {0, 1}, {0} of each axis; and dw[k, l] = sum of dv[a, b] over the a, b that hold k, l
// Layout: w, dw hwio [3, 3, C_in, C_out]; v, dv [4, 4, C_out, C_in], hwio of the adjoint convolution.
// One block owns 32 x 32 pairs of channels, which turn around in shared memory; a thread four pairs, nine numbers of each.
// From v2: new; v2 multiplies all nine taps. Sums in float32, before any rounding. Expected bottleneck: memory, small.
// Preconditions: fewer than 2^31 elements of v.
#include "../common/summed_taps.cuh"
#include "upsample_taps.h"

namespace warploom::v5 {

constexpr int kSide = 32, kLines = 8;

__global__ __launch_bounds__(kSide* kLines) void sum_taps_kernel(int C_in, int C_out,
                                                                 const float* __restrict__ w,   // [3, 3, C_in, C_out]
                                                                 float* __restrict__ summed) {  // [4, 4, C_out, C_in]
  WL_SHARED(float, tile, [9][kSide][kSide + 1]);                                                // [tap][input][output channel]
  const int tiles = (C_out + kSide - 1) / kSide, block = static_cast<int>(blockIdx.x);
  const int in0 = block / tiles * kSide, out0 = block % tiles * kSide;
  const int lane = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
  const int plane = C_in * C_out;
  for (int r = line; r < kSide; r += kLines) {
    if (in0 + r >= C_in || out0 + lane >= C_out) continue;
    WL_UNROLL
    for (int t = 0; t < 9; ++t) tile[t][r][lane] = w[t * plane + (in0 + r) * C_out + out0 + lane];
  }
  __syncthreads();
  for (int r = line; r < kSide; r += kLines) {
    if (out0 + r >= C_out || in0 + lane >= C_in) continue;
    float taps[9];
    WL_UNROLL
    for (int t = 0; t < 9; ++t) taps[t] = tile[t][lane][r];
    WL_UNROLL
    for (int p = 0; p < 16; ++p) {
      float sum = 0.0f;
      WL_UNROLL
      for (int t = 0; t < 9; ++t)
        if (sum_holds_tap(p, t)) sum += taps[t];
      summed[p * plane + (out0 + r) * C_in + in0 + lane] = sum;
    }
  }
}

__global__ __launch_bounds__(kSide* kLines) void spread_taps_kernel(int C_in, int C_out,
                                                                    const float* __restrict__ summed,  // [4, 4, C_out, C_in]
                                                                    float* __restrict__ dw) {          // [3, 3, C_in, C_out]
  WL_SHARED(float, tile, [9][kSide][kSide + 1]);  // [tap][input][output channel]
  const int tiles = (C_out + kSide - 1) / kSide, block = static_cast<int>(blockIdx.x);
  const int in0 = block / tiles * kSide, out0 = block % tiles * kSide;
  const int lane = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
  const int plane = C_in * C_out;
  for (int r = line; r < kSide; r += kLines) {
    if (out0 + r >= C_out || in0 + lane >= C_in) continue;
    float taps[9] = {};
    WL_UNROLL
    for (int p = 0; p < 16; ++p) {
      const float v = summed[p * plane + (out0 + r) * C_in + in0 + lane];
      WL_UNROLL
      for (int t = 0; t < 9; ++t)
        if (sum_holds_tap(p, t)) taps[t] += v;
    }
    WL_UNROLL
    for (int t = 0; t < 9; ++t) tile[t][lane][r] = taps[t];
  }
  __syncthreads();
  for (int r = line; r < kSide; r += kLines) {
    if (in0 + r >= C_in || out0 + lane >= C_out) continue;
    WL_UNROLL
    for (int t = 0; t < 9; ++t) dw[t * plane + (in0 + r) * C_out + out0 + lane] = tile[t][r][lane];
  }
}

static dim3 grid_of(const Conv2dShape& s) {
  return dim3(blocks_for(int64_t((s.C_in + kSide - 1) / kSide) * ((s.C_out + kSide - 1) / kSide), 1));
}

void sum_taps(const Context& context, const Conv2dShape& s, const float* w, float* summed) {
  launch(context, "v5::sum_taps_kernel", sum_taps_kernel, grid_of(s), dim3(kSide * kLines), 0, s.C_in, s.C_out, w, summed);
}

void spread_taps(const Context& context, const Conv2dShape& s, const float* summed, float* dw) {
  launch(context, "v5::spread_taps_kernel", spread_taps_kernel, grid_of(s), dim3(kSide * kLines), 0, s.C_in, s.C_out, summed, dw);
}

}  // namespace warploom::v5
