// blocks.cu - indices, barriers, shared memory, launch limits, errors, atomics, vector types, functions.
#include <cmath>
#include <limits>

#include "selftest.h"

namespace warploom {
namespace selftest {

__global__ void index_kernel(int* out) {
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * static_cast<int>(blockDim.x * blockDim.y * blockDim.z) + thread] += 1 + thread + 100 * block + 0 * warpSize;
}
WL_CASE(primitive, indices_in_three_dimensions) {
  int* out = t.upload(std::vector<int>(2 * 3 * 4 * 30, 0));
  launch(t.context, "index_kernel", index_kernel, dim3(2, 3, 4), dim3(5, 3, 2), 0, out);
  t.equal(out, 24 * 30, [](int i) { return 1 + i % 30 + 100 * (i / 30); }, "index");
}

__global__ void vote_barrier_kernel(int* out) {
  const int i = threadIdx.x;
  const int count = __syncthreads_count(i % 3 == 0);
  const int all = __syncthreads_and(i < 100) * 10 + __syncthreads_and(i < 99);
  const int any = __syncthreads_or(i == 50) * 10 + __syncthreads_or(i == 100);
  out[i] = count * 10000 + all * 100 + any;
}
WL_CASE(primitive, barrier_votes) {
  int* out = t.empty<int>(100);
  launch(t.context, "vote_barrier_kernel", vote_barrier_kernel, 1, 100, 0, out);
  t.equal(out, 100, [](int) { return 34 * 10000 + 10 * 100 + 10; }, "votes");
}

__global__ void __launch_bounds__(128, 2) shared_kernel(float* out, int n) {
  WL_SHARED(float, a, [4][33]);
  WL_SHARED(int, total, );
  WL_DYNAMIC_SHARED(float, b);
  const int i = threadIdx.x;
  static_assert(sizeof(a) == 4 * 33 * 4, "WL_SHARED declares a real array");
  if (i == 0) total = 0;
  a[i / 32][i % 32] = static_cast<float>(i);
  b[i] = static_cast<float>(2 * i);
  __syncthreads();
  atomicAdd(&total, 1);
  __syncthreads();
  out[blockIdx.x * 128 + i] = a[3 - i / 32][31 - i % 32] + b[127 - i] + static_cast<float>(total * n);
}
WL_CASE(primitive, static_and_dynamic_shared) {
  float* out = t.empty<float>(5 * 128);
  launch(t.context, "shared_kernel", shared_kernel, 5, 128, 128 * sizeof(float), out, 1000);
  t.equal(out, 5 * 128, [](int i) { return 3.0f * static_cast<float>(127 - i % 128) + 128000.0f; }, "value");
}

__global__ void large_shared_kernel(float* out, int n) {
  WL_DYNAMIC_SHARED(float, b);
  for (int i = threadIdx.x; i < n; i += blockDim.x) b[i] = static_cast<float>(i);
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = b[n - 1] + b[0];
}
WL_CASE(primitive, dynamic_shared_up_to_227_KiB) {
  float* out = t.empty<float>(2);
  const int n = 227 * 1024 / 4;
  launch(t.context, "large_shared_kernel", large_shared_kernel, 2, 256, n * sizeof(float), out, n);
  t.equal(out, 2, [&](int) { return static_cast<float>(n - 1); }, "value");
  t.must_throw("limit", [&] { launch(t.context, "large_shared_kernel", large_shared_kernel, 1, 32, n * 4 + 16, out, n); });
  t.must_throw("launched with 0 bytes", [&] { launch(t.context, "large_shared_kernel", large_shared_kernel, 1, 32, 0, out, n); });
}

__global__ void too_much_shared_kernel(float* out) {
  WL_SHARED(float, a, [12 * 1024]);
  WL_SHARED(float, b, [4]);
  a[threadIdx.x] = 1.0f;
  b[threadIdx.x % 4] = 1.0f;
  out[0] = a[0] + b[0];
}
__global__ void nothing_kernel() {}
WL_CASE(primitive, launch_limits) {
  float* out = t.empty<float>(1);
  t.must_throw("the limit is 49152", [&] { launch(t.context, "too_much_shared_kernel", too_much_shared_kernel, 1, 1, 0, out); });
  t.must_throw("block size is 1025", [&] { launch(t.context, "nothing_kernel", nothing_kernel, 1, 1025, 0); });
  t.must_throw("block.z is 65", [&] { launch(t.context, "nothing_kernel", nothing_kernel, 1, dim3(1, 1, 65), 0); });
  t.must_throw("grid.y is 65536", [&] { launch(t.context, "nothing_kernel", nothing_kernel, dim3(1, 65536), 1, 0); });
  t.must_throw("grid.z is 65536", [&] { launch(t.context, "nothing_kernel", nothing_kernel, dim3(1, 1, 65536), 1, 0); });
  launch(t.context, "nothing_kernel", nothing_kernel, dim3(0, 5), 32, 0);
  launch(t.context, "nothing_kernel", nothing_kernel, dim3(3, 65535), 1, 0);
  launch(t.context, "nothing_kernel", nothing_kernel, 2, 1024, 0);
}

__global__ void many_barriers_kernel(int* out, int rounds) {
  WL_SHARED(int, ring, [96]);
  ring[threadIdx.x] = threadIdx.x;
  for (int i = 0; i < rounds; ++i) {
    __syncthreads();
    const int v = ring[(threadIdx.x + 1) % 96];
    __syncthreads();
    ring[threadIdx.x] = v;
  }
  out[threadIdx.x] = ring[threadIdx.x];
}
WL_CASE(primitive, thousands_of_barriers) {  // more than the checks' epochs hold
  int* out = t.empty<int>(96);
  launch(t.context, "many_barriers_kernel", many_barriers_kernel, 1, 96, 0, out, 8400);
  t.equal(out, 96, [](int i) { return (i + 8400) % 96; }, "value");
}

__global__ void exit_kernel(int* out, int n) {  // leaving early is fine where no barrier follows
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  out[i] = i;
}
WL_CASE(primitive, early_exit) {
  int* out = t.empty<int>(1000);
  launch(t.context, "exit_kernel", exit_kernel, blocks_for(1000, 256), 256, 0, out, 1000);
  t.equal(out, 1000, [](int i) { return i; }, "value");
}

__global__ void throwing_kernel(int* out) {
  WL_SHARED(int, a, [64]);
  a[threadIdx.x] = 1;
  __syncthreads();
  if (blockIdx.x == 3 && threadIdx.x == 40) throw std::out_of_range("thrown by a kernel");
  __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = 1;
}
WL_CASE(primitive, exceptions) {
  int* out = t.empty<int>(5 * 64);
  for (int i = 0; i < 3; ++i)
    t.must_throw("thrown by a kernel", [&] { launch(t.context, "throwing_kernel", throwing_kernel, 5, 64, 0, out); });
  launch(t.context, "throwing_kernel", throwing_kernel, 1, 64, 0, out);  // and the device goes on
  t.equal(out, 64, [](int) { return 1; }, "value");
}

__global__ void atomics_kernel(int* i, unsigned* u, unsigned long long* l, float* f, double* d) {
  const int thread = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&i[0], 2);
  atomicSub(&i[1], 1);
  atomicMax(&i[2], thread - 300);
  atomicMin(&i[3], 5 - thread);
  atomicAdd(&u[0], 1u);
  atomicMax(&u[1], static_cast<unsigned>(thread));
  atomicMin(&u[2], static_cast<unsigned>(thread + 7));
  atomicOr(&u[3], 1u << (thread % 32));
  atomicAnd(&u[4], ~(1u << (thread % 16)));
  atomicXor(&u[5], static_cast<unsigned>(thread));
  atomicInc(&u[6], 9u);
  atomicDec(&u[7], 9u);
  atomicAdd(&l[0], 1ull << 33);
  atomicMax(&l[1], static_cast<unsigned long long>(thread) << 40);
  atomicAdd(&f[0], 0.5f);
  atomicAdd(&d[0], 0.25);
  if (atomicCAS(&u[8], 0u, 77u) == 0u) atomicAdd(&u[9], 1u);  // one thread wins
  if (atomicExch(&i[4], 1) == 0) atomicAdd(&u[10], 1u);
  float old = f[1], seen;
  do {  // the usual loop of an operation that has no atomic of its own
    seen = old;
    old = __int_as_float(
        atomicCAS(reinterpret_cast<int*>(&f[1]), __float_as_int(seen), __float_as_int(fmaxf(seen, static_cast<float>(thread)))));
  } while (__float_as_int(old) != __float_as_int(seen));
}
WL_CASE(primitive, atomics) {
  int* i = t.upload<int>({0, 0, -1000, 1000, 0});
  unsigned* u = t.upload<unsigned>({0, 0, 1000, 0, 0xffffffffu, 0, 0, 0, 0, 0, 0});
  auto* l = t.upload<unsigned long long>({0, 0});
  float* f = t.upload<float>({0, 0});
  double* d = t.upload<double>({0});
  launch(t.context, "atomics_kernel", atomics_kernel, 4, 100, 0, i, u, l, f, d);
  const std::vector<int> ei = {800, -400, 99, -394, 1};
  std::vector<unsigned> eu = {400, 399, 7, 0xffffffffu, 0xffff0000u, 0, 0, 0, 77, 1, 1};
  for (unsigned k = 0; k < 400; ++k) eu[5] ^= k;
  unsigned down = 0;
  for (int k = 0; k < 400; ++k) down = down == 0 || down > 9 ? 9 : down - 1;
  eu[6] = 400 % 10;
  eu[7] = down;
  t.equal(i, 5, [&](int k) { return ei[static_cast<size_t>(k)]; }, "int");
  t.equal(u, 11, [&](int k) { return eu[static_cast<size_t>(k)]; }, "unsigned");
  t.equal(l, 2, [&](int k) { return k == 0 ? 400ull << 33 : 399ull << 40; }, "unsigned long long");
  t.equal(f, 2, [&](int k) { return k == 0 ? 200.0f : 399.0f; }, "float");
  t.equal(d, 1, [&](int) { return 100.0; }, "double");
}

