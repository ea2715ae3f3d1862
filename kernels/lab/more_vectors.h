// more_vectors.h - the vector types that the engine's own kernels do not need (emulator/vector_types.h has the others), and the copying
// functions whose accesses are announced.
#pragma once

#define WL_VECTOR1(name, T) \
  struct name {             \
    T x;                    \
  };                        \
  inline name make_##name(T x) { return name{x}; }
#define WL_VECTOR3(name, T) \
  struct name {             \
    T x, y, z;              \
  };                        \
  inline name make_##name(T x, T y, T z) { return name{x, y, z}; }
#define WL_VECTOR4(name, T) \
  struct alignas(16) name { \
    T x, y, z, w;           \
  };                        \
  inline name make_##name(T x, T y, T z, T w) { return name{x, y, z, w}; }
#define WL_VECTOR2(name, T)            \
  struct alignas(2 * sizeof(T)) name { \
    T x, y;                            \
  };                                   \
  inline name make_##name(T x, T y) { return name{x, y}; }
WL_VECTOR1(char1, signed char)
WL_VECTOR1(uchar1, unsigned char)
WL_VECTOR1(short1, short)
WL_VECTOR1(ushort1, unsigned short)
WL_VECTOR1(int1, int)
WL_VECTOR1(uint1, unsigned)
WL_VECTOR1(long1, long)
WL_VECTOR1(ulong1, unsigned long)
WL_VECTOR1(longlong1, long long)
WL_VECTOR1(ulonglong1, unsigned long long)
WL_VECTOR1(float1, float)
WL_VECTOR1(double1, double)
WL_VECTOR2(long2, long)
WL_VECTOR2(ulong2, unsigned long)
WL_VECTOR3(char3, signed char)
WL_VECTOR3(short3, short)
WL_VECTOR3(ushort3, unsigned short)
WL_VECTOR3(long3, long)
WL_VECTOR3(ulong3, unsigned long)
WL_VECTOR3(longlong3, long long)
WL_VECTOR3(ulonglong3, unsigned long long)
WL_VECTOR3(double3, double)
WL_VECTOR4(long4, long)
WL_VECTOR4(ulong4, unsigned long)
WL_VECTOR4(longlong4, long long)
WL_VECTOR4(ulonglong4, unsigned long long)
WL_VECTOR4(double4, double)
#undef WL_VECTOR1
#undef WL_VECTOR2
#undef WL_VECTOR3
#undef WL_VECTOR4

// The C library's are not instrumented. Standard headers that come later find the guards of <cstring> set.
namespace warploom {
namespace emulator {
void announced_copy(void* to, const void* from, size_t bytes);
void announced_fill(void* to, int byte, size_t bytes);
}  // namespace emulator
}  // namespace warploom
inline void* wl_memcpy(void* to, const void* from, size_t bytes) {
  ::warploom::emulator::announced_copy(to, from, bytes);
  return to;
}
inline void* wl_memset(void* to, int byte, size_t bytes) {
  ::warploom::emulator::announced_fill(to, byte, bytes);
  return to;
}
namespace std {
using ::wl_memcpy;
using ::wl_memset;
}  // namespace std
#define memcpy wl_memcpy
#define memmove wl_memcpy
#define memset wl_memset
