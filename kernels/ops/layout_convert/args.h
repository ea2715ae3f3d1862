// From one memory layout to the other.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct LayoutConvert {  // x in layout `from` -> y in layout `to`, both [N, C, H, W] by name
  int N = 0, C = 0, H = 0, W = 0;
  Layout from = Layout::nchw, to = Layout::nhwc;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("from", a.from), v.attr("to", a.to);
    const int64_t count = elements(a.N, a.C, a.H, a.W);
    v.tensor("x", a.x, DType::f32, count, false), v.tensor("y", a.y, DType::f32, count, false);
  }
};

}  // namespace warploom
