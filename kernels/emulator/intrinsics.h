// intrinsics.h - CUDA's device functions: barriers, votes, shuffles, atomics, bit and float functions. Included by cuda.h.
#pragma once

namespace warploom {
namespace emulator {

enum class BlockVote { none, count, all, any };
int block_barrier(BlockVote vote, int predicate, Site site);

enum class WarpOp {
  sync,
  shuffle,
  ballot,
  any,
  all,
  match_any,
  match_all,
  add,
  min_signed,
  max_signed,
  min_unsigned,
  max_unsigned,
  bit_and,
  bit_or,
  bit_xor
};
// Lanes of `mask` meet; each brings `value`, and gets what the operation makes of all of them. `source`: the lane a shuffle
// reads.
uint64_t warp_rendezvous(WarpOp op, unsigned mask, uint64_t value, unsigned source, Site site);
unsigned active_mask();
[[noreturn]] void trap(Site site);
void nap();
void fence();

template <class To, class From>
inline __attribute__((always_inline)) To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}
template <class T>
inline uint64_t pack(T value) {
  static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 1, 2, 4 or 8 bytes");
  if constexpr (sizeof(T) == 8)
    return bits<uint64_t>(value);
  else if constexpr (sizeof(T) == 4)
    return bits<uint32_t>(value);
  else if constexpr (sizeof(T) == 2)
    return bits<uint16_t>(value);
  else
    return bits<uint8_t>(value);
}
template <class T>
inline T unpack(uint64_t value) {
  if constexpr (sizeof(T) == 8)
    return bits<T>(value);
  else if constexpr (sizeof(T) == 4)
    return bits<T>(static_cast<uint32_t>(value));
  else if constexpr (sizeof(T) == 2)
    return bits<T>(static_cast<uint16_t>(value));
  else
    return bits<T>(static_cast<uint8_t>(value));
}
// A choice without a branch, which the counting build would take for the kernel's own.
inline __attribute__((always_inline)) int choose(bool first, int a, int b) { return b ^ ((a ^ b) & -static_cast<int>(first)); }
inline int lane_number() { return static_cast<int>(own(own(current_identity)->number) & 31u); }

// Atomics stand in the runtime: the checked build must not take them for plain accesses.
enum class AtomicOp { add, sub, exchange, min, max, bit_and, bit_or, bit_xor, inc, dec };
uint32_t atomic_u32(AtomicOp op, uint32_t* address, uint32_t operand, bool is_signed);
uint64_t atomic_u64(AtomicOp op, uint64_t* address, uint64_t operand, bool is_signed);
float atomic_f32(AtomicOp op, float* address, float operand);
double atomic_f64(AtomicOp op, double* address, double operand);
uint32_t atomic_cas_u32(uint32_t* address, uint32_t expected, uint32_t desired);
uint64_t atomic_cas_u64(uint64_t* address, uint64_t expected, uint64_t desired);
uint16_t atomic_cas_u16(uint16_t* address, uint16_t expected, uint16_t desired);

}  // namespace emulator

// Hide the C library's: a call each, where CUDA has one instruction. NaN loses, as IEEE 754 minNum and maxNum say.
// CUDA offers these without std::.
using std::isfinite;
using std::isinf;
using std::isnan;

inline float fmaxf(float a, float b) { return (a > b || b != b) ? a : b; }
inline float fminf(float a, float b) { return (a < b || b != b) ? a : b; }
}  // namespace warploom

