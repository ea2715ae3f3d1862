#include "csrc/cpu/entries.h"

namespace warploom::cpu {
Entry<ConcatForward> concat_forward() { return {}; }
Entry<ConcatBackward> concat_backward() { return {}; }
}  // namespace warploom::cpu
