#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<GradientNorm> gradient_norm() { return {}; }
}  // namespace warploom::shared
