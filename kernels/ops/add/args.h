// The sum of two tensors.
#pragma once

#include "kernels/args.h"

namespace warploom {

struct Add {  // y = a + b; y may be a or b
  int64_t count = 0;
  DType type = DType::f32;  // of all three
  In a, b;
  Out y;
  template <class Self, class V>
  static void visit(Self& s, V& v) {
    v.attr("count", s.count), v.attr("type", s.type);
    v.tensor("a", s.a, s.type, s.count, false), v.tensor("b", s.b, s.type, s.count, false);
    v.tensor("y", s.y, s.type, s.count, false);
  }
};

}  // namespace warploom
