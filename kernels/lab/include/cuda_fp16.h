// cuda_fp16.h - half precision: IEEE binary16.
#pragma once

#include "cuda_runtime.h"

struct __half_raw {
  unsigned short x;
};
struct __half2_raw {
  unsigned short x, y;
};
#define WL_H __half
#define WL_H2 __half2
#define WL_RAW __half_raw
#define WL_TO_BITS(v) ::warploom::emulator::round_f16(v)
#define WL_FROM_BITS(b) ::warploom::lab::ptx::from_f16(b)
#include "sixteen_bits.h"
#undef WL_H
#undef WL_H2
#undef WL_RAW
#undef WL_TO_BITS
#undef WL_FROM_BITS
typedef __half half;
typedef __half2 half2;
typedef __half nv_half;
typedef __half2 nv_half2;

inline __half __float2half(float v) { return __half(v); }
inline __half __float2half_rn(float v) { return __half(v); }
inline __half __double2half(double v) { return __half(v); }
inline float __half2float(__half v) { return v; }
inline __half2 __float2half2_rn(float v) { return __half2(__half(v), __half(v)); }
inline __half2 __floats2half2_rn(float a, float b) { return __half2(__half(a), __half(b)); }
inline __half2 __float22half2_rn(float2 v) { return __half2(__half(v.x), __half(v.y)); }
inline float2 __half22float2(__half2 v) { return make_float2(v.x, v.y); }
inline __half2 __half2half2(__half v) { return __half2(v, v); }
inline __half2 __halves2half2(__half a, __half b) { return __half2(a, b); }
inline __half2 make_half2(__half a, __half b) { return __half2(a, b); }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline __half2 __low2half2(__half2 v) { return __half2(v.x, v.x); }
inline __half2 __high2half2(__half2 v) { return __half2(v.y, v.y); }
inline __half2 __lowhigh2highlow(__half2 v) { return __half2(v.y, v.x); }
inline __half2 __lows2half2(__half2 a, __half2 b) { return __half2(a.x, b.x); }
inline __half2 __highs2half2(__half2 a, __half2 b) { return __half2(a.y, b.y); }
inline __half __int2half_rn(int v) { return __half(v); }
inline __half __uint2half_rn(unsigned v) { return __half(v); }
inline int __half2int_rn(__half v) { return static_cast<int>(std::nearbyint(static_cast<float>(v))); }
inline int __half2int_rz(__half v) { return static_cast<int>(static_cast<float>(v)); }
inline unsigned short __half_as_ushort(__half v) { return v.wl_bits; }
inline short __half_as_short(__half v) { return static_cast<short>(v.wl_bits); }
inline __half __ushort_as_half(unsigned short b) { return __half(__half_raw{b}); }
inline __half __short_as_half(short b) { return __half(__half_raw{static_cast<unsigned short>(b)}); }