__global__ void vector_kernel(const float4* in, float4* out, int4* integers, uchar4* bytes, double2* doubles, float2* pairs) {
  const int i = threadIdx.x;
  float4 v = in[i];
  const float4 w = v;
  v.x = w.w, v.w += 1.0f;
  out[i] = v;
  integers[i] = make_int4(i, 2 * i, 3 * i, -i);
  bytes[i] = make_uchar4(static_cast<unsigned char>(i), 1, 2, 255);
  doubles[i] = make_double2(i, 0.5);
  float2 p = make_float2(v.x, v.y);
  p.y = 7.0f;
  pairs[i] = p;
}
WL_CASE(primitive, vector_types) {
  static_assert(sizeof(float4) == 16 && alignof(float4) == 16 && sizeof(float2) == 8 && alignof(float2) == 8, "CUDA's");
  static_assert(sizeof(float3) == 12 && alignof(float3) == 4 && sizeof(uchar4) == 4 && alignof(uchar4) == 4, "CUDA's");
  static_assert(sizeof(double2) == 16 && alignof(double2) == 16 && sizeof(int2) == 8 && sizeof(uint4) == 16, "CUDA's");
  std::vector<float4> in;
  for (int i = 0; i < 8; ++i) in.push_back(make_float4(static_cast<float>(i), 10.0f, 20.0f, 30.0f));
  float4* out = t.empty<float4>(8);
  int4* integers = t.empty<int4>(8);
  uchar4* bytes = t.empty<uchar4>(8);
  double2* doubles = t.empty<double2>(8);
  float2* pairs = t.empty<float2>(8);
  launch(t.context, "vector_kernel", vector_kernel, 1, 8, 0, t.upload(in), out, integers, bytes, doubles, pairs);
  t.equal(
      reinterpret_cast<float*>(out), 32,
      [](int i) { return i % 4 == 0   ? 30.0f
                         : i % 4 == 1 ? 10.0f
                         : i % 4 == 2 ? 20.0f
                                      : 31.0f; }, "float4");
  t.equal(reinterpret_cast<int*>(integers), 32, [](int i) { return i % 4 == 3 ? -(i / 4) : i / 4 * (i % 4 + 1); }, "int4");
  t.equal(
      reinterpret_cast<unsigned char*>(bytes), 32, [](int i) { return i % 4 == 0   ? i / 4
                                                                      : i % 4 == 3 ? 255
                                                                                   : i % 4; }, "uchar4");
  t.equal(reinterpret_cast<double*>(doubles), 16, [](int i) { return i % 2 ? 0.5 : i / 2; }, "double2");
  t.equal(reinterpret_cast<float*>(pairs), 16, [](int i) { return i % 2 ? 7.0f : 30.0f; }, "float2");
}

