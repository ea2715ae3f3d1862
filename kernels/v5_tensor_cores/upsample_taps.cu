// upsample_taps.cu (v5): dw[k, l] = sum of dv[a, b] over the a, b that hold k, l: of what the 3x3 taps become on the image before a nearest
//   upsample by 2, {2}, {1, 2}, {0, 1}, {0} of each axis (errands.cu makes them)
// Layout: dw hwio [3, 3, C_in, C_out]; dv [4, 4, C_out, C_in], hwio of the adjoint convolution.
// One block owns 32 x 32 pairs of channels, which turn around in shared memory; a thread one pair of dv, which comes in runs that meet
//   here. The blocks behind these sum db's runs.
// From v2: new; v2 multiplies all nine taps. Sums in float32, before any rounding. Expected bottleneck: memory, small.
// Preconditions: fewer than 2^31 elements of v.
#include "../common/summed_taps.cuh"
#include "upsample_taps.h"

namespace warploom::v5 {

constexpr int kSide = 32;

__global__ __launch_bounds__(kSide* kSide) void spread_taps_kernel(int C_in, int C_out, int runs,
                                                                   const float* __restrict__ summed,  // [runs, 4, 4, C_out, C_in]
                                                                   float* __restrict__ dw,            // [3, 3, C_in, C_out]
                                                                   BiasSums bias) {
  WL_SHARED(float, tile, [9][kSide][kSide + 1]);  // [tap][input][output channel]
  const int tiles = (C_out + kSide - 1) / kSide, block = static_cast<int>(blockIdx.x);
  const int in0 = block / tiles * kSide, out0 = block % tiles * kSide;
  const int lane = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
  if (in0 >= C_in) {
    const int in_tiles = (C_in + kSide - 1) / kSide;
    const int channel = (block - in_tiles * tiles) * kSide * kSide + static_cast<int>(threadIdx.x);
    if (channel >= bias.channels) return;
    float sum = bias.partials[channel];
    for (int r = 1; r < bias.runs; ++r) sum += bias.partials[static_cast<int64_t>(r) * bias.channels + channel];
    bias.db[channel] = sum;
    return;
  }
  const int plane = C_in * C_out;
  if (out0 + line < C_out && in0 + lane < C_in) {
    summed += (out0 + line) * C_in + in0 + lane;
    float v[16];
    WL_UNROLL
    for (int p = 0; p < 16; ++p) v[p] = summed[p * plane];
    for (int r = 1; r < runs; ++r) {
      summed += 16 * static_cast<int64_t>(plane);
      WL_UNROLL
      for (int p = 0; p < 16; ++p) v[p] += summed[p * plane];
    }
    WL_UNROLL
    for (int t = 0; t < 9; ++t) {
      float sum = 0.0f;
      WL_UNROLL
      for (int p = 0; p < 16; ++p)
        if (sum_holds_tap(p, t)) sum += v[p];
      tile[t][lane][line] = sum;
    }
  }
  __syncthreads();
  if (in0 + line >= C_in || out0 + lane >= C_out) return;
  WL_UNROLL
  for (int t = 0; t < 9; ++t) dw[t * plane + (in0 + line) * C_out + out0 + lane] = tile[t][line][lane];
}

static int64_t tiles_of(const Conv2dShape& s) { return int64_t((s.C_in + kSide - 1) / kSide) * ((s.C_out + kSide - 1) / kSide); }

void spread_taps(const Context& context, const Conv2dShape& s, int runs, const float* summed, float* dw, const BiasSums& bias) {
  const int64_t blocks = tiles_of(s) + (bias.channels + kSide * kSide - 1) / (kSide * kSide);
  launch(context, "v5::spread_taps_kernel", spread_taps_kernel, dim3(blocks_for(blocks, 1)), dim3(kSide * kSide), 0, s.C_in,
         s.C_out, runs, summed, dw, bias);
}

}  // namespace warploom::v5
