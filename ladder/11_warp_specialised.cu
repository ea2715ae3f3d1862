// 11_warp_specialised.cu - conv2 of the CIFAR-10 autoencoder, as in 10_tma_wgmma.cu.
// The idea: copying and multiplying are work for different warps. A producer warp keeps a ring of stages filled; four consumer warps
// multiply what is full and give it back. Two mbarriers a stage, "full" (the bytes are there) and "empty" (all consumers are done),
// and no __syncthreads(): the producer runs ahead as far as the ring is long.
// Look at: the parities. Waiting for "empty" begins with the parity of the phase before the first, which has always ended.
// Needs -gencode arch=compute_90a,code=sm_90a -lcuda.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifndef SHAPE
#define SHAPE 1, 64, 64  // images, channels in and out; conv2 of a batch is -DSHAPE=64,256,128
#endif
constexpr int kShape[] = {SHAPE};
constexpr int N = kShape[0], H = 16, W = 16, CIN = kShape[1], COUT = kShape[2], PIXELS = N * H * W;
constexpr int XC = CIN, YC = COUT, ROWS = 4, TILE = 64 * 64, STAGES = 4, STEPS = 9 * CIN / 64, CONSUMERS = 128;
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;  // elements
using Element = __nv_bfloat16;
__device__ __align__(128) Element tiles[9 * CIN * COUT];  // k as wgmma reads it

using Barrier = unsigned long long;
__device__ unsigned address(const void* shared) { return static_cast<unsigned>(__cvta_generic_to_shared(shared)); }
__device__ void init(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(b)), "r"(arrivals) : "memory");
}
__device__ void arrive(Barrier* b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(b)) : "memory"); }
__device__ void wait(Barrier* b, unsigned parity) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @done bra over; bra again; over: }" ::
          "r"(address(b)),
      "r"(parity)
      : "memory");
}
__device__ unsigned long long descriptor(const void* shared) {
  return (address(shared) & 0x3ffffu) >> 4 | 1ull << 16 | 1024ull / 16 << 32 | 1ull << 62;
}
__device__ void multiply(float (&d)[32], unsigned long long a, unsigned long long b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, "
      "%15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1, 0, 0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]),
        "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
        "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b));
}

__global__ void __launch_bounds__(CONSUMERS + 32) conv(const __grid_constant__ CUtensorMap x, float* y) {
  extern __shared__ __align__(1024) Element shared[];  // of each stage x's tile, then k's
  __shared__ Barrier full[STAGES], empty[STAGES];
  const int row = blockIdx.x * ROWS, image = row / H, h = row % H, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) init(&full[i], 1), init(&empty[i], CONSUMERS);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  if (warp == CONSUMERS / 32) {  // the producer
    for (int step = 0; step < STEPS && lane == 0; ++step) {
      const int stage = step % STAGES, tap = step / (CIN / 64), c0 = step % (CIN / 64) * 64, r = tap / 3 - 1, s = tap % 3 - 1;
      Element* const to = shared + stage * 2 * TILE;
      wait(&empty[stage], step / STAGES % 2 ^ 1);  // the first round passes
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(&full[stage])), "r"(2 * TILE * 2)
                   : "memory");
      asm volatile(
          "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
          "[%6];" ::"r"(address(to)),
          "l"(&x), "r"(c0), "r"(s), "r"(h + r), "r"(image), "r"(address(&full[stage]))
          : "memory");
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address(to + TILE)),
          "l"(tiles + (step * (COUT / 64) + blockIdx.y) * TILE), "r"(TILE * 2), "r"(address(&full[stage]))
          : "memory");
    }
    return;
  }
  float sum[32] = {};
  for (int step = 0; step < STEPS; ++step) {
    const int stage = step % STAGES;
    const Element* const from = shared + stage * 2 * TILE;
    wait(&full[stage], step / STAGES % 2);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int i = 0; i < 4; ++i) multiply(sum, descriptor(from) + 2 * i, descriptor(from + TILE) + 2 * i);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    arrive(&empty[stage]);
  }
  for (int i = 0; i < 32; ++i)  // as mma.sync: lane / 4 is a row, lane % 4 a pair of columns; warp w has the w-th 16 rows
    y[((row + warp) * W + lane / 4 + i / 2 % 2 * 8) * COUT + blockIdx.y * 64 + i / 4 * 8 + lane % 4 * 2 + i % 2] = sum[i];
}
__global__ void pack(const Element* k) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, co = i % COUT, ci = i / COUT % CIN, tap = i / COUT / CIN;
  const int tile = (tap * (CIN / 64) + ci / 64) * (COUT / 64) + co / 64, n = co % 64, c = ci % 64;
  tiles[tile * TILE + n * 64 + (c / 8 ^ n % 8) * 8 + c % 8] = k[i];
}

