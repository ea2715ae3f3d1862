// What group normalisation asks of its shape: "" or one sentence, for the kernels and for the host kernel set.
#pragma once

#include <string>

#include "../preconditions.h"

namespace warploom {

template <class Args>
std::string group_norm_error(const Args& a) {
  if (a.groups < 1 || a.C < 1 || a.C % a.groups)
    return "groups (" + std::to_string(a.groups) + ") must divide the " + std::to_string(a.C) + " channels";
  return map_error(a.N, a.C, a.inner);
}

}  // namespace warploom
