// conv_mean.cpp - mean over windows of activation(x W + b), the 1x1 convolution before an average pool, without its map.
//
// A task owns some output channels of one image. The product of a few rows of pixels goes to a scratch that stays in the second-level
// cache; from there each window takes the sum of the part of every row that it holds, row by row, so the order of the sums depends on
// the shape alone. Bottleneck: the product.
#include "conv.h"
#include "entries.h"
#include "kernels/common/preconditions.h"
#include "kernels/ops/maps_cpu.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kChannels = 16 * kPanel;   // of a task, 256 with AVX2: their weights stay in the second-level cache
constexpr int64_t kPixels = 18 * kTileRows;  // at once, about

struct Scratch {
  float *packed, *maps;
  int64_t rows;  // of the map at once
  Scratch(const Conv2dMeanForward& a, Carver& ws) {
    rows = std::clamp<int64_t>(kPixels / std::max(1, a.s.OW), 1, std::max(1, a.s.OH));
    packed = ws.take(packed_size(a.s.C_in, a.s.C_out));
    maps = ws.take(thread_count() * map_size(a));
  }
  int64_t map_size(const Conv2dMeanForward& a) const { return rows * a.s.OW * kChannels; }
};

// to[c] += the sum over `count` rows of C, from `first` on, of activation(C + bias), for the `channels` of the task.
template <Activation kKind>
void add_row(const MutableView& C, int64_t first, int64_t count, const float* bias, float slope, int64_t channels, float* to) {
  for (int64_t k = 0; k < channels; k += kWidth) {
    const int part = static_cast<int>(std::min<int64_t>(kWidth, channels - k));
    const vf b = bias ? load_part(bias + k, part) : vf{};
    const float* from = C.at(first, k);
    vf sum[2] = {};
    int64_t i = 0;
    for (; i + 2 <= count; i += 2, from += 2 * C.row) {
      sum[0] += activate(load(from) + b, kKind, slope);
      sum[1] += activate(load(from + C.row) + b, kKind, slope);
    }
    if (i < count) sum[0] += activate(load(from) + b, kKind, slope);
    store_part(to + k, load_part(to + k, part) + (sum[0] + sum[1]), part);
  }
}

template <Activation kKind>
void run_task(const Conv2dMeanForward& a, const Scratch& s, int64_t n, int64_t c0, int worker) {
  const int64_t C_in = a.s.C_in, N = a.s.C_out, channels = std::min<int64_t>(kChannels, N - c0), OW = a.s.OW;
  const float* packed = s.packed + c0 / kPanel * C_in * kPanel;
  const float* bias = a.bias ? a.bias.ptr() + c0 : nullptr;
  float* y = a.y.ptr() + n * a.MH * a.MW * N + c0;
  for (int64_t w = 0; w < int64_t(a.MH) * a.MW; ++w) std::fill(y + w * N, y + w * N + channels, 0.0f);
  const int64_t last = int64_t(a.MH - 1) * a.mean_stride_h + a.MKH;  // rows that some window holds
  for (int64_t h0 = 0; h0 < last; h0 += s.rows) {
    const int64_t rows = std::min(s.rows, last - h0);
    const MutableView map = blocked(s.maps + worker * s.map_size(a), rows * OW);
    const View x = {a.x.ptr() + (n * a.s.OH + h0) * OW * C_in, C_in, kBlock};
    multiply(0, rows * OW, C_in, channels, x, packed, map, false);
    for (int64_t r = 0; r < rows; ++r)
      for (int mh = 0; mh < a.MH; ++mh) {
        const int64_t inside = h0 + r - int64_t(mh) * a.mean_stride_h;
        if (inside < 0 || inside >= a.MKH) continue;
        for (int mw = 0; mw < a.MW; ++mw)
          add_row<kKind>(map, r * OW + int64_t(mw) * a.mean_stride_w, a.MKW, bias, a.fusion.negative_slope, channels,
                         y + (int64_t(mh) * a.MW + mw) * N);
      }
  }
  const float share = 1.0f / (static_cast<float>(a.MKH) * static_cast<float>(a.MKW));
  for (int64_t w = 0; w < int64_t(a.MH) * a.MW; ++w)
    for (int64_t c = 0; c < channels; ++c) y[w * N + c] *= share;
}

}  // namespace

void conv2d_mean_forward(const Conv2dMeanForward& a, const Context& context) {
  if (a.y_count() == 0) return;
  Carver ws(context.workspace);
  const Scratch s(a, ws);
  pack_rows(a.w.ptr(), a.s.C_in, a.s.C_out, s.packed);
  const int64_t blocks = ceil_div(a.s.C_out, kChannels);
  with_activation(a.fusion.activation, [&](auto kind) {
    parallel(a.s.N * blocks,
             [&](int64_t task, int worker) { run_task<kind()>(a, s, task / blocks, task % blocks * kChannels, worker); });
  });
}

int64_t conv2d_mean_forward_workspace(const Conv2dMeanForward& a) {
  Carver ws;
  const Scratch s(a, ws);
  return ws.used();
}

std::string conv2d_mean_forward_why_not(const Conv2dMeanForward& a) {
  const std::string problem = conv2d_shape_error(a.s);
  if (!problem.empty()) return problem;
  if (a.s.KH != 1 || a.s.KW != 1 || a.s.stride_h != 1 || a.s.stride_w != 1 || a.s.groups != 1 || a.s.OH != a.s.H ||
      a.s.OW != a.s.W)
    return "an average pool is folded into 1x1 convolutions of stride 1 without padding and groups only";
  if (a.fusion.pool != 1 || a.fusion.upsample != 1) return "beside an average pool neither max pool nor upsample is folded in";
  if (!in_epilogues(a.fusion.activation))
    return "between a convolution and an average pool only relu, leaky_relu and sigmoid are folded in";
  if (a.fusion.precision != Precision::fp32 && a.fusion.precision != Precision::fp32_exact)
    return "the cpu kernel set computes in float32 only; use precision fp32 or fp32-exact";
  const std::string stored = storage_error(a.fusion.x_type, a.fusion.y_type);
  if (!stored.empty()) return stored;
  AvgPool2dForward p;
  p.s.N = a.s.N, p.s.C = a.s.C_out, p.s.H = a.s.OH, p.s.W = a.s.OW, p.s.KH = a.MKH, p.s.KW = a.MKW, p.s.OH = a.MH, p.s.OW = a.MW;
  p.s.stride_h = a.mean_stride_h, p.s.stride_w = a.mean_stride_w;
  return pool2d_shape(p);
}

}  // namespace warploom::cpu
