// tensor_core.cuh - the tensor core instructions: rounding to their operand types, ldmatrix, mma.sync; PTX on the GPU, and beside
// each the emulated device's model of it (emulator/tensor_cores.cpp holds the lane-to-element layouts and cites their sections).
//
// A fragment is what the 32 lanes of a warp hold of a matrix together. All operand types share one shape in bytes: A is 16 rows x
// 32 bytes of k in 4 registers a lane, B 8 columns x 32 bytes of k in 2, C 16 x 8 floats in 4. So 32 bytes of k are 16 elements of
// bf16 or f16, and 8 of tf32.
// Preconditions: f16 needs sm_75, bf16 and tf32 sm_80; all 32 lanes of the warp take part.
#pragma once

#include "architecture.cuh"
#include "portable.cuh"
#if !defined(__CUDACC__)
#include "../emulator/tensor_cores.h"
#endif

namespace warploom {

struct Bf16 {
  static constexpr int kBytes = 2, kSince = 80;
};
struct F16 {
  static constexpr int kBytes = 2, kSince = 75;
};
struct Tf32 {
  static constexpr int kBytes = 4, kSince = 80;
};

// ---- Rounding: to nearest, ties to even for bf16 and f16 (cvt.rn), ties away from zero for tf32 (cvt.rna) ----

// Two elements in one register, `low` in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack2<Bf16>(float low, float high) {
#if !defined(__CUDACC__)
  return emulator::round_bf16(low) | emulator::round_bf16(high) << 16;
#elif __CUDA_ARCH__ >= 800
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#else
  (void)low, (void)high;
  __trap();
  return 0;
#endif
}
template <>
__device__ __forceinline__ uint32_t pack2<F16>(float low, float high) {
#if !defined(__CUDACC__)
  return emulator::round_f16(low) | emulator::round_f16(high) << 16;
#elif __CUDA_ARCH__ >= 800
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#else
  uint32_t r;
  asm("{.reg .f16 l, h;\n cvt.rn.f16.f32 l, %1;\n cvt.rn.f16.f32 h, %2;\n mov.b32 %0, {l, h};}" : "=r"(r) : "f"(low), "f"(high));
  return r;
#endif
}

// The two elements of a register, exactly.
template <class T>
__device__ __forceinline__ float2 widen2(uint32_t pair);
template <>
__device__ __forceinline__ float2 widen2<Bf16>(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}
template <>
__device__ __forceinline__ float2 widen2<F16>(uint32_t pair) {
#if !defined(__CUDACC__)
  return make_float2(emulator::from_f16(pair & 0xffffu), emulator::from_f16(pair >> 16));
#else
  float2 r;
  asm("{.reg .f16 l, h;\n mov.b32 {l, h}, %2;\n cvt.f32.f16 %0, l;\n cvt.f32.f16 %1, h;}" : "=f"(r.x), "=f"(r.y) : "r"(pair));
  return r;
#endif
}

__device__ __forceinline__ uint32_t round_tf32(uint32_t bits_of_float) {
#if !defined(__CUDACC__)
  return emulator::round_tf32(bits_of_float);
#elif __CUDA_ARCH__ >= 800
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits_of_float)));
  return r;
#else
  __trap();
  return bits_of_float;
#endif
}

// ---- ldmatrix: kCount matrices of 8 rows x 16 bytes; lane 8i + j gives the 16-byte-aligned shared address of row j of matrix i.
// ---- Register i of lane 4g + t gets the 4 bytes t of row g; kTransposed: the 16-bit elements (2t, g) and (2t + 1, g).

template <int kCount, bool kTransposed>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4, "ldmatrix takes x1, x2, x4");
#if !defined(__CUDACC__)
  typedef uint64_t Row __attribute__((vector_size(16), may_alias));
  const Row mine = *static_cast<const Row*>(emulator::matrix_row(row, 8 * kCount));
  constexpr auto op = kTransposed ? emulator::TensorOp::load_matrices_transposed : emulator::TensorOp::load_matrices;
  const emulator::Registers4 got = emulator::warp_load_matrices(op, kCount, mine[0], mine[1]);
  for (int i = 0; i < kCount; ++i) r[i] = got.r[i];
#else
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kCount == 4 && kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  else if constexpr (kCount == 4)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  else if constexpr (kCount == 2 && kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(at) : "memory");
  else if constexpr (kCount == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(at) : "memory");
  else if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(at) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(at) : "memory");
#endif
}

// ---- mma.sync: c += a * b, products exact, sums in float32 ----

#if !defined(__CUDACC__)
namespace emulator {
__device__ __forceinline__ void multiply(TensorOp op, float (&c)[4], uint64_t a01, uint64_t a23, uint64_t b01) {
  const Accumulators4 sum = warp_multiply(op, a01, a23, b01, {{c[0], c[1], c[2], c[3]}});
  for (int i = 0; i < 4; ++i) c[i] = sum.v[i];
}
inline uint64_t both(uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; }
}  // namespace emulator
#endif

// f16 on sm_75: half of the k of the others.
__device__ __forceinline__ void mma_m16n8k8_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
#if !defined(__CUDACC__)
  emulator::multiply(emulator::TensorOp::mma_m16n8k8_f16, c, emulator::both(a0, a1), 0, b0);
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(b0));
#endif
}

// 16 x 8 x (32 bytes of k).
template <class T>
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

#if !defined(__CUDACC__)
#define WL_MMA(T, name, shape_and_types)                                                     \
  template <>                                                                                \
  inline void mma<T>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {        \
    using namespace emulator;                                                                \
    multiply(TensorOp::mma_##name, c, both(a[0], a[1]), both(a[2], a[3]), both(b[0], b[1])); \
  }
#else
#define WL_MMA(T, name, shape_and_types)                                                                  \
  template <>                                                                                             \
  __device__ __forceinline__ void mma<T>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    WL_MMA_BODY(shape_and_types)                                                                          \
  }
#if __CUDA_ARCH__ >= 800
#define WL_MMA_BODY(shape_and_types)                                                                                  \
  asm volatile("mma.sync.aligned." shape_and_types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#define WL_MMA_BODY(shape_and_types) (void)c, (void)a, (void)b, __trap();  // the launcher refuses this GPU
#endif
#endif
WL_MMA(Bf16, m16n8k16_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
WL_MMA(Tf32, m16n8k8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#if defined(__CUDACC__) && __CUDA_ARCH__ < 800
template <>
__device__ __forceinline__ void mma<F16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_m16n8k8_f16(c, a[0], a[1], b[0]);
  mma_m16n8k8_f16(c, a[2], a[3], b[1]);
}
#else
WL_MMA(F16, m16n8k16_f16, "m16n8k16.row.col.f32.f16.f16.f32")
#endif
#undef WL_MMA
#undef WL_MMA_BODY

}  // namespace warploom
