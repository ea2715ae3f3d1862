// depth_to_space/cpu.cpp - depth to space and back on the host; a task owns rows of the deep map.
//
// NHWC, dcr: for a pixel and a wide row the values of all columns and channels are neighbours on both sides: runs of block * C. NHWC,
// phases: runs of C. NHWC, crd: a transposition of C x block values per pixel and wide row. NCHW: `block` planes interleave into a row.
#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

struct Sides {  // what is copied: wide[...] = deep[...], or the other way
  const float* x;
  float* y;
  bool inverse;
  WL_INLINE void run(int64_t wide, int64_t deep, int64_t n) const {
    if (inverse)
      copy_floats(y + deep, x + wide, n);
    else
      copy_floats(y + wide, x + deep, n);
  }
  // n elements, neighbours in one side of step 1 and apart in the other.
  WL_INLINE void strided(int64_t wide, int64_t wide_step, int64_t deep, int64_t deep_step, int64_t n) const {
    if (inverse)
      for (int64_t i = 0; i < n; ++i) y[deep + i * deep_step] = x[wide + i * wide_step];
    else
      for (int64_t i = 0; i < n; ++i) y[wide + i * wide_step] = x[deep + i * deep_step];
  }
};

void nhwc(const DepthToSpace& a, const Sides& sides) {
  const int64_t b = a.block, depth = a.C * b * b, wide_row = a.W * b * a.C;
  parallel_blocks(a.N * a.H, std::max<int64_t>(1, kTaskElements / (a.W * depth)), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)  // n * H + h
      for (int64_t i = 0; i < b; ++i)
        for (int64_t w = 0; w < a.W; ++w) {
          const int64_t wide = (row * b + i) * wide_row + w * b * a.C, deep = (row * a.W + w) * depth;
          if (a.order == DepthOrder::dcr)
            sides.run(wide, deep + i * b * a.C, b * a.C);
          else if (a.order == DepthOrder::phases)
            for (int64_t j = 0; j < b; ++j) sides.run(wide + j * a.C, (((i * b + j) * a.N * a.H + row) * a.W + w) * a.C, a.C);
          else
            for (int64_t j = 0; j < b; ++j) sides.strided(wide + j * a.C, 1, deep + i * b + j, b * b, a.C);
        }
  });
}

void nchw(const DepthToSpace& a, const Sides& sides) {
  const int64_t b = a.block, plane = a.H * a.W;
  parallel_blocks(a.N * a.C, std::max<int64_t>(1, kTaskElements / (plane * b * b)), [&](int64_t begin, int64_t end, int) {
    for (int64_t map = begin; map < end; ++map) {  // n * C + c
      const int64_t n = map / a.C, c = map % a.C;
      for (int64_t i = 0; i < b; ++i)
        for (int64_t j = 0; j < b; ++j) {
          int64_t deep = n * a.C * b * b + (a.order == DepthOrder::dcr ? (i * b + j) * a.C + c : c * b * b + i * b + j);
          if (a.order == DepthOrder::phases) deep = (i * b + j) * a.N * a.C + map;
          for (int64_t h = 0; h < a.H; ++h)
            sides.strided(((map * a.H + h) * b + i) * a.W * b + j, b, deep * plane + h * a.W, 1, a.W);
        }
    }
  });
}

void run(const DepthToSpace& a, const Context&) {
  const Sides sides = {a.x.ptr(), a.y.ptr(), a.inverse != 0};
  if (a.layout == Layout::nhwc)
    nhwc(a, sides);
  else
    nchw(a, sides);
}

}  // namespace

Entry<DepthToSpace> depth_to_space() { return {run, depth_to_space_error, nullptr, nullptr}; }

}  // namespace warploom::cpu
