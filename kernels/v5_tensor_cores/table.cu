// table.cu - v5: the fifth rung. Starts from v2 (the same layouts, float32 and everything around convolutions) and takes the
// convolutions of lower precision to the tensor cores.
#include "../v2_tiled_nhwc/table.h"
#include "choice.h"
#include "entries.h"
#include "table.h"

namespace warploom::v5 {
namespace {

// The sum of dy stays in float32; an upsample in front of the convolution is nothing to it.
Conv2dBackwardBias plain(const Conv2dBackwardBias& a) {
  Conv2dBackwardBias p = in_float32(a);
  p.fusion.upsample = 1;
  return p;
}
void backward_bias(const Conv2dBackwardBias& a, const Context& context) {
  v2::table().conv2d_backward_bias.run(plain(a), context);
}
std::string backward_bias_why_not(const Conv2dBackwardBias& a) {
  if (wants_float32(a.fusion)) return v2::table().conv2d_backward_bias.why_not(a);
  const std::string why = tensor_core_error(a, false);
  return why.empty() ? v2::table().conv2d_backward_bias.why_not(plain(a)) : why;
}
int64_t backward_bias_workspace(const Conv2dBackwardBias& a) {
  const auto& entry = v2::table().conv2d_backward_bias;
  return entry.workspace_bytes ? entry.workspace_bytes(plain(a)) : 0;
}

}  // namespace

const OpTable& table() {
  static const OpTable t = [] {
    OpTable v = v2::table();
    v.version = "v5";
    v.summary =
        "NHWC: implicit GEMM on tensor cores (bf16, fp16, tf32), bias and activation in the epilogue, upsample in the loads";
    v.conv2d_forward = conv2d_forward();
    v.conv2d_backward_input = conv2d_backward_input();
    v.conv2d_backward_weight = conv2d_backward_weight();
    v.conv2d_backward_bias = {backward_bias, backward_bias_why_not, backward_bias_workspace, nullptr, nullptr};
    return v;
  }();
  return t;
}

}  // namespace warploom::v5
