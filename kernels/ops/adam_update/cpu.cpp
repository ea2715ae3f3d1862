#include "csrc/cpu/entries.h"

namespace warploom::cpu {
Entry<AdamUpdate> adam_update() { return {}; }
}  // namespace warploom::cpu
