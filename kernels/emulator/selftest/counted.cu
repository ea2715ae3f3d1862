// counted.cu - kernels whose counts follow from a sheet of paper: tests/emulator/test_counters.py holds the numbers and says where they come
// from. Each runs in every build; the counting one is asked afterwards what it saw.
#include "../../common/async_copy.cuh"
#include "../../common/bulk_copy.cuh"
#include "../../common/warpgroup_mma.cuh"
#include "selftest.h"

namespace warploom {
namespace selftest {

__global__ void strided_copy_kernel(const float* x, float* y, int n, int step, int first) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[first + i * step];
}
void copy_case(Tester& t, const char* name, int n, int step, int first) {
  const float* x = t.upload(std::vector<float>(static_cast<size_t>(first + n * step + 1), 1.0f));
  float* y = t.empty<float>(static_cast<size_t>(n));
  launch(t.context, name, strided_copy_kernel, blocks_for(n, 128), 128, 0, x, y, n, step, first);
  t.equal(y, static_cast<size_t>(n), [](int) { return 1.0f; }, "value");
}
WL_CASE(counted, copy) { copy_case(t, "copy", 1024, 1, 0); }
WL_CASE(counted, copy_with_a_tail) { copy_case(t, "copy_with_a_tail", 1000, 1, 0); }
WL_CASE(counted, copy_misaligned) { copy_case(t, "copy_misaligned", 1024, 1, 1); }
WL_CASE(counted, copy_stride_2) { copy_case(t, "copy_stride_2", 1024, 2, 0); }
WL_CASE(counted, copy_stride_32) { copy_case(t, "copy_stride_32", 1024, 32, 0); }
WL_CASE(counted, copy_broadcast) { copy_case(t, "copy_broadcast", 1024, 0, 5); }

template <class T>
__global__ void vector_copy_kernel(const T* x, T* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i];
}
template <class T>
void vector_case(Tester& t, const char* name) {
  const float* x = t.upload(std::vector<float>(256 * sizeof(T) / 4 + 1, 1.0f));
  float* y = t.empty<float>(256 * sizeof(T) / 4 + 1);
  launch(t.context, name, vector_copy_kernel<T>, 2, 128, 0, reinterpret_cast<const T*>(x), reinterpret_cast<T*>(y));
}
WL_CASE(counted, copy_float4) { vector_case<float4>(t, "copy_float4"); }
WL_CASE(counted, copy_float2) { vector_case<float2>(t, "copy_float2"); }
WL_CASE(counted, copy_half2) { vector_case<ushort2>(t, "copy_half2"); }
WL_CASE(counted, copy_half) { vector_case<unsigned short>(t, "copy_half"); }
WL_CASE(counted, copy_float3) { vector_case<float3>(t, "copy_float3"); }

template <int Width>
__global__ void transpose_counted_kernel(const float* x, float* y) {
  WL_SHARED(float, tile, [32][Width]);
  for (int r = threadIdx.y; r < 32; r += blockDim.y) tile[r][threadIdx.x] = x[r * 32 + threadIdx.x];
  __syncthreads();
  for (int r = threadIdx.y; r < 32; r += blockDim.y) y[r * 32 + threadIdx.x] = tile[threadIdx.x][r];
}
WL_CASE(counted, transpose) {
  const float* x = t.upload(std::vector<float>(1024, 1.0f));
  float* y = t.empty<float>(1024);
  launch(t.context, "transpose_32", transpose_counted_kernel<32>, 1, dim3(32, 8), 0, x, y);
  launch(t.context, "transpose_33", transpose_counted_kernel<33>, 1, dim3(32, 8), 0, x, y);
}

// Lane l reads vector l * step of shared memory.
template <class T>
__global__ void shared_vectors_kernel(T* out, int step) {
  WL_SHARED(T, s, [256]);
  for (int i = threadIdx.x; i < 256; i += 32) s[i] = T(1.0f, 2.0f);
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x * step];
}
WL_CASE(counted, shared_vectors) {
  launch(t.context, "shared_float4", shared_vectors_kernel<float4>, 1, 32, 0, t.empty<float4>(32), 1);
  launch(t.context, "shared_float4_stride_2", shared_vectors_kernel<float4>, 1, 32, 0, t.empty<float4>(32), 2);
  launch(t.context, "shared_float2", shared_vectors_kernel<float2>, 1, 32, 0, t.empty<float2>(32), 1);
  launch(t.context, "shared_float2_stride_4", shared_vectors_kernel<float2>, 1, 32, 0, t.empty<float2>(32), 4);
  launch(t.context, "shared_float2_broadcast", shared_vectors_kernel<float2>, 1, 32, 0, t.empty<float2>(32), 0);
}

