// table.cu - v4: v3 with the convolutions replaced by im2col and matrix products.
#include "../v3_tiled_nchw/table.h"
#include "plan.h"
#include "table.h"

namespace warploom::v4 {

const OpTable& table() {
  static const OpTable table = [] {
    OpTable t = v3::table();
    t.conv2d_forward = conv2d_forward;
    t.conv2d_backward_input = conv2d_backward_input;
    t.conv2d_backward_weight = conv2d_backward_weight;
    return t;
  }();
  return table;
}

}  // namespace warploom::v4
