// shared.h - the operations that all versions share: one implementation each, in ops/<name>/kernels.cu.
#pragma once

#include "kernels/ops.h"

namespace warploom::shared {

#define WL_OP(name, Args)
#define WL_SHARED_OP(name, Args) Entry<Args> name();
#include "kernels/ops.def"
#undef WL_OP

// Puts them into the table of a version; what a version does better it replaces afterwards.
void fill(OpTable& table);

}  // namespace warploom::shared
