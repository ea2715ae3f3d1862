// table.cu - v2: the second rung. Starts from v1 and replaces what changed.
#include "../v1_naive_nhwc/table.h"
#include "entries.h"
#include "table.h"

namespace warploom::v2 {

const OpTable& table() {
  static const OpTable t = [] {
    OpTable v = v1::table();  // gather_images and advance_cursor stay
    v.weight_layout = WeightLayout::hwio;
    v.conv2d_forward = conv2d_forward();
    v.conv2d_backward_input = conv2d_backward_input();
    v.conv2d_backward_weight = conv2d_backward_weight();
    v.conv2d_backward_bias = conv2d_backward_bias();
    v.max_pool2d_forward = max_pool2d_forward();
    v.max_pool2d_backward = max_pool2d_backward();
    v.upsample_forward = upsample_forward();
    v.upsample_backward = upsample_backward();
    v.activation_forward = activation_forward();
    v.activation_backward = activation_backward();
    v.mse_loss = mse_loss();
    v.sgd_update = sgd_update();
    v.add = add();
    v.layout_convert = layout_convert();
    return v;
  }();
  return t;
}

}  // namespace warploom::v2
