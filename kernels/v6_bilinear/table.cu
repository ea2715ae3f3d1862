// table.cu - v6: the sixth rung. Starts from v5 (tensor cores for lower precision, v2 around them) and computes float32 convolutions by
// bilinear schemes where these need fewer multiplications and pay for their transforms, and a first layer directly.
#include "../v5_tensor_cores/table.h"
#include "entries.h"
#include "table.h"

namespace warploom::v6 {

const OpTable& table() {
  static const OpTable t = [] {
    OpTable v = v5::table();
    v.float32_from = "";
    v.conv2d_forward = conv2d_forward();
    v.conv2d_backward_input = conv2d_backward_input();
    v.conv2d_backward_weight = conv2d_backward_weight();
    v.conv2d_backward_bias = conv2d_backward_bias();
    v.conv2d_backward = conv2d_backward();
    return v;
  }();
  return t;
}

}  // namespace warploom::v6
