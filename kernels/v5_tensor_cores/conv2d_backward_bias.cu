// conv2d_backward_bias.cu (v5): db[oc] = the sum of dy over pixels; of a pooled dy over windows, scaled where the maximum was negative
// Layout: dy, saved [rows, C_out], a row a window of the pool; db [C_out]. Without a pool the kernel is v2's.
// One block owns a run of windows and 32 channels, a thread every eighth window of one channel; runs meet in a second pass.
// From v2: the activation's slope by the codes that the forward entry saved. Stays in float32. Expected bottleneck: memory.
// Preconditions: an activation only with a pool; workspace of C_out floats for each run.
#include <algorithm>

#include "../common/activation.cuh"
#include "../common/half_map.cuh"
#include "../common/portable.cuh"
#include "../v2_tiled_nhwc/table.h"
#include "choice.h"
#include "entries.h"

namespace warploom::v5 {

constexpr int kColumns = 32, kRows = 8;

__global__ __launch_bounds__(kColumns* kRows) void conv2d_backward_bias_pooled_kernel(
    int64_t rows, int64_t rows_per_run, int C_out, float negative_slope, int bytes, const void* __restrict__ dy,  // [rows, C_out]
    const unsigned char* __restrict__ saved,                                                                      // [rows, C_out]
    float* __restrict__ partials) {  // [gridDim.y, C_out]
  WL_SHARED(float, sums, [kRows][kColumns]);
  const int column = static_cast<int>(threadIdx.x) % kColumns, row = static_cast<int>(threadIdx.x) / kColumns;
  const int channel = static_cast<int>(blockIdx.x) * kColumns + column;
  const int64_t end = min((blockIdx.y + 1) * rows_per_run, rows);
  float sum = 0.0f;
  if (channel < C_out) {
    for (int64_t r = blockIdx.y * rows_per_run + row; r < end; r += kRows) {
      const float v = load_element<Bf16>(element_at<Bf16>(dy, r * C_out + channel, bytes), bytes);
      sum += saved[r * C_out + channel] & 4 ? sloped(v, negative_slope) : v;
    }
  }
  sums[row][column] = sum;
  __syncthreads();
  if (row != 0 || channel >= C_out) return;
  for (int i = 1; i < kRows; ++i) sum += sums[i][column];
  partials[static_cast<int64_t>(blockIdx.y) * C_out + channel] = sum;
}

__global__ void sum_bias_runs_kernel(int runs, int C_out, const float* __restrict__ partials,  // [runs, C_out]
                                     float* __restrict__ db) {                                 // [C_out]
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (channel >= C_out) return;
  float sum = 0.0f;
  for (int r = 0; r < runs; ++r) sum += partials[static_cast<int64_t>(r) * C_out + channel];
  db[channel] = sum;
}

// The sum of dy stays in float32; an upsample in front of the convolution is nothing to it.
static Conv2dBackwardBias plain(const Conv2dBackwardBias& a) {
  Conv2dBackwardBias p = in_float32(a);
  p.fusion.upsample = 1;
  return p;
}

struct RunPlan {
  int64_t rows, rows_per_run;
  int runs;
};
static RunPlan plan_for(const Conv2dBackwardBias& a) {
  RunPlan p;
  p.rows = int64_t(a.s.N) * (a.s.OH / 2) * (a.s.OW / 2);
  p.rows_per_run = std::max<int64_t>((p.rows + 255) / 256, 16 * kRows);
  p.runs = static_cast<int>(std::max<int64_t>((p.rows + p.rows_per_run - 1) / p.rows_per_run, 1));
  return p;
}
static bool pooled(const Conv2dBackwardBias& a) { return !wants_float32(a.fusion) && a.fusion.pool == 2; }

static void run(const Conv2dBackwardBias& a, const Context& context) {
  if (!pooled(a)) return v2::table().conv2d_backward_bias.run(plain(a), context);
  const RunPlan p = plan_for(a);
  const float slope = a.fusion.activation == Activation::leaky_relu ? a.fusion.negative_slope : 0.0f;
  launch(context, "v5::conv2d_backward_bias_pooled_kernel", conv2d_backward_bias_pooled_kernel,
         dim3(blocks_for(a.s.C_out, kColumns), static_cast<unsigned>(p.runs)), dim3(kColumns * kRows), 0, p.rows, p.rows_per_run,
         a.s.C_out, slope, static_cast<int>(dtype_bytes(gradient_type(a.fusion.y_type))), a.dy.data, a.saved.ptr<unsigned char>(),
         p.runs > 1 ? context.workspace.ptr() : a.db.ptr());
  if (p.runs == 1) return;
  launch(context, "v5::sum_bias_runs_kernel", sum_bias_runs_kernel, dim3(blocks_for(a.s.C_out, 128)), dim3(128), 0, p.runs,
         a.s.C_out, context.workspace.ptr(), a.db.ptr());
}

static std::string why_not(const Conv2dBackwardBias& a) {
  if (wants_float32(a.fusion)) return left_to_v2(a, v2::table().conv2d_backward_bias.why_not(a));
  if (a.fusion.pool == 2 && small_groups(a.s)) return left_to_v2(a, v2::table().conv2d_backward_bias.why_not(in_float32(a)));
  const std::string why = tensor_core_error(a, false);
  return !why.empty() || pooled(a) ? why : v2::table().conv2d_backward_bias.why_not(plain(a));
}

static int64_t workspace_bytes(const Conv2dBackwardBias& a) {
  if (pooled(a)) return plan_for(a).runs > 1 ? int64_t(plan_for(a).runs) * a.s.C_out * 4 : 0;
  const auto& entry = v2::table().conv2d_backward_bias;
  return entry.workspace_bytes ? entry.workspace_bytes(plain(a)) : 0;
}

Entry<Conv2dBackwardBias> conv2d_backward_bias() { return {run, why_not, workspace_bytes, nullptr, nullptr}; }

}  // namespace warploom::v5
