// Dropout. Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html; inverted, so that inference is the identity.
#pragma once

#include "kernels/args.h"

namespace warploom {

// y = x * mask / keep, the mask 1 with probability `keep`, else 0; dx = dy * mask / keep is the same call on dy. Nothing is kept: the
// mask is drawn again. y may be x (in place).
//
// The draw of element i of channel row r = n * C + c is word i % 4 of the Philox 4x32-10 block with the counter (i / 4, r, step,
// stream) and the key seed, and the element stays where the word is below floor(keep * 2^32): the same bits on every device, in every
// layout and for every way of splitting the work. whole_channels: i counts as 0, so a channel goes or stays as a whole.
struct Dropout {
  int64_t N = 0, C = 0, inner = 0;  // the map [N, C, inner], in memory as `layout` says
  Layout layout = Layout::nchw;
  float keep = 1.0f;
  int whole_channels = 0;
  int64_t seed = 0, stream = 0;  // stream: of the layer, 32 bits
  In step;                       // i32[1]: how many steps the optimizer has taken
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("layout", a.layout), v.attr("keep", a.keep);
    v.attr("whole_channels", a.whole_channels), v.attr("seed", a.seed), v.attr("stream", a.stream);
    v.tensor("step", a.step, DType::i32, 1, false);
    v.tensor("x", a.x, DType::f32, a.N * a.C * a.inner, false), v.tensor("y", a.y, DType::f32, a.N * a.C * a.inner, false);
  }
};

}  // namespace warploom
