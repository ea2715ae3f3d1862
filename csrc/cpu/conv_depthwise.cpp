// conv_depthwise.cpp - one filter per channel: no sum over channels, so no GEMM; vectors run over channels.
//
// A task owns a row of the output (or of dx, which gathers). The gradient of the weights is summed per fixed run of output rows
// and then over the runs in order.
#include "conv.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kRowsPerPart = 32;

// Taps of a window that fall inside an axis of `size`: first <= k < last.
struct Range {
  int first, last;
};
Range inside(int start, int kernel, int size) { return {std::max(0, -start), std::min(kernel, size - start)}; }

void forward(const Conv& c, Carver&, bool run) {
  if (!run) return;
  const auto& s = c.s;
  const int up = c.f.upsample, XH = c.XH(), XW = c.XW(), C = s.C_in;
  parallel(int64_t(s.N) * s.OH, [&](int64_t task, int) {
    const int64_t n = task / s.OH;
    const int h0 = static_cast<int>(task % s.OH) * s.stride_h - s.pad_top;
    const Range rows = inside(h0, s.KH, s.H);
    for (int ow = 0; ow < s.OW; ++ow) {
      const int w0 = ow * s.stride_w - s.pad_left;
      const Range columns = inside(w0, s.KW, s.W);
      for (int k = 0; k < C; k += kWidth) {
        const int part = std::min(kWidth, C - k);
        vf total = c.bias ? load_part(c.bias + k, part) : vf{};
        for (int kh = rows.first; kh < rows.last; ++kh)
          for (int kw = columns.first; kw < columns.last; ++kw)
            total += load_part(c.x + ((n * XH + (h0 + kh) / up) * XW + (w0 + kw) / up) * C + k, part) *
                     load_part(c.w + (int64_t(kh) * s.KW + kw) * C + k, part);
        store_part(c.out + (task * s.OW + ow) * C + k, activate(total, c.f.activation, c.f.negative_slope), part);
      }
    }
  });
}

vf gradient(const Conv& c, int64_t at, int part) {
  const vf d = load_part(c.dy + at, part);
  if (c.f.activation == Activation::none) return d;
  return activate_backward(d, load_part(c.y + at, part), c.f.activation, c.f.negative_slope);
}

void input_gradient(const Conv& c) {
  const auto& s = c.s;
  const int up = c.f.upsample, XH = c.XH(), XW = c.XW(), C = s.C_in;
  parallel(int64_t(s.N) * XH, [&](int64_t task, int) {
    const int64_t n = task / XH;
    for (int xw = 0; xw < XW; ++xw)
      for (int k = 0; k < C; k += kWidth) {
        const int part = std::min(kWidth, C - k);
        vf total{};
        for (int a = 0; a < up; ++a)
          for (int kh = 0; kh < s.KH; ++kh) {
            const int oh = static_cast<int>(task % XH) * up + a + s.pad_top - kh;
            if (oh < 0 || oh % s.stride_h != 0 || oh / s.stride_h >= s.OH) continue;
            for (int b = 0; b < up; ++b)
              for (int kw = 0; kw < s.KW; ++kw) {
                const int ow = xw * up + b + s.pad_left - kw;
                if (ow < 0 || ow % s.stride_w != 0 || ow / s.stride_w >= s.OW) continue;
                const int64_t at = ((n * s.OH + oh / s.stride_h) * s.OW + ow / s.stride_w) * C + k;
                total += gradient(c, at, part) * load_part(c.w + (int64_t(kh) * s.KW + kw) * C + k, part);
              }
          }
        store_part(c.dx + (task * XW + xw) * C + k, total, part);
      }
  });
}

void backward(const Conv& c, Carver& ws, bool run) {
  const auto& s = c.s;
  const int up = c.f.upsample, XH = c.XH(), XW = c.XW(), C = s.C_in, taps = s.KH * s.KW;
  const int64_t rows = int64_t(s.N) * s.OH, parts = std::max<int64_t>(1, ceil_div(rows, kRowsPerPart));
  float* sums = c.want_dw ? ws.take(parts * taps * C) : nullptr;
  if (c.want_db) bias_gradient(c, ws, run);
  if (!run) return;
  if (c.want_dx) input_gradient(c);
  if (!c.want_dw) return;
  std::fill(sums, sums + parts * taps * C, 0.0f);
  parallel_blocks(rows, kRowsPerPart, [&](int64_t begin, int64_t end, int) {
    float* sum = sums + begin / kRowsPerPart * taps * C;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / s.OH;
      const int h0 = static_cast<int>(row % s.OH) * s.stride_h - s.pad_top;
      const Range high = inside(h0, s.KH, s.H);
      for (int ow = 0; ow < s.OW; ++ow) {
        const int w0 = ow * s.stride_w - s.pad_left;
        const Range wide = inside(w0, s.KW, s.W);
        for (int k = 0; k < C; k += kWidth) {
          const int part = std::min(kWidth, C - k);
          const vf d = gradient(c, (row * s.OW + ow) * C + k, part);
          for (int kh = high.first; kh < high.last; ++kh)
            for (int kw = wide.first; kw < wide.last; ++kw) {
              float* to = sum + (int64_t(kh) * s.KW + kw) * C + k;
              const float* x = c.x + ((n * XH + (h0 + kh) / up) * XW + (w0 + kw) / up) * C + k;
              store_part(to, load_part(to, part) + d * load_part(x, part), part);
            }
        }
      }
    }
  });
  sum_parts(sums, parts, int64_t(taps) * C, c.dw, int64_t(taps) * C);
}

std::string why_not(const Conv& c) {
  if (c.cg() != 1 || c.ng() != 1) return "depthwise means one input and one output channel per group";
  if (c.f.pool > 1) return "a max pool is not folded into the depthwise kernel";
  return "";
}
double cost(const Conv& c) { return static_cast<double>(c.s.y_count()) * c.s.KH * c.s.KW; }

}  // namespace

const Algorithm kDepthwise = {"depthwise", why_not, cost, forward, backward};

}  // namespace warploom::cpu
