// device_functions.h - CUDA's device functions that the engine's own kernels do not need (emulator/intrinsics.h has the others).
#pragma once

#define __managed__
#define __grid_constant__
#define __cluster_dims__(...)
#define __maxnreg__(...)
#define __block_size__(...)
#define __CUDACC__ 1
#define __NVCC__ 1
#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __CUDACC_EXTENDED_LAMBDA__ 1
#define CUDART_VERSION 13000
#define CUDA_VERSION 13000
#define CUDART_CB
#define CUDARTAPI

// Sections with a shadow of their own: statics.cpp. The rewriter tells variables from functions.
#define WL_DEVICE_VARIABLE __attribute__((section("wl_device")))
#define WL_CONSTANT_VARIABLE __attribute__((section("wl_constant")))

namespace warploom {
namespace lab {
uint32_t shared_address(const void* data);  // 32 bits, as PTX counts; of memory that is not shared: a fault
void* shared_pointer(uint32_t address);
bool is_shared(const void* data);
bool is_global(const void* data);
[[noreturn]] void failed_assertion(const char* expression, const char* file, int line, const char* function);
}  // namespace lab
}  // namespace warploom

// `__shared__` declarations become references to a place that is the block's: see rewriter.
#define WL_SHARED_PLACE(type, site, name) \
  (*static_cast<type*>(::warploom::emulator::shared_storage(&site, sizeof(type), alignof(type), name)))
#define WL_DYNAMIC_PLACE(type) (*static_cast<type*>(::warploom::emulator::dynamic_shared()))

inline size_t __cvta_generic_to_shared(const void* data) { return ::warploom::lab::shared_address(data); }
inline void* __cvta_shared_to_generic(size_t address) { return ::warploom::lab::shared_pointer(static_cast<uint32_t>(address)); }
inline size_t __cvta_generic_to_global(const void* data) { return reinterpret_cast<size_t>(data); }
inline unsigned __isShared(const void* data) { return ::warploom::lab::is_shared(data); }
inline unsigned __isGlobal(const void* data) { return ::warploom::lab::is_global(data); }

long long clock64();
unsigned long long globaltimer();

inline void __brkpt() {}
inline void __prof_trigger(int) {}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
T __ldcv(const T* p) {
  return *p;
}
template <class T>
T __ldlu(const T* p) {
  return *p;
}
template <class T>
void __stwb(T* p, T v) {
  *p = v;
}
template <class T>
void __stwt(T* p, T v) {
  *p = v;
}

// ---- Atomics: the scopes are all the device's here ----
#define WL_SCOPES(name)                            \
  template <class T, class U>                      \
  T name##_block(T* address, U operand) {          \
    return name(address, static_cast<T>(operand)); \
  }                                                \
  template <class T, class U>                      \
  T name##_system(T* address, U operand) {         \
    return name(address, static_cast<T>(operand)); \
  }
WL_SCOPES(atomicAdd)
WL_SCOPES(atomicSub)
WL_SCOPES(atomicExch)
WL_SCOPES(atomicMin)
WL_SCOPES(atomicMax)
WL_SCOPES(atomicAnd)
WL_SCOPES(atomicOr)
WL_SCOPES(atomicXor)
#undef WL_SCOPES
template <class T>
T atomicCAS_block(T* address, T expected, T desired) {
  return atomicCAS(address, expected, desired);
}
template <class T>
T atomicCAS_system(T* address, T expected, T desired) {
  return atomicCAS(address, expected, desired);
}

// ---- Integers ----
inline int __float2int_rn(float v) { return static_cast<int>(std::nearbyint(v)); }
inline int __float2int_rz(float v) { return static_cast<int>(v); }
inline int __float2int_rd(float v) { return static_cast<int>(std::floor(v)); }
inline int __float2int_ru(float v) { return static_cast<int>(std::ceil(v)); }
inline unsigned __float2uint_rn(float v) { return static_cast<unsigned>(std::nearbyint(v)); }
inline unsigned __float2uint_rz(float v) { return static_cast<unsigned>(v); }
inline unsigned __float2uint_rd(float v) { return static_cast<unsigned>(std::floor(v)); }
inline unsigned __float2uint_ru(float v) { return static_cast<unsigned>(std::ceil(v)); }
inline long long __float2ll_rn(float v) { return std::llrint(v); }
inline long long __float2ll_rz(float v) { return static_cast<long long>(v); }
inline int __double2int_rn(double v) { return static_cast<int>(std::nearbyint(v)); }
inline int __double2int_rz(double v) { return static_cast<int>(v); }
inline int __double2int_rd(double v) { return static_cast<int>(std::floor(v)); }
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline float __uint2float_rn(unsigned v) { return static_cast<float>(v); }
inline double __int2double_rn(int v) { return v; }
inline float __double2float_rn(double v) { return static_cast<float>(v); }
inline long long __double2ll_rn(double v) { return std::llrint(v); }
inline int __double2hiint(double v) { return static_cast<int>(__double_as_longlong(v) >> 32); }
inline int __double2loint(double v) { return static_cast<int>(__double_as_longlong(v)); }
inline double __hiloint2double(int high, int low) {
  return __longlong_as_double(
      static_cast<long long>((static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32) | static_cast<uint32_t>(low)));
}
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
inline long long __mul64hi(long long a, long long b) { return static_cast<long long>((static_cast<__int128>(a) * b) >> 64); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline unsigned __sad(int a, int b, unsigned c) { return c + static_cast<unsigned>(a < b ? b - a : a - b); }
inline unsigned __usad(unsigned a, unsigned b, unsigned c) { return c + (a < b ? b - a : a - b); }
inline unsigned long long __brevll(unsigned long long v) {
  return (static_cast<unsigned long long>(__brev(static_cast<unsigned>(v))) << 32) | __brev(static_cast<unsigned>(v >> 32));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((((static_cast<uint64_t>(high) << 32) | low) << (shift & 31u)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32) | low) >> (shift & 31u));
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<signed char>(a >> (8 * i)) * static_cast<signed char>(b >> (8 * i));
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i) c += (a >> (8 * i) & 0xffu) * (b >> (8 * i) & 0xffu);
  return c;
}
