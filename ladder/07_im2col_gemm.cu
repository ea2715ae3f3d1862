// 07_im2col_gemm.cu - conv2 of the CIFAR-10 autoencoder, as in 01_naive.cu.
// The idea: write every pixel's 3 x 3 x CIN window down as one row of a matrix (im2col). What remains is a matrix product,
//   y[pixel][co] = columns[pixel][9 CIN] * k[9 CIN][COUT],
// and one well-tuned matrix product then serves every kernel size, stride and padding. The price: the matrix is 9 times as large as x,
// and is written and read again.
// A block computes 64 pixels x 64 channels, a thread 4 x 4 of them; slabs of 16.
// Look at: global traffic beside 04_register_tile.cu, which has the same tile.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifndef SHAPE
#define SHAPE 1, 64, 64  // images, channels in and out; conv2 of a batch is -DSHAPE=64,256,128
#endif
constexpr int kShape[] = {SHAPE};
constexpr int N = kShape[0], H = 16, W = 16, CIN = kShape[1], COUT = kShape[2], PIXELS = N * H * W;
constexpr int XC = CIN, YC = COUT, K = 9 * CIN, TILE = 64, SLAB = 16;
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;  // elements
using Element = float;

__global__ void im2col(const float* x, float* columns) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, column = i % K, p = i / K;
  const int ci = column % CIN, r = column / CIN / 3 - 1, s = column / CIN % 3 - 1, h = p / W % H + r, w = p % W + s;
  if (p < PIXELS) columns[i] = h >= 0 && h < H && w >= 0 && w < W ? x[(p + r * W + s) * CIN + ci] : 0.f;
}

__global__ void __launch_bounds__(256) gemm(const float* a, const float* b, float* c) {  // [PIXELS][K] * [K][COUT]
  __shared__ float as[TILE][SLAB + 1], bs[SLAB][TILE];
  const int row = blockIdx.x * TILE, column = blockIdx.y * TILE, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < K; k0 += SLAB) {
    for (int i = threadIdx.x; i < TILE * SLAB; i += 256) {
      as[i / SLAB][i % SLAB] = a[(row + i / SLAB) * K + k0 + i % SLAB];
      bs[i / TILE][i % TILE] = b[(k0 + i / TILE) * COUT + column + i % TILE];
    }
    __syncthreads();
    for (int k = 0; k < SLAB; ++k) {
      float left[4], right[4];
      for (int j = 0; j < 4; ++j) left[j] = as[ty * 4 + j][k], right[j] = bs[k][tx + 16 * j];
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) sum[i][j] += left[i] * right[j];
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) c[(row + ty * 4 + i) * COUT + column + tx + 16 * j] = sum[i][j];
}

void run(const Element* x, const Element* k, float* y) {
  float* columns;
  if (cudaMalloc(&columns, sizeof(float) * PIXELS * K) != cudaSuccess) return;  // main() looks at cudaGetLastError()
  im2col<<<(PIXELS * K + 255) / 256, 256>>>(x, columns);
  gemm<<<dim3(PIXELS / TILE, COUT / TILE), 256>>>(columns, k, y);
  cudaFree(columns);
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
