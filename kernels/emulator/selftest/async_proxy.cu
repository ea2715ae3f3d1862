// async_proxy.cu - mbarrier, bulk copies and wgmma against values written down from the PTX manual; a pipeline made of them that must raise
// no alarm, and broken ones, each stopped at the line marked FAULT.
#include "../../common/bulk_copy.cuh"
#include "../../common/warpgroup_mma.cuh"
#include "selftest.h"

namespace warploom {
namespace selftest {

struct alignas(128) Stage {  // the copy engine wants multiples of 128 bytes
  float x[64];
};
inline std::vector<float> counted(int n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i + 1);
  return x;
}

// ---- mbarrier ----

// Each phase thread t writes, then all read what the next thread wrote: only the barrier stands between.
__global__ void phases_kernel(int phases, float* out) {
  WL_SHARED(AsyncBarrier, barrier, [1]);
  WL_SHARED(float, s, [2][96]);
  const int i = threadIdx.x;
  if (i == 0) init(&barrier[0], 96);
  __syncthreads();
  float sum = 0.0f;
  for (int p = 0; p < phases; ++p) {
    s[p % 2][i] = static_cast<float>(100 * p + i);
    arrive(&barrier[0]);
    wait(&barrier[0], p & 1);
    sum += s[p % 2][(i + 1) % 96];
  }
  out[i] = sum;
}
WL_CASE(correct, mbarrier_phases) {
  float* out = t.empty<float>(96);
  launch(t.context, "phases_kernel", phases_kernel, 1, 96, 0, 5, out);
  t.equal(out, 96, [](int i) { return static_cast<float>(1000 + 5 * ((i + 1) % 96)); }, "sum");
}

__global__ void first_round_kernel(int* out) {  // parity 1 is that of the phase before the first: nobody waits for it
  WL_SHARED(AsyncBarrier, barrier, [1]);
  if (threadIdx.x == 0) init(&barrier[0], 1);
  __syncthreads();
  wait(&barrier[0], 1);
  out[threadIdx.x] = 7;
}
WL_CASE(primitive, mbarrier_first_round_passes) {
  int* out = t.empty<int>(32);
  launch(t.context, "first_round_kernel", first_round_kernel, 1, 32, 0, out);
  t.equal(out, 32, [](int) { return 7; }, "passed");
}

__global__ void barrier_misuse_kernel(int kind, int* out) {
  WL_SHARED(AsyncBarrier, barrier, [2]);
  WL_SHARED(Stage, stage, [1]);
  if (threadIdx.x == 0) {
    if (kind != 0) init(&barrier[0], 1);
    if (kind == 5) barrier[0].state = 12345;
    if (kind == 0 || kind == 5) arrive(&barrier[0]);
    if (kind == 1) arrive_expecting(&barrier[0], 16), arrive(&barrier[0]);
    if (kind == 2) wait(&barrier[0], 0);
    if (kind == 3) bulk_copy(&stage[0], out, 128, &barrier[0]);
    fence_async_proxy();
    if (kind == 4) arrive_expecting(&barrier[0], 128), bulk_copy(&stage[0], out, 128, &barrier[0]);
    if (kind == 6) bulk_copy(&stage[0].x[1], out, 128, &barrier[0]);
    if (kind == 7) bulk_copy(&stage[0], out, 100, &barrier[0]);
  }
}
WL_CASE(primitive, mbarrier_misuse) {
  const char* const said[] = {"nobody has initialised",
                              "have all come",
                              "deadlock: 1 of 32 threads wait; 1 at an mbarrier",
                              "fence after",
                              "nobody waited for it",
                              "a store has overwritten",
                              "multiple of 128",
                              "multiples of 16"};
  for (int kind = 0; kind < 8; ++kind)
    t.must_throw(said[kind], [&] {
      launch(t.context, "barrier_misuse_kernel", barrier_misuse_kernel, 1, 32, 0, kind, t.upload(std::vector<int>(64, 1)));
    });
}

// ---- Bulk copies ----

__global__ void bulk_kernel(const float* x, float* out) {
  WL_SHARED(AsyncBarrier, full, [1]);
  WL_SHARED(Stage, stage, [2]);
  const int i = threadIdx.x;
  if (i == 0) init(&full[0], 1), fence_async_proxy();
  __syncthreads();
  if (i == 0) {
    arrive_expecting(&full[0], 2 * sizeof(Stage));
    for (int s = 0; s < 2; ++s) bulk_copy(&stage[s], x + 64 * s, sizeof(Stage), &full[0]);
  }
  wait(&full[0], 0);
  for (int s = 0; s < 2; ++s) out[64 * s + i] = stage[s].x[63 - i];
}
WL_CASE(correct, bulk_copies_land) {
  float* out = t.empty<float>(128);
  launch(t.context, "bulk_kernel", bulk_kernel, 1, 64, 0, t.upload(counted(128)), out);
  t.equal(out, 128, [](int i) { return static_cast<float>(64 * (i / 64) + 64 - i % 64); }, "copied");
}

// A box of 2 x 3 x 3 x 4 floats (innermost last) out of a tensor of 2 x 3 x 4 x 6.
__global__ void tensor_kernel(const WL_GRID_CONSTANT TensorMap map, int c, int w, int h, int n, float* out) {
  WL_SHARED(AsyncBarrier, full, [1]);
  WL_SHARED(Stage, stage, [2]);
  const int i = threadIdx.x;
  if (i == 0) init(&full[0], 1), fence_async_proxy();
  __syncthreads();
  if (i == 0) {
    arrive_expecting(&full[0], 72 * 4);
    bulk_copy_tensor(&stage[0], map, c, w, h, n, &full[0]);
  }
  wait(&full[0], 0);
  for (int e = i; e < 72; e += 32) out[e] = (&stage[0].x[0])[e];
}
WL_CASE(correct, tensor_copies_fill_zeros_outside) {
  const std::vector<float> x = counted(2 * 3 * 4 * 8);
  const TensorMap map = tensor_map(t.upload(x), {8, 4, 3, 2}, {4, 3, 3, 2});
  const int places[][4] = {{0, 0, 0, 0}, {0, -1, -1, 0}, {4, 2, 1, 1}, {8, 0, 0, 0}, {4, -3, 0, -1}, {0, 1, 2, 0}};
  for (const auto& at : places) {
    float* out = t.empty<float>(72);
    launch(t.context, "tensor_kernel", tensor_kernel, 1, 32, 0, map, at[0], at[1], at[2], at[3], out);
    t.equal(
        out, 72,
        [&](int e) {
          const int c = at[0] + e % 4, w = at[1] + e / 4 % 3, h = at[2] + e / 12 % 3, n = at[3] + e / 36;
          const bool inside = c < 8 && w >= 0 && w < 4 && h >= 0 && h < 3 && n >= 0 && n < 2;
          return inside ? static_cast<float>(1 + ((n * 3 + h) * 4 + w) * 8 + c) : 0.0f;
        },
        "box at " + text(at[0]) + " " + text(at[1]) + " " + text(at[2]) + " " + text(at[3]));
  }
}

// A ring as the kernels build it: one thread fills three stages, two warps read them and say so, one lane for its warp.
enum class Flaw { none, no_full_wait, no_empty_wait, arrive_first, no_warp_sync };
template <Flaw kFlaw>
__global__ void ring_kernel(const float* x, int steps, float* out) {
  WL_SHARED(AsyncBarrier, full, [3]);
  WL_SHARED(AsyncBarrier, empty, [3]);
  WL_SHARED(Stage, stage, [3]);
  const int i = threadIdx.x, lane = i % 32;
  if (i == 0) {
    for (int s = 0; s < 3; ++s) init(&full[s], 1), init(&empty[s], 2);
    fence_async_proxy();
  }
  __syncthreads();
  if (i >= 64) {
    if (i > 64) return;
    for (int n = 0; n < steps; ++n) {
      if (kFlaw != Flaw::no_empty_wait) wait(&empty[n % 3], n / 3 % 2 ^ 1);
      arrive_expecting(&full[n % 3], sizeof(Stage));                      // FAULT: ring_without_empty_wait
      bulk_copy(&stage[n % 3], x + 64 * n, sizeof(Stage), &full[n % 3]);  // FAULT: ring_arrives_first, ring_without_warp_sync
    }
    return;
  }
  float sum = 0.0f;
  for (int n = 0; n < steps; ++n) {
    if (kFlaw != Flaw::no_full_wait) wait(&full[n % 3], n / 3 % 2);
    if (kFlaw == Flaw::arrive_first) {
      __syncwarp();
      if (lane == 0) arrive(&empty[n % 3]);
    }
    const float* x_of_step = stage[n % 3].x;
    for (int k = 0; k < 8; ++k) sum += x_of_step[(i + k) % 64];  // FAULT: ring_without_full_wait
    if (kFlaw != Flaw::no_warp_sync) __syncwarp();
    if (lane == 0 && kFlaw != Flaw::arrive_first) arrive(&empty[n % 3]);
  }
  out[i] = sum;
}
template <Flaw kFlaw>
void run_ring(Tester& t, int steps, const char* name = "ring_kernel") {
  std::vector<float> x(64 * 16);
  for (int i = 0; i < 64 * 16; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i / 64 + i % 64 % 2);
  float* out = t.empty<float>(64);
  launch(t.context, name, ring_kernel<kFlaw>, 1, 96, 0, t.upload(x), steps, out);
  t.equal(out, 64, [&](int) { return static_cast<float>(8 * steps * (steps - 1) / 2 + 4 * steps); }, "sum");
}
WL_CASE(correct, bulk_copy_ring) {
  for (const int steps : {1, 3, 4, 16}) run_ring<Flaw::none>(t, steps);
}
#if defined(WARPLOOM_EMULATOR_CHECKED)
WL_CASE(broken, ring_without_full_wait) { run_ring<Flaw::no_full_wait>(t, 3, "ring_without_full_wait_kernel"); }
WL_CASE(broken, ring_without_empty_wait) { run_ring<Flaw::no_empty_wait>(t, 4, "ring_without_empty_wait_kernel"); }
WL_CASE(broken, ring_arrives_first) { run_ring<Flaw::arrive_first>(t, 16, "ring_arrives_first_kernel"); }
WL_CASE(broken, ring_without_warp_sync) { run_ring<Flaw::no_warp_sync>(t, 16, "ring_without_warp_sync_kernel"); }
#else
__global__ void read_before_landing_kernel(const float* x, float* out) {
  WL_SHARED(AsyncBarrier, full, [1]);
  WL_SHARED(Stage, stage, [1]);
  if (threadIdx.x == 0) {
    init(&full[0], 1), fence_async_proxy();
    arrive_expecting(&full[0], sizeof(Stage));
    bulk_copy(&stage[0], x, sizeof(Stage), &full[0]);
  }
  __syncthreads();
  out[threadIdx.x] = stage[0].x[threadIdx.x];
  __syncthreads();
  wait(&full[0], 0);
}
WL_CASE(primitive, bulk_copies_read_early_are_nan) {
  float* out = t.empty<float>(64);
  launch(t.context, "read_before_landing_kernel", read_before_landing_kernel, 1, 64, 0, t.upload(counted(64)), out);
  for (const float v : t.download(out, 64)) t.require(v != v, "a copy that nobody waited for was " + text(v) + ", expected NaN");
}
#endif

// ---- wgmma: A [64][K] in registers by the documented layout, B [K][N] in shared memory along k in the 128-byte swizzle ----

enum class Misuse { none, no_fence, no_wait, other_matrix, no_proxy_fence };
template <class T, int N, Misuse kMisuse = Misuse::none>
__global__ void warpgroup_kernel(const float* a, const float* b, int slabs, float* out) {  // K = slabs * 32 bytes, at most 128
  WL_DYNAMIC_SHARED(unsigned char, tile);                                                  // [N][128]
  constexpr int kSlab = 32 / T::kBytes;
  const int thread = threadIdx.x, lane = thread % 32, row = thread / 32 * 16 + lane / 4, column = lane % 4, K = slabs * kSlab;
  for (int e = thread; e < N * 32; e += 128) {  // words
    const int n = e / 32, word = e % 32, k = word * 4 / T::kBytes;
    uint32_t v = 0;
    if (k < K) {
      if constexpr (T::kBytes == 2)
        v = pack2<T>(b[k * N + n], b[(k + 1) * N + n]);
      else
        v = round_tf32(__float_as_uint(b[k * N + n]));
    }
    *reinterpret_cast<uint32_t*>(tile + n * 128 + (word / 4 ^ n % 8) * 16 + word % 4 * 4) = v;
  }
  if (kMisuse != Misuse::no_proxy_fence) fence_async_proxy();
  __syncthreads();
  uint32_t fragment[4][4];
  for (int s = 0; s < slabs; ++s)
    for (int i = 0; i < 4; ++i) {
      const int m = row + i % 2 * 8, k = s * kSlab + (T::kBytes == 2 ? 2 * column + i / 2 * 8 : column + i / 2 * 4);
      if constexpr (T::kBytes == 2)
        fragment[s][i] = pack2<T>(a[m * K + k], a[m * K + k + 1]);
      else
        fragment[s][i] = round_tf32(__float_as_uint(a[m * K + k]));
    }
  float sum[N / 8][4];
  for (int j = 0; j < N / 8; ++j)
    for (int e = 0; e < 4; ++e) sum[j][e] = 0.5f;
  uint64_t descriptor = matrix_descriptor(tile);
  if (kMisuse == Misuse::other_matrix && thread >= 96) descriptor += kNextSlab;
  if (kMisuse != Misuse::no_fence) warpgroup_fence();
  for (int s = 0; s < slabs; ++s) multiply_warpgroup<T, N>(sum, fragment[s], descriptor + s * kNextSlab);
  warpgroup_commit();
  if (kMisuse != Misuse::no_wait) warpgroup_wait<0>();  // FAULT: matrix_without_proxy_fence
  for (int j = 0; j < N / 8; ++j)
    for (int e = 0; e < 4; ++e) out[(row + e / 2 * 8) * N + 8 * j + 2 * column + e % 2] = sum[j][e];
  if (kMisuse == Misuse::no_wait) warpgroup_wait<0>();
}
template <class T, int N, Misuse kMisuse = Misuse::none>
float* run_warpgroup(Tester& t, int slabs, std::vector<float>* expected, const char* name = "warpgroup_kernel") {
  const int K = slabs * 32 / T::kBytes;
  std::vector<float> a(static_cast<size_t>(64 * K)), b(static_cast<size_t>(K * N));
  for (int i = 0; i < 64 * K; ++i) a[static_cast<size_t>(i)] = static_cast<float>((i * 37 + i / 11) % 29 - 14);
  for (int i = 0; i < K * N; ++i) b[static_cast<size_t>(i)] = static_cast<float>((i * 23 + i / 7) % 31 - 15);
  expected->assign(static_cast<size_t>(64 * N), 0.5f);
  for (int m = 0; m < 64; ++m)
    for (int k = 0; k < K; ++k)
      for (int n = 0; n < N; ++n)
        (*expected)[static_cast<size_t>(m * N + n)] += a[static_cast<size_t>(m * K + k)] * b[static_cast<size_t>(k * N + n)];
  float* out = t.empty<float>(static_cast<size_t>(64 * N));
  launch(t.context, name, warpgroup_kernel<T, N, kMisuse>, 1, 128, N * 128, t.upload(a), t.upload(b), slabs, out);
  return out;
}
template <class T, int N>
void check_warpgroup(Tester& t) {
  for (const int slabs : {1, 4}) {
    std::vector<float> expected;
    float* out = run_warpgroup<T, N>(t, slabs, &expected);
    t.equal(
        out, expected.size(), [&](int i) { return expected[static_cast<size_t>(i)]; }, "product of " + text(slabs) + " slabs");
  }
}
WL_CASE(correct, wgmma_products) {
  check_warpgroup<Bf16, 64>(t), check_warpgroup<Bf16, 128>(t), check_warpgroup<F16, 64>(t), check_warpgroup<F16, 128>(t);
  check_warpgroup<Tf32, 64>(t), check_warpgroup<Tf32, 128>(t);
}
// B across k: rows of 64 n.
template <class T>
__global__ void across_kernel(const float* a, const float* b, int slabs, float* out) {  // K = 16 * slabs, at most 64
  WL_DYNAMIC_SHARED(unsigned char, tile);                                               // [K][128]
  const int thread = threadIdx.x, lane = thread % 32, row = thread / 32 * 16 + lane / 4, column = lane % 4, K = 16 * slabs;
  for (int e = thread; e < K * 32; e += 128) {
    const int k = e / 32, word = e % 32;
    *reinterpret_cast<uint32_t*>(tile + k * 128 + ((word / 4) ^ (k % 8)) * 16 + word % 4 * 4) =
        pack2<T>(b[k * 64 + 2 * word], b[k * 64 + 2 * word + 1]);
  }
  fence_async_proxy();
  __syncthreads();
  uint32_t fragment[4][4];
  for (int s = 0; s < slabs; ++s)
    for (int i = 0; i < 4; ++i) {
      const float* from = a + (row + i % 2 * 8) * K + s * 16 + 2 * column + i / 2 * 8;
      fragment[s][i] = pack2<T>(from[0], from[1]);
    }
  float sum[8][4] = {};
  warpgroup_fence();
  for (int s = 0; s < slabs; ++s) multiply_warpgroup_across<T>(sum, fragment[s], matrix_descriptor(tile) + s * kNextSlabAcross);
  warpgroup_commit();
  warpgroup_wait<0>();
  for (int j = 0; j < 8; ++j)
    for (int e = 0; e < 4; ++e) out[(row + e / 2 * 8) * 64 + 8 * j + 2 * column + e % 2] = sum[j][e];
}
template <class T>
void check_across(Tester& t) {
  for (const int slabs : {1, 4}) {
    const int K = 16 * slabs;
    std::vector<float> a(static_cast<size_t>(64 * K)), b(static_cast<size_t>(K * 64));
    for (int i = 0; i < 64 * K; ++i) a[static_cast<size_t>(i)] = static_cast<float>((i * 37 + i / 11) % 29 - 14);
    for (int i = 0; i < K * 64; ++i) b[static_cast<size_t>(i)] = static_cast<float>((i * 23 + i / 7) % 31 - 15);
    float* out = t.empty<float>(64 * 64);
    launch(t.context, "across_kernel", across_kernel<T>, 1, 128, K * 128, t.upload(a), t.upload(b), slabs, out);
    t.equal(
        out, 64 * 64,
        [&](int i) {
          float sum = 0.0f;
          for (int k = 0; k < K; ++k) sum += a[static_cast<size_t>(i / 64 * K + k)] * b[static_cast<size_t>(k * 64 + i % 64)];
          return sum;
        },
        "product of " + text(slabs) + " slabs");
  }
}
WL_CASE(correct, wgmma_products_across) { check_across<Bf16>(t), check_across<F16>(t); }

WL_CASE(primitive, wgmma_misuse) {
  std::vector<float> expected;
  t.must_throw("without a wgmma.fence", [&] { run_warpgroup<Bf16, 64, Misuse::no_fence>(t, 1, &expected); });
  t.must_throw("must execute the same", [&] { run_warpgroup<Bf16, 64, Misuse::other_matrix>(t, 1, &expected); });
  for (const float v : t.download(run_warpgroup<Bf16, 64, Misuse::no_wait>(t, 1, &expected), 64 * 64))
    t.require(v != v, "sums that nobody waited for were " + text(v) + ", expected NaN");
}

#if defined(WARPLOOM_EMULATOR_CHECKED)
WL_CASE(broken, matrix_without_proxy_fence) {
  std::vector<float> expected;
  run_warpgroup<Bf16, 64, Misuse::no_proxy_fence>(t, 1, &expected, "matrix_without_proxy_fence_kernel");
}

// The next matrix is copied over one that wgmma may still be reading: the stage is given back before the wait.
__global__ void matrix_overwritten_kernel(const float* x, float* out) {
  WL_DYNAMIC_SHARED(unsigned char, tile);  // [64][128]
  WL_SHARED(AsyncBarrier, full, [1]);
  WL_SHARED(AsyncBarrier, empty, [1]);
  const int thread = threadIdx.x;
  if (thread == 0) init(&full[0], 1), init(&empty[0], 4), fence_async_proxy();
  __syncthreads();
  if (thread >= 128) {
    for (int n = 0; thread == 128 && n < 2; ++n) {
      wait(&empty[0], (n & 1) ^ 1);
      arrive_expecting(&full[0], 64 * 128);
      bulk_copy(tile, x, 64 * 128, &full[0]);  // FAULT: matrix_overwritten
    }
    return;
  }
  const uint32_t fragment[4] = {};
  float sum[8][4] = {};
  for (int n = 0; n < 2; ++n) {
    wait(&full[0], n & 1);
    warpgroup_fence();
    multiply_warpgroup<Bf16, 64>(sum, fragment, matrix_descriptor(tile));
    warpgroup_commit();
    if (thread % 32 == 0) arrive(&empty[0]);
    warpgroup_wait<0>();  // FAULT: matrix_overwritten
  }
  out[thread] = sum[0][0];
}
WL_CASE(broken, matrix_overwritten) {
  launch(t.context, "matrix_overwritten_kernel", matrix_overwritten_kernel, 1, 256, 64 * 128,
         t.upload(std::vector<float>(2048, 0.0f)), t.empty<float>(128));
}
#endif

}  // namespace selftest
}  // namespace warploom
