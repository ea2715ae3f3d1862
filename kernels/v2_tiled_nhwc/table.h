// table.h - what v2 gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::v2 {
const OpTable& table();
}  // namespace warploom::v2
