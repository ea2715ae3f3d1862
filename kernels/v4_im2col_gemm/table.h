// table.h - what v4 shows of itself.
#pragma once

#include "../ops.h"

namespace warploom::v4 {
const OpTable& table();
}