void run(const Element* x, const Element* k, float* y) {
  const cuuint64_t size[] = {CIN, W, H, N}, stride[] = {2 * CIN, 2 * CIN * W, 2 * CIN * W * H};  // the innermost first; bytes
  const cuuint32_t box[] = {64, W, ROWS, 1}, step[] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult made = cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<Element*>(x), size, stride,
                                               box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                               CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  static bool packed = false;
  if (!packed) pack<<<9 * CIN * COUT / 256, 256>>>(k), packed = true;
  const int bytes = STAGES * 2 * TILE * 2;
  if (made != CUDA_SUCCESS || cudaFuncSetAttribute(conv, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess)
    return;
  conv<<<dim3(N * H / ROWS, COUT / 64), CONSUMERS + 32, bytes>>>(map, y);
}

float reference(const std::vector<Element>& x, const std::vector<Element>& k, int p, int co) {
  float sum = 0;
  for (int r = -1; r <= 1; ++r)
    for (int s = -1; s <= 1; ++s)
      if (p / W % H + r >= 0 && p / W % H + r < H && p % W + s >= 0 && p % W + s < W)
        for (int ci = 0; ci < CIN; ++ci)
          sum += float(x[(p + r * W + s) * CIN + ci]) * float(k[(((r + 1) * 3 + s + 1) * CIN + ci) * COUT + co]);
  return sum;
}

// ---- From here on the same in every rung ----
#define CHECK(call)                                                                                  \
  do {                                                                                               \
    const cudaError_t e = (call);                                                                    \
    if (e != cudaSuccess) printf("%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(e)), exit(1); \
  } while (0)

int main(int argc, char** argv) {  // an argument: so many timed runs
  std::vector<Element> x(XS), k(KS);
  std::vector<float> y(YS);
  unsigned state = 1;  // small whole numbers: every order of summation gives the same bits
  for (Element& v : x) v = Element(float(int((state = state * 1664525u + 1013904223u) >> 29) - 3));
  for (Element& v : k) v = Element(float(int((state = state * 1664525u + 1013904223u) >> 30) - 1));
  Element *dx, *dk;
  float* dy;
  CHECK(cudaMalloc(&dx, x.size() * sizeof(Element)));
  CHECK(cudaMalloc(&dk, k.size() * sizeof(Element)));
  CHECK(cudaMalloc(&dy, y.size() * sizeof(float)));
  CHECK(cudaMemcpy(dx, x.data(), x.size() * sizeof(Element), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(dk, k.data(), k.size() * sizeof(Element), cudaMemcpyHostToDevice));
  run(dx, dk, dy);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(y.data(), dy, y.size() * sizeof(float), cudaMemcpyDeviceToHost));
  int wrong = 0;
  for (size_t i = 0; i < y.size(); i += y.size() / 2048 | 1)  // some 2,000 values, of all channels
    if (y[i] != reference(x, k, int(i / YC), int(i % YC)) && ++wrong <= 3)
      printf("row %zu, channel %zu: %g instead of %g\n", i / YC, i % YC, y[i], reference(x, k, int(i / YC), int(i % YC)));
  cudaEvent_t from, to;
  CHECK(cudaEventCreate(&from));
  CHECK(cudaEventCreate(&to));
  float best = 1e30f, ms = 0;
  for (int i = argc > 1 ? atoi(argv[1]) : 0; i > 0; --i, best = ms < best ? ms : best) {
    CHECK(cudaEventRecord(from));
    run(dx, dk, dy);
    CHECK(cudaEventRecord(to));
    CHECK(cudaEventSynchronize(to));
    CHECK(cudaEventElapsedTime(&ms, from, to));
  }
  if (argc > 1) printf("best of %s: %.4f ms, %.1f TFLOP/s\n", argv[1], best, 18e-9 * PIXELS * CIN * COUT / best);
  CHECK(cudaFree(dx));
  CHECK(cudaFree(dk));
  CHECK(cudaFree(dy));
  CHECK(cudaEventDestroy(from));
  CHECK(cudaEventDestroy(to));
  puts(wrong ? "wrong" : "right");
  return wrong ? 1 : 0;
}
