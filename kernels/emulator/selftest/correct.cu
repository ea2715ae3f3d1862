// correct.cu - right kernels of the kinds that checks like to misjudge: no false alarm may come from any of them.
#include "selftest.h"

namespace warploom {
namespace selftest {

__global__ void reduce_kernel(const float* x, float* out, int n) {
  WL_SHARED(float, partial, [32]);
  float sum = 0.0f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 8) {
    sum = partial[threadIdx.x];
    for (int step = 4; step > 0; step /= 2) sum += __shfl_down_sync(0xffu, sum, step);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
  }
}
WL_CASE(correct, reduction) {
  std::vector<float> x(5000);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] = static_cast<float>(i % 13) - 5.0f;
  float* dx = t.upload(x);
  float* partial = t.empty<float>(6);
  launch(t.context, "reduce_kernel", reduce_kernel, 6, 256, 0, dx, partial, 5000);
  double got = 0;
  for (float v : t.download(partial, 6)) got += v;
  t.require(got == sum, "sum is " + text(got) + ", expected " + text(sum));
}

__global__ void tree_kernel(const float* x, float* out) {
  WL_SHARED(float, s, [128]);
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  for (unsigned step = 64; step > 0; step /= 2) {
    if (threadIdx.x < step) s[threadIdx.x] += s[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[0] = s[0];
}
WL_CASE(correct, tree_reduction) {
  std::vector<float> x(128, 2.0f);
  float* out = t.empty<float>(1);
  launch(t.context, "tree_kernel", tree_kernel, 1, 128, 0, t.upload(x), out);
  t.equal(out, 1, [](int) { return 256.0f; }, "sum");
}

__global__ void transpose_kernel(const float* x, float* y, int rows, int columns) {  // [rows, columns] -> [columns, rows]
  WL_SHARED(float, tile, [32][33]);
  int column = blockIdx.x * 32 + threadIdx.x;
  for (int k = threadIdx.y; k < 32; k += 8) {
    const int row = blockIdx.y * 32 + k;
    if (row < rows && column < columns) tile[k][threadIdx.x] = x[row * columns + column];
  }
  __syncthreads();
  column = blockIdx.y * 32 + threadIdx.x;
  for (int k = threadIdx.y; k < 32; k += 8) {
    const int row = blockIdx.x * 32 + k;
    if (row < columns && column < rows) y[row * rows + column] = tile[threadIdx.x][k];
  }
}
WL_CASE(correct, transpose) {
  const int rows = 70, columns = 45;
  std::vector<float> x(static_cast<size_t>(rows * columns));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  float* y = t.empty<float>(x.size());
  launch(t.context, "transpose_kernel", transpose_kernel, dim3(2, 3), dim3(32, 8), 0, t.upload(x), y, rows, columns);
  t.equal(y, x.size(), [&](int i) { return static_cast<float>(i % rows * columns + i / rows); }, "value");
}

// 128 x 128 x 8 tiles, two buffers, 8 x 8 values a thread: the pattern of a real GEMM.
__global__ void __launch_bounds__(256)
    gemm_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int n, int k) {
  WL_SHARED(float, as, [2][8][128]);
  WL_SHARED(float, bs, [2][8][128]);
  const int i = threadIdx.x, tx = i % 16, ty = i / 16, row = i / 2, part = i % 2 * 4, line = i / 32, four = i % 32 * 4;
  const float* from_a = a + (blockIdx.y * 128 + row) * k + part;
  const float* from_b = b + line * n + blockIdx.x * 128 + four;
  float sum[8][8] = {};
  float4 ra = *reinterpret_cast<const float4*>(from_a), rb = *reinterpret_cast<const float4*>(from_b);
  int now = 0;
  auto store = [&](int p) {
    as[p][part][row] = ra.x, as[p][part + 1][row] = ra.y, as[p][part + 2][row] = ra.z, as[p][part + 3][row] = ra.w;
    *reinterpret_cast<float4*>(&bs[p][line][four]) = rb;
  };
  store(0);
  __syncthreads();
  for (int base = 0; base < k; base += 8) {
    const bool more = base + 8 < k;
    if (more) {
      ra = *reinterpret_cast<const float4*>(from_a + base + 8);
      rb = *reinterpret_cast<const float4*>(from_b + (base + 8) * n);
    }
    WL_UNROLL for (int step = 0; step < 8; ++step) {
      float fa[8], fb[8];
      *reinterpret_cast<float4*>(&fa[0]) = *reinterpret_cast<const float4*>(&as[now][step][ty * 4]);
      *reinterpret_cast<float4*>(&fa[4]) = *reinterpret_cast<const float4*>(&as[now][step][64 + ty * 4]);
      *reinterpret_cast<float4*>(&fb[0]) = *reinterpret_cast<const float4*>(&bs[now][step][tx * 4]);
      *reinterpret_cast<float4*>(&fb[4]) = *reinterpret_cast<const float4*>(&bs[now][step][64 + tx * 4]);
      WL_UNROLL for (int r = 0; r < 8; ++r) WL_UNROLL for (int s = 0; s < 8; ++s) sum[r][s] += fa[r] * fb[s];
    }
    if (more) {
      now ^= 1;
      store(now);
      __syncthreads();
    }
  }
  for (int r = 0; r < 8; ++r)
    for (int s = 0; s < 8; s += 4) {
      const int y = blockIdx.y * 128 + (r < 4 ? ty * 4 + r : 60 + ty * 4 + r),
                x = blockIdx.x * 128 + (s < 4 ? tx * 4 : 64 + tx * 4);
      *reinterpret_cast<float4*>(&c[y * n + x]) = make_float4(sum[r][s], sum[r][s + 1], sum[r][s + 2], sum[r][s + 3]);
    }
}
WL_CASE(correct, double_buffered_gemm) {
  const int n = 128, k = 48;
  std::vector<float> a(static_cast<size_t>(n * k)), b(static_cast<size_t>(n * k));
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 5) - 2.0f, b[i] = static_cast<float>(i % 7) - 3.0f;
  float* c = t.empty<float>(static_cast<size_t>(n * n));
  launch(t.context, "gemm_kernel", gemm_kernel, 1, 256, 0, t.upload(a), t.upload(b), c, n, k);
  t.equal(
      c, static_cast<size_t>(n * n),
      [&](int i) {
        float sum = 0;
        for (int s = 0; s < k; ++s) sum += a[static_cast<size_t>(i / n * k + s)] * b[static_cast<size_t>(s * n + i % n)];
        return sum;
      },
      "value");
}

