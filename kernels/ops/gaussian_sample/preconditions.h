// What gaussian_sample asks of its shape: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include "../preconditions.h"

namespace warploom {

template <class Args>
std::string gaussian_sample_error(const Args& a) {
  return map_error(a.N, 2 * a.C, a.inner);
}

}  // namespace warploom
