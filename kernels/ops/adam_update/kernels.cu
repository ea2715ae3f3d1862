#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<AdamUpdate> adam_update() { return {}; }
}  // namespace warploom::shared
