// flat.cuh - one pass over flat arrays by a grid of any size, and sums over such a pass that are the same at every run.
//
// A pass takes groups of four neighbouring elements where all pointers are 16-byte aligned, the remainder one by one. A sum is
// made in double: per thread, per block (one slot of the workspace for each), and then by one block over the slots.
#pragma once

#include <algorithm>

#include "reduce.cuh"
#include "vector.cuh"

namespace warploom {

constexpr int kFlatThreads = 256;

// Blocks of a pass: enough to fill a GPU, few enough that one block adds up their sums quickly.
inline unsigned flat_blocks(int64_t count) {
  const int64_t wanted = (count + 4 * kFlatThreads - 1) / (4 * kFlatThreads);
  return static_cast<unsigned>(std::min<int64_t>(wanted, 1024));
}

template <int kCount>
struct GroupSize {
  static constexpr int value = kCount;
};

template <int kCount>
__device__ __forceinline__ void store_group(float* to, const float (&from)[kCount]) {
  static_assert(kCount == 1 || kCount == 4, "one access");
  if constexpr (kCount == 4)
    store4(to, make_float4(from[0], from[1], from[2], from[3]));
  else
    to[0] = from[0];
}

// body(i, GroupSize<n>()) for the groups i .. i + n - 1 that are this thread's.
template <class Body>
__device__ __forceinline__ void for_flat(int64_t count, bool vector, Body body) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kFlatThreads + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kFlatThreads;
  const int64_t groups = vector ? count / 4 : 0;
  for (int64_t i = thread; i < groups; i += threads) body(4 * i, GroupSize<4>());
  for (int64_t i = 4 * groups + thread; i < count; i += threads) body(i, GroupSize<1>());
}

// The block's sums into its slot of the partial sums; every block is of kFlatThreads threads in a row.
template <int kSums>
__device__ __forceinline__ void store_block_sums(const double (&sums)[kSums], int64_t block,
                                                 double* __restrict__ partial) {  // [blocks][kSums]
  WL_UNROLL
  for (int s = 0; s < kSums; ++s) {
    if (s > 0) __syncthreads();  // block_sum's shared memory is still being read
    const double whole = block_sum<kFlatThreads>(sums[s]);
    if (threadIdx.x == 0) partial[block * kSums + s] = whole;
  }
}

// The sums over all slots, in thread 0 of the one block that adds them.
template <int kSums>
__device__ __forceinline__ void add_block_sums(double (&sums)[kSums], int64_t blocks,
                                               const double* __restrict__ partial) {  // [blocks][kSums]
  WL_UNROLL
  for (int s = 0; s < kSums; ++s) {
    if (s > 0) __syncthreads();
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < blocks; i += kFlatThreads) sum += partial[i * kSums + s];
    sums[s] = block_sum<kFlatThreads>(sum);
  }
}

// Where a loss goes; what every loss entry has besides its formula.
struct LossOutput {
  float* loss;    // [1]
  double* total;  // [2] or null
  int samples;
  float weight;

  template <class Args>
  static LossOutput of(const Args& a) {
    return {a.loss.ptr(), a.total.template ptr<double>(), a.samples, a.weight};
  }
  __device__ __forceinline__ void store(double value) const {
    const double weighted = weight * value;
    loss[0] = static_cast<float>(weighted);
    if (total) total[0] += weighted * samples, total[1] += samples;
  }
  // Of a batch without anything to compare: no loss, and nothing in the mean of the epoch.
  __device__ __forceinline__ void store_nothing() const { loss[0] = 0.0f; }
};

}  // namespace warploom