__global__ void conv_kernel(const float* x, const float* w, float* y, int c, int h,
                            int width) {  // 3x3, zero padding, guarded reads
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= h * width) return;
  float sum = 0.0f;
  for (int k = 0; k < c; ++k)
    for (int r = 0; r < 3; ++r)
      for (int s = 0; s < 3; ++s) {
        const int row = i / width + r - 1, column = i % width + s - 1;
        if (row < 0 || row >= h || column < 0 || column >= width) continue;
        sum += x[(k * h + row) * width + column] * w[(k * 3 + r) * 3 + s];
      }
  y[i] = sum;
}
WL_CASE(correct, guarded_convolution) {
  const int c = 3, h = 9, width = 7;
  float* y = t.empty<float>(static_cast<size_t>(h * width));
  float* x = t.upload(std::vector<float>(static_cast<size_t>(c * h * width), 1.0f));
  float* w = t.upload(std::vector<float>(static_cast<size_t>(c * 9), 2.0f));
  launch(t.context, "conv_kernel", conv_kernel, 1, 128, 0, x, w, y, c, h, width);
  t.equal(
      y, static_cast<size_t>(h * width),
      [&](int i) {
        const int rows = 3 - (i / width == 0) - (i / width == h - 1), columns = 3 - (i % width == 0) - (i % width == width - 1);
        return static_cast<float>(2 * c * rows * columns);
      },
      "value");
}

// Each block adds its part; whoever finishes last adds the parts in their order. Blocks are ordered by a fence and an atomic.
__global__ void last_block_kernel(const float* x, float* partial, unsigned* done, float* out) {
  WL_SHARED(int, last, );
  WL_SHARED(float, s, [64]);
  s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    for (int i = 0; i < 64; ++i) sum += s[i];
    partial[blockIdx.x] = sum;
    __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float sum = 0.0f;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += partial[b];
    out[0] = sum;
    *done = 0;
  }
}
WL_CASE(correct, last_block_done) {
  std::vector<float> x(20 * 64);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 9);
  float sum = 0;
  for (float v : x) sum += v;
  float* out = t.empty<float>(1);
  float* partial = t.empty<float>(20);
  unsigned* done = t.upload<unsigned>({0});
  float* dx = t.upload(x);
  for (int i = 0; i < 3; ++i) {
    launch(t.context, "last_block_kernel", last_block_kernel, 20, 64, 0, dx, partial, done, out);
    t.equal(out, 1, [&](int) { return sum; }, "sum");
  }
}

