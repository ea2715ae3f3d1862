// concat/cpu.cpp - concatenation on the host. Short rows: a task owns rows of the whole, so that it is written once, in order. Long
// rows: a task owns a piece of one part of one row.
#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

// copy(k, row, first column of the part, columns): every piece of every part.
template <class Args, class Copy>
void for_pieces(const Args& a, Copy&& copy) {
  const int64_t total = a.total();
  if (total == 0) return;
  if (total <= kTaskElements) {
    parallel_blocks(a.rows, kTaskElements / total, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row)
        for (int k = 0; k < a.count; ++k) copy(k, row, 0, a.cols[k]);
    });
    return;
  }
  int64_t pieces = 0;
  for (int k = 0; k < a.count; ++k) pieces += ceil_div(a.cols[k], kTaskElements);
  parallel(a.rows * pieces, [&](int64_t task, int) {
    int64_t piece = task % pieces;
    int k = 0;
    for (; piece >= ceil_div(a.cols[k], kTaskElements); ++k) piece -= ceil_div(a.cols[k], kTaskElements);
    const int64_t first = piece * kTaskElements;
    copy(k, task / pieces, first, std::min(kTaskElements, a.cols[k] - first));
  });
}

template <class Args>
void offsets(const Args& a, int64_t* offset) {
  int64_t sum = 0;
  for (int k = 0; k < a.count; ++k) offset[k] = sum, sum += a.cols[k];
}

void run_forward(const ConcatForward& a, const Context&) {
  int64_t offset[kMaxConcat] = {};
  offsets(a, offset);
  const int64_t total = a.total();
  for_pieces(a, [&](int k, int64_t row, int64_t first, int64_t n) __attribute__((always_inline)) {
    copy_floats(a.y.ptr() + row * total + offset[k] + first, a.x[k].ptr() + row * a.cols[k] + first, n);
  });
}

void run_backward(const ConcatBackward& a, const Context&) {
  int64_t offset[kMaxConcat] = {};
  offsets(a, offset);
  const int64_t total = a.total();
  for_pieces(a, [&](int k, int64_t row, int64_t first, int64_t n) __attribute__((always_inline)) {
    if (a.dx[k]) copy_floats(a.dx[k].ptr() + row * a.cols[k] + first, a.dy.ptr() + row * total + offset[k] + first, n);
  });
}

}  // namespace

Entry<ConcatForward> concat_forward() { return {run_forward, concat_error<ConcatForward>, nullptr, nullptr}; }
Entry<ConcatBackward> concat_backward() { return {run_backward, concat_error<ConcatBackward>, nullptr, nullptr}; }

}  // namespace warploom::cpu
