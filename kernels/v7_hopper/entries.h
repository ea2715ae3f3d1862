// entries.h - inside v7: the entries of its operations, which table.cu collects.
#pragma once

#include "../ops.h"

namespace warploom::v7 {

Entry<Conv2dForward> conv2d_forward();
Entry<Conv2dBackwardInput> conv2d_backward_input();
Entry<Conv2dBackwardWeight> conv2d_backward_weight();

}  // namespace warploom::v7