// ---- Barriers ----
inline void __syncthreads(WL_SITE) { ::warploom::emulator::block_barrier(::warploom::emulator::BlockVote::none, 0, site); }
inline int __syncthreads_count(int predicate, WL_SITE) {
  return ::warploom::emulator::block_barrier(::warploom::emulator::BlockVote::count, predicate, site);
}
inline int __syncthreads_and(int predicate, WL_SITE) {
  return ::warploom::emulator::block_barrier(::warploom::emulator::BlockVote::all, predicate, site);
}
inline int __syncthreads_or(int predicate, WL_SITE) {
  return ::warploom::emulator::block_barrier(::warploom::emulator::BlockVote::any, predicate, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, WL_SITE) {
  ::warploom::emulator::warp_rendezvous(::warploom::emulator::WarpOp::sync, mask, 0, 0, site);
}
inline void __threadfence() { ::warploom::emulator::fence(); }
inline void __threadfence_block() { ::warploom::emulator::fence(); }
inline void __threadfence_system() { ::warploom::emulator::fence(); }
inline void __nanosleep(unsigned) { ::warploom::emulator::nap(); }
[[noreturn]] inline void __trap(WL_SITE) { ::warploom::emulator::trap(site); }

// ---- Warps. Source lanes as PTX `shfl` computes them: beyond the segment of `width` lanes a thread reads itself. ----
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source_lane, int width = 32, WL_SITE) {
  namespace e = ::warploom::emulator;
  const int lane = e::lane_number();
  const int source = (lane & ~(width - 1)) | (source_lane & (width - 1));
  return e::unpack<T>(e::warp_rendezvous(e::WarpOp::shuffle, mask, e::pack(value), static_cast<unsigned>(source), site));
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, WL_SITE) {
  namespace e = ::warploom::emulator;
  const int lane = e::lane_number(), from = lane - static_cast<int>(delta & 31u);
  const int source = e::choose(from >= (lane & ~(width - 1)), from, lane);
  return e::unpack<T>(e::warp_rendezvous(e::WarpOp::shuffle, mask, e::pack(value), static_cast<unsigned>(source), site));
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, WL_SITE) {
  namespace e = ::warploom::emulator;
  const int lane = e::lane_number(), from = lane + static_cast<int>(delta & 31u);
  const int source = e::choose(from <= (lane | (width - 1)), from, lane);
  return e::unpack<T>(e::warp_rendezvous(e::WarpOp::shuffle, mask, e::pack(value), static_cast<unsigned>(source), site));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, WL_SITE) {
  namespace e = ::warploom::emulator;
  const int lane = e::lane_number(), from = lane ^ (lane_mask & 31);
  const int source = e::choose(from <= (lane | (width - 1)), from, lane);
  return e::unpack<T>(e::warp_rendezvous(e::WarpOp::shuffle, mask, e::pack(value), static_cast<unsigned>(source), site));
}
inline unsigned __ballot_sync(unsigned mask, int predicate, WL_SITE) {
  namespace e = ::warploom::emulator;
  return static_cast<unsigned>(e::warp_rendezvous(e::WarpOp::ballot, mask, predicate != 0, 0, site));
}
inline int __any_sync(unsigned mask, int predicate, WL_SITE) {
  namespace e = ::warploom::emulator;
  return static_cast<int>(e::warp_rendezvous(e::WarpOp::any, mask, predicate != 0, 0, site));
}
inline int __all_sync(unsigned mask, int predicate, WL_SITE) {
  namespace e = ::warploom::emulator;
  return static_cast<int>(e::warp_rendezvous(e::WarpOp::all, mask, predicate != 0, 0, site));
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, WL_SITE) {
  namespace e = ::warploom::emulator;
  return static_cast<unsigned>(e::warp_rendezvous(e::WarpOp::match_any, mask, e::pack(value), 0, site));
}
template <class T>
inline unsigned __match_all_sync(unsigned mask, T value, int* all_equal, WL_SITE) {
  namespace e = ::warploom::emulator;
  const unsigned lanes = static_cast<unsigned>(e::warp_rendezvous(e::WarpOp::match_all, mask, e::pack(value), 0, site));
  *all_equal = lanes != 0;
  return lanes;
}
inline unsigned __activemask() { return ::warploom::emulator::active_mask(); }
#define WL_REDUCE(name, T, op)                                                                             \
  inline T name(unsigned mask, T value, WL_SITE) {                                                         \
    namespace e = ::warploom::emulator;                                                                    \
    return static_cast<T>(e::warp_rendezvous(e::WarpOp::op, mask, static_cast<unsigned>(value), 0, site)); \
  }
WL_REDUCE(__reduce_add_sync, int, add)
WL_REDUCE(__reduce_add_sync, unsigned, add)
WL_REDUCE(__reduce_min_sync, int, min_signed)
WL_REDUCE(__reduce_min_sync, unsigned, min_unsigned)
WL_REDUCE(__reduce_max_sync, int, max_signed)
WL_REDUCE(__reduce_max_sync, unsigned, max_unsigned)
WL_REDUCE(__reduce_and_sync, unsigned, bit_and)
WL_REDUCE(__reduce_or_sync, unsigned, bit_or)
WL_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef WL_REDUCE

