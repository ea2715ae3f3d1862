// What augment_images asks of its arguments: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include <algorithm>
#include <string>

#include "../preconditions.h"

namespace warploom {

inline std::string augment_images_error(const AugmentImages& a) {
  if (a.dtype != DType::u8 && a.dtype != DType::f32) return "images must be uint8 or float32";
  if (a.N < 0 || a.C < 1 || a.H < 1 || a.W < 1) return "images need positive channels, height and width";
  const int side = std::min(a.H, a.W);
  if (a.shift < 0 || a.shift >= side || a.cutout < 0 || a.cutout > side)
    return "the images have " + std::to_string(side) + " pixels on their short side: shift must be less, cutout at most that";
  if (!(a.noise >= 0.0f && a.noise <= 1e30f)) return "noise is a standard deviation: a finite number that is not negative";
  return map_error(a.N, a.C, elements(a.H, a.W));
}

}  // namespace warploom
