// winner_take_all/kernels.cu: winner-take-all sparsity: the largest element of every map, the `keep` largest winners of every channel,
//   zeros elsewhere
// Layout: NCHW as rows (n, c) of `inner` elements, NHWC as [N, inner, C]; winners i32[N, C].
// Finding: one warp owns a map of NCHW, one thread a map of NHWC, so that neighbouring threads read neighbouring channels. Ranking: one
//   block owns a channel, a thread some samples, each of which it compares with all others, staged in shared memory; a sample stays if
//   fewer than `keep` are before it. Leaving: one thread owns one element.
// One implementation for all versions. Expected bottleneck: memory bandwidth; of ranking N comparisons for each winner.
// Preconditions: see winner_take_all_error; y may be x, dx may be dy (hence no __restrict__).
#include "../maps.cuh"
#include "../shared.h"
#include "preconditions.h"

namespace warploom::shared {

// Larger for a larger float; one key for both zeros, the largest for a NaN.
__device__ __forceinline__ uint32_t winner_key(float value) {
  const float v = value + 0.0f;
  const uint32_t bits = __float_as_uint(v), ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return v == v ? ordered : 0xffffffffu;
}

__global__ __launch_bounds__(kThreads) void winner_take_all_rows_kernel(int64_t rows, int inner,
                                                                        const float* __restrict__ x,  // [rows, inner]
                                                                        int* __restrict__ winners) {  // [rows]
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t best = 0;  // below every key
  int at = inner;
  for (int i = lane; i < inner; i += 32) {
    const uint32_t key = winner_key(x[row * inner + i]);
    if (key > best) best = key, at = i;
  }
  WL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, best, distance);
    const int place = __shfl_xor_sync(0xffffffffu, at, distance);
    if (other > best || (other == best && place < at)) best = other, at = place;
  }
  if (lane == 0) winners[row] = at;
}

__global__ __launch_bounds__(kThreads) void winner_take_all_channels_kernel(int64_t maps, int C, int inner,
                                                                            const float* __restrict__ x,  // [N, inner, C]
                                                                            int* __restrict__ winners) {  // [N, C]
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (map >= maps) return;
  const int64_t n = map / C, c = map - n * C;
  const float* from = x + n * inner * C + c;
  uint32_t best = winner_key(from[0]);
  int at = 0;
  for (int i = 1; i < inner; ++i) {
    const uint32_t key = winner_key(from[static_cast<int64_t>(i) * C]);
    if (key > best) best = key, at = i;
  }
  winners[map] = at;
}

__global__ __launch_bounds__(kThreads) void winner_take_all_rank_kernel(int64_t N, int64_t C, int64_t inner, int64_t keep,
                                                                        bool rows,
                                                                        const float* __restrict__ x,  // the maps
                                                                        int* winners) {               // [N, C]
  WL_SHARED(uint32_t, keys, [kThreads]);
  const int64_t c = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const auto position = [&](int64_t n) {  // also of one that has been found not to stay
    const int winner = winners[n * C + c];
    return winner < 0 ? -1 - winner : winner;
  };
  const auto key_of = [&](int64_t n) {
    const int64_t place = position(n);
    return winner_key(x[rows ? (n * C + c) * inner + place : (n * inner + place) * C + c]);
  };
  for (int64_t first = 0; first < N; first += kThreads) {
    const int64_t n = first + thread;
    const uint32_t mine = n < N ? key_of(n) : 0u;
    int64_t before = 0;  // winners that are larger, or as large and of an earlier sample
    for (int64_t chunk = 0; chunk < N; chunk += kThreads) {
      __syncthreads();  // all are done with the chunk before, and have written who of the samples before does not stay
      if (chunk + thread < N) keys[thread] = key_of(chunk + thread);
      __syncthreads();
      const int count = static_cast<int>(N - chunk < kThreads ? N - chunk : kThreads);
      for (int j = 0; j < count; ++j) before += keys[j] > mine || (keys[j] == mine && chunk + j < n);
    }
    if (n < N && before >= keep) winners[n * C + c] = -1 - position(n);
  }
}