__global__ void functions_kernel(float* f, int* i, float nan) {
  f[0] = fmaxf(nan, 2.0f), f[1] = fmaxf(2.0f, nan), f[2] = fminf(nan, -1.0f), f[3] = fminf(-1.0f, nan);
  f[4] = fmaxf(1.0f, 2.0f), f[5] = fminf(1.0f, 2.0f), f[6] = __fmaf_rn(2.0f, 3.0f, 4.0f), f[7] = rsqrtf(4.0f);
  f[8] = __fdividef(6.0f, 3.0f), f[9] = __ldg(f + 8), f[10] = __saturatef(1.5f), f[11] = max(nan, 3.0f);
  f[12] = __fadd_rn(__fmul_rn(1.0f + 0x1p-12f, 1.0f + 0x1p-12f), -1.0f), f[13] = __int_as_float(0x40490fdb);
  f[14] = fabsf(__expf(1.0f) - 2.7182817f) < 1e-6f ? 1.0f : 0.0f, f[15] = floorf(-1.5f) + fmodf(7.0f, 4.0f);
  i[0] = __popc(0xf0f0u), i[1] = __ffs(0x50), i[2] = __ffs(0), i[3] = __clz(1), i[4] = __clz(0),
  i[5] = static_cast<int>(__brev(1u) >> 31);
  i[6] = static_cast<int>(__byte_perm(0x33221100u, 0x77665544u, 0x7610u)), i[7] = min(-3, 2), i[8] = max(-3, 2);
  i[9] = static_cast<int>(max(3u, 0xfffffff0u) - 0xfffffff0u), i[10] = __float_as_int(1.0f), i[11] = __mulhi(1 << 30, 8);
  i[12] = static_cast<int>(min(5ll, -7ll)), i[13] = __popcll(0xffffffffffull), i[14] = __clzll(1ll),
  i[15] = static_cast<int>(__umulhi(0x80000000u, 6u));
}
WL_CASE(primitive, functions) {
  float* f = t.empty<float>(16);
  int* i = t.empty<int>(16);
  launch(t.context, "functions_kernel", functions_kernel, 1, 1, 0, f, i, std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> ef = {2, 2, -1, -1, 2, 1, 10, 0.5f, 2, 2, 1, 3, 0x1p-11f, 3.14159274f, 1, 1};
  const std::vector<int> ei = {8, 5, 0, 31, 32, 1, 0x77661100, -3, 2, 0, 0x3f800000, 2, -7, 40, 63, 3};
  t.equal(f, 16, [&](int k) { return ef[static_cast<size_t>(k)]; }, "float");
  t.equal(i, 16, [&](int k) { return ei[static_cast<size_t>(k)]; }, "int");
}

WL_CASE(primitive, device_memory) {
  const DeviceInfo& info = t.device->info();
  t.require(info.compute_major == 9 && info.multiprocessors >= 1 && info.shared_bytes_per_block == 48 * 1024, "wrong DeviceInfo");
  t.must_throw("out of memory", [&] { t.empty<char>(size_t(1) << 46, "weights"); });
  std::vector<void*> pieces;
  for (int i = 1; i < 40; ++i) pieces.push_back(t.device->allocate(i * 1000, "piece"));
  for (int i = 0; i < 39; i += 2) t.device->release(pieces[static_cast<size_t>(i)]);
  for (int i = 0; i < 39; i += 2)
    pieces[static_cast<size_t>(i)] = t.device->allocate(i * 700, "piece");  // fits into what was freed
  for (size_t i = 0; i < pieces.size(); ++i)
    t.require(reinterpret_cast<uintptr_t>(pieces[i]) % 256 == 0, "not aligned to 256 bytes");
  for (void* p : pieces) t.device->release(p);
  int* a = t.upload<int>({1, 2, 3, 4, 5});
  int* b = t.empty<int>(5);
  t.device->copy(b, a, 20);
  t.device->fill(b + 1, 0xff, 8);
  t.equal(b, 5, [](int i) { return i == 1 || i == 2 ? -1 : i + 1; }, "copied and filled");
  t.device->mark(3);
  t.device->mark(4);
  t.require(t.device->elapsed_ms(3, 4) >= 0, "time runs backwards");
#if defined(WARPLOOM_EMULATOR_CHECKED)
  static std::vector<int> host(8, 0);
  t.must_throw("not inside one device buffer", [&] { t.device->copy_in(b, host.data(), 24); });
  t.must_throw("not inside one device buffer", [&] { t.device->copy(b, host.data(), 4); });
  t.must_throw("buffer x (32 bytes) is not inside", [&] { t.device->begin_call("op", {{"x", host.data(), 32, Region::read}}); });
#endif
}

#if !defined(WARPLOOM_EMULATOR_CHECKED)
__global__ void fresh_shared_kernel(float* out) {
  WL_SHARED(float, a, [64]);
  out[blockIdx.x * 64 + threadIdx.x] = a[threadIdx.x];
  __syncthreads();
  a[threadIdx.x] = 1.0f;
}
WL_CASE(primitive, shared_starts_as_nan) {  // the checked build refuses to read it at all
  float* out = t.empty<float>(256);
  launch(t.context, "fresh_shared_kernel", fresh_shared_kernel, 4, 64, 0, out);
  for (float v : t.download(out, 256)) t.require(std::isnan(v), "shared memory holds " + text(v) + " before anything is written");
}
#endif

__global__ void deadlock_kernel(int* out) {
  if (threadIdx.x < 31) __syncwarp();  // FAULT: warp_deadlock
  __syncthreads();
  out[threadIdx.x] = 1;
}
WL_CASE(deadlock, warp_deadlock) {
  int* out = t.empty<int>(64);
  launch(t.context, "deadlock_kernel", deadlock_kernel, 2, 64, 0, out);
}
__global__ void foreign_mask_kernel(int* out) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, static_cast<int>(threadIdx.x), 0);  // FAULT: mask_without_caller
}
WL_CASE(deadlock, mask_without_caller) {
  int* out = t.empty<int>(32);
  launch(t.context, "foreign_mask_kernel", foreign_mask_kernel, 1, 32, 0, out);
}
__global__ void trap_kernel(int* out) {
  if (threadIdx.x == 17) __trap();  // FAULT: trap
  out[threadIdx.x] = 1;
}
WL_CASE(deadlock, trap) {
  int* out = t.empty<int>(32);
  launch(t.context, "trap_kernel", trap_kernel, 1, 32, 0, out);
}
__global__ void mixed_operations_kernel(int* out) {
  if (threadIdx.x % 2)
    out[threadIdx.x] = __any_sync(0xffffffffu, 1);
  else
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
WL_CASE(deadlock, mixed_operations) {
  int* out = t.empty<int>(32);
  launch(t.context, "mixed_operations_kernel", mixed_operations_kernel, 1, 32, 0, out);
}

}  // namespace selftest
}  // namespace warploom
