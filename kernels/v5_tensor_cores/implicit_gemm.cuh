// implicit_gemm.cuh (v5): out[m, n] = sum over k of gathered[m, k] * w[k, n], m a pixel, k a (tap, channel); `gathered` is never
//   stored
// Layout: source [N, src_H, src_W, src_C], w hwio [KH, KW, C_in/groups, C_out], out [N, out_H, out_W, out_C]. Forward: source x,
//   n an output channel. Backward to the input: source dy, n an input channel, taps mirrored; each phase of a stride is a dense
//   problem of its own. A nearest upsample by 2 folded in: forward reads x at half the row and column; backward takes every tap
//   twice a direction, once for each of the two rows (columns) of dx upsampled that one row of dx stands for.
// One block owns a BM x BN tile of out, a warp fragments of it (tensor_tile.cuh); a thread loads 4 elements of k or n at a time.
// From v2: tensor cores; hwio stays (v2's float32 entries share the weights): forward reads it across k, backward along k, and
//   ldmatrix takes both.
// Preconditions: one image below 2^31 elements.
#pragma once

#include "../common/epilogue.cuh"
#include "../common/fast_divisor.cuh"
#include "choice.h"
#include "gradient_scale.cuh"
#include "tensor_tile.cuh"

namespace warploom::v5 {

struct ImplicitGemm {
  int N = 0, rows = 0, cols = 0;  // pixels computed: N images of rows x cols, for phase (0, 0) of a strided backward
  int groups = 1, k_channels = 0, n_channels = 0;  // channels of a group, gathered and computed
  int taps_h = 0, taps_w = 0;                      // with an upsample folded into backward: 2 * KH, 2 * KW
  int src_H = 0, src_W = 0, src_C = 0;
  int out_H = 0, out_W = 0, out_C = 0;
  int step_h = 1, step_w = 1;  // forward: source row = step_h * i + a - pad; backward: out row = step_h * i + phase
  int pad_top = 0, pad_left = 0;
  int w_height = 0, w_width = 0, w_inputs = 0, w_outputs = 0;  // KH, KW, C_in/groups, C_out
  int up = 0;                                                  // 1: nearest upsample by 2 folded in
  bool pool =
      false;  // forward: rows and cols count windows of 2 x 2 pixels, out is pooled; backward: source is, codes belong to it
  float negative_slope = 0.0f;                       // of the activation before the pool
  bool vector_k = false, vector_n = false;           // 16-byte access along k_channels (n_channels) is aligned
  bool pairs_n = false;                              // out can be stored two at a time
  int source_bytes = 4, out_bytes = 4;               // of an element (half_map.cuh)
  FastDivisor by_image, by_col, by_channel, by_tap;  // rows * cols, cols, k_channels, taps_w
};

// The problem of one block: a phase of a strided backward sees only some pixels and taps.
template <bool kBackward>
struct Phase {
  int rows, cols, taps_h, taps_w, phase_h = 0, phase_w = 0, first_h = 0, first_w = 0;
  FastDivisor by_image, by_col, by_tap;

  __device__ __forceinline__ explicit Phase(const ImplicitGemm& g)
      : rows(g.rows), cols(g.cols), taps_h(g.taps_h), taps_w(g.taps_w), by_image(g.by_image), by_col(g.by_col), by_tap(g.by_tap) {
    if (!kBackward || g.step_h * g.step_w == 1) return;
    phase_h = static_cast<int>(blockIdx.y) / g.step_w, phase_w = static_cast<int>(blockIdx.y) % g.step_w;
    first_h = (phase_h + g.pad_top) % g.step_h, first_w = (phase_w + g.pad_left) % g.step_w;
    rows = (g.out_H - phase_h + g.step_h - 1) / g.step_h, cols = (g.out_W - phase_w + g.step_w - 1) / g.step_w;
    taps_h = (g.taps_h - first_h + g.step_h - 1) / g.step_h, taps_w = (g.taps_w - first_w + g.step_w - 1) / g.step_w;
    if (rows <= 0 || cols <= 0) rows = cols = 0;
    if (taps_h <= 0 || taps_w <= 0) taps_h = taps_w = 0;
    by_image = FastDivisor(max(rows * cols, 1)), by_col = FastDivisor(max(cols, 1)), by_tap = FastDivisor(max(taps_w, 1));
  }
};

// How far tap a reaches from a pixel's first source row (column), and which row (column) of w it multiplies.
template <bool kBackward>
__device__ __forceinline__ int tap_reach(int a, int up, int kernel) {
  if (!kBackward) return a;
  return up && a >= kernel ? 1 + kernel - a : -a;
}
template <bool kBackward>
__device__ __forceinline__ int tap_weight(int a, int up, int kernel, int first, int step) {
  if (!kBackward) return a;
  if (up) return a >= kernel ? a - kernel : a;
  return first + step * a;
}

// A pooled forward numbers its pixels window by window, so that the four of one stand in neighbouring rows of a tile.
// kFast: k_channels is a multiple of BK, so that a step lies within one tap; else every item finds its own (tap, channel), four
// elements at a time where vector_k, or singly.
// kGradient: the source is a gradient.
template <class Tile, bool kBackward, bool kFast, bool kPool, bool kGradient>
struct TapLoader {
  static constexpr bool kKnowsColumns = false, kIsGradient = kGradient, kGradientIsA = true, kUnpools = kBackward && kPool;
  using A = typename Tile::A;
  using B = typename Tile::B;
  const ImplicitGemm& g;
  const Phase<kBackward>& phase;
  const void* source;
  const unsigned char* codes;  // kUnpools: of the source
  const float* w;
  float gradient_scale;
  int n0, K, k = 0;                 // k: where the step begins
  int tap_h = 0, tap_w = 0, c = 0;  // kFast: the step's tap and first channel
  int image[Tile::kItemsA], row[Tile::kItemsA], col[Tile::kItemsA];
  int pixel[Tile::kItemsA];  // kFast: offset of the tap's pixel
  uint32_t inside = 0;       // kFast: bit l: item l's tap lies inside the image
  uint32_t positions = 0;    // kFast, kUnpools: two bits an item: where in its window the tap's pixel stands
  int filter = 0;            // offset of item 0's part of w

