// Concatenation of up to kMaxConcat tensors along one axis, each seen as [rows, cols k]: the axis and what lies inside it are the
// columns. Channels in NCHW: rows = N, cols k = C_k * H * W; in NHWC: rows = N * H * W, cols k = C_k.
#pragma once

#include "kernels/args.h"

namespace warploom {

constexpr int kMaxConcat = 8;

struct ConcatForward {  // y[r] = x0[r], x1[r], ...
  int64_t rows = 0;
  int count = 0;  // tensors: x[0] to x[count - 1]
  int64_t cols[kMaxConcat] = {};
  In x[kMaxConcat];
  Out y;
  int64_t total() const {
    int64_t sum = 0;
    for (int k = 0; k < count && k < kMaxConcat; ++k)
      if (__builtin_add_overflow(sum, cols[k], &sum) || sum > kTooMany) return kTooMany;
    return sum;
  }
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    static const char* const names[] = {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"};
    static const char* const sizes[] = {"cols0", "cols1", "cols2", "cols3", "cols4", "cols5", "cols6", "cols7"};
    v.attr("rows", a.rows), v.attr("count", a.count);
    for (int k = 0; k < kMaxConcat; ++k) v.attr(sizes[k], a.cols[k]);
    for (int k = 0; k < kMaxConcat; ++k) v.tensor(names[k], a.x[k], DType::f32, elements(a.rows, a.cols[k]), k > 0);
    v.tensor("y", a.y, DType::f32, elements(a.rows, a.total()), false);
  }
};
struct ConcatBackward {  // dx k[r] = its columns of dy[r]; an empty dx k is not wanted
  int64_t rows = 0;
  int count = 0;
  int64_t cols[kMaxConcat] = {};
  In dy;
  Out dx[kMaxConcat];
  int64_t total() const {
    int64_t sum = 0;
    for (int k = 0; k < count && k < kMaxConcat; ++k)
      if (__builtin_add_overflow(sum, cols[k], &sum) || sum > kTooMany) return kTooMany;
    return sum;
  }
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    static const char* const names[] = {"dx0", "dx1", "dx2", "dx3", "dx4", "dx5", "dx6", "dx7"};
    static const char* const sizes[] = {"cols0", "cols1", "cols2", "cols3", "cols4", "cols5", "cols6", "cols7"};
    v.attr("rows", a.rows), v.attr("count", a.count);
    for (int k = 0; k < kMaxConcat; ++k) v.attr(sizes[k], a.cols[k]);
    v.tensor("dy", a.dy, DType::f32, elements(a.rows, a.total()), false);
    for (int k = 0; k < kMaxConcat; ++k) v.tensor(names[k], a.dx[k], DType::f32, elements(a.rows, a.cols[k]), true);
  }
};

}  // namespace warploom
