#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<MultiplyForward> multiply_forward() { return {}; }
Entry<MultiplyBackward> multiply_backward() { return {}; }
}  // namespace warploom::shared
