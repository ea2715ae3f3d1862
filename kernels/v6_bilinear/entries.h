// entries.h - inside v6: every file of this folder defines the entries of its operations; table.cu collects them.
#pragma once

#include "../ops.h"

namespace warploom::v6 {

Entry<Conv2dForward> conv2d_forward();
Entry<Conv2dBackwardInput> conv2d_backward_input();
Entry<Conv2dBackwardWeight> conv2d_backward_weight();
Entry<Conv2dBackwardBias> conv2d_backward_bias();
Entry<Conv2dBackward> conv2d_backward();

}  // namespace warploom::v6
