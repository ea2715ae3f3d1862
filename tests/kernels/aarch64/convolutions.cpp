// convolutions.cpp - the cpu kernel set of another architecture, loaded as the engine loads it: every algorithm's convolution and
// gradients against plain loops. .ci/run builds it with the kernel set for aarch64 and runs it in an emulator; where there is Python,
// tests/kernels/test_cpu_algorithms.py does far more.
// Usage: convolutions cpu_baseline.so
#include <dlfcn.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/device.h"

using namespace warploom;

namespace {

struct Shape {
  int N, C, H, W, out, kernel, stride, pad, groups, upsample, pool;
};
constexpr Shape kShapes[] = {
    {2, 5, 7, 9, 6, 3, 1, 1, 1, 1, 1},    {1, 16, 8, 8, 17, 3, 1, 1, 1, 1, 1}, {2, 3, 12, 10, 20, 3, 1, 1, 1, 1, 2},
    {1, 17, 33, 31, 8, 3, 1, 1, 1, 1, 1}, {2, 8, 6, 10, 7, 3, 1, 1, 1, 2, 1},  {1, 32, 12, 12, 3, 3, 1, 1, 1, 2, 1},
    {1, 4, 9, 9, 5, 5, 2, 2, 1, 1, 1},    {2, 6, 8, 8, 6, 4, 2, 1, 1, 1, 1},   {3, 12, 5, 5, 9, 1, 1, 0, 1, 1, 1},
    {1, 8, 9, 7, 8, 3, 1, 1, 8, 1, 1},    {1, 3, 1, 1, 4, 3, 1, 1, 1, 1, 1}};
constexpr const char* kAlgorithms[] = {"im2col",     "rows",       "pointwise", "depthwise", "direct",    "columns",  "upsample9",
                                       "upsample25", "upsample81", "winograd2", "winograd4", "strided25", "strided36"};
constexpr double kAllowed = 1e-5;  // sums of at most some hundred products of numbers below 1

std::vector<float> numbers(int64_t count, unsigned seed) {
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int>(seed >> 9) % 2001 - 1000) / 1000.0f;
  }
  return v;
}

template <class Buffer>
Buffer buffer(std::vector<float>& v) {
  Buffer b;
  b.data = v.data(), b.bytes = static_cast<int64_t>(v.size() * sizeof(float));
  return b;
}

template <class Args>
void run(const Entry<Args>& entry, const Args& a, Device& device) {
  std::vector<char> workspace(static_cast<size_t>(entry.workspace_bytes(a)) + 64);
  Context context;
  context.stream = device.stream(), context.device = &device.info();
  context.workspace.data = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(workspace.data()) + 63) / 64 * 64);
  context.workspace.bytes = static_cast<int64_t>(workspace.size()) - 64;
  entry.run(a, context);
  device.synchronize();
}

// Beside the largest expected value, where that is more than one. A NaN stays.
void compare(const std::vector<double>& expected, const std::vector<float>& got, double& worst) {
  double largest = 1;
  for (double v : expected) largest = std::fmax(largest, std::fabs(v));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double off = std::fabs(expected[i] - got[i]) / largest;
    if (!(off <= worst)) worst = off;
  }
}