__global__ void bytes_kernel(unsigned char* out, unsigned short* halves,
                             unsigned short* counts) {  // neighbours in a word belong to different threads and blocks
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = static_cast<unsigned char>(i);
  halves[i] = static_cast<unsigned short>(i);
  counts[i] = static_cast<unsigned short>(counts[i] + 1);
  WL_SHARED(unsigned char, s, [67]);
  s[threadIdx.x] = static_cast<unsigned char>(i);
  __syncthreads();
  out[i] = static_cast<unsigned char>(s[66 - threadIdx.x] + 1);
}
WL_CASE(correct, bytes_and_halves) {
  auto* out = t.empty<unsigned char>(3 * 67);
  auto* halves = t.empty<unsigned short>(3 * 67);
  auto* counts = t.upload(std::vector<unsigned short>(201, 7));
  launch(t.context, "bytes_kernel", bytes_kernel, 3, 67, 0, out, halves, counts);
  t.equal(out, 201, [](int i) { return static_cast<unsigned char>(i / 67 * 67 + 66 - i % 67 + 1); }, "byte");
  t.equal(halves, 201, [](int i) { return i; }, "half");
  t.equal(counts, 201, [](int) { return 8; }, "count");
}

__global__ void wait_kernel(int* flag, int* out) {  // one thread waits for another's store
  if (threadIdx.x == 0) {
    while (*static_cast<volatile int*>(flag) == 0) {
    }
    *out = atomicAdd(flag, 0);
  } else if (threadIdx.x == 33) {
    atomicExch(flag, 5);
  }
}
#if defined(WARPLOOM_EMULATOR_CHECKED)
WL_CASE(correct, waiting_for_a_flag) {
  int* flag = t.upload<int>({0});
  int* out = t.empty<int>(1);
  launch(t.context, "wait_kernel", wait_kernel, 1, 64, 0, flag, out);
  t.equal(out, 1, [](int) { return 5; }, "flag");
}
#endif

__global__ void lock_kernel(int* lock, int* count) {
  for (bool done = false; !done;) {
    if (atomicCAS(lock, 0, 1) != 0) continue;
    atomicAdd(count, 1);
    __threadfence();
    atomicExch(lock, 0);
    done = true;
  }
}
WL_CASE(correct, spin_lock) {
  int* lock = t.upload<int>({0});
  int* count = t.upload<int>({0});
  launch(t.context, "lock_kernel", lock_kernel, 3, 64, 0, lock, count);
  t.equal(count, 1, [](int) { return 192; }, "count");
}

__global__ void in_place_kernel(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2.0f * x[i];
}
WL_CASE(correct, in_place_and_regions) {
  float* x = t.upload(std::vector<float>(300, 3.0f));
  float* z = t.empty<float>(101);
  t.device->begin_call("double", {{"x", x, 1200, Region::read}, {"y", x, 1200, Region::write}});
  launch(t.context, "in_place_kernel", in_place_kernel, 3, 128, 0, static_cast<const float*>(x), x, 300);
  t.device->end_call();
  t.device->begin_call("double",
                       {{"x", x + 7, 404, Region::read}, {"z", z, 404, Region::write}});  // regions may start and end anywhere
  launch(t.context, "in_place_kernel", in_place_kernel, 1, 128, 0, static_cast<const float*>(x + 7), z, 101);
  t.device->end_call();
  t.device->begin_call("halves",
                       {{"first", x, 600, Region::read}, {"second", x + 150, 600, Region::write}});  // two in one granule
  launch(t.context, "in_place_kernel", in_place_kernel, 2, 128, 0, static_cast<const float*>(x), x + 150, 150);
  t.device->end_call();
  t.equal(x, 300, [](int i) { return i < 150 ? 6.0f : 12.0f; }, "value");
  t.equal(z, 101, [](int) { return 12.0f; }, "value");
}

