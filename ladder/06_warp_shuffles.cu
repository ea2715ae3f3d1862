// 06_warp_shuffles.cu - conv2's gradient with respect to its input:
//   dx[n][h][w][ci] = sum over r, s, co of dy[n][h - r + 1][w - s + 1][co] * k[r][s][ci][co]
// The idea: here the sum runs over co, which is what lies side by side in dy and in k. So the lanes of a warp share one sum: each adds
// up every 32nd co, and five shuffles add the 32 parts. No shared memory, no barrier.
// A warp computes 32 channels of one pixel; lane i keeps the i-th, so that the store is coalesced too.
// Look at: shuffles; compare with a thread for each dx (an exercise).
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifndef SHAPE
#define SHAPE 1, 64, 64  // images, channels in and out; conv2 of a batch is -DSHAPE=64,256,128
#endif
constexpr int kShape[] = {SHAPE};
constexpr int N = kShape[0], H = 16, W = 16, CIN = kShape[1], COUT = kShape[2], PIXELS = N * H * W;
constexpr int XC = COUT, YC = CIN, PARTS = COUT / 32;                                      // the input here is dy, the result dx
constexpr size_t XS = size_t(PIXELS) * XC, KS = 9 * CIN * COUT, YS = size_t(PIXELS) * YC;  // elements
using Element = float;

__global__ void __launch_bounds__(256) conv_backward_input(const float* dy, const float* k, float* dx) {
  const int lane = threadIdx.x % 32, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int p = warp / (CIN / 32), first_ci = warp % (CIN / 32) * 32, h = p / W % H, w = p % W;
  float around[9][PARTS];  // dy of the nine pixels, used for all 32 channels
  for (int tap = 0; tap < 9; ++tap) {
    const int r = 1 - tap / 3, s = 1 - tap % 3;  // the taps the other way round
    const bool inside = h + r >= 0 && h + r < H && w + s >= 0 && w + s < W;
    for (int i = 0; i < PARTS; ++i) around[tap][i] = inside ? dy[(p + r * W + s) * COUT + 32 * i + lane] : 0.f;
  }
  float mine = 0;
  for (int c = 0; c < 32; ++c) {
    float sum = 0;
    for (int tap = 0; tap < 9; ++tap)
      for (int i = 0; i < PARTS; ++i) sum += around[tap][i] * k[(tap * CIN + first_ci + c) * COUT + 32 * i + lane];
    for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (lane == c) mine = sum;  // all lanes have the sum
  }
  dx[p * CIN + first_ci + lane] = mine;
}

void run(const Element* dy, const Element* k, float* dx) { conv_backward_input<<<PIXELS * CIN / 32 / 8, 256>>>(dy, k, dx); }

float reference(const std::vector<Element>& dy, const std::vector<Element>& k, int p, int ci) {
  float sum = 0;
  for (int r = -1; r <= 1; ++r)
    for (int s = -1; s <= 1; ++s)
      if (p / W % H - r >= 0 && p / W % H - r < H && p % W - s >= 0 && p % W - s < W)
        for (int co = 0; co < COUT; ++co)
          sum += float(dy[(p - r * W - s) * COUT + co]) * float(k[(((r + 1) * 3 + s + 1) * CIN + ci) * COUT + co]);
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
