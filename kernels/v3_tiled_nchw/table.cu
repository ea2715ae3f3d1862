// table.cu - v3: the third rung. Starts from v2, turns the layout to NCHW and replaces all that knows the layout.
#include "../v2_tiled_nhwc/table.h"
#include "entries.h"
#include "table.h"

namespace warploom::v3 {

const OpTable& table() {
  static const OpTable table = [] {
    OpTable t = v2::table();  // what works on flat buffers, and the layout conversions, stay
    t.layout = Layout::nchw;
    t.weight_layout = WeightLayout::oihw;
    t.conv2d_forward = conv2d_forward;
    t.conv2d_backward_input = conv2d_backward_input;
    t.conv2d_backward_weight = conv2d_backward_weight;
    t.conv2d_backward_bias = conv2d_backward_bias;
    t.max_pool2d_forward = max_pool2d_forward;
    t.max_pool2d_backward = max_pool2d_backward;
    t.upsample_forward = upsample_forward;
    t.upsample_backward = upsample_backward;
    return t;
  }();
  return table;
}

}  // namespace warploom::v3
