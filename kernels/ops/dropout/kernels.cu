// dropout/kernels.cu: y = x * mask / keep, the mask drawn by counter: see args.h
// Layout: NCHW as rows (n, c) of `inner` elements, NHWC as [N, inner, C]; one block of random words serves four neighbours of a row.
// One thread owns four neighbouring positions of one channel: in NCHW one 16-byte access where shape and pointers allow it, in NHWC
//   four accesses, each of neighbouring channels by neighbouring threads.
// One implementation for all versions. Expected bottleneck: memory bandwidth; ten rounds of Philox hide behind it.
// Preconditions: see dropout_error; y may be x (hence no __restrict__).
#include "../maps.cuh"
#include "../shared.h"
#include "kernels/common/philox.cuh"
#include "preconditions.h"

namespace warploom::shared {

struct DropoutDraw {
  uint32_t limit, stream, key_low, key_high;
  float scale;  // of what stays
  int whole_channels;

  // The factors of positions 4 * group .. 4 * group + 3 of a channel row.
  __device__ __forceinline__ Floats<4> factors(int group, int64_t row, int step) const {
    const uint32_t first = whole_channels ? 0u : static_cast<uint32_t>(group);
    const Draws4 d = philox4(first, static_cast<uint32_t>(row), static_cast<uint32_t>(step), stream, key_low, key_high);
    Floats<4> f;
    WL_UNROLL
    for (int e = 0; e < 4; ++e) f.v[e] = d.word[whole_channels ? 0 : e] < limit ? scale : 0.0f;
    return f;
  }
};

template <bool kVector>
__global__ void dropout_rows_kernel(int64_t units, FastDivisor groups, int inner, DropoutDraw draw,
                                    const int* __restrict__ step,  // [1]
                                    const float* x,                // [rows, inner]
                                    float* y) {                    // [rows, inner]
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kThreads;
  if (base + threadIdx.x >= units) return;
  const int64_t base_row = base / groups.divisor;
  const int local = static_cast<int>(base - base_row * groups.divisor) + static_cast<int>(threadIdx.x);
  const int rows = groups.quotient(local), group = groups.remainder(local, rows);
  const int64_t row = base_row + rows, offset = row * inner + 4 * static_cast<int64_t>(group);
  const Floats<4> f = draw.factors(group, row, step[0]);
  if constexpr (kVector) {
    Floats<4> v = load_floats<4>(x + offset);
    WL_UNROLL
    for (int e = 0; e < 4; ++e) v.v[e] *= f.v[e];
    store_floats<4>(y + offset, v);
  } else {
    WL_UNROLL
    for (int e = 0; e < 4; ++e)
      if (4 * group + e < inner) y[offset + e] = x[offset + e] * f.v[e];
  }
}

__global__ void dropout_channels_kernel(int64_t units, FastDivisor channels, FastDivisor groups, int inner, DropoutDraw draw,
                                        const int* __restrict__ step,  // [1]
                                        const float* x,                // [N, inner, C]
                                        float* y) {                    // [N, inner, C]
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kThreads;
  if (base + threadIdx.x >= units) return;
  const int64_t base_outer = base / channels.divisor, base_image = base_outer / groups.divisor;
  const int local = static_cast<int>(base - base_outer * channels.divisor) + static_cast<int>(threadIdx.x);
  const int outers = channels.quotient(local), channel = channels.remainder(local, outers);
  const int place = static_cast<int>(base_outer - base_image * groups.divisor) + outers;
  const int images = groups.quotient(place), group = groups.remainder(place, images);
  const int64_t image = base_image + images, C = channels.divisor;
  const Floats<4> f = draw.factors(group, image * C + channel, step[0]);
  WL_UNROLL
  for (int e = 0; e < 4; ++e) {
    if (4 * group + e >= inner) break;
    const int64_t offset = (image * inner + 4 * group + e) * C + channel;
    y[offset] = x[offset] * f.v[e];
  }
}

static void run(const Dropout& a, const Context& context) {
  const int64_t groups = (a.inner + 3) / 4, units = a.N * a.C * groups;
  const DropoutDraw draw = {draw_limit(a.keep),
                            static_cast<uint32_t>(a.stream),
                            static_cast<uint32_t>(a.seed),
                            static_cast<uint32_t>(static_cast<uint64_t>(a.seed) >> 32),
                            a.keep > 0.0f ? 1.0f / a.keep : 0.0f,
                            a.whole_channels};
  const dim3 grid(blocks_for(units, kThreads));
  const int inner = static_cast<int>(a.inner);
  if (a.layout == Layout::nhwc && a.C > 1 && a.inner > 1) {
    launch(context, "shared::dropout_channels_kernel", dropout_channels_kernel, grid, dim3(kThreads), 0, units,
           FastDivisor(static_cast<int>(a.C)), FastDivisor(static_cast<int>(groups)), inner, draw, a.step.ptr<int>(), a.x.ptr(),
           a.y.ptr());
    return;
  }
  const auto kernel = a.inner % 4 == 0 && aligned16(a.x.data, a.y.data) ? dropout_rows_kernel<true> : dropout_rows_kernel<false>;
  launch(context, "shared::dropout_rows_kernel", kernel, grid, dim3(kThreads), 0, units, FastDivisor(static_cast<int>(groups)),
         inner, draw, a.step.ptr<int>(), a.x.ptr(), a.y.ptr());
}

Entry<Dropout> dropout() { return {run, dropout_error, nullptr, nullptr}; }

}  // namespace warploom::shared
