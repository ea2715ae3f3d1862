// upsample_weights/kernels.cu: the 3x3 taps of a filter after a nearest upsample by two, added up into four phases of 2x2; and the adjoint
// Layout: weights [C_out, C_in, 3, 3], phases [4, C_out, C_in, 2, 2], inner axes in oihw, ohwi or hwio.
// One thread owns a pair of channels: nine numbers in, sixteen out, or the other way; threads follow the innermost channel axis.
// One implementation for all versions. Expected bottleneck: memory bandwidth (oihw: nine neighbours a thread, from cache);
//   weights are small.
// Preconditions: fewer than 2^31 weights.
#include "../maps.cuh"
#include "../shared.h"

namespace warploom::shared {

// Rows of taps of three that fall on tap u of a phase: [phase, u].
__device__ __forceinline__ int first_tap(int phase, int u) { return u == 0 ? 0 : 1 + phase; }
__device__ __forceinline__ int last_tap(int phase, int u) { return u == 0 ? phase : 2; }

struct WeightPlaces {  // elements from one outer channel, inner channel or tap to the next; outer and inner also inside a phase
  int64_t outer, inner, phase_outer, phase_inner, tap;
};

template <bool kAdjoint>
__global__ void upsample_weights_kernel(unsigned pairs, FastDivisor inner, WeightPlaces places, const float* __restrict__ x,
                                        float* __restrict__ y) {
  const unsigned pair = blockIdx.x * kThreads + threadIdx.x;
  if (pair >= pairs) return;
  const int outer = inner.quotient(static_cast<int>(pair)), in = inner.remainder(static_cast<int>(pair), outer);
  const int64_t at = outer * places.outer + in * places.inner, phase_at = outer * places.phase_outer + in * places.phase_inner;
  const int64_t at_step = places.tap, phase_step = static_cast<int64_t>(pairs) * 4;
  float w[3][3] = {};
  if constexpr (!kAdjoint) {
    WL_UNROLL
    for (int t = 0; t < 9; ++t) w[t / 3][t % 3] = x[at + t * at_step];
  }
  WL_UNROLL
  for (int p = 0; p < 4; ++p) {
    WL_UNROLL
    for (int uv = 0; uv < 4; ++uv) {
      const int64_t place = p * phase_step + phase_at + uv * at_step;
      const float value = kAdjoint ? x[place] : 0.0f;
      float sum = 0.0f;
      WL_UNROLL
      for (int k = 0; k < 3; ++k) {
        WL_UNROLL
        for (int l = 0; l < 3; ++l) {
          const bool inside = k >= first_tap(p / 2, uv / 2) && k <= last_tap(p / 2, uv / 2) && l >= first_tap(p % 2, uv % 2) &&
                              l <= last_tap(p % 2, uv % 2);
          if (!inside) continue;
          if constexpr (kAdjoint)
            w[k][l] += value;
          else
            sum += w[k][l];
        }
      }
      if constexpr (!kAdjoint) y[place] = sum;
    }
  }
  if constexpr (kAdjoint) {
    WL_UNROLL
    for (int t = 0; t < 9; ++t) y[at + t * at_step] = w[t / 3][t % 3];
  }
}

static void run(const UpsampleWeights& a, const Context& context) {
  const auto pairs = static_cast<unsigned>(a.C_out * a.C_in);
  const auto kernel = a.adjoint ? upsample_weights_kernel<true> : upsample_weights_kernel<false>;
  const dim3 grid(blocks_for(pairs, kThreads));
  int64_t inner = a.C_in;
  WeightPlaces places = {9 * a.C_in, 9, 4 * a.C_in, 4, 1};  // oihw
  if (a.layout == WeightLayout::ohwi) places = {9 * a.C_in, 1, 4 * a.C_in, 1, a.C_in};
  if (a.layout == WeightLayout::hwio) inner = a.C_out, places = {a.C_out, 1, a.C_out, 1, a.C_in * a.C_out};
  launch(context, "shared::upsample_weights_kernel", kernel, grid, dim3(kThreads), 0, pairs, FastDivisor(static_cast<int>(inner)),
         places, a.x.ptr(), a.y.ptr());
}

Entry<UpsampleWeights> upsample_weights() { return {run, upsample_weights_error, nullptr, nullptr}; }

}  // namespace warploom::shared
