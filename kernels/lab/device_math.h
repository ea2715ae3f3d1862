// device_math.h - CUDA's mathematical functions beside those of <math.h>. The fast ones (`__sinf`) are as exact as the others here.
#pragma once

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

#define WL_FAST(name, expression) \
  inline float name(float x) { return expression; }
WL_FAST(__sinf, std::sin(x))
WL_FAST(__cosf, std::cos(x))
WL_FAST(__tanf, std::tan(x))
WL_FAST(__log2f, std::log2(x))
WL_FAST(__log10f, std::log10(x))
WL_FAST(__exp10f, std::pow(10.0f, x))
WL_FAST(__tanhf, std::tanh(x))
WL_FAST(__frsqrt_rn, 1.0f / std::sqrt(x))
WL_FAST(rcbrtf, 1.0f / std::cbrt(x))
WL_FAST(normcdff, 0.5f * std::erfc(-x * 0.70710678118654752f))
WL_FAST(erfcxf, std::exp(x* x) * std::erfc(x))
WL_FAST(sinpif, static_cast<float>(std::sin(3.14159265358979323846 * static_cast<double>(x))))
WL_FAST(cospif, static_cast<float>(std::cos(3.14159265358979323846 * static_cast<double>(x))))
#undef WL_FAST
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __frcp_rz(float v) { return 1.0f / v; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }
inline double sinpi(double x) { return std::sin(3.14159265358979323846 * x); }
inline double cospi(double x) { return std::cos(3.14159265358979323846 * x); }
inline double rcbrt(double x) { return 1.0 / std::cbrt(x); }
inline void __sincosf(float x, float* s, float* c) {
  *s = std::sin(x);
  *c = std::cos(x);
}
inline void sincospif(float x, float* s, float* c) {
  *s = sinpif(x);
  *c = cospif(x);
}
inline float rhypotf(float a, float b) { return 1.0f / std::hypot(a, b); }
inline float norm3df(float a, float b, float c) { return std::sqrt(a * a + b * b + c * c); }
inline float rnorm3df(float a, float b, float c) { return 1.0f / norm3df(a, b, c); }
inline float norm4df(float a, float b, float c, float d) { return std::sqrt(a * a + b * b + c * c + d * d); }

// Two types that C++ would find ambiguous.
inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline double min(float a, double b) { return min(static_cast<double>(a), b); }
inline double min(double a, float b) { return min(a, static_cast<double>(b)); }
inline double max(float a, double b) { return max(static_cast<double>(a), b); }
inline double max(double a, float b) { return max(a, static_cast<double>(b)); }
inline long min(int a, long b) { return min(static_cast<long>(a), b); }
inline long min(long a, int b) { return min(a, static_cast<long>(b)); }
inline long max(int a, long b) { return max(static_cast<long>(a), b); }
inline long max(long a, int b) { return max(a, static_cast<long>(b)); }
inline long long min(int a, long long b) { return min(static_cast<long long>(a), b); }
inline long long min(long long a, int b) { return min(a, static_cast<long long>(b)); }
inline long long max(int a, long long b) { return max(static_cast<long long>(a), b); }
inline long long max(long long a, int b) { return max(a, static_cast<long long>(b)); }
inline size_t min(int a, size_t b) { return min(static_cast<size_t>(a), b); }
inline size_t min(size_t a, int b) { return min(a, static_cast<size_t>(b)); }
inline size_t min(size_t a, unsigned b) { return min(a, static_cast<size_t>(b)); }
inline size_t min(unsigned a, size_t b) { return min(static_cast<size_t>(a), b); }
inline size_t max(int a, size_t b) { return max(static_cast<size_t>(a), b); }
inline size_t max(size_t a, int b) { return max(a, static_cast<size_t>(b)); }
inline unsigned umin(unsigned a, unsigned b) { return min(a, b); }
inline unsigned umax(unsigned a, unsigned b) { return max(a, b); }
