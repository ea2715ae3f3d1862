#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<RmspropUpdate> rmsprop_update() { return {}; }
}  // namespace warploom::shared
