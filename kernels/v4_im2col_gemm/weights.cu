// Maths    turn: to[(o, t), i] = w[o, i, t]. sum: dw = sum over splits of the partial gradients, turned back where they were
//          turned.
// Layout   w, dw [groups * O, I, taps] (oihw); turned [groups, O * taps, I]; partial [splits, groups, ...].
// Owns     A thread owns one weight; the splits are summed in order, so the result does not depend on scheduling.
// Bound    memory, and small: weights are few beside activations.
// Needs    fewer than 2^31 weights.
#include "unfold.h"

namespace warploom::v4 {

// w: [groups, O, I, taps]; to: [groups, O, taps, I]
__global__ void turn_weights_kernel(int count, int I, int taps, const float* __restrict__ w, float* __restrict__ to) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int i = static_cast<int>(at % I), rest = static_cast<int>(at / I), t = rest % taps, o = rest / taps;
  to[at] = w[(int64_t(o) * I + i) * taps + t];
}

// partial: [splits, groups, O, taps, I] if Turned, else [splits, groups, O, I, taps]; dw: [groups, O, I, taps]
template <bool Turned>
__global__ void sum_weight_gradient_kernel(int count, int I, int taps, int splits, const float* __restrict__ partial,
                                           float* __restrict__ dw) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  float sum = 0.0f;
  for (int s = 0; s < splits; ++s) sum += partial[int64_t(s) * count + at];
  int64_t to = at;
  if (Turned) {
    const int i = static_cast<int>(at % I), rest = static_cast<int>(at / I), t = rest % taps, o = rest / taps;
    to = (int64_t(o) * I + i) * taps + t;
  }
  dw[to] = sum;
}

void turn_weights(int groups, int O, int I, int taps, const float* w, float* to, const Context& context) {
  const int count = groups * O * I * taps;
  launch(context, "turn_weights", turn_weights_kernel, dim3(blocks_for(count, 256)), dim3(256), 0, count, I, taps, w, to);
}

void sum_weight_gradient(int groups, int O, int I, int taps, int splits, bool turned, const float* partial, float* dw,
                         const Context& context) {
  const int count = groups * O * I * taps;
  launch(context, "sum_weight_gradient", turned ? sum_weight_gradient_kernel<true> : sum_weight_gradient_kernel<false>,
         dim3(blocks_for(count, 256)), dim3(256), 0, count, I, taps, splits, partial, dw);
}

}  // namespace warploom::v4
