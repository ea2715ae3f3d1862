// errands.h - small work that calls want done before them, in fewer launches: weights are prepared for several calls by one step.
#pragma once

#include "csrc/graph/plan.h"

namespace warploom {

// Where two or more calls of the forward pass, or of backward, prepare their weights, a step before the first of them does it for all,
// at most kMostErrands. Results keep their bits. WARPLOOM_ERRANDS=0 leaves every call its own: for comparisons.
void share_errands(Plan& plan, const OpTable& table);

}  // namespace warploom
