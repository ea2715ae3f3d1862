// Batches out of a data set that lives on the device.
#pragma once

#include "kernels/args.h"

namespace warploom {

// One batch out of a data set that lives on the device: x[n] = scale * images[order[cursor[0] + n]], NCHW rows in, x in `to`.
// The caller guarantees cursor[0] + N <= rows and order < images.
struct GatherImages {
  int N = 0, C = 0, H = 0, W = 0;
  int64_t images_count = 0, rows = 0;
  DType dtype = DType::u8;  // u8 or f32
  float scale = 1.0f;
  Layout to = Layout::nchw;
  In images, order, cursor;  // [images_count, C, H, W]; i32[rows]; i32[1]
  Out x;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("images_count", a.images_count);
    v.attr("rows", a.rows), v.attr("dtype", a.dtype), v.attr("scale", a.scale), v.attr("to", a.to);
    v.tensor("images", a.images, a.dtype, elements(a.images_count, a.C, a.H, a.W), false);
    v.tensor("order", a.order, DType::i32, a.rows, false), v.tensor("cursor", a.cursor, DType::i32, 1, false);
    v.tensor("x", a.x, DType::f32, elements(a.N, a.C, a.H, a.W), false);
  }
};
struct AdvanceCursor {  // cursor[0] += step
  int step = 0;
  InOut cursor;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("step", a.step), v.tensor("cursor", a.cursor, DType::i32, 1, false);
  }
};

}  // namespace warploom
