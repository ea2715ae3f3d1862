// broken.cu - kernels that break one rule each, at the line marked FAULT. The checked build must stop every one of them there.
#include "selftest.h"

#if defined(WARPLOOM_EMULATOR_CHECKED)
namespace warploom {
namespace selftest {

#define BROKEN(name, grid, block, shared, ...) launch(t.context, #name "_kernel", name##_kernel, grid, block, shared, __VA_ARGS__)

__global__ void missing_barrier_kernel(float* out) {
  WL_SHARED(float, s, [128]);
  s[threadIdx.x] = 1.0f;                    // FAULT: missing_barrier
  out[threadIdx.x] = s[127 - threadIdx.x];  // FAULT: missing_barrier
}
WL_CASE(broken, missing_barrier) { BROKEN(missing_barrier, 1, 128, 0, t.empty<float>(128)); }

__global__ void missing_second_barrier_kernel(float* out) {  // the write of the next round overtakes the reads of this one
  WL_SHARED(float, s, [64]);
  float sum = 0.0f;
  for (int i = 0; i < 3; ++i) {
    s[threadIdx.x] = static_cast<float>(i);  // FAULT: missing_second_barrier
    __syncthreads();
    sum += s[63 - threadIdx.x];  // FAULT: missing_second_barrier
  }
  out[threadIdx.x] = sum;
}
WL_CASE(broken, missing_second_barrier) { BROKEN(missing_second_barrier, 1, 64, 0, t.empty<float>(64)); }

__global__ void global_write_kernel(float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) out[i] = 1.0f;  // FAULT: global_write
}
WL_CASE(broken, global_write) { BROKEN(global_write, 2, 64, 0, t.empty<float>(100), 100); }

__global__ void global_read_kernel(const float* x, float* out) {
  out[threadIdx.x] = x[static_cast<int>(threadIdx.x) - 1];  // FAULT: global_read
}
WL_CASE(broken, global_read) { BROKEN(global_read, 1, 32, 0, t.upload(std::vector<float>(32, 1.0f)), t.empty<float>(32)); }

__global__ void wide_read_kernel(const float4* x, float4* out) {  // the last vector hangs over the end by one float
  out[threadIdx.x] = x[threadIdx.x];                              // FAULT: wide_read
}
WL_CASE(broken, wide_read) {
  BROKEN(wide_read, 1, 8, 0, reinterpret_cast<const float4*>(t.upload(std::vector<float>(31, 1.0f))), t.empty<float4>(8));
}

__global__ void other_buffer_kernel(float* a, long distance) {  // far beyond any red zone, into another allocation
  a[distance] = 1.0f;                                           // FAULT: other_buffer
}
WL_CASE(broken, other_buffer) {
  float* a = t.empty<float>(64);
  float* b = t.empty<float>(64);
  t.device->begin_call("other", {{"a", a, 256, Region::write}});
  BROKEN(other_buffer, 1, 1, 0, a, b - a);
}

__global__ void released_kernel(float* a) {
  a[threadIdx.x] = 1.0f;  // FAULT: released
}
WL_CASE(broken, released) {
  float* a = static_cast<float*>(t.device->allocate(256, "a"));
  t.device->release(a);
  BROKEN(released, 1, 32, 0, a);
}

__global__ void shared_write_kernel(float* out) {
  WL_SHARED(float, s, [64]);
  s[threadIdx.x] = 0.0f;
  __syncthreads();
  float* p = s;
  p[threadIdx.x + 1] = 1.0f;  // FAULT: shared_write
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
WL_CASE(broken, shared_write) { BROKEN(shared_write, 1, 64, 0, t.empty<float>(64)); }

__global__ void dynamic_shared_kernel(float* out) {
  WL_DYNAMIC_SHARED(float, s);
  s[threadIdx.x] = 1.0f;  // FAULT: dynamic_shared
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
WL_CASE(broken, dynamic_shared) { BROKEN(dynamic_shared, 1, 64, 63 * sizeof(float), t.empty<float>(64)); }

__global__ void unwritten_shared_kernel(float* out) {
  WL_SHARED(float, s, [64]);
  if (threadIdx.x < 63) s[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];  // FAULT: unwritten_shared
}
WL_CASE(broken, unwritten_shared) { BROKEN(unwritten_shared, 1, 64, 0, t.empty<float>(64)); }

__global__ void stale_shared_kernel(float* out) {  // the block before left values here
  WL_SHARED(float, s, [64]);
  if (blockIdx.x == 0) s[threadIdx.x] = 1.0f;
  __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x];  // FAULT: stale_shared
}
WL_CASE(broken, stale_shared) { BROKEN(stale_shared, 3, 64, 0, t.empty<float>(192)); }

__global__ void divergent_barrier_kernel(int* out) {
  if (threadIdx.x < 32)
    __syncthreads();  // FAULT: divergent_barrier
  else
    __syncthreads();  // FAULT: divergent_barrier
  out[threadIdx.x] = 1;
}
WL_CASE(broken, divergent_barrier) { BROKEN(divergent_barrier, 1, 64, 0, t.empty<int>(64)); }

__global__ void early_exit_kernel(int* out, int n) {
  WL_SHARED(int, s, [64]);
  if (static_cast<int>(threadIdx.x) >= n) return;
  s[threadIdx.x] = 1;
  __syncthreads();  // FAULT: early_exit
  out[threadIdx.x] = s[n - 1 - threadIdx.x];
}
WL_CASE(broken, early_exit) { BROKEN(early_exit, 1, 64, 0, t.empty<int>(64), 50); }

__global__ void barrier_in_a_branch_kernel(int* out) {
  if (threadIdx.x < 40) {
    out[threadIdx.x] = 1;
    __syncthreads();  // FAULT: barrier_in_a_branch
  }
}
WL_CASE(broken, barrier_in_a_branch) { BROKEN(barrier_in_a_branch, 1, 64, 0, t.empty<int>(64)); }

__global__ void barrier_count_kernel(int* out) {                        // one warp goes round once more than the others
  for (unsigned i = 0; i < 2 + threadIdx.x / 32; ++i) __syncthreads();  // FAULT: barrier_count
  out[threadIdx.x] = 1;
}
WL_CASE(broken, barrier_count) { BROKEN(barrier_count, 1, 64, 0, t.empty<int>(64)); }

__global__ void two_blocks_write_kernel(float* out) {
  out[threadIdx.x + 31 * blockIdx.x] = 1.0f;  // FAULT: two_blocks_write
}
WL_CASE(broken, two_blocks_write) { BROKEN(two_blocks_write, 4, 32, 0, t.empty<float>(128)); }

__global__ void block_reads_other_kernel(float* x) {  // in place with a halo: the neighbour may have written already
  const unsigned i = blockIdx.x * 32 + threadIdx.x;
  const float left = i > 0 ? x[i - 1] : 0.0f;  // FAULT: block_reads_other
  __syncthreads();
  x[i] += left;  // FAULT: block_reads_other
}
WL_CASE(broken, block_reads_other) { BROKEN(block_reads_other, 4, 32, 0, t.upload(std::vector<float>(128, 1.0f))); }

__global__ void without_fence_kernel(float* partial, unsigned* done,
                                     float* out) {  // last block done, but nothing orders its data
  partial[blockIdx.x] = 1.0f;                       // FAULT: without_fence
  if (atomicAdd(done, 1u) == gridDim.x - 1) {
    float sum = 0.0f;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];  // FAULT: without_fence
    out[0] = sum;
  }
}
WL_CASE(broken, without_fence) { BROKEN(without_fence, 8, 1, 0, t.empty<float>(8), t.upload<unsigned>({0}), t.empty<float>(1)); }

__global__ void global_race_kernel(float* x) {  // one block, two warps, no barrier
  x[threadIdx.x] = 1.0f;                        // FAULT: global_race
  x[threadIdx.x + 64] = x[63 - threadIdx.x];    // FAULT: global_race
}
WL_CASE(broken, global_race) { BROKEN(global_race, 1, 64, 0, t.empty<float>(128)); }

__global__ void warp_race_kernel(int* out) {
  WL_SHARED(int, s, [32]);
  s[threadIdx.x] = threadIdx.x;            // FAULT: warp_race
  out[threadIdx.x] = s[31 - threadIdx.x];  // FAULT: warp_race
}
WL_CASE(broken, warp_race) { BROKEN(warp_race, 1, 32, 0, t.empty<int>(32)); }

__global__ void shuffle_is_no_barrier_kernel(int* out) {
  WL_SHARED(int, s, [32]);
  s[threadIdx.x] = threadIdx.x;  // FAULT: shuffle_is_no_barrier
  const int v = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
  out[threadIdx.x] = s[31 - threadIdx.x] + v;  // FAULT: shuffle_is_no_barrier
}
WL_CASE(broken, shuffle_is_no_barrier) { BROKEN(shuffle_is_no_barrier, 1, 32, 0, t.empty<int>(32)); }

__global__ void half_syncwarp_kernel(int* out) {  // the halves do not wait for each other
  WL_SHARED(int, s, [32]);
  s[threadIdx.x] = threadIdx.x;  // FAULT: half_syncwarp
  __syncwarp(threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u);
  out[threadIdx.x] = s[31 - threadIdx.x];  // FAULT: half_syncwarp
}
WL_CASE(broken, half_syncwarp) { BROKEN(half_syncwarp, 1, 32, 0, t.empty<int>(32)); }

__global__ void partial_mask_kernel(int* out) {
  if (threadIdx.x < 20) out[threadIdx.x] = __shfl_sync(0x00ffffffu, 1, 0);  // FAULT: partial_mask
  __syncthreads();
}
WL_CASE(broken, partial_mask) { BROKEN(partial_mask, 1, 32, 0, t.empty<int>(32)); }

__global__ void local_array_kernel(float* out, int n) {
  float a[8];
  for (int i = 0; i < n; ++i) a[i] = static_cast<float>(i);  // FAULT: local_array
  out[threadIdx.x] = a[threadIdx.x % 8];
}
WL_CASE(broken, local_array) { BROKEN(local_array, 1, 32, 0, t.empty<float>(32), 9); }

__global__ void inner_dimension_kernel(float* out, int column) {  // inside the array, but in the next row
  WL_SHARED(float, tile, [8][32]);
  for (int i = threadIdx.x; i < 256; i += 32) tile[i / 32][i % 32] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = tile[1][column];  // FAULT: inner_dimension
}
WL_CASE(broken, inner_dimension) { BROKEN(inner_dimension, 1, 32, 0, t.empty<float>(32), 32); }

__global__ void misaligned_kernel(const float* x, float4* out) {
  out[threadIdx.x] = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x + 1);  // FAULT: misaligned
}
WL_CASE(broken, misaligned) { BROKEN(misaligned, 1, 4, 0, t.upload(std::vector<float>(64, 1.0f)), t.empty<float4>(4)); }

