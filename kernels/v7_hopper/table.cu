// table.cu - v7: the seventh rung. Starts from v6 (float32 by bilinear schemes, lower precision as v5) and computes convolutions of lower
// precision and their gradients with what Hopper adds: wgmma, bulk tensor copies, barriers that count them.
#include "../v6_bilinear/table.h"
#include "entries.h"
#include "table.h"

namespace warploom::v7 {

const OpTable& table() {
  static const OpTable t = [] {
    OpTable v = v6::table();
    v.float32_from = "v6";
    v.compute_capability = 90;
    v.conv2d_forward = conv2d_forward();
    v.conv2d_backward_input = conv2d_backward_input();
    v.conv2d_backward_weight = conv2d_backward_weight();
    return v;
  }();
  return t;
}

}  // namespace warploom::v7
