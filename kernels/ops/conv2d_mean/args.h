// A pointwise convolution, its activation and the average pool after it in one pass, for inference: the map between them, which may
// hold a hundred times the pooled values, is never written. Optional: a version without it runs the three steps.
#pragma once

#include "kernels/args.h"

namespace warploom {

// y = the mean over MKH x MKW windows (strides mean_stride_h and _w, no padding, floor) of activation(conv(x, w) + bias)
struct Conv2dMeanForward {
  Conv2dShape s;
  Fusion fusion;
  int MKH = 1, MKW = 1, mean_stride_h = 1, mean_stride_w = 1, MH = 0, MW = 0;
  In x, w, bias;
  Out y;
  int64_t y_count() const { return elements(s.N, s.C_out, MH, MW); }
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.attr("MKH", a.MKH), v.attr("MKW", a.MKW), v.attr("mean_stride_h", a.mean_stride_h);
    v.attr("mean_stride_w", a.mean_stride_w), v.attr("MH", a.MH), v.attr("MW", a.MW);
    v.tensor("x", a.x, a.fusion.x_type, a.s.x_count(), false), v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("bias", a.bias, DType::f32, a.s.C_out, true), v.tensor("y", a.y, a.fusion.y_type, a.y_count(), false);
  }
};

}  // namespace warploom
