// partials.h - inside v2: the second pass of the split reductions.
#pragma once

#include "../ops.h"

namespace warploom::v2 {

// out[i] = partials[0][i] + partials[1][i] + ... in that order; partials is [splits, count].
void reduce_partials(const Context& context, const float* partials, int splits, int64_t count, float* out);

constexpr int64_t kPartialsLimit = int64_t(16) << 20;  // bytes of workspace a split reduction may ask for

}  // namespace warploom::v2
