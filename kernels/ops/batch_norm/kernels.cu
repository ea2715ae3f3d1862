#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<BatchNormForward> batch_norm_forward() { return {}; }
Entry<BatchNormBackward> batch_norm_backward() { return {}; }
Entry<BatchNormFold> batch_norm_fold() { return {}; }
}  // namespace warploom::shared
