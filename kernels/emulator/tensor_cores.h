// tensor_cores.h - what common/tensor_core.cuh and common/async_copy.cuh call on the emulated device. Not part of cuda.h: CUDA has
// no words for these, only PTX.
#pragma once

#include "cuda.h"

namespace warploom {
namespace emulator {

// Operations of a whole warp like those of WarpOp, whose numbers they continue.
enum class TensorOp : int {
  mma_m16n8k16_bf16 = 64,
  mma_m16n8k16_f16,
  mma_m16n8k8_f16,
  mma_m16n8k8_tf32,
  load_matrices,
  load_matrices_transposed,
  warpgroup_wait  // async_proxy.h
};
struct Registers4 {
  uint32_t r[4];
};
struct Accumulators4 {
  float v[4];
};
// Each lane brings its registers and gets its own results (tensor_cores.cpp).
Accumulators4 warp_multiply(TensorOp op, uint64_t a01, uint64_t a23, uint64_t b01, Accumulators4 c, WL_SITE);
Registers4 warp_load_matrices(TensorOp op, int count, uint64_t row_low, uint64_t row_high, WL_SITE);
void require_shared(const void* address, const char* what);  // fails where it is not shared memory
// What this lane of an ldmatrix reads: `row`, or a row of zeros where only the first `lanes` lanes name one. Without a branch in the
// kernel, which the counting build would take for the kernel's own.
const void* matrix_row(const void* row, int lanes);

// cp.async (async_copies.cpp): what was copied lands in shared memory when the thread waits for it, not before.
void async_copy(void* shared, const void* global, int bytes, int source_bytes);
void async_commit();
void async_wait(int groups_left);

inline uint32_t round_bf16(float v) {
  const uint32_t b = bits<uint32_t>(v);
  if ((b & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
}
inline uint32_t round_f16(float v) {
  const uint32_t b = bits<uint32_t>(v), sign = b >> 16 & 0x8000u, size = b & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7fffu;
  if (size >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above round to infinity
  if (size < 0x38800000u) return sign | (bits<uint32_t>(bits<float>(size) + 0.5f) - 0x3f000000u);  // 0.5's ulp is f16's smallest
  return sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
}
inline float from_bf16(uint32_t h) { return bits<float>(h << 16); }
inline float from_f16(uint32_t h) {
  uint32_t v = (h & 0x7fffu) << 13;
  float f = bits<float>(v) * 0x1p112f;                     // moves the exponent's bias and makes subnormal numbers normal
  if (v >= 0x0f800000u) f = bits<float>(v | 0x7f800000u);  // infinity and NaN
  return bits<float>(bits<uint32_t>(f) | ((h & 0x8000u) << 16));
}
inline uint32_t round_tf32(uint32_t b) { return (b & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : (b + 0x1000u) & 0xffffe000u; }

}  // namespace emulator
}  // namespace warploom