__global__ void two_ways_kernel(const float* x, float* y, int border) {
  const int i = threadIdx.x;
  float v = 0.0f;
  if (i < border)
    v = x[i];
  else
    v = 2.0f * x[i + 64];
  y[i] = v;  // all lanes again
}
WL_CASE(counted, two_ways) {
  const float* x = t.upload(std::vector<float>(128, 1.0f));
  launch(t.context, "two_ways_divergent", two_ways_kernel, 1, 64, 0, x, t.empty<float>(64), 40);
  launch(t.context, "two_ways_uniform", two_ways_kernel, 1, 64, 0, x, t.empty<float>(64), 32);
}

// Every lane leaves out another tap of nine; what plain counting of occurrences would mix up.
__global__ void continue_kernel(const float* x, float* y) {
  const int i = threadIdx.x;
  float sum = 0.0f;
  for (int tap = 0; tap < 9; ++tap) {
    if (tap == i % 9) continue;
    sum += x[tap * 32 + i];
  }
  y[i] = sum;
}
WL_CASE(counted, loop_with_continue) {
  const float* x = t.upload(std::vector<float>(9 * 32, 1.0f));
  launch(t.context, "loop_with_continue", continue_kernel, 1, 32, 0, x, t.empty<float>(32));
}

// Lane i runs i % 4 + 1 rounds, and twice: all meet again behind each loop.
__global__ void trips_kernel(const float* x, float* y) {
  const int i = threadIdx.x;
  float sum = 0.0f;
  for (int again = 0; again < 2; ++again) {
    for (int k = 0; k <= i % 4; ++k) sum += x[k * 32 + i];
    sum += x[128 + 32 * again + i];
  }
  y[i] = sum;
}
WL_CASE(counted, loop_with_different_trips) {
  const float* x = t.upload(std::vector<float>(6 * 32, 1.0f));
  launch(t.context, "loop_with_different_trips", trips_kernel, 1, 32, 0, x, t.empty<float>(32));
}

// A way that only some take, entered and left inside an outer loop, with a function that is not inlined in each.
__attribute__((noipa)) float called(const float* x, int i) { return x[i] + x[i + 32]; }
__global__ void calls_kernel(const float* x, float* y) {
  const int i = threadIdx.x;
  float sum = 0.0f;
  for (int k = 0; k < 4; ++k) {
    if (i % 4 == k) sum += called(x, i);
    sum += called(x + 64, i);
    sum += called(x + 128, i);
  }
  y[i] = sum;
}
WL_CASE(counted, calls) {
  const float* x = t.upload(std::vector<float>(192, 1.0f));
  launch(t.context, "calls", calls_kernel, 1, 32, 0, x, t.empty<float>(32));
}

__global__ void early_return_kernel(const float* x, float* y, int n) {  // a loop with barriers, warps that have less to do
  WL_SHARED(float, s, [64]);
  const int i = threadIdx.x;
  float sum = 0.0f;
  for (int k = 0; k < 3; ++k) {
    s[i] = x[k * 64 + i];
    __syncthreads();
    if (i < n) sum += s[63 - i];
    __syncthreads();
  }
  if (i >= n) return;
  y[i] = sum;
}
WL_CASE(counted, barriers_in_a_loop) {
  const float* x = t.upload(std::vector<float>(192, 1.0f));
  launch(t.context, "barriers_in_a_loop", early_return_kernel, 1, 64, 0, x, t.empty<float>(64), 40);
}

