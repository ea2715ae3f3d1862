// table.h - what v2 gives to others: its table of operations, and which convolutions it takes by groups.
#pragma once

#include "../ops.h"

namespace warploom::v2 {
const OpTable& table();

// Whether a group has at most 4 channels in and out (depthwise: 1 and 1): for these v2 has kernels of their own (conv2d_grouped.cu).
inline bool small_groups(const Conv2dShape& s) { return s.groups > 1 && s.C_in / s.groups <= 4 && s.C_out / s.groups <= 4; }
}  // namespace warploom::v2
