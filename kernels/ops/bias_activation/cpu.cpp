#include "csrc/cpu/entries.h"

namespace warploom::cpu {
Entry<BiasActivation> bias_activation() { return {}; }
}  // namespace warploom::cpu
