// Maths    target[n, o, h, w] = epilogue(sum over c, kh, kw of source[n, c, h + kh + origin, w + kw + origin] * weight[o, c, kh, kw]).
// Layout   source, target NCHW; weights oihw, or read transposed and reversed for the input gradient.
// Owns     A block owns a 2-D tile of pixels of one image and some target channels; a thread 2 x 4 pixels x Channels of them.
// New      vs v2: NCHW tiles with halo in shared memory; a thread keeps its 4 x 6 window in registers for all nine taps, so it
//          loads 24 values and 9 x Channels weights for 72 x Channels multiply-adds. Bound: FFMA issue.
// Needs    3x3, step 1; any padding, channels, groups, map size.
#include "../common/vector.cuh"
#include "correlation.h"

namespace warploom::v3 {

// kPixelsY x kPixelsX threads cover a tile of 2 kPixelsY x 4 kPixelsX pixels; kSlices such groups take `kChannels` channels each.
template <int kPixelsY, int kPixelsX, int kSlices, int kChannels>
struct Tile3x3 {
  static constexpr int PixelsY = kPixelsY, PixelsX = kPixelsX, Slices = kSlices, Channels = kChannels;
  static constexpr int H = 2 * PixelsY, W = 4 * PixelsX, Threads = PixelsY * PixelsX * Slices, Targets = Slices * Channels;
  static constexpr int Depth = 4;  // source channels at a time
  // Row pitch: threads of a quarter warp then read their 16 bytes from different banks.
  static constexpr int Pitch = W == 8 ? 12 : W == 16 ? 24 : W + 4;
  static constexpr int WeightPitch = Targets + 4;  // eases the transposing store, keeps 16-byte alignment
  static_assert(Threads % 32 == 0 && Channels % 4 == 0, "whole warps, float4 weights");
};

template <class Tile>
__global__ void __launch_bounds__(Tile::Threads, 384 / Tile::Threads)
    correlate_3x3_kernel(Correlation p, int tiles_h, int tiles_w, int tiles_c,
                         const float* __restrict__ source,  // [N, groups * source_channels, source_h, source_w]
                         const float* __restrict__ w,       // [groups, ...] by the strides of p
                         Epilogue epilogue,
                         float* __restrict__ target) {  // [N, groups * target_channels, target_h, target_w]
  constexpr int Channels = Tile::Channels, Depth = Tile::Depth, HaloH = Tile::H + 2, HaloW = Tile::W + 2;
  WL_SHARED(float4, window4, [Depth * HaloH * Tile::Pitch / 4]);
  WL_SHARED(float4, weights4, [Depth * 9 * Tile::WeightPitch / 4]);
  float* const window = reinterpret_cast<float*>(window4);
  float* const weights = reinterpret_cast<float*>(weights4);

  // Channel tiles run fastest: their blocks read the same source tile, which the first of them brings into L2.
  int rest = blockIdx.x;
  const int o0 = rest % tiles_c * Tile::Targets;
  rest /= tiles_c;
  const int group = rest % p.groups;
  rest /= p.groups;
  const int w0 = rest % tiles_w * Tile::W;
  rest /= tiles_w;
  const int h0 = rest % tiles_h * Tile::H;
  const int64_t n = rest / tiles_h;

  const int t = threadIdx.x;
  const int px = t % Tile::PixelsX, py = t / Tile::PixelsX % Tile::PixelsY, slice = t / (Tile::PixelsX * Tile::PixelsY);
  const int64_t plane = int64_t(p.source_h) * p.source_w;
  const float* const image = source + (n * p.groups + group) * p.source_channels * plane;
  const float* const group_w = w + group * p.weight_group;
  const int origin_h = p.backward ? p.pad_h - 2 : -p.pad_h, origin_w = p.backward ? p.pad_w - 2 : -p.pad_w;

  float acc[2][4][Channels];
  WL_UNROLL
  for (int i = 0; i < 2; ++i) {
    WL_UNROLL
    for (int j = 0; j < 4; ++j) {
      WL_UNROLL
      for (int o = 0; o < Channels; ++o) acc[i][j][o] = 0.0f;
    }
  }

  for (int c0 = 0; c0 < p.source_channels; c0 += Depth) {
    if (c0) __syncthreads();
    for (int i = t; i < Depth * HaloH * HaloW; i += Tile::Threads) {
      const int x = i % HaloW, y = i / HaloW % HaloH, c = i / (HaloW * HaloH);
      const int h = h0 + origin_h + y, ww = w0 + origin_w + x;
      const bool inside = c0 + c < p.source_channels && h >= 0 && h < p.source_h && ww >= 0 && ww < p.source_w;
      window[(c * HaloH + y) * Tile::Pitch + x] = inside ? image[(c0 + c) * plane + h * p.source_w + ww] : 0.0f;
    }
    for (int i = t; i < Depth * 9 * Tile::Targets; i += Tile::Threads) {
      const int r = i % (Depth * 9), o = i / (Depth * 9), c = r / 9, tap = r - c * 9;
      const bool inside = c0 + c < p.source_channels && o0 + o < p.target_channels;
      const int64_t from = (o0 + o) * p.weight_target + (c0 + c) * p.weight_source + (p.backward ? 8 - tap : tap);
      weights[r * Tile::WeightPitch + o] = inside ? group_w[from] : 0.0f;
    }
    __syncthreads();
    // Unrolling the channels as well would not fit the registers.
    for (int c = 0; c < Depth; ++c) {
      float x[4][6];
      WL_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float* const from = window + (c * HaloH + py * 2 + i) * Tile::Pitch + px * 4;
        copy_vector<4>(x[i], from);
        copy_vector<2>(x[i] + 4, from + 4);
      }
      WL_UNROLL
      for (int tap = 0; tap < 9; ++tap) {
        float k[Channels];
        WL_UNROLL
        for (int o = 0; o < Channels; o += 4)
          copy_vector<4>(k + o, weights + (c * 9 + tap) * Tile::WeightPitch + slice * Channels + o);
        WL_UNROLL
        for (int i = 0; i < 2; ++i) {
          WL_UNROLL
          for (int j = 0; j < 4; ++j) {
            WL_UNROLL
            for (int o = 0; o < Channels; ++o) acc[i][j][o] += x[i + tap / 3][j + tap % 3] * k[o];
          }
        }
      }
    }
  }

