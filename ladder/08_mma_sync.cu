// 08_mma_sync.cu - conv2 of the CIFAR-10 autoencoder, as in 01_naive.cu, with bfloat16 operands and float32 sums.
// The idea: one instruction of a warp multiplies a 16 x 16 by a 16 x 8 matrix on the tensor cores. Each lane holds its part of them in
// registers, in an order that the PTX manual draws: lane 4 g + t has rows g and g + 8, and pairs t and t + 4 along k.
// A block computes 4 rows of 16 pixels x 64 channels; a warp a row of pixels. The matrix of 07_im2col_gemm.cu is never written: each
// tap is a slab of it, fetched from x itself.
// Look at: mma counts; 4 more words a row (LINE), without which the fragments' loads would meet in one bank. Needs -arch=sm_80.
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
constexpr int XC = CIN, YC = COUT, ROWS = 4, BLOCK_CO = 64, SLAB = 32, LINE = SLAB / 2 + 4;  // words: two elements each
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;    // elements
using Element = __nv_bfloat16;

__device__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__global__ void __launch_bounds__(128) conv(const Element* x, const Element* k, float* y) {
  __shared__ unsigned as[ROWS * W][LINE], bs[BLOCK_CO][LINE];  // [pixel][pair of ci], [co][pair of ci]
  const int row = blockIdx.x * ROWS, first_co = blockIdx.y * BLOCK_CO;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  float sum[BLOCK_CO / 8][4] = {};
  for (int step = 0; step < 9 * CIN / SLAB; ++step) {
    const int tap = step / (CIN / SLAB), c0 = step % (CIN / SLAB) * SLAB, r = tap / 3 - 1, s = tap % 3 - 1;
    for (int i = threadIdx.x; i < ROWS * W * SLAB / 2; i += 128) {
      const int pair = i % (SLAB / 2), pixel = i / (SLAB / 2), h = row % H + pixel / W + r, w = pixel % W + s;
      const bool inside = h >= 0 && h < H && w >= 0 && w < W;
      as[pixel][pair] = inside ? *reinterpret_cast<const unsigned*>(&x[((row + r) * W + pixel + s) * CIN + c0 + 2 * pair]) : 0u;
    }
    for (int i = threadIdx.x; i < BLOCK_CO * SLAB / 2; i += 128) {
      const int co = i % BLOCK_CO, pair = i / BLOCK_CO;  // two rows of k become the two halves of a word
      const unsigned short* const from =
          reinterpret_cast<const unsigned short*>(&k[(tap * CIN + c0 + 2 * pair) * COUT + first_co + co]);
      bs[co][pair] = from[0] | unsigned(from[COUT]) << 16;
    }
    __syncthreads();
    for (int half = 0; half < SLAB / 2; half += 8) {  // 16 of k: 8 words
      const int pixel = warp * W + g;
      const unsigned a[4] = {as[pixel][half + t], as[pixel + 8][half + t], as[pixel][half + t + 4], as[pixel + 8][half + t + 4]};
      for (int j = 0; j < BLOCK_CO / 8; ++j) mma(sum[j], a, bs[8 * j + g][half + t], bs[8 * j + g][half + t + 4]);
    }
    __syncthreads();
  }
  for (int j = 0; j < BLOCK_CO / 8; ++j)
    for (int e = 0; e < 4; ++e) y[((row + warp) * W + g + e / 2 * 8) * COUT + first_co + 8 * j + 2 * t + e % 2] = sum[j][e];
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
