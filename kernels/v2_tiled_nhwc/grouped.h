// grouped.h - inside v2: convolutions whose groups have so few channels that a GEMM tile would stand empty (depthwise above all).
#pragma once

#include "table.h"

namespace warploom::v2 {

void grouped_forward(const Conv2dForward& a, const Context& context);
void grouped_backward_input(const Conv2dBackwardInput& a, const Context& context);
void grouped_backward_weight(const Conv2dBackwardWeight& a, const Context& context);
int grouped_splits(const Conv2dShape& s);  // partial sums per weight, each of w_count() floats of workspace

}  // namespace warploom::v2
