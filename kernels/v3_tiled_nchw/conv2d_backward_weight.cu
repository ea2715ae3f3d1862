// Maths    dw = sum over the splits of the partial gradients that weight_gradient_3x3.cu or weight_gradient_general.cu leave.
// Layout   partial [splits, C_out, C_in / groups, KH, KW]; dw oihw.
// Owns     A thread owns one weight and adds the splits in order: the same bits every time.
// Bound    memory, and small beside the first pass.
// Needs    a plain convolution.
#include <algorithm>

#include "../common/preconditions.h"
#include "entries.h"
#include "weight_gradient.h"

namespace warploom::v3 {

// partial: [splits, count]; dw: [count]
__global__ void sum_splits_kernel(int count, int splits, const float* __restrict__ partial, float* __restrict__ dw) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  float sum = 0.0f;
  for (int split = 0; split < splits; ++split) sum += partial[int64_t(split) * count + at];
  dw[at] = sum;
}

void choose_splits(const Conv2dShape& s, WeightGradientPlan& plan) {
  constexpr int64_t kBlocks = 264, kPartialBytes = int64_t(16) << 20;
  const int64_t blocks = int64_t(plan.blocks_o) * plan.blocks_r * s.groups;
  plan.tiles = int64_t(s.N) * plan.tiles_h * plan.tiles_w, plan.weights = s.w_count();
  const int64_t held = std::max<int64_t>(1, kPartialBytes / (4 * std::max<int64_t>(1, plan.weights)));
  const int64_t splits = std::max<int64_t>(1, std::min({(kBlocks + blocks - 1) / blocks, held, plan.tiles}));
  plan.tiles_per_split = std::max<int64_t>(1, (plan.tiles + splits - 1) / splits);
  plan.splits = static_cast<int>(std::max<int64_t>(1, (plan.tiles + plan.tiles_per_split - 1) / plan.tiles_per_split));
}

static WeightGradientPlan plan_for(const Conv2dShape& s) { return is_3x3(s) ? plan_3x3(s) : plan_general(s); }

static void run(const Conv2dBackwardWeight& a, const Context& context) {
  const WeightGradientPlan plan = plan_for(a.s);
  float* const partial = plan.splits > 1 ? context.workspace.ptr() : a.dw.ptr();
  if (is_3x3(a.s))
    weight_gradient_3x3(a.s, plan, a.dy.ptr(), a.x.ptr(), partial, context);
  else
    weight_gradient_general(a.s, plan, a.dy.ptr(), a.x.ptr(), partial, context);
  if (plan.splits == 1) return;
  const int count = static_cast<int>(a.s.w_count());
  launch(context, "v3::sum_splits", sum_splits_kernel, dim3(blocks_for(count, 256)), dim3(256), 0, count, plan.splits, partial,
         a.dw.ptr());
}

static int64_t workspace_bytes(const Conv2dBackwardWeight& a) {
  const WeightGradientPlan plan = plan_for(a.s);
  return plan.splits > 1 ? plan.splits * a.s.w_count() * 4 : 0;
}

const Entry<Conv2dBackwardWeight> conv2d_backward_weight = {run, plain_conv2d<Conv2dBackwardWeight>, workspace_bytes, nullptr};

}  // namespace warploom::v3
