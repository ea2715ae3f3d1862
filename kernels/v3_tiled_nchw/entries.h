// entries.h - what v3 replaces in v2's table.
#pragma once

#include "../ops.h"

namespace warploom::v3 {

extern const Entry<Conv2dForward> conv2d_forward;
extern const Entry<Conv2dBackwardInput> conv2d_backward_input;
extern const Entry<Conv2dBackwardWeight> conv2d_backward_weight;
extern const Entry<Conv2dBackwardBias> conv2d_backward_bias;
extern const Entry<MaxPool2dForward> max_pool2d_forward;
extern const Entry<MaxPool2dBackward> max_pool2d_backward;
extern const Entry<UpsampleForward> upsample_forward;
extern const Entry<UpsampleBackward> upsample_backward;

}  // namespace warploom::v3
