// ptx.h - what the lab makes of inline PTX (warploom.lab.ptx writes the calls). Values are bits: an "f" operand may hold an integer.
#pragma once

#include "../emulator/async_proxy.h"

namespace warploom {
namespace lab {
namespace ptx {

template <class To, class From>
inline __attribute__((always_inline)) To as(From value) {
  if constexpr (std::is_same<To, bool>::value) {
    return static_cast<bool>(value);
  } else if constexpr (std::is_pointer<From>::value) {
    return static_cast<To>(reinterpret_cast<uintptr_t>(value));
  } else if constexpr (sizeof(To) == sizeof(From)) {
    To to;
    __builtin_memcpy(&to, &value, sizeof(to));
    return to;
  } else {
    return static_cast<To>(value);
  }
}
template <class To, class From>
inline __attribute__((always_inline)) void put(To& to, From value) {
  if constexpr (sizeof(To) == sizeof(From) && !std::is_same<To, bool>::value)
    __builtin_memcpy(&to, &value, sizeof(to));
  else
    to = static_cast<To>(value);
}
template <int kHalf, class From, class To>
inline void split(From value, To& low, To& high) {
  const uint64_t v = static_cast<uint64_t>(as<std::conditional_t<sizeof(From) == 8, uint64_t, uint32_t>>(value));
  const uint64_t mask = (uint64_t(1) << kHalf) - 1;
  using Half = std::conditional_t<kHalf == 32, uint32_t, uint16_t>;
  put(low, static_cast<Half>(v & mask));
  put(high, static_cast<Half>(v >> kHalf & mask));
}
template <class To, class From>
inline void join(To& to, From low, From high) {
  if constexpr (sizeof(To) == 8)
    put(to, static_cast<uint64_t>(as<uint32_t>(high)) << 32 | as<uint32_t>(low));
  else
    put(to, static_cast<uint32_t>(as<uint16_t>(high)) << 16 | as<uint16_t>(low));
}

template <class T, int kCount, class A>
inline T* global_pointer(A address, int offset) {
  if constexpr (std::is_pointer<A>::value)
    return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(address) + static_cast<uintptr_t>(offset));
  else
    return reinterpret_cast<T*>(static_cast<uintptr_t>(address) + static_cast<uintptr_t>(offset));
}
template <class T, int kCount, class A>
inline T* shared_pointer(A address, int offset) {
  return static_cast<T*>(lab::shared_pointer(static_cast<uint32_t>(as<uint64_t>(address)) + static_cast<uint32_t>(offset)));
}
template <class T, int kCount>
struct Whole {
  typedef T type __attribute__((vector_size(sizeof(T) * kCount), may_alias));
};
template <class T>
struct Whole<T, 1> {
  typedef T type __attribute__((may_alias));
};
template <class T, class... R>
inline void load(const T* from, R&... registers) {
  const auto value = *reinterpret_cast<const typename Whole<T, sizeof...(R)>::type*>(from);
  if constexpr (sizeof...(R) == 1) {
    (put(registers, static_cast<T>(value)), ...);
  } else {
    int i = 0;
    (put(registers, static_cast<T>(value[i++])), ...);
  }
}
template <class T, class... R>
inline void store(T* to, R... registers) {
  using W = typename Whole<T, sizeof...(R)>::type;
  if constexpr (sizeof...(R) == 1) {
    (static_cast<void>(*reinterpret_cast<W*>(to) = as<T>(registers)), ...);
  } else {
    const W value = {as<T>(registers)...};
    *reinterpret_cast<W*>(to) = value;
  }
}

inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, unsigned table) {
  uint32_t result = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (table >> i & 1u) result |= (i & 4u ? a : ~a) & (i & 2u ? b : ~b) & (i & 1u ? c : ~c);
  return result;
}
inline uint32_t bit_field(uint32_t v, uint32_t from, uint32_t bits) {
  return bits == 0 || from > 31 ? 0 : v >> from & (bits > 31 ? ~0u : (1u << bits) - 1u);
}
inline int32_t bit_field(int32_t v, uint32_t from, uint32_t bits) {
  if (bits == 0) return 0;
  if (from > 31) return v >> 31;
  const uint32_t taken = bit_field(static_cast<uint32_t>(v), from, bits);
  return bits > 31 ? static_cast<int32_t>(taken) : static_cast<int32_t>(taken << (32 - bits)) >> (32 - bits);
}
inline uint32_t insert_field(uint32_t a, uint32_t b, uint32_t from, uint32_t bits) {
  if (bits == 0 || from > 31) return b;
  const uint32_t mask = (bits > 31 ? ~0u : (1u << bits) - 1u) << from;
  return (b & ~mask) | (a << from & mask);
}
inline int segment(unsigned c) { return 32 - static_cast<int>(c >> 8 & 31u); }

inline uint32_t pack_f16(float low, float high) { return emulator::round_f16(low) | emulator::round_f16(high) << 16; }
inline uint32_t pack_bf16(float low, float high) { return emulator::round_bf16(low) | emulator::round_bf16(high) << 16; }
inline float from_bf16(uint16_t h) { return emulator::bits<float>(static_cast<uint32_t>(h) << 16); }
inline float from_f16(uint16_t h) {
  const uint32_t v = static_cast<uint32_t>(h & 0x7fffu) << 13;
  const float f = v >= 0x0f800000u ? emulator::bits<float>(v | 0x7f800000u) : emulator::bits<float>(v) * 0x1p112f;
  return emulator::bits<float>(emulator::bits<uint32_t>(f) | static_cast<uint32_t>(h & 0x8000u) << 16);
}

template <int kCount, bool kTransposed, class... R>
inline void ldmatrix(const uint32_t* row, R&... registers) {
  static_assert(sizeof...(R) == kCount, "ldmatrix writes as many registers as it loads matrices");
  typedef uint64_t Row __attribute__((vector_size(16), may_alias));
  const Row mine = *static_cast<const Row*>(emulator::matrix_row(row, 8 * kCount));
  constexpr auto op = kTransposed ? emulator::TensorOp::load_matrices_transposed : emulator::TensorOp::load_matrices;
  const emulator::Registers4 got = emulator::warp_load_matrices(op, kCount, mine[0], mine[1]);
  int i = 0;
  (put(registers, got.r[i++]), ...);
}
inline uint64_t two(uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; }
template <class D0, class D1, class D2, class D3, class A0, class A1, class A2, class A3, class B0, class B1, class C0, class C1,
          class C2, class C3>
inline void mma(emulator::TensorOp op, D0& d0, D1& d1, D2& d2, D3& d3, A0 a0, A1 a1, A2 a2, A3 a3, B0 b0, B1 b1, C0 c0, C1 c1,
                C2 c2, C3 c3) {
  const auto sum = emulator::warp_multiply(op, two(as<uint32_t>(a0), as<uint32_t>(a1)), two(as<uint32_t>(a2), as<uint32_t>(a3)),
                                           two(as<uint32_t>(b0), as<uint32_t>(b1)),
                                           {{as<float>(c0), as<float>(c1), as<float>(c2), as<float>(c3)}});
  put(d0, sum.v[0]);
  put(d1, sum.v[1]);
  put(d2, sum.v[2]);
  put(d3, sum.v[3]);
}
// Accumulators of f16, two in a register: summed in float32 and rounded once, where the tensor cores may round more often.
template <class D0, class D1, class A0, class A1, class A2, class A3, class B0, class B1, class C0, class C1>
inline void mma_half(emulator::TensorOp op, D0& d0, D1& d1, A0 a0, A1 a1, A2 a2, A3 a3, B0 b0, B1 b1, C0 c0, C1 c1) {
  const uint32_t c[2] = {as<uint32_t>(c0), as<uint32_t>(c1)};
  const auto sum =
      emulator::warp_multiply(op, two(as<uint32_t>(a0), as<uint32_t>(a1)), two(as<uint32_t>(a2), as<uint32_t>(a3)),
                              two(as<uint32_t>(b0), as<uint32_t>(b1)),
                              {{from_f16(static_cast<uint16_t>(c[0])), from_f16(static_cast<uint16_t>(c[0] >> 16)),
                                from_f16(static_cast<uint16_t>(c[1])), from_f16(static_cast<uint16_t>(c[1] >> 16))}});
  put(d0, pack_f16(sum.v[0], sum.v[1]));
  put(d1, pack_f16(sum.v[2], sum.v[3]));
}

// ---- Bulk copies and wgmma. Descriptors hold addresses of the arena; the emulator counts from where dynamic shared memory starts. ----
uint64_t from_dynamic(uint64_t descriptor);  // device.cpp
[[noreturn]] void wgmma_refused(const char* why);
// d: N / 2 registers that lie side by side, as those of an array do.
template <class First, class... Rest>
inline float* accumulators(First& first, Rest&... rest) {
  static_assert(std::is_same<First, float>::value, "wgmma with accumulators that are not float is not modelled");
  float* const d = &first;
  int i = 0;
  if (!((reinterpret_cast<const void*>(&rest) == d + ++i) && ...))
    wgmma_refused("gives wgmma accumulators that are not one array in order: the emulated device models arrays");
  return d;
}
template <bool kA>
struct WgmmaA;
template <>
struct WgmmaA<true> {  // in registers
  template <class A0, class A1, class A2, class A3>
  static void get(uint32_t (&a)[4], emulator::Site, A0 a0, A1 a1, A2 a2, A3 a3) {
    a[0] = as<uint32_t>(a0), a[1] = as<uint32_t>(a1), a[2] = as<uint32_t>(a2), a[3] = as<uint32_t>(a3);
  }
};
template <>
struct WgmmaA<false> {  // described
  template <class A>
  static void get(uint32_t (&a)[4], emulator::Site site, A descriptor) {
    emulator::warpgroup_fragment(from_dynamic(as<uint64_t>(descriptor)), a, site);
  }
};
template <bool kRegisters, class B, class... A>
inline void wgmma(emulator::OperandType type, bool across, int n, bool add, float* d, emulator::Site site, B b, A... a) {
  if (!add) {
    uint32_t first;
    __builtin_memcpy(&first, d, 4);
    if (first == 0xffffffffu) wgmma_refused("starts a wgmma that does not add while others on its accumulators are under way");
    for (int i = 0; i < n / 2; ++i) d[i] = 0;
  }
  uint32_t registers[4];
  WgmmaA<kRegisters>::get(registers, site, a...);
  emulator::warpgroup_multiply(type, across, n, d, two(registers[0], registers[1]), two(registers[2], registers[3]),
                               from_dynamic(as<uint64_t>(b)), site);
}

}  // namespace ptx
}  // namespace lab
}  // namespace warploom
