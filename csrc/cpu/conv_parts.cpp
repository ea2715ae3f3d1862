// conv_parts.cpp - what convolution algorithms share: gathering rows, the fused end of the forward pass, its gradient, the bias.
#include "conv.h"

namespace warploom::cpu {
namespace {

WL_INLINE void copy_block(float* to, const float* from) {
#pragma GCC unroll 4
  for (int v = 0; v < kBlock; v += kWidth) store(to + v, load(from + v));
}
WL_INLINE void zero_block(float* to) {
#pragma GCC unroll 4
  for (int v = 0; v < kBlock; v += kWidth) store(to + v, vf{});
}

}  // namespace

void gather_rows(const Gather& g, int64_t row0, int64_t rows, float* to, int64_t block_stride) {
  const int p = g.pool, wide = g.grid_w / p, high = g.grid_h / p;
  const int taps = static_cast<int>(g.taps()), full_h = g.H * g.up, full_w = g.W * g.up;
  const bool whole_blocks = g.channels % kBlock == 0;
  constexpr int kMaxLine = 4096;
  float line[kMaxLine + kBlock];

  int64_t row = row0;
  int inside = static_cast<int>(row % (p * p));
  int64_t window = row / (p * p);
  int wj = static_cast<int>(window % wide), wi = static_cast<int>(window / wide % high);
  int64_t n = window / wide / high;
  for (int64_t r = 0; r < rows; ++r, to += kBlock) {
    const int h0 = (wi * p + inside / p) * g.step_h, w0 = (wj * p + inside % p) * g.step_w;
    const float* image = g.source + n * g.H * g.W * g.pixel;
    auto source = [&](int t) -> const float* {
      const int h = h0 + g.dh[static_cast<size_t>(t)], w = w0 + g.dw[static_cast<size_t>(t)];
      if (h < 0 || w < 0 || h >= full_h || w >= full_w) return nullptr;
      return image + (int64_t(g.up == 1 ? h : h / g.up) * g.W + (g.up == 1 ? w : w / g.up)) * g.pixel;
    };
    float* block = to;
    if (whole_blocks) {
      for (int t = 0; t < taps; ++t) {
        const float* from = source(t);
        if (from)
          for (int c = 0; c < g.channels; c += kBlock, block += block_stride) copy_block(block, from + c);
        else
          for (int c = 0; c < g.channels; c += kBlock, block += block_stride) zero_block(block);
      }
    } else {
      // The row is put together in `line` and leaves it by whole blocks.
      int filled = 0;
      for (int t = 0; t < taps; ++t) {
        const float* from = source(t);
        for (int c = 0; c < g.channels;) {
          const int take = std::min(g.channels - c, kMaxLine - filled);
          if (from)
            for (int i = 0; i < take; ++i) line[filled + i] = from[c + i];
          else
            for (int i = 0; i < take; ++i) line[filled + i] = 0.0f;
          c += take, filled += take;
          if (filled == kMaxLine) {
            for (int b = 0; b < filled; b += kBlock, block += block_stride) copy_block(block, line + b);
            filled = 0;
          }
        }
      }
      for (int i = filled; i < round_up(filled, kBlock); ++i) line[i] = 0.0f;
      for (int b = 0; b < filled; b += kBlock, block += block_stride) copy_block(block, line + b);
    }
    if (++inside == p * p) {
      inside = 0;
      if (++wj == wide) {
        wj = 0;
        if (++wi == high) wi = 0, ++n;
      }
    }
  }
}

void finish_rows(const Conv& c, const MutableView& C, int64_t window0, int64_t windows, int c0, int n) {
  const int per_window = c.f.pool * c.f.pool;
  const Activation kind = c.f.activation;
  const float slope = c.f.negative_slope;
  for (int64_t q = 0; q < windows; ++q) {
    float* y = c.out + (window0 + q) * c.s.C_out + c0;
    uint8_t* arg = c.argmax ? c.argmax + (window0 + q) * c.s.C_out + c0 : nullptr;
    for (int k = 0; k < n; k += kWidth) {
      const int part = std::min(kWidth, n - k);
      const float* from = C.at(q * per_window, k);
      vf best = load(from);
      if (per_window > 1) {
        vi where{};
        for (int i = 1; i < per_window; ++i) take_larger(load(from + i * C.row), i, best, where);
        if (arg) store_bytes(arg + k, where, part);
      }
      if (c.bias) best += load_part(c.bias + c0 + k, part);
      store_part(y + k, activate(best, kind, slope), part);
    }
  }
}

void expand_gradient(const Conv& c, int64_t n0, int64_t n1, float* dz) {
  const int p = c.f.pool, C = c.s.C_out, OW = c.s.OW, POH = c.POH(), POW = c.POW();
  const int bands = static_cast<int>(ceil_div(c.s.OH, p));  // rows of windows, and what a floor left over
  parallel((n1 - n0) * bands, [&](int64_t task, int) {
    const int64_t n = n0 + task / bands;
    const int band = static_cast<int>(task % bands);
    float* image = dz + (n - n0) * c.s.OH * OW * C;
    const int first = band * p, last = std::min(c.s.OH, first + p);
    if (p > 1) std::fill(image + int64_t(first) * OW * C, image + int64_t(last) * OW * C, 0.0f);
    if (band >= POH) return;
    for (int pw = 0; pw < POW; ++pw) {
      const int64_t at = ((n * POH + band) * POW + pw) * C;
      for (int k = 0; k < C; k += kWidth) {
        const int part = std::min(kWidth, C - k);
        vf d = load_part(c.dy + at + k, part);
        if (c.f.activation != Activation::none)
          d = activate_backward(d, load_part(c.y + at + k, part), c.f.activation, c.f.negative_slope);
        if (p == 1) {
          store_part(image + (int64_t(first) * OW + pw) * C + k, d, part);
          continue;
        }
        const vi where = load_bytes(c.argmax + at + k, part);
        for (int i = 0; i < p * p; ++i) {
          float* to = image + (int64_t(first + i / p) * OW + pw * p + i % p) * C + k;
          store_part(to, select(where == broadcast(int32_t(i)), d, vf{}), part);
        }
      }
    }
  });
}

namespace {
constexpr int64_t kBiasPixels = 512;
}

void bias_gradient(const Conv& c, Carver& ws, bool run) {
  const int C = c.s.C_out;
  const int64_t pixels = int64_t(c.s.N) * c.POH() * c.POW(), blocks = std::max<int64_t>(1, ceil_div(pixels, kBiasPixels));
  float* parts = ws.take(blocks * C);
  if (!run) return;
  if (pixels == 0) return std::fill(c.db, c.db + C, 0.0f);
  parallel_blocks(pixels, kBiasPixels, [&](int64_t begin, int64_t end, int) {
    float* sums = parts + begin / kBiasPixels * C;
    std::fill(sums, sums + C, 0.0f);
    for (int64_t at = begin; at < end; ++at)
      for (int k = 0; k < C; k += kWidth) {
        const int part = std::min(kWidth, C - k);
        vf d = load_part(c.dy + at * C + k, part);
        if (c.f.activation != Activation::none)
          d = activate_backward(d, load_part(c.y + at * C + k, part), c.f.activation, c.f.negative_slope);
        store_part(sums + k, load_part(sums + k, part) + d, part);
      }
  });
  sum_parts(parts, blocks, C, c.db, C);
}

void sum_parts(const float* parts, int64_t count, int64_t stride, float* dst, int64_t n) {
  for (int64_t k = 0; k < n; k += kWidth) {
    const int part = static_cast<int>(std::min<int64_t>(kWidth, n - k));
    vf total = load_part(parts + k, part);
    for (int64_t p = 1; p < count; ++p) total += load_part(parts + p * stride + k, part);
    store_part(dst + k, total, part);
  }
}

}  // namespace warploom::cpu
