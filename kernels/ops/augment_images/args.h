// A batch changed a little at random. Cut-out: DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552.
#pragma once

#include "kernels/args.h"

namespace warploom {

// As gather_images, with each image changed by its own draws: x is the network's input, y its target. In both: left and right change
// places in half of the images (flip), and an image moves by up to `shift` pixels down or up and right or left, mirrored at its first
// and last pixels. In x alone: pixel + noise * e, e drawn from the standard normal distribution (of u8 rounded to a whole number from
// 0 to 255), then a square of `cutout` pixels of 0 whose middle is anywhere. Then all is multiplied by `scale`.
//
// The draws of an image depend on the key `seed`, the sample's number numbers[cursor[0] + n] and the epoch alone: Philox 4x32-10
// blocks with the counters (block, number, epoch, kAugmentStream) decide, those of the next stream are noise, a block for four
// elements that follow each other in NCHW. So they have the same bits on every device, in every layout and for every way of batching.
// The caller guarantees cursor[0] + N <= rows and order < images_count.
struct AugmentImages {
  int N = 0, C = 0, H = 0, W = 0;
  int64_t images_count = 0, rows = 0;
  DType dtype = DType::u8;  // u8 or f32
  float scale = 1.0f;
  Layout to = Layout::nchw;
  int flip = 0, shift = 0, cutout = 0;
  float noise = 0.0f;  // a deviation, in units of the pixels as they are stored
  int64_t seed = 0;
  In images, order, numbers, cursor, epoch;  // [images_count, C, H, W]; i32[rows]; i32[rows]; i32[1]; i32[1]
  Out x, y;                                  // y empty: not wanted
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("images_count", a.images_count);
    v.attr("rows", a.rows), v.attr("dtype", a.dtype), v.attr("scale", a.scale), v.attr("to", a.to);
    v.attr("flip", a.flip), v.attr("shift", a.shift), v.attr("cutout", a.cutout), v.attr("noise", a.noise);
    v.attr("seed", a.seed);
    v.tensor("images", a.images, a.dtype, elements(a.images_count, a.C, a.H, a.W), false);
    v.tensor("order", a.order, DType::i32, a.rows, false), v.tensor("numbers", a.numbers, DType::i32, a.rows, false);
    v.tensor("cursor", a.cursor, DType::i32, 1, false), v.tensor("epoch", a.epoch, DType::i32, 1, false);
    v.tensor("x", a.x, DType::f32, elements(a.N, a.C, a.H, a.W), false);
    v.tensor("y", a.y, DType::f32, elements(a.N, a.C, a.H, a.W), true);
  }
};

}  // namespace warploom
