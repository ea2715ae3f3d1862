// normal.h - two numbers of the standard normal distribution from two random words, with the same bits on every device: Box and
// Muller's method, the functions in it as polynomials (of the Cephes library) of sums, products and fused multiply-adds, each of which
// IEEE 754 rounds in one way. No product stands where a compiler could fuse it with a sum. WL_NORMAL: how a function is declared.
//
// Source: Box and Muller 1958, https://doi.org/10.1214/aoms/1177706645. Largest number: sqrt(2 * 24 * ln 2) = 5.77.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace warploom {

// -2 * ln(u) of u = (2k + 1) / 2^24, k the upper 23 bits of the word.
WL_NORMAL float minus_two_log(uint32_t word) {
  const float odd = static_cast<float>(static_cast<int>((word >> 9) * 2u + 1u));  // exact
  uint32_t bits;
  memcpy(&bits, &odd, sizeof bits);
  int exponent = static_cast<int>(bits >> 23) - 127 - 24;
  bits = (bits & 0x007fffffu) | 0x3f800000u;          // from 1 to 2
  const uint32_t large = bits > 0x3fb504f3u ? 1 : 0;  // than sqrt(2)
  bits -= large << 23, exponent += static_cast<int>(large);
  float m = 0.0f;  // from sqrt(1/2) to sqrt(2)
  memcpy(&m, &bits, sizeof m);
  const float f = m - 1.0f, z = f * f, e = static_cast<float>(exponent);
  float p = 7.0376836292e-2f;
  p = fmaf(p, f, -1.1514610310e-1f);
  p = fmaf(p, f, 1.1676998740e-1f);
  p = fmaf(p, f, -1.2420140846e-1f);
  p = fmaf(p, f, 1.4249322787e-1f);
  p = fmaf(p, f, -1.6668057665e-1f);
  p = fmaf(p, f, 2.0000714765e-1f);
  p = fmaf(p, f, -2.4999993993e-1f);
  p = fmaf(p, f, 3.3333331174e-1f);
  p = fmaf(p, f, -0.5f);
  const float log = fmaf(e, 0.693359375f, fmaf(e, -2.12194440e-4f, fmaf(p, z, f)));
  return -2.0f * log;
}

// Sine and cosine of an angle that is uniform over the circle: two bits choose the quarter, 23 the place in it.
WL_NORMAL void on_circle(uint32_t word, float* sine, float* cosine) {
  const float odd = static_cast<float>(static_cast<int>(((word >> 7) & 0x007fffffu) * 2u + 1u));
  const float t = fmaf(odd, 5.9604644775390625e-8f, -0.5f);  // from -1/2 to 1/2
  const float a = t * 1.57079637f, z = a * a;
  float s = -1.9515295891e-4f;
  s = fmaf(s, z, 8.3321608736e-3f);
  s = fmaf(s, z, -1.6666654611e-1f);
  const float az = a * z;
  s = fmaf(s, az, a);
  float c = 2.443315711809948e-5f;
  c = fmaf(c, z, -1.388731625493765e-3f);
  c = fmaf(c, z, 4.166664568298827e-2f);
  c = fmaf(c, z, -0.5f);
  c = fmaf(c, z, 1.0f);
  const uint32_t quarter = word >> 30;
  const float x = quarter & 1u ? s : c, y = quarter & 1u ? c : s;
  *cosine = quarter == 1u || quarter == 2u ? -x : x;
  *sine = quarter >= 2u ? -y : y;
}

WL_NORMAL void normal_pair(uint32_t first, uint32_t second, float* a, float* b) {
  const float radius = sqrtf(minus_two_log(first));
  float sine, cosine;
  on_circle(second, &sine, &cosine);
  *a = radius * cosine, *b = radius * sine;
}

}  // namespace warploom
