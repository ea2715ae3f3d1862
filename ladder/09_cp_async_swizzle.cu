// 09_cp_async_swizzle.cu - conv2 of the CIFAR-10 autoencoder, as in 08_mma_sync.cu.
// The idea: cp.async copies 16 bytes from device to shared memory without a register, and several stages are under way at once;
// ldmatrix then hands out four 8 x 8 matrices at a time. Both move 16-byte chunks, and chunk c of row r lies at c xor r ("swizzle"):
// eight rows of one column are then in eight different groups of banks, with no padding.
// Three stages: one is computed on, two are on their way.
// Look at: no bank conflicts; requests of `copy`; what happens without the wait (an exercise). Needs -arch=sm_80.
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
constexpr int XC = CIN, YC = COUT, ROWS = 4, BLOCK_CO = 64, SLAB = 32, STAGES = 3, STEPS = 9 * CIN / SLAB;
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;  // elements
using Element = __nv_bfloat16;

struct Stage {
  uint4 a[ROWS * W][SLAB / 8], b[SLAB][BLOCK_CO / 8];  // chunks of 8 elements
};
__device__ int a_chunk(int row, int chunk) { return chunk ^ (row / 2 & 3); }  // two rows of 64 bytes fill the banks once
__device__ int b_chunk(int row, int chunk) { return chunk ^ (row & 7); }
__device__ unsigned address(const void* shared) { return static_cast<unsigned>(__cvta_generic_to_shared(shared)); }
__device__ void copy(void* to, const void* from, bool inside) {  // zeros where it is not inside
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address(to)), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
__device__ void load(Stage& stage, const Element* x, const Element* k, int step, int row, int first_co) {
  const int tap = step / (CIN / SLAB), c0 = step % (CIN / SLAB) * SLAB, r = tap / 3 - 1, s = tap % 3 - 1;
  for (int i = threadIdx.x; i < ROWS * W * 4; i += 128) {
    const int chunk = i % 4, pixel = i / 4, h = row % H + pixel / W + r, w = pixel % W + s;
    const bool inside = h >= 0 && h < H && w >= 0 && w < W;
    copy(&stage.a[pixel][a_chunk(pixel, chunk)], inside ? &x[((row + r) * W + pixel + s) * CIN + c0 + 8 * chunk] : x, inside);
  }
  for (int i = threadIdx.x; i < SLAB * 8; i += 128)
    copy(&stage.b[i / 8][b_chunk(i / 8, i % 8)], &k[(tap * CIN + c0 + i / 8) * COUT + first_co + i % 8 * 8], true);
}

__global__ void __launch_bounds__(128) conv(const Element* x, const Element* k, float* y) {
  __shared__ Stage stages[STAGES];
  const int row = blockIdx.x * ROWS, first_co = blockIdx.y * BLOCK_CO, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sum[BLOCK_CO / 8][4] = {};
  for (int step = 0; step < STAGES - 1; ++step) {
    load(stages[step], x, k, step, row, first_co);
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  for (int step = 0; step < STEPS; ++step) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");  // this thread's part of the stage is there
    __syncthreads();                                                       // everybody's is, and the stage before is read no more
    if (step + STAGES - 1 < STEPS) load(stages[(step + STAGES - 1) % STAGES], x, k, step + STAGES - 1, row, first_co);
    asm volatile("cp.async.commit_group;" ::: "memory");
    const Stage& stage = stages[step % STAGES];
    for (int half = 0; half < 2; ++half) {  // 16 of k each
      unsigned a[4], b[4];
      const int pixel = warp * W + lane % 16, ci = half * 16 + lane % 16;
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                   : "r"(address(&stage.a[pixel][a_chunk(pixel, half * 2 + lane / 16)])));
      for (int j = 0; j < BLOCK_CO / 8; j += 2) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                     : "r"(address(&stage.b[ci][b_chunk(ci, j + lane / 16)])));
        for (int e = 0; e < 2; ++e)
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                       : "+f"(sum[j + e][0]), "+f"(sum[j + e][1]), "+f"(sum[j + e][2]), "+f"(sum[j + e][3])
                       : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[2 * e]), "r"(b[2 * e + 1]));
      }
    }
  }
  for (int j = 0; j < BLOCK_CO / 8; ++j)
    for (int e = 0; e < 4; ++e)
      y[((row + warp) * W + lane / 4 + e / 2 * 8) * COUT + first_co + 8 * j + lane % 4 * 2 + e % 2] = sum[j][e];
}

void run(const Element* x, const Element* k, float* y) { conv<<<dim3(N * H / ROWS, COUT / BLOCK_CO), 128>>>(x, k, y); }

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
