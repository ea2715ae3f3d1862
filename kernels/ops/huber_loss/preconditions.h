// What Huber's loss asks of its numbers: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include <string>

#include "kernels/ops.h"

namespace warploom {

inline std::string huber_loss_error(const HuberLoss& a) {
  if (a.count <= 0) return "the mean over no elements is undefined; count must be positive";
  return a.delta > 0.0f ? "" : "delta must be positive";
}

}  // namespace warploom
