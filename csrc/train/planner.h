// planner.h - graph + version + batch size + losses -> plan.
#pragma once

#include <memory>
#include <tuple>
#include <vector>

#include "csrc/graph/plan.h"
#include "csrc/train/loss.h"

namespace warploom {

struct PlanRequest {
  int batch = 1;
  bool training = false;            // keep what backward needs, add losses and the backward pass
  bool losses = false;              // compute the losses (always so in training)
  bool targets_are_inputs = false;  // reconstruct: target k is input k
  bool eval_mode = false;  // training with the running statistics of normalisations and nothing dropped, as in evaluation
  Precision precision = Precision::fp32;
  uint64_t seed = 0;             // of what a training step draws (dropout)
  std::vector<int> values;       // what to return; empty: the graph's outputs
  int place = -1;                // see Plan
  bool gradients_early = false;  // each is final as soon as it can be: others are told of it while the rest is computed
  auto key() const {
    return std::tie(batch, training, losses, targets_are_inputs, eval_mode, precision, seed, values, place, gradients_early);
  }
  bool operator<(const PlanRequest& o) const { return key() < o.key(); }
};

// Throws GraphError or UnsupportedError naming the layer.
std::unique_ptr<Plan> make_plan(const Graph& graph, const OpTable& table, const std::vector<LossSpec>& losses,
                                const PlanRequest& request);

}  // namespace warploom
