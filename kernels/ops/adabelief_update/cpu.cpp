#include "csrc/cpu/entries.h"

namespace warploom::cpu {
Entry<AdabeliefUpdate> adabelief_update() { return {}; }
}  // namespace warploom::cpu