__global__ __launch_bounds__(kThreads) void winner_take_all_leave_rows_kernel(int64_t count, FastDivisor inner,
                                                                              const int* __restrict__ winners,  // [rows]
                                                                              const float* from,                // [rows, inner]
                                                                              float* to) {                      // [rows, inner]
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kThreads, base_row = base / inner.divisor;
  if (base + threadIdx.x >= count) return;
  const int local = static_cast<int>(base - base_row * inner.divisor) + static_cast<int>(threadIdx.x);
  const int rows = inner.quotient(local), i = inner.remainder(local, rows);
  to[base + threadIdx.x] = winners[base_row + rows] == i ? from[base + threadIdx.x] : 0.0f;
}

__global__ __launch_bounds__(kThreads) void winner_take_all_leave_channels_kernel(int64_t count, FastDivisor channels,
                                                                                  FastDivisor inner,
                                                                                  const int* __restrict__ winners,  // [N, C]
                                                                                  const float* from,  // [N, inner, C]
                                                                                  float* to) {        // [N, inner, C]
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kThreads, base_place = base / channels.divisor;
  if (base + threadIdx.x >= count) return;
  const int64_t base_image = base_place / inner.divisor;
  const int local = static_cast<int>(base - base_place * channels.divisor) + static_cast<int>(threadIdx.x);
  const int places = channels.quotient(local), c = channels.remainder(local, places);
  const int place = static_cast<int>(base_place - base_image * inner.divisor) + places;
  const int images = inner.quotient(place), i = inner.remainder(place, images);
  to[base + threadIdx.x] = winners[(base_image + images) * channels.divisor + c] == i ? from[base + threadIdx.x] : 0.0f;
}

template <class Args>
static bool maps_are_rows(const Args& a) {
  return a.layout == Layout::nchw && a.inner > 1;
}

template <class Args>
static void leave_winners(const Args& a, const Context& context, const float* from, float* to) {
  const int64_t count = a.N * a.C * a.inner;
  const FastDivisor inner(static_cast<int>(a.inner)), channels(static_cast<int>(a.C));
  const dim3 grid(blocks_for(count, kThreads));
  if (maps_are_rows(a))
    launch(context, "shared::winner_take_all_leave_rows_kernel", winner_take_all_leave_rows_kernel, grid, dim3(kThreads), 0,
           count, inner, a.winners.template ptr<int>(), from, to);
  else
    launch(context, "shared::winner_take_all_leave_channels_kernel", winner_take_all_leave_channels_kernel, grid, dim3(kThreads),
           0, count, channels, inner, a.winners.template ptr<int>(), from, to);
}

static void run(const WinnerTakeAllForward& a, const Context& context) {
  if (a.N == 0) return;
  const int64_t maps = a.N * a.C;
  const bool rows = maps_are_rows(a);
  int* winners = a.winners.ptr<int>();
  if (rows)
    launch(context, "shared::winner_take_all_rows_kernel", winner_take_all_rows_kernel, dim3(blocks_for(maps, kThreads / 32)),
           dim3(kThreads), 0, maps, static_cast<int>(a.inner), a.x.ptr(), winners);
  else
    launch(context, "shared::winner_take_all_channels_kernel", winner_take_all_channels_kernel, dim3(blocks_for(maps, kThreads)),
           dim3(kThreads), 0, maps, static_cast<int>(a.C), static_cast<int>(a.inner), a.x.ptr(), winners);
  if (a.keep < a.N)
    launch(context, "shared::winner_take_all_rank_kernel", winner_take_all_rank_kernel, dim3(blocks_for(a.C, 1)), dim3(kThreads),
           0, a.N, a.C, a.inner, a.keep, rows, a.x.ptr(), winners);
  leave_winners(a, context, a.x.ptr(), a.y.ptr());
}
static void run(const WinnerTakeAllBackward& a, const Context& context) {
  if (a.N > 0) leave_winners(a, context, a.dy.ptr(), a.dx.ptr());
}

Entry<WinnerTakeAllForward> winner_take_all_forward() { return {run, winner_take_all_error, nullptr, nullptr}; }
Entry<WinnerTakeAllBackward> winner_take_all_backward() { return {run, winner_take_all_gradient_error, nullptr, nullptr}; }

}  // namespace warploom::shared
