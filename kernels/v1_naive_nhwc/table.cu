// table.cu - v1: the first rung. Every operation the plainest way; later versions start from this table.
#include "../ops/shared.h"
#include "entries.h"
#include "table.h"

namespace warploom::v1 {

const OpTable& table() {
  static const OpTable t = [] {
    OpTable v;
    shared::fill(v);
    v.layout = Layout::nhwc;
    v.weight_layout = WeightLayout::ohwi;
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
    v.gather_images = gather_images();
    v.advance_cursor = advance_cursor();
    return v;
  }();
  return t;
}

}  // namespace warploom::v1
