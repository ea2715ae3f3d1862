#include "shared.h"

namespace warploom::shared {

void fill(OpTable& table) {
#define WL_OP(name, Args)
#define WL_SHARED_OP(name, Args) table.name = name();
#include "kernels/ops.def"
#undef WL_OP
}

}  // namespace warploom::shared