// ---- Atomics: each returns the value that was there before ----
#define WL_ATOMIC(name, T, width, op, is_signed)                                                           \
  inline T name(T* address, T operand) {                                                                   \
    namespace e = ::warploom::emulator;                                                                    \
    return static_cast<T>(e::atomic_u##width(e::AtomicOp::op, reinterpret_cast<uint##width##_t*>(address), \
                                             static_cast<uint##width##_t>(operand), is_signed));           \
  }
#define WL_ATOMIC_ALL(name, op)            \
  WL_ATOMIC(name, int, 32, op, true)       \
  WL_ATOMIC(name, unsigned, 32, op, false) \
  WL_ATOMIC(name, unsigned long long, 64, op, false)
WL_ATOMIC_ALL(atomicAdd, add)
WL_ATOMIC(atomicSub, int, 32, sub, true)
WL_ATOMIC(atomicSub, unsigned, 32, sub, false)
WL_ATOMIC_ALL(atomicExch, exchange)
WL_ATOMIC_ALL(atomicMin, min)
WL_ATOMIC_ALL(atomicMax, max)
WL_ATOMIC(atomicMin, long long, 64, min, true)
WL_ATOMIC(atomicMax, long long, 64, max, true)
WL_ATOMIC_ALL(atomicAnd, bit_and)
WL_ATOMIC_ALL(atomicOr, bit_or)
WL_ATOMIC_ALL(atomicXor, bit_xor)
WL_ATOMIC(atomicInc, unsigned, 32, inc, false)
WL_ATOMIC(atomicDec, unsigned, 32, dec, false)
#undef WL_ATOMIC_ALL
#undef WL_ATOMIC
inline float atomicAdd(float* address, float operand) {
  return ::warploom::emulator::atomic_f32(::warploom::emulator::AtomicOp::add, address, operand);
}
inline double atomicAdd(double* address, double operand) {
  return ::warploom::emulator::atomic_f64(::warploom::emulator::AtomicOp::add, address, operand);
}
inline float atomicExch(float* address, float operand) {
  return ::warploom::emulator::atomic_f32(::warploom::emulator::AtomicOp::exchange, address, operand);
}
inline unsigned atomicCAS(unsigned* address, unsigned expected, unsigned desired) {
  return ::warploom::emulator::atomic_cas_u32(address, expected, desired);
}
inline int atomicCAS(int* address, int expected, int desired) {
  return static_cast<int>(::warploom::emulator::atomic_cas_u32(reinterpret_cast<uint32_t*>(address),
                                                               static_cast<uint32_t>(expected), static_cast<uint32_t>(desired)));
}
inline unsigned long long atomicCAS(unsigned long long* address, unsigned long long expected, unsigned long long desired) {
  return ::warploom::emulator::atomic_cas_u64(reinterpret_cast<uint64_t*>(address), expected, desired);
}
inline unsigned short atomicCAS(unsigned short* address, unsigned short expected, unsigned short desired) {
  return ::warploom::emulator::atomic_cas_u16(address, expected, desired);
}

// ---- Loads with a cache hint: plain loads ----
template <class T>
inline T __ldg(const T* address) {
  return *address;
}
template <class T>
inline T __ldcg(const T* address) {
  return *address;
}
template <class T>
inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
inline void __stcg(T* address, T value) {
  *address = value;
}
template <class T>
inline void __stcs(T* address, T value) {
  *address = value;
}

// ---- Bits ----
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(static_cast<unsigned long long>(v)) : 64; }
inline unsigned __brev(unsigned v) {
  v = ((v >> 1) & 0x55555555u) | ((v & 0x55555555u) << 1);
  v = ((v >> 2) & 0x33333333u) | ((v & 0x33333333u) << 2);
  v = ((v >> 4) & 0x0f0f0f0fu) | ((v & 0x0f0f0f0fu) << 4);
  return __builtin_bswap32(v);
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t both = (static_cast<uint64_t>(b) << 32) | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned pick = (selector >> (4 * i)) & 0xfu;
    unsigned byte = static_cast<unsigned>(both >> (8 * (pick & 7u))) & 0xffu;
    if (pick & 8u) byte = (byte & 0x80u) ? 0xffu : 0u;
    result |= byte << (8 * i);
  }
  return result;
}
inline int __float_as_int(float v) { return ::warploom::emulator::bits<int>(v); }
inline unsigned __float_as_uint(float v) { return ::warploom::emulator::bits<unsigned>(v); }
inline float __int_as_float(int v) { return ::warploom::emulator::bits<float>(v); }
inline float __uint_as_float(unsigned v) { return ::warploom::emulator::bits<float>(v); }
inline long long __double_as_longlong(double v) { return ::warploom::emulator::bits<long long>(v); }
inline double __longlong_as_double(long long v) { return ::warploom::emulator::bits<double>(v); }

// ---- Integers and floats ----
inline int __mul24(int a, int b) { return a * b; }
inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<int64_t>(a) * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
inline unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
inline float min(float a, float b) { return ::warploom::fminf(a, b); }
inline float max(float a, float b) { return ::warploom::fmaxf(a, b); }
inline double min(double a, double b) { return (a < b || b != b) ? a : b; }
inline double max(double a, double b) { return (a > b || b != b) ? a : b; }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
// What passes through an empty asm is not contracted into a fused multiply-add, which is what these are called for.
#if defined(__x86_64__)
#define WL_OPAQUE(a, b) asm("" : "+x"(a), "+x"(b))
#elif defined(__aarch64__)
#define WL_OPAQUE(a, b) asm("" : "+w"(a), "+w"(b))
#else
#define WL_OPAQUE(a, b) asm("" : "+m"(a), "+m"(b))
#endif
inline float __fadd_rn(float a, float b) {
  WL_OPAQUE(a, b);
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  WL_OPAQUE(a, b);
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  float product = a * b, unused = b;
  WL_OPAQUE(product, unused);
  return product;
}
#undef WL_OPAQUE
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
