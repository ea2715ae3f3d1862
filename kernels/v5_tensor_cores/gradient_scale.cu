// gradient_scale.cu (v5): the power of two that brings a gradient into the range of fp16: its largest magnitude to 2^14 ... 2^15
// Layout: dy [count], any order; scale one float.
// One block reduces a run of dy to its largest magnitude; a last block takes the maximum of the runs and makes the scale.
// Why: the gradient of a mean over a batch is about 1e-6, fp16 ends at 6e-8. Other engines multiply the loss by a constant and skip
//   steps that overflow; a scale per tensor, undone in the sums' epilogue, is exact and never overflows. Expected bottleneck:
//   memory.
// Preconditions: workspace of kScaleBytes. A gradient of zeros, infinities or NaN is left as it is.
#include "../common/vector.cuh"
#include "gradient_scale.cuh"

namespace warploom::v5 {

// Magnitudes compare like the bits of their floats; a NaN is the largest of all.
template <int kThreads>
__device__ __forceinline__ uint32_t block_maximum(uint32_t value) {
  WL_SHARED(uint32_t, largest, [32]);
  const int t = static_cast<int>(threadIdx.x);
  WL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) value = max(value, __shfl_xor_sync(0xffffffffu, value, distance));
  if (t % 32 == 0) largest[t / 32] = value;
  __syncthreads();
  value = t < kThreads / 32 ? largest[t] : 0;
  if (t < 32) {
    WL_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) value = max(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}

constexpr int kThreads = 256;

__global__ __launch_bounds__(kThreads) void largest_magnitude_kernel(int64_t count, bool vector,
                                                                     const float* __restrict__ dy,      // [count]
                                                                     uint32_t* __restrict__ largest) {  // [gridDim.x]
  uint32_t mine = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads,
                first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  auto take = [&](float v) { mine = max(mine, __float_as_uint(v) & 0x7fffffffu); };
  if (vector) {
    for (int64_t i = first; i < count / 4; i += step) {
      const float4 v = load4(dy + 4 * i);
      take(v.x), take(v.y), take(v.z), take(v.w);
    }
  } else {
    for (int64_t i = first; i < count; i += step) take(dy[i]);
  }
  mine = block_maximum<kThreads>(mine);
  if (threadIdx.x == 0) largest[blockIdx.x] = mine;
}

__global__ __launch_bounds__(kScaleRuns) void gradient_scale_kernel(int runs, const uint32_t* __restrict__ largest,  // [runs]
                                                                    float* __restrict__ scale) {                     // [1]
  const int t = static_cast<int>(threadIdx.x);
  const uint32_t bits = block_maximum<kScaleRuns>(t < runs ? largest[t] : 0);
  if (t != 0) return;
  const int exponent = static_cast<int>(bits >> 23) - 127;  // -127: zero or less than the smallest normal number
  const bool plain = bits == 0 || bits >= 0x7f800000u;
  *scale = plain ? 1.0f : __uint_as_float(static_cast<uint32_t>(min(max(14 - exponent, -126), 126) + 127) << 23);
}

void find_gradient_scale(const Context& context, const float* dy, int64_t count, float* workspace) {
  const bool vector = count % 4 == 0 && reinterpret_cast<uintptr_t>(dy) % 16 == 0;
  const int64_t items = vector ? count / 4 : count, blocks = (items + 4 * kThreads - 1) / (4 * kThreads);
  const int runs = static_cast<int>(blocks < 1 ? 1 : blocks < kScaleRuns ? blocks : kScaleRuns);
  uint32_t* largest = reinterpret_cast<uint32_t*>(workspace + 64);
  launch(context, "v5::largest_magnitude_kernel", largest_magnitude_kernel, dim3(static_cast<unsigned>(runs)), dim3(kThreads), 0,
         count, vector, dy, largest);
  launch(context, "v5::gradient_scale_kernel", gradient_scale_kernel, dim3(1), dim3(kScaleRuns), 0, runs, largest, workspace);
}

}  // namespace warploom::v5
