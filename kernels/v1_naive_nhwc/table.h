// table.h - what v1 gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::v1 {
const OpTable& table();
}  // namespace warploom::v1