  __device__ __forceinline__ TapLoader(const ImplicitGemm& g_, const Phase<kBackward>& p, const void* source_,
                                       const unsigned char* codes_, const float* w_, float scale_, int m0, int n0_, int group)
      : g(g_),
        phase(p),
        source(source_),
        codes(codes_),
        w(w_),
        gradient_scale(scale_),
        n0(n0_),
        K(p.taps_h * p.taps_w * g_.k_channels) {
    constexpr int kWindow = kPool && !kBackward ? 4 : 1;
    const int M = kWindow * g.N * p.rows * p.cols;
    WL_UNROLL
    for (int l = 0; l < Tile::kItemsA; ++l) {
      const int m = min(m0 + item_row<A, Tile::kThreads>(l), M - 1);
      const int n = p.by_image.quotient(m / kWindow), at = p.by_image.remainder(m / kWindow, n);
      int i = p.by_col.quotient(at), j = p.by_col.remainder(at, i);
      if (kWindow == 4) i = 2 * i + m % 4 / 2, j = 2 * j + m % 2;
      if (kBackward) {
        row[l] = g.up ? 2 * i + g.pad_top : i + (p.phase_h + g.pad_top) / g.step_h;
        col[l] = g.up ? 2 * j + g.pad_left : j + (p.phase_w + g.pad_left) / g.step_w;
      } else {
        row[l] = i * g.step_h - g.pad_top, col[l] = j * g.step_w - g.pad_left;
      }
      image[l] = n * g.src_H * g.src_W * g.src_C + group * g.k_channels + (kFast ? item_column<A>() : 0);
    }
    if constexpr (kBackward)
      filter = (n0 + item_row<B, Tile::kThreads>(0)) * g.w_outputs + group * g.k_channels + (kFast ? item_column<B>() : 0);
    else
      filter = item_row<B, Tile::kThreads>(0) * g.w_outputs + group * g.n_channels + n0 + item_column<B>();
    if constexpr (kFast) find_tap();
  }

  __device__ __forceinline__ float scale() const { return gradient_scale; }
  __device__ __forceinline__ float negative_slope() const { return g.negative_slope; }
  __device__ __forceinline__ bool source_offset(int l, int a, int b, int& offset, int& position) const {
    const int shift = kUnpools ? 1 : kBackward ? 0 : g.up;
    const int r = row[l] + tap_reach<kBackward>(a, g.up, g.w_height), q = col[l] + tap_reach<kBackward>(b, g.up, g.w_width);
    position = (r & 1) * 2 + (q & 1);
    offset = image[l] + ((r >> shift) * g.src_W + (q >> shift)) * g.src_C;
    return static_cast<unsigned>(r) < static_cast<unsigned>(g.src_H << shift) &&
           static_cast<unsigned>(q) < static_cast<unsigned>(g.src_W << shift);
  }
  __device__ __forceinline__ int filter_row(int a, int b) const {  // of w, in backward: elements before the tap's matrix
    const int kh = tap_weight<kBackward>(a, g.up, g.w_height, phase.first_h, g.step_h);
    const int kw = tap_weight<kBackward>(b, g.up, g.w_width, phase.first_w, g.step_w);
    return (kh * g.w_width + kw) * g.w_inputs * g.w_outputs;
  }
  __device__ __forceinline__ void find_tap() {
    inside = 0;
    if (tap_h >= phase.taps_h) return;
    WL_UNROLL
    for (int l = 0; l < Tile::kItemsA; ++l) {
      int position;
      inside |= static_cast<uint32_t>(source_offset(l, tap_h, tap_w, pixel[l], position)) << l;
      if (kUnpools) positions = (l == 0 ? 0 : positions) | static_cast<uint32_t>(position) << (2 * l);
    }
  }