__global__ void misaligned_shared_kernel(float4* out) {
  WL_SHARED(float, s, [8][33]);
  for (int i = threadIdx.x; i < 8 * 33; i += 8) s[i / 33][i % 33] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = *reinterpret_cast<const float4*>(&s[threadIdx.x][0]);  // FAULT: misaligned_shared
}
WL_CASE(broken, misaligned_shared) { BROKEN(misaligned_shared, 1, 8, 0, t.empty<float4>(8)); }

__global__ void write_to_input_kernel(float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = 0.0f;  // FAULT: write_to_input
}
WL_CASE(broken, write_to_input) {
  float* x = t.upload(std::vector<float>(32, 1.0f));
  float* y = t.empty<float>(32);
  t.device->begin_call("copy", {{"x", x, 128, Region::read}, {"y", y, 128, Region::write}});
  BROKEN(write_to_input, 1, 32, 0, x, y);
}

__global__ void accumulate_kernel(float* y) {
  y[threadIdx.x] += 1.0f;  // FAULT: accumulate
}
WL_CASE(broken, accumulate) {  // "=" is the contract, not "+=": what the buffer held before the call does not count
  float* y = t.upload(std::vector<float>(32, 0.0f));
  t.device->begin_call("accumulate", {{"y", y, 128, Region::write}});
  BROKEN(accumulate, 1, 32, 0, y);
}

