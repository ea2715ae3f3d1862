#include "kernels/ops/shared.h"

namespace warploom::shared {
Entry<RmsNormForward> rms_norm_forward() { return {}; }
Entry<RmsNormBackward> rms_norm_backward() { return {}; }
}  // namespace warploom::shared
