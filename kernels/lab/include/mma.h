// mma.h - nvcuda::wmma for 16 x 16 x 16 (half, bfloat16) and 16 x 16 x 8 (tf32), summed in float32. A fragment holds its elements as mma.sync's do
// (emulator/tensor_cores.cpp), so each product is two of those; CUDA leaves the layout open.
#pragma once

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
}  // namespace precision

template <class T>
struct wl_storage {
  typedef T type;
};
template <>
struct wl_storage<precision::tf32> {
  typedef float type;
};

template <class Use, int M, int N, int K, class T, class Layout = void>
class fragment {
  static_assert(M == 16 && N == 16 &&
                    (K == 16 || (K == 8 && std::is_same<T, precision::tf32>::value) || (K == 8 && std::is_same<T, float>::value)),
                "the lab models wmma of 16 x 16 x 16, and of 16 x 16 x 8 for tf32");
  static_assert(std::is_same<T, half>::value || std::is_same<T, nv_bfloat16>::value || std::is_same<T, float>::value ||
                    std::is_same<T, precision::tf32>::value,
                "the lab models wmma of half, bfloat16, tf32 and float");

 public:
  typedef typename wl_storage<T>::type element_type;
  static constexpr bool wl_is_a = std::is_same<Use, matrix_a>::value, wl_is_b = std::is_same<Use, matrix_b>::value;
  static constexpr int num_elements = wl_is_a || wl_is_b ? (K == 16 ? 8 : 4) : 8;
  static constexpr int wl_k = K;
  element_type x[num_elements];
  // Row and column of element i in this lane: of A (m, k), of B (k, n), else (m, n).
  static void wl_place(int i, int* row, int* column) {
    const int lane = ::warploom::emulator::lane_number(), g = lane / 4, t = lane % 4;
    if (wl_is_a && K == 16)
      *row = g + (i / 2 % 2) * 8, *column = 2 * t + i % 2 + i / 4 * 8;
    else if (wl_is_a)
      *row = g + i % 2 * 8, *column = t + i / 2 * 4;
    else if (wl_is_b && K == 16)
      *row = 2 * t + i % 2 + i / 2 % 2 * 8, *column = g + i / 4 * 8;
    else if (wl_is_b)
      *row = t + i % 2 * 4, *column = g + i / 2 * 8;
    else
      *row = g + i / 2 % 2 * 8, *column = 2 * t + i % 2 + i / 4 * 8;
  }
};

template <class F, class V>
void fill_fragment(F& f, V value) {
  for (auto& e : f.x) e = static_cast<typename F::element_type>(value);
}
inline void wl_together(::warploom::emulator::Site site) { __ballot_sync(0xffffffffu, 1, site); }
template <class F, class T>
void wl_load(F& f, const T* from, unsigned stride, bool rows) {
  for (int i = 0; i < F::num_elements; ++i) {
    int row, column;
    F::wl_place(i, &row, &column);
    f.x[i] = from[rows ? row * stride + column : column * stride + row];
  }
}
template <class Use, int M, int N, int K, class T, class Layout, class E>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const E* from, unsigned stride, WL_SITE) {
  wl_together(site);
  wl_load(f, from, stride, std::is_same<Layout, row_major>::value);
}
template <int M, int N, int K, class T, class E>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const E* from, unsigned stride, layout_t layout, WL_SITE) {
  wl_together(site);
  wl_load(f, from, stride, layout == mem_row_major);
}
template <int M, int N, int K, class T, class E>
void store_matrix_sync(E* to, const fragment<accumulator, M, N, K, T>& f, unsigned stride, layout_t layout, WL_SITE) {
  wl_together(site);
  for (int i = 0; i < 8; ++i) {
    int row, column;
    fragment<accumulator, M, N, K, T>::wl_place(i, &row, &column);
    to[layout == mem_row_major ? row * stride + column : column * stride + row] = f.x[i];
  }
}
inline float __float_to_tf32(float v) {
  return ::warploom::emulator::bits<float>(::warploom::emulator::round_tf32(::warploom::emulator::bits<uint32_t>(v)));
}

template <class T>
uint32_t wl_pair(T low, T high) {
  return low.wl_bits | static_cast<uint32_t>(high.wl_bits) << 16;
}
inline uint32_t wl_one(float v) { return ::warploom::emulator::bits<uint32_t>(v); }
template <class D, class A, class B, class C>
void mma_sync(D& d, const A& a, const B& b, const C& c, WL_SITE) {
  namespace e = ::warploom::emulator;
  for (int side = 0; side < 2; ++side) {
    uint32_t ra[4] = {}, rb[2] = {};
    e::TensorOp op;
    if constexpr (A::wl_k == 16) {
      for (int i = 0; i < 4; ++i) ra[i] = wl_pair(a.x[2 * i], a.x[2 * i + 1]);
      for (int i = 0; i < 2; ++i) rb[i] = wl_pair(b.x[4 * side + 2 * i], b.x[4 * side + 2 * i + 1]);
      op = std::is_same<typename A::element_type, half>::value ? e::TensorOp::mma_m16n8k16_f16 : e::TensorOp::mma_m16n8k16_bf16;
    } else {
      for (int i = 0; i < 4; ++i) ra[i] = wl_one(a.x[i]);
      for (int i = 0; i < 2; ++i) rb[i] = wl_one(b.x[2 * side + i]);
      op = e::TensorOp::mma_m16n8k8_tf32;
    }
    const int at = 4 * side;
    const e::Accumulators4 sum =
        e::warp_multiply(op, ra[0] | static_cast<uint64_t>(ra[1]) << 32, ra[2] | static_cast<uint64_t>(ra[3]) << 32,
                         rb[0] | static_cast<uint64_t>(rb[1]) << 32,
                         {{static_cast<float>(c.x[at]), static_cast<float>(c.x[at + 1]), static_cast<float>(c.x[at + 2]),
                           static_cast<float>(c.x[at + 3])}},
                         site);
    for (int i = 0; i < 4; ++i) d.x[at + i] = static_cast<typename D::element_type>(sum.v[i]);
  }
}

}  // namespace wmma
}  // namespace nvcuda
