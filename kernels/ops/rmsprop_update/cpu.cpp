#include "csrc/cpu/entries.h"

namespace warploom::cpu {
Entry<RmspropUpdate> rmsprop_update() { return {}; }
}  // namespace warploom::cpu
