// 04_register_tile.cu - conv2 of the CIFAR-10 autoencoder, as in 01_naive.cu.
// The idea: two shared loads for one multiplication are too many. A thread computes 4 pixels x 4 channels: what it loads into
// registers is used four times and more. A window of 6 pixels serves the three taps of a row.
// A block computes 4 rows of 16 pixels x 64 channels; 16 x 16 threads, each 4 neighbouring pixels and the channels c, c + 16, ...
// Look at: shared wavefronts for each multiplication; the 9th column of xs, without which two lanes would meet in one bank.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifndef SHAPE
#define SHAPE 1, 64, 64  // images, channels in and out; conv2 of a batch is -DSHAPE=64,256,128
#endif
constexpr int kShape[] = {SHAPE};
constexpr int N = kShape[0], H = 16, W = 16, CIN = kShape[1], COUT = kShape[2], PIXELS = N * H * W;
constexpr int XC = CIN, YC = COUT, SLAB = 8, BLOCK_CO = 64, ROWS = 4;
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;  // elements
using Element = float;

__global__ void __launch_bounds__(256) conv(const float* x, const float* k, float* y) {
  __shared__ float xs[ROWS + 2][W + 2][SLAB + 1];  // + 1: 4 pixels are then 36 words apart, not 32
  __shared__ float ks[9][SLAB][BLOCK_CO];
  const int row = blockIdx.x * ROWS, h = row % H, first_co = blockIdx.y * BLOCK_CO;
  const int thread = threadIdx.x, co = thread % 16, w = thread / 16 % 4 * 4, mine = thread / 64;  // mine: row of the block
  float sum[4][4] = {};
  for (int c0 = 0; c0 < CIN; c0 += SLAB) {
    for (int i = thread; i < (ROWS + 2) * (W + 2) * SLAB; i += 256) {
      const int ci = i % SLAB, col = i / SLAB % (W + 2) - 1, r = i / SLAB / (W + 2) - 1;
      const bool inside = h + r >= 0 && h + r < H && col >= 0 && col < W;
      xs[r + 1][col + 1][ci] = inside ? x[((row + r) * W + col) * CIN + c0 + ci] : 0.f;
    }
    for (int i = thread; i < 9 * SLAB * BLOCK_CO; i += 256) {
      const int c = i % BLOCK_CO, ci = i / BLOCK_CO % SLAB, tap = i / BLOCK_CO / SLAB;
      ks[tap][ci][c] = k[(tap * CIN + c0 + ci) * COUT + first_co + c];
    }
    __syncthreads();
    for (int r = 0; r < 3; ++r) {
      for (int ci = 0; ci < SLAB; ++ci) {
        float window[6];
        for (int j = 0; j < 6; ++j) window[j] = xs[mine + r][w + j][ci];
        for (int s = 0; s < 3; ++s) {
          for (int c = 0; c < 4; ++c) {
            const float weight = ks[r * 3 + s][ci][co + 16 * c];
            for (int j = 0; j < 4; ++j) sum[j][c] += window[j + s] * weight;
          }
        }
      }
    }
    __syncthreads();
  }
  for (int j = 0; j < 4; ++j)
    for (int c = 0; c < 4; ++c) y[((row + mine) * W + w + j) * COUT + first_co + co + 16 * c] = sum[j][c];
}

void run(const Element* x, const Element* k, float* y) { conv<<<dim3(N * H / ROWS, COUT / BLOCK_CO), 256>>>(x, k, y); }

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
