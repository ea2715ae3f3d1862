// vec_math.h - exponential, logarithm, hyperbolic tangent and error function of a vector of floats, to float32 accuracy, without a call
// per lane. Polynomials without a named series are least-squares fits on Chebyshev nodes.
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

// sum of coefficients[k] x^k.
template <int kCount>
WL_INLINE vf polynomial(vf x, const float (&coefficients)[kCount]) {
  vf y = broadcast(coefficients[kCount - 1]);
  for (int k = kCount - 2; k >= 0; --k) y = y * x + coefficients[k];
  return y;
}

// e^x - 1: near 0 its Taylor series up to x^8 (the next term is below 6e-9 there).
WL_INLINE vf expm1(vf x) {
  constexpr float series[] = {0.5f, 1.0f / 6.0f, 1.0f / 24.0f, 1.0f / 120.0f, 1.0f / 720.0f, 1.0f / 5040.0f, 1.0f / 40320.0f};
  const vi near = (x < 0.5f) & (x > -0.5f);
  return select(near, x + x * x * polynomial(x, series), exp(x) - 1.0f);
}

// Near 0 x + x^3 P(x^2), a fit up to 0.625 within 9e-8 of the value; else 1 - 2 / (e^2|x| + 1) with the sign of x.
WL_INLINE vf tanh(vf x) {
  constexpr float fit[] = {-0.333333291f, 0.133327822f, -0.053852496f, 0.021003636f, -0.00610494212f};
  const vf size = x < 0.0f ? -x : x, square = x * x;
  const vf far = 1.0f - 2.0f / (exp(2.0f * size) + 1.0f);
  return select(vi(size < 0.625f), x + x * square * polynomial(square, fit), x < 0.0f ? -far : far);
}

// Up to 1 x P(x^2), a fit within 1.8e-7 of the value; else 1 - e^-Q(|x|) with the sign of x, Q a fit of -ln erfc up to 4, where the
// result is within 8e-8 of 1.
WL_INLINE vf erf(vf x) {
  constexpr float inner[] = {1.12837917f,    -0.376126269f,    0.112835975f,   -0.0268543288f,
                             0.00518931194f, -0.000801885499f, 7.88249711e-05f};
  constexpr float outer[] = {-0.000191478501f, 1.12959391f,    0.633190559f,     0.10844885f,
                             -0.025226628f,    0.00421111434f, -0.000442607676f, 2.17903213e-05f};
  const vf size = x < 0.0f ? -x : x, limited = size > 4.0f ? broadcast(4.0f) : size;
  const vf far = 1.0f - exp(-polynomial(limited, outer));
  return select(vi(size < 1.0f), x * polynomial(x * x, inner), x < 0.0f ? -far : far);
}

}  // namespace warploom::cpu
