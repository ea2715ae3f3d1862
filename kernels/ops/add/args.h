// The sum of two tensors.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct Add {  // y = a + b; y may be a or b
  int64_t count = 0;
  In a, b;
  Out y;
  template <class Self, class V>
  static void visit(Self& s, V& v) {
    v.attr("count", s.count), v.tensor("a", s.a, DType::f32, s.count, false), v.tensor("b", s.b, DType::f32, s.count, false);
    v.tensor("y", s.y, DType::f32, s.count, false);
  }
};

}  // namespace warploom
