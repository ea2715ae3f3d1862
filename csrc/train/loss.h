// loss.h - training objectives: each adds the steps that compute its value and its gradient to a plan.
#pragma once

#include <string>

#include "csrc/graph/emitter.h"

namespace warploom {

struct LossSpec {
  std::string kind = "mse";
  int output = 0;  // index into the graph's outputs
  int target = 0;  // index into the targets
  float weight = 1.0f;
};

// value: device f32[1]; total: device f64[2], see MseLoss in ops.h. Throws GraphError for an unknown kind.
void emit_loss(Emitter& emit, const LossSpec& spec, int prediction_value, Handle target, Handle value, Handle total);
void check_loss(const LossSpec& spec);

}  // namespace warploom
