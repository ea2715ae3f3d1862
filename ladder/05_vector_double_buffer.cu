// 05_vector_double_buffer.cu - conv2 of the CIFAR-10 autoencoder, as in 01_naive.cu.
// The idea: the same tiles, moved 16 bytes at a time, and two of each: while the threads compute on one, the next slab is on its way
// through registers into the other. Loads are issued before the arithmetic and used after it, so that it hides their latency.
// Look at: a quarter of the requests; one barrier a slab instead of two, since nobody overwrites what is being read.
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
constexpr int X4 = (ROWS + 2) * (W + 2) * SLAB / 4, K4 = 9 * SLAB * BLOCK_CO / 4;          // float4 of a slab
using Element = float;

struct Next {  // of the next slab: a thread's part, in registers
  float4 x, k[(K4 + 255) / 256];
};

__device__ void load(Next& next, const float* x, const float* k, int row, int c0, int first_co) {
  const int i = threadIdx.x, ci = i % 2 * 4, col = i / 2 % (W + 2) - 1, r = i / 2 / (W + 2) - 1, h = row % H + r;
  next.x = make_float4(0, 0, 0, 0);
  if (i < X4 && h >= 0 && h < H && col >= 0 && col < W)
    next.x = *reinterpret_cast<const float4*>(&x[((row + r) * W + col) * CIN + c0 + ci]);
  for (int j = 0; j < (K4 + 255) / 256; ++j) {
    const int at = i + 256 * j, c = at % 16 * 4, slice = at / 16;  // slice: tap * SLAB + ci
    if (at < K4) next.k[j] = *reinterpret_cast<const float4*>(&k[(slice / SLAB * CIN + c0 + slice % SLAB) * COUT + first_co + c]);
  }
}

__device__ void store(const Next& next, float4* xs, float4* ks) {
  const int i = threadIdx.x;
  if (i < X4) xs[i / 2 * 3 + i % 2] = next.x;  // 12 floats a pixel, of which 8 are used: 4 pixels are 48 words apart
  for (int j = 0; j < (K4 + 255) / 256; ++j)
    if (i + 256 * j < K4) ks[i + 256 * j] = next.k[j];
}

__global__ void __launch_bounds__(256) conv(const float* x, const float* k, float* y) {
  __shared__ float4 xs[2][(ROWS + 2) * (W + 2) * 3];
  __shared__ float4 ks[2][K4];
  const int row = blockIdx.x * ROWS, first_co = blockIdx.y * BLOCK_CO;
  const int thread = threadIdx.x, co = thread % 16 * 4, w = thread / 16 % 4 * 4, mine = thread / 64;
  float sum[4][4] = {};
  Next next;
  load(next, x, k, row, 0, first_co);
  store(next, xs[0], ks[0]);
  for (int c0 = 0, now = 0; c0 < CIN; c0 += SLAB, now ^= 1) {
    __syncthreads();  // slab `now` is there; the other one is read no more
    if (c0 + SLAB < CIN) load(next, x, k, row, c0 + SLAB, first_co);
    const float* const xn = reinterpret_cast<const float*>(xs[now]);
    for (int r = 0; r < 3; ++r) {
      for (int ci = 0; ci < SLAB; ++ci) {
        float window[6];
        for (int j = 0; j < 6; ++j) window[j] = xn[((mine + r) * (W + 2) + w + j) * 12 + ci];
        for (int s = 0; s < 3; ++s) {
          const float4 f = ks[now][((r * 3 + s) * SLAB + ci) * 16 + co / 4];
          const float weight[4] = {f.x, f.y, f.z, f.w};
          for (int j = 0; j < 4; ++j)
            for (int c = 0; c < 4; ++c) sum[j][c] += window[j + s] * weight[c];
        }
      }
    }
    if (c0 + SLAB < CIN) store(next, xs[now ^ 1], ks[now ^ 1]);
  }
  for (int j = 0; j < 4; ++j)
    *reinterpret_cast<float4*>(&y[((row + mine) * W + w + j) * COUT + first_co + co]) =
        make_float4(sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
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
