// Maths    turn: to[(o, t), i] = w[o, i, t]. sum: dw = sum over splits of the partial gradients, turned back where they were
//          turned.
// Layout   w, dw [groups * O, I, taps] (oihw); turned [groups, O * taps, I]; partial [splits, groups, ...].
// Owns     A block turns 32 input channels x up to 32 taps of one output channel through shared memory, so that both sides are read
//          and written in a row. The splits are summed in order, so the result does not depend on scheduling.
// Bound    memory, and small: weights are few beside activations.
// Needs    fewer than 2^31 weights.
#include "unfold.h"

namespace warploom::v4 {

constexpr int kTurnThreads = 256, kTurn = 32;

// The part of one output channel's weights, [I, taps], that a block turns.
struct TurnTile {
  int64_t o;
  int i0, rows, t0, taps;  // rows of I from i0 on, taps from t0 on
  bool padded;             // a step along I must not stay in a few of the 32 banks of shared memory

  __device__ __forceinline__ TurnTile(int I, int all_taps) {
    const int across = (I + kTurn - 1) / kTurn, along = (all_taps + kTurn - 1) / kTurn;
    int rest = blockIdx.x;
    i0 = rest % across * kTurn;
    rest /= across;
    t0 = rest % along * kTurn;
    o = rest / along;
    rows = I - i0 < kTurn ? I - i0 : kTurn;
    taps = all_taps - t0 < kTurn ? all_taps - t0 : kTurn;
    padded = taps % 2 == 0;
  }
  __device__ __forceinline__ int place(int i, int t) const {
    const int e = i * taps + t;
    return padded ? e + e / 32 : e;
  }
};
inline unsigned turn_blocks(int64_t O, int I, int taps) {
  return static_cast<unsigned>(O * blocks_for(I, kTurn) * blocks_for(taps, kTurn));
}

// w: [groups * O, I, taps]; to: [groups * O, taps, I]
__global__ void turn_weights_kernel(int I, int taps, const float* __restrict__ w, float* __restrict__ to) {
  WL_SHARED(float, tile, [kTurn * (kTurn + 1)]);
  const TurnTile part(I, taps);
  for (int e = threadIdx.x; e < part.rows * part.taps; e += kTurnThreads) {
    const int i = e / part.taps, t = e - i * part.taps;
    tile[part.place(i, t)] = w[(part.o * I + part.i0 + i) * taps + part.t0 + t];
  }
  __syncthreads();
  for (int e = threadIdx.x; e < kTurn * part.taps; e += kTurnThreads) {
    const int t = e / kTurn, i = e % kTurn;
    if (i < part.rows) to[(part.o * taps + part.t0 + t) * I + part.i0 + i] = tile[part.place(i, t)];
  }
}

// In order, but eight loads are on their way at a time: there are too few threads to hide their latency otherwise.
__device__ __forceinline__ float sum_splits(const float* __restrict__ partial, int64_t at, int splits, int64_t count) {
  constexpr int kAtOnce = 8;
  float sum = 0.0f;
  int s = 0;
  for (; s + kAtOnce <= splits; s += kAtOnce) {
    float part[kAtOnce];
    WL_UNROLL
    for (int i = 0; i < kAtOnce; ++i) part[i] = partial[(s + i) * count + at];
    WL_UNROLL
    for (int i = 0; i < kAtOnce; ++i) sum += part[i];
  }
  for (; s < splits; ++s) sum += partial[s * count + at];
  return sum;
}

// partial: [splits, groups * O, I, taps]; dw: [groups * O, I, taps]
__global__ void sum_weight_gradient_kernel(int count, int splits, const float* __restrict__ partial, float* __restrict__ dw) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at < count) dw[at] = sum_splits(partial, at, splits, count);
}

// partial: [splits, groups * O, taps, I]; dw: [groups * O, I, taps]
__global__ void sum_turned_gradient_kernel(int count, int I, int taps, int splits, const float* __restrict__ partial,
                                           float* __restrict__ dw) {
  WL_SHARED(float, tile, [kTurn * (kTurn + 1)]);
  const TurnTile part(I, taps);
  for (int e = threadIdx.x; e < kTurn * part.taps; e += kTurnThreads) {
    const int t = e / kTurn, i = e % kTurn;
    if (i >= part.rows) continue;
    tile[part.place(i, t)] = sum_splits(partial, (part.o * taps + part.t0 + t) * I + part.i0 + i, splits, count);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < part.rows * part.taps; e += kTurnThreads) {
    const int i = e / part.taps, t = e - i * part.taps;
    dw[(part.o * I + part.i0 + i) * taps + part.t0 + t] = tile[part.place(i, t)];
  }
}

void turn_weights(int groups, int O, int I, int taps, const float* w, float* to, const Context& context) {
  launch(context, "turn_weights", turn_weights_kernel, dim3(turn_blocks(int64_t(groups) * O, I, taps)), dim3(kTurnThreads), 0, I,
         taps, w, to);
}

void sum_weight_gradient(int groups, int O, int I, int taps, int splits, bool turned, const float* partial, float* dw,
                         const Context& context) {
  const int count = groups * O * I * taps;
  if (turned)
    launch(context, "sum_turned_gradient", sum_turned_gradient_kernel, dim3(turn_blocks(int64_t(groups) * O, I, taps)),
           dim3(kTurnThreads), 0, count, I, taps, splits, partial, dw);
  else
    launch(context, "sum_weight_gradient", sum_weight_gradient_kernel, dim3(blocks_for(count, 256)), dim3(256), 0, count, splits,
           partial, dw);
}

}  // namespace warploom::v4
