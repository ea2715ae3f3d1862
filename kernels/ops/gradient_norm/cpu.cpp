#include "csrc/cpu/entries.h"

namespace warploom::cpu {
Entry<GradientNorm> gradient_norm() { return {}; }
}  // namespace warploom::cpu
