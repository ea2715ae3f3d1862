// change.h - what the draws of one image say, in whole numbers, so that it is the same on every device. WL_CHANGE: how a function is
// declared.
#pragma once

#include <cstdint>

namespace warploom {

constexpr uint32_t kAugmentStream = 0x6175676du;  // of what decides; noise is drawn from the next one

// A number from 0 to count - 1.
WL_CHANGE int drawn_below(uint32_t word, int count) {
  return static_cast<int>((static_cast<uint64_t>(word) * static_cast<uint32_t>(count)) >> 32);
}

// Mirrored at the first and the last pixel; a position is less than `size` beyond either.
WL_CHANGE int mirrored(int position, int size) {
  const int low = position < 0 ? -position : position, over = size - 1 - low;
  return size - 1 - (over < 0 ? -over : over);
}

struct ImageChange {
  int H, W, flip, down, right, top, left, side;

  // where[4]: the words of block 0, read where images are flipped or shifted; hole[4]: of block 1, where something is cut out.
  template <class Args>
  WL_CHANGE static ImageChange of(const Args& a, const uint32_t* where, const uint32_t* hole) {
    ImageChange c = {a.H, a.W, 0, 0, 0, 0, 0, a.cutout};
    if (a.flip) c.flip = static_cast<int>(where[0] >> 31);
    if (a.shift)
      c.down = drawn_below(where[1], 2 * a.shift + 1) - a.shift, c.right = drawn_below(where[2], 2 * a.shift + 1) - a.shift;
    if (a.cutout) c.top = drawn_below(hole[0], a.H) - a.cutout / 2, c.left = drawn_below(hole[1], a.W) - a.cutout / 2;
    return c;
  }
  // Where in the image as it is stored the pixel comes from.
  WL_CHANGE int row(int y) const { return mirrored(y + down, H); }
  WL_CHANGE int column(int x) const { return mirrored((flip ? W - 1 - x : x) + right, W); }
  WL_CHANGE bool is_cut(int y, int x) const {
    return static_cast<uint32_t>(y - top) < static_cast<uint32_t>(side) &&
           static_cast<uint32_t>(x - left) < static_cast<uint32_t>(side);
  }
};

}  // namespace warploom