__global__ void reduce_counted_kernel(const float* x, float* out) {
  float sum = x[blockIdx.x * 32 + threadIdx.x];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
WL_CASE(counted, shuffles) {
  const float* x = t.upload(std::vector<float>(128, 1.0f));
  launch(t.context, "shuffles", reduce_counted_kernel, 4, 32, 0, x, t.empty<float>(4));
}

__global__ void histogram_kernel(const int* x, int* bins) {
  WL_SHARED(int, local, [32]);
  local[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&local[x[threadIdx.x]], 1);
  __syncthreads();
  atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
}
WL_CASE(counted, atomics) {
  std::vector<int> x(32);
  for (size_t i = 0; i < 32; ++i) x[i] = static_cast<int>(i / 4);  // eight bins, four lanes each
  launch(t.context, "atomics", histogram_kernel, 1, 32, 0, t.upload(x), t.upload(std::vector<int>(32, 0)));
}

// Rows of 64 bytes (four vectors of 16): lane l copies vector l % 4 of row l / 4. Of the last rows nothing is read.
template <bool kSwizzled>
__global__ void async_copy_kernel(const float* x, float* y, int rows) {
  WL_SHARED(float4, s, [2][8][4]);
  const int row = threadIdx.x / 4, vector = threadIdx.x % 4;
  const int at = kSwizzled ? vector ^ (row / 2) : vector;
  for (int stage = 0; stage < 2; ++stage) {
    copy_async<16>(&s[stage][row][at], x + (stage * 8 + row) * 16 + vector * 4, row < rows);
    commit_copies();
  }
  wait_copies<0>();
  __syncthreads();
  // ldmatrix: lane l names the row l % 8 of matrix l / 8, which is the vector l / 8 of that row.
  const int r = threadIdx.x % 8, v = threadIdx.x / 8;
  uint32_t m[4];
  load_matrices<4, false>(m, &s[1][r][kSwizzled ? v ^ (r / 2) : v]);
  y[threadIdx.x] = __uint_as_float(m[0]) + __uint_as_float(m[3]);
}
WL_CASE(counted, async_copies_and_ldmatrix) {
  const float* x = t.upload(std::vector<float>(256, 1.0f));
  launch(t.context, "async_plain", async_copy_kernel<false>, 1, 32, 0, x, t.empty<float>(32), 8);
  launch(t.context, "async_swizzled", async_copy_kernel<true>, 1, 32, 0, x, t.empty<float>(32), 8);
  launch(t.context, "async_half", async_copy_kernel<true>, 1, 32, 0, x, t.empty<float>(32), 4);
}

__global__ void multiply_kernel(float* y) {
  WL_SHARED(float4, s, [16]);
  if (threadIdx.x < 16) s[threadIdx.x] = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
  __syncthreads();
  uint32_t b[2];
  load_matrices<2, true>(b, &s[threadIdx.x % 16]);
  const uint32_t a[4] = {b[0], b[1], b[0], b[1]};
  float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int k = 0; k < 3; ++k) mma<Bf16>(c, a, b);
  y[threadIdx.x] = c[0];
}
WL_CASE(counted, matrix_multiplications) {
  launch(t.context, "matrix_multiplications", multiply_kernel, 1, 64, 0, t.empty<float>(64));
}

__global__ void bulk_counted_kernel(const float* x, const WL_GRID_CONSTANT TensorMap map, float* y) {
  WL_DYNAMIC_SHARED(unsigned char, tile);  // [64][128], of which the copies fill 2560 bytes
  WL_SHARED(AsyncBarrier, full, [1]);
  for (int i = threadIdx.x; i < 2048; i += 128) reinterpret_cast<float*>(tile)[i] = 0.0f;
  if (threadIdx.x == 0) init(&full[0], 1), fence_async_proxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive_expecting(&full[0], 2048 + 512);
    bulk_copy(tile, x, 2048, &full[0]);
    bulk_copy_tensor(tile + 2048, map, 0, 1, 0, 0, &full[0]);
  }
  wait(&full[0], 0);
  const uint32_t a[4] = {};
  float sum[8][4] = {};
  warpgroup_fence();
  for (int k = 0; k < 3; ++k) multiply_warpgroup<Bf16, 64>(sum, a, matrix_descriptor(tile));
  warpgroup_commit();
  warpgroup_wait<0>();
  y[threadIdx.x] = sum[0][0];
}
WL_CASE(counted, bulk_copies_and_wgmma) {
  const float* x = t.upload(std::vector<float>(512, 1.0f));
  const TensorMap map = tensor_map(x, {32, 4, 1, 1}, {32, 4, 1, 1});
  launch(t.context, "bulk_copies_and_wgmma", bulk_counted_kernel, 1, 128, 8192, x, map, t.empty<float>(128));
}

__global__ void tables_counted_kernel(const float* x, float* y) {  // registers, tables and parameters are no memory traffic
  constexpr float kTable[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  float local[64];
  const float v = x[threadIdx.x];
  for (int k = 0; k < 64; ++k) local[k] = kTable[k % 4] * v;
  y[threadIdx.x] = local[threadIdx.x] + local[63 - threadIdx.x];
}
WL_CASE(counted, local_arrays) {
  const float* x = t.upload(std::vector<float>(32, 1.0f));
  launch(t.context, "local_arrays", tables_counted_kernel, 1, 32, 0, x, t.empty<float>(32));
}

}  // namespace selftest
}  // namespace warploom
