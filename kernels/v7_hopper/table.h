// table.h - what v7 gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::v7 {
const OpTable& table();
}  // namespace warploom::v7
