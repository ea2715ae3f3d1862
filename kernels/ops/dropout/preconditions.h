// What dropout asks of its shape: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include <string>

#include "../preconditions.h"

namespace warploom {

inline std::string dropout_error(const Dropout& a) {
  if (!(a.keep >= 0.0f && a.keep < 1.0f)) return "keep is a probability below 1; to keep everything, leave the dropout out";
  if (a.N > 0 && a.C > 0 && a.N * a.C >= int64_t(1) << 32)
    return "the batch has " + std::to_string(a.N * a.C) + " channels; the draws count fewer than 4294967296";
  return map_error(a.N, a.C, a.inner);
}

}  // namespace warploom
