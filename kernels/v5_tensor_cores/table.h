// table.h - what v5 gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::v5 {
const OpTable& table();
}  // namespace warploom::v5
