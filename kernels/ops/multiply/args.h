// Elementwise product; the second factor may be a mask of one channel, which multiplies every channel.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct MultiplyForward {  // y[o, c, i] = a[o, c, i] * b[o, c or 0, i]; y may be a (in place)
  int64_t outer = 0, C = 0, inner = 0;
  int64_t b_channels = 0;  // C or 1
  In a, b;
  Out y;
  template <class Self, class V>
  static void visit(Self& s, V& v) {
    v.attr("outer", s.outer), v.attr("C", s.C), v.attr("inner", s.inner), v.attr("b_channels", s.b_channels);
    v.tensor("a", s.a, DType::f32, elements(s.outer, s.C, s.inner), false);
    v.tensor("b", s.b, DType::f32, elements(s.outer, s.b_channels, s.inner), false);
    v.tensor("y", s.y, DType::f32, elements(s.outer, s.C, s.inner), false);
  }
};
// da = dy * b; db = dy * a, summed over the channels where b has one. da may be dy (in place) if db is not wanted.
struct MultiplyBackward {
  int64_t outer = 0, C = 0, inner = 0;
  int64_t b_channels = 0;
  In dy, a, b;  // a: needed for db only
  Out da, db;
  template <class Self, class V>
  static void visit(Self& s, V& v) {
    v.attr("outer", s.outer), v.attr("C", s.C), v.attr("inner", s.inner), v.attr("b_channels", s.b_channels);
    v.tensor("dy", s.dy, DType::f32, elements(s.outer, s.C, s.inner), false);
    v.tensor("a", s.a, DType::f32, elements(s.outer, s.C, s.inner), true);
    v.tensor("b", s.b, DType::f32, elements(s.outer, s.b_channels, s.inner), false);
    v.tensor("da", s.da, DType::f32, elements(s.outer, s.C, s.inner), true);
    v.tensor("db", s.db, DType::f32, elements(s.outer, s.b_channels, s.inner), true);
  }
};

}  // namespace warploom
