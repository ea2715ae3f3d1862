// implicit_gemm.cuh (v2): out[m, n] = sum over k of gathered[m, k] * w[k, n], the matrix `gathered` never stored: m is a pixel,
//   k a (tap, channel)
// Layout: source [N, src_H, src_W, src_C], w hwio [KH, KW, C_in/groups, C_out], out [N, out_H, out_W, out_C]. Forward: source x,
//   n an output channel. Backward to the input: source dy, n an input channel, taps mirrored; each phase of a stride is a dense
//   problem of its own.
// One block owns a BM x BN tile of out and walks k in steps of BK through shared memory; one thread owns TM x TN of it in
//   registers.
// From v1: each loaded value serves BM or BN products, loads are 16 bytes along channels, the next step's loads overlap the
//   arithmetic.
// Expected bottleneck: FFMA issue in the large tile, shared-memory reads in the narrow ones.
// Preconditions: one image below 2^31 elements.
#pragma once

#include "../common/fast_divisor.cuh"
#include "register_tile.cuh"

namespace warploom::v2 {

// How loads contiguous in k are dealt out over a tile of kRows: two neighbouring lanes take the two halves of a 32-byte sector,
// and the transposing stores of a warp then meet no bank twice.
template <int kRows>
__device__ __forceinline__ int pair_row(int item) {
  return item / 2 % kRows;
}
template <int kRows>
__device__ __forceinline__ int pair_k(int item) {
  return (item % 2 + item / (2 * kRows) * 2) * 4;
}

struct ImplicitGemm {
  int N = 0, rows = 0, cols = 0;  // pixels computed: N images of rows x cols, for phase (0, 0) of a strided backward
  int groups = 1, k_channels = 0, n_channels = 0;  // channels of a group, gathered and computed
  int taps_h = 0, taps_w = 0;
  int src_H = 0, src_W = 0, src_C = 0;
  int out_H = 0, out_W = 0, out_C = 0;
  int step_h = 1, step_w = 1;  // forward: source row = step_h * i + a - pad; backward: out row = step_h * i + phase
  int pad_top = 0, pad_left = 0;
  int w_width = 0, w_inputs = 0, w_outputs = 0;      // KW, C_in/groups, C_out
  bool vector_k = false, vector_n = false;           // 16-byte access along k_channels (n_channels) is aligned
  FastDivisor by_image, by_col, by_channel, by_tap;  // rows * cols, cols, k_channels, taps_w
};

// kBackward: which of the two problems. kMasked: k_channels is a multiple of BK and a bit per tap fits a word, so that a step
// lies within one tap and its bounds check is one bit; else every thread finds its own (tap, channel), 4 elements at a time or
// singly.
template <class T, bool kBackward, bool kMasked>
__device__ __forceinline__ void implicit_gemm(const ImplicitGemm& g,
                                              const float* __restrict__ source,  // [N, src_H, src_W, src_C]
                                              const float* __restrict__ w,       // [KH, KW, C_in/groups, C_out]
                                              const float* __restrict__ bias,    // [out_C] or null
                                              float* __restrict__ out) {         // [N, out_H, out_W, out_C]
  WL_SHARED(typename T::Shared, tile, [1]);
  WL_SHARED(int, corner, [3]);  // m0, n0, group: kept here while the loop needs every register
  const int t = static_cast<int>(threadIdx.x);
  const int n_tiles = (g.n_channels + T::BN - 1) / T::BN;
  const int n0 = static_cast<int>(blockIdx.x) % n_tiles * T::BN;
  const int group = static_cast<int>(blockIdx.x) / n_tiles % g.groups;
  const int m0 = static_cast<int>(blockIdx.x) / n_tiles / g.groups * T::BM;

  // The phase of a strided backward: pixels phase + step * i see only the taps first + step * a.
  int rows = g.rows, cols = g.cols, taps_h = g.taps_h, taps_w = g.taps_w;
  int phase_h = 0, phase_w = 0, first_h = 0, first_w = 0;
  FastDivisor by_image = g.by_image, by_col = g.by_col, by_tap = g.by_tap;
  if (kBackward && g.step_h * g.step_w > 1) {
    phase_h = static_cast<int>(blockIdx.y) / g.step_w, phase_w = static_cast<int>(blockIdx.y) % g.step_w;
    first_h = (phase_h + g.pad_top) % g.step_h, first_w = (phase_w + g.pad_left) % g.step_w;
    rows = (g.out_H - phase_h + g.step_h - 1) / g.step_h, cols = (g.out_W - phase_w + g.step_w - 1) / g.step_w;
    taps_h = (g.taps_h - first_h + g.step_h - 1) / g.step_h, taps_w = (g.taps_w - first_w + g.step_w - 1) / g.step_w;
    if (rows <= 0 || cols <= 0 || m0 >= g.N * rows * cols) return;
    if (taps_h <= 0 || taps_w <= 0) taps_h = taps_w = 0;
    by_image = FastDivisor(rows * cols), by_col = FastDivisor(cols), by_tap = FastDivisor(max(taps_w, 1));
  }
  const int M = g.N * rows * cols, K = taps_h * taps_w * g.k_channels;
  const int sign = kBackward ? -1 : 1;
  const bool vector_n = (kMasked && T::BN >= 64) || g.vector_n;  // known, so that the large tiles carry no second way of loading

  // Where this thread's gathered groups begin: pixel at tap (0, 0), channel of the group. May lie outside the image.
  int gather_at[T::kGathers];
  int gather_row[T::kGathers], gather_col[T::kGathers];
  uint32_t
      gather_mask[T::kGathers];  // kMasked: bit 0 says whether the current tap lies inside the image, the next bits the next taps
  WL_UNROLL
  for (int l = 0; l < T::kGathers; ++l) {
    const int item = t + l * T::kThreads;
    const int p = min(m0 + pair_row<T::BM>(item), M - 1);
    const int n = by_image.quotient(p), inside = by_image.remainder(p, n);
    const int i = by_col.quotient(inside), j = by_col.remainder(inside, i);
    const int row = kBackward ? i + (phase_h + g.pad_top) / g.step_h : i * g.step_h - g.pad_top;
    const int col = kBackward ? j + (phase_w + g.pad_left) / g.step_w : j * g.step_w - g.pad_left;
    gather_row[l] = row, gather_col[l] = col, gather_mask[l] = 0;
    gather_at[l] = n * g.src_H * g.src_W * g.src_C + group * g.k_channels;
    if constexpr (kMasked) {
      gather_at[l] += (row * g.src_W + col) * g.src_C + pair_k<T::BM>(item);
      uint32_t columns = 0;
      for (int b = 0; b < taps_w; ++b)
        columns |= static_cast<uint32_t>(static_cast<unsigned>(col + sign * b) < static_cast<unsigned>(g.src_W)) << b;
      for (int a = 0; a < taps_h; ++a)
        if (static_cast<unsigned>(row + sign * a) < static_cast<unsigned>(g.src_H)) gather_mask[l] |= columns << (a * taps_w);
    }
  }

  float next_gather[T::kGathers][4], next_filter[T::kFilters][4];

  // Where this thread's groups of w begin, and the tap and channel of the step to be fetched: kMasked walks with running offsets.
  int filter_at[T::kFilters];
  int tap_w = 0, channel = 0;
  WL_UNROLL
  for (int l = 0; l < T::kFilters; ++l) {
    const int item = t + l * T::kThreads;
    if constexpr (kBackward)
      filter_at[l] = ((first_h * g.w_width + first_w) * g.w_inputs + n0 + pair_row<T::BN>(item)) * g.w_outputs +
                     group * g.k_channels + pair_k<T::BN>(item);
    else
      filter_at[l] = item / (T::BN / 4) * g.w_outputs + group * g.n_channels + n0 + item % (T::BN / 4) * 4;
  }

  auto fetch_masked = [&](const bool more) {  // more: k is not at its end; the masks know that by themselves
    int source_step = T::BK, filter_step = kBackward ? T::BK : T::BK * g.w_outputs;
    bool next_tap = false;
    channel += T::BK;
    if (channel == g.k_channels) {  // on to the next tap; forward walks w in its own order, backward may leave out taps
      channel = 0, next_tap = true, source_step += sign * g.src_C - g.k_channels;
      if (kBackward) filter_step += g.step_w * g.w_inputs * g.w_outputs - g.k_channels;
      if (++tap_w == taps_w) {
        tap_w = 0, source_step += sign * (g.src_W - taps_w) * g.src_C;
        if (kBackward) filter_step += (g.step_h * g.w_width - g.step_w * taps_w) * g.w_inputs * g.w_outputs;
      }
    }
    WL_UNROLL
    for (int l = 0; l < T::kGathers; ++l) {
      assign4(next_gather[l], gather_mask[l] & 1, source + gather_at[l]);
      gather_at[l] += source_step, gather_mask[l] >>= next_tap;
    }
    WL_UNROLL
    for (int l = 0; l < T::kFilters; ++l) {
      const int item = t + l * T::kThreads;
      const bool mine = more && (T::BN * T::BK / 4 % T::kThreads == 0 || item < T::BN * T::BK / 4);
      if constexpr (kBackward)
        assign4(next_filter[l], mine && n0 + pair_row<T::BN>(item) < g.n_channels, w + filter_at[l]);
      else
        assign_upto4(next_filter[l], mine ? g.n_channels - n0 - item % (T::BN / 4) * 4 : 0, vector_n, w + filter_at[l]);
      filter_at[l] += filter_step;
    }
  };

  auto fetch_general = [&](int k0) {
    WL_UNROLL
    for (int l = 0; l < T::kGathers; ++l) {
      const int k = k0 + pair_k<T::BM>(t + l * T::kThreads);
      WL_UNROLL
      for (int e = 0; e < 4; ++e) {
        if (e > 0 && g.vector_k) break;  // the first element's address served all four
        const int tap = g.by_channel.quotient(k + e), c = g.by_channel.remainder(k + e, tap);
        const int a = by_tap.quotient(tap), b = by_tap.remainder(tap, a);
        const int row = gather_row[l] + sign * a, col = gather_col[l] + sign * b;
        const bool inside = k + e < K && static_cast<unsigned>(row) < static_cast<unsigned>(g.src_H) &&
                            static_cast<unsigned>(col) < static_cast<unsigned>(g.src_W);
        const float* at = source + gather_at[l] + (row * g.src_W + col) * g.src_C + c;
        if (g.vector_k)
          assign4(next_gather[l], inside, at);
        else
          next_gather[l][e] = inside ? *at : 0.0f;
      }
    }
    WL_UNROLL
    for (int l = 0; l < T::kFilters; ++l) {
      const int item = t + l * T::kThreads;
      const bool mine = T::BN * T::BK / 4 % T::kThreads == 0 || item < T::BN * T::BK / 4;
      if constexpr (!kBackward) {  // rows of w are contiguous in n
        const int k = k0 + item / (T::BN / 4), n = n0 + item % (T::BN / 4) * 4;
        const float* at = w + filter_at[l] + k0 * g.w_outputs;
        assign_upto4(next_filter[l], mine && k < K ? g.n_channels - n : 0, vector_n, at);
      } else {  // n is the input channel: rows of w are contiguous in k
        const int n = n0 + pair_row<T::BN>(item), k = k0 + pair_k<T::BN>(item);
        WL_UNROLL
        for (int e = 0; e < 4; ++e) {
          if (e > 0 && g.vector_k) break;
          const int tap = g.by_channel.quotient(k + e), c = g.by_channel.remainder(k + e, tap);
          const int a = by_tap.quotient(tap), b = by_tap.remainder(tap, a);
          const int kh = first_h + g.step_h * a, kw = first_w + g.step_w * b;
          const float* at = w + ((kh * g.w_width + kw) * g.w_inputs + n) * g.w_outputs + group * g.k_channels + c;
          const bool inside = mine && n < g.n_channels && k + e < K;
          if (g.vector_k)
            assign4(next_filter[l], inside, at);
          else
            next_filter[l][e] = inside ? *at : 0.0f;
        }
      }
    }
  };

  auto fetch = [&](int k0) {
    if constexpr (kMasked)
      fetch_masked(k0 < K);
    else
      fetch_general(k0);
  };

  auto store = [&] {
    WL_UNROLL
    for (int l = 0; l < T::kGathers; ++l) {
      const int item = t + l * T::kThreads;
      const int m = pair_row<T::BM>(item), k = pair_k<T::BM>(item);
      WL_UNROLL
      for (int e = 0; e < 4; ++e) tile[0].gathered[k + e][m] = next_gather[l][e];
    }
    WL_UNROLL
    for (int l = 0; l < T::kFilters; ++l) {
      const int item = t + l * T::kThreads;
      if (T::BN * T::BK / 4 % T::kThreads != 0 && item >= T::BN * T::BK / 4) continue;
      const float* v = next_filter[l];
      if constexpr (!kBackward) {
        store4(&tile[0].filter[item / (T::BN / 4)][item % (T::BN / 4) * 4], make_float4(v[0], v[1], v[2], v[3]));
      } else {
        const int n = pair_row<T::BN>(item), k = pair_k<T::BN>(item);
        WL_UNROLL
        for (int e = 0; e < 4; ++e) tile[0].filter[k + e][n] = v[e];
      }
    }
  };

  if (t == 0) corner[0] = m0, corner[1] = n0, corner[2] = group;
  float sum[T::TM][T::TN];
  clear<T>(sum);
  fetch(0);
  for (int left = K; left > 0; left -= T::BK) {
    store();
    __syncthreads();
    fetch(K - left +
          T::BK);  // without a branch, or it would sink below the arithmetic it hides behind; past the end it loads nothing
    multiply_tiles<T>(tile[0], sum);
    __syncthreads();
  }
  if (K == 0) __syncthreads();  // for corner

  const int tm = thread_m<T>(), tn = thread_n<T>();
  const int first_m = corner[0] + tm * T::kVectorM, first_n = corner[1] + tn * T::kVectorN,
            channels_before = corner[2] * g.n_channels;
  WL_UNROLL
  for (int r = 0; r < T::TM; ++r) {
    const int p = first_m + r / T::kVectorM * T::kSpreadM + r % T::kVectorM;
    if (p >= M) continue;
    int pixel = p;
    if (kBackward) {  // forward writes every pixel in order
      const int n = by_image.quotient(p), inside = by_image.remainder(p, n);
      const int i = by_col.quotient(inside), j = by_col.remainder(inside, i);
      pixel = (n * g.out_H + i * g.step_h + phase_h) * g.out_W + j * g.step_w + phase_w;
    }
    float* row = out + pixel * g.out_C + channels_before;
    WL_UNROLL
    for (int q = 0; q < T::TN / T::kVectorN; ++q) {
      const int n = first_n + q * T::kSpreadN;
      float v[T::kVectorN];
      WL_UNROLL
      for (int e = 0; e < T::kVectorN; ++e) {
        const bool inside = n + e < g.n_channels;
        v[e] = sum[r][q * T::kVectorN + e] + (bias && inside ? bias[channels_before + n + e] : 0.0f);
      }
      store_columns<T>(row, n, g.n_channels, vector_n, v);
    }
  }
}

constexpr int64_t kEnoughBlocks = 100;

// Calls run(tile) with the tile for the problem: wide where that gives enough blocks for a large GPU.
template <class Run>
void choose_tile(int64_t pixels, int channels, int groups, Run run) {
  const int64_t wide_blocks = (pixels + 127) / 128 * ((channels + 127) / 128) * groups;
  if (channels <= 4) return run(SliverTile());
  if (channels <= 16) return run(NarrowTile());
  if (channels <= 64 || wide_blocks < kEnoughBlocks) return run(SquareTile());
  return run(WideTile());
}

// Whether implicit_gemm takes its kMasked form.
template <class T>
bool masked_form(const ImplicitGemm& g) {
  return g.vector_k && g.k_channels % T::BK == 0 && g.taps_h * g.taps_w <= 32 && (g.vector_n || T::BN < 64);
}

// Images per launch: within one, pixel numbers and offsets are 32-bit. N of them, of which one holds `x` and `y` elements.
inline int images_per_launch(int N, int64_t x, int64_t y) {
  const int64_t most = (kImageLimit - 4096) / (x > y ? x : y);
  return most < 1 ? 1 : most < N ? static_cast<int>(most) : N;
}

}  // namespace warploom::v2
