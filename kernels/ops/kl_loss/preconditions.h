// What the KL divergence asks of its shape: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include <string>

#include "kernels/ops.h"

namespace warploom {

inline std::string kl_loss_error(const KlLoss& a) {
  if (a.rows <= 0 || a.cols <= 0 || a.samples <= 0)
    return "the mean over no samples is undefined; rows, cols and samples must be positive";
  return "";
}

}  // namespace warploom
