// entries.h - inside v5: every file of this folder defines the entries of its operations; table.cu collects them.
#pragma once

#include "../ops.h"

namespace warploom::v5 {

Entry<Conv2dForward> conv2d_forward();
Entry<Conv2dBackwardInput> conv2d_backward_input();
Entry<Conv2dBackwardWeight> conv2d_backward_weight();
Entry<Conv2dBackwardBias> conv2d_backward_bias();
void run_errands(const Errand* list, int count, const SgdUpdate* update, const Context& context);

}  // namespace warploom::v5