__global__ void unwritten_input_kernel(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];  // FAULT: unwritten_input
}
WL_CASE(broken, unwritten_input) { BROKEN(unwritten_input, 1, 32, 0, t.empty<float>(32), t.empty<float>(32)); }

__global__ void host_pointer_kernel(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];  // FAULT: host_pointer
}
WL_CASE(broken, host_pointer) {
  static const std::vector<float> host(32, 1.0f);
  BROKEN(host_pointer, 1, 32, 0, host.data(), t.empty<float>(32));
}

__global__ void null_pointer_kernel(const float* bias, float* y) {
  y[threadIdx.x] = bias[threadIdx.x];  // FAULT: null_pointer
}
WL_CASE(broken, null_pointer) { BROKEN(null_pointer, 1, 32, 0, nullptr, t.empty<float>(32)); }

__global__ void others_local_kernel(float** box, float* out) {  // the address of a local variable, given to another thread
  float mine = 1.0f;
  if (threadIdx.x == 0) *box = &mine;
  __syncthreads();
  out[threadIdx.x] = **box;  // FAULT: others_local
  __syncthreads();
  out[threadIdx.x] += mine;
}
WL_CASE(broken, others_local) { BROKEN(others_local, 1, 32, 0, t.empty<float*>(1), t.empty<float>(32)); }

