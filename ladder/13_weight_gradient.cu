// 13_weight_gradient.cu - conv2's gradient with respect to its weights:
//   dk[r][s][ci][co] = sum over n, h, w of x[n][h + r - 1][w + s - 1][ci] * dy[n][h][w][co]
// The idea: few results, long sums. A thread for each result leaves most of a GPU idle, so the pixels are split too: every block adds
// up a part of the rows, and its sums wait in memory of its own. A second kernel adds the parts in a fixed order: the same bits in
// every run. With atomicAdd there are neither parts nor a second kernel, but dk must be cleared before, the blocks come in any order,
// and float sums depend on the order. (Not here: main() takes small whole numbers.)
// A block computes one r, all three s, 64 ci x 64 co; a thread 4 x 4 of them: a window of 3 pixels of x meets each pixel of dy.
// Look at: the two kernels' traffic; blocks, for SPLITS = 1 and more.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifndef SHAPE
#define SHAPE 1, 64, 64  // images, channels in and out; conv2 of a batch is -DSHAPE=64,256,128
#endif
constexpr int kShape[] = {SHAPE};
constexpr int N = kShape[0], H = 16, W = 16, CIN = kShape[1], COUT = kShape[2], PIXELS = N * H * W;
constexpr int YC = COUT, TILE = 64, RESULTS = 9 * CIN * COUT;
constexpr int SPLITS = N * H / 4 < 16 ? N * H / 4 : 16, ROWS = N * H / SPLITS;         // rows of pixels for each block
constexpr size_t XS = size_t(PIXELS) * CIN, KS = size_t(PIXELS) * COUT, YS = RESULTS;  // here k is dy, and y is dk
using Element = float;

__global__ void __launch_bounds__(256) partial_sums(const float* x, const float* dy, float* parts) {
  __shared__ float xs[W + 2][TILE], ds[W][TILE];
  const int r = blockIdx.x % 3 - 1, first_ci = blockIdx.x / 3 * TILE, first_co = blockIdx.y * TILE, split = blockIdx.z;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float sum[3][4][4] = {};
  for (int row = split * ROWS; row < (split + 1) * ROWS; ++row) {
    if (row % H + r < 0 || row % H + r >= H) continue;  // above or below the image: all threads agree
    for (int i = threadIdx.x; i < (W + 2) * TILE; i += 256) {
      const int w = i / TILE - 1;
      xs[w + 1][i % TILE] = w >= 0 && w < W ? x[((row + r) * W + w) * CIN + first_ci + i % TILE] : 0.f;
    }
    for (int i = threadIdx.x; i < W * TILE; i += 256)
      ds[i / TILE][i % TILE] = dy[(row * W + i / TILE) * COUT + first_co + i % TILE];
    __syncthreads();  // the rows are there
    float window[3][4];
    for (int j = 0; j < 4; ++j) window[1][j] = xs[0][ty + 16 * j], window[2][j] = xs[1][ty + 16 * j];
    for (int w = 0; w < W; ++w) {
      float gradient[4];
      for (int j = 0; j < 4; ++j) {
        window[0][j] = window[1][j], window[1][j] = window[2][j], window[2][j] = xs[w + 2][ty + 16 * j];
        gradient[j] = ds[w][tx + 16 * j];
      }
      for (int s = 0; s < 3; ++s)
        for (int i = 0; i < 4; ++i)
          for (int j = 0; j < 4; ++j) sum[s][i][j] += window[s][i] * gradient[j];
    }
    __syncthreads();  // nobody reads them any more
  }
  for (int s = 0; s < 3; ++s)
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) {
        const int result = (((r + 1) * 3 + s) * CIN + first_ci + ty + 16 * i) * COUT + first_co + tx + 16 * j;
        parts[split * RESULTS + result] = sum[s][i][j];
      }
}

__global__ void add_up(const float* parts, float* dk) {  // one thread for each result, neighbours side by side
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = 0;
  for (int split = 0; split < SPLITS; ++split) sum += parts[split * RESULTS + i];  // always in this order
  dk[i] = sum;
}

void run(const Element* x, const Element* dy, float* dk) {
  float* parts;
  if (cudaMalloc(&parts, sizeof(float) * SPLITS * RESULTS) != cudaSuccess) return;  // main() looks at cudaGetLastError()
  partial_sums<<<dim3(3 * CIN / TILE, COUT / TILE, SPLITS), 256>>>(x, dy, parts);
  add_up<<<RESULTS / 256, 256>>>(parts, dk);
  cudaFree(parts);
}

float reference(const std::vector<Element>& x, const std::vector<Element>& dy, int row, int co) {
  const int r = row / CIN / 3 - 1, s = row / CIN % 3 - 1, ci = row % CIN;
  float sum = 0;
  for (int p = 0; p < PIXELS; ++p)
    if (p / W % H + r >= 0 && p / W % H + r < H && p % W + s >= 0 && p % W + s < W)
      sum += float(x[(p + r * W + s) * CIN + ci]) * float(dy[p * COUT + co]);
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
