// Maths    target[n, o, i * phases + p] = epilogue(sum over c, a of source[n, c, i * step + origin + a] * w[o, c, tap(a)]).
// Layout   source, target NCHW; weights oihw, or read transposed and reversed for the input gradient.
// Owns     A block owns a 2-D tile of one phase of one image and some target channels; a warp Channels of them, a lane four pixels.
// New      vs v2: NCHW tiles with halo in shared memory; per tap a lane loads 4 pixels and Channels weights (the same for the whole
//          warp: one wavefront) for 4 x Channels multiply-adds. Bound: shared loads. 3x3 with step 1 has a kernel of its own.
// Needs    a row of taps and one channel's slice of the source tile fit 40 KiB: kernels up to 256 wide.
#include <algorithm>

#include "../common/vector.cuh"
#include "correlation.h"

namespace warploom::v3 {

constexpr int kLanePixels = 4, kWarps = 4, kSharedFloats = 10240;

struct CorrelationTile {
  int h, w_log2;       // target pixels of one phase: h x 2^w_log2
  int depth, rows;     // source channels and tap rows at a time
  int taps_h, taps_w;  // most taps of any phase
};

// kSlices warps take different channels, the others different pixels. Channels of a block: kSlices * kChannels.
template <int kSlices, int kChannels>
__global__ void __launch_bounds__(kWarps * 32, 4)
    correlate_kernel(Correlation p, CorrelationTile tile, int tiles_h, int tiles_w, int tiles_c,
                     const float* __restrict__ source,  // [N, groups * source_channels, source_h, source_w]
                     const float* __restrict__ w,       // [groups, ...] by the strides of p
                     Epilogue epilogue,
                     float* __restrict__ target) {  // [N, groups * target_channels, target_h, target_w]
  constexpr int Targets = kSlices * kChannels, WeightPitch = Targets + 4;
  WL_DYNAMIC_SHARED(float, weights);  // [depth * rows * taps_w][WeightPitch], then the window
  float* const window = weights + tile.depth * tile.rows * tile.taps_w * WeightPitch;  // [depth][height][width]

  int rest = blockIdx.x;
  const int o0 = rest % tiles_c * Targets;
  rest /= tiles_c;
  const int group = rest % p.groups;
  rest /= p.groups;
  const int i0w = (rest % tiles_w) << tile.w_log2;
  rest /= tiles_w;
  const int i0h = rest % tiles_h * tile.h;
  rest /= tiles_h;
  const int phase_w = rest % p.phases_w;
  rest /= p.phases_w;
  const int phase_h = rest % p.phases_h;
  const int64_t n = rest / p.phases_h;
  const PhaseAxis axis_h = phase_axis(p.backward, p.KH, p.pad_h, p.phases_h, phase_h, p.target_h);
  const PhaseAxis axis_w = phase_axis(p.backward, p.KW, p.pad_w, p.phases_w, phase_w, p.target_w);
  if (i0h >= axis_h.count || i0w >= axis_w.count) return;  // the whole block: this phase is smaller than the largest

  const int t = threadIdx.x, lane = t % 32, warp = t / 32, slice = warp % kSlices;
  const int tile_w = 1 << tile.w_log2, tile_pixels = tile.h * tile_w;
  const int width = (tile_w - 1) * p.step_w + axis_w.taps;
  const int64_t plane = int64_t(p.source_h) * p.source_w;
  const float* const image = source + (n * p.groups + group) * p.source_channels * plane;
  const float* const group_w = w + group * p.weight_group;

  int place[kLanePixels];  // of this lane's pixels in the window
  float acc[kLanePixels][kChannels];
  WL_UNROLL
  for (int i = 0; i < kLanePixels; ++i) {
    const int pixel = (warp / kSlices * kLanePixels + i) * 32 + lane;
    const int inside = pixel < tile_pixels ? pixel : 0;
    place[i] = (inside >> tile.w_log2) * p.step_h * width + (inside & (tile_w - 1)) * p.step_w;
    WL_UNROLL
    for (int o = 0; o < kChannels; ++o) acc[i][o] = 0.0f;
  }

  for (int c0 = 0; c0 < p.source_channels; c0 += tile.depth) {
    const int depth = min(tile.depth, p.source_channels - c0);
    for (int a0 = 0; a0 < axis_h.taps; a0 += tile.rows) {
      const int rows = min(tile.rows, axis_h.taps - a0), height = (tile.h - 1) * p.step_h + rows;
      if (c0 || a0) __syncthreads();
      for (int r = warp; r < depth * height; r += kWarps) {
        const int c = r / height, h = i0h * p.step_h + axis_h.origin + a0 + (r - c * height);
        const float* const row = image + (c0 + c) * plane + int64_t(h) * p.source_w;
        for (int x = lane; x < width; x += 32) {
          const int ww = i0w * p.step_w + axis_w.origin + x;
          window[r * width + x] = h >= 0 && h < p.source_h && ww >= 0 && ww < p.source_w ? row[ww] : 0.0f;
        }
      }
      const int taps = rows * axis_w.taps, count = depth * taps;
      for (int o = warp; o < Targets; o += kWarps) {
        for (int r = lane; r < count; r += 32) {
          const int c = r / taps, a = (r - c * taps) / axis_w.taps, b = r - c * taps - a * axis_w.taps;
          const int kh = axis_h.first_tap + axis_h.tap_step * (a0 + a), kw = axis_w.first_tap + axis_w.tap_step * b;
          const int64_t from = (o0 + o) * p.weight_target + (c0 + c) * p.weight_source + kh * p.KW + kw;
          weights[r * WeightPitch + o] = o0 + o < p.target_channels ? group_w[from] : 0.0f;
        }
      }
      __syncthreads();
      const float* k_row = weights + slice * kChannels;
      for (int c = 0; c < depth; ++c) {
        for (int a = 0; a < rows; ++a) {
          const float* x_row = window + (c * height + a) * width;
          for (int b = 0; b < axis_w.taps; ++b, k_row += WeightPitch, ++x_row) {
            float k[kChannels], x[kLanePixels];
            WL_UNROLL
            for (int o = 0; o < kChannels; o += 4) copy_vector<4>(k + o, k_row + o);
            WL_UNROLL
            for (int i = 0; i < kLanePixels; ++i) x[i] = x_row[place[i]];
            WL_UNROLL
            for (int i = 0; i < kLanePixels; ++i) {
              WL_UNROLL
              for (int o = 0; o < kChannels; ++o) acc[i][o] += x[i] * k[o];
            }
          }
        }
      }
    }
  }

  const int64_t target_plane = int64_t(p.target_h) * p.target_w;
  const int first = group * p.target_channels + o0 + slice * kChannels;
  float* const out = target + (n * p.groups * p.target_channels + first) * target_plane;
  WL_UNROLL
  for (int i = 0; i < kLanePixels; ++i) {
    const int pixel = (warp / kSlices * kLanePixels + i) * 32 + lane;
    const int ih = i0h + (pixel >> tile.w_log2), iw = i0w + (pixel & (tile_w - 1));
    if (pixel >= tile_pixels || ih >= axis_h.count || iw >= axis_w.count) continue;
    float* const at = out + int64_t(ih * p.phases_h + phase_h) * p.target_w + iw * p.phases_w + phase_w;
    WL_UNROLL
    for (int o = 0; o < kChannels; ++o) {
      if (o0 + slice * kChannels + o >= p.target_channels) break;
      at[o * target_plane] = epilogue(acc[i][o] + (epilogue.bias ? epilogue.bias[first + o] : 0.0f));
    }
  }
}

static int64_t tile_floats(const Correlation& p, const CorrelationTile& t, int targets) {
  const int64_t height = int64_t(t.h - 1) * p.step_h + t.rows, width = int64_t((1 << t.w_log2) - 1) * p.step_w + t.taps_w;
  return t.depth * (int64_t(t.rows) * t.taps_w * (targets + 4) + height * width);
}

// The largest tile of at most `pixels` that suits the map, halved until one source channel (or one row of its taps) fits.
static CorrelationTile choose_tile(const Correlation& p, int pixels, int targets) {
  const int count_h = (p.target_h + p.phases_h - 1) / p.phases_h, count_w = (p.target_w + p.phases_w - 1) / p.phases_w;
  CorrelationTile t{1, 0, 1, 1, (p.KH + p.phases_h - 1) / p.phases_h, (p.KW + p.phases_w - 1) / p.phases_w};
  while ((1 << t.w_log2) < std::min({count_w, 32, pixels})) ++t.w_log2;
  t.h = std::min(count_h, pixels >> t.w_log2);
  t.rows = std::max(t.taps_h, 1);
  while (tile_floats(p, t, targets) > kSharedFloats) {
    if (t.rows > 4 || (t.rows > 1 && t.h * (1 << t.w_log2) <= 32))
      t.rows = (t.rows + 1) / 2;
    else if (t.h > 1)
      t.h = (t.h + 1) / 2;
    else if (t.w_log2 > 0)
      --t.w_log2;
    else if (t.rows > 1)
      t.rows = (t.rows + 1) / 2;
    else
      break;
  }
  if (t.rows >= t.taps_h)
    t.depth = static_cast<int>(std::max<int64_t>(
        1, std::min<int64_t>(p.source_channels, kSharedFloats / std::max<int64_t>(1, tile_floats(p, t, targets)))));
  t.depth = std::min(t.depth, 16);
  return t;
}

bool correlation_fits(const Correlation& p) { return (p.KW + p.phases_w - 1) / p.phases_w <= 256; }

template <int kSlices, int kChannels>
static void launch_correlate(const Correlation& p, const float* source, const float* w, const Epilogue& epilogue, float* target,
                             const Context& context) {
  const int targets = kSlices * kChannels;
  const CorrelationTile tile = choose_tile(p, kWarps / kSlices * 32 * kLanePixels, targets);
  const int count_h = (p.target_h + p.phases_h - 1) / p.phases_h, count_w = (p.target_w + p.phases_w - 1) / p.phases_w;
  const int tiles_h = (count_h + tile.h - 1) / tile.h, tiles_w = (count_w + (1 << tile.w_log2) - 1) >> tile.w_log2;
  const int tiles_c = (p.target_channels + targets - 1) / targets;
  const int64_t blocks = int64_t(p.N) * p.phases_h * p.phases_w * tiles_h * tiles_w * tiles_c * p.groups;
  if (blocks > 2147483647) throw DeviceError("correlate: more than 2^31 tiles; use a smaller batch");
  launch(context, "correlate", correlate_kernel<kSlices, kChannels>, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * 32),
         static_cast<size_t>(tile_floats(p, tile, targets)) * 4, p, tile, tiles_h, tiles_w, tiles_c, source, w, epilogue, target);
}

void correlate(const Correlation& p, const float* source, const float* w, const Epilogue& epilogue, float* target,
               const Context& context) {
  if (p.target_channels <= 4) return launch_correlate<1, 4>(p, source, w, epilogue, target, context);
  if (p.target_channels <= 8) return launch_correlate<1, 8>(p, source, w, epilogue, target, context);
  launch_correlate<4, 8>(p, source, w, epilogue, target, context);
}

}  // namespace warploom::v3
