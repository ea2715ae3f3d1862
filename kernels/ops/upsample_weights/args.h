// The weights of a 3x3 convolution after a nearest upsample by 2, as four 2x2 convolutions on the small map: an output pixel of a phase
// (row parity i, column parity j) sees only 2 x 2 small pixels, and taps that fall on the same one are added.
#pragma once

#include "kernels/args.h"

namespace warploom {

// Phase (i, j), p = 2 i + j, tap (u, v) of 2 x 2: y[p] = sum of x over the rows {0}, {1, 2} (i = 0; u = 0, 1) or {0, 1}, {2} (i = 1) and
// the same columns for j. Phase i starts one pixel above (i = 0) or at the pixel itself (i = 1). adjoint: x has the shape of y and
// y that of the weights; each weight collects the taps that hold it (the gradient).
// w: [C_out, C_in, 3, 3], the phases: [4, C_out, C_in, 2, 2], both with their inner axes in `layout`.
struct UpsampleWeights {
  int64_t C_out = 0, C_in = 0;
  WeightLayout layout = WeightLayout::oihw;
  int adjoint = 0;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("C_out", a.C_out), v.attr("C_in", a.C_in), v.attr("layout", a.layout), v.attr("adjoint", a.adjoint);
    const int64_t pairs = a.C_out * a.C_in;
    v.tensor("x", a.x, DType::f32, (a.adjoint ? 16 : 9) * pairs, false);
    v.tensor("y", a.y, DType::f32, (a.adjoint ? 9 : 16) * pairs, false);
  }
};

}  // namespace warploom
