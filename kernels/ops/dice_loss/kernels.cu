#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<DiceLoss> dice_loss() { return {}; }
}  // namespace warploom::shared