  const int64_t target_plane = int64_t(p.target_h) * p.target_w;
  const int first = group * p.target_channels + o0 + slice * Channels;
  float* const out = target + (n * p.groups * p.target_channels + first) * target_plane;
  const bool vector = p.target_w % 4 == 0 && reinterpret_cast<uintptr_t>(target) % 16 == 0;
  const int x0 = w0 + px * 4;
  WL_UNROLL
  for (int o = 0; o < Channels; ++o) {
    if (o0 + slice * Channels + o >= p.target_channels) break;
    const float bias = epilogue.bias ? epilogue.bias[first + o] : 0.0f;
    WL_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int h = h0 + py * 2 + i;
      if (h >= p.target_h) break;
      float* const row = out + o * target_plane + int64_t(h) * p.target_w;
      float v[4];
      WL_UNROLL
      for (int j = 0; j < 4; ++j) v[j] = epilogue(acc[i][j][o] + bias);
      if (vector && x0 < p.target_w) {
        store4(row + x0, make_float4(v[0], v[1], v[2], v[3]));
      } else {
        WL_UNROLL
        for (int j = 0; j < 4; ++j)
          if (x0 + j < p.target_w) row[x0 + j] = v[j];
      }
    }
  }
}

template <class Tile>
static void launch_3x3(const Correlation& p, const float* source, const float* w, const Epilogue& epilogue, float* target,
                       const Context& context) {
  const int tiles_h = (p.target_h + Tile::H - 1) / Tile::H, tiles_w = (p.target_w + Tile::W - 1) / Tile::W;
  const int tiles_c = (p.target_channels + Tile::Targets - 1) / Tile::Targets;
  const int64_t blocks = int64_t(p.N) * tiles_h * tiles_w * tiles_c * p.groups;
  if (blocks > 2147483647) throw DeviceError("correlate_3x3: more than 2^31 tiles; use a smaller batch");
  launch(context, "correlate_3x3", correlate_3x3_kernel<Tile>, dim3(static_cast<unsigned>(blocks)), dim3(Tile::Threads), 0, p,
         tiles_h, tiles_w, tiles_c, source, w, epilogue, target);
}

void correlate_3x3(const Correlation& p, const float* source, const float* w, const Epilogue& epilogue, float* target,
                   const Context& context) {
  if (p.target_channels <= 4) return launch_3x3<Tile3x3<8, 4, 1, 4>>(p, source, w, epilogue, target, context);
  if (p.target_h <= 8 && p.target_w <= 8) return launch_3x3<Tile3x3<4, 2, 8, 8>>(p, source, w, epilogue, target, context);
  launch_3x3<Tile3x3<8, 4, 4, 8>>(p, source, w, epilogue, target, context);
}

}  // namespace warploom::v3
