// 02_coalesced.cu - conv2 of the CIFAR-10 autoencoder, as in 01_naive.cu.
// The idea: neighbouring threads take neighbouring output channels, which lie side by side in k and in y. One line has changed.
// Look at: a warp's 32 values of k and of y now fill 4 sectors; its one value of x is the same for all lanes.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifndef SHAPE
#define SHAPE 1, 64, 64  // images, channels in and out; conv2 of a batch is -DSHAPE=64,256,128
#endif
constexpr int kShape[] = {SHAPE};
constexpr int N = kShape[0], H = 16, W = 16, CIN = kShape[1], COUT = kShape[2], PIXELS = N * H * W;
constexpr int XC = CIN, YC = COUT;  // channels of the input and of the result
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;  // elements
using Element = float;

__global__ void conv(const float* x, const float* k, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const int p = i / COUT, co = i % COUT;  // [pixel][co]
  if (p >= PIXELS) return;
  const int h = p / W % H, w = p % W;
  float sum = 0;
  for (int r = -1; r <= 1; ++r) {
    for (int s = -1; s <= 1; ++s) {
      if (h + r < 0 || h + r >= H || w + s < 0 || w + s >= W) continue;
      for (int ci = 0; ci < CIN; ++ci) sum += x[(p + r * W + s) * CIN + ci] * k[(((r + 1) * 3 + s + 1) * CIN + ci) * COUT + co];
    }
  }
  y[p * COUT + co] = sum;
}

void run(const Element* x, const Element* k, float* y) { conv<<<(PIXELS * COUT + 255) / 256, 256>>>(x, k, y); }

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
