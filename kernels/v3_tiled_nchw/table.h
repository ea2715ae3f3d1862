// table.h - what v3 gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::v3 {
const OpTable& table();
}  // namespace warploom::v3
