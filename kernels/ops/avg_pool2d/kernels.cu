#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<AvgPool2dForward> avg_pool2d_forward() { return {}; }
Entry<AvgPool2dBackward> avg_pool2d_backward() { return {}; }
}  // namespace warploom::shared
