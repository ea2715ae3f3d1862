#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<AdabeliefUpdate> adabelief_update() { return {}; }
}  // namespace warploom::shared