__global__ void atomic_kernel(int* count) {
  atomicAdd(count + blockIdx.x, 1);  // FAULT: atomic
}
WL_CASE(broken, atomic) { BROKEN(atomic, 3, 32, 0, t.upload<int>({0, 0})); }

__global__ void block_copy_kernel(const float* x, float* y) {
  memcpy(y, x, 20 * sizeof(float));  // FAULT: block_copy
}
WL_CASE(broken, block_copy) { BROKEN(block_copy, 1, 1, 0, t.upload(std::vector<float>(20, 1.0f)), t.empty<float>(19)); }

__attribute__((noinline)) float deep(int n, float* out) {  // FAULT: stack_overflow
  float a[256];
  for (int i = 0; i < 256; ++i) a[i] = out[0] + static_cast<float>(n);
  const float below = n > 0 ? deep(n - 1, out) : 0.0f;
  return below + a[n % 256];
}
__global__ void stack_overflow_kernel(float* out) { out[0] = deep(1000, out); }
WL_CASE(broken, stack_overflow) { BROKEN(stack_overflow, 1, 1, 0, t.upload(std::vector<float>(1, 1.0f))); }

__global__ void infinite_loop_kernel(float* x) {
  while (x[threadIdx.x] < 2.0f) x[threadIdx.x] = x[threadIdx.x] * 0.5f;  // FAULT: infinite_loop
}
WL_CASE(endless, infinite_loop) { BROKEN(infinite_loop, 1, 2, 0, t.upload(std::vector<float>(2, 1.0f))); }

__global__ void waits_forever_kernel(int* flag) {
  while (atomicAdd(flag, 0) == 0) {  // FAULT: waits_forever
  }
}
WL_CASE(endless, waits_forever) { BROKEN(waits_forever, 2, 32, 0, t.upload<int>({0})); }

}  // namespace selftest
}  // namespace warploom
#endif
