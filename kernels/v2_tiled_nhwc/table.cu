// table.cu - v2: the second rung. Starts from v1 and replaces what changed.
#include "table.h"

#include "../v1_naive_nhwc/table.h"

namespace warploom::v2 {

const OpTable& table() {
  static const OpTable t = [] {
    OpTable v = v1::table();
    v.version = "v2";
    v.summary = "NHWC: coalesced over channels, shared-memory tiles, vector loads, block reductions";
    v.weight_layout = WeightLayout::hwio;
    v.conv2d_forward = {};
    v.conv2d_backward_input = {};
    v.conv2d_backward_weight = {};
    return v;
  }();
  return t;
}

}  // namespace warploom::v2
