// What winner-take-all asks of its shape: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include <string>

#include "../preconditions.h"

namespace warploom {

inline std::string winner_take_all_error(const WinnerTakeAllForward& a) {
  if (a.keep < 1) return "at least one winner of a channel stays; keep is " + std::to_string(a.keep);
  return map_error(a.N, a.C, a.inner);
}
inline std::string winner_take_all_gradient_error(const WinnerTakeAllBackward& a) { return map_error(a.N, a.C, a.inner); }

}  // namespace warploom
