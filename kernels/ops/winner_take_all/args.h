// Winner-take-all sparsity: in training each feature map keeps its largest value alone, and of a channel's maps in a batch those few whose
// values are largest. Source: Makhzani and Frey 2015, https://arxiv.org/abs/1409.2752 (spatial and lifetime sparsity).
#pragma once

#include "kernels/args.h"

namespace warploom {

// The winner of a map is its largest element, the first of equals; a NaN counts as larger than all. Of the N winners of a channel the
// `keep` largest stay, of equals those of the first samples. y = x where a winner stays, 0 elsewhere; y may be x (in place).
// winners: the winner's position in its map where it stays, -1 - position where it does not.
struct WinnerTakeAllForward {
  int64_t N = 0, C = 0, inner = 0;  // the map [N, C, inner], in memory as `layout` says
  Layout layout = Layout::nchw;
  int64_t keep = 1;
  In x;
  Out y, winners;  // winners: i32[N, C]
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("layout", a.layout), v.attr("keep", a.keep);
    v.tensor("x", a.x, DType::f32, elements(a.N, a.C, a.inner), false),
        v.tensor("y", a.y, DType::f32, elements(a.N, a.C, a.inner), false);
    v.tensor("winners", a.winners, DType::i32, elements(a.N, a.C), false);
  }
};
// dx = dy where a winner stays, 0 elsewhere; dx may be dy (in place).
struct WinnerTakeAllBackward {
  int64_t N = 0, C = 0, inner = 0;
  Layout layout = Layout::nchw;
  In dy, winners;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("layout", a.layout);
    v.tensor("dy", a.dy, DType::f32, elements(a.N, a.C, a.inner), false);
    v.tensor("winners", a.winners, DType::i32, elements(a.N, a.C), false);
    v.tensor("dx", a.dx, DType::f32, elements(a.N, a.C, a.inner), false);
  }
};

}  // namespace warploom
