// vec_math.h - exponential and logarithm of a vector of floats, to float32 accuracy, without a call per lane.
#pragma once

#include "vec.h"

namespace warploom::cpu {

// e^x = 2^n e^r with |r| <= ln 2 / 2: n ln 2 is subtracted in two pieces, e^r is its Taylor series up to r^7 (the next term is
// below 2e-9). Results below the smallest normal number are 0; NaN stays.
WL_INLINE vf exp(vf x) {
  const vf low = broadcast(-87.33654f), high = broadcast(88.72283f);
  const vf inside = x < low ? low : x > high ? high : x;
  const vf magic = broadcast(12582912.0f);  // adding 1.5 * 2^23 rounds to a whole number
  const vf n = (inside * 1.44269504f + magic) - magic;
  const vf r = (inside - n * 0.693359375f) + n * 2.12194440e-4f;
  vf y = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
  y = y * r + (1.0f / 120.0f);
  y = y * r + (1.0f / 24.0f);
  y = y * r + (1.0f / 6.0f);
  y = y * r + 0.5f;
  y = y * (r * r) + r + 1.0f;
  // 2^n in two factors, as 2^128 is no float; a NaN's n is not used.
  const vi whole = __builtin_convertvector(select(vi(x == x), n, vf{}), vi), half = whole >> 1;
  const vf one = reinterpret_cast<vf>((half + 127) << 23), two = reinterpret_cast<vf>((whole - half + 127) << 23);
  y = y * one * two;
  y = x < low ? vf{} : y;
  y = x > high ? broadcast(__builtin_inff()) : y;
  return x == x ? y : x;
}

// ln x for positive normal x: x = 2^n m with m in [sqrt 1/2, sqrt 2), ln m = 2 artanh s, s = (m - 1) / (m + 1), by its series up
// to s^9 (the next term is below 3e-9). NaN and infinity stay; 0 gives -infinity.
WL_INLINE vf log(vf x) {
  const vi bits = reinterpret_cast<vi>(x);
  const vi shifted = bits - 0x3f3504f3;  // the bits of sqrt 1/2
  const vf n = __builtin_convertvector(shifted >> 23, vf);
  const vf m = reinterpret_cast<vf>((shifted & 0x007fffff) + 0x3f3504f3);
  const vf f = m - 1.0f, s = f / (m + 1.0f), z = s * s;
  vf series = z * (2.0f / 9.0f) + (2.0f / 7.0f);
  series = series * z + (2.0f / 5.0f);
  series = series * z + (2.0f / 3.0f);
  series = series * z * s + 2.0f * s;
  const vf y = n * 0.693359375f + (series - n * 2.12194440e-4f);
  const vf infinity = broadcast(__builtin_inff());
  return x == 0.0f ? -infinity : x < infinity ? y : x;
}

// ln(1 + x) for 0 <= x: what 1 + x rounds away comes back as the slope's share.
WL_INLINE vf log1p(vf x) {
  const vf w = 1.0f + x;
  return log(w) + (x - (w - 1.0f)) / w;
}

}  // namespace warploom::cpu
