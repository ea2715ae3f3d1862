// table.cu - v5: the fifth rung. Starts from v2 (the same layouts, float32 and everything around convolutions) and takes the
// convolutions of lower precision to the tensor cores.
#include "../v2_tiled_nhwc/table.h"
#include "entries.h"
#include "table.h"

namespace warploom::v5 {
const OpTable& table() {
  static const OpTable t = [] {
    OpTable v = v2::table();
    v.float32_from = "v2";
    v.conv2d_forward = conv2d_forward();
    v.conv2d_backward_input = conv2d_backward_input();
    v.conv2d_backward_weight = conv2d_backward_weight();
    v.conv2d_backward_bias = conv2d_backward_bias();
    v.run_errands = run_errands;
    return v;
  }();
  return t;
}

}  // namespace warploom::v5
