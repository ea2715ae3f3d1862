// entries.h - inside this version: every file of the folder defines the entries of its operations; table.cu collects them.
#pragma once

#include "../ops.h"

namespace warploom::copyme {
Entry<Add> add();
}  // namespace warploom::copyme
