#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<RmseLoss> rmse_loss() { return {}; }
}  // namespace warploom::shared