struct Wide {
  float v[6];
};
__global__ void structures_kernel(const Wide* in, Wide* out, const float3* in3, float3* out3) {
  const int i = threadIdx.x;
  Wide w = in[i];
  w.v[5] += 1.0f;
  out[i] = w;
  out3[i] = in3[i];
  float local[6];
  memcpy(local, &in[i], sizeof(local));
  out[i].v[0] = local[5];
}
WL_CASE(correct, structures_and_memcpy) {
  std::vector<float> values(10 * 6);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  float* in = t.upload(values);
  Wide* out = t.empty<Wide>(10);
  float3* out3 = t.empty<float3>(10);
  launch(t.context, "structures_kernel", structures_kernel, 1, 10, 0, reinterpret_cast<const Wide*>(in), out,
         reinterpret_cast<const float3*>(in), out3);
  t.equal(reinterpret_cast<float*>(out), 60, [](int i) { return i % 6 == 0 ? i + 5 : i % 6 == 5 ? i + 1 : i; }, "value");
  t.equal(reinterpret_cast<float*>(out3), 30, [](int i) { return i; }, "value");
}

constexpr float kTable[4] = {1.0f, 3.0f, 3.0f, 1.0f};
__device__ const int kOffsets[3] = {-1, 0, 1};
struct Options {
  int shape[5];
  float scale;
  const float* x;
};
__device__ __forceinline__ float stage(float* buffer, int i) {  // a barrier inside a function that two places call
  buffer[i] = static_cast<float>(i);
  __syncthreads();
  const float v = buffer[63 - i];
  __syncthreads();
  return v;
}
__global__ void tables_kernel(Options o, float* out) {
  WL_SHARED(float, s, [64]);
  const int i = threadIdx.x;
  float big[512];
  for (int k = 0; k < 512; ++k) big[k] = static_cast<float>(k);
  const float v = stage(s, i) + stage(s, i);
  out[i] = kTable[i % 4] * static_cast<float>(kOffsets[i % 3]) + o.scale * static_cast<float>(o.shape[i % 5]) + o.x[i] + v +
           big[(i * 7) % 512];
}
WL_CASE(correct, tables_parameters_and_local_arrays) {
  Options o = {{1, 2, 3, 4, 5}, 10.0f, t.upload(std::vector<float>(64, 0.5f))};
  float* out = t.empty<float>(64);
  launch(t.context, "tables_kernel", tables_kernel, 1, 64, 0, o, out);
  t.equal(
      out, 64,
      [](int i) {
        return kTable[i % 4] * static_cast<float>(i % 3 - 1) + 10.0f * static_cast<float>(i % 5 + 1) + 0.5f +
               2.0f * static_cast<float>(63 - i) + static_cast<float>(i * 7 % 512);
      },
      "value");
}

__global__ void ping_pong_kernel(const float* x, float* y, int blocks) {  // a block reads what another read, writes its own
  WL_SHARED(float, halo, [34]);
  const int i = blockIdx.x * 32 + threadIdx.x, n = blocks * 32;
  halo[threadIdx.x + 1] = x[i];
  if (threadIdx.x == 0) halo[0] = i > 0 ? x[i - 1] : 0.0f;
  if (threadIdx.x == 31) halo[33] = i + 1 < n ? x[i + 1] : 0.0f;
  __syncthreads();
  y[i] = halo[threadIdx.x] + halo[threadIdx.x + 1] + halo[threadIdx.x + 2];
}
WL_CASE(correct, halo_exchange_over_launches) {
  float* a = t.upload(std::vector<float>(320, 1.0f));
  float* b = t.empty<float>(320);
  for (int k = 0; k < 2; ++k) {
    launch(t.context, "ping_pong_kernel", ping_pong_kernel, 10, 32, 0, static_cast<const float*>(a), b, 10);
    launch(t.context, "ping_pong_kernel", ping_pong_kernel, 10, 32, 0, static_cast<const float*>(b), a, 10);
  }
  t.equal(a, 1, [](int) { return 21.0f + 9.0f + 16.0f - 16.0f + 5.0f; }, "first value");
  t.equal(a + 160, 1, [](int) { return 81.0f; }, "middle value");
}

__global__ void increment_kernel(float* x) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  x[i] = x[i] + 1.0f;
}
WL_CASE(correct, more_launches_than_the_checks_can_count) {  // the launch's number has 16 bits: see checks.h
  float* x = t.upload(std::vector<float>(128, 0.0f));
  for (int k = 0; k < 66000; ++k) launch(t.context, "increment_kernel", increment_kernel, 2, 64, 0, x);
  t.equal(x, 128, [](int) { return 66000.0f; }, "sum");
}

}  // namespace selftest
}  // namespace warploom
