// rms_norm/cpu.cpp - root-mean-square normalisation on the host: a task owns rows; the second pass over a row finds it in cache.
// Sums of squares in double, as the kernels have them: they neither overflow nor lose small terms.
#include <cmath>

#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

using vd = double __attribute__((vector_size(kWidth * 8)));

double row_dot(const float* a, const float* b, int64_t n) {
  vd sum{};
  for (int64_t i = 0; i < n; i += kWidth) {
    const int count = static_cast<int>(std::min<int64_t>(kWidth, n - i));
    sum += __builtin_convertvector(load_part(a + i, count), vd) * __builtin_convertvector(load_part(b + i, count), vd);
  }
  double total = 0.0;
  for (int lane = 0; lane < kWidth; ++lane) total += sum[lane];
  return total;
}

template <class F>
void for_rows(int64_t rows, int64_t cols, F&& f) {
  parallel_blocks(rows, std::max<int64_t>(1, kTaskElements / cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) f(row, row * cols);
  });
}

void run_forward(const RmsNormForward& a, const Context&) {
  const float* x = a.x.ptr();
  float *y = a.y.ptr(), *inv_rms = a.inv_rms.ptr();
  for_rows(a.rows, a.cols, [=](int64_t row, int64_t base) {
    const double mean = row_dot(x + base, x + base, a.cols) / static_cast<double>(a.cols);
    const float inv = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(a.eps)));
    if (inv_rms) inv_rms[row] = inv;
    for (int64_t i = 0; i < a.cols; i += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, a.cols - i));
      store_part(y + base + i, load_part(x + base + i, n) * inv, n);
    }
  });
}

void run_backward(const RmsNormBackward& a, const Context&) {
  const float *dy = a.dy.ptr(), *x = a.x.ptr(), *inv_rms = a.inv_rms.ptr();
  float* dx = a.dx.ptr();
  for_rows(a.rows, a.cols, [=](int64_t row, int64_t base) {
    const double inv = inv_rms[row], mean = row_dot(dy + base, x + base, a.cols) / static_cast<double>(a.cols);
    const float by_dy = inv_rms[row], by_x = static_cast<float>(-inv * inv * inv * mean);
    for (int64_t i = 0; i < a.cols; i += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, a.cols - i));
      store_part(dx + base + i, load_part(dy + base + i, n) * by_dy + load_part(x + base + i, n) * by_x, n);
    }
  });
}

}  // namespace

Entry<RmsNormForward> rms_norm_forward() { return {run_forward, rms_norm_error<RmsNormForward>, nullptr, nullptr}; }
Entry<RmsNormBackward> rms_norm_backward() { return {run_backward, rms_norm_error<RmsNormBackward>, nullptr, nullptr}; }

}  // namespace warploom::cpu