// The largest error of relu(conv(upsample(x)) + bias), pooled, and of its gradients; x NHWC, w HWIO. Below 0: not this algorithm's.
double error_of(const Shape& c, const char* algorithm, const OpTable& table, Device& device) {
  Conv2dForward a;
  Conv2dShape& s = a.s;
  s.N = c.N, s.C_in = c.C, s.H = c.H, s.W = c.W, s.C_out = c.out, s.KH = s.KW = c.kernel, s.stride_h = s.stride_w = c.stride;
  s.pad_top = s.pad_bottom = s.pad_left = s.pad_right = c.pad, s.groups = c.groups;
  s.OH = (c.H + 2 * c.pad - c.kernel) / c.stride + 1, s.OW = (c.W + 2 * c.pad - c.kernel) / c.stride + 1;
  a.fusion.upsample = c.upsample, a.fusion.pool = c.pool, a.fusion.activation = Activation::relu;
  const auto& forward = table.conv2d_forward;
  if (!forward.why_not(a).empty() || std::string(forward.algorithm(a)) != algorithm) return -1;
  const int rows = s.OH / c.pool, cols = s.OW / c.pool, small_H = c.H / c.upsample, small_W = c.W / c.upsample;
  const int64_t y_count = int64_t(c.N) * c.out * rows * cols;
  std::vector<float> x = numbers(int64_t(c.N) * c.C * small_H * small_W, 1), w = numbers(s.w_count(), 2),
                     bias = numbers(c.out, 3), dy = numbers(y_count, 4);
  const float unset = std::nanf("");
  std::vector<float> y(static_cast<size_t>(y_count), unset), dx(x.size(), unset), dw(w.size(), unset), db(bias.size(), unset);
  std::vector<char> saved(static_cast<size_t>(forward.saved_bytes(a)));
  a.x = buffer<In>(x), a.w = buffer<In>(w), a.bias = buffer<In>(bias), a.y = buffer<Out>(y);
  Conv2dBackward b;
  b.s = s, b.fusion = a.fusion, b.dy = buffer<In>(dy), b.x = a.x, b.w = a.w, b.y = buffer<In>(y);
  b.dx = buffer<Out>(dx), b.dw = buffer<Out>(dw), b.db = buffer<Out>(db);
  if (!saved.empty()) {
    a.saved.data = saved.data(), b.saved.data = saved.data();
    a.saved.bytes = b.saved.bytes = static_cast<int64_t>(saved.size());
  }
  run(forward, a, device);
  run(table.conv2d_backward, b, device);

  const int in_group = c.C / c.groups, out_group = c.out / c.groups;
  // f(index in x, index in w) of every product behind output o of the full map's pixel (i, j).
  auto products = [&](int n, int i, int j, int o, auto&& f) {
    for (int kh = 0; kh < c.kernel; ++kh)
      for (int kw = 0; kw < c.kernel; ++kw) {
        const int row = i * c.stride + kh - c.pad, col = j * c.stride + kw - c.pad;
        if (row < 0 || col < 0 || row >= c.H || col >= c.W) continue;
        const int at = ((n * small_H + row / c.upsample) * small_W + col / c.upsample) * c.C + o / out_group * in_group;
        for (int k = 0; k < in_group; ++k)
          f(static_cast<size_t>(at + k), static_cast<size_t>(((kh * c.kernel + kw) * in_group + k) * c.out + o));
      }
  };
  std::vector<double> right_y(y.size()), right_dx(x.size()), right_dw(w.size()), right_db(bias.size());
  for (int n = 0; n < c.N; ++n)
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < cols; ++j)
        for (int o = 0; o < c.out; ++o) {
          const auto at = static_cast<size_t>(((n * rows + i) * cols + j) * c.out + o);
          double largest = -HUGE_VAL;
          int winner = 0;
          for (int p = 0; p < c.pool * c.pool; ++p) {
            double sum = bias[static_cast<size_t>(o)];
            products(n, i * c.pool + p / c.pool, j * c.pool + p % c.pool, o,
                     [&](size_t u, size_t v) { sum += double(x[u]) * w[v]; });
            if (sum > largest) largest = sum, winner = p;
          }
          right_y[at] = std::fmax(largest, 0.0);
          if (largest <= 0) continue;
          const double g = dy[at];
          right_db[static_cast<size_t>(o)] += g;
          products(n, i * c.pool + winner / c.pool, j * c.pool + winner % c.pool, o,
                   [&](size_t u, size_t v) { right_dx[u] += g * w[v], right_dw[v] += g * x[u]; });
        }
  double worst = 0;
  compare(right_y, y, worst), compare(right_dx, dx, worst), compare(right_dw, dw, worst), compare(right_db, db, worst);
  return worst;
}

}  // namespace

int main(int count, char** arguments) {
  void* library = count == 2 ? dlopen(arguments[1], RTLD_NOW) : nullptr;
  auto* const open = library ? reinterpret_cast<const DeviceLibrary* (*)()>(dlsym(library, "warploom_device_library")) : nullptr;
  if (!open) return std::fprintf(stderr, "convolutions: no kernel set: %s\n", count == 2 ? dlerror() : "give a library"), 2;
  Device* device = open()->open(0);
  int wrong = 0;
  for (const char* algorithm : kAlgorithms) {
    setenv("WARPLOOM_CPU_CONV", algorithm, 1);
    int ran = 0;
    double worst = 0;
    for (const Shape& shape : kShapes) {
      const double error = error_of(shape, algorithm, *open()->tables[0], *device);
      if (error < 0) continue;
      ++ran;
      if (!(error <= worst)) worst = error;
    }
    const bool good = ran > 0 && worst <= kAllowed;
    std::printf("%-10s %2d shapes, largest error %.1e%s\n", algorithm, ran, worst, good ? "" : "  WRONG");
    wrong += !good;
  }
  return wrong != 0;
}
