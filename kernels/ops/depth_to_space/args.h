// Depth to space: block x block channels of the deep map become one channel of a map that is block times as high and wide.
// Source: the ONNX operator DepthToSpace; order crd is PyTorch's pixel_shuffle.
#pragma once

#include "kernels/args.h"

namespace warploom {

// deep: [N, C * block^2, H, W]; wide: [N, C, H * block, W * block], both in `layout`. wide[n, c, h * block + i, w * block + j] =
// deep[n, k, h, w] with k = (i * block + j) * C + c (dcr, block-major) or k = c * block^2 + i * block + j (crd, channel-major).
// phases: deep is block^2 whole maps [N, C, H, W] (or [N, H, W, C]) one after the other, map i * block + j for position (i, j).
// inverse: from wide to deep, which is also the gradient.
struct DepthToSpace {
  int64_t N = 0, C = 0, H = 0, W = 0;
  int block = 2, inverse = 0;
  DepthOrder order = DepthOrder::dcr;
  Layout layout = Layout::nchw;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("block", a.block);
    v.attr("inverse", a.inverse), v.attr("order", a.order), v.attr("layout", a.layout);
    const int64_t count = elements(a.N, a.C, a.H, a.W, a.block, a.block);
    v.tensor("x", a.x, DType::f32, count, false), v.tensor("y", a.y, DType::f32, count, false);
  }
};

}  // namespace warploom
