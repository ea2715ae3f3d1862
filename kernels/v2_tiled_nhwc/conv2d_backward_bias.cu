// conv2d_backward_bias.cu (v2): db[oc] = sum over n,oh,ow of dy[n,oh,ow,oc], the column sums of a tall matrix
// Layout: dy [rows, C_out] with rows = N*OH*OW, db [C_out].
// One block owns a run of rows and up to kThreads channels; it reads dy in order, a thread keeping to one channel because its
//   stride is a multiple of C_out.
// From v1: block reductions and a second pass instead of one thread a channel.
// Expected bottleneck: memory bandwidth.
// Preconditions: no fusion; workspace of C_out floats for each run.
#include <algorithm>

#include "../common/half_map.cuh"
#include "../common/preconditions.h"
#include "entries.h"
#include "partials.h"

namespace warploom::v2 {

// `width` channels from `first` on; the first width * (kThreads / width) threads work, thread t on channel first + t % width.
// bytes: of an element of dy, 4 or, of bf16, 2.
__global__ void conv2d_backward_bias_kernel(int64_t rows, int64_t rows_per_run, int C_out, int tiles, int bytes,
                                            const void* __restrict__ dy,     // [rows, C_out]
                                            float* __restrict__ partials) {  // [runs, C_out]
  WL_SHARED(float, sums, [kThreads]);
  const int t = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.x) % tiles * kThreads, run = static_cast<int>(blockIdx.x) / tiles;
  const int width = min(C_out - first, kThreads), height = kThreads / width;  // threads a row, rows at a time
  const int channel = t % width, row = t / width;
  const int64_t end = (run + 1) * rows_per_run < rows ? (run + 1) * rows_per_run : rows;
  float sum = 0.0f;
  if (row < height) {
    const auto at = [&](int64_t i) {
      return load_element<Bf16>(element_at<Bf16>(dy, i * C_out + first + channel, bytes), bytes);
    };
    int64_t r = run * rows_per_run + row;
    for (; r + 3 * height < end; r += 4 * height) {  // four loads in flight
      const float a = at(r), b = at(r + height), c = at(r + 2 * height), d = at(r + 3 * height);
      sum += (a + b) + (c + d);
    }
    for (; r < end; r += height) sum += at(r);
  }
  sums[t] = sum;
  __syncthreads();
  if (t >= width) return;
  for (int i = 1; i < height; ++i) sum += sums[i * width + t];
  partials[static_cast<int64_t>(run) * C_out + first + t] = sum;
}

struct BiasPlan {
  int64_t rows, rows_per_run;
  int tiles, runs;
};

static BiasPlan plan_for(const Conv2dShape& s) {
  BiasPlan p;
  p.rows = int64_t(s.N) * s.OH * s.OW;
  p.tiles = (s.C_out + kThreads - 1) / kThreads;
  const int64_t height = kThreads / std::min(s.C_out, kThreads);
  const int64_t runs = std::max(int64_t(1), std::min((p.rows + 32 * height - 1) / (32 * height), int64_t(512) / p.tiles));
  p.rows_per_run = std::max(int64_t(1), (p.rows + runs - 1) / runs);
  p.runs = static_cast<int>(std::max(int64_t(1), (p.rows + p.rows_per_run - 1) / p.rows_per_run));
  return p;
}

static int64_t workspace_bytes(const Conv2dBackwardBias& a) {
  const BiasPlan p = plan_for(a.s);
  return p.runs > 1 ? int64_t(p.runs) * a.s.C_out * 4 : 0;
}

static void run(const Conv2dBackwardBias& a, const Context& context) {
  const BiasPlan p = plan_for(a.s);
  float* partials = p.runs > 1 ? context.workspace.ptr() : a.db.ptr();
  launch(context, "v2::conv2d_backward_bias_kernel", conv2d_backward_bias_kernel, dim3(blocks_for(int64_t(p.tiles) * p.runs, 1)),
         dim3(kThreads), 0, p.rows, p.rows_per_run, a.s.C_out, p.tiles,
         static_cast<int>(dtype_bytes(gradient_type(a.fusion.y_type))), a.dy.data, partials);
  if (p.runs > 1) reduce_partials(context, partials, p.runs, a.s.C_out, a.db.ptr());
}

// Of all that v2 reads only this gradient may be in 16 bits: versions that store such maps sum them here.
static std::string why_not(const Conv2dBackwardBias& a) {
  Conv2dBackwardBias sum = a;
  const DType dy = gradient_type(a.fusion.y_type);
  sum.fusion.x_type = DType::f32;  // not read
  if (dy == DType::f32 || dy == DType::bf16) sum.fusion.y_type = DType::f32;
  return plain_conv2d(sum);
}

Entry<Conv2dBackwardBias> conv2d_backward_bias() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::v2
