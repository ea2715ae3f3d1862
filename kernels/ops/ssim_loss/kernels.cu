#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<SsimLoss> ssim_loss() { return {}; }
}  // namespace warploom::shared
