// vector_types.h - CUDA's vector types for the host compiler.
//
// Sizes and alignments are CUDA's. A copy is one access of the whole vector, as on the GPU: without that the compiler splits a
// float4 that is used by member into four loads, and the checks and counters would see accesses the GPU does not make.
#pragma once

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define WL_VECTOR2(name, T)                                                                        \
  struct alignas(2 * sizeof(T)) name {                                                             \
    typedef T whole __attribute__((vector_size(2 * sizeof(T)), may_alias));                        \
    T x, y;                                                                                        \
    name() = default;                                                                              \
    constexpr name(T x_, T y_ = 0) : x(x_), y(y_) {}                                               \
    name(const name& o) { *reinterpret_cast<whole*>(this) = *reinterpret_cast<const whole*>(&o); } \
    name& operator=(const name& o) {                                                               \
      *reinterpret_cast<whole*>(this) = *reinterpret_cast<const whole*>(&o);                       \
      return *this;                                                                                \
    }                                                                                              \
  };                                                                                               \
  inline name make_##name(T x, T y) { return name(x, y); }
#define WL_VECTOR3(name, T) \
  struct name {             \
    T x, y, z;              \
  };                        \
  inline name make_##name(T x, T y, T z) { return name{x, y, z}; }
#define WL_VECTOR4(name, T)                                                                                                   \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name {                                                              \
    typedef T whole __attribute__((vector_size(4 * sizeof(T)), may_alias, aligned(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16))); \
    T x, y, z, w;                                                                                                             \
    name() = default;                                                                                                         \
    constexpr name(T x_, T y_ = 0, T z_ = 0, T w_ = 0) : x(x_), y(y_), z(z_), w(w_) {}                                        \
    name(const name& o) { *reinterpret_cast<whole*>(this) = *reinterpret_cast<const whole*>(&o); }                            \
    name& operator=(const name& o) {                                                                                          \
      *reinterpret_cast<whole*>(this) = *reinterpret_cast<const whole*>(&o);                                                  \
      return *this;                                                                                                           \
    }                                                                                                                         \
  };                                                                                                                          \
  inline name make_##name(T x, T y, T z, T w) { return name(x, y, z, w); }

WL_VECTOR2(char2, signed char)
WL_VECTOR4(char4, signed char)
WL_VECTOR2(uchar2, unsigned char)
WL_VECTOR3(uchar3, unsigned char)
WL_VECTOR4(uchar4, unsigned char)
WL_VECTOR2(short2, short)
WL_VECTOR4(short4, short)
WL_VECTOR2(ushort2, unsigned short)
WL_VECTOR4(ushort4, unsigned short)
WL_VECTOR2(int2, int)
WL_VECTOR3(int3, int)
WL_VECTOR4(int4, int)
WL_VECTOR2(uint2, unsigned)
WL_VECTOR3(uint3, unsigned)
WL_VECTOR4(uint4, unsigned)
WL_VECTOR2(float2, float)
WL_VECTOR3(float3, float)
WL_VECTOR4(float4, float)
WL_VECTOR2(double2, double)
WL_VECTOR2(longlong2, long long)
WL_VECTOR2(ulonglong2, unsigned long long)
#undef WL_VECTOR2
#undef WL_VECTOR3
#undef WL_VECTOR4
