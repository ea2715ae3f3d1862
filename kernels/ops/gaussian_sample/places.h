// places.h - where the elements of gaussian_sample stand. WL_NORMAL: how a function is declared.
#pragma once

#include <cstdint>

namespace warploom {

// Where element q of y and its mean stand; the logarithm of its variance stands `apart` elements after the mean.
struct SamplePlace {
  int64_t y, mean;
};
struct SamplePlaces {
  int64_t C, inner, apart;
  bool across;  // channels innermost
  WL_NORMAL SamplePlace of(int64_t q) const {
    const int64_t row = q / inner, i = q - row * inner, n = row / C, c = row - n * C;
    if (across) return {(n * inner + i) * C + c, (n * inner + i) * 2 * C + c};
    return {q, q + n * C * inner};
  }
};

}  // namespace warploom
