// table.h - what this version gives to others: its table of operations.
#pragma once

#include "../ops.h"

namespace warploom::copyme {
const OpTable& table();
}  // namespace warploom::copyme