  __device__ __forceinline__ int a_bytes() const { return Tile::T::kBytes == 2 ? g.source_bytes : 4; }
  __device__ __forceinline__ constexpr int b_bytes() const { return 4; }
  __device__ __forceinline__ bool a_vector() const { return kFast || g.vector_k; }
  __device__ __forceinline__ bool b_vector() const {
    if constexpr (kBackward) return kFast || g.vector_k;
    return (kFast && Tile::BN >= 64) || g.vector_n;
  }

  __device__ __forceinline__ bool a_at(int l, int e, const void*& p) const {
    if constexpr (kFast) {
      p = element_at<typename Tile::T>(source, pixel[l] + c, a_bytes());
      return inside >> l & 1;
    } else {
      const int my = k + item_column<A>() + e;
      const int tap = g.by_channel.quotient(my), a = phase.by_tap.quotient(tap);
      int offset, position;
      const bool covered = source_offset(l, a, phase.by_tap.remainder(tap, a), offset, position);
      p = element_at<typename Tile::T>(source, offset + g.by_channel.remainder(my, tap), a_bytes());
      return my < K && covered;
    }
  }
  __device__ __forceinline__ GradientItem gradient_item(int l, bool vector) const {
    GradientItem item;
    const void* p;
    if constexpr (kFast) {
      item.position = static_cast<int>(positions >> (2 * l) & 3u);
      if (a_at(l, 0, p)) item.codes = *reinterpret_cast<const uint32_t*>(codes + pixel[l] + c);
    } else {
      // Elements of one item may belong to different taps: where a code says no, ours says never.
      item.position = 0;
      if (vector) {
        const int my = k + item_column<A>(), tap = g.by_channel.quotient(my), a = phase.by_tap.quotient(tap);
        int offset;
        if (source_offset(l, a, phase.by_tap.remainder(tap, a), offset, item.position) && my < K)
          item.codes = *reinterpret_cast<const uint32_t*>(codes + offset + g.by_channel.remainder(my, tap));
      } else {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int my = k + item_column<A>() + e, tap = g.by_channel.quotient(my), a = phase.by_tap.quotient(tap);
          int offset, position;
          if (!source_offset(l, a, phase.by_tap.remainder(tap, a), offset, position) || my >= K) continue;
          const uint32_t code = codes[offset + g.by_channel.remainder(my, tap)];
          item.codes |= (code ^ static_cast<uint32_t>(position)) << (8 * e);  // of position 0 where it was of ours
        }
      }
    }
    return item;
  }
  __device__ __forceinline__ bool b_at(int l, int e, const void*& p) const {
    if constexpr (!kBackward) {  // rows of w are contiguous in n
      const int n = n0 + item_column<B>() + e, my = k + item_row<B, Tile::kThreads>(l);
      p = w + filter + l * (Tile::kThreads / B::kQuads) * g.w_outputs + k * g.w_outputs + e;
      return n < g.n_channels && my < K;
    } else {  // n is the input channel: rows of w are contiguous in k
      const int n = n0 + item_row<B, Tile::kThreads>(l), at = filter + l * (Tile::kThreads / B::kQuads) * g.w_outputs;
      if constexpr (kFast) {
        p = w + at + filter_row(tap_h, tap_w) + c;
        return n < g.n_channels && tap_h < phase.taps_h;
      } else {
        const int my = k + item_column<B>() + e;
        const int tap = g.by_channel.quotient(my), a = phase.by_tap.quotient(tap);
        p = w + at + filter_row(a, phase.by_tap.remainder(tap, a)) + g.by_channel.remainder(my, tap);
        return n < g.n_channels && my < K;
      }
    }
  }

  __device__ __forceinline__ void advance() {
    k += Tile::BK;
    if constexpr (kFast) {
      c += Tile::BK;
      if (c < g.k_channels) return;
      c = 0;
      if (++tap_w == phase.taps_w) tap_w = 0, ++tap_h;
      find_tap();
    }
  }
};

