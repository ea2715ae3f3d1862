// table.h - what v6 gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::v6 {
const OpTable& table();
}  // namespace warploom::v6