// codes: of a folded pool, written in forward, read in backward. scale: of a gradient, where its type wants one.
template <class Tile, bool kBackward, bool kFast, bool kPool, bool kGradient, class Codes>
__device__ __forceinline__ void implicit_gemm(const ImplicitGemm& g,
                                              const void* __restrict__ source,  // [N, src_H, src_W, src_C]
                                              const float* __restrict__ w,      // [KH, KW, C_in/groups, C_out]
                                              const Epilogue& epilogue,         // bias [out_C] or null
                                              const float* __restrict__ scale,  // [1] or null
                                              Codes* __restrict__ codes,        // of source (backward) or out (forward), or null
                                              void* out) {  // [N, out_H, out_W, out_C], may be epilogue.output
  using T = typename Tile::T;
  const int n_tiles = (g.n_channels + Tile::BN - 1) / Tile::BN;
  const int n0 = static_cast<int>(blockIdx.x) % n_tiles * Tile::BN;
  const int group = static_cast<int>(blockIdx.x) / n_tiles % g.groups;
  const int m0 = static_cast<int>(blockIdx.x) / n_tiles / g.groups * Tile::BM;
  const Phase<kBackward> phase(g);
  const int M = (kPool && !kBackward ? 4 : 1) * g.N * phase.rows * phase.cols;
  if (m0 >= M) return;

  float sum[Tile::MT][Tile::NT][4];
  float gradient_scale = 1.0f;
  if constexpr (kGradient && kScaled<T>) gradient_scale = scale ? *scale : 1.0f;
  {
    TapLoader<Tile, kBackward, kFast, kPool, kGradient> from(g, phase, source, kBackward ? codes : nullptr, w, gradient_scale, m0,
                                                             n0, group);
    multiply_stream<Tile>(from, (from.K + Tile::BK - 1) / Tile::BK, sum);
  }

  const int channels_before = group * g.n_channels, first_n = n0 + first_column<Tile>();
  add_bias(sum, epilogue.bias ? epilogue.bias + channels_before : nullptr, first_n, g.n_channels, g.pairs_n);
  if constexpr (kGradient && kScaled<T>) scale_all(sum, reciprocal_of_power(gradient_scale));  // there is no bias
  if constexpr (!kPool || kBackward) activate_all(sum, epilogue);
  with_pairs(g.pairs_n, [&](auto pairs) {
    for_each_row<Tile>([&](int i, int half, int in_tile) {
      const int m = m0 + in_tile;
      if constexpr (kPool && !kBackward) {
        const int64_t to = static_cast<int64_t>(m / 4) * g.out_C + channels_before;
        store_pooled_row<T>(sum[i], half, epilogue, first_n, g.n_channels, pairs, m < M, element_at<T>(out, to, g.out_bytes),
                            g.out_bytes, codes ? codes + to : nullptr);
      } else {
        const bool inside = m < M;
        int pixel = m;
        if (kBackward && g.step_h * g.step_w > 1) {  // else every pixel is written in order
          const int n = phase.by_image.quotient(m), at = phase.by_image.remainder(m, n);
          const int r = phase.by_col.quotient(at), q = phase.by_col.remainder(at, r);
          pixel = (n * g.out_H + r * g.step_h + phase.phase_h) * g.out_W + q * g.step_w + phase.phase_w;
        }
        const int64_t offset = static_cast<int64_t>(pixel) * g.out_C + channels_before;
        if (epilogue.output && inside) take_slopes<T>(sum[i], half, epilogue, offset, first_n, g.n_channels, pairs);
        store_row<T>(sum[i], half, first_n, g.n_channels, pairs, inside, element_at<T>(out, offset, g.out_bytes), g.out_bytes);
      }
    });
  });
}

// Calls run(kind of tile): wide where that gives enough blocks for a large GPU. A constant, so that all devices choose alike.
constexpr int64_t kEnoughBlocks = 100;
enum class TileKind { wide, square, narrow };
inline TileKind choose_tile(int64_t pixels, int channels, int groups) {
  const int64_t wide_blocks = (pixels + 127) / 128 * ((channels + 127) / 128) * groups;
  if (channels <= 16) return TileKind::narrow;
  return channels <= 64 || wide_blocks < kEnoughBlocks ? TileKind::square : TileKind::wide;
}

// Whether the tile can take its kFast form.
template <class Tile>
bool fast_form(const ImplicitGemm& g) {
  return g.vector_k && g.k_channels % Tile::BK == 0 && (g.vector_n || Tile::BN < 64);
}

// The epilogue of a launch whose result begins `elements` into the whole.
inline Epilogue from_image(Epilogue epilogue, int64_t elements) {
  epilogue.output = into_map(epilogue.output, elements, epilogue.output_bytes);
  return epilogue;
}

// Images per launch: within one, pixel numbers and offsets are 32-bit. N of them, of which one holds `x` and `y` elements.
inline int images_per_launch(int N, int64_t x, int64_t y) {
  const int64_t most = (kImageLimit - 4096) / (x > y ? x : y);
  return most < 1 ? 1 : most < N ? static_cast<int>(most) : N;
}

}  // namespace warploom::v5
